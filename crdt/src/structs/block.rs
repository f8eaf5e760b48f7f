//! A block: some of one client's structs as they are written in an update.

use crate::encoding::{Reader, number_length};
use crate::limits::Limits;
use crate::update::{ANY, Id, STRING, Struct, read_head, read_struct};

/// A block of this many bytes gets no further struct. Small enough to walk for every keystroke, large enough that what is noted about a
/// block is little beside it.
pub(super) const FULL: usize = 1024;
/// A struct of more bytes is kept in pieces, where its content can be cut.
pub(super) const LARGE: usize = 2 * FULL;

/// Some of one client's structs, whole, one after the other.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// The clock of the first struct.
    pub(super) start: u32,
    pub(super) count: u32,
    /// Byte position of the last struct.
    pub(super) last: u32,
    pub(super) bytes: Vec<u8>,
}

/// A struct on its way into a block.
pub(super) struct Piece<'a> {
    pub(super) clock: u32,
    pub(super) kind: u8,
    pub(super) right_origin: Option<Id>,
    /// It may become one with the struct before when that is of the same kind and has the same right origin.
    pub(super) joins: bool,
    pub(super) bytes: &'a [u8],
    /// Where in the bytes its content begins.
    pub(super) content: usize,
}

impl Block {
    /// Adds it behind the last struct.
    pub(super) fn push(&mut self, piece: &Piece<'_>) {
        self.last = self.bytes.len() as u32;
        self.count += 1;
        self.bytes.extend_from_slice(piece.bytes);
    }

    /// Makes the piece part of the last struct, if it continues that.
    pub(super) fn join(&mut self, piece: &Piece<'_>) -> bool {
        let mut reader = Reader::starting_at(&self.bytes, self.last as usize);
        let Ok(last) = read_head(&mut reader) else {
            return false;
        };
        if last.kind() != piece.kind || last.right_origin != piece.right_origin {
            return false;
        }
        let content = last.content;
        let Ok(length) = reader.number() else { return false };
        let values = reader.position();
        let mut piece_reader = Reader::starting_at(piece.bytes, piece.content);
        let Ok(added) = piece_reader.number() else {
            return false;
        };
        // A count of bytes, of values, or of ticks: each is the sum.
        let total = length + added;
        let grows = number_length(total) - (values - content);
        if grows > 0 {
            self.bytes
                .splice(content..values, std::iter::repeat_n(0, values - content + grows));
        }
        if let Some(place) = self.bytes.get_mut(content..values + grows) {
            write_number(place, total);
        }
        if matches!(piece.kind, STRING | ANY) {
            let rest = piece.bytes.get(piece_reader.position()..).unwrap_or_default();
            self.bytes.extend_from_slice(rest);
        }
        true
    }

    /// Calls `found` with each struct's clock, where it begins, what it is and where it ends.
    pub(super) fn each(&self, mut found: impl FnMut(u32, usize, &Struct<'_>, usize)) {
        let limits = Limits::trusted();
        let mut reader = Reader::new(&self.bytes);
        let mut clock = self.start;
        while !reader.is_at_end() {
            let at = reader.position();
            let Ok(read) = read_struct::<true>(&mut reader, &limits) else {
                debug_assert!(false, "the structs were checked when the update was parsed");
                return;
            };
            found(clock, at, &read, reader.position());
            clock += read.length;
        }
    }
}

/// Writes a number over as many bytes as it takes.
fn write_number(place: &mut [u8], mut number: u64) {
    let last = place.len().saturating_sub(1);
    for (index, byte) in place.iter_mut().enumerate() {
        *byte = (number & 0x7f) as u8 | if index < last { 0x80 } else { 0 };
        number >>= 7;
    }
}
