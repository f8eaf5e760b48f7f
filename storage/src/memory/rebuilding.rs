//! Documents that are rebuilt, in memory.

use async_trait::async_trait;

use super::{MemoryStore, Tables};
use crate::{Generation, RebuildStore, Rebuilding, StoreError};

impl Tables {
    /// See [`RebuildStore::rebuild`].
    pub fn rebuild(&mut self, rebuilding: &Rebuilding) -> Option<Generation> {
        let generation = self.new_generation();
        let keeps_history = self.keeps_history_of(&rebuilding.page);
        let stored = self.pages.get_mut(&rebuilding.page)?;
        let record = &mut stored.record;
        let is_as_known = record.generation == rebuilding.generation
            && record.seq == rebuilding.seq
            && record.deleted_at.is_none();
        let snapshot = stored
            .snapshot
            .as_mut()
            .filter(|snapshot| snapshot.seq == record.seq)?;
        if !is_as_known {
            return None;
        }
        if keeps_history {
            stored.history.keep_base(snapshot.seq, &snapshot.state);
        }
        record.generation = generation.clone();
        record.seq += 1;
        record.size_bytes = rebuilding.state.len() as u64;
        snapshot.seq = record.seq;
        snapshot.state = rebuilding.state.clone();
        snapshot.state_vector = rebuilding.state_vector.clone();
        stored.ended_clients = Some(rebuilding.ended_clients.clone());
        Some(generation)
    }
}

#[async_trait]
impl RebuildStore for MemoryStore {
    async fn rebuild(&self, rebuilding: &Rebuilding) -> Result<Option<Generation>, StoreError> {
        let mut tables = self.tables();
        let generation = tables.rebuild(rebuilding);
        if let Some(generation) = &generation {
            self.webhook_tables()
                .rebuilt(&rebuilding.page, &rebuilding.generation, generation);
        }
        Ok(generation)
    }
}
