//! The lib0 wire primitives (var-ints, strings, buffers) with limits: a reader that never allocates and never panics, and a writer.
//!
//! Numbers are little-endian groups of seven bits, the high bit saying that another group follows. The reader accepts
//! only the shortest form of a number, which is the only one lib0 writes, so that what was read can be written again
//! byte for byte.

use bytes::{BufMut, BytesMut};
use thiserror::Error;

/// The largest number a JavaScript peer can hold exactly, 2^53 - 1.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// Why bytes from outside could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ReadError {
    /// The input ends in the middle of a value.
    #[error("the input ends in the middle of a value at byte {position}")]
    UnexpectedEnd {
        /// Where in the input the value begins.
        position: usize,
    },
    /// A number is larger than its field allows, or not written in its shortest form.
    #[error("the number at byte {position} is too large or not in its shortest form")]
    InvalidNumber {
        /// Where in the input the number begins.
        position: usize,
    },
    /// A string is not UTF-8.
    #[error("the string at byte {position} is not UTF-8")]
    InvalidUtf8 {
        /// Where in the input the text begins.
        position: usize,
    },
}

/// Reads lib0 values from the front of a byte slice.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Starts at `position`, or at the end if that is beyond it.
    pub fn starting_at(bytes: &'a [u8], position: usize) -> Self {
        Self {
            bytes,
            position: position.min(bytes.len()),
        }
    }

    /// How many bytes were read.
    #[inline]
    pub fn position(&self) -> usize {
        self.position
    }

    /// How many bytes are left.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// Whether everything was read.
    #[inline]
    pub fn is_at_end(&self) -> bool {
        self.position == self.bytes.len()
    }

    /// Looks at the next byte without reading it.
    #[inline]
    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.position).copied()
    }

    /// Reads one byte.
    #[inline]
    pub fn byte(&mut self) -> Result<u8, ReadError> {
        let byte = self.peek().ok_or(ReadError::UnexpectedEnd {
            position: self.position,
        })?;
        self.position += 1;
        Ok(byte)
    }

    /// Reads a number up to 2^53 - 1.
    #[inline]
    pub fn number(&mut self) -> Result<u64, ReadError> {
        match self.peek() {
            Some(byte) if byte < 0x80 => {
                self.position += 1;
                Ok(u64::from(byte))
            }
            _ => self.long_number(),
        }
    }

    fn long_number(&mut self) -> Result<u64, ReadError> {
        let start = self.position;
        let mut number = 0u64;
        let mut shift = 0u32;
        loop {
            let byte = self
                .byte()
                .map_err(|_| ReadError::UnexpectedEnd { position: start })?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                let shortest = byte != 0 || shift == 0;
                return if shortest && number <= MAX_SAFE_INTEGER {
                    Ok(number)
                } else {
                    Err(ReadError::InvalidNumber { position: start })
                };
            }
            shift += 7;
            if shift > 49 {
                return Err(ReadError::InvalidNumber { position: start });
            }
        }
    }

    /// Reads a number that must be at most `max`.
    #[inline]
    pub fn number_up_to(&mut self, max: u32) -> Result<u32, ReadError> {
        let start = self.position;
        match u32::try_from(self.number()?) {
            Ok(number) if number <= max => Ok(number),
            _ => Err(ReadError::InvalidNumber { position: start }),
        }
    }

    /// Reads a signed number (first group: continuation, sign, six bits) of at most 53 bits.
    #[inline]
    pub fn signed_number(&mut self) -> Result<i64, ReadError> {
        let start = self.position;
        let end = ReadError::UnexpectedEnd { position: start };
        let invalid = ReadError::InvalidNumber { position: start };
        let first = self.byte()?;
        let mut magnitude = u64::from(first & 0x3f);
        let mut more = first & 0x80 != 0;
        let mut shift = 6u32;
        while more {
            let byte = self.byte().map_err(|_| end)?;
            if shift > 48 || (byte == 0) {
                return Err(invalid);
            }
            magnitude |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            more = byte & 0x80 != 0;
        }
        let magnitude = i64::try_from(magnitude).map_err(|_| invalid)?;
        if magnitude > MAX_SAFE_INTEGER.cast_signed() {
            return Err(invalid);
        }
        Ok(if first & 0x40 != 0 { -magnitude } else { magnitude })
    }

    /// Reads a count of things that each take at least one byte, so no more than there are bytes left.
    ///
    /// Every count prefix goes through here: nothing may be reserved for elements that the input cannot hold.
    #[inline]
    pub fn count(&mut self) -> Result<usize, ReadError> {
        let start = self.position;
        let count = self.number()?;
        match usize::try_from(count) {
            Ok(count) if count <= self.remaining() => Ok(count),
            _ => Err(ReadError::UnexpectedEnd { position: start }),
        }
    }

    /// Reads exactly `length` bytes.
    #[inline]
    pub fn exactly(&mut self, length: usize) -> Result<&'a [u8], ReadError> {
        let end = self.position.checked_add(length);
        match end.and_then(|end| self.bytes.get(self.position..end)) {
            Some(bytes) => {
                self.position += length;
                Ok(bytes)
            }
            None => Err(ReadError::UnexpectedEnd {
                position: self.position,
            }),
        }
    }

    /// Reads a length-prefixed buffer.
    #[inline]
    pub fn buffer(&mut self) -> Result<&'a [u8], ReadError> {
        let length = self.count()?;
        self.exactly(length)
    }

    /// Reads a length-prefixed UTF-8 string.
    #[inline]
    pub fn string(&mut self) -> Result<&'a str, ReadError> {
        let bytes = self.buffer()?;
        str::from_utf8(bytes).map_err(|_| ReadError::InvalidUtf8 {
            position: self.position - bytes.len(),
        })
    }
}

/// How many bytes `number` takes on the wire.
#[inline]
pub fn number_length(number: u64) -> usize {
    let bits = u64::BITS - (number | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// How many bytes a buffer of `length` bytes takes on the wire with its length prefix.
#[inline]
pub fn buffer_length(length: usize) -> usize {
    number_length(length as u64) + length
}

/// Writes lib0 values at the end of a byte buffer.
pub trait Write {
    /// Writes one byte.
    fn put_byte(&mut self, byte: u8);

    /// Writes bytes without a length prefix.
    fn put_raw(&mut self, bytes: &[u8]);

    /// Writes a number.
    #[inline]
    fn put_number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.put_byte((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.put_byte(number as u8);
    }

    /// Writes a length-prefixed buffer.
    #[inline]
    fn put_buffer(&mut self, bytes: &[u8]) {
        self.put_number(bytes.len() as u64);
        self.put_raw(bytes);
    }

    /// Writes a length-prefixed string.
    #[inline]
    fn put_string(&mut self, text: &str) {
        self.put_buffer(text.as_bytes());
    }
}

impl Write for Vec<u8> {
    #[inline]
    fn put_byte(&mut self, byte: u8) {
        self.push(byte);
    }

    #[inline]
    fn put_raw(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl Write for BytesMut {
    #[inline]
    fn put_byte(&mut self, byte: u8) {
        self.put_u8(byte);
    }

    #[inline]
    fn put_raw(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_round_trip(number in 0..=MAX_SAFE_INTEGER) {
            let mut bytes = Vec::new();
            bytes.put_number(number);
            prop_assert_eq!(bytes.len(), number_length(number));
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.number(), Ok(number));
            prop_assert!(reader.is_at_end());
        }

        #[test]
        fn random_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..32)) {
            let mut reader = Reader::new(&bytes);
            while reader.string().is_ok() && !reader.is_at_end() {}
            let mut reader = Reader::new(&bytes);
            while reader.signed_number().is_ok() && !reader.is_at_end() {}
            let mut reader = Reader::new(&bytes);
            while let Ok(number) = reader.number() {
                let mut again = Vec::new();
                again.put_number(number);
                let end = reader.position();
                prop_assert_eq!(&bytes[end - again.len()..end], &again[..]);
            }
        }
    }

    #[test]
    fn a_number_beyond_53_bits_or_with_needless_groups_is_refused() {
        let too_large = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f];
        assert_eq!(
            Reader::new(&too_large).number(),
            Err(ReadError::InvalidNumber { position: 0 })
        );
        let largest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f];
        assert_eq!(Reader::new(&largest).number(), Ok(MAX_SAFE_INTEGER));
        assert_eq!(
            Reader::new(&[0x80, 0x00]).number(),
            Err(ReadError::InvalidNumber { position: 0 })
        );
        assert_eq!(
            Reader::new(&[0x80]).number(),
            Err(ReadError::UnexpectedEnd { position: 0 })
        );
    }

    #[test]
    fn a_count_larger_than_the_input_is_refused() {
        assert_eq!(
            Reader::new(&[5, 0, 0]).count(),
            Err(ReadError::UnexpectedEnd { position: 0 })
        );
        assert_eq!(Reader::new(&[2, 0, 0]).count(), Ok(2));
    }

    #[test]
    fn signed_numbers_follow_lib0() {
        for (bytes, expected) in [
            (&[0x2a][..], 42),
            (&[0x6a], -42),
            (&[0xbf, 0xff, 0xff, 0xff, 0x0f], 2_147_483_647),
            (&[0x40], 0),
        ] {
            assert_eq!(Reader::new(bytes).signed_number(), Ok(expected));
        }
    }
}
