//! Writes the part of an update that begins at given clocks, cutting a struct in two where it must.

use bytes::Bytes;

use super::merge::each_run;
use super::structs::{HAS_KEY, HAS_ORIGIN, HAS_RIGHT_ORIGIN, Id, KIND, Struct, skip_any};
use super::{ANY, DELETED, GC, JSON, STRING, Section, Update, read_struct};
use crate::encoding::{Reader, Write};
use crate::error::DecodeError;
use crate::id_set::{IdRange, write_delete_set};
use crate::limits::Limits;
use crate::state_vector::{ClientId, StateVector};

/// A section, or consecutive structs of one, to keep from a clock on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keep {
    pub(crate) section: Section,
    pub(crate) from: u32,
}

impl Keep {
    pub(crate) fn whole(section: &Section) -> Self {
        Self {
            section: *section,
            from: section.start,
        }
    }
}

/// The kept part of an update with these deletes, or with its own when `None`.
pub(crate) fn trimmed(update: &Update, keep: &[Keep], deletes: Option<&[IdRange]>) -> Update {
    // Of one update there may be very many parts at once.
    let kept: usize = keep
        .iter()
        .map(|keep| (keep.section.until - keep.section.first) as usize + 32)
        .sum();
    let deleted = deletes.map_or(update.delete_set_bytes().len(), |deletes| 16 * deletes.len());
    crate::work::steps((kept + deleted).min(update.len()));
    let mut out = Vec::with_capacity((kept + deleted).min(update.len()) + 32);
    out.put_number(keep.len() as u64);
    let sections = keep
        .iter()
        .map(|keep| Section {
            in_list: keep.section.in_list,
            ..write_section(&mut out, update.bytes(), &keep.section, keep.from)
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

/// An update without the structs that a replica with this state vector has, with all its deletes as Yjs does.
pub(crate) fn rest(update: &Update, known: &StateVector) -> Update {
    let keep: Vec<_> = (update.sections().iter())
        .filter_map(|section| {
            let known = known.get(section.client);
            let from = match section.has_holes {
                false => (section.end > known).then(|| section.start.max(known))?,
                true => starts_after_hole(update, section, known)?,
            };
            let section = *section;
            Some(Keep { section, from })
        })
        .collect();
    trimmed(update, &keep, None)
}

/// The update without the right origins of some structs, each of which has an origin.
///
/// # Errors
/// When the update cannot be read, which was checked before.
pub(crate) fn without_right_origins(
    update: &Update,
    is_meant: impl Fn(Id) -> bool,
) -> Result<Update, DecodeError> {
    let bytes = update.bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut copied = 0;
    let mut copy_until = |out: &mut Vec<u8>, until: usize, then_from: usize| {
        out.put_raw(bytes.get(copied..until).unwrap_or_default());
        copied = then_from;
    };
    for section in update.sections() {
        let client = section.client;
        let mut clock = section.start;
        let mut reader = Reader::starting_at(bytes, section.first as usize);
        for _ in 0..section.count {
            let at = reader.position();
            let read = read_struct::<true>(&mut reader, &Limits::trusted())?;
            if let Some(origin) = read.origin
                && is_meant(Id { client, clock })
            {
                copy_until(&mut out, at, read.content);
                out.put_byte(read.info & !HAS_RIGHT_ORIGIN);
                out.put_number(origin.client.0);
                out.put_number(u64::from(origin.clock));
            }
            clock += read.length;
        }
    }
    copy_until(&mut out, bytes.len(), bytes.len());
    Update::parse(Bytes::from(out), &Limits::trusted())
}

/// The first clock from `known` on of which a section with gaps says something.
fn starts_after_hole(update: &Update, section: &Section, known: u32) -> Option<u32> {
    let mut from = None;
    each_run(update, section, |run| {
        if run.end > known {
            from.get_or_insert(run.start.max(known));
        }
    });
    from
}

/// Writes a section from clock `from` on; says where everything is in `out`.
pub(crate) fn write_section(out: &mut Vec<u8>, bytes: &[u8], section: &Section, from: u32) -> Section {
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
            cut = Some((at, read, start - clock));
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
    if let Some((at, read, offset)) = &cut {
        write_part(
            out,
            bytes,
            (*at, section.client, clock),
            read,
            (*offset, read.length),
        );
    }
    let rest = reader.position();
    if rest <= section.last as usize {
        last = out.len() as u32 + (section.last - rest as u32);
    }
    out.put_raw(bytes.get(rest..section.until as usize).unwrap_or_default());
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

/// Writes the ticks `from..until` of a struct that begins at `at` in `bytes` and at `clock`. When its start is cut off, that becomes
/// its origin, from which it inherits where it belongs.
pub(crate) fn write_part(
    out: &mut Vec<u8>,
    bytes: &[u8],
    (at, client, clock): (usize, ClientId, u32),
    read: &Struct<'_>,
    (from, until): (u32, u32),
) {
    let length = until - from;
    if read.kind() == GC {
        out.put_byte(GC);
        out.put_number(u64::from(length));
        return;
    }
    write_head(out, bytes, (at, client, clock), read, (from, read.kind()));
    let mut reader = Reader::starting_at(bytes, read.content);
    match read.kind() {
        DELETED => out.put_number(u64::from(length)),
        STRING => {
            let until = (until < read.length).then_some(until);
            write_text_part(out, reader.string().unwrap_or_default(), from, until);
        }
        ANY | JSON => {
            let written = copy_values(out, &mut reader, read.kind(), from, until);
            debug_assert!(
                written.is_ok(),
                "the values were checked when the update was parsed"
            );
        }
        _ => debug_assert!(false, "only content of more than one tick can be cut"),
    }
}

/// Writes the head of the part of a struct that begins `from` ticks after its start, with content of `kind`.
pub(crate) fn write_head(
    out: &mut Vec<u8>,
    bytes: &[u8],
    (at, client, clock): (usize, ClientId, u32),
    read: &Struct<'_>,
    (from, kind): (u32, u8),
) {
    if from == 0 {
        out.put_byte((read.info & !KIND) | kind);
        out.put_raw(bytes.get(at + 1..read.content).unwrap_or_default());
        return;
    }
    out.put_byte((read.info & (HAS_RIGHT_ORIGIN | HAS_KEY)) | HAS_ORIGIN | kind);
    out.put_number(client.0);
    out.put_number(u64::from(clock + from - 1));
    if let Some(right) = read.right_origin {
        out.put_number(right.client.0);
        out.put_number(u64::from(right.clock));
    }
}

/// Writes the UTF-16 units `from..until`, or all from `from` on, of a text. A character of two units that is cut becomes U+FFFD on each side, as in Yjs.
fn write_text_part(out: &mut Vec<u8>, text: &str, from: u32, until: Option<u32>) {
    let (start, cut_before) = byte_position(text, from);
    let (end, cut_behind) = until.map_or((text.len(), false), |until| byte_position(text, until));
    let replacement = char::REPLACEMENT_CHARACTER.len_utf8();
    // Of a character that is cut, `byte_position` gives the end.
    let end = match cut_behind {
        true => end - 4,
        false => end,
    };
    let whole = text.get(start..end.max(start)).unwrap_or_default();
    let length = whole.len() + replacement * (usize::from(cut_before) + usize::from(cut_behind));
    out.put_number(length as u64);
    let put_replacement = |out: &mut Vec<u8>| {
        out.put_raw(char::REPLACEMENT_CHARACTER.encode_utf8(&mut [0; 4]).as_bytes());
    };
    if cut_before {
        put_replacement(out);
    }
    out.put_raw(whole.as_bytes());
    if cut_behind {
        put_replacement(out);
    }
}

/// Where the UTF-16 unit `units` of a text begins. When that is inside a character, where that ends, and `true`.
fn byte_position(text: &str, units: u32) -> (usize, bool) {
    let mut seen = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte & 0xc0 == 0x80 {
            continue;
        }
        if seen >= units {
            // One unit too many: the character before was cut.
            return (at, seen > units);
        }
        seen += 1 + u32::from(byte >= 0xf0);
    }
    (text.len(), seen > units)
}

/// Copies the values `from..until` of plain or JSON content.
fn copy_values(
    out: &mut Vec<u8>,
    reader: &mut Reader<'_>,
    kind: u8,
    from: u32,
    until: u32,
) -> Result<(), DecodeError> {
    let depth = Limits::trusted().max_any_depth;
    let skip = |reader: &mut Reader<'_>| match kind {
        ANY => skip_any(reader, depth),
        _ => Ok(reader.buffer().map(drop)?),
    };
    reader.count()?;
    for _ in 0..from {
        skip(reader)?;
    }
    let start = reader.clone();
    for _ in from..until {
        skip(reader)?;
    }
    out.put_number(u64::from(until - from));
    let length = reader.position() - start.position();
    out.put_raw(start.clone().exactly(length)?);
    Ok(())
}
