//! y-protocols messages: what a frame of the y-websocket family carries, decoded without copying, and frames to send.
//!
//! A message is a type number and a body. Sync messages have a second number. Clients may pack several messages into
//! one frame; most of them read only one, so the encoders here make one message each.

use bytes::{Bytes, BytesMut};

use crate::encoding::{ReadError, Reader, Write, buffer_length};
use crate::error::DecodeError;

const SYNC: u8 = 0;
const AWARENESS: u8 = 1;
const AUTH: u8 = 2;
const QUERY_AWARENESS: u8 = 3;

const STEP_1: u8 = 0;
const STEP_2: u8 = 1;
const UPDATE: u8 = 2;

/// An awareness message about no client: the keep-alive every client accepts silently.
pub const EMPTY_AWARENESS: &[u8] = &[AWARENESS, 1, 0];

/// One message of a frame. Payloads are slices of the frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// "Send me what I lack": a state vector.
    SyncStep1(Bytes),
    /// The answer to it: an update.
    SyncStep2(Bytes),
    /// A change: an update.
    Update(Bytes),
    /// An awareness update.
    Awareness(Bytes),
    /// A reason why something was not permitted.
    PermissionDenied(String),
    /// "Send me all awareness states."
    QueryAwareness,
    /// A type that is not known; its body's length is not either, so it is the rest of the frame.
    Unknown {
        /// The type number.
        kind: u64,
        /// Everything after it.
        body: Bytes,
    },
}

/// The messages of one frame; stops after the first error.
#[derive(Debug)]
pub struct Messages<'a> {
    frame: &'a Bytes,
    position: usize,
}

impl Message {
    /// Reads the messages packed in one frame.
    ///
    /// A lone `00` at the end, which some clients leave behind, is ignored.
    pub fn decode(frame: &Bytes) -> Messages<'_> {
        Self::decode_from(frame, 0)
    }

    /// Reads the messages of a frame from a [position](Messages::position) on.
    pub fn decode_from(frame: &Bytes, position: usize) -> Messages<'_> {
        Messages { frame, position }
    }
}

impl Messages<'_> {
    /// Where in the frame the next message begins.
    pub fn position(&self) -> usize {
        self.position
    }
}

impl Iterator for Messages<'_> {
    type Item = Result<Message, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.frame.get(self.position..).unwrap_or_default();
        if rest.is_empty() || (rest == [SYNC] && self.position > 0) {
            return None;
        }
        let mut reader = Reader::starting_at(self.frame, self.position);
        let message = read_message(self.frame, &mut reader);
        self.position = if message.is_ok() {
            reader.position()
        } else {
            self.frame.len()
        };
        Some(message)
    }
}

fn read_message(frame: &Bytes, reader: &mut Reader<'_>) -> Result<Message, DecodeError> {
    let kind = reader.number()?;
    Ok(match u8::try_from(kind) {
        Ok(SYNC) => {
            let position = reader.position();
            let step = reader.byte()?;
            let body = payload(frame, reader)?;
            match step {
                STEP_1 => Message::SyncStep1(body),
                STEP_2 => Message::SyncStep2(body),
                UPDATE => Message::Update(body),
                tag => {
                    return Err(DecodeError::UnknownTag {
                        what: "sync message",
                        tag,
                        position,
                    });
                }
            }
        }
        Ok(AWARENESS) => Message::Awareness(payload(frame, reader)?),
        Ok(AUTH) => {
            let position = reader.position();
            match reader.byte()? {
                0 => Message::PermissionDenied(reader.string()?.to_owned()),
                tag => {
                    return Err(DecodeError::UnknownTag {
                        what: "auth message",
                        tag,
                        position,
                    });
                }
            }
        }
        Ok(QUERY_AWARENESS) => Message::QueryAwareness,
        _ => {
            let body = frame.slice(reader.position()..);
            reader.exactly(body.len())?;
            Message::Unknown { kind, body }
        }
    })
}

fn payload(frame: &Bytes, reader: &mut Reader<'_>) -> Result<Bytes, ReadError> {
    let length = reader.buffer()?.len();
    Ok(frame.slice(reader.position() - length..reader.position()))
}

/// A frame that asks for what a replica with this state vector lacks.
pub fn sync_step_1(state_vector: &[u8]) -> Bytes {
    framed(&[SYNC, STEP_1], state_vector)
}

/// A frame that answers a sync step 1.
pub fn sync_step_2(update: &[u8]) -> Bytes {
    framed(&[SYNC, STEP_2], update)
}

/// A frame with a change.
pub fn update(update: &[u8]) -> Bytes {
    framed(&[SYNC, UPDATE], update)
}

/// A frame with an awareness update.
pub fn awareness(update: &[u8]) -> Bytes {
    framed(&[AWARENESS], update)
}

/// The keep-alive frame: an awareness update about nobody.
pub fn empty_awareness() -> Bytes {
    Bytes::from_static(EMPTY_AWARENESS)
}

/// A frame that asks for all awareness states.
pub fn query_awareness() -> Bytes {
    Bytes::from_static(&[QUERY_AWARENESS])
}

/// A frame that says that something was not permitted.
pub fn permission_denied(reason: &str) -> Bytes {
    framed(&[AUTH, 0], reason.as_bytes())
}

fn framed(head: &[u8], payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(head.len() + buffer_length(payload.len()));
    frame.put_raw(head);
    frame.put_buffer(payload);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(frame: &[u8]) -> Vec<Result<Message, DecodeError>> {
        Message::decode(&Bytes::copy_from_slice(frame)).collect()
    }

    #[test]
    fn frames_of_real_clients_are_read() {
        assert_eq!(
            decoded(&[0, 0, 3, 1, 1, 1]),
            [Ok(Message::SyncStep1(Bytes::from_static(&[1, 1, 1])))]
        );
        assert_eq!(
            decoded(&[1, 6, 1, 1, 0, 2, b'{', b'}']),
            [Ok(Message::Awareness(Bytes::from_static(&[
                1, 1, 0, 2, b'{', b'}'
            ])))]
        );
        assert_eq!(decoded(&[3]), [Ok(Message::QueryAwareness)]);
        assert_eq!(
            decoded(&[0, 1, 2, 0, 0]),
            [Ok(Message::SyncStep2(Bytes::from_static(&[0, 0])))]
        );
    }

    #[test]
    fn several_messages_and_a_lone_zero_at_the_end_are_read() {
        assert_eq!(
            decoded(&[0, 0, 1, 0, 0, 2, 2, 0, 0, 3, 0]),
            [
                Ok(Message::SyncStep1(Bytes::from_static(&[0]))),
                Ok(Message::Update(Bytes::from_static(&[0, 0]))),
                Ok(Message::QueryAwareness),
            ]
        );
    }

    #[test]
    fn an_unknown_type_takes_the_rest_of_the_frame() {
        assert_eq!(
            decoded(&[0x66, 2, 1, 0]),
            [Ok(Message::Unknown {
                kind: 102,
                body: Bytes::from_static(&[2, 1, 0])
            })]
        );
    }

    #[test]
    fn a_broken_message_ends_the_frame() {
        assert!(matches!(
            decoded(&[0, 2, 9, 0, 0, 3])[..],
            [Err(DecodeError::Read(_))]
        ));
        assert!(matches!(
            decoded(&[0, 7, 0])[..],
            [Err(DecodeError::UnknownTag { tag: 7, .. })]
        ));
        assert!(matches!(decoded(&[0])[..], [Err(DecodeError::Read(_))]));
        assert!(decoded(&[]).is_empty());
    }

    #[test]
    fn encoders_write_what_decode_reads() {
        let body = Bytes::from_static(&[1, 2, 3]);
        for (frame, message) in [
            (sync_step_1(&body), Message::SyncStep1(body.clone())),
            (sync_step_2(&body), Message::SyncStep2(body.clone())),
            (update(&body), Message::Update(body.clone())),
            (awareness(&body), Message::Awareness(body.clone())),
            (empty_awareness(), Message::Awareness(Bytes::from_static(&[0]))),
            (query_awareness(), Message::QueryAwareness),
            (
                permission_denied("no"),
                Message::PermissionDenied("no".to_owned()),
            ),
        ] {
            assert_eq!(Message::decode(&frame).collect::<Vec<_>>(), [Ok(message)]);
        }
    }
}
