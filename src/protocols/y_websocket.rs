//! The y-websocket dialect: one page a socket, bare y-protocols messages, one in each frame we send and any number in those we
//! receive.
//!
//! Received: `00 00 sv` step 1 · `00 01 update` step 2 · `00 02 update` edit · `01 awareness` · `03` query. Sent: the same, and
//! `02 00 reason` for a change that was refused. The author's own edit comes back to it as an update once it is durable: stock
//! servers echo as well, and clients that track what is unconfirmed take the echo as the acknowledgement.

use bytes::Bytes;
use crdt::{DecodeError, Message, awareness, message};

use super::Dialect;
use crate::rooms::{ClientMessage, ServerMessage};

/// The y-websocket dialect.
#[derive(Debug)]
pub struct YWebsocket;

impl Dialect for YWebsocket {
    const SLOT: usize = 0;

    fn decode(frame: &Bytes, messages: &mut Vec<ClientMessage>) -> Result<(), DecodeError> {
        for message in Message::decode(frame) {
            messages.push(match message? {
                Message::SyncStep1(state_vector) => ClientMessage::SyncStep1(state_vector),
                Message::SyncStep2(update) => ClientMessage::SyncStep2(update),
                Message::Update(update) => ClientMessage::Update(update),
                Message::Awareness(update) => ClientMessage::Awareness(update),
                Message::QueryAwareness => ClientMessage::QueryAwareness,
                // Clients have nothing to permit, and newer ones may say what we do not know.
                Message::PermissionDenied(_) | Message::Unknown { .. } => continue,
            });
        }
        Ok(())
    }

    fn encode(message: &ServerMessage) -> Bytes {
        match message {
            ServerMessage::SyncStep1(state_vector) => message::sync_step_1(state_vector),
            ServerMessage::SyncStep2(update) => message::sync_step_2(update),
            ServerMessage::Delta(update) | ServerMessage::Stored(update) | ServerMessage::Brought(update) => {
                message::update(update)
            }
            ServerMessage::Awareness(changes) => message::awareness(&awareness::encode_changes(changes)),
            ServerMessage::Refused(refusal) => message::permission_denied(&refusal.to_string()),
            // It is not told: the protocol has no words for it.
            ServerMessage::Mark(_) | ServerMessage::Viewers(_) => Bytes::new(),
        }
    }

    fn keep_alive() -> Bytes {
        message::empty_awareness()
    }
}
