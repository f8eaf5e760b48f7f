//! Updates that came before what they build on, by what they wait for.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::document::Missing;
use crate::state_vector::StateVector;
use crate::update::{Update, merge};

/// There is no room for another update. It was not kept; its sender still has it and must send it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("too many updates wait for changes that have not arrived")]
pub struct PendingFull;

/// What is noted about an update, counted beside its bytes.
const OVERHEAD: usize = 160;

/// Early updates.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    waiting: BTreeMap<Missing, Vec<Update>>,
    bytes: usize,
}

impl Pending {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many bytes wait, with what is noted about each update.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps an update until `missing` is there.
    /// Says whether it was not there yet.
    pub(crate) fn keep(&mut self, update: Update, missing: Missing) -> bool {
        let waiting = self.waiting.entry(missing).or_default();
        let is_new = !waiting.contains(&update);
        if is_new {
            self.bytes = self.bytes.saturating_add(update.len() + OVERHEAD);
            waiting.push(update.unpinned());
        }
        is_new
    }

    /// Takes out what waited for something of `clients` that is known now. Takes time in proportion to what is taken out, and to the
    /// number of clients times the logarithm of what waits.
    pub(crate) fn take_ready(
        &mut self,
        known: &StateVector,
        clients: impl Iterator<Item = crate::ClientId>,
    ) -> Vec<Update> {
        let mut ready = Vec::new();
        if self.is_empty() {
            return ready;
        }
        for client in clients {
            let first = Missing { client, clock: 0 };
            let last = Missing {
                client,
                clock: known.get(client),
            };
            while let Some((&found, _)) = self.waiting.range(first..=last).next() {
                ready.extend(self.waiting.remove(&found).unwrap_or_default());
            }
        }
        self.bytes -= ready.iter().map(|update| update.len() + OVERHEAD).sum::<usize>();
        ready
    }

    /// Everything that waits as one update.
    pub(crate) fn merged(&self) -> Update {
        merge(self.waiting.values().flatten())
    }
}
