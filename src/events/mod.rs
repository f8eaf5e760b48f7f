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
//! [`Presence`] knows who is at the pages over connections of every protocol, who types there and where the cursors are; [`Drives`] knows who of
//! drives and workspaces is online, idle or away. What they are made of is pure, with the time as an argument.
//! A *profile* is the vocabulary of one application; all that are configured are spoken at once, since their events have different names.

mod broadcast;
mod call;
mod cursors;
mod drives;
mod gestures;
mod hall;
mod outbox;
mod pagespace;
mod people;
mod presence;
mod profiles;
mod rooms;
mod socket;
mod statuses;
mod ticker;
mod typing;
mod viewers;
mod watchers;

pub use broadcast::{Broadcast, BroadcastError, BroadcastIds, is_reserved};
pub use call::{Answer, Call, MAX_DEPTH, is_shallow, not_found};
pub use cursors::{Cursors, MAX_CURSOR_BYTES, color};
pub use drives::{Drives, IDLE_AFTER};
pub use gestures::is_coalesced;
pub use hall::{EventRooms, event_text};
pub use outbox::EventOutbox;
pub use people::{Changes, GRACE, People, Person, Place};
pub use presence::Presence;
pub use profiles::{BroadcastWork, Profile, Profiles, UnknownProfile};
pub use rooms::{EventOutlet, RoomError, RoomLimits, Rooms, SocketId, Way};
pub use socket::{EventServices, EventSocket};
pub use statuses::{Status, Statuses};
pub use ticker::{Alarm, Timed, run_clock};
pub use typing::{TYPING_TIME, Typing};
pub use viewers::{Listening, Told, Viewers};
pub use watchers::{Form, Source, Watcher, Watchers};
