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
//! [`Presence`] knows who is at the pages over connections of every protocol, who types there and where the cursors are, and shows that
//! to programs with awareness, and what those show to these; [`Drives`] knows who of
//! drives and workspaces is online, idle or away. What they are made of is pure, with the time as an argument.
//! A *profile* is the vocabulary of one application; all that are configured are spoken at once, since their events have different names.
//! All events, with the schemas of their payloads and acknowledgements, are in the [document for AsyncAPI](asyncapi).

#[doc = concat!(
    "The events as an AsyncAPI document, `src/events/asyncapi.json`.\n\n```json\n",
    include_str!("asyncapi.json"),
    "```"
)]
pub mod asyncapi {}
mod awareness;
mod broadcast;
mod call;
mod components;
mod cursors;
mod desk;
mod drive_viewers;
mod drives;
mod gestures;
mod hall;
mod history;
mod inbox;
mod indexer;
mod mirror;
mod offset;
mod outbox;
mod pace;
mod page_presence;
mod pagespace;
mod patio;
mod people;
mod presence;
mod profiles;
mod recent;
mod relay;
mod rooms;
mod rules;
mod services;
mod socket;
mod states;
mod statuses;
mod ticker;
mod token_bucket;
mod typing;
mod versions;
mod viewers;
mod waiting;
mod watchers;

use broadcast::is_momentary;
pub use broadcast::{Broadcast, BroadcastBody, BroadcastError, BroadcastIds, Done, is_reserved};
pub use call::{Answer, Call, MAX_DEPTH, Verbatim, is_shallow, not_found};
pub use components::Components;
pub use cursors::{Cursors, MAX_CURSOR_BYTES, color};
pub use desk::{ApplicationContent, Authorship, ContentConfig, Desks, PreparedSave};
pub use drive_viewers::DriveViewers;
pub use drives::{Drives, IDLE_AFTER};
pub use gestures::is_coalesced;
pub use hall::{EventRooms, Told, event_text};
pub use history::{Found, GivenId, History};
pub use inbox::missed_messages;
pub use indexer::{Jobs, ProgressPace};
pub use offset::Epoch;
pub use outbox::{EventOutbox, HeldEvents};
pub use patio::{Patio, PatioConfig};
pub use people::{Changes, GRACE, Here, People, Person, Place};
pub use presence::{Presence, Shown};
pub use profiles::{BroadcastWork, Profile, Profiles, UnknownProfile};
pub use recent::{RecoveryLimits, SessionName};
pub(crate) use relay::PROFILE as RELAY;
pub use rooms::{EventOutlet, RoomError, RoomLimits, Rooms, SocketId, Way};
pub use rules::{EventRules, Keep, RelayRule};
pub use services::EventConfig;
pub use socket::{EventServices, EventSocket, LostSession};
pub use statuses::{Status, Statuses};
pub use ticker::{Alarm, Timed, run_clock};
pub use token_bucket::TokenBucket;
pub use typing::{TYPING_TIME, Typing};
pub use versions::{Bases, Carried, Older, SavedContent, VersionLimits, Versions};
pub use viewers::{Letters, Listening, Viewers};
pub use watchers::{Form, Source, Watcher, Watchers};
