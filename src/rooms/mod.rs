//! Rooms: where a page lives while somebody has it open.
//!
//! [`Room`] is the pure state machine of one page, and [`Host`] runs it in its [`Surroundings`]; [`Slots`] open each page in at most
//! one room, and [`Batching`] gathers the edits of all rooms into transactions. All four are pure, and the simulation runs them. Around
//! them are a task a room, the [`Registry`], the [`StoreWriter`] and, for snapshots, the [`Compactor`].

mod batching;
mod clock;
mod compactor;
mod effect;
mod first_content;
mod follower;
mod host;
mod input;
mod lane;
mod loading;
mod mailbox;
mod message;
mod name;
mod opening;
mod outbox;
mod outlet;
mod readings;
mod rebuilding;
mod refusal;
mod registry;
mod role;
mod room;
mod seat;
mod sight;
mod slots;
mod standing;
mod task;
mod writer;

pub use batching::{BatchLimits, Batching, Failure, Storing};
pub(crate) use clock::run_blocking_if;
pub use compactor::{CompactRequest, Compactor, Readable, ReadableView};
pub use effect::{Count, Effect};
pub use first_content::FirstContent;
pub use follower::Follower;
pub use host::{Host, Newcomer, Surroundings};
pub use input::{Condition, Departure, Input, MemberId, RequestId};
pub use loading::{ended_clients, load, open_document};

pub use message::{Capabilities, ClientMessage, DIALECT_SLOTS, Outgoing, ServerMessage};
pub use name::{RoomKind, RoomName, is_id, spellings};
pub use outbox::{Next, Outbox, Pushed};
pub use outlet::Outlet;
pub use rebuilding::{RebuildFailure, Rebuilt};
pub use refusal::{Notice, Refusal, RefusalCode};
pub use registry::{AttendanceListener, HeldRoom, Registry, RegistryConfig};
pub use role::Role;
pub use room::{Loaded, Room, RoomConfig, SnapshotPolicy};
pub use seat::{Permit, Seat, SeatHandle, Speech};
pub use sight::{Onlooker, SERVER, ShownStates, Sight};
pub use slots::{SlotId, Slots};
pub use standing::{Change, Standing};
pub use writer::{StoreHealth, StoreListener, StoreWriter, WriterConfig};
