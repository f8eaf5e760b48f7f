//! Writes the content of a piece of a struct.

use super::PastError;
use super::lists::{Item, Lists};
use crate::encoding::{Reader, Write};
use crate::error::DecodeError;
use crate::limits::Limits;
use crate::update::{ANY, DELETED, JSON, STRING, read_head, read_struct, skip_any};

/// Up to where a text, or values, have been walked: the pieces of a struct are asked for in order, and what stands before one need not be
/// gone through for each.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Walked {
    ticks: u32,
    bytes: usize,
}

impl Lists {
    /// Writes the content of an item; says of which kind it is.
    pub(super) fn write_content(&mut self, item: &Item, out: &mut Vec<u8>) -> Result<u8, PastError> {
        let mut content = Vec::new();
        let kind = self.copy_content(item, &mut content)?;
        match kind {
            STRING => out.put_number(content.len() as u64),
            ANY | JSON | DELETED => out.put_number(u64::from(item.length)),
            _ => {}
        }
        out.put_raw(&content);
        Ok(kind)
    }

    /// Adds the content of an item, without the count that stands before text and before values; says of which kind it is.
    pub(crate) fn copy_content(&mut self, item: &Item, out: &mut Vec<u8>) -> Result<u8, PastError> {
        let source = item.source;
        let bytes = self.bytes(source);
        let mut reader = Reader::starting_at(bytes, source.at as usize);
        let head = read_head(&mut reader)?;
        let kind = head.kind();
        let count = match kind {
            DELETED => return Ok(kind),
            STRING | ANY | JSON => reader.count().map_err(DecodeError::from)?,
            _ => {
                let mut reader = Reader::starting_at(bytes, source.at as usize);
                let read = read_struct::<true>(&mut reader, &Limits::trusted())?;
                out.put_raw(bytes.get(read.content..reader.position()).unwrap_or_default());
                return Ok(kind);
            }
        };
        let content = bytes.get(reader.position()..).unwrap_or_default();
        let struct_at = (source.is_second, source.at);
        let known = self.walked.get(&struct_at).copied();
        let mut walked = known
            .filter(|walked| walked.ticks <= source.offset)
            .unwrap_or_default();
        let until = source.offset + item.length;
        let is_through = match kind {
            STRING => {
                let text = content.get(..count).unwrap_or_default();
                walked.copy_text(text, source.offset, until, out);
                walked.bytes >= count
            }
            _ => {
                walked.copy_values(kind, content, source.offset, until, out)?;
                walked.ticks as usize >= count
            }
        };
        if is_through {
            self.walked.remove(&struct_at);
        } else {
            self.walked.insert(struct_at, walked);
        }
        Ok(kind)
    }
}

impl Walked {
    /// Copies the UTF-16 units `offset..until` of a text. Of a character of two units that is cut, each half becomes U+FFFD, as in Yjs.
    fn copy_text(&mut self, text: &[u8], offset: u32, until: u32, out: &mut Vec<u8>) {
        while self.ticks < until
            && let Some(&first) = text.get(self.bytes)
        {
            let (length, units) = match first {
                0xf0.. => (4, 2),
                0xe0.. => (3, 1),
                0xc0.. => (2, 1),
                _ => (1, 1),
            };
            let behind = self.ticks + units;
            match behind.min(until).saturating_sub(self.ticks.max(offset)) {
                0 => {}
                all if all == units => {
                    let letter = text.get(self.bytes..self.bytes + length);
                    out.put_raw(letter.unwrap_or_default());
                }
                _ => out.put_raw(char::REPLACEMENT_CHARACTER.encode_utf8(&mut [0; 4]).as_bytes()),
            }
            // The second half may be asked for next.
            if behind > until {
                break;
            }
            self.ticks = behind;
            self.bytes += length;
        }
    }

    /// Copies the values `offset..until`.
    fn copy_values(
        &mut self,
        kind: u8,
        values: &[u8],
        offset: u32,
        until: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), PastError> {
        let mut reader = Reader::starting_at(values, self.bytes);
        let mut start = self.bytes;
        while self.ticks < until {
            if self.ticks == offset {
                start = reader.position();
            }
            match kind {
                ANY => skip_any(&mut reader, Limits::trusted().max_any_depth)?,
                _ => drop(reader.buffer().map_err(DecodeError::from)?),
            }
            self.ticks += 1;
        }
        self.bytes = reader.position();
        out.put_raw(values.get(start..self.bytes).unwrap_or_default());
        Ok(())
    }
}
