//! Snapshots of pages in memory.

use super::{PageTable, Tables, history::StoredRow};
use crate::{Compaction, Generation, PageId, Seq, Snapshot, StoredSnapshot, readable};

impl Tables {
    /// See [`Store::compact`](crate::Store::compact).
    pub fn compact(
        &mut self,
        page: &PageId,
        generation: Option<&Generation>,
        snapshot: &Snapshot,
    ) -> Compaction {
        let keeps_history = self.keeps_history_of(page);
        let stored = self.pages.get_mut(page);
        match stored.filter(|stored| generation.is_none_or(|known| stored.record.generation == *known)) {
            Some(stored) => stored.compact(snapshot, keeps_history),
            None => Compaction::Passed,
        }
    }
}

impl PageTable {
    pub(super) fn covering(&self) -> Option<StoredSnapshot> {
        let snapshot = self.snapshot.as_ref()?;
        Some(StoredSnapshot {
            seq: snapshot.seq,
            state: snapshot.state.clone(),
            state_vector: snapshot.state_vector.clone(),
        })
    }

    pub(super) fn covered(&self) -> Seq {
        self.snapshot.as_ref().map_or(0, |snapshot| snapshot.seq)
    }

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
