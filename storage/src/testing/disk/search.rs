//! Search on the disk that fails on demand.

use async_trait::async_trait;

use super::FaultyStore;
use crate::{Found, IdRange, PageId, Search, SearchStore, Seq, StoreError, testing::Operation};

#[async_trait]
impl SearchStore for FaultyStore {
    async fn search(
        &self,
        search: &Search,
        ranges: &[IdRange],
        skip: usize,
        limit: usize,
    ) -> Result<Vec<Found>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.search(search, ranges, skip, limit).await
    }

    async fn searched_text(&self, page: &PageId) -> Result<Option<(Seq, String)>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.searched_text(page).await
    }
}
