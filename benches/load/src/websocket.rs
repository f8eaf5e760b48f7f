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

#[cfg(test)]
mod tests {
    use super::*;

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
