//! Rooms: where a page lives while somebody has it open.
//!
//! [`Room`] is the pure state machine of one page; [`task`] runs it; [`Registry`] makes sure that a page is open in at most
//! one room; [`StoreWriter`] gathers the edits of all rooms into one transaction; [`Compactor`] writes snapshots.

mod batch;
mod compactor;
mod effect;
mod input;
mod lane;
mod loading;
mod member;
mod message;
mod outbox;
mod persistence;
mod receipts;
mod refusal;
mod registry;
mod room;
mod standing;
mod task;
mod writer;

pub use compactor::{CompactRequest, Compactor, ReadableView};
pub use effect::Effect;
pub use input::{Departure, Input, MemberId, RequestId};
pub use loading::open_document;
pub use member::{Role, Viewer};
pub use message::{Capabilities, ClientMessage, DIALECT_SLOTS, Outgoing, ServerMessage};
pub use outbox::{Next, Outbox, Pushed};
pub use persistence::SnapshotPolicy;
pub use refusal::{Refusal, RefusalCode};
pub use registry::{Permit, Registry, RegistryConfig, Seat, SeatHandle};
pub use room::{Loaded, Room, RoomConfig};
pub(crate) use task::heavily;
pub use writer::{StoreHealth, StoreWriter, WriterConfig};
