//! The log of a room's flushes: what the store has not confirmed, and what the members have not been sent yet.
//!
//! Flushes are counted, and become durable in commits: at most one is under way, and everything that is flushed meanwhile leaves with
//! the next. Whatever waits for durability waits for a flush, and says which by its number.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use bytes::Bytes;
use crdt::StateVector;
use storage::NewUpdate;

use super::{
    MemberId, Traces,
    batch::{Author, AuthoredUpdate, Batch, merge_by_author, traces_of, without},
};

/// The flushes of a room that have something to be stored, counted from 1.
pub(super) type FlushNumber = u64;

/// After a store has not answered for this long, joiners are served from memory.
pub(super) const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// Contributions are merged by author when more than this many wait, so that a store that is away costs no more than the page.
const MAX_UNSENT: usize = 256;

/// A commit that is under way.
#[derive(Debug)]
pub(super) struct Commit {
    since: Instant,
    /// The last flush that it stores.
    through: FlushNumber,
    pub(super) authored_updates: Vec<AuthoredUpdate>,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// The same with what is noted about them.
    held: u64,
    /// The document with exactly these rows and all before them, of which a snapshot is to be made when they are stored.
    pub(super) state: Option<State>,
}

/// An encoded document and its state vector.
#[derive(Debug)]
pub(super) struct State {
    pub(super) state: Bytes,
    pub(super) state_vector: Bytes,
}

/// A flush that the members are sent later: some of it came with a resync, so anybody may have written it, or it may build on such.
#[derive(Debug)]
pub(super) struct Deferred {
    pub(super) authored_updates: Vec<AuthoredUpdate>,
    /// Who wrote, or may have written, which of them.
    pub(super) writers: BTreeMap<MemberId, Vec<usize>>,
    /// It is sent when this flush is durable, or when the store is late.
    waits_for: FlushNumber,
    /// It is durable itself when this flush is.
    pub(super) durable_with: FlushNumber,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// What is admitted and not flushed.
    pub(super) batch: Batch,
    /// Of what is being taken in, if any of it is sampled.
    pub(super) traces: Traces,
    unsent: Vec<AuthoredUpdate>,
    in_flight: Option<Commit>,
    flushed: FlushNumber,
    stored: FlushNumber,
    /// In the order of the flushes that they wait for.
    deferred: VecDeque<Deferred>,
}

/// The bytes that an update takes.
fn held(authored_update: &AuthoredUpdate) -> u64 {
    (authored_update.update.bytes().len() + size_of::<AuthoredUpdate>()) as u64
}

impl Log {
    /// The flush with which everything is durable that is admitted now: the next one, if something waits for it, or one that may have
    /// been stored long ago.
    pub(super) fn latest(&self) -> FlushNumber {
        self.flushed + u64::from(self.batch.is_unstored())
    }

    /// The last flush that is durable.
    pub(super) fn stored(&self) -> FlushNumber {
        self.stored
    }

    /// Whether a flush is durable.
    pub(super) fn is_stored(&self, flush: FlushNumber) -> bool {
        self.stored >= flush
    }

    /// The flushes that no commit has taken: all of them leave with the next.
    pub(super) fn unsent(&self) -> RangeInclusive<FlushNumber> {
        let through = self
            .in_flight
            .as_ref()
            .map_or(self.stored, |commit| commit.through);
        through + 1..=self.flushed
    }

    /// Whether the store has kept us waiting for too long to make joiners wait as well.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.late_at().is_some_and(|at| now >= at)
    }

    /// When the store will be late.
    pub(super) fn late_at(&self) -> Option<Instant> {
        Some(self.in_flight.as_ref()?.since + STORE_PATIENCE)
    }

    /// Takes what was admitted. What another process stored is not stored again.
    pub(super) fn flush(&mut self) -> Vec<AuthoredUpdate> {
        self.flushed = self.latest();
        let flushed = self.batch.take();
        let unstored = flushed
            .iter()
            .filter(|authored_update| authored_update.author != Author::Remote);
        self.unsent.extend(unstored.cloned());
        if self.unsent.len() > MAX_UNSENT {
            self.unsent = merge_by_author(std::mem::take(&mut self.unsent));
        }
        flushed
    }

    /// Whether a commit can begin.
    pub(super) fn can_commit(&self) -> bool {
        self.in_flight.is_none() && !self.unsent.is_empty()
    }

    /// Whether a commit is under way.
    pub(super) fn is_committing(&self) -> bool {
        self.in_flight.is_some()
    }

    /// The spans that go with the commit that is under way.
    pub(super) fn committing(&self) -> Traces {
        traces_of(self.in_flight.iter().flat_map(|commit| &commit.authored_updates))
    }

    /// Whether everything that was flushed is stored.
    pub(super) fn is_written(&self) -> bool {
        self.in_flight.is_none() && self.unsent.is_empty()
    }

    /// Begins a commit with everything that waits, and gives its rows. With `state`, the document as it is with all that waits, a
    /// snapshot is written when that is stored.
    pub(super) fn begin(&mut self, now: Instant, state: Option<State>) -> Vec<NewUpdate> {
        debug_assert!(self.in_flight.is_none(), "one commit at a time");
        let authored_updates = std::mem::take(&mut self.unsent);
        let rows = rows(&authored_updates);
        self.in_flight = Some(Commit {
            since: now,
            through: self.flushed,
            rows: rows.len() as u64,
            bytes: rows.iter().map(|row| row.data.len() as u64).sum(),
            held: authored_updates.iter().map(held).sum(),
            state,
            authored_updates,
        });
        rows
    }

    /// The commit that was under way has ended.
    pub(super) fn committed(&mut self) -> Option<Commit> {
        let commit = self.in_flight.take()?;
        self.stored = commit.through;
        Some(commit)
    }

    /// Bytes that the store has not confirmed, with what is noted about them.
    pub(super) fn unstored_bytes(&self) -> u64 {
        let in_flight = self.in_flight.as_ref().map_or(0, |commit| commit.held);
        self.unsent.iter().map(held).sum::<u64>() + in_flight
    }

    /// Keeps a flush from the members until flush `waits_for` is durable. That is no earlier than what others wait for.
    pub(super) fn defer(
        &mut self,
        waits_for: FlushNumber,
        authored_updates: Vec<AuthoredUpdate>,
        writers: BTreeMap<MemberId, Vec<usize>>,
    ) {
        let durable_with = self.latest();
        self.deferred.push_back(Deferred {
            authored_updates,
            writers,
            waits_for,
            durable_with,
        });
    }

    /// What the last deferred flush waits for, if there is any.
    pub(super) fn deferred_until(&self) -> Option<FlushNumber> {
        self.deferred.back().map(|deferred| deferred.waits_for)
    }

    /// Whether a flush is kept from the members.
    pub(super) fn has_deferred(&self) -> bool {
        !self.deferred.is_empty()
    }

    /// The next flush that is deferred no longer.
    pub(super) fn next_deferred(&mut self, now: Instant) -> Option<Deferred> {
        let is_late = self.is_late(now);
        let stored = self.stored;
        self.deferred
            .pop_front_if(|deferred| is_late || deferred.waits_for <= stored)
    }

    /// A member gets an answer with all there is, so what is deferred is no news for it: it may have written it.
    pub(super) fn answered(&mut self, member: MemberId) {
        for deferred in &mut self.deferred {
            deferred
                .writers
                .insert(member, (0..deferred.authored_updates.len()).collect());
        }
    }

    /// What of `known` the members have been sent.
    pub(super) fn sent(&self, known: &StateVector) -> StateVector {
        let deferred = self
            .deferred
            .iter()
            .flat_map(|deferred| &deferred.authored_updates);
        without(known, deferred.chain(self.batch.authored_updates()))
    }
}

/// The rows for some authored_updates: one for each run of the same user.
fn rows(authored_updates: &[AuthoredUpdate]) -> Vec<NewUpdate> {
    let row = |run: &[AuthoredUpdate]| {
        let user = run.first()?.user.clone();
        let data = match run {
            [only] => only.update.bytes().clone(),
            _ => {
                let updates = run.iter().map(|authored_update| &authored_update.update);
                crdt::merge(updates).bytes().clone()
            }
        };
        Some(NewUpdate { data, user })
    };
    authored_updates
        .chunk_by(|one, other| one.user == other.user)
        .filter_map(row)
        .collect::<Vec<_>>()
}
