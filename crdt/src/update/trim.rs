//! Writes the part of an update that begins at given clocks, cutting a struct in two where it must.

use bytes::Bytes;

use super::structs::{HAS_KEY, HAS_ORIGIN, HAS_RIGHT_ORIGIN, KIND, Struct, skip_any};
use super::{ANY, DELETED, GC, JSON, STRING, Section, Update, read_struct};
use crate::encoding::{Reader, Write};
use crate::error::DecodeError;
use crate::id_set::{IdRange, write_delete_set};
use crate::limits::Limits;
use crate::state_vector::StateVector;

/// A section to keep, and from which clock on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keep {
    pub(crate) section: usize,
    pub(crate) from: u32,
    pub(crate) in_list: bool,
}

/// The kept part of an update with these deletes, or with its own when `None`.
pub(crate) fn trimmed(update: &Update, keep: &[Keep], deletes: Option<&[IdRange]>) -> Update {
    let mut out = Vec::with_capacity(update.len() + 16);
    out.put_number(keep.len() as u64);
    let sections = keep
        .iter()
        .filter_map(|keep| {
            let section = update.sections().get(keep.section)?;
            let written = write_section(
                &mut out,
                update.bytes(),
                section,
                keep.from,
                update.must_rewrite(),
            );
            Some(Section {
                in_list: keep.in_list,
                ..written
            })
        })
        .collect();
    let deletes_at = out.len() as u32;
    let delete_ranges = match deletes {
        Some(deletes) => {
            write_delete_set(&mut out, deletes);
            deletes.len() as u32
        }
        None => {
            out.put_raw(update.delete_set_bytes());
            update.delete_range_count() as u32
        }
    };
    Update {
        bytes: Bytes::from(out),
        sections,
        deletes_at,
        delete_ranges,
        must_rewrite: false,
    }
}

/// What a replica with this state vector lacks of a whole document, with all its deletes as Yjs does.
pub(crate) fn diff(document: &Update, known: &StateVector) -> Bytes {
    let keep: Vec<_> = (document.sections().iter().enumerate())
        .filter_map(|(section, range)| {
            let from = known.get(range.client).max(range.start);
            (from < range.end).then_some(Keep {
                section,
                from,
                in_list: false,
            })
        })
        .collect();
    trimmed(document, &keep, None).bytes
}

/// Writes a section from clock `from` on. With `rewrite`, content kinds that are passed on in another form are.
pub(super) fn write_section(
    out: &mut Vec<u8>,
    bytes: &[u8],
    section: &Section,
    from: u32,
    rewrite: bool,
) -> Section {
    let start = from.max(section.start);
    let limits = Limits::trusted();
    let mut reader = Reader::starting_at(bytes, section.first as usize);
    let mut clock = section.start;
    let mut count = section.count;
    let mut cut = None;
    while clock < start {
        let at = reader.position();
        let Ok(read) = read_struct::<true>(&mut reader, &limits) else {
            break;
        };
        if clock + read.length > start {
            cut = Some((at, reader.position(), read, start - clock));
            break;
        }
        clock += read.length;
        count -= 1;
    }
    out.put_number(u64::from(count));
    out.put_number(section.client.0);
    out.put_number(u64::from(start));
    let first = out.len() as u32;
    let mut last = first;
    if let Some((_, _, read, offset)) = &cut {
        write_cut_struct(out, bytes, read, section.client.0, clock, *offset);
    }
    let rest = reader.position();
    if rewrite {
        while reader.position() < section.until as usize {
            let at = reader.position();
            let Ok(read) = read_struct::<true>(&mut reader, &limits) else {
                break;
            };
            last = out.len() as u32;
            match read.kind() {
                JSON => write_json_as_any(out, bytes, at, &read, 0),
                _ => out.put_raw(bytes.get(at..reader.position()).unwrap_or_default()),
            }
        }
    } else {
        if rest <= section.last as usize {
            last = out.len() as u32 + (section.last - rest as u32);
        }
        out.put_raw(bytes.get(rest..section.until as usize).unwrap_or_default());
    }
    Section {
        client: section.client,
        start,
        end: section.end,
        count,
        first,
        last,
        until: out.len() as u32,
        in_list: section.in_list && start == section.start,
        has_holes: section.has_holes,
    }
}

/// Writes the right part of a struct that is cut `offset` ticks after its start. The part cut off becomes its origin,
/// from which it inherits where it belongs.
fn write_cut_struct(
    out: &mut Vec<u8>,
    bytes: &[u8],
    read: &Struct<'_>,
    client: u64,
    clock: u32,
    offset: u32,
) {
    let length = read.length - offset;
    if read.kind() == GC {
        out.put_byte(GC);
        out.put_number(u64::from(length));
        return;
    }
    let kind = if read.kind() == JSON { ANY } else { read.kind() };
    out.put_byte((read.info & (HAS_RIGHT_ORIGIN | HAS_KEY)) | HAS_ORIGIN | (kind & KIND));
    out.put_number(client);
    out.put_number(u64::from(clock + offset - 1));
    if let Some(right) = read.right_origin {
        out.put_number(right.client.0);
        out.put_number(u64::from(right.clock));
    }
    let mut reader = Reader::starting_at(bytes, read.content);
    match read.kind() {
        DELETED => out.put_number(u64::from(length)),
        STRING => {
            if let Ok(text) = reader.string() {
                write_text_from(out, text, offset);
            }
        }
        ANY => {
            let written = copy_values_from(out, &mut reader, bytes, read.length, offset);
            debug_assert!(
                written.is_ok(),
                "the values were checked when the update was parsed"
            );
        }
        JSON => write_values_from_json(out, &mut reader, read.length, offset),
        _ => debug_assert!(false, "only content of more than one tick can be cut"),
    }
}

/// Writes a text without its first `offset` UTF-16 units. When that cuts a character that takes two, the rest of it
/// becomes U+FFFD, as in Yjs.
fn write_text_from(out: &mut Vec<u8>, text: &str, offset: u32) {
    let mut units = 0;
    for (at, character) in text.char_indices() {
        if units >= offset {
            out.put_string(text.get(at..).unwrap_or_default());
            return;
        }
        units += character.len_utf16() as u32;
        if units > offset {
            let rest = text.get(at + character.len_utf8()..).unwrap_or_default();
            out.put_string(&format!("{}{rest}", char::REPLACEMENT_CHARACTER));
            return;
        }
    }
    debug_assert!(false, "a text is cut inside");
}

fn copy_values_from(
    out: &mut Vec<u8>,
    reader: &mut Reader<'_>,
    bytes: &[u8],
    count: u32,
    offset: u32,
) -> Result<(), DecodeError> {
    let depth = Limits::trusted().max_any_depth;
    reader.count()?;
    for _ in 0..offset {
        skip_any(reader, depth)?;
    }
    let start = reader.position();
    for _ in offset..count {
        skip_any(reader, depth)?;
    }
    out.put_number(u64::from(count - offset));
    out.put_raw(bytes.get(start..reader.position()).unwrap_or_default());
    Ok(())
}

/// The document library misreads the obsolete JSON content (it takes one value too many), so it is passed on as the
/// plain values it stands for. Lengths, and what programs see, are the same.
fn write_json_as_any(out: &mut Vec<u8>, bytes: &[u8], at: usize, read: &Struct<'_>, offset: u32) {
    out.put_byte((read.info & !KIND) | ANY);
    out.put_raw(bytes.get(at + 1..read.content).unwrap_or_default());
    let mut reader = Reader::starting_at(bytes, read.content);
    write_values_from_json(out, &mut reader, read.length, offset);
}

fn write_values_from_json(out: &mut Vec<u8>, reader: &mut Reader<'_>, count: u32, offset: u32) {
    out.put_number(u64::from(count - offset));
    let read = reader.count();
    debug_assert!(read.is_ok(), "the values were checked when the update was parsed");
    for index in 0..count {
        let text = reader.string().unwrap_or_default();
        if index < offset {
            continue;
        }
        let value = match text {
            "undefined" => yrs::Any::Undefined,
            text => yrs::Any::from_json(text).unwrap_or(yrs::Any::Null),
        };
        value.encode(out);
    }
}
