//! The y-websocket dialect: one page a socket, bare y-protocols messages, one in each frame we send and any number in those we
//! receive.
//!
//! Received: `00 00 sv` step 1 · `00 01 update` step 2 · `00 02 update` edit · `01 awareness` · `03` query. Sent: the same, and
//! `02 00 reason` for a change that was refused. The author's own edit comes back to it as an update once it is durable: stock
//! servers echo as well, and clients that track what is unconfirmed take the echo as the acknowledgement.

use bytes::Bytes;
use crdt::{DecodeError, Message, awareness, message};

use super::{Dialect, Unread};
use crate::rooms::{ClientMessage, ServerMessage};

/// The y-websocket dialect.
#[derive(Debug)]
pub struct YWebsocket;

impl Dialect for YWebsocket {
    const SLOT: usize = 0;

    fn next(unread: &mut Unread) -> Option<Result<Option<ClientMessage>, DecodeError>> {
        let mut messages = Message::decode_from(&unread.frame, unread.position);
        let message = messages.next();
        let position = messages.position();
        let Some(message) = message else {
            unread.finish();
            return None;
        };
        unread.position = position;
        Some(message.map(|message| match message {
            Message::SyncStep1(state_vector) => Some(ClientMessage::SyncStep1(state_vector)),
            Message::SyncStep2(update) => Some(ClientMessage::SyncStep2(update)),
            Message::Update(update) => Some(ClientMessage::Update(update)),
            Message::Awareness(update) => Some(ClientMessage::Awareness(update)),
            Message::QueryAwareness => Some(ClientMessage::QueryAwareness),
            // Clients have nothing to permit, and newer ones may say what we do not know.
            Message::PermissionDenied(_) | Message::Unknown { .. } => None,
        }))
    }

    fn encode(message: &ServerMessage) -> Bytes {
        match message {
            ServerMessage::SyncStep1(state_vector) => message::sync_step_1(state_vector),
            ServerMessage::SyncStep2(update) => message::sync_step_2(update),
            ServerMessage::Delta(update) | ServerMessage::Stored(update) => message::update(update),
            ServerMessage::Awareness(changes) => message::awareness(&awareness::encode_changes(changes)),
            ServerMessage::Refused(refusal) => message::permission_denied(&refusal.to_string()),
            // Nothing that this protocol has words for.
            ServerMessage::Receipts { .. }
            | ServerMessage::QueryAwareness
            | ServerMessage::Stateless(_)
            | ServerMessage::Mark(_) => Bytes::new(),
        }
    }

    fn keep_alive() -> Bytes {
        message::empty_awareness()
    }
}
