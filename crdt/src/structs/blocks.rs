//! One client's structs in the order of their clocks, as bytes in blocks of about a kibibyte.
//!
//! A block holds whole structs as they are written in an update. Finding a clock takes a search over the blocks and a walk through
//! one; adding at the end, deleting and cutting rewrite one block, so each takes bounded time whatever the page's size. Long texts
//! and lists are kept in pieces, each of which names the one before as its origin, and are put together again when they leave.

use std::collections::BTreeMap;

use crate::encoding::{Reader, Write, number_length};
use crate::id_set::ClockRange;
use crate::limits::Limits;
use crate::state_vector::ClientId;
use crate::update::{
    ANY, DELETED, GC, Id, JSON, STRING, Section, SectionIn, Struct, read_head, read_struct, utf16_length,
    write_head, write_part,
};

/// A block of this many bytes gets no further struct. Small enough to walk for every keystroke, large enough that what is noted about a
/// block is little beside it.
const FULL: usize = 1024;
/// A struct of more bytes is kept in pieces, where its content can be cut.
const LARGE: usize = 2 * FULL;

#[derive(Debug, Default)]
struct Block {
    /// The clock of the first struct.
    start: u32,
    count: u32,
    /// Byte position of the last struct.
    last: u32,
    bytes: Vec<u8>,
}

/// A struct on its way into a block.
struct Piece<'a> {
    clock: u32,
    kind: u8,
    right_origin: Option<Id>,
    /// It may become one with the struct before when that is of the same kind and has the same right origin.
    joins: bool,
    bytes: &'a [u8],
    /// Where in the bytes its content begins.
    content: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Blocks {
    /// All but the last, by their first clocks: putting one between others moves none of them.
    full: BTreeMap<u32, Block>,
    /// Where the next struct goes, if it fits.
    last: Block,
    end: u32,
}

impl Blocks {
    /// Adds the structs of a section from clock `from` on, which is where the last ones end. `in_list` says of a clock whether what is
    /// there is in a list. Calls `found` for each struct that is deleted already.
    pub(crate) fn append(
        &mut self,
        bytes: &[u8],
        section: &Section,
        from: u32,
        in_list: impl Fn(u32) -> bool,
        mut found_deleted: impl FnMut(ClockRange),
    ) {
        let limits = Limits::trusted();
        let mut reader = Reader::starting_at(bytes, section.first as usize);
        let mut clock = section.start;
        for _ in 0..section.count {
            let at = reader.position();
            let Some(read) = self.read_lone_or_any(&mut reader, section, &limits) else {
                debug_assert!(false, "the structs were checked when the update was parsed");
                break;
            };
            let end = clock + read.length;
            if end > from && read.kind() != crate::update::SKIP {
                let start = clock.max(from);
                if matches!(read.kind(), GC | DELETED) {
                    found_deleted(ClockRange { start, end });
                }
                if start > clock {
                    let mut part = Vec::new();
                    write_part(
                        &mut part,
                        bytes,
                        (at, section.client, clock),
                        &read,
                        (start - clock, read.length),
                    );
                    if let Ok(read) = read_struct::<true>(&mut Reader::new(&part), &limits) {
                        self.push(section.client, start, (&part, 0, part.len()), &read, &in_list);
                    }
                } else {
                    self.push(
                        section.client,
                        start,
                        (bytes, at, reader.position()),
                        &read,
                        &in_list,
                    );
                }
                self.end = end;
            }
            clock = end;
        }
    }

    /// Reads a struct. The length of a lone one is that of its section: its text need not be counted again.
    fn read_lone_or_any<'a>(
        &self,
        reader: &mut Reader<'a>,
        section: &Section,
        limits: &Limits,
    ) -> Option<Struct<'a>> {
        if section.count == 1 {
            let mut read = read_head(reader).ok()?;
            read.length = section.end - section.start;
            reader
                .exactly((section.until as usize).checked_sub(reader.position())?)
                .ok()?;
            return Some(read);
        }
        read_struct::<true>(reader, limits).ok()
    }

    fn push(
        &mut self,
        client: ClientId,
        clock: u32,
        (bytes, at, until): (&[u8], usize, usize),
        read: &Struct<'_>,
        in_list: impl Fn(u32) -> bool,
    ) {
        let kind = read.kind();
        let follows = read.origin == clock.checked_sub(1).map(|clock| Id { client, clock });
        let joins = match kind {
            GC => true,
            DELETED => follows,
            // Under a key of a map a later value replaces an earlier one, so they must not become one.
            STRING | ANY => follows && in_list(clock),
            _ => false,
        };
        if until - at > LARGE && read.length > 1 && matches!(kind, STRING | ANY | JSON) {
            self.push_in_pieces(client, clock, (bytes, at, until), read);
            return;
        }
        self.push_piece(&Piece {
            clock,
            kind,
            right_origin: read.right_origin,
            joins,
            bytes: bytes.get(at..until).unwrap_or_default(),
            content: read.content - at,
        });
    }

    fn push_in_pieces(
        &mut self,
        client: ClientId,
        clock: u32,
        (bytes, at, until): (&[u8], usize, usize),
        read: &Struct<'_>,
    ) {
        let mut reader = Reader::starting_at(bytes, read.content);
        let mut offset = 0;
        let mut out = Vec::with_capacity(LARGE);
        while offset < read.length {
            out.clear();
            write_head(&mut out, bytes, (at, client, clock), read, (offset, read.kind()));
            let content = out.len();
            let ticks = match read.kind() {
                STRING => {
                    if offset == 0 && reader.count().is_err() {
                        return;
                    }
                    let rest = bytes.get(reader.position()..until).unwrap_or_default();
                    let text = rest.get(..text_piece(rest)).unwrap_or_default();
                    out.put_buffer(text);
                    let _ = reader.exactly(text.len());
                    utf16_length(text) as u32
                }
                kind => {
                    if offset == 0 && reader.count().is_err() {
                        return;
                    }
                    let start = reader.position();
                    let mut ticks = 0;
                    while offset + ticks < read.length && reader.position() - start < FULL {
                        let skipped = match kind {
                            ANY => crate::update::skip_any(&mut reader, u16::MAX),
                            _ => reader.buffer().map(drop).map_err(Into::into),
                        };
                        if skipped.is_err() {
                            return;
                        }
                        ticks += 1;
                    }
                    out.put_number(u64::from(ticks));
                    out.put_raw(bytes.get(start..reader.position()).unwrap_or_default());
                    ticks
                }
            };
            if ticks == 0 {
                debug_assert!(false, "a piece has content");
                return;
            }
            self.push_piece(&Piece {
                clock: clock + offset,
                kind: read.kind(),
                right_origin: read.right_origin,
                joins: false,
                bytes: &out,
                content,
            });
            offset += ticks;
        }
    }

    fn push_piece(&mut self, piece: &Piece<'_>) {
        let last = &mut self.last;
        let fits = last.bytes.len() + piece.bytes.len() <= FULL;
        if last.count == 0 {
            last.start = piece.clock;
        } else if !fits {
            last.bytes.shrink_to_fit();
            let next = Block {
                start: piece.clock,
                ..Block::default()
            };
            let full = std::mem::replace(last, next);
            self.full.insert(full.start, full);
        } else if piece.joins && last.join(piece) {
            return;
        }
        self.last.push(piece);
    }

    /// Makes these ranges, which are in order and apart, deleted: their content goes, their place stays. With `collect`, because the type
    /// that they are in is gone, their place goes too. Rewrites each block once, however many ranges are in it.
    pub(crate) fn delete(&mut self, client: ClientId, mut ranges: &[ClockRange], collect: bool) {
        let last = std::mem::take(&mut self.last);
        self.full.insert(last.start, last);
        while let Some(&ClockRange { start, .. }) = ranges.first() {
            let Some(mut block) = self.block_at(start) else {
                break;
            };
            let mut end = self.next_block(block);
            loop {
                let count = ranges.partition_point(|range| end.is_none_or(|end| range.start < end));
                let (here, _) = ranges.split_at(count);
                self.rewrite(client, block, here, collect);
                let is_done = |range: &ClockRange| end.is_none_or(|end| range.end <= end);
                let done = ranges.partition_point(is_done);
                ranges = ranges.get(done..).unwrap_or_default();
                self.join_with_previous(block);
                let (Some(next), Some(range)) = (end, ranges.first()) else {
                    break;
                };
                if range.start >= next {
                    break;
                }
                block = next;
                end = self.next_block(block);
            }
            if let Some(next) = end {
                self.join_with_previous(next);
            }
        }
        if let Some((_, last)) = self.full.pop_last() {
            self.last = last;
        }
    }

    /// Where the block begins that has this clock.
    fn block_at(&self, clock: u32) -> Option<u32> {
        let (&start, _) = self.full.range(..=clock).next_back()?;
        Some(start)
    }

    fn next_block(&self, start: u32) -> Option<u32> {
        let (&next, _) = self.full.range(start + 1..).next()?;
        Some(next)
    }

    fn rewrite(&mut self, client: ClientId, start: u32, ranges: &[ClockRange], collect: bool) {
        let Some(before) = self.full.remove(&start) else {
            return;
        };
        let mut rewritten = Rewrite {
            client,
            ranges,
            collect,
            block: Block {
                start,
                ..Block::default()
            },
            full: Vec::new(),
        };
        crate::work::steps(before.bytes.len());
        rewritten.run(&before);
        let Rewrite { full, block, .. } = rewritten;
        self.full
            .extend(full.into_iter().chain([block]).map(|block| (block.start, block)));
    }

    /// Puts a block and the one before it together when both are small.
    fn join_with_previous(&mut self, start: u32) {
        let Some((&before, previous)) = self.full.range(..start).next_back() else {
            return;
        };
        let size = self.full.get(&start).map_or(0, |block| block.bytes.len());
        if previous.bytes.len() + size > FULL {
            return;
        }
        let block = self.full.remove(&start);
        if let (Some(block), Some(previous)) = (block, self.full.get_mut(&before)) {
            previous.last = previous.bytes.len() as u32 + block.last;
            previous.count += block.count;
            previous.bytes.extend_from_slice(&block.bytes);
        }
    }

    /// What there is from clock `from` on, as sections with the bytes they are in.
    pub(crate) fn sections(
        &self,
        client: ClientId,
        from: u32,
        in_list: impl Fn(u32) -> bool,
    ) -> impl Iterator<Item = SectionIn<'_>> {
        let first = match self.last.start <= from {
            true => self.last.start,
            false => self.block_at(from).unwrap_or(0),
        };
        let last = (self.last.count > 0).then_some(&self.last);
        let full = self.full.range(first..).map(|(_, block)| block);
        let mut blocks = full.chain(last).peekable();
        std::iter::from_fn(move || {
            let block = blocks.next()?;
            let section = Section {
                client,
                start: block.start,
                end: blocks.peek().map_or(self.end, |next| next.start),
                count: block.count,
                first: 0,
                last: block.last,
                until: block.bytes.len() as u32,
                in_list: in_list(block.start),
                has_holes: false,
            };
            Some((&*block.bytes, section))
        })
    }
}

impl Block {
    fn push(&mut self, piece: &Piece<'_>) {
        self.last = self.bytes.len() as u32;
        self.count += 1;
        self.bytes.extend_from_slice(piece.bytes);
    }

    /// Makes the piece part of the last struct, if it continues that.
    fn join(&mut self, piece: &Piece<'_>) -> bool {
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
    fn each(&self, mut found: impl FnMut(u32, usize, &Struct<'_>, usize)) {
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

/// How many bytes of a text of which more than `FULL` are there make one piece.
fn text_piece(text: &[u8]) -> usize {
    if text.len() <= FULL {
        return text.len();
    }
    let mut end = FULL;
    while text.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
        end -= 1;
    }
    end
}

/// Writes a number over as many bytes as it takes.
fn write_number(place: &mut [u8], mut number: u64) {
    let last = place.len().saturating_sub(1);
    for (index, byte) in place.iter_mut().enumerate() {
        *byte = (number & 0x7f) as u8 | if index < last { 0x80 } else { 0 };
        number >>= 7;
    }
}
