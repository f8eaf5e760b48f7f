//! The ids of pages on the disk that fails on demand.

use async_trait::async_trait;

use super::FaultyStore;
use crate::{PageId, RenameStore, Renaming, StoreError, testing::Operation};

#[async_trait]
impl RenameStore for FaultyStore {
    async fn rename(&self, renaming: &Renaming) -> Result<bool, StoreError> {
        let lost = self.admit(Operation::Write).await?;
        let answer = self.durable.rename(renaming).await;
        lost.map_or(answer, |fault| Err(fault.error()))
    }

    async fn renamed(&self, former: &PageId) -> Result<Option<PageId>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.renamed(former).await
    }

    async fn former_ids(&self, page: &PageId) -> Result<Vec<PageId>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.former_ids(page).await
    }

    async fn free_former_id(&self, page: &PageId, former: &PageId) -> Result<bool, StoreError> {
        let lost = self.admit(Operation::Write).await?;
        let answer = self.durable.free_former_id(page, former).await;
        lost.map_or(answer, |fault| Err(fault.error()))
    }
}
