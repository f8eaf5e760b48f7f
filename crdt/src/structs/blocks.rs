//! One client's structs in the order of their clocks, as bytes in blocks of about a kibibyte.
//!
//! A block holds whole structs as they are written in an update. Finding a clock takes a search over the blocks and a walk through
//! one; adding at the end, deleting and cutting rewrite one block, so each takes bounded time whatever the page's size. Long texts
//! and lists are kept in pieces, each of which names the one before as its origin, and are put together again when they leave.

use crate::encoding::{Reader, Write, number_length};
use crate::id_set::ClockRange;
use crate::limits::Limits;
use crate::state_vector::ClientId;
use crate::update::{
    ANY, DELETED, GC, Id, JSON, STRING, Section, SectionIn, Struct, TYPE, read_head, read_struct,
    utf16_length, write_head, write_part,
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
    /// Byte position and clock of the last struct.
    last: u32,
    last_clock: u32,
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
    blocks: Vec<Block>,
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
        if let Some(block) = self.blocks.last_mut() {
            let fits = block.bytes.len() + piece.bytes.len() <= FULL;
            if fits && piece.joins && block.join(piece) {
                return;
            }
            if fits {
                block.push(piece);
                return;
            }
            block.bytes.shrink_to_fit();
        }
        let mut block = Block {
            start: piece.clock,
            ..Block::default()
        };
        block.push(piece);
        self.blocks.push(block);
    }

    /// Makes `range` deleted: its content goes, its place stays. With `collect`, because the type it is in is gone, its place goes too.
    /// Adds the shared types in it to `types`.
    pub(crate) fn delete(&mut self, client: ClientId, range: ClockRange, collect: bool, types: &mut Vec<Id>) {
        let first = self.block_of(range.start);
        let mut index = first;
        while let Some(block) = self.blocks.get_mut(index)
            && block.start < range.end
        {
            let before = std::mem::take(block);
            let mut rewritten = Rewrite {
                client,
                range,
                collect,
                types,
                block: Block {
                    start: before.start,
                    ..Block::default()
                },
                full: Vec::new(),
            };
            rewritten.run(&before);
            let (full, rest) = (rewritten.full, rewritten.block);
            *block = rest;
            let count = full.len();
            if count > 0 {
                self.blocks.splice(index..index, full);
            }
            index += count + 1;
        }
        for index in (first.saturating_sub(1)..index.min(self.blocks.len())).rev() {
            self.join_blocks(index);
        }
    }

    /// Behind what the tick was inserted; `None` when that is not known any more, because it was collected.
    pub(crate) fn origin_of(&self, Id { client, clock }: Id) -> Option<Option<Id>> {
        let mut origin = None;
        self.blocks.get(self.block_of(clock))?.each(|start, _, read, _| {
            if (start..start + read.length).contains(&clock) && read.kind() != GC {
                let before = clock.wrapping_sub(1);
                origin = Some(match clock > start {
                    true => Some(Id {
                        client,
                        clock: before,
                    }),
                    false => read.origin,
                });
            }
        });
        origin
    }

    /// Adds the shared types in `range` to `types`.
    pub(crate) fn types_in(&self, client: ClientId, range: ClockRange, types: &mut Vec<Id>) {
        for block in self.blocks.iter().skip(self.block_of(range.start)) {
            if block.start >= range.end {
                break;
            }
            block.each(|clock, _, read, _| {
                if read.kind() == TYPE && clock >= range.start && clock < range.end {
                    types.push(Id { client, clock });
                }
            });
        }
    }

    /// What there is from clock `from` on, as sections with the bytes they are in.
    pub(crate) fn sections(
        &self,
        client: ClientId,
        from: u32,
        in_list: impl Fn(u32) -> bool,
    ) -> impl Iterator<Item = SectionIn<'_>> {
        let first = self.block_of(from);
        let blocks = self.blocks.iter().skip(first);
        let ends = self.blocks.iter().skip(first + 1).map(|block| block.start);
        blocks.zip(ends.chain([self.end])).map(move |(block, end)| {
            let section = Section {
                client,
                start: block.start,
                end,
                count: block.count,
                first: 0,
                last: block.last,
                until: block.bytes.len() as u32,
                in_list: in_list(block.start),
                has_holes: false,
            };
            (&*block.bytes, section)
        })
    }

    fn block_of(&self, clock: u32) -> usize {
        self.blocks
            .partition_point(|block| block.start <= clock)
            .saturating_sub(1)
    }

    /// Puts a block and the next one together when both are small.
    fn join_blocks(&mut self, index: usize) {
        let (Some(one), Some(next)) = (self.blocks.get(index), self.blocks.get(index + 1)) else {
            return;
        };
        if one.bytes.len() + next.bytes.len() > FULL {
            return;
        }
        let next = self.blocks.remove(index + 1);
        if let Some(one) = self.blocks.get_mut(index) {
            one.last = one.bytes.len() as u32 + next.last;
            one.last_clock = next.last_clock;
            one.count += next.count;
            one.bytes.extend_from_slice(&next.bytes);
        }
    }
}

impl Block {
    fn push(&mut self, piece: &Piece<'_>) {
        self.last = self.bytes.len() as u32;
        self.last_clock = piece.clock;
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

/// A block in which a range is being deleted.
struct Rewrite<'a> {
    client: ClientId,
    range: ClockRange,
    collect: bool,
    types: &'a mut Vec<Id>,
    /// Blocks that have become full, and the one being written.
    full: Vec<Block>,
    block: Block,
}

impl Rewrite<'_> {
    fn run(&mut self, before: &Block) {
        let mut part = Vec::new();
        before.each(|clock, at, read, until| {
            let end = clock + read.length;
            let ClockRange { start, end: stop } = self.range;
            if end <= start || clock >= stop {
                let bytes = before.bytes.get(at..until).unwrap_or_default();
                return self.keep(clock, bytes, read, at);
            }
            if read.kind() == TYPE {
                self.types.push(Id {
                    client: self.client,
                    clock,
                });
            }
            let place = (at, self.client, clock);
            if clock < start {
                part.clear();
                write_part(&mut part, &before.bytes, place, read, (0, start - clock));
                self.keep_part(clock, &part);
            }
            let (from, until) = (clock.max(start), end.min(stop));
            part.clear();
            match read.kind() {
                GC => part.put_byte(GC),
                _ if self.collect => part.put_byte(GC),
                _ => write_head(&mut part, &before.bytes, place, read, (from - clock, DELETED)),
            }
            part.put_number(u64::from(until - from));
            self.keep_part(from, &part);
            if end > stop {
                part.clear();
                write_part(&mut part, &before.bytes, place, read, (stop - clock, read.length));
                self.keep_part(stop, &part);
            }
        });
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
