//! The wire dialects: frames of a client into messages of a member and back, and nothing else.
//!
//! A dialect knows of rooms only the messages ([`ClientMessage`], [`ServerMessage`]), and rooms know of dialects nothing. To
//! add one: implement [`Dialect`], raise [`DIALECT_SLOTS`](crate::rooms::DIALECT_SLOTS), and mount it in `connections`.

pub mod codes;
pub mod events;
mod frame;
pub mod hocuspocus;
pub mod socket_io;
pub mod y_socketio;
pub mod y_sweet;
pub mod y_websocket;

pub use frame::Frame;
use std::time::Duration;

use bytes::Bytes;
use crdt::DecodeError;

use crate::rooms::{ClientMessage, ServerMessage};

/// A frame, and how far it has been read.
#[derive(Clone, Debug, Default)]
pub struct Unread {
    frame: Bytes,
    position: usize,
}

impl Unread {
    /// A frame of which nothing has been read.
    pub fn new(frame: Bytes) -> Self {
        Self { frame, position: 0 }
    }

    /// Nothing more is to be read.
    fn finish(&mut self) {
        *self = Self::default();
    }

    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.position >= self.frame.len()
    }
}

/// One wire protocol as we speak it, with one page a connection.
pub trait Dialect {
    /// Where the dialect keeps its wire form beside a shared message: unique, below
    /// [`DIALECT_SLOTS`](crate::rooms::DIALECT_SLOTS).
    const SLOT: usize;

    /// Reads the next message of a frame: `None` at its end, and nothing from one that says nothing to a room. Behind an error there is
    /// no next one.
    fn next(unread: &mut Unread) -> Option<Result<Option<ClientMessage>, DecodeError>>;

    /// Reads all messages of a frame and appends them to `messages`, for whoever knows that they are few.
    fn decode(frame: &Bytes, messages: &mut Vec<ClientMessage>) -> Result<(), DecodeError> {
        let mut unread = Unread::new(frame.clone());
        while let Some(message) = Self::next(&mut unread) {
            messages.extend(message?);
        }
        Ok(())
    }

    /// Writes a message as one frame.
    fn encode(message: &ServerMessage) -> Bytes;

    /// A frame that changes nothing, for clients that hang up on a silent server.
    fn keep_alive() -> Bytes;

    /// The longest silence that clients bear, where it is shorter than what is configured.
    fn max_silence() -> Option<Duration> {
        None
    }
}
