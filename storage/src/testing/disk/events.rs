//! Events on a disk that fails on demand.

use std::time::SystemTime;

use async_trait::async_trait;

use super::FaultyStore;
use crate::{EventBatch, EventId, EventStore, KeptQuery, ReadEvent, StoreError, testing::Operation};

#[async_trait]
impl EventStore for FaultyStore {
    async fn event_epoch(&self) -> Result<String, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.event_epoch().await
    }

    async fn last_event(&self) -> Result<u64, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.last_event().await
    }

    async fn keep_events(&self, batch: &EventBatch) -> Result<(), StoreError> {
        let lost = self.admit(Operation::Write).await?;
        let answer = self.durable.keep_events(batch).await;
        lost.map_or(answer, |fault| Err(fault.error()))
    }

    async fn kept_events(&self, query: &KeptQuery) -> Result<Vec<ReadEvent>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.kept_events(query).await
    }

    async fn event_id(&self, id: &str) -> Result<Option<EventId>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.event_id(id).await
    }

    async fn event_state(&self, room: &str) -> Result<Option<String>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.event_state(room).await
    }

    async fn forget_events(&self, now: SystemTime) -> Result<u64, StoreError> {
        let lost = self.admit(Operation::Write).await?;
        let answer = self.durable.forget_events(now).await;
        lost.map_or(answer, |fault| Err(fault.error()))
    }
}
