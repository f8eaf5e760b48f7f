//! How long the past of pages is kept, in memory.

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
        policy
            .map(|(pages, keep)| HistoryPolicy::stored(pages, &keep.to_string()))
            .transpose()
    }

    async fn history_policies(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<HistoryPolicy>, StoreError> {
        let tables = self.tables();
        let policies = tables.policies.iter();
        policies
            .skip_while(|(pages, _)| after.is_some_and(|after| *pages <= after))
            .take(limit)
            .map(|(pages, keep)| HistoryPolicy::stored(pages, &keep.to_string()))
            .collect()
    }

    async fn set_history_policy(&self, policy: &HistoryPolicy) -> Result<bool, StoreError> {
        let policies = &mut self.tables().policies;
        let has_room = policies.contains(&policy.pages) || policies.len() < MAX_HISTORY_POLICIES;
        if has_room {
            policies.insert(policy);
        }
        Ok(has_room)
    }

    async fn remove_history_policy(&self, pages: &PageId) -> Result<bool, StoreError> {
        Ok(self.tables().policies.remove(pages).is_some())
    }
}
