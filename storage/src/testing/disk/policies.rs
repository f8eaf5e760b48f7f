//! How long the past of pages is kept on the disk that fails on demand.

use async_trait::async_trait;

use super::FaultyStore;
use crate::{HistoryPolicy, HistoryPolicyStore, PageId, StoreError, testing::Operation};

#[async_trait]
impl HistoryPolicyStore for FaultyStore {
    async fn history_policy(&self, page: &PageId) -> Result<Option<HistoryPolicy>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.history_policy(page).await
    }

    async fn history_policies(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<HistoryPolicy>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.history_policies(after, limit).await
    }

    async fn set_history_policy(&self, policy: &HistoryPolicy) -> Result<bool, StoreError> {
        let lost = self.admit(Operation::Write).await?;
        let answer = self.durable.set_history_policy(policy).await;
        lost.map_or(answer, |fault| Err(fault.error()))
    }

    async fn remove_history_policy(&self, pages: &PageId) -> Result<bool, StoreError> {
        let lost = self.admit(Operation::Write).await?;
        let answer = self.durable.remove_history_policy(pages).await;
        lost.map_or(answer, |fault| Err(fault.error()))
    }
}
