//! Engine.IO 4: sessions that begin by polling and may go on over a WebSocket, or begin there.
//!
//! [`Engine`] answers the HTTP requests, and a `Transport` is the link of one session, over whichever transport it has. What is spoken over
//! a session is the protocol that a [`Server`] opens; here it is text and bytes.
//!
//! Packets and payloads are read and written by `engineioxide-core`. Its server is not used: it hands messages over without
//! a way to wait, does not say when its queue has drained, cannot hang up on a reader that has stalled, and pings too early.

mod config;
mod http;
mod transport;

pub use self::{
    config::EngineConfig,
    http::{Engine, Server},
};
