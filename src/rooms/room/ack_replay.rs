//! What has been written lately: clients whose connection broke may not know whether it was stored, so it is told again.

use std::time::{Duration, Instant};

use crdt::{ClientId, StateVector};

use super::batch::lowered;

/// What was written within this time (and up to as much again) counts as lately.
const REPLAYED_FOR: Duration = Duration::from_secs(60);

/// Two earlier state vectors, which take turns.
#[derive(Debug)]
pub(super) struct AckReplay {
    older: StateVector,
    newer: StateVector,
    turned: Instant,
}

impl AckReplay {
    /// `before` is a state of the page that is surely known to whoever has seen it.
    pub(super) fn new(now: Instant, before: StateVector) -> Self {
        Self {
            older: before.clone(),
            newer: before,
            turned: now,
        }
    }

    /// Something was written.
    pub(super) fn edited(&mut self, now: Instant, state_vector: &StateVector) {
        if now >= self.turned + REPLAYED_FOR {
            self.older = std::mem::replace(&mut self.newer, state_vector.clone());
            self.turned = now;
        }
    }

    /// What somebody who has `has` knew before all that was written lately; `None` when that is the same.
    pub(super) fn before(&self, has: &StateVector) -> Option<StateVector> {
        let before = lowered(has, |client: ClientId| Some(self.older.get(client)));
        (&before != has).then_some(before)
    }
}
