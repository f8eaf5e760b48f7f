//! Which members may have written what: hearing it, they would take it for the acknowledgement.

use std::collections::{BTreeMap, BTreeSet};

use crdt::{ClientId, ClientRange, StateVector};

use super::MemberId;

/// Most client ids noted of one member that has more than the room. Honest clients have few: their own, and those that a server forgot.
const MAX_CLIENTS: usize = 1024;

/// Who has written with which client id, and who has what the room has not.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Each client id is its user's, and the newest member's who is here.
    writers: BTreeSet<(ClientId, MemberId)>,
    /// Members whose state vectors go beyond the room's, and how far.
    beyond: BTreeMap<(ClientId, MemberId), u32>,
    /// With which client id each member wrote last what was refused.
    refused: BTreeMap<MemberId, ClientId>,
}

impl Claims {
    /// A member writes with a client id.
    pub(super) fn note_writer(&mut self, client: ClientId, member: MemberId) {
        self.writers.insert((client, member));
    }

    /// Notes what a member says that it has, in place of what it had said before.
    pub(super) fn note_state(&mut self, member: MemberId, has: &StateVector, known: &StateVector) {
        self.beyond.retain(|(_, other), _| *other != member);
        let beyond = has.iter().filter(|(client, clock)| *clock > known.get(*client));
        self.beyond.extend(
            beyond
                .take(MAX_CLIENTS)
                .map(|(client, clock)| ((client, member), clock)),
        );
    }

    /// Notes that a member has what it wrote, although that is not taken in: others may bring it.
    pub(super) fn note_refused(&mut self, member: MemberId, range: ClientRange, known: &StateVector) {
        if range.end <= known.get(range.client) {
            return;
        }
        if let Some(before) = self.refused.insert(member, range.client)
            && before != range.client
        {
            self.beyond.remove(&(before, member));
        }
        let clock = self.beyond.entry((range.client, member)).or_default();
        *clock = range.end.max(*clock);
    }

    /// The member who writes with a client id. What an older connection of the same user still brings does not make it the owner
    /// again.
    pub(super) fn writer(&self, client: ClientId) -> Option<MemberId> {
        let mut writers = self.writers.range(of_client(client));
        writers.next_back().map(|(_, member)| *member)
    }

    /// Members who have something of a range that the room lacked.
    pub(super) fn beyond(&self, range: ClientRange) -> impl Iterator<Item = MemberId> {
        self.beyond
            .range(of_client(range.client))
            .filter(move |(_, clock)| **clock > range.start)
            .map(|((_, member), _)| *member)
    }

    /// The document has come this far.
    pub(super) fn caught_up(&mut self, known: &StateVector) {
        self.beyond
            .retain(|(client, _), clock| *clock > known.get(*client));
    }

    /// A member has left.
    pub(super) fn forget(&mut self, member: MemberId) {
        self.writers.retain(|(_, other)| *other != member);
        self.beyond.retain(|(_, other), _| *other != member);
        self.refused.remove(&member);
    }
}

fn of_client(client: ClientId) -> std::ops::RangeInclusive<(ClientId, MemberId)> {
    (client, MemberId(0))..=(client, MemberId(u64::MAX))
}
