//! What a room tells members that count: one receipt for each document message, in order, and what others say beside the document.

use bytes::Bytes;

use super::{Effect, MemberId, Outgoing, Refusal, RefusalCode, Role, Room, ServerMessage};
use crate::rooms::receipts::{Outcome, TooMany};

impl Room {
    /// Notes what a document message came to, if its member counts. An error ends the member.
    pub(super) fn note_receipt(&mut self, member: MemberId, outcome: Outcome) -> Result<(), Refusal> {
        let Self {
            members, persistence, ..
        } = self;
        let Some(seat) = members.get_mut(&member).filter(|seat| seat.capabilities.receipts) else {
            return Ok(());
        };
        self.unreceipted.insert(member);
        seat.receipts
            .note(outcome, |one, other| persistence.are_stored_together(one, other))
            .map_err(|TooMany| Refusal::unavailable("too much that was said waits for the store"))
    }

    /// What becomes of a message that brings nothing new: what it repeats may still be on its way to the store.
    pub(super) fn nothing_new(&self) -> Outcome {
        Outcome::Stored(self.persistence.ticket(!self.batch.is_empty()))
    }

    /// Tells a member that a change was refused, unless its receipt does.
    pub(super) fn refuse_edit(
        &mut self,
        member: MemberId,
        kind: &'static str,
        refusal: Refusal,
        effects: &mut Vec<Effect>,
    ) {
        effects.push(Effect::Refused { kind, count: 1 });
        let Some(seat) = self.members.get_mut(&member) else {
            return;
        };
        seat.has_refused = true;
        // That one may only read is told once.
        let is_told =
            refusal.code == RefusalCode::ReadOnly && std::mem::replace(&mut seat.told_read_only, true);
        if !is_told && !seat.capabilities.receipts {
            effects.push(Effect::Send {
                to: member,
                message: Outgoing::new(ServerMessage::Refused(refusal)),
            });
        }
    }

    /// Tells members what has become of their document messages, as far as that is known.
    pub(super) fn tell_receipts(&mut self, effects: &mut Vec<Effect>) {
        let Self {
            members,
            persistence,
            unreceipted,
            ..
        } = self;
        unreceipted.retain(|to| {
            let Some(seat) = members.get_mut(to) else {
                return false;
            };
            while let Some((accepted, count)) = seat.receipts.take(|ticket| persistence.is_stored(ticket)) {
                let message = Outgoing::new(ServerMessage::Receipts { accepted, count });
                effects.push(Effect::Send { to: *to, message });
            }
            !seat.receipts.is_empty()
        });
    }

    /// What was admitted and not flushed never will be.
    pub(super) fn give_up_receipts(&mut self) {
        let flushed = self.persistence.flushed_ticket();
        for seat in self.members.values_mut() {
            seat.receipts.give_up_unflushed(flushed);
        }
    }

    /// Whether a member takes what comes back of its own edits for the acknowledgement.
    pub(super) fn wants_echo(&self, member: MemberId) -> bool {
        self.members
            .get(&member)
            .is_some_and(|seat| !seat.capabilities.receipts)
    }

    /// Passes on what a member, or the backend, says beside the document.
    pub(super) fn announced(&mut self, from: Option<MemberId>, payload: Bytes, effects: &mut Vec<Effect>) {
        let may_speak = |from| {
            self.members
                .get(&from)
                .is_some_and(|seat| seat.role >= Role::Comment)
        };
        if !from.is_none_or(may_speak) {
            effects.push(Effect::Refused {
                kind: "stateless",
                count: 1,
            });
            return;
        }
        let hearers: Vec<MemberId> = self.stateless_hearers().filter(|to| Some(*to) != from).collect();
        if hearers.is_empty() {
            return;
        }
        let others = self.members.keys().copied();
        let except = others.filter(|to| hearers.binary_search(to).is_err()).collect();
        let message = Outgoing::new(ServerMessage::Stateless(payload));
        effects.push(Effect::Broadcast { except, message });
    }

    /// Members who are told what is said beside the document, in ascending order.
    pub fn stateless_hearers(&self) -> impl Iterator<Item = MemberId> {
        let hears = self
            .members
            .iter()
            .filter(|(_, seat)| seat.capabilities.stateless && seat.role >= Role::Comment);
        hears.map(|(member, _)| *member)
    }
}
