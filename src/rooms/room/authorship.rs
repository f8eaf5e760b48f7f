//! Whose a client id is: what is new under it is taken from the user who writes with it, and from nobody else.

use std::sync::Arc;

use crdt::{ClientId, Update};

use super::{Count, Effect, MemberId, Refusal, RefusalCode, Room, batch::Arrival};

/// An update with a client id that another user is writing with.
fn forged() -> Refusal {
    Refusal::new(
        RefusalCode::Forbidden,
        "the update continues what another user is writing",
    )
}

impl Room {
    /// The clients of which an update has something new and with which another user who is here writes. From anybody else than
    /// that user it is not taken: two replicas would get different content under the same id, which no later sync can mend.
    fn of_other_writers(
        &self,
        member: Option<MemberId>,
        user: Option<&Arc<str>>,
        update: &Update,
    ) -> Vec<ClientId> {
        let known = self.document.state_vector();
        let is_others = |range: &crdt::ClientRange| {
            // Presence does not count: who shows nothing says back what it hears of others, also of one who has just gone.
            let writer = self
                .claims
                .writer(range.client)
                .filter(|writer| Some(*writer) != member);
            let seat = writer.and_then(|writer| self.members.get(&writer));
            range.end > known.get(range.client) && seat.is_some_and(|seat| seat.user.as_ref() != user)
        };
        let others = update.ranges().filter(is_others);
        others.map(|range| range.client).collect()
    }

    /// What a resync has without the new edits of others who are here. Providers that also sync from peer to peer hear of edits
    /// before the server does, so this is no offence: each user brings its own, and what was forged comes from nobody.
    fn only_its_own(
        &mut self,
        member: MemberId,
        update: &Update,
        others: &[ClientId],
        effects: &mut Vec<Effect>,
    ) -> Update {
        let refused = Count::Refused("resync_of_another");
        effects.push(Effect::Count(refused, others.len()));
        self.early.leave_out(member);
        update.without(|client| others.contains(&client))
    }

    fn note_writer(&mut self, member: MemberId, update: &Update) {
        let known = self.document.state_vector();
        for range in update
            .ranges()
            .filter(|range| range.end > known.get(range.client))
        {
            self.claims.note_writer(range.client, member);
        }
    }

    /// A member has what it wrote, although it was refused. Whoever writes has one client id.
    pub(super) fn note_refused(&mut self, member: MemberId, update: &Update) {
        if let Some(range) = update.ranges().next() {
            self.claims
                .note_refused(member, range, self.document.state_vector());
        }
    }

    /// The member who writes with a client id, as far as is known.
    pub(super) fn owner(&self, client: ClientId) -> Option<MemberId> {
        let member = self
            .claims
            .writer(client)
            .or_else(|| self.presence.awareness.owner(client));
        member.filter(|member| self.members.contains_key(member))
    }

    /// What is to be taken of an update with regard to who writes with which client id. Backends are trusted with everything.
    pub(super) fn of_right_authors(
        &mut self,
        (member, arrival): (Option<MemberId>, Arrival),
        user: Option<&Arc<str>>,
        update: Update,
        effects: &mut Vec<Effect>,
    ) -> Result<Update, Refusal> {
        let is_backend = member.is_none() && user.is_none();
        let others = match is_backend {
            true => Vec::new(),
            false => self.of_other_writers(member, user, &update),
        };
        match (member, arrival) {
            (Some(member), Arrival::Resync) if !others.is_empty() => {
                Ok(self.only_its_own(member, &update, &others, effects))
            }
            _ if !others.is_empty() => {
                effects.push(Effect::Count(Count::Refused("forged_client"), 1));
                Err(forged())
            }
            (Some(member), Arrival::Edit) => {
                self.note_writer(member, &update);
                Ok(update)
            }
            _ => Ok(update),
        }
    }

    /// How an update that a member posts comes: as what it has that the room lacks, if the member has yet to say that, or if several
    /// people wrote it. Whoever brings what others wrote is not the one who writes it.
    pub(super) fn arrival_of_post(&mut self, member: MemberId, update: &Update) -> Result<Arrival, Refusal> {
        let Some(seat) = self.members.get_mut(&member) else {
            return Err(Refusal::new(RefusalCode::Forbidden, "you have left the page"));
        };
        if !seat.role.may_edit() {
            return Err(Refusal::read_only());
        }
        let has_resynced = std::mem::replace(&mut seat.has_resynced, true);
        let known = self.document.state_vector();
        let mut written = update
            .ranges()
            .filter(|range| range.end > known.get(range.client))
            .map(|range| range.client);
        let first = written.next();
        let is_of_one = written.all(|client| Some(client) == first);
        let is_its_own =
            |client| self.claims.writer(client) == Some(member) || !self.shows_another(member, client);
        Ok(match has_resynced && is_of_one && first.is_none_or(is_its_own) {
            true => Arrival::Edit,
            false => Arrival::Resync,
        })
    }

    /// Whether a member shows that it has other client ids than this one.
    fn shows_another(&self, member: MemberId, client: ClientId) -> bool {
        let entries = self.presence.awareness.entries();
        let mut shown = entries.filter(|(_, owner)| *owner == Some(member));
        let first = shown.next();
        first.is_some_and(|(change, _)| change.client != client)
            && shown.all(|(change, _)| change.client != client)
    }
}
