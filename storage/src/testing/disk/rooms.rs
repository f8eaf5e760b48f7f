//! Shared rooms on the disk that fails on demand.

use async_trait::async_trait;

use super::FaultyStore;
use crate::{RoomStore, SharedRoom, StoreError, testing::Operation};

#[async_trait]
impl RoomStore for FaultyStore {
    async fn shared_room(&self, room: &str) -> Result<Option<SharedRoom>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.shared_room(room).await
    }

    async fn keep_room(&self, room: &SharedRoom) -> Result<(), StoreError> {
        let lost = self.admit(Operation::Write).await?;
        let answer = self.durable.keep_room(room).await;
        lost.map_or(answer, |fault| Err(fault.error()))
    }

    async fn forget_room(&self, room: &str) -> Result<bool, StoreError> {
        let lost = self.admit(Operation::Write).await?;
        let answer = self.durable.forget_room(room).await;
        lost.map_or(answer, |fault| Err(fault.error()))
    }

    async fn remove_from_room(&self, room: &str, user: &str) -> Result<(), StoreError> {
        let lost = self.admit(Operation::Write).await?;
        let answer = self.durable.remove_from_room(room, user).await;
        lost.map_or(answer, |fault| Err(fault.error()))
    }

    async fn is_removed(&self, room: &str, user: &str) -> Result<bool, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.is_removed(room, user).await
    }
}
