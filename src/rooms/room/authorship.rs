//! Whose a client id is: what is new under it is taken from the user who writes with it, and from nobody else.

use std::sync::Arc;

use crdt::{ClientId, Update};

use super::{Arrival, Effect, MemberId, Refusal, RefusalCode, Room};

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
            let writer = self.writer(range.client).filter(|writer| Some(*writer) != member);
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
        effects.push(Effect::Refused {
            kind: "resync_of_another",
            count: others.len(),
        });
        if let Some(seat) = self.members.get_mut(&member) {
            seat.withheld = true;
        }
        update.without(|client| others.contains(&client))
    }

    fn note_writer(&mut self, member: MemberId, update: &Update) {
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
                effects.push(Effect::Refused {
                    kind: "forged_client",
                    count: 1,
                });
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
        Ok(
            match has_resynced && written.all(|client| Some(client) == first) {
                true => Arrival::Edit,
                false => Arrival::Resync,
            },
        )
    }
}
