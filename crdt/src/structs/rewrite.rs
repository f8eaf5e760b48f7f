//! Deleting within a block: the content of what is deleted goes, and what stays is cut where a range begins or ends.

use super::block::{Block, LARGE, Piece};
use crate::encoding::{Reader, Write};
use crate::id_set::ClockRange;
use crate::limits::Limits;
use crate::state_vector::ClientId;
use crate::update::{DELETED, GC, Id, Struct, read_struct, write_head, write_part};

/// A block in which ranges are being deleted.
struct Rewrite<'a> {
    client: ClientId,
    /// Those that end behind the struct that is being looked at.
    ranges: &'a [ClockRange],
    collect: bool,
    /// Blocks that have become full, and the one being written.
    full: Vec<Block>,
    block: Block,
}

/// The blocks that become of one in which ranges are deleted. See [`Blocks::delete`](super::blocks::Blocks::delete).
pub(super) fn rewritten(
    before: &Block,
    client: ClientId,
    ranges: &[ClockRange],
    collect: bool,
) -> Vec<Block> {
    let block = Block {
        start: before.start,
        ..Block::default()
    };
    let mut rewrite = Rewrite {
        client,
        ranges,
        collect,
        full: Vec::new(),
        block,
    };
    rewrite.run(before);
    let Rewrite { mut full, block, .. } = rewrite;
    full.push(block);
    full
}

impl Rewrite<'_> {
    fn run(&mut self, before: &Block) {
        before.each(|clock, at, read, until| {
            let bytes = before.bytes.get(at..until).unwrap_or_default();
            let end = clock + read.length;
            while let [range, rest @ ..] = self.ranges
                && range.end <= clock
            {
                self.ranges = rest;
            }
            match self.ranges.first() {
                Some(range) if range.start < end => self.cut(clock, end, bytes),
                _ => self.keep(clock, bytes, read, at),
            }
        });
    }

    /// Writes the parts of a struct, in each of which all or nothing is deleted.
    fn cut(&mut self, mut clock: u32, end: u32, bytes: &[u8]) {
        let mut rest = bytes.to_vec();
        let mut part = Vec::new();
        while clock < end {
            let Ok(read) = read_struct::<true>(&mut Reader::new(&rest), &Limits::trusted()) else {
                debug_assert!(false, "it was read before");
                return;
            };
            let place = (0, self.client, clock);
            let range = self.ranges.first().filter(|range| range.start < end);
            let start = range.map_or(end, |range| range.start.max(clock));
            let stop = range.map_or(end, |range| range.end.min(end));
            if start > clock {
                part.clear();
                write_part(&mut part, &rest, place, &read, (0, start - clock));
                self.keep_part(clock, &part);
            }
            if stop > start {
                part.clear();
                match read.kind() {
                    GC => part.put_byte(GC),
                    _ if self.collect => part.put_byte(GC),
                    _ => write_head(&mut part, &rest, place, &read, (start - clock, DELETED)),
                }
                part.put_number(u64::from(stop - start));
                self.keep_part(start, &part);
            }
            if stop < end {
                part.clear();
                write_part(&mut part, &rest, place, &read, (stop - clock, read.length));
                std::mem::swap(&mut rest, &mut part);
                self.ranges = self.ranges.get(1..).unwrap_or_default();
            }
            clock = stop;
        }
    }

    fn keep_part(&mut self, clock: u32, bytes: &[u8]) {
        if let Ok(read) = read_struct::<true>(&mut Reader::new(bytes), &Limits::trusted()) {
            self.keep(clock, bytes, &read, 0);
        }
    }

    fn keep(&mut self, clock: u32, bytes: &[u8], read: &Struct<'_>, at: usize) {
        let follows = clock.checked_sub(1).map(|clock| Id {
            client: self.client,
            clock,
        });
        let piece = Piece {
            clock,
            kind: read.kind(),
            right_origin: read.right_origin,
            joins: read.kind() == GC || (read.kind() == DELETED && read.origin == follows),
            bytes,
            content: read.content - at,
        };
        if piece.joins && self.block.count > 0 && self.block.join(&piece) {
            return;
        }
        if self.block.count > 0 && self.block.bytes.len() + bytes.len() > LARGE {
            let next = Block {
                start: clock,
                ..Block::default()
            };
            self.full.push(std::mem::replace(&mut self.block, next));
        }
        self.block.push(&piece);
    }
}
