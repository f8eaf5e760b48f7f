//! The trash in memory.

use std::time::SystemTime;

use async_trait::async_trait;

use super::{MemoryStore, Tables};
use crate::{PageId, StoreError, TrashStore};

impl Tables {
    /// See [`TrashStore::trashed`].
    pub fn trashed(&self, before: SystemTime, limit: usize) -> Vec<PageId> {
        let trashed = self.pages.iter().filter_map(|(page, stored)| {
            let at = stored.record.deleted_at.filter(|at| *at < before)?;
            Some((at, page.clone()))
        });
        let mut trashed: Vec<_> = trashed.collect();
        trashed.sort();
        trashed.into_iter().map(|(_, page)| page).take(limit).collect()
    }

    /// See [`TrashStore::purge`].
    pub fn purge(&mut self, page: &PageId) -> bool {
        let stored = self.pages.get(page);
        let is_trashed = stored.is_some_and(|stored| stored.record.deleted_at.is_some());
        if is_trashed {
            self.pages.remove(page);
            self.aliases.retain(|_, to| to != page);
            if !page.is_pattern() {
                self.policies.0.remove(page);
            }
        }
        is_trashed
    }
}

#[async_trait]
impl TrashStore for MemoryStore {
    async fn trashed(&self, before: SystemTime, limit: usize) -> Result<Vec<PageId>, StoreError> {
        Ok(self.tables().trashed(before, limit))
    }

    async fn purge(&self, page: &PageId, rooms: &[String; 2]) -> Result<bool, StoreError> {
        let purged = self.tables().purge(page);
        if purged && !page.is_pattern() {
            self.access().forget_page(page.as_str());
        }
        for room in rooms.iter().filter(|_| purged) {
            self.events().forget_room(room);
        }
        Ok(purged)
    }
}
