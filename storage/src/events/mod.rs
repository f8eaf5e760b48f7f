//! What a store keeps of rooms without a document: events that are kept, ids of events, and last states.
//!
//! An event has an **offset**, which the server gives it and which grows with time; a store keeps it and sorts by it. The **epoch** names
//! the database: offsets of another epoch say nothing. Names of rooms and events have no control characters, and a store does not
//! know what they mean.

use std::time::SystemTime;

use async_trait::async_trait;

use crate::StoreError;

mod memory;

pub use memory::EventTables;

/// An event that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptEvent {
    /// The room that it was told in.
    pub room: String,
    /// Its place among all events; above zero.
    pub offset: u64,
    /// Its name.
    pub event: String,
    /// JSON, byte for byte as it was told.
    pub payload: String,
    /// When it was told; kept to the millisecond.
    pub at: SystemTime,
    /// When it is forgotten; kept to the millisecond.
    pub until: SystemTime,
    /// Of the events of its name in its room, the newest so many are kept.
    pub count: u64,
}

/// What a backend called an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventId {
    /// The id.
    pub id: String,
    /// Stands for the event that it was used for.
    pub digest: [u8; 32],
    /// How many sockets were told.
    pub delivered: u64,
    /// When it is forgotten; kept to the millisecond.
    pub until: SystemTime,
}

/// What is stored at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventBatch {
    /// Events. One that is stored already is passed over.
    pub events: Vec<KeptEvent>,
    /// Ids. One that is there already is replaced.
    pub ids: Vec<EventId>,
    /// Rooms with their last states, which are JSON and replace those before them.
    pub states: Vec<(String, String)>,
}

/// Which kept events are wanted.
#[derive(Clone, Debug)]
pub struct KeptQuery {
    /// Of these rooms.
    pub rooms: Vec<String>,
    /// Behind this offset.
    pub after: u64,
    /// Up to this offset.
    pub up_to: u64,
    /// At most so many.
    pub limit: usize,
    /// Until their payloads have so many bytes together; the last one may go beyond.
    pub max_bytes: usize,
}

/// A kept event as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadEvent {
    /// The room that it was told in.
    pub room: String,
    /// Its place among all events.
    pub offset: u64,
    /// Its name.
    pub event: String,
    /// JSON, byte for byte as it was told.
    pub payload: String,
    /// When it was told.
    pub at: SystemTime,
}

/// The part of a store that keeps events. See the module.
#[async_trait]
pub trait EventStore: Send + Sync + 'static {
    /// The name of the database. It never changes.
    async fn event_epoch(&self) -> Result<String, StoreError>;

    /// The largest offset of a kept event; 0 when there is none.
    async fn last_event(&self) -> Result<u64, StoreError>;

    /// Stores a batch in one transaction. Storing it again changes nothing. Of each event's name in its room the newest
    /// [`KeptEvent::count`] are kept; of what is beyond that, at most [`MAX_FORGOTTEN_AT_ONCE`](crate::MAX_FORGOTTEN_AT_ONCE) are deleted with it.
    async fn keep_events(&self, batch: &EventBatch) -> Result<(), StoreError>;

    /// Reads kept events in the order of their offsets.
    async fn kept_events(&self, query: &KeptQuery) -> Result<Vec<ReadEvent>, StoreError>;

    /// What an id was used for, also when its time is over: the caller has the clock.
    async fn event_id(&self, id: &str) -> Result<Option<EventId>, StoreError>;

    /// The last state of a room.
    async fn event_state(&self, room: &str) -> Result<Option<String>, StoreError>;

    /// Forgets events and ids whose time is over, of each at most [`MAX_FORGOTTEN_AT_ONCE`](crate::MAX_FORGOTTEN_AT_ONCE), and returns how many
    /// that were.
    async fn forget_events(&self, now: SystemTime) -> Result<u64, StoreError>;
}
