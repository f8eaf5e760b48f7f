//! The ids of pages in memory.

use async_trait::async_trait;

use super::{MemoryStore, Tables};
use crate::{PageId, RenameStore, Renaming, StoreError, renaming::MAX_FORMER_IDS};

impl Tables {
    /// See [`RenameStore::rename`].
    pub fn rename(&mut self, from: &PageId, to: &PageId) -> bool {
        let stored = self.pages.get(from);
        let is_there = stored.is_some_and(|stored| stored.record.deleted_at.is_none());
        let leads_back = self.aliases.get(to) == Some(from);
        let is_free = !self.pages.contains_key(to) && (leads_back || !self.aliases.contains_key(to));
        let former = self.former_ids(from).len() - usize::from(leads_back);
        if !is_there || !is_free || former >= MAX_FORMER_IDS {
            return false;
        }
        let Some(mut stored) = self.pages.remove(from) else {
            return false;
        };
        stored.record.page = to.clone();
        self.pages.insert(to.clone(), stored);
        self.aliases.remove(to);
        for page in self.aliases.values_mut().filter(|page| *page == from) {
            *page = to.clone();
        }
        self.aliases.insert(from.clone(), to.clone());
        if let Some(keep) = self.policies.0.remove(from) {
            self.policies.0.entry(to.clone()).or_insert(keep);
        }
        true
    }

    /// See [`RenameStore::renamed`].
    pub fn renamed(&self, former: &PageId) -> Option<PageId> {
        self.aliases.get(former).cloned()
    }

    /// See [`RenameStore::former_ids`].
    pub fn former_ids(&self, page: &PageId) -> Vec<PageId> {
        let leading = self.aliases.iter().filter(|(_, to)| *to == page);
        leading.map(|(former, _)| former.clone()).collect()
    }

    /// See [`RenameStore::free_former_id`].
    pub fn free_former_id(&mut self, page: &PageId, former: &PageId) -> bool {
        self.aliases.get(former) == Some(page) && self.aliases.remove(former).is_some()
    }
}

#[async_trait]
impl RenameStore for MemoryStore {
    async fn rename(&self, renaming: &Renaming) -> Result<bool, StoreError> {
        let Renaming { from, to, rooms } = renaming;
        let mut tables = self.tables();
        let renamed = !renaming.is_of_pattern() && tables.rename(from, to);
        if renamed {
            self.webhook_tables().rename(from, to);
            self.access().rename_page(from.as_str(), to.as_str());
            for (from, to) in rooms {
                self.events().rename(from, to);
            }
        }
        Ok(renamed)
    }

    async fn renamed(&self, former: &PageId) -> Result<Option<PageId>, StoreError> {
        Ok(self.tables().renamed(former))
    }

    async fn former_ids(&self, page: &PageId) -> Result<Vec<PageId>, StoreError> {
        Ok(self.tables().former_ids(page))
    }

    async fn free_former_id(&self, page: &PageId, former: &PageId) -> Result<bool, StoreError> {
        Ok(self.tables().free_former_id(page, former))
    }
}
