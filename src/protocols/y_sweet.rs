//! The y-sweet dialect: y-websocket, and a message by which a client learns how much of what it wrote is durable.
//!
//! Beside what y-websocket has there is `66 mark`, with the number of the client's last edit: it is said back when everything
//! before it is stored. Clients hang up when nothing at all comes for 3 s after a mark, so something is sent more often than that.
//! One message a frame; a `03` has a body here, which says nothing that is not said otherwise.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use crdt::{
    DecodeError,
    encoding::{Reader, Write},
};

use super::{Dialect, Unread, y_websocket::YWebsocket};
use crate::rooms::{ClientMessage, ServerMessage};

/// Something is sent at least this often: clients wait 3 s for an answer to a mark, or for anything else.
const KEEP_ALIVE: Duration = Duration::from_secs(2);

const MARK: u8 = 102;
const QUERY_AWARENESS: u8 = 3;

/// The y-sweet dialect.
#[derive(Debug)]
pub struct YSweet;

impl Dialect for YSweet {
    // What both have words for is the same on the wire.
    const SLOT: usize = YWebsocket::SLOT;

    fn next(unread: &mut Unread) -> Option<Result<Option<ClientMessage>, DecodeError>> {
        let message = match unread.frame.first().filter(|_| unread.position == 0) {
            Some(&MARK) => mark(&unread.frame).map(ClientMessage::Mark),
            Some(&QUERY_AWARENESS) => Ok(ClientMessage::QueryAwareness),
            Some(_) | None => return YWebsocket::next(unread),
        };
        unread.finish();
        Some(message.map(Some))
    }

    fn encode(message: &ServerMessage) -> Bytes {
        match message {
            ServerMessage::Mark(mark) => {
                let mut frame = BytesMut::with_capacity(mark.len() + 2);
                frame.put_byte(MARK);
                frame.put_buffer(mark);
                frame.freeze()
            }
            ServerMessage::SyncStep1(_)
            | ServerMessage::SyncStep2(_)
            | ServerMessage::Delta(_)
            | ServerMessage::Stored(_)
            | ServerMessage::Awareness(_)
            | ServerMessage::Refused(_)
            | ServerMessage::Receipts { .. }
            | ServerMessage::QueryAwareness
            | ServerMessage::Stateless(_) => YWebsocket::encode(message),
        }
    }

    fn keep_alive() -> Bytes {
        YWebsocket::keep_alive()
    }

    fn max_silence() -> Option<Duration> {
        Some(KEEP_ALIVE)
    }
}

/// The body of a mark: a buffer with one number, so it is short.
fn mark(frame: &Bytes) -> Result<Bytes, DecodeError> {
    let mut reader = Reader::starting_at(frame, 1);
    let body = reader.buffer()?;
    let mut number = Reader::new(body);
    number.number()?;
    for reader in [&reader, &number] {
        if !reader.is_at_end() {
            return Err(DecodeError::TrailingBytes {
                position: reader.position(),
            });
        }
    }
    Ok(frame.slice_ref(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(frame: &'static [u8]) -> Result<Vec<ClientMessage>, DecodeError> {
        let mut messages = Vec::new();
        YSweet::decode(&Bytes::from_static(frame), &mut messages).map(|()| messages)
    }

    #[test]
    fn marks_are_read_and_said_back_as_they_are() {
        let mark = Bytes::from_static(&[0xac, 0x02]);
        assert_eq!(
            decode(&[102, 2, 0xac, 0x02]),
            Ok(vec![ClientMessage::Mark(mark.clone())])
        );
        assert_eq!(
            YSweet::encode(&ServerMessage::Mark(mark)),
            [102, 2, 0xac, 0x02].as_slice()
        );
        for bad in [
            &[102][..],
            &[102, 1],
            &[102, 0],
            &[102, 2, 1, 1],
            &[102, 1, 1, 0],
            &[102, 1, 0x80],
        ] {
            assert!(decode(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_rest_is_y_websocket() {
        assert_eq!(
            decode(&[0, 0, 1, 0]),
            Ok(vec![ClientMessage::SyncStep1(Bytes::from_static(&[0]))])
        );
        assert_eq!(decode(&[3, 3, 1, 6, 1]), Ok(vec![ClientMessage::QueryAwareness]));
        assert_eq!(
            YSweet::encode(&ServerMessage::SyncStep1(Bytes::from_static(&[0]))),
            [0, 0, 1, 0].as_slice()
        );
    }
}
