//! Snapshots in memory, in place of the rows that they cover.

use super::{PageTable, Tables, history::StoredRow};
use crate::{Compaction, Generation, PageId, Snapshot, readable};

impl Tables {
    /// See [`Store::compact`](crate::Store::compact).
    pub fn compact(
        &mut self,
        page: &PageId,
        generation: Option<&Generation>,
        snapshot: &Snapshot,
    ) -> Compaction {
        let stored = self.pages.get_mut(page);
        let stored =
            stored.filter(|stored| generation.is_none_or(|known| stored.record.generation == *known));
        stored.map_or(Compaction::Passed, |stored| {
            stored.compact(snapshot, self.keeps_history)
        })
    }
}

impl PageTable {
    fn compact(&mut self, snapshot: &Snapshot, keeps_history: bool) -> Compaction {
        if snapshot.seq <= self.covered() || snapshot.seq > self.record.seq {
            return Compaction::Passed;
        }
        let is_covered = |row: &StoredRow| row.update.seq <= snapshot.seq;
        let covered = self.log.iter().take_while(|row| is_covered(row)).count();
        let covered = self.log.drain(..covered).collect();
        if keeps_history {
            let replaced = self.covering();
            self.history.archive(covered, replaced.as_ref());
        }
        self.snapshot = Some(readable::snapshot(snapshot));
        Compaction::Compacted
    }
}
