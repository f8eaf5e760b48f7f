//! What a store keeps of shared rooms: what they are, and which users were removed from them.
//!
//! A store does not know what the names of rooms mean. A user who was removed stays so until a permission on exactly this room is granted to
//! the user, by whichever process and however it is written; the store does that in the same transaction.

use std::time::SystemTime;

use async_trait::async_trait;

use crate::StoreError;

mod memory;

pub use memory::RoomTables;

/// What is kept of a shared room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedRoom {
    /// Its name among rooms.
    pub room: String,
    /// Its name for people.
    pub name: Option<String>,
    /// How many users may be in it at once.
    pub max_members: Option<u32>,
    /// When it ends; kept to the millisecond.
    pub expires_at: Option<SystemTime>,
}

/// The part of a store that knows shared rooms. See the module.
#[async_trait]
pub trait RoomStore: Send + Sync + 'static {
    /// What is kept of a room.
    async fn shared_room(&self, room: &str) -> Result<Option<SharedRoom>, StoreError>;

    /// Keeps what a room is, in the place of what it was.
    async fn keep_room(&self, room: &SharedRoom) -> Result<(), StoreError>;

    /// Forgets a room and who was removed from it. `false` when it was not kept.
    async fn forget_room(&self, room: &str) -> Result<bool, StoreError>;

    /// Notes that a user was removed from a room, whether it is kept or not.
    async fn remove_from_room(&self, room: &str, user: &str) -> Result<(), StoreError>;

    /// Whether a user was removed from a room.
    async fn is_removed(&self, room: &str, user: &str) -> Result<bool, StoreError>;
}
