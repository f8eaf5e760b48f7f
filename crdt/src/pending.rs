//! Updates that came before what they build on, by what they wait for.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::ClientId;
use crate::document::Missing;
use crate::id_set::{ClockRange, IdRange, IdSet};
use crate::state_vector::StateVector;
use crate::update::{Keep, Update, merge, trimmed};

/// There is no room for another update. It was not kept; its sender still has it and must send it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("too many updates wait for changes that have not arrived")]
pub struct PendingFull;

/// What is noted about an update, counted beside its bytes.
const OVERHEAD: usize = 160;
/// What is noted about each range that it deletes.
const OVERHEAD_PER_DELETE: usize = 16;

/// Early updates, each with the structs of one client or with deletes.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    waiting: BTreeMap<Missing, Vec<Update>>,
    /// What is in them: who has been told of it brings it again, put together in another way.
    structs: IdSet,
    deletes: IdSet,
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

    /// What does not wait yet of an early update, which has the structs of one client or deletes: without what comes before that.
    pub(crate) fn new_part(&self, (update, missing): (Update, Missing)) -> Option<(Update, Missing)> {
        let mut deletes = Vec::new();
        update.each_delete(|IdRange { client, range }| {
            let found = |range| deletes.push(IdRange { client, range });
            self.deletes.missing_from(client, range, found);
        });
        if let Some(IdRange { client, range }) = deletes.first() {
            let clock = range.start + 1;
            let missing = Missing {
                client: *client,
                clock,
            };
            return Some((trimmed(&update, &[], Some(&deletes)), missing));
        }
        let section = update.sections().first()?;
        let mut from = None;
        for run in update.runs() {
            let range = ClockRange {
                start: run.start,
                end: run.end,
            };
            self.structs.missing_from(run.client, range, |part| {
                from.get_or_insert(part.start);
            });
        }
        let from = from?;
        if from == section.start {
            return Some((update, missing));
        }
        let keep = Keep {
            section: *section,
            from,
        };
        let missing = Missing {
            client: section.client,
            clock: from,
        };
        Some((trimmed(&update, &[keep], Some(&[])), missing))
    }

    /// Keeps an update until `missing` is there.
    pub(crate) fn keep(&mut self, update: Update, missing: Missing) {
        self.bytes = self.bytes.saturating_add(size(&update));
        for run in update.runs() {
            let range = ClockRange {
                start: run.start,
                end: run.end,
            };
            self.structs.insert(run.client, range);
        }
        update.each_delete(|IdRange { client, range }| self.deletes.insert(client, range));
        self.waiting.entry(missing).or_default().push(update.unpinned());
    }

    /// Takes out what waited for something of `clients` that is known now. Takes time in proportion to what is taken out, and to the
    /// number of clients times the logarithm of what waits.
    pub(crate) fn take_ready(
        &mut self,
        known: &StateVector,
        clients: impl Iterator<Item = ClientId>,
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
        for update in &ready {
            self.bytes = self.bytes.saturating_sub(size(update));
            for run in update.runs() {
                let range = ClockRange {
                    start: run.start,
                    end: run.end,
                };
                self.structs.remove(run.client, range);
            }
            update.each_delete(|IdRange { client, range }| self.deletes.remove(client, range));
        }
        ready
    }

    /// Whether these ticks of a client wait.
    pub(crate) fn has_structs(&self, client: ClientId, range: ClockRange) -> bool {
        self.structs.contains_all(client, range)
    }

    /// Whether the deletion of these ticks waits.
    pub(crate) fn has_deletes(&self, client: ClientId, range: ClockRange) -> bool {
        self.deletes.contains_all(client, range)
    }

    /// The clients that wrote what waits, or whose structs it deletes.
    pub(crate) fn clients(&self) -> impl Iterator<Item = ClientId> {
        self.structs.clients().chain(self.deletes.clients())
    }

    /// Everything that waits as one update.
    pub(crate) fn merged(&self) -> Update {
        merge(self.waiting.values().flatten())
    }
}

/// How many bytes an early update is counted as.
pub(crate) fn size(update: &Update) -> usize {
    let deletes = update.delete_range_count().saturating_sub(1);
    update.len() + OVERHEAD + deletes * OVERHEAD_PER_DELETE
}
