//! Reads one struct of a v1 update: the unit of change, with its author's clock implied by its place.
//!
//! ```text
//! info      bits 0-4 kind · bit 5 has a key · bit 6 has a right origin · bit 7 has an origin
//! origin    client, clock      when bit 7        (the id it was inserted after)
//! right     client, clock      when bit 6        (the id it was inserted before)
//! parent    1, name | 0, id    when neither      (a root type or the id of a nested one)
//! key       string             when neither, and bit 5
//! content   by kind; its length in clock ticks is implied by the content
//! ```
//! A garbage-collected struct (kind 0) and a skip (kind 10) have only a length.

use crate::encoding::{ReadError, Reader};
use crate::error::DecodeError;
use crate::limits::Limits;
use crate::state_vector::{ClientId, MAX_CLOCK};

pub(crate) const GC: u8 = 0;
pub(crate) const DELETED: u8 = 1;
pub(crate) const JSON: u8 = 2;
pub(crate) const BINARY: u8 = 3;
pub(crate) const STRING: u8 = 4;
pub(crate) const EMBED: u8 = 5;
pub(crate) const FORMAT: u8 = 6;
pub(crate) const TYPE: u8 = 7;
pub(crate) const ANY: u8 = 8;
pub(crate) const DOC: u8 = 9;
pub(crate) const SKIP: u8 = 10;

pub(crate) const KIND: u8 = 0b0001_1111;
pub(crate) const HAS_KEY: u8 = 0b0010_0000;
pub(crate) const HAS_RIGHT_ORIGIN: u8 = 0b0100_0000;
pub(crate) const HAS_ORIGIN: u8 = 0b1000_0000;

/// Type references that are followed by a name: of an XML element, and of a hook.
const XML_ELEMENT: u8 = 3;
const XML_HOOK: u8 = 5;
const XML_TEXT: u8 = 6;

/// The identity of one clock tick of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(crate) client: ClientId,
    pub(crate) clock: u32,
}

/// Where a struct without neighbours goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parent<'a> {
    Root(&'a str),
    Nested(Id),
}

/// One struct, without its content, which begins at `content` in the bytes it was read from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Struct<'a> {
    pub(crate) info: u8,
    pub(crate) origin: Option<Id>,
    pub(crate) right_origin: Option<Id>,
    pub(crate) parent: Option<Parent<'a>>,
    pub(crate) key: Option<&'a str>,
    /// In clock ticks.
    pub(crate) length: u32,
    /// Byte position of the content.
    pub(crate) content: usize,
    /// Whether the content is a shared type of the XML family.
    pub(crate) is_xml: bool,
}

impl Struct<'_> {
    #[inline]
    pub(crate) fn kind(&self) -> u8 {
        self.info & KIND
    }
}

/// Reads what stands before the content of a struct. A collected struct and a skip have their length as content.
#[inline]
pub(crate) fn read_head<'a>(reader: &mut Reader<'a>) -> Result<Struct<'a>, DecodeError> {
    crate::work::steps(1);
    let info = reader.byte()?;
    let mut read = Struct {
        info,
        origin: None,
        right_origin: None,
        parent: None,
        key: None,
        length: 1,
        content: reader.position(),
        is_xml: false,
    };
    if info == GC || info == SKIP {
        return Ok(read);
    }
    if info & HAS_ORIGIN != 0 {
        read.origin = Some(read_id(reader)?);
    }
    if info & HAS_RIGHT_ORIGIN != 0 {
        read.right_origin = Some(read_id(reader)?);
    }
    if info & (HAS_ORIGIN | HAS_RIGHT_ORIGIN) == 0 {
        read.parent = Some(read_parent(reader)?);
        if info & HAS_KEY != 0 {
            read.key = Some(reader.string()?);
        }
    }
    read.content = reader.position();
    Ok(read)
}

/// Reads a struct and checks all of it.
///
/// With `TRUSTED`, for bytes that passed once, the parts whose inside does not matter are skipped over.
#[inline]
pub(crate) fn read_struct<'a, const TRUSTED: bool>(
    reader: &mut Reader<'a>,
    limits: &Limits,
) -> Result<Struct<'a>, DecodeError> {
    let position = reader.position();
    let mut read = read_head(reader)?;
    if read.info == GC || read.info == SKIP {
        read.length = length(reader)?;
        return Ok(read);
    }
    match read.info & KIND {
        STRING => read.length = string_length::<TRUSTED>(reader)?,
        DELETED => read.length = length(reader)?,
        ANY => {
            read.length = values_count(reader)?;
            for _ in 0..read.length {
                skip_any(reader, limits.max_any_depth)?;
            }
        }
        // What is JSON here is passed on as it came: only who reads the page has to understand it.
        FORMAT => {
            skip_string::<TRUSTED>(reader)?;
            skip_string::<TRUSTED>(reader)?;
        }
        TYPE => read.is_xml = skip_type_reference(reader)?,
        EMBED => skip_string::<TRUSTED>(reader)?,
        BINARY => {
            reader.buffer()?;
        }
        JSON => {
            read.length = values_count(reader)?;
            for _ in 0..read.length {
                skip_string::<TRUSTED>(reader)?;
            }
        }
        DOC => {
            reader.string()?;
            skip_any(reader, limits.max_any_depth)?;
        }
        tag => {
            return Err(DecodeError::UnknownTag {
                what: "struct",
                tag,
                position,
            });
        }
    }
    Ok(read)
}

#[inline]
pub(crate) fn read_id(reader: &mut Reader<'_>) -> Result<Id, ReadError> {
    let client = ClientId(reader.number()?);
    let clock = reader.number_up_to(MAX_CLOCK - 1)?;
    Ok(Id { client, clock })
}

fn read_parent<'a>(reader: &mut Reader<'a>) -> Result<Parent<'a>, DecodeError> {
    let position = reader.position();
    match reader.byte()? {
        1 => Ok(Parent::Root(reader.string()?)),
        0 => Ok(Parent::Nested(read_id(reader)?)),
        tag => Err(DecodeError::UnknownTag {
            what: "parent",
            tag,
            position,
        }),
    }
}

/// A length in clock ticks that stands for itself, not for things that follow.
#[inline]
fn length(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let position = reader.position();
    match reader.number_up_to(MAX_CLOCK)? {
        0 => Err(DecodeError::Empty { position }),
        length => Ok(length),
    }
}

/// A count of values that follow.
fn values_count(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let position = reader.position();
    let count = reader.count()?;
    match u32::try_from(count) {
        Ok(0) => Err(DecodeError::Empty { position }),
        Ok(count) if count <= MAX_CLOCK => Ok(count),
        _ => Err(ReadError::InvalidNumber { position }.into()),
    }
}

#[inline]
fn string_length<const TRUSTED: bool>(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let position = reader.position();
    let text = if TRUSTED {
        reader.buffer()?
    } else {
        reader.string()?.as_bytes()
    };
    match u32::try_from(utf16_length(text)) {
        Ok(0) => Err(DecodeError::Empty { position }),
        Ok(length) if length <= MAX_CLOCK => Ok(length),
        _ => Err(ReadError::InvalidNumber { position }.into()),
    }
}

/// How many UTF-16 code units a UTF-8 text has, which is how Yjs counts: one for each character, two for those that
/// take four bytes.
#[inline]
pub(crate) fn utf16_length(text: &[u8]) -> usize {
    text.iter()
        .map(|&byte| usize::from(byte & 0xc0 != 0x80) + usize::from(byte >= 0xf0))
        .sum()
}

#[inline]
fn skip_string<const TRUSTED: bool>(reader: &mut Reader<'_>) -> Result<(), ReadError> {
    if TRUSTED {
        reader.buffer().map(drop)
    } else {
        reader.string().map(drop)
    }
}

/// Says whether the type belongs to the XML family.
fn skip_type_reference(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
    let position = reader.position();
    match reader.byte()? {
        0..=2 => Ok(false),
        XML_ELEMENT | XML_HOOK => {
            reader.string()?;
            Ok(true)
        }
        4 | XML_TEXT => Ok(true),
        tag => Err(DecodeError::UnknownTag {
            what: "shared type",
            tag,
            position,
        }),
    }
}

/// Steps over one plain value: a tag, then what it says. Arrays and maps are walked with a list of how many values
/// are still to come at each level, so that nothing recurses.
pub(crate) fn skip_any(reader: &mut Reader<'_>, max_depth: u16) -> Result<(), DecodeError> {
    let mut open: smallvec::SmallVec<[(usize, bool); 8]> = smallvec::SmallVec::new();
    loop {
        let position = reader.position();
        match reader.byte()? {
            // Undefined, null, false, true.
            127 | 126 | 121 | 120 => {}
            125 => drop(reader.signed_number()?),
            124 => drop(reader.exactly(4)?),
            123 | 122 => drop(reader.exactly(8)?),
            119 => drop(reader.string()?),
            116 => drop(reader.buffer()?),
            tag @ (117 | 118) => {
                if open.len() >= usize::from(max_depth) {
                    return Err(DecodeError::ValueTooDeep { limit: max_depth });
                }
                open.push((reader.count()?, tag == 118));
            }
            tag => {
                return Err(DecodeError::UnknownTag {
                    what: "value",
                    tag,
                    position,
                });
            }
        }
        loop {
            match open.last_mut() {
                None => return Ok(()),
                Some((0, _)) => drop(open.pop()),
                Some((left, is_map)) => {
                    *left -= 1;
                    if *is_map {
                        reader.string()?;
                    }
                    break;
                }
            }
        }
    }
}
