//! Messages over the limit, cut to their beginning while they come in (pure).
//!
//! A connection with many pages is not ended by what is said to one of them, so that a message which is too long has to be read to its
//! end. Nothing of it is kept but its beginning, which says for which page it is. Frames that fit pass as they are; of one that does not,
//! the head says from here on that it is shorter, and the rest is left out. A mask (RFC 6455 §5.3) begins with the payload, so what
//! is left of it is still masked rightly.

use std::collections::VecDeque;

/// What is kept of a message over the limit, in bytes.
const BEGINNING_BYTES: u64 = 1024;
/// So many bytes of one message are skipped at most.
const MAX_SKIPPED_BYTES: u64 = 1 << 30;
/// Longest head of a frame, with its mask.
const MAX_HEAD_BYTES: usize = 14;

const OPCODE: u8 = 0x0f;
const IS_LAST: u8 = 0x80;
const IS_MASKED: u8 = 0x80;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
/// This and what is above it are control frames, which may come between the frames of a message.
const CONTROL: u8 = 8;

/// Follows the frames that come in on one socket.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    /// Longest message; `None` while whoever reads behind this ends the connection instead.
    limit: Option<u64>,
    /// The beginning of a head.
    held: Vec<u8>,
    /// Bytes of the frame's payload that pass, and behind those bytes that are left out.
    passes: u64,
    skips: u64,
    /// The message so far, before anything was left out, in bytes.
    message_bytes: u64,
    /// It is a message of bytes, of which something may be left out.
    is_binary: bool,
    is_cut: bool,
    /// Messages that have come in whole.
    passed: u64,
    /// Messages that have been read behind this.
    read: u64,
    /// Those that were cut and have not been read: their numbers, and how long they were.
    cut: VecDeque<(u64, u64)>,
}

/// The head of a frame.
struct Head {
    length: u64,
    size: usize,
}

impl Cutter {
    /// Messages may be so long from the next frame on; longer ones are cut.
    pub(super) fn limit(&mut self, bytes: usize) {
        self.limit = Some(bytes as u64);
    }

    /// Puts what was held back before what is read into `buffer` next. Gives how many bytes that is.
    pub(super) fn restore(&mut self, buffer: &mut [u8]) -> usize {
        let held = std::mem::take(&mut self.held);
        if let Some(place) = buffer.get_mut(..held.len()) {
            place.copy_from_slice(&held);
        }
        held.len()
    }

    /// Bytes that [`Self::restore`] needs a place for.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Leaves out of the first `filled` bytes what is too long. Gives how many are left.
    pub(super) fn cut(&mut self, buffer: &mut [u8], filled: usize) -> usize {
        let (mut from, mut to) = (0, 0);
        while from < filled {
            if self.passes > 0 {
                let count =
                    usize::try_from(self.passes).map_or(filled - from, |left| left.min(filled - from));
                buffer.copy_within(from..from + count, to);
                self.passes -= count as u64;
                from += count;
                to += count;
            } else if self.skips > 0 {
                let count = usize::try_from(self.skips).map_or(filled - from, |left| left.min(filled - from));
                self.skips -= count as u64;
                from += count;
            } else {
                let rest = buffer.get(from..filled).unwrap_or_default();
                let Some((head, size)) = self.next_head(rest) else {
                    self.held = rest.to_vec();
                    break;
                };
                let (written, head) = head;
                if let Some(place) = buffer.get_mut(to..to + written) {
                    place.copy_from_slice(head.get(..written).unwrap_or_default());
                }
                from += size;
                to += written;
            }
        }
        to
    }

    /// Reads the head of a frame, decides what passes of it, and gives its head from now on and how long it was.
    fn next_head(&mut self, bytes: &[u8]) -> Option<((usize, [u8; MAX_HEAD_BYTES]), usize)> {
        let Head { length, size } = Head::read(bytes)?;
        let [first, second, ..] = *bytes else { return None };
        let kept = self.keeps(first, length);
        (self.passes, self.skips) = (kept, length - kept);
        let mut head = [0; MAX_HEAD_BYTES];
        if kept == length {
            head.get_mut(..size)?.copy_from_slice(bytes.get(..size)?);
            return Some(((size, head), size));
        }
        let is_masked = second & IS_MASKED;
        let mask = match is_masked {
            0 => &[],
            _ => bytes.get(size - 4..size)?,
        };
        // What is kept of a frame is less than 64 KiB: the beginning of a message.
        let mut written = match u16::try_from(kept).unwrap_or(u16::MAX) {
            short @ ..126 => {
                head.get_mut(..2)?
                    .copy_from_slice(&[first, is_masked | short as u8]);
                2
            }
            middle => {
                let [high, low] = middle.to_be_bytes();
                head.get_mut(..4)?
                    .copy_from_slice(&[first, is_masked | 126, high, low]);
                4
            }
        };
        head.get_mut(written..written + mask.len())?.copy_from_slice(mask);
        written += mask.len();
        Some(((written, head), size))
    }

    /// How much of a frame's payload passes.
    fn keeps(&mut self, first: u8, length: u64) -> u64 {
        let opcode = first & OPCODE;
        if opcode >= CONTROL {
            return length;
        }
        if matches!(opcode, TEXT | BINARY) {
            self.message_bytes = 0;
            self.is_cut = false;
            self.is_binary = opcode == BINARY;
        }
        let before = self.message_bytes;
        self.message_bytes = before.saturating_add(length);
        let is_over = self.limit.is_some_and(|limit| self.message_bytes > limit);
        self.is_cut |= is_over && self.is_binary;
        // What goes on for so long is not waited for: passed whole, it ends the connection.
        if self.is_cut && self.message_bytes > MAX_SKIPPED_BYTES {
            return length;
        }
        if first & IS_LAST != 0 {
            if self.is_cut {
                self.cut.push_back((self.passed, self.message_bytes));
            }
            self.passed += 1;
        }
        match self.is_cut {
            true => BEGINNING_BYTES.saturating_sub(before).min(length),
            false => length,
        }
    }

    /// A message was read behind this. If it was cut, gives how long it was.
    pub(super) fn read(&mut self) -> Option<u64> {
        let number = self.read;
        self.read += 1;
        let (_, bytes) = self.cut.pop_front_if(|(cut, _)| *cut == number)?;
        Some(bytes)
    }
}

impl Head {
    /// `None` when more of it is to come.
    fn read(bytes: &[u8]) -> Option<Self> {
        let [_, second, rest @ ..] = bytes else {
            return None;
        };
        let (length, size) = match second & !IS_MASKED {
            126 => (u64::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
            127 => (u64::from_be_bytes(*rest.first_chunk()?), 10),
            short => (u64::from(short), 2),
        };
        let size = match second & IS_MASKED {
            0 => size,
            _ => size + 4,
        };
        (bytes.len() >= size).then_some(Self { length, size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [7, 11, 13, 17];

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            short @ ..126 => frame.push(IS_MASKED | short as u8),
            middle @ ..65_536 => {
                frame.push(IS_MASKED | 126);
                frame.extend((middle as u16).to_be_bytes());
            }
            long => {
                frame.push(IS_MASKED | 127);
                frame.extend((long as u64).to_be_bytes());
            }
        }
        frame.extend(MASK);
        let masked = payload.iter().zip(MASK.iter().cycle());
        frame.extend(masked.map(|(byte, mask)| byte ^ mask));
        frame
    }

    fn payload(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at % 251) as u8).collect()
    }

    /// What comes out when `bytes` come in, so many at once.
    fn passed(cutter: &mut Cutter, bytes: &[u8], at_once: usize) -> Vec<u8> {
        let mut all = Vec::new();
        for piece in bytes.chunks(at_once) {
            let mut buffer = vec![0; MAX_HEAD_BYTES + piece.len()];
            let held = cutter.restore(&mut buffer);
            buffer[held..held + piece.len()].copy_from_slice(piece);
            let left = cutter.cut(&mut buffer, held + piece.len());
            all.extend(&buffer[..left]);
        }
        all
    }

    #[test]
    fn only_what_is_too_long_is_cut_however_it_comes() {
        let whole = payload(70_000);
        let fits = &whole[..3000];
        let came = [
            frame(IS_LAST | BINARY, fits),
            frame(IS_LAST | 9, b"ping"),
            frame(IS_LAST | BINARY, &whole),
            frame(BINARY, &fits[..100]),
            frame(IS_LAST | 9, b"ping"),
            frame(0, &whole),
            frame(IS_LAST, fits),
            frame(IS_LAST | BINARY, b""),
        ]
        .concat();
        let expected = [
            frame(IS_LAST | BINARY, fits),
            frame(IS_LAST | 9, b"ping"),
            frame(IS_LAST | BINARY, &whole[..1024]),
            frame(BINARY, &fits[..100]),
            frame(IS_LAST | 9, b"ping"),
            frame(0, &whole[..924]),
            frame(IS_LAST, b""),
            frame(IS_LAST | BINARY, b""),
        ]
        .concat();
        for at_once in [1, 2, 13, 1000, 1 << 20] {
            let mut cutter = Cutter::default();
            cutter.limit(3000);
            assert_eq!(passed(&mut cutter, &came, at_once), expected, "{at_once} at once");
            let cut = [(); 4].map(|()| cutter.read());
            assert_eq!(cut, [None, Some(70_000), Some(73_100), None]);
        }
    }

    #[test]
    fn text_and_what_has_no_limit_pass() {
        let came = [
            frame(IS_LAST | TEXT, &payload(5000)),
            frame(IS_LAST | BINARY, &payload(10)),
        ]
        .concat();
        let mut cutter = Cutter::default();
        assert_eq!(passed(&mut cutter, &came, 7), came);
        cutter.limit(20);
        assert_eq!(passed(&mut cutter, &came, 7), came);
    }
}
