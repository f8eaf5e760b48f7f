//! One client's structs in the order of their clocks, as bytes in blocks of about a kibibyte.
//!
//! A block holds whole structs as they are written in an update. Finding a clock takes a search over the blocks and a walk through
//! one; adding at the end, deleting and cutting rewrite one block, so each takes bounded time whatever the page's size. Long texts
//! and lists are kept in pieces, each of which names the one before as its origin, and are put together again when they leave.

use std::collections::BTreeMap;

use super::block::{Block, FULL, LARGE, Piece};
use super::rewrite::rewritten;
use crate::encoding::{Reader, Write, number_length};
use crate::id_set::ClockRange;
use crate::limits::Limits;
use crate::state_vector::ClientId;
use crate::update::{
    ANY, DELETED, GC, Id, JSON, STRING, Section, SectionIn, Struct, read_head, read_struct, utf16_length,
    write_head, write_part,
};

#[derive(Debug, Default)]
pub(crate) struct Blocks {
    /// All but the last, by their first clocks: putting one between others moves none of them.
    full: BTreeMap<u32, Block>,
    /// Where the next struct goes, if it fits.
    last: Block,
    end: u32,
    /// Of all blocks together.
    bytes: usize,
    count: usize,
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

    /// How many bytes the section of all structs has, without its client and clock: never less, and more only by the heads of the pieces
    /// that are put together when they leave. Constant time.
    pub(crate) fn encoded_size(&self) -> usize {
        number_length(self.count as u64) + self.bytes
    }

    fn push_piece(&mut self, piece: &Piece<'_>) {
        let last = &mut self.last;
        let before = last.bytes.len();
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
            self.bytes += last.bytes.len() - before;
            return;
        }
        self.last.push(piece);
        self.bytes += piece.bytes.len();
        self.count += 1;
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
        crate::work::steps(before.bytes.len());
        self.bytes -= before.bytes.len();
        self.count -= before.count as usize;
        for block in rewritten(&before, client, ranges, collect) {
            self.bytes += block.bytes.len();
            self.count += block.count as usize;
            self.full.insert(block.start, block);
        }
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
