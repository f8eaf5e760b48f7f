//! Whose a client id is: what is new under it is taken from the user who writes with it, and from nobody else.

use std::sync::Arc;

use crdt::{ClientId, Update};

use super::{Effect, MemberId, Refusal, RefusalCode, Room};

/// An update with a client id that another user is writing with.
pub(super) fn forged() -> Refusal {
    Refusal::new(
        RefusalCode::Forbidden,
        "the update continues what another user is writing",
    )
}

impl Room {
    /// The clients of which an update has something new and with which another user who is here writes. From anybody else than
    /// that user it is not taken: two replicas would get different content under the same id, which no later sync can mend.
    pub(super) fn of_other_writers(
        &self,
        member: Option<MemberId>,
        user: Option<&Arc<str>>,
        update: &Update,
    ) -> Vec<ClientId> {
        let known = self.document.state_vector();
        let is_others = |range: &crdt::ClientRange| {
            // Presence does not count: who shows nothing says back what it hears of others, also of one who has just gone.
            let writer = self.writer(range.client).filter(|writer| Some(*writer) != member);
            let seat = writer.and_then(|writer| self.members.get(&writer));
            range.end > known.get(range.client) && seat.is_some_and(|seat| seat.user.as_ref() != user)
        };
        let others = update.ranges().filter(is_others);
        others.map(|range| range.client).collect()
    }

    /// What a resync has without the new edits of others who are here. Providers that also sync from peer to peer hear of edits
    /// before the server does, so this is no offence: each user brings its own, and what was forged comes from nobody.
    pub(super) fn only_its_own(
        &mut self,
        member: MemberId,
        update: &Update,
        others: &[ClientId],
        effects: &mut Vec<Effect>,
    ) -> Update {
        effects.push(Effect::Refused {
            kind: "resync_of_another",
            count: others.len(),
        });
        if let Some(seat) = self.members.get_mut(&member) {
            seat.withheld = true;
        }
        update.without(|client| others.contains(&client))
    }

    pub(super) fn note_writer(&mut self, member: MemberId, update: &Update) {
        let known = self.document.state_vector();
        for range in update
            .ranges()
            .filter(|range| range.end > known.get(range.client))
        {
            self.client_owners.insert((range.client, member));
        }
    }

    /// The member who writes with a client id: what an older connection of the same user still brings does not make it the owner
    /// again.
    pub(super) fn writer(&self, client: ClientId) -> Option<MemberId> {
        let mut owners = self
            .client_owners
            .range((client, MemberId(0))..=(client, MemberId(u64::MAX)));
        owners.next_back().map(|(_, member)| *member)
    }

    /// What a member may not write, it may not post either. Backends are trusted with everything.
    pub(super) fn check_rights(
        &mut self,
        member: Option<MemberId>,
        user: Option<&Arc<str>>,
        update: &Update,
    ) -> Result<(), Refusal> {
        match member.map(|id| self.members.get(&id).map(|seat| seat.role.may_edit())) {
            Some(None) => return Err(Refusal::new(RefusalCode::Forbidden, "you have left the page")),
            Some(Some(false)) => return Err(Refusal::read_only()),
            None | Some(Some(true)) => {}
        }
        let is_backend = member.is_none() && user.is_none();
        if !is_backend && !self.of_other_writers(member, user, update).is_empty() {
            return Err(forged());
        }
        if let Some(member) = member {
            self.note_writer(member, update);
        }
        Ok(())
    }
}
