//! Who has something already that the room has not: it may have written it, so hearing it must mean that it is stored.

use std::collections::BTreeMap;

use crdt::{ClientId, ClientRange, StateVector};

use crate::rooms::MemberId;

/// Most client ids noted of one member. Honest clients are ahead in few: their own, and those that a server forgot.
const MAX_CLIENTS: usize = 1024;

/// What members have said that they have beyond the document.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    clocks: BTreeMap<(ClientId, MemberId), u32>,
}

impl Ahead {
    /// Notes what a member has, in place of what it had said before.
    pub(super) fn note(&mut self, member: MemberId, has: &StateVector, known: &StateVector) {
        self.forget(member);
        let beyond = has.iter().filter(|(client, clock)| *clock > known.get(*client));
        self.clocks.extend(
            beyond
                .take(MAX_CLIENTS)
                .map(|(client, clock)| ((client, member), clock)),
        );
    }

    /// Those who have something of a range.
    pub(super) fn of(&self, range: ClientRange) -> impl Iterator<Item = MemberId> {
        let (client, start) = (range.client, range.start);
        self.clocks
            .range((client, MemberId(0))..=(client, MemberId(u64::MAX)))
            .filter(move |(_, clock)| **clock > start)
            .map(|((_, member), _)| *member)
    }

    /// The document has come this far.
    pub(super) fn caught_up(&mut self, known: &StateVector) {
        self.clocks
            .retain(|(client, _), clock| *clock > known.get(*client));
    }

    /// A member has left.
    pub(super) fn forget(&mut self, member: MemberId) {
        self.clocks.retain(|(_, other), _| *other != member);
    }
}
