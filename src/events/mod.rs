//! Events over Socket.IO: rooms without a document, and the vocabularies of the applications that speak in them.
//!
//! ```text
//!  connections::socket_io ──► Profiles: who speaks this event? ──► pagespace · patio · indexer · components
//!                                                                        │ enter, leave, tell
//!        socket's queue ◄── EventRooms ◄─────────────────────────────────┘
//!                               ▲
//!                          http: broadcast, kick
//! ```
//!
//! A [room](Rooms) has a name out of [one grammar](crate::rooms::RoomName), members, and nothing in the store. Its members are let in by
//! the same sources of access as those of pages, asked under the room's own name, and are sent away by the same changes.
//! A *profile* is the vocabulary of one application; all that are configured are spoken at once, since their events have different names.

mod broadcast;
mod call;
mod desk;
mod hall;
mod outbox;
mod pagespace;
mod patio;
mod profiles;
mod rooms;
mod socket;
mod ticker;
mod versions;

pub use broadcast::{Broadcast, BroadcastError, BroadcastIds, is_reserved};
pub use call::{Answer, Call, MAX_DEPTH, is_shallow, not_found};
pub use desk::{ContentConfig, Desks, PreparedSave};
pub use hall::{EventRooms, event_text};
pub use outbox::EventOutbox;
pub use patio::{Patio, PatioConfig};
pub use profiles::{BroadcastWork, Profile, Profiles, UnknownProfile};
pub use rooms::{EventOutlet, RoomError, RoomLimits, Rooms, SocketId, Way};
pub use socket::{EventConfig, EventServices, EventSocket};
pub use ticker::{Alarm, Timed, run_clock};
pub use versions::{Bases, VersionLimits, Versions};
