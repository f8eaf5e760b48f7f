//! Connections: each moves frames between one peer and the rooms its user opened.
//!
//! A connection is a link (a [`websocket`], or the requests and the WebSocket of an [`engine_io`] session), a protocol (what is spoken on
//! it: one page in [`one_page`], many as in [`hocuspocus`] and [`socket_io`]), and one driver that asks both in turns. [`Session`] is the
//! driver's clockwork, a pure state machine. A protocol reaches each of its rooms over a seat.

mod admission;
mod context;
mod driver;
pub mod engine_io;
mod frames;
pub mod handshake;
pub mod hocuspocus;
mod link;
mod listen;
pub mod one_page;
mod overlong;
mod patient;
mod protocol;
mod rotation;
mod seat_io;
mod session;
mod silent;
pub mod socket_io;
pub mod websocket;
mod wire;

pub use crate::events::TokenBucket;
pub use admission::{Admissions, Connected, ConnectionLimits, ConnectionSlot, Peer, Spoken};
pub use context::ServerContext;
pub use listen::{ListenError, listen};
pub use patient::PatientStream;
pub use protocol::{Protocol, Work};
pub use session::{Session, SessionConfig, Step};
pub use silent::{FIRST_REQUEST, Silent};
