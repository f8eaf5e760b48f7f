//! Cuts the bytes of a socket into WebSocket messages, in place wherever a message came whole.

use super::websocket::{FRAME_BYTES_MAX, FrameError, Head, Opcode};

/// What a [`MessageReader`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received<'a> {
    /// A whole message, or a control frame.
    Whole {
        /// What it is.
        opcode: Opcode,
        /// Its payload, not masked.
        payload: &'a [u8],
    },
    /// The next piece of a message that is longer than the reader keeps.
    Piece {
        /// Where in the payload the piece begins.
        offset: usize,
        /// The piece.
        bytes: &'a [u8],
        /// It is the last one.
        is_last: bool,
    },
}

/// A frame that is handed out in pieces.
#[derive(Clone, Copy, Debug)]
struct Passing {
    rest: usize,
    is_last: bool,
}

/// Cuts what a server sends into messages, keeping only the beginning of one that is not complete.
#[derive(Debug)]
pub(super) struct MessageReader {
    /// Bytes of a frame that is not complete.
    kept: Vec<u8>,
    /// The fragments of a message so far.
    fragments: Vec<u8>,
    /// How much of the payload of a message that is not complete has been seen.
    seen: Option<usize>,
    passing: Option<Passing>,
    whole_bytes_max: usize,
}

impl MessageReader {
    /// A reader that hands out messages whole if they are up to `whole_bytes_max` bytes long and not fragmented, and others
    /// in pieces.
    pub(super) fn new(whole_bytes_max: usize) -> Self {
        Self {
            kept: Vec::new(),
            fragments: Vec::new(),
            seen: None,
            passing: None,
            whole_bytes_max,
        }
    }

    /// A reader that hands out all messages whole.
    pub(super) fn of_whole_messages() -> Self {
        Self::new(usize::MAX)
    }

    /// Takes received bytes and gives each message in them to `each`, until it fails.
    ///
    /// # Errors
    /// When the bytes are no frames that a server may send, or `each` fails.
    pub(super) fn feed<E: From<FrameError>>(
        &mut self,
        chunk: &[u8],
        mut each: impl FnMut(Received<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.kept.is_empty() {
            let used = self.cut(chunk, &mut each)?;
            self.kept.extend_from_slice(chunk.get(used..).unwrap_or_default());
            return Ok(());
        }
        let mut kept = std::mem::take(&mut self.kept);
        kept.extend_from_slice(chunk);
        let used = self.cut(&kept, &mut each)?;
        kept.drain(..used);
        // A long frame is rare: its buffer is not worth keeping for the short ones that follow.
        self.kept = if kept.is_empty() { Vec::new() } else { kept };
        Ok(())
    }

    /// Hands out what is complete in `bytes`; returns how many bytes that took.
    fn cut<E: From<FrameError>>(
        &mut self,
        bytes: &[u8],
        each: &mut impl FnMut(Received<'_>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let mut rest = bytes;
        loop {
            if let Some(passing) = self.passing {
                rest = self.pass(passing, rest, each)?;
                if self.passing.is_some() {
                    return Ok(bytes.len());
                }
            }
            let Some(head) = Head::read(rest)? else { break };
            let is_data = matches!(head.opcode, Opcode::Continuation | Opcode::Text | Opcode::Binary);
            let continues = head.opcode == Opcode::Continuation;
            if is_data && continues != self.seen.is_some() || !is_data && !head.is_last {
                return Err(FrameError::Unexpected(rest.first().copied().unwrap_or_default()).into());
            }
            let is_part = is_data && (continues || !head.is_last);
            let in_pieces = self.whole_bytes_max < usize::MAX && (is_part || head.len > self.whole_bytes_max);
            if is_data && in_pieces {
                self.passing = Some(Passing {
                    rest: head.len,
                    is_last: head.is_last,
                });
                rest = rest.get(head.start..).unwrap_or_default();
                continue;
            }
            let Some((frame, after)) = rest.split_at_checked(head.start + head.len) else {
                break;
            };
            rest = after;
            let payload = frame.get(head.start..).unwrap_or_default();
            if !is_part {
                each(Received::Whole {
                    opcode: head.opcode,
                    payload,
                })?;
                continue;
            }
            self.fragments.extend_from_slice(payload);
            self.seen = (!head.is_last).then_some(self.fragments.len());
            if self.fragments.len() > FRAME_BYTES_MAX {
                return Err(FrameError::TooLarge(self.fragments.len() as u64).into());
            }
            if head.is_last {
                let message = std::mem::take(&mut self.fragments);
                each(Received::Whole {
                    opcode: Opcode::Binary,
                    payload: &message,
                })?;
            }
        }
        Ok(bytes.len() - rest.len())
    }

    /// Hands out the next piece; returns what follows it.
    fn pass<'a, E: From<FrameError>>(
        &mut self,
        passing: Passing,
        bytes: &'a [u8],
        each: &mut impl FnMut(Received<'_>) -> Result<(), E>,
    ) -> Result<&'a [u8], E> {
        let (piece, after) = bytes.split_at_checked(passing.rest).unwrap_or((bytes, &[]));
        let rest = passing.rest - piece.len();
        let offset = self.seen.unwrap_or(0);
        let is_last = rest == 0 && passing.is_last;
        self.passing = (rest > 0).then_some(Passing { rest, ..passing });
        self.seen = (!is_last).then_some(offset + piece.len());
        each(Received::Piece {
            offset,
            bytes: piece,
            is_last,
        })?;
        Ok(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Head::write(&mut bytes, Opcode::Binary, payload.len(), None);
        bytes[0] = first;
        bytes.extend_from_slice(payload);
        bytes
    }

    /// What comes out when the bytes come in chunks of this size: opcode and payload, pieces joined.
    fn read(
        mut reader: MessageReader,
        bytes: &[u8],
        chunk: usize,
    ) -> Result<Vec<(Opcode, Vec<u8>)>, FrameError> {
        let (mut messages, mut pieces) = (Vec::new(), Vec::new());
        for chunk in bytes.chunks(chunk) {
            reader.feed::<FrameError>(chunk, |received| {
                match received {
                    Received::Whole { opcode, payload } => messages.push((opcode, payload.to_vec())),
                    Received::Piece {
                        offset,
                        bytes,
                        is_last,
                    } => {
                        assert_eq!(offset, pieces.len());
                        pieces.extend_from_slice(bytes);
                        if is_last {
                            messages.push((Opcode::Continuation, std::mem::take(&mut pieces)));
                        }
                    }
                }
                Ok(())
            })?;
        }
        Ok(messages)
    }

    #[test]
    fn messages_of_every_length_are_read_whatever_the_chunks() {
        let payloads = [0, 1, 125, 126, 65_535, 65_536].map(|length| vec![7; length]);
        let bytes: Vec<u8> = payloads.iter().flat_map(|payload| frame(0x82, payload)).collect();
        let expected: Vec<_> = payloads.map(|payload| (Opcode::Binary, payload)).into();
        for chunk in [3, 1000, bytes.len()] {
            assert_eq!(
                read(MessageReader::of_whole_messages(), &bytes, chunk).as_ref(),
                Ok(&expected)
            );
        }
    }

    #[test]
    fn fragments_make_one_message_also_around_a_ping() {
        let bytes = [
            frame(0x02, b"ab"),
            frame(0x89, b"?"),
            frame(0x00, b"cd"),
            frame(0x80, b"e"),
        ]
        .concat();
        for chunk in 1..bytes.len() {
            assert_eq!(
                read(MessageReader::of_whole_messages(), &bytes, chunk),
                Ok(vec![
                    (Opcode::Ping, b"?".to_vec()),
                    (Opcode::Binary, b"abcde".to_vec())
                ])
            );
            assert_eq!(
                read(MessageReader::new(3), &bytes, chunk),
                Ok(vec![
                    (Opcode::Ping, b"?".to_vec()),
                    (Opcode::Continuation, b"abcde".to_vec())
                ])
            );
        }
    }

    #[test]
    fn long_messages_pass_in_pieces_and_short_ones_whole() {
        let bytes = [frame(0x82, b"long"), frame(0x82, b"abc"), frame(0x82, b"longer")].concat();
        for chunk in 1..bytes.len() {
            assert_eq!(
                read(MessageReader::new(3), &bytes, chunk),
                Ok(vec![
                    (Opcode::Continuation, b"long".to_vec()),
                    (Opcode::Binary, b"abc".to_vec()),
                    (Opcode::Continuation, b"longer".to_vec()),
                ])
            );
        }
    }

    #[test]
    fn frames_that_do_not_belong_where_they_are_are_refused() {
        for bytes in [
            frame(0x80, b"nothing to continue"),
            [frame(0x02, b"a"), frame(0x82, b"another message before the end")].concat(),
            frame(0x09, b"a ping in fragments"),
            frame(0xc2, b"an extension"),
            frame(0x83, b"an unknown kind"),
        ] {
            let refused = read(MessageReader::of_whole_messages(), &bytes, bytes.len());
            assert!(matches!(refused, Err(FrameError::Unexpected(_))), "{bytes:?}");
        }
        let endless = [0x82, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(Head::read(&endless), Err(FrameError::TooLarge(u64::MAX)));
    }
}
