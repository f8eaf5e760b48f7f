//! Engine.IO 4: sessions that begin by polling and may go on over a WebSocket, or begin there.
//!
//! [`Engine`] answers the HTTP requests, a `Link` carries the frames of one session over whichever transport it has, and a
//! `Driver` runs one session: one task, which writes as fast as the peer takes it, reads as fast as the [`Application`] takes
//! it, and pings. What is said over a session is the application's; here it is text and bytes.
//!
//! Packets and payloads are read and written by `engineioxide-core`. Its server is not used: it hands messages over without
//! a way to wait, does not say when its queue has drained, cannot hang up on a reader that has stalled, and pings too early.

mod driver;
mod http;
mod link;

use std::{
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::http::request::Parts;
use bytes::Bytes;
use engineioxide_core::Str;

pub use self::http::Engine;
use super::{SessionConfig, websocket};
pub use crate::protocols::socket_io::Frame;
use crate::rooms::{Departure, Refusal};

/// How sessions are kept.
#[derive(Clone, Copy, Debug)]
pub struct EngineConfig {
    /// Time between two pings.
    pub ping_interval: Duration,
    /// How long the answer to a ping may take.
    pub ping_timeout: Duration,
    /// How long the change from polling to a WebSocket may take.
    pub upgrade_timeout: Duration,
    /// Largest body of a POST and largest WebSocket message, in bytes; 0 for no limit. Clients are told of it.
    pub max_payload_bytes: usize,
    /// How fast a peer may write, and how long it may not read.
    pub session: SessionConfig,
}

impl EngineConfig {
    /// The limit as a number that can be compared with.
    fn max_payload(&self) -> usize {
        websocket::or_any(self.max_payload_bytes)
    }

    /// The limit for a peer of whom it is not known yet who it is.
    fn max_of_strangers(&self) -> usize {
        self.max_payload().min(websocket::MAX_STRANGER_BYTES)
    }
}

/// A message that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// Text.
    Text(Str),
    /// Bytes.
    Binary(Bytes),
}

/// What an application wants sent.
#[derive(Debug)]
pub enum Sent {
    /// The frames it has put into the queue.
    Frames,
    /// Nothing more: hang up.
    Close(Refusal),
}

/// What is spoken over one session. It is asked in turns and never waits by itself.
pub trait Application: Send + 'static {
    /// Takes in a message. A refusal ends the session.
    fn receive(&mut self, now: Instant, message: Received) -> Result<(), Refusal>;

    /// Goes on with what it has begun and does not need the peer for.
    fn poll_work(&mut self, context: &mut Context<'_>);

    /// Whether it may be given another message now. If not, [`Self::poll_work`] will wake the task.
    fn may_receive(&self) -> bool;

    /// Whether it is known who the peer is. Until then what it sends is kept small.
    fn is_known(&self) -> bool {
        true
    }

    /// Whether nobody may be read for the moment, whoever it is.
    fn is_pressed(&self) -> bool;

    /// The next frames to send, appended to `frames`.
    fn poll_send(&mut self, context: &mut Context<'_>, frames: &mut Vec<Frame>) -> Poll<Sent>;

    /// When [`Self::tick`] wants to be called.
    fn next_deadline(&self) -> Option<Instant>;

    /// The time has come. A refusal ends the session.
    fn tick(&mut self, now: Instant) -> Result<(), Refusal>;

    /// The session is about to be ended by us: the last frames to send.
    fn farewell(&mut self, refusal: &Refusal, frames: &mut Vec<Frame>);

    /// The session has ended.
    fn ended(self, departure: Departure) -> impl Future<Output = ()> + Send;
}

/// Opens sessions.
pub trait Server: Send + Sync + 'static {
    /// What is spoken over them.
    type Application: Application;

    /// Lets a client in, or says why not.
    fn open(&self, request: &Parts) -> Result<Self::Application, Refusal>;
}
