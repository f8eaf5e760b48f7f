//! What the store in memory knows of shared rooms, as plain tables.

use std::collections::{BTreeMap, BTreeSet};

use super::SharedRoom;

/// The rules of [`RoomStore`](super::RoomStore) on plain data.
#[derive(Clone, Debug, Default)]
pub struct RoomTables {
    rooms: BTreeMap<String, SharedRoom>,
    removed: BTreeSet<(String, String)>,
}

impl RoomTables {
    /// See [`RoomStore::shared_room`](super::RoomStore::shared_room).
    pub fn room(&self, room: &str) -> Option<SharedRoom> {
        self.rooms.get(room).cloned()
    }

    /// See [`RoomStore::keep_room`](super::RoomStore::keep_room).
    pub fn keep(&mut self, room: &SharedRoom) {
        self.rooms.insert(room.room.clone(), room.clone());
    }

    /// See [`RoomStore::forget_room`](super::RoomStore::forget_room).
    pub fn forget(&mut self, room: &str) -> bool {
        self.removed.retain(|(from, _)| from != room);
        self.rooms.remove(room).is_some()
    }

    /// See [`RoomStore::remove_from_room`](super::RoomStore::remove_from_room).
    pub fn remove(&mut self, room: &str, user: &str) {
        self.removed.insert((room.to_owned(), user.to_owned()));
    }

    /// A permission on exactly this room has been granted to a user.
    pub fn readmit(&mut self, room: &str, user: &str) {
        self.removed.remove(&(room.to_owned(), user.to_owned()));
    }

    /// See [`RoomStore::is_removed`](super::RoomStore::is_removed).
    pub fn is_removed(&self, room: &str, user: &str) -> bool {
        self.removed.contains(&(room.to_owned(), user.to_owned()))
    }
}
