//! Edits as bytes: Yjs updates (v1) that insert and delete text, and a reader that tells which edits an update contains.
//!
//! The run knows every edit it makes, so it needs no document to check deliveries: the clock ranges of an update say
//! which edits are in it, however the server merged them.

use crdt::encoding::{ReadError, Reader, Write};
use thiserror::Error;

/// The text that all edits of a run go into.
const ROOT: &str = "text";

const CONTENT_GC: u8 = 0;
const CONTENT_DELETED: u8 = 1;
const CONTENT_STRING: u8 = 4;
const CONTENT_SKIP: u8 = 10;
const HAS_ORIGIN: u8 = 0x80;
const HAS_RIGHT_ORIGIN: u8 = 0x40;
const HAS_PARENT_KEY: u8 = 0x20;

/// Why a received update could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UpdateError {
    /// The bytes are no update.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Somebody else edits the page, or the server made something of its own.
    #[error("an update contains content of kind {0}, which this run did not write")]
    ForeignContent(u8),
    /// The same, by its author.
    #[error("an update contains edits of client {0}, which is not of this run")]
    ForeignClient(u64),
}

/// One insertion of a client, between two of its own characters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Insertion<'a> {
    /// The clock of the character on its left when it was typed.
    pub(super) origin: Option<u32>,
    /// The clock of the character on its right when it was typed.
    pub(super) right_origin: Option<u32>,
    /// What was typed.
    pub(super) text: &'a str,
}

/// Writes an update of one client: insertions from `clock` on, and deletions of its own characters as `(clock, length)`.
pub(super) fn write_update(
    out: &mut Vec<u8>,
    client: u64,
    clock: u32,
    insertions: &[Insertion<'_>],
    deletions: &[(u32, u32)],
) {
    if insertions.is_empty() {
        out.put_byte(0);
    } else {
        out.put_byte(1);
        out.put_number(insertions.len() as u64);
        out.put_number(client);
        out.put_number(u64::from(clock));
    }
    for insertion in insertions {
        let origins = [
            (insertion.origin, HAS_ORIGIN),
            (insertion.right_origin, HAS_RIGHT_ORIGIN),
        ];
        let flags = origins
            .iter()
            .filter(|(id, _)| id.is_some())
            .fold(0, |flags, (_, flag)| flags | flag);
        out.put_byte(CONTENT_STRING | flags);
        for id in origins.iter().filter_map(|(id, _)| *id) {
            out.put_number(client);
            out.put_number(u64::from(id));
        }
        if flags == 0 {
            out.put_byte(1);
            out.put_string(ROOT);
        }
        out.put_string(insertion.text);
    }
    if deletions.is_empty() {
        out.put_byte(0);
        return;
    }
    out.put_byte(1);
    out.put_number(client);
    out.put_number(deletions.len() as u64);
    for (clock, length) in deletions {
        out.put_number(u64::from(*clock));
        out.put_number(u64::from(*length));
    }
}

/// Something that an update contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A client's operations from clock `start` up to but not including `end`.
    Written {
        /// The client.
        client: u64,
        /// Its first clock.
        start: u32,
        /// The clock after the last.
        end: u32,
    },
    /// The characters of a client from clock `start` up to but not including `end` are deleted.
    Deleted {
        /// The client whose characters they are.
        client: u64,
        /// The first clock.
        start: u32,
        /// The clock after the last.
        end: u32,
    },
}

/// Gives each part of an update to `each`, until it fails.
pub(super) fn read_update(
    update: &[u8],
    mut each: impl FnMut(Part) -> Result<(), UpdateError>,
) -> Result<(), UpdateError> {
    let reader = &mut Reader::new(update);
    for _ in 0..reader.count()? {
        let structs = reader.number()?;
        let client = reader.number()?;
        let mut start = reader.number_up_to(u32::MAX)?;
        let mut end = start;
        for _ in 0..structs {
            let (length, skipped) = read_struct(reader)?;
            if skipped {
                if end > start {
                    each(Part::Written { client, start, end })?;
                }
                start = end.saturating_add(length);
                end = start;
            } else {
                end = end.saturating_add(length);
            }
        }
        if end > start {
            each(Part::Written { client, start, end })?;
        }
    }
    for _ in 0..reader.count()? {
        let client = reader.number()?;
        for _ in 0..reader.count()? {
            let start = reader.number_up_to(u32::MAX)?;
            let end = start.saturating_add(reader.number_up_to(u32::MAX)?);
            each(Part::Deleted { client, start, end })?;
        }
    }
    Ok(())
}

/// Reads over one struct; returns its length in clocks, and whether it only marks a gap.
fn read_struct(reader: &mut Reader<'_>) -> Result<(u32, bool), UpdateError> {
    let info = reader.byte()?;
    let kind = info & 0x1f;
    if matches!(kind, CONTENT_GC | CONTENT_SKIP) {
        return Ok((reader.number_up_to(u32::MAX)?, kind == CONTENT_SKIP));
    }
    for flag in [HAS_ORIGIN, HAS_RIGHT_ORIGIN] {
        if info & flag != 0 {
            reader.number()?;
            reader.number()?;
        }
    }
    if info & (HAS_ORIGIN | HAS_RIGHT_ORIGIN) == 0 {
        if reader.number()? == 1 {
            reader.buffer()?;
        } else {
            reader.number()?;
            reader.number()?;
        }
        if info & HAS_PARENT_KEY != 0 {
            reader.buffer()?;
        }
    }
    match kind {
        CONTENT_DELETED => Ok((reader.number_up_to(u32::MAX)?, false)),
        CONTENT_STRING => Ok((utf16_length(reader.buffer()?), false)),
        other => Err(UpdateError::ForeignContent(other)),
    }
}

/// How many UTF-16 units a text in UTF-8 has, which is what Yjs counts in.
pub(super) fn utf16_length(text: &[u8]) -> u32 {
    let units = |byte: &u8| match byte {
        0x80..0xc0 => 0,
        0xf0.. => 2,
        _ => 1,
    };
    match text {
        [_] => 1,
        _ => text.iter().map(units).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(update: &[u8]) -> Result<Vec<Part>, UpdateError> {
        let mut parts = Vec::new();
        read_update(update, |part| {
            parts.push(part);
            Ok(())
        })?;
        Ok(parts)
    }

    #[test]
    fn the_parts_of_an_update_are_those_that_were_written() {
        let first = Insertion {
            origin: None,
            right_origin: None,
            text: "ä",
        };
        let second = Insertion {
            origin: Some(7),
            right_origin: Some(3),
            text: "𝒳y",
        };
        let mut update = Vec::new();
        write_update(&mut update, 1 << 40, 7, &[first, second], &[(0, 2), (5, 1)]);
        assert_eq!(
            parts(&update),
            Ok(vec![
                Part::Written {
                    client: 1 << 40,
                    start: 7,
                    end: 11
                },
                Part::Deleted {
                    client: 1 << 40,
                    start: 0,
                    end: 2
                },
                Part::Deleted {
                    client: 1 << 40,
                    start: 5,
                    end: 6
                },
            ])
        );
    }

    #[test]
    fn a_gap_separates_two_parts() {
        // One client with three structs: a deleted run of two, a gap of five, one collected operation.
        let update = [
            1,
            3,
            9,
            4,
            CONTENT_DELETED | HAS_ORIGIN,
            9,
            3,
            2,
            CONTENT_SKIP,
            5,
            CONTENT_GC,
            1,
            0,
        ];
        assert_eq!(
            parts(&update),
            Ok(vec![
                Part::Written {
                    client: 9,
                    start: 4,
                    end: 6
                },
                Part::Written {
                    client: 9,
                    start: 11,
                    end: 12
                },
            ])
        );
    }

    #[test]
    fn what_is_not_text_is_refused() {
        let embed = 5;
        let update = [1, 1, 9, 0, embed, 1, 4, b't', b'e', b'x', b't', 2, b'{', b'}', 0];
        assert_eq!(parts(&update), Err(UpdateError::ForeignContent(embed)));
    }

    #[test]
    fn a_written_update_is_one_the_document_takes() {
        let mut document = crdt::Document::new(crdt::Limits::default());
        let mut update = Vec::new();
        let typed = Insertion {
            origin: None,
            right_origin: None,
            text: "page",
        };
        write_update(&mut update, 5, 0, &[typed], &[]);
        let typed = Insertion {
            origin: Some(1),
            right_origin: Some(2),
            text: "-",
        };
        let mut second = Vec::new();
        write_update(&mut second, 5, 4, &[typed], &[(0, 1)]);
        for bytes in [update, second] {
            let parsed =
                crdt::Update::parse(bytes.into(), &crdt::Limits::default()).expect("a well-formed update");
            assert!(matches!(document.admit(parsed), Ok(crdt::Admission::New(_))));
        }
        assert_eq!(
            document
                .content()
                .expect("content")
                .text(None)
                .expect("text")
                .as_deref(),
            Some("a-ge")
        );
    }
}
