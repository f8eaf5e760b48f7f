//! The Hocuspocus dialect, providers 2 to 4: many pages on one socket, each message addressed to one of them.
//!
//! A frame is one message: `address` (a string), a type, a body. An address is a page id, or a page id, NUL and the id of a session, so
//! that one socket can have several seats at a page; what is sent to a session carries its whole address.
//!
//! Received: `00 00 sv` step 1 · `00 01 update` step 2 · `00 02 update` edit (also as type `04`) · `01 awareness` · `02 00 token
//! [version]` · `03` query · `05 text` for the others · `07` leave. Sent: the same of `00`, `01`, `03` and `05`, and `02 00` "send me a fresh
//! token" · `02 01 reason` denied · `02 02 scope` let in · `07 reason` sent away · `08 01` the oldest step 2 or edit without an answer is
//! durable · `08 00` it was refused. Two messages belong to the socket and have no address: the lone bytes `09` ping and `0a` pong,
//! which providers understand that say their version with their token.

use bytes::{Bytes, BytesMut};
use crdt::{
    DecodeError, awareness,
    encoding::{Reader, Write, buffer_length},
};

use crate::rooms::{ClientMessage, ServerMessage};

const SYNC: u8 = 0;
const AWARENESS: u8 = 1;
const AUTH: u8 = 2;
const QUERY_AWARENESS: u8 = 3;
const SYNC_REPLY: u8 = 4;
const STATELESS: u8 = 5;
const CLOSE: u8 = 7;
const SYNC_STATUS: u8 = 8;

const STEP_1: u8 = 0;
const STEP_2: u8 = 1;
const UPDATE: u8 = 2;

const TOKEN: u8 = 0;
const DENIED: u8 = 1;
const LET_IN: u8 = 2;

/// The frame to ask a provider whether it is there, if it has told its version.
pub const PING: &[u8] = &[9];
/// The answer to it.
pub const PONG: &[u8] = &[10];

/// Where a shared message keeps its wire form for plain addresses.
pub const SLOT: usize = 3;

/// What separates a page id from the id of a session.
const SEPARATOR: char = '\0';

/// What a frame says.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// "Are you there?"
    Ping,
    /// "I am here."
    Pong,
    /// Something for one page.
    Addressed {
        /// The page, and the session if there is one.
        address: &'a str,
        /// What is said.
        request: Request,
    },
}

/// What a client says to a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Something for its room.
    ToRoom(ClientMessage),
    /// "This is who I am."
    Token(Token),
    /// "I leave this page."
    Leave,
    /// Something that only servers act on.
    Nothing,
}

impl Request {
    /// Whether it is one of those that are answered by a [`sync_status`].
    pub fn wants_status(&self) -> bool {
        matches!(
            self,
            Self::ToRoom(ClientMessage::SyncStep2(_) | ClientMessage::Update(_))
        )
    }

    /// Bytes of payload, for budgets.
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::ToRoom(message) => message.payload_bytes(),
            Self::Token(token) => token.text.len(),
            Self::Leave | Self::Nothing => 0,
        }
    }
}

/// A token as it was given; its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The token; empty for none.
    pub text: String,
    /// Whether the provider said its version: from 4 on they do, and understand more.
    pub has_version: bool,
}

impl Token {
    /// No token.
    pub fn none() -> Self {
        Self {
            text: String::new(),
            has_version: false,
        }
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[token]")
    }
}

/// The page id in an address.
pub fn page_of(address: &str) -> &str {
    address
        .split_once(SEPARATOR)
        .map_or(address, |(page, _session)| page)
}

/// The address in the beginning of a frame.
pub fn address_of(beginning: &Bytes) -> Option<&str> {
    Reader::new(beginning).string().ok()
}

/// Reads a frame. Payloads are slices of it.
///
/// # Errors
/// When it is not exactly one message that a client may send.
pub fn decode(frame: &Bytes) -> Result<Incoming<'_>, DecodeError> {
    match &frame[..] {
        PING => return Ok(Incoming::Ping),
        PONG => return Ok(Incoming::Pong),
        _ => {}
    }
    let mut reader = Reader::new(frame);
    let address = reader.string()?;
    let request = read_request(frame, &mut reader)?;
    if !reader.is_at_end() {
        return Err(DecodeError::TrailingBytes {
            position: reader.position(),
        });
    }
    Ok(Incoming::Addressed { address, request })
}

fn read_request(frame: &Bytes, reader: &mut Reader<'_>) -> Result<Request, DecodeError> {
    let position = reader.position();
    let message = match reader.byte()? {
        SYNC | SYNC_REPLY => read_sync(frame, reader)?,
        AWARENESS => ClientMessage::Awareness(payload(frame, reader)?),
        AUTH => return read_token(reader),
        QUERY_AWARENESS => ClientMessage::QueryAwareness,
        STATELESS => {
            let length = reader.string()?.len();
            ClientMessage::Stateless(frame.slice(reader.position() - length..reader.position()))
        }
        CLOSE => return Ok(Request::Leave),
        SYNC_STATUS => {
            reader.number()?;
            return Ok(Request::Nothing);
        }
        // What only servers say to each other (6) among them.
        tag => {
            return Err(DecodeError::UnknownTag {
                what: "message",
                tag,
                position,
            });
        }
    };
    Ok(Request::ToRoom(message))
}

fn read_sync(frame: &Bytes, reader: &mut Reader<'_>) -> Result<ClientMessage, DecodeError> {
    let position = reader.position();
    let step = reader.byte()?;
    let body = payload(frame, reader)?;
    match step {
        STEP_1 => Ok(ClientMessage::SyncStep1(body)),
        STEP_2 => Ok(ClientMessage::SyncStep2(body)),
        UPDATE => Ok(ClientMessage::Update(body)),
        tag => Err(DecodeError::UnknownTag {
            what: "sync message",
            tag,
            position,
        }),
    }
}

fn read_token(reader: &mut Reader<'_>) -> Result<Request, DecodeError> {
    let position = reader.position();
    match reader.byte()? {
        TOKEN => {}
        tag => {
            return Err(DecodeError::UnknownTag {
                what: "auth message",
                tag,
                position,
            });
        }
    }
    let text = reader.string()?.to_owned();
    let has_version = !reader.is_at_end();
    if has_version {
        reader.string()?;
    }
    Ok(Request::Token(Token { text, has_version }))
}

fn payload(frame: &Bytes, reader: &mut Reader<'_>) -> Result<Bytes, DecodeError> {
    let length = reader.buffer()?.len();
    Ok(frame.slice(reader.position() - length..reader.position()))
}

/// Writes a message of a room; empty for one that this dialect says otherwise.
pub fn encode(address: &str, message: &ServerMessage) -> Bytes {
    match message {
        ServerMessage::SyncStep1(state_vector) => framed(address, &[SYNC, STEP_1], Some(state_vector)),
        ServerMessage::SyncStep2(update) => framed(address, &[SYNC, STEP_2], Some(update)),
        ServerMessage::Delta(update) => framed(address, &[SYNC, UPDATE], Some(update)),
        ServerMessage::Awareness(changes) => {
            framed(address, &[AWARENESS], Some(&awareness::encode_changes(changes)))
        }
        ServerMessage::QueryAwareness => framed(address, &[QUERY_AWARENESS], None),
        ServerMessage::Stateless(text) => framed(address, &[STATELESS], Some(text)),
        // The first three are told by status messages, and for the others there are no words.
        ServerMessage::Stored(_)
        | ServerMessage::Receipts { .. }
        | ServerMessage::Refused(_)
        | ServerMessage::Mark(_) => Bytes::new(),
    }
}

/// "Send me a fresh token."
pub fn token_request(address: &str) -> Bytes {
    framed(address, &[AUTH, TOKEN], None)
}

/// "You are not let in."
pub fn permission_denied(address: &str, reason: &str) -> Bytes {
    framed(address, &[AUTH, DENIED], Some(reason.as_bytes()))
}

/// "You are let in."
pub fn authenticated(address: &str, may_edit: bool) -> Bytes {
    let scope = if may_edit { "read-write" } else { "readonly" };
    framed(address, &[AUTH, LET_IN], Some(scope.as_bytes()))
}

/// "This page is closed to you now."
pub fn closed(address: &str, reason: &str) -> Bytes {
    framed(address, &[CLOSE], Some(reason.as_bytes()))
}

/// "The oldest of your step 2s and edits that I have not answered is durable", or was refused.
pub fn sync_status(address: &str, accepted: bool) -> Bytes {
    framed(address, &[SYNC_STATUS, u8::from(accepted)], None)
}

/// A message that changes nothing.
pub fn keep_alive(address: &str) -> Bytes {
    framed(address, &[AWARENESS], Some(&[0]))
}

/// The bytes that each message for `address` begins with.
pub fn prefix(address: &str) -> Bytes {
    framed(address, &[], None)
}

fn framed(address: &str, head: &[u8], payload: Option<&[u8]>) -> Bytes {
    let body = payload.map_or(0, |payload| buffer_length(payload.len()));
    let mut frame = BytesMut::with_capacity(buffer_length(address.len()) + head.len() + body);
    frame.put_string(address);
    frame.put_raw(head);
    if let Some(payload) = payload {
        frame.put_buffer(payload);
    }
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Bytes {
        let digits: Vec<u8> = hex.bytes().filter(|byte| *byte != b' ').collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16);
        digits.chunks(2).map(|pair| byte(pair).expect("hex")).collect()
    }

    /// Frames of real providers for the page `d`.
    #[test]
    fn what_providers_send_is_read() {
        use ClientMessage::{Awareness, QueryAwareness, Stateless, SyncStep1, SyncStep2, Update};
        let token = |text: &str, has_version| {
            Request::Token(Token {
                text: text.to_owned(),
                has_version,
            })
        };
        for (hex, expected) in [
            ("01 64 02 00 03 74 6f 6b 05 34 2e 38 2e 30", token("tok", true)),
            ("01 64 02 00 03 74 6f 6b", token("tok", false)),
            ("01 64 02 00 00", token("", false)),
            ("01 64 00 00 01 00", Request::ToRoom(SyncStep1(bytes("00")))),
            ("01 64 00 01 02 00 00", Request::ToRoom(SyncStep2(bytes("0000")))),
            ("01 64 04 01 02 00 00", Request::ToRoom(SyncStep2(bytes("0000")))),
            ("01 64 00 02 02 00 00", Request::ToRoom(Update(bytes("0000")))),
            (
                "01 64 01 0b 01 01 01 07 7b2275223a317d",
                Request::ToRoom(Awareness(bytes("01 01 01 07 7b2275223a317d"))),
            ),
            ("01 64 03", Request::ToRoom(QueryAwareness)),
            ("01 64 05 02 68 69", Request::ToRoom(Stateless(bytes("6869")))),
            ("01 64 07", Request::Leave),
            ("01 64 08 01", Request::Nothing),
        ] {
            let frame = bytes(hex);
            assert_eq!(
                decode(&frame),
                Ok(Incoming::Addressed {
                    address: "d",
                    request: expected
                }),
                "{hex}"
            );
        }
        assert_eq!(decode(&bytes("09")), Ok(Incoming::Ping));
        assert_eq!(decode(&bytes("0a")), Ok(Incoming::Pong));
    }

    #[test]
    fn a_session_is_part_of_the_address_and_not_of_the_page() {
        let frame = bytes("05 64 00 61 62 63 03");
        let Ok(Incoming::Addressed { address, .. }) = decode(&frame) else {
            panic!("a frame");
        };
        assert_eq!((address, page_of(address)), ("d\0abc", "d"));
        assert_eq!(page_of("d"), "d");
        assert_eq!(page_of("d\0a\0b"), "d", "the first separator counts");
    }

    #[test]
    fn what_is_not_one_message_is_refused() {
        for (hex, why) in [
            ("", "nothing"),
            ("01 64", "no type"),
            ("02 64", "a cut address"),
            ("01 ff 03", "no UTF-8"),
            ("01 64 00 03 00", "an unknown step"),
            ("01 64 00 02 05 00", "a cut update"),
            ("01 64 02 01 00", "a refusal by a client"),
            ("01 64 05 02 ff ff", "text that is no UTF-8"),
            ("01 64 06 02 68 69", "what only servers say"),
            ("01 64 0b", "an unknown type"),
            ("01 64 03 03", "a second message"),
            ("ff ff ff ff ff ff ff ff 7f", "a huge address"),
        ] {
            assert!(decode(&bytes(hex)).is_err(), "{why}");
        }
    }

    #[test]
    fn what_is_sent_is_what_providers_expect() {
        let update = bytes("00 00");
        for (frame, hex) in [
            (
                authenticated("d", true),
                "01 64 02 02 0a 72 65 61 64 2d 77 72 69 74 65",
            ),
            (
                authenticated("d", false),
                "01 64 02 02 08 72 65 61 64 6f 6e 6c 79",
            ),
            (
                permission_denied("d", "permission-denied"),
                "01 64 02 01 11 70 65 72 6d 69 73 73 69 6f 6e 2d 64 65 6e 69 65 64",
            ),
            (token_request("d"), "01 64 02 00"),
            (closed("d", "no"), "01 64 07 02 6e 6f"),
            (sync_status("d", true), "01 64 08 01"),
            (sync_status("d", false), "01 64 08 00"),
            (keep_alive("d"), "01 64 01 01 00"),
            (
                encode("d", &ServerMessage::SyncStep1(bytes("00"))),
                "01 64 00 00 01 00",
            ),
            (
                encode("d", &ServerMessage::SyncStep2(update.clone())),
                "01 64 00 01 02 00 00",
            ),
            (encode("d", &ServerMessage::Delta(update)), "01 64 00 02 02 00 00"),
            (
                encode("d\0s", &ServerMessage::Stateless(bytes("6869"))),
                "03 64 00 73 05 02 68 69",
            ),
            (encode("d", &ServerMessage::QueryAwareness), "01 64 03"),
            (prefix("d\0s"), "03 64 00 73"),
        ] {
            assert_eq!(frame, bytes(hex), "{hex}");
        }
    }

    #[test]
    fn a_token_does_not_show_itself() {
        let shown = format!("{:?}", decode(&bytes("01 64 02 00 03 74 6f 6b")));
        assert!(!shown.contains("tok\"") && shown.contains("[token]"), "{shown}");
    }
}
