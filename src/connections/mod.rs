//! Connections: each moves frames between one socket and the room its user opened.
//!
//! [`Session`] is the pure state machine of one connection; [`websocket`] runs it on a WebSocket.

mod admission;
mod frames;
mod session;
pub mod websocket;

pub use admission::{Admissions, ConnectionLimits, ConnectionPermit, client_address};
pub use session::{Session, SessionConfig, Step};
