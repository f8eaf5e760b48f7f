//! Awareness: who is here and where, one opaque JSON state per client id, each bound to the connection that introduced it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::error::DecodeError;
use crate::state_vector::ClientId;

/// Bounds on awareness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AwarenessLimits {
    /// Bytes of one client's state.
    pub max_state_bytes: usize,
    /// Client ids one owner may hold.
    pub max_clients_per_owner: usize,
    /// How long states of a lost owner are kept.
    pub grace: Duration,
    /// How long a state of a present owner lives without renewal.
    pub timeout: Duration,
    /// How many withdrawn client ids are remembered.
    pub max_tombstones: usize,
}

impl Default for AwarenessLimits {
    fn default() -> Self {
        Self {
            max_state_bytes: 64 << 10,
            max_clients_per_owner: 100,
            grace: Duration::from_secs(3),
            timeout: Duration::from_secs(30),
            max_tombstones: 1024,
        }
    }
}

/// One client's state, or that it has none any more, as it is sent to others. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwarenessChange {
    /// The client.
    pub client: ClientId,
    /// The clock it is sent with.
    pub clock: u32,
    /// JSON text, or `None` when withdrawn.
    pub state: Option<Arc<str>>,
}

/// What an awareness update did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AwarenessOutcome {
    /// What others have to be told.
    pub changed: Vec<AwarenessChange>,
    /// How many entries were refused because their client id belongs to somebody else.
    pub refused_foreign: usize,
    /// How many entries were refused because they, or their number, exceeded a limit.
    pub refused_too_large: usize,
}

/// All awareness states of a document. `O` says who owns a client id: a connection.
#[derive(Debug)]
pub struct Awareness<O> {
    limits: AwarenessLimits,
    owner: Option<O>,
}

impl<O: Copy + Eq + Ord> Awareness<O> {
    /// Nobody is here.
    pub fn new(limits: AwarenessLimits) -> Self {
        Self { limits, owner: None }
    }

    /// Takes an awareness update from `owner`. A client id that another present owner holds is taken over only when
    /// `may_take_over(holder, owner)`.
    ///
    /// # Errors
    /// When the bytes are not an awareness update; nothing was changed.
    pub fn apply(
        &mut self,
        now: Instant,
        owner: O,
        update: &[u8],
        may_take_over: impl Fn(O, O) -> bool,
    ) -> Result<AwarenessOutcome, DecodeError> {
        let _ = (
            now,
            owner,
            update,
            may_take_over(owner, owner),
            self.limits,
            self.owner,
        );
        todo!("awareness")
    }

    /// The owner left: its states are withdrawn at once.
    pub fn leave(&mut self, now: Instant, owner: O) -> Vec<AwarenessChange> {
        let _ = (now, owner);
        todo!("awareness")
    }

    /// The owner's connection broke: its states are kept for the grace period, and free to be claimed.
    pub fn lost(&mut self, now: Instant, owner: O) {
        let _ = (now, owner);
        todo!("awareness")
    }

    /// Withdraws what was not renewed or reclaimed in time.
    pub fn expire(&mut self, now: Instant) -> Vec<AwarenessChange> {
        let _ = now;
        todo!("awareness")
    }

    /// When [`Awareness::expire`] will next have something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        todo!("awareness")
    }

    /// The present states, in the order of client ids.
    pub fn entries(&self) -> impl Iterator<Item = (AwarenessChange, Option<O>)> + '_ {
        std::iter::empty()
    }

    /// Whether nobody has a state.
    pub fn is_empty(&self) -> bool {
        todo!("awareness")
    }

    /// All present states as one awareness update.
    pub fn encode_all(&self) -> Bytes {
        todo!("awareness")
    }
}

/// Writes changes as one awareness update.
pub fn encode_changes<'a>(changes: impl IntoIterator<Item = &'a AwarenessChange> + Clone) -> Bytes {
    let _ = changes;
    todo!("awareness")
}
