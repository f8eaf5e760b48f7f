//! What is kept of shared rooms in memory.

use async_trait::async_trait;

use super::MemoryStore;
use crate::{RoomStore, SharedRoom, StoreError};

#[async_trait]
impl RoomStore for MemoryStore {
    async fn shared_room(&self, room: &str) -> Result<Option<SharedRoom>, StoreError> {
        Ok(self.rooms().room(room))
    }

    async fn keep_room(&self, room: &SharedRoom) -> Result<(), StoreError> {
        self.rooms().keep(room);
        Ok(())
    }

    async fn forget_room(&self, room: &str) -> Result<bool, StoreError> {
        Ok(self.rooms().forget(room))
    }

    async fn remove_from_room(&self, room: &str, user: &str) -> Result<(), StoreError> {
        self.rooms().remove(room, user);
        Ok(())
    }

    async fn is_removed(&self, room: &str, user: &str) -> Result<bool, StoreError> {
        Ok(self.rooms().is_removed(room, user))
    }
}
