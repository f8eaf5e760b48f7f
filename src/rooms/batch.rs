//! What a room has admitted since its last flush: who wrote what, to leave as one delta.

use std::{collections::BTreeMap, sync::Arc};

use crdt::{ClientId, StateVector, Update};

use super::{MemberId, RequestId};

/// Who brought an update into a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Author {
    /// A member, who is told when it is stored.
    Member(MemberId),
    /// A backend, whose request is answered when it is stored.
    Request(RequestId),
    /// Another process, by way of the store: it is stored already.
    Foreign,
}

/// Everything one author wrote between two flushes, merged.
#[derive(Clone, Debug)]
pub(super) struct Contribution {
    pub(super) author: Author,
    pub(super) user: Option<Arc<str>>,
    pub(super) update: Update,
}

/// The updates admitted since the last flush, by author.
#[derive(Debug, Default)]
pub(super) struct Batch {
    by_author: BTreeMap<Author, (Option<Arc<str>>, Vec<Update>)>,
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

    pub(super) fn push(&mut self, author: Author, user: Option<Arc<str>>, update: Update) {
        for range in update.ranges() {
            let start = self.starts.entry(range.client).or_insert(range.start);
            *start = range.start.min(*start);
        }
        self.by_author
            .entry(author)
            .or_insert_with(|| (user, Vec::new()))
            .1
            .push(update);
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
            .map(|(author, (user, mut updates))| {
                let update = match updates.len() {
                    1 => updates.swap_remove(0),
                    _ => crdt::merge(&updates),
                };
                Contribution { author, user, update }
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
