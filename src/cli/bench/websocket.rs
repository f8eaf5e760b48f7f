//! WebSocket frames for making load (RFC 6455): read in place, written without a copy, and nothing a load run does not need.
//!
//! A load run counts up to a million frames a second on one core, with one buffer for all its sockets. That is why it
//! does not go through the library that the server uses.

use thiserror::Error;

/// Frames longer than this are a fault of the server, not a message.
pub const FRAME_BYTES_MAX: usize = 256 << 20;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// The next fragment of a message.
    Continuation,
    /// A text message.
    Text,
    /// A binary message.
    Binary,
    /// Goodbye, with a code.
    Close,
    /// "Are you there?"
    Ping,
    /// "I am."
    Pong,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::Continuation),
            1 => Some(Self::Text),
            2 => Some(Self::Binary),
            8 => Some(Self::Close),
            9 => Some(Self::Ping),
            10 => Some(Self::Pong),
            _ => None,
        }
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }
}

/// Bytes that are no frame of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A frame of an unknown kind, or one that does not belong where it is.
    #[error("the other side sent an unexpected WebSocket frame (first byte {0:#04x})")]
    Unexpected(u8),
    /// More than [`FRAME_BYTES_MAX`].
    #[error("the other side announced a WebSocket frame of {0} bytes")]
    TooLarge(u64),
}

/// The head of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What the frame is.
    pub opcode: Opcode,
    /// No fragment follows.
    pub is_last: bool,
    /// The key that its payload is masked with; clients must mask.
    pub mask: Option<[u8; 4]>,
    /// Where the payload begins, counted from the head's first byte.
    pub start: usize,
    /// How long the payload is, in bytes.
    pub len: usize,
}

impl Head {
    /// Reads the head at the beginning of `bytes`; `None` when more bytes are needed.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, FrameError> {
        let [first, second, rest @ ..] = bytes else {
            return Ok(None);
        };
        let opcode = match (first & 0x70, Opcode::from_bits(first & 0x0f)) {
            (0, Some(opcode)) => opcode,
            _ => return Err(FrameError::Unexpected(*first)),
        };
        let (len, rest, width) = match second & 0x7f {
            126 => match rest.split_first_chunk::<2>() {
                Some((len, rest)) => (u64::from(u16::from_be_bytes(*len)), rest, 2),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk::<8>() {
                Some((len, rest)) => (u64::from_be_bytes(*len), rest, 8),
                None => return Ok(None),
            },
            short => (u64::from(short), rest, 0),
        };
        let len = match usize::try_from(len) {
            Ok(len) if len <= FRAME_BYTES_MAX => len,
            _ => return Err(FrameError::TooLarge(len)),
        };
        let (mask, width) = match second & 0x80 {
            0 => (None, width),
            _ => match rest.first_chunk::<4>() {
                Some(mask) => (Some(*mask), width + 4),
                None => return Ok(None),
            },
        };
        Ok(Some(Self {
            opcode,
            is_last: first & 0x80 != 0,
            mask,
            start: 2 + width,
            len,
        }))
    }

    /// Writes the head of a frame with `len` bytes of payload.
    pub fn write(out: &mut Vec<u8>, opcode: Opcode, len: usize, mask: Option<[u8; 4]>) {
        let masked = if mask.is_some() { 0x80 } else { 0 };
        out.push(0x80 | opcode.bits());
        match (u8::try_from(len), u16::try_from(len)) {
            (Ok(short @ ..126), _) => out.push(masked | short),
            (_, Ok(medium)) => {
                out.push(masked | 126);
                out.extend_from_slice(&medium.to_be_bytes());
            }
            _ => {
                out.push(masked | 127);
                out.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        out.extend(mask.into_iter().flatten());
    }
}

/// Masks or unmasks a payload.
pub fn toggle_mask(payload: &mut [u8], mask: [u8; 4]) {
    let wide = u64::from_ne_bytes([
        mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3],
    ]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// Appends one masked frame, as a client must send it.
pub fn write_client_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: [u8; 4]) {
    Head::write(out, opcode, payload.len(), Some(mask));
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(payload) = out.get_mut(start..) {
        toggle_mask(payload, mask);
    }
}

/// What a [`MessageReader`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received<'a> {
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
pub struct MessageReader {
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
    pub fn new(whole_bytes_max: usize) -> Self {
        Self {
            kept: Vec::new(),
            fragments: Vec::new(),
            seen: None,
            passing: None,
            whole_bytes_max,
        }
    }

    /// A reader that hands out all messages whole.
    pub fn of_whole_messages() -> Self {
        Self::new(usize::MAX)
    }

    /// Takes received bytes and gives each message in them to `each`, until it fails.
    ///
    /// # Errors
    /// When the bytes are no frames that a server may send, or `each` fails.
    pub fn feed<E: From<FrameError>>(
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

    #[test]
    fn what_a_client_writes_is_masked_and_can_be_read() {
        for length in [0, 3, 8, 29, 200] {
            let payload: Vec<u8> = (0..length).collect();
            let mut bytes = Vec::new();
            write_client_frame(&mut bytes, Opcode::Binary, &payload, [1, 2, 3, 4]);
            let head = Head::read(&bytes).expect("a frame").expect("a whole head");
            assert_eq!(
                (head.mask, head.len, head.is_last),
                (Some([1, 2, 3, 4]), payload.len(), true)
            );
            toggle_mask(&mut bytes[head.start..], [1, 2, 3, 4]);
            assert_eq!(bytes[head.start..], payload);
        }
    }
}
