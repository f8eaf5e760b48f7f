//! Writes the content of a piece of a struct.

use super::PastError;
use super::lists::{Item, Lists, MAX_STEPS};
use crate::encoding::{Reader, Write};
use crate::error::DecodeError;
use crate::limits::Limits;
use crate::update::{ANY, DELETED, JSON, STRING, read_head, read_struct, write_part};

/// Up to where a text has been walked.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Walked {
    text: (bool, u32),
    units: u32,
    bytes: usize,
}

impl Lists {
    /// Writes the content of an item; says of which kind it is.
    pub(super) fn write_content(&mut self, item: &Item, out: &mut Vec<u8>) -> Result<u8, PastError> {
        let source = item.source;
        let mut reader = Reader::starting_at(self.bytes(source), source.at as usize);
        let head = read_head(&mut reader)?;
        if head.kind() == STRING {
            let mut walked = self.walked;
            let text = reader.string().map_err(DecodeError::from)?;
            if walked.text != (source.is_second, source.at) || walked.units > source.offset {
                walked = Walked {
                    text: (source.is_second, source.at),
                    ..Walked::default()
                };
            }
            walked.write(text, source.offset, item.length, out);
            self.walked = walked;
            return Ok(STRING);
        }
        let kind = head.kind();
        let mut reader = Reader::starting_at(self.bytes(source), source.at as usize);
        let read = read_struct::<true>(&mut reader, &Limits::trusted())?;
        let until = source.offset + item.length;
        if matches!(kind, ANY | JSON | DELETED) && (source.offset, item.length) != (0, read.length) {
            let mut part = Vec::new();
            let at = (source.at as usize, item.id.client, item.id.clock - source.offset);
            write_part(&mut part, self.bytes(source), at, &read, (source.offset, until));
            let mut reader = Reader::new(&part);
            read_head(&mut reader)?;
            out.extend_from_slice(part.get(reader.position()..).unwrap_or_default());
            self.steps += u64::from(until);
        } else {
            let content = self.bytes(source).get(read.content..reader.position());
            out.extend_from_slice(content.unwrap_or_default());
        }
        match self.steps > MAX_STEPS {
            true => Err(PastError::TooMuchWork),
            false => Ok(kind),
        }
    }
}

impl Walked {
    /// Writes `length` UTF-16 units of a text from `offset` on. Of a character of two units that is cut, each half becomes U+FFFD, as in
    /// Yjs.
    fn write(&mut self, text: &str, offset: u32, length: u32, out: &mut Vec<u8>) {
        let end = offset + length;
        let mut part = String::new();
        for letter in text.get(self.bytes..).unwrap_or_default().chars() {
            let units = letter.len_utf16() as u32;
            let (from, until) = (self.units.max(offset), (self.units + units).min(end));
            if self.units >= end {
                break;
            }
            match until.saturating_sub(from) {
                0 => {}
                all if all == units => part.push(letter),
                _ => part.push(char::REPLACEMENT_CHARACTER),
            }
            // The second half may be asked for next.
            if self.units + units > end {
                break;
            }
            self.units += units;
            self.bytes += letter.len_utf8();
        }
        out.put_string(&part);
    }
}
