//! Updates that came before what they build on, by what they wait for.

use std::collections::{BTreeMap, BTreeSet};

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
    /// Where the structs begin that wait, and for what: something else may be said of the same ticks meanwhile.
    starts: BTreeSet<(ClientId, u32, Missing)>,
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
        self.starts.extend(start_of(&update, missing));
        self.waiting.entry(missing).or_default().push(update.unpinned());
    }

    /// Takes out what waited for something of `clients` that is known now, and what waited to be told of ticks that are known now. Takes time in proportion to what is taken out, and to the
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
                for update in self.waiting.remove(&found).unwrap_or_default() {
                    if let Some(start) = start_of(&update, found) {
                        self.starts.remove(&start);
                    }
                    ready.push(update);
                }
            }
            self.take_overtaken(client, last.clock, &mut ready);
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

    /// Takes out structs that begin with ticks that are known by now.
    fn take_overtaken(&mut self, client: ClientId, known: u32, ready: &mut Vec<Update>) {
        while let Some(&start) = self.starts.range(overtaken(client, known)).next() {
            self.starts.remove(&start);
            let (_, clock, missing) = start;
            let Some(waiting) = self.waiting.get_mut(&missing) else {
                continue;
            };
            let is_it = |update: &Update| {
                start_of(update, missing).is_some_and(|found| found == (client, clock, missing))
            };
            ready.extend(waiting.extract_if(.., |update| is_it(update)));
            if waiting.is_empty() {
                self.waiting.remove(&missing);
            }
        }
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

/// Whose structs an early update has, from where on, and what they wait for.
fn start_of(update: &Update, missing: Missing) -> Option<(ClientId, u32, Missing)> {
    let section = update.sections().first()?;
    Some((section.client, section.start, missing))
}

fn overtaken(client: ClientId, known: u32) -> std::ops::Range<(ClientId, u32, Missing)> {
    let first = Missing {
        client: ClientId(0),
        clock: 0,
    };
    (client, 0, first)..(client, known, first)
}

/// How many bytes an early update is counted as.
pub(crate) fn size(update: &Update) -> usize {
    let deletes = update.delete_range_count().saturating_sub(1);
    update.len() + OVERHEAD + deletes * OVERHEAD_PER_DELETE
}
