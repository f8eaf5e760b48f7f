//! Socket.IO packets as frames: a text with a head and arguments, then the attachments that the text has places for.

use bytes::Bytes;
use serde::Serialize;
use serde_json::json;
use socketioxide_core::{Str, Value, packet::Packet, parser::Parse};
use socketioxide_parser_common::CommonParser;

use super::Frame;
use crate::rooms::{Refusal, ServerMessage};

/// Where all that goes over Socket.IO keeps the bytes of its attachment beside a shared message.
pub const SLOT: usize = 1;

/// Writes a packet as frames: its text, then its attachments.
pub fn encode(packet: Packet, frames: &mut Vec<Frame>) {
    if let Value::Str(text, attachments) = CommonParser.encode(packet) {
        let message = String::from(engineioxide_core::Packet::Message(text));
        frames.push(Frame::Text(message.into()));
        frames.extend(attachments.into_iter().flatten().map(Frame::Binary));
    }
}

/// The text of an event whose only argument is an attachment: the same for each such event, so it is made once.
pub fn attachment_event(namespace: &Str, event: &str, ack: Option<i64>) -> Str {
    let mut frames = Vec::new();
    // Bytes and a name can always be written.
    if let Ok(arguments) = CommonParser.encode_value(&Bytes::new(), Some(event)) {
        let mut packet = Packet::event(namespace.clone(), arguments);
        if let Some(ack) = ack {
            packet.inner.set_ack_id(ack);
        }
        encode(packet, &mut frames);
    }
    match frames.into_iter().next() {
        Some(Frame::Text(text)) => text,
        Some(Frame::SharedText(_) | Frame::Binary(_) | Frame::Parts(..)) | None => Str::default(),
    }
}

/// Writes why a client is not let in to a namespace. The parser's own packet has place for a sentence alone.
pub fn connect_error(namespace: &str, error: &impl Serialize, frames: &mut Vec<Frame>) {
    let namespace = match namespace {
        "/" => String::new(),
        named => format!("{named},"),
    };
    // Sentences and values can always be written.
    if let Ok(error) = serde_json::to_string(error) {
        frames.push(Frame::Text(format!("44{namespace}{error}").into()));
    }
}

/// Writes an event or an answer that says why something was refused.
pub fn refusal_event(namespace: &Str, refusal: &Refusal, frames: &mut Vec<Frame>) {
    if let Ok(arguments) = CommonParser.encode_value(&refusal_body(refusal), Some("error")) {
        encode(Packet::event(namespace.clone(), arguments), frames);
    }
}

/// Writes the answer that says why something was refused.
pub fn refusal_answer(namespace: &Str, ack: i64, refusal: &Refusal, frames: &mut Vec<Frame>) {
    let body = json!({ "ok": false, "error": refusal_body(refusal) });
    if let Ok(arguments) = CommonParser.encode_value(&body, None) {
        encode(Packet::ack(namespace.clone(), arguments, ack), frames);
    }
}

/// A refusal as it is told in events and answers.
pub fn refusal_body(refusal: &Refusal) -> serde_json::Value {
    json!({
        "code": refusal.code.as_str(),
        "message": refusal.message,
        "retryable": refusal.code.is_retryable(),
    })
}

/// The bytes that a message brings as an attachment: an update, a state vector, or an encoded awareness update.
pub fn attachment(message: &ServerMessage) -> Bytes {
    match message {
        ServerMessage::SyncStep1(bytes)
        | ServerMessage::SyncStep2(bytes)
        | ServerMessage::Delta(bytes)
        | ServerMessage::Stored(bytes) => bytes.clone(),
        ServerMessage::Awareness(changes) => crdt::awareness::encode_changes(changes),
        ServerMessage::Refused(_)
        | ServerMessage::Receipts { .. }
        | ServerMessage::QueryAwareness
        | ServerMessage::Stateless(_)
        | ServerMessage::Mark(_) => Bytes::new(),
    }
}

/// Bytes that make no sense, with what the parser says of them.
pub fn malformed(error: impl std::fmt::Display) -> Refusal {
    Refusal::malformed(error.to_string())
}
