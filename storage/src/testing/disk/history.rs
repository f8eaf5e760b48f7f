//! The past of pages on a disk that fails on demand.

use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;

use super::FaultyStore;
use crate::{
    AddedVersion, HistoryCursor, HistoryRecord, HistoryStore, NewVersion, OldHistory, PageChanges, PageId,
    Past, Seq, StoreError, Version, testing::Operation,
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

    async fn version_from_newest(&self, page: &PageId, count: u32) -> Result<Option<Seq>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.version_from_newest(page, count).await
    }

    async fn old_histories(
        &self,
        before: SystemTime,
        after: Option<&HistoryCursor>,
        limit: usize,
    ) -> Result<Vec<OldHistory>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.old_histories(before, after, limit).await
    }

    async fn last_before(&self, page: &PageId, before: SystemTime) -> Result<Option<Seq>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.last_before(page, before).await
    }

    async fn large_histories(&self, bytes: u64, limit: usize) -> Result<Vec<(PageId, Seq)>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.large_histories(bytes, limit).await
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
