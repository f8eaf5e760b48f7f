//! The past of pages on a disk that fails on demand.

use async_trait::async_trait;
use bytes::Bytes;

use super::FaultyStore;
use crate::{
    AddedVersion, HistoryLimits, HistoryRecord, HistoryStore, NewVersion, PageChanges, PageId, Past, Seq,
    StoreError, Version, testing::Operation,
};

#[async_trait]
impl HistoryStore for FaultyStore {
    async fn past(&self, page: &PageId, from: Seq, to: Seq) -> Result<Option<Past>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.past(page, from, to).await
    }

    async fn changes(
        &self,
        page: &PageId,
        after: Seq,
        limit: usize,
    ) -> Result<Option<PageChanges>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.changes(page, after, limit).await
    }

    async fn add_version(&self, page: &PageId, version: &NewVersion) -> Result<AddedVersion, StoreError> {
        let lost = self.admit(Operation::Write).await?;
        let answer = self.durable.add_version(page, version).await;
        lost.map_or(answer, |fault| Err(fault.error()))
    }

    async fn versions(
        &self,
        page: &PageId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Version>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.versions(page, before, limit).await
    }

    async fn version(&self, page: &PageId, id: u64) -> Result<Option<Version>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.version(page, id).await
    }

    async fn history(&self, page: &PageId) -> Result<HistoryRecord, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.history(page).await
    }

    async fn long_histories(
        &self,
        limits: HistoryLimits,
        limit: usize,
    ) -> Result<Vec<(PageId, Seq)>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.long_histories(limits, limit).await
    }

    async fn keep_base(&self, page: &PageId, seq: Seq, state: &Bytes) -> Result<(), StoreError> {
        let lost = self.admit(Operation::Write).await?;
        let answer = self.durable.keep_base(page, seq, state).await;
        lost.map_or(answer, |fault| Err(fault.error()))
    }

    async fn forget_history(&self, page: &PageId, upto: Seq) -> Result<u64, StoreError> {
        let lost = self.admit(Operation::Write).await?;
        let answer = self.durable.forget_history(page, upto).await;
        lost.map_or(answer, |fault| Err(fault.error()))
    }
}
