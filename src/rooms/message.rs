//! The waist: what a member can say to a room and a room to a member, whatever protocol is spoken outside.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use crdt::AwarenessChange;

use super::Refusal;
use crate::telemetry::Traces;

/// What a member says to its room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage {
    /// "This is what I have (an encoded state vector); send me what I lack."
    SyncStep1(Bytes),
    /// The answer to the room's own step 1: an update with what the room lacks.
    SyncStep2(Bytes),
    /// An edit.
    Update(Bytes),
    /// Who I am and what I show: an encoded awareness update.
    Awareness(Bytes),
    /// "Tell me who is here."
    QueryAwareness,
    /// UTF-8 text for the others, which is no part of the document.
    Stateless(Bytes),
    /// "Say this back when everything that I have is stored."
    Mark(Bytes),
    /// "Tell me what you have": answered with the room's step 1.
    QueryStateVector,
}

impl ClientMessage {
    /// Bytes of payload, for budgets.
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::SyncStep1(bytes)
            | Self::SyncStep2(bytes)
            | Self::Update(bytes)
            | Self::Awareness(bytes)
            | Self::Stateless(bytes)
            | Self::Mark(bytes) => bytes.len(),
            Self::QueryAwareness | Self::QueryStateVector => 0,
        }
    }
}

/// What a room says to a member.
#[derive(Clone, Debug)]
pub enum ServerMessage {
    /// The room's state vector: "send me what I lack".
    SyncStep1(Bytes),
    /// What the member lacked. Everything in it is durable, or the store has been failing for a while.
    SyncStep2(Bytes),
    /// What others wrote, as one update; not necessarily durable yet.
    Delta(Bytes),
    /// What the member itself wrote, as one update that is durable now: the acknowledgement.
    Stored(Bytes),
    /// What changed about who is here.
    Awareness(Vec<AwarenessChange>),
    /// A change was refused; the connection goes on. For members that get no receipts.
    Refused(Refusal),
    /// The next of the member's document messages, oldest first, are durable or were refused. For members that count.
    Receipts {
        /// Durable, or refused.
        accepted: bool,
        /// How many.
        count: u32,
    },
    /// "Say again who you are", behind the presence that was sent. For members that are to be asked.
    QueryAwareness,
    /// UTF-8 text of another member or the backend, which is no part of the document.
    Stateless(Bytes),
    /// What the member said as a mark: everything that it had then is durable.
    Mark(Bytes),
}

/// What a member's protocol has words for, beside documents and presence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// It counts: each document message is answered by one receipt, and each post by itself, instead of an echo of what was stored.
    pub receipts: bool,
    /// It has messages that are no part of the document.
    pub stateless: bool,
    /// It does not say back by itself what it hears of its own presence, but when it is asked.
    pub asked: bool,
}

/// How many dialects can keep a wire form beside a message.
pub const DIALECT_SLOTS: usize = 4;

/// A message on its way out, shared by all members it goes to; its wire form is made once per dialect.
#[derive(Debug)]
pub struct Outgoing {
    message: ServerMessage,
    wire: [OnceLock<Bytes>; DIALECT_SLOTS],
    /// Of the edits in it that are sampled.
    traces: Traces,
}

impl Outgoing {
    /// Wraps a message for sending.
    pub fn new(message: ServerMessage) -> Arc<Self> {
        Self::traced(message, Traces::default())
    }

    /// The same with the spans of the edits in it that are sampled.
    pub(super) fn traced(message: ServerMessage, traces: Traces) -> Arc<Self> {
        Arc::new(Self {
            message,
            wire: Default::default(),
            traces,
        })
    }

    /// The spans of the edits in it that are sampled.
    pub fn traces(&self) -> &Traces {
        &self.traces
    }

    /// The message itself.
    pub fn message(&self) -> &ServerMessage {
        &self.message
    }

    /// The wire form in the dialect of `slot`, made by `encode` at the first call.
    pub fn wire(&self, slot: usize, encode: impl FnOnce(&ServerMessage) -> Bytes) -> Bytes {
        match self.wire.get(slot) {
            Some(cell) => cell.get_or_init(|| encode(&self.message)).clone(),
            None => encode(&self.message),
        }
    }

    /// About how many bytes of a queue it takes.
    pub fn size(&self) -> usize {
        const OVERHEAD: usize = 64;
        let payload = match &self.message {
            ServerMessage::SyncStep1(bytes)
            | ServerMessage::SyncStep2(bytes)
            | ServerMessage::Delta(bytes)
            | ServerMessage::Stored(bytes)
            | ServerMessage::Stateless(bytes)
            | ServerMessage::Mark(bytes) => bytes.len(),
            ServerMessage::Awareness(changes) => changes
                .iter()
                .map(|change| change.state.as_ref().map_or(0, |state| state.len()) + 16)
                .sum(),
            ServerMessage::Refused(refusal) => refusal.message.len(),
            ServerMessage::Receipts { .. } | ServerMessage::QueryAwareness => 0,
        };
        payload + OVERHEAD
    }
}
