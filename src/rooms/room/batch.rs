//! What a room has admitted since its last flush, by author.

use std::{collections::BTreeMap, sync::Arc};

use crdt::{ClientId, ClientRange, StateVector, Update};

use super::{MemberId, Traces};

/// Who brought an update into a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Author {
    /// A member.
    Member(MemberId),
    /// A backend.
    Backend,
    /// Another process, by way of the store: it is stored already.
    Remote,
}

impl Author {
    /// The member who brought it.
    pub(super) fn member(self) -> Option<MemberId> {
        match self {
            Self::Member(member) => Some(member),
            Self::Backend | Self::Remote => None,
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
pub(super) struct AuthoredUpdate {
    pub(super) author: Author,
    pub(super) arrival: Arrival,
    pub(super) user: Option<Arc<str>>,
    pub(super) update: Update,
    /// It builds on something that is not there: it is stored, and told when that has come.
    pub(super) is_parked: bool,
    /// Of those edits in it that are sampled.
    pub(super) traces: Traces,
}

/// What is merged into one update: the author, the user, and whether it is parked.
type Key = (Author, Option<Arc<str>>, bool);

impl AuthoredUpdate {
    fn key(&self) -> Key {
        (self.author, self.user.clone(), self.is_parked)
    }
}

/// Merges updates so that each author has one, in the order of the authors; the order between authors is given up.
pub(super) fn merge_by_author(authored_updates: Vec<AuthoredUpdate>) -> Vec<AuthoredUpdate> {
    let mut by_author: BTreeMap<Key, Vec<AuthoredUpdate>> = BTreeMap::new();
    for authored_update in authored_updates {
        by_author
            .entry(authored_update.key())
            .or_default()
            .push(authored_update);
    }
    let merged = |mut own: Vec<AuthoredUpdate>| match own.len() {
        1 => own.pop(),
        _ => {
            let update = crdt::merge(own.iter().map(|authored_update| &authored_update.update));
            let arrival = own.iter().map(|authored_update| authored_update.arrival).max()?;
            let traces = traces_of(&own);
            own.pop().map(|last| AuthoredUpdate {
                update,
                arrival,
                traces,
                ..last
            })
        }
    };
    by_author.into_values().filter_map(merged).collect()
}

/// The spans that go with some updates.
pub(super) fn traces_of<'a>(authored_updates: impl IntoIterator<Item = &'a AuthoredUpdate>) -> Traces {
    Traces::merged(
        authored_updates
            .into_iter()
            .map(|authored_update| &authored_update.traces),
    )
}

/// The updates admitted since the last flush.
#[derive(Debug, Default)]
pub(super) struct Batch {
    authored_updates: Vec<AuthoredUpdate>,
    is_unstored: bool,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.authored_updates.is_empty()
    }

    /// Whether there is something to be stored.
    pub(super) fn is_unstored(&self) -> bool {
        self.is_unstored
    }

    pub(super) fn push(&mut self, authored_update: AuthoredUpdate) {
        self.is_unstored |= authored_update.author != Author::Remote;
        self.authored_updates.push(authored_update);
    }

    /// Takes what was written, one authored_update an author in the order of their ids, and leaves the batch empty.
    pub(super) fn take(&mut self) -> Vec<AuthoredUpdate> {
        self.is_unstored = false;
        merge_by_author(std::mem::take(&mut self.authored_updates))
    }

    /// What was written.
    pub(super) fn authored_updates(&self) -> &[AuthoredUpdate] {
        &self.authored_updates
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

/// What two replicas both have.
pub(super) fn common(one: &StateVector, other: &StateVector) -> StateVector {
    lowered(one, |client| Some(other.get(client)))
}

/// A state vector without what authored_updates hold.
pub(super) fn without<'a>(
    state_vector: &StateVector,
    authored_updates: impl Iterator<Item = &'a AuthoredUpdate>,
) -> StateVector {
    before(
        state_vector,
        authored_updates.flat_map(|authored_update| authored_update.update.ranges()),
    )
}

/// A state vector without anything from where ranges begin.
pub(super) fn before(state_vector: &StateVector, ranges: impl Iterator<Item = ClientRange>) -> StateVector {
    let mut starts: BTreeMap<ClientId, u32> = BTreeMap::new();
    for range in ranges {
        let start = starts.entry(range.client).or_insert(range.start);
        *start = range.start.min(*start);
    }
    lowered(state_vector, |client| starts.get(&client).copied())
}

/// Several updates as one.
pub(super) fn merged<'a>(mut updates: impl Iterator<Item = &'a Update>) -> Update {
    match (updates.next(), updates.next()) {
        (Some(only), None) => only.clone(),
        (first, second) => crdt::merge(first.into_iter().chain(second).chain(updates)),
    }
}
