//! What members and backends say to each other beside the document, and what a member is told of a refused edit.

use bytes::Bytes;

use super::{Count, Effect, MemberId, Outgoing, Refusal, RefusalCode, Role, Room, ServerMessage};

impl Room {
    /// Tells a member that a change was refused, unless the outcome of its message does.
    pub(super) fn refuse_edit(
        &mut self,
        member: MemberId,
        kind: &'static str,
        refusal: Refusal,
        effects: &mut Vec<Effect>,
    ) {
        effects.push(Effect::Count(Count::Refused(kind), 1));
        let Some(seat) = self.members.get_mut(&member) else {
            return;
        };
        seat.has_refused = true;
        // That one may only read is told once.
        let is_told =
            refusal.code == RefusalCode::ReadOnly && std::mem::replace(&mut seat.told_read_only, true);
        if !is_told && seat.wants_echo() {
            seat.send(ServerMessage::Refused(refusal));
        }
    }

    /// Passes on what a member, or the backend, says beside the document.
    pub(super) fn announced(&mut self, from: Option<MemberId>, payload: Bytes, effects: &mut Vec<Effect>) {
        let may_speak = |from| {
            self.members
                .get(&from)
                .is_some_and(|seat| seat.role >= Role::Comment)
        };
        if !from.is_none_or(may_speak) {
            effects.push(Effect::Count(Count::Refused("stateless"), 1));
            return;
        }
        let message = Outgoing::new(ServerMessage::Stateless(payload));
        for to in self.stateless_hearers().filter(|to| Some(*to) != from) {
            if let Some(seat) = self.members.get(&to) {
                seat.outlet.push(&message);
            }
        }
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
