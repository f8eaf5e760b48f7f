//! Connections: each moves frames between one socket and the room its user opened.
//!
//! [`Session`] is the pure state machine of one connection; [`websocket`] runs it and what is spoken on a WebSocket: one page, or
//! many as in [`hocuspocus`]. [`engine_io`] does the same for clients that may also poll, and [`socket_io`] puts several pages on one
//! such session.

mod admission;
mod attendance;
mod budget;
pub mod engine_io;
mod frames;
pub mod hocuspocus;
mod one_page;
mod patient;
mod session;
pub mod socket_io;
pub mod websocket;

pub use admission::{Admissions, ConnectionLimits, ConnectionPermit, HttpPermit};
pub use budget::Budget;
pub use patient::PatientStream;
pub use session::{Session, SessionConfig, Step};
