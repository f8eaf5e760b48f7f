//! The y-socket.io dialect: one page a namespace, `/yjs|` and the page id.
//!
//! Received: `sync-step-1` with a state vector, whose answer is the update that is missing · `sync-update` with an update, answered
//! once it is stored if the client waits for an answer · `awareness-update`. Sent: the same; the answer to our own `sync-step-1` is
//! the update that we lack. Clients take the arrival of our `sync-step-1` as being in sync, so it is sent behind the answer to
//! theirs, which brings the content. Stock servers send authors their own
//! updates as well, which nobody needs. A change that was refused is told by `error`.

use std::collections::VecDeque;

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde_json::json;
use socketioxide_core::{Str, Value, packet::Packet, parser::Parse};
use socketioxide_parser_common::CommonParser;
use storage::{PageId, Seq};

use super::{
    Frame,
    socket_io::{attachment_event, encode, malformed, refusal_answer, refusal_event},
};
use crate::rooms::{ClientMessage, Refusal, RefusalCode, ServerMessage};

/// What namespaces of pages begin with.
pub const PREFIX: &str = "/yjs|";

/// The page of a namespace. It is percent-decoded exactly once, as in the URL of a y-websocket client: so the same name is the
/// same page for both, and there is a way to write a comma, at which a namespace ends.
pub fn page(namespace: &str) -> Option<Result<PageId, Refusal>> {
    let encoded = namespace.strip_prefix(PREFIX)?;
    let page = percent_decode_str(encoded)
        .decode_utf8()
        .map_err(|_| Refusal::malformed("the page id is not UTF-8"));
    Some(page.and_then(|page| PageId::new(&page).map_err(malformed)))
}

/// Questions of a client that may wait for their answers.
const MAX_ASKED: usize = 100;

/// What a client says.
#[derive(Debug)]
pub enum Said {
    /// Something to the room.
    Message(ClientMessage),
    /// An update, and the number under which the client waits to hear that it is stored.
    Post(Bytes, i64),
}

/// What is spoken in the namespace of one page by one client.
#[derive(Debug)]
pub struct YSocketIo {
    namespace: Str,
    update: Str,
    awareness: Str,
    /// Number of our next question.
    next_question: i64,
    /// Numbers of our questions without an answer.
    questions: VecDeque<i64>,
    /// Numbers under which the client waits for what it lacks.
    asked: VecDeque<i64>,
    /// What the client lacked has been sent, or it has been waited for its question long enough.
    is_greeted: bool,
    /// Our question, until then.
    held: Option<Bytes>,
}

impl YSocketIo {
    /// The dialect of a namespace.
    pub fn new(namespace: Str) -> Self {
        Self {
            update: attachment_event(&namespace, "sync-update", None),
            awareness: attachment_event(&namespace, "awareness-update", None),
            namespace,
            next_question: 0,
            questions: VecDeque::new(),
            asked: VecDeque::new(),
            is_greeted: false,
            held: None,
        }
    }

    /// Whether our question waits behind the client's.
    pub fn holds_question(&self) -> bool {
        self.held.is_some()
    }

    /// Writes our question, if it waits: the client has been answered, or does not ask.
    pub fn greet(&mut self, frames: &mut Vec<Frame>) {
        self.is_greeted = true;
        if let Some(state_vector) = self.held.take() {
            self.ask(state_vector, frames);
        }
    }

    fn ask(&mut self, state_vector: Bytes, frames: &mut Vec<Frame>) {
        let question = self.next_question;
        self.next_question += 1;
        if self.questions.len() >= MAX_ASKED {
            self.questions.pop_front();
        }
        self.questions.push_back(question);
        let text = attachment_event(&self.namespace, "sync-step-1", Some(question));
        frames.extend([Frame::Text(text), Frame::Binary(state_vector)]);
    }

    /// Reads an event. `None` for one that says nothing to us.
    pub fn decode(&mut self, mut arguments: Value, ack: Option<i64>) -> Result<Option<Said>, Refusal> {
        let kind = match CommonParser.read_event(&arguments).map_err(malformed)? {
            "sync-step-1" => ClientMessage::SyncStep1,
            "sync-update" => ClientMessage::Update,
            "awareness-update" => ClientMessage::Awareness,
            _ => return Ok(None),
        };
        let bytes: Bytes = CommonParser
            .decode_value(&mut arguments, true)
            .map_err(malformed)?;
        let message = kind(bytes);
        if let (ClientMessage::Update(update), Some(ack)) = (&message, ack) {
            return Ok(Some(Said::Post(update.clone(), ack)));
        }
        if let (ClientMessage::SyncStep1(_), Some(ack)) = (&message, ack) {
            if self.asked.len() >= MAX_ASKED {
                let refusal = "too many questions wait for an answer";
                return Err(Refusal::new(RefusalCode::RateLimited, refusal));
            }
            self.asked.push_back(ack);
        }
        Ok(Some(Said::Message(message)))
    }

    /// Writes the answer to an update that was posted under a number.
    pub fn encode_stored(&self, ack: i64, stored: &Result<Seq, Refusal>, frames: &mut Vec<Frame>) {
        let seq = match stored {
            Ok(seq) => seq,
            Err(refusal) => return refusal_answer(&self.namespace, ack, refusal, frames),
        };
        if let Ok(arguments) = CommonParser.encode_value(&json!({ "ok": true, "seq": seq }), None) {
            encode(Packet::ack(self.namespace.clone(), arguments, ack), frames);
        }
    }

    /// Reads the answer to a question of ours. `None` when there was no such question.
    pub fn decode_answer(&mut self, id: i64, mut arguments: Value) -> Result<Option<ClientMessage>, Refusal> {
        let Some(index) = self.questions.iter().position(|question| *question == id) else {
            return Ok(None);
        };
        self.questions.remove(index);
        let update: Bytes = CommonParser
            .decode_value(&mut arguments, false)
            .map_err(malformed)?;
        Ok(Some(ClientMessage::SyncStep2(update)))
    }

    /// Writes a message; `bytes` are its attachment, which all who get it share.
    pub fn encode(&mut self, message: &ServerMessage, bytes: Bytes, frames: &mut Vec<Frame>) {
        match message {
            ServerMessage::SyncStep1(_) if self.is_greeted => self.ask(bytes, frames),
            ServerMessage::SyncStep1(_) => self.held = Some(bytes),
            // A newer question's answer has all that an older one's would have brought, so the room may have left that out.
            ServerMessage::SyncStep2(_) if !self.asked.is_empty() => {
                for ack in std::mem::take(&mut self.asked) {
                    if let Ok(arguments) = CommonParser.encode_value(&bytes, None) {
                        encode(Packet::ack(self.namespace.clone(), arguments, ack), frames);
                    }
                }
                self.greet(frames);
            }
            ServerMessage::SyncStep2(_) | ServerMessage::Delta(_) => {
                frames.extend([Frame::Text(self.update.clone()), Frame::Binary(bytes)]);
            }
            ServerMessage::Awareness(_) => {
                frames.extend([Frame::Text(self.awareness.clone()), Frame::Binary(bytes)]);
            }
            // Nothing that this protocol has words for.
            ServerMessage::Stored(_)
            | ServerMessage::Receipts { .. }
            | ServerMessage::QueryAwareness
            | ServerMessage::Stateless(_)
            | ServerMessage::Mark(_) => {}
            ServerMessage::Refused(refusal) => refusal_event(&self.namespace, refusal, frames),
        }
    }
}
