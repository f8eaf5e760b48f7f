//! How long the past of pages is kept, in memory.

use std::ops::Bound;

use async_trait::async_trait;

use super::{MemoryStore, Tables};
use crate::{HistoryPolicy, HistoryPolicyStore, Keep, MAX_HISTORY_POLICIES, PageId, StoreError};

impl Tables {
    /// Whether what a snapshot of the page covers is kept.
    pub(super) fn keeps_history_of(&self, page: &PageId) -> bool {
        let policy = self.policies.nearest(page);
        policy.map_or(self.keeps_history, |(_, keep)| keep != Keep::Nothing)
    }
}

#[async_trait]
impl HistoryPolicyStore for MemoryStore {
    async fn history_policy(&self, page: &PageId) -> Result<Option<HistoryPolicy>, StoreError> {
        let tables = self.tables();
        let policy = tables.policies.nearest(page);
        Ok(policy.map(|(pages, keep)| HistoryPolicy {
            pages: pages.clone(),
            keep,
        }))
    }

    async fn history_policies(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<HistoryPolicy>, StoreError> {
        let tables = self.tables();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let policies = tables.policies.0.range::<str, _>((start, Bound::Unbounded));
        let policies = policies.map(|(pages, keep)| HistoryPolicy {
            pages: pages.clone(),
            keep: *keep,
        });
        Ok(policies.take(limit).collect())
    }

    async fn set_history_policy(&self, policy: &HistoryPolicy) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let policies = &mut tables.policies;
        let has_room = policies.0.contains_key(&policy.pages) || policies.0.len() < MAX_HISTORY_POLICIES;
        if has_room {
            policies.insert(policy.clone());
        }
        Ok(has_room)
    }

    async fn remove_history_policy(&self, pages: &PageId) -> Result<bool, StoreError> {
        Ok(self.tables().policies.0.remove(pages).is_some())
    }
}
