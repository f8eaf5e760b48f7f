//! What a room has admitted since its last flush: who wrote what, to leave as one delta.

use std::{collections::BTreeMap, sync::Arc};

use crdt::{ClientId, StateVector, Update};

use super::{MemberId, RequestId};

/// Who brought an update into a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Author {
    /// A member, who is told when it is stored.
    Member(MemberId),
    /// A backend, or a member who has each edit answered by itself: the request is answered when it is stored.
    Request(RequestId, Option<MemberId>),
    /// Another process, by way of the store: it is stored already.
    Foreign,
}

impl Author {
    /// The member who brought it.
    pub(super) fn member(self) -> Option<MemberId> {
        match self {
            Self::Member(member) => Some(member),
            Self::Request(_, member) => member,
            Self::Foreign => None,
        }
    }
}

/// How an update came into a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Arrival {
    /// As an edit, which its author has just made: the others are told at once.
    Edit,
    /// As what a replica has that the room lacked. Any of it may have been written by any other member, who would take hearing it
    /// for the news that it is stored: so everybody hears it, and what comes after it, when it is.
    Resync,
}

/// Everything one author brought between two flushes, merged. What it wrote after a resync may build on that, so it all counts as one.
#[derive(Clone, Debug)]
pub(super) struct Contribution {
    pub(super) author: Author,
    pub(super) arrival: Arrival,
    pub(super) user: Option<Arc<str>>,
    pub(super) update: Update,
    /// It builds on something that is not there: it is stored, and told when that has come.
    pub(super) is_parked: bool,
}

#[derive(Debug)]
struct Pile {
    arrival: Arrival,
    user: Option<Arc<str>>,
    updates: Vec<Update>,
}

/// The updates admitted since the last flush, by author.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// And whether it is parked.
    by_author: BTreeMap<(Author, bool), Pile>,
    /// Where each client's new structs begin.
    starts: BTreeMap<ClientId, u32>,
    /// The same of the batches whose deltas are on their way to the outboxes.
    taken_starts: BTreeMap<ClientId, u32>,
    /// Those deltas will have left when a batch is taken next.
    delivered: bool,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.by_author.is_empty()
    }

    pub(super) fn push(&mut self, author: Author, arrival: Arrival, user: Option<Arc<str>>, update: Update) {
        for range in update.ranges() {
            let start = self.starts.entry(range.client).or_insert(range.start);
            *start = range.start.min(*start);
        }
        self.pile(author, false, arrival, user).updates.push(update);
    }

    /// Adds an update that is to be stored and has no effect yet.
    pub(super) fn park(&mut self, author: Author, user: Option<Arc<str>>, update: Update) {
        self.pile(author, true, Arrival::Edit, user).updates.push(update);
    }

    fn pile(
        &mut self,
        author: Author,
        is_parked: bool,
        arrival: Arrival,
        user: Option<Arc<str>>,
    ) -> &mut Pile {
        let pile = self.by_author.entry((author, is_parked)).or_insert_with(|| Pile {
            arrival,
            user,
            updates: Vec::new(),
        });
        pile.arrival = pile.arrival.max(arrival);
        pile
    }

    /// Takes what was written, one contribution an author in the order of their ids, and leaves the batch empty.
    pub(super) fn take(&mut self) -> Vec<Contribution> {
        if std::mem::take(&mut self.delivered) {
            self.taken_starts.clear();
        }
        for (client, start) in std::mem::take(&mut self.starts) {
            let taken = self.taken_starts.entry(client).or_insert(start);
            *taken = start.min(*taken);
        }
        std::mem::take(&mut self.by_author)
            .into_iter()
            .map(|((author, is_parked), mut pile)| {
                let update = match pile.updates.len() {
                    1 => pile.updates.swap_remove(0),
                    _ => crdt::merge(&pile.updates),
                };
                Contribution {
                    author,
                    arrival: pile.arrival,
                    user: pile.user,
                    update,
                    is_parked,
                }
            })
            .collect()
    }

    /// What was told is handed over before anything else is taken.
    pub(super) fn delivered(&mut self) {
        self.delivered = true;
    }

    /// The state vector before the batches that are on their way, given the present one.
    pub(super) fn state_vector_before(&self, now: &StateVector) -> StateVector {
        let start = |client| {
            self.taken_starts
                .get(&client)
                .into_iter()
                .chain(self.starts.get(&client))
                .min()
        };
        lowered(now, |client| start(client).copied())
    }
}

/// A state vector in which some clients' clocks are lower.
pub(super) fn lowered(state_vector: &StateVector, clock: impl Fn(ClientId) -> Option<u32>) -> StateVector {
    let mut lower = StateVector::new();
    for (client, known) in state_vector.iter() {
        lower.advance(client, clock(client).map_or(known, |clock| clock.min(known)));
    }
    lower
}
