//! Documents that are rebuilt on the disk that fails on demand.

use async_trait::async_trait;

use super::FaultyStore;
use crate::{Generation, RebuildStore, Rebuilding, StoreError, testing::Operation};

#[async_trait]
impl RebuildStore for FaultyStore {
    async fn rebuild(&self, rebuilding: &Rebuilding) -> Result<Option<Generation>, StoreError> {
        let lost = self.admit(Operation::Write).await?;
        let answer = self.durable.rebuild(rebuilding).await;
        lost.map_or(answer, |fault| Err(fault.error()))
    }
}
