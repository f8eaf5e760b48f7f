//! Rooms: where a page lives while somebody has it open.
//!
//! [`Room`] is the pure state machine of one page; [`task`] runs it; [`Registry`] makes sure that a page is open in at most
//! one room; [`StoreWriter`] gathers the edits of all rooms into one transaction; [`Compactor`] writes snapshots.

mod compactor;
mod effect;
mod input;
mod lane;
mod loading;
mod message;
mod outbox;
mod outlet;
mod refusal;
mod registry;
mod role;
mod room;
mod standing;
mod task;
mod writer;

pub use compactor::{CompactRequest, Compactor, ReadableView};
pub use effect::{Count, Effect};
pub use input::{Departure, Input, MemberId, RequestId};
pub use loading::open_document;

pub use message::{Capabilities, ClientMessage, DIALECT_SLOTS, Outgoing, ServerMessage};
pub use outbox::{Next, Outbox, Pushed};
pub use outlet::Outlet;
pub use refusal::{Refusal, RefusalCode};
pub use registry::{Permit, Registry, RegistryConfig, Seat, SeatHandle};
pub use role::{Role, Viewer};
pub use room::{Loaded, Room, RoomConfig, SnapshotPolicy};
pub(crate) use task::heavily;
pub use writer::{StoreHealth, StoreWriter, WriterConfig};
