//! The trash on the disk that fails on demand.

use std::time::SystemTime;

use async_trait::async_trait;

use super::FaultyStore;
use crate::{PageId, StoreError, TrashStore, testing::Operation};

#[async_trait]
impl TrashStore for FaultyStore {
    async fn trashed(&self, before: SystemTime, limit: usize) -> Result<Vec<PageId>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.trashed(before, limit).await
    }

    async fn purge(&self, page: &PageId, rooms: &[String; 2]) -> Result<bool, StoreError> {
        let lost = self.admit(Operation::Write).await?;
        let answer = self.durable.purge(page, rooms).await;
        lost.map_or(answer, |fault| Err(fault.error()))
    }
}
