//! Edits as records of fixed size, for fuzzing that knows what an update is made of: kinds, keys, parents, origins, deletes, and
//! gaps between clocks.
//!
//! ```text
//! byte  0  author · whether the update ends behind it
//!       1  kind of content, or a deletion, or a skip
//!       2  where the author's clock goes on: behind what it wrote, behind a gap, or at something written before
//!       3  length
//!       4  which of the next are used: origin, right origin, key
//!     5 6  origin: author, how far back
//!     7 8  right origin: author, how far back
//!     9 10 parent: a root, or a struct: author, how far back
//!      11  key
//! ```

use super::Random;
use crate::encoding::Write as _;

/// Bytes of a record.
pub const RECORD: usize = 12;

const AUTHORS: u8 = 5;
const ROOTS: [&str; 4] = ["text", "map", "array", "xml"];
const KEYS: [&str; 3] = ["a", "b", "c"];
/// Kinds of content by number, more of what documents are made of; 11 is a deletion.
const KINDS: [u8; 16] = [4, 4, 4, 7, 7, 8, 8, 8, 11, 11, 1, 0, 6, 5, 3, 10];

/// What a stream of records has written so far, by author; what was sent is there for others, whatever became of it.
#[derive(Default)]
pub(super) struct Edits {
    clocks: [u32; AUTHORS as usize],
}

/// One author's structs of an update.
struct Section {
    author: u8,
    start: u32,
    end: u32,
    count: u64,
    out: Vec<u8>,
}

impl Edits {
    /// The next update of the records, and what is left of them. `None` at the end.
    pub(super) fn next<'a>(&mut self, records: &'a [u8]) -> Option<(Vec<u8>, &'a [u8])> {
        let mut sections: Vec<Section> = Vec::new();
        let mut deletes: Vec<(u8, u32, u32)> = Vec::new();
        let mut rest = records;
        while let Some((record, behind)) = rest.split_first_chunk::<RECORD>() {
            rest = behind;
            self.read(record, &mut sections, &mut deletes);
            if record[0] & 0x80 != 0 || sections.len() + deletes.len() > 24 {
                break;
            }
        }
        (rest.len() < records.len()).then(|| (written(sections, deletes), rest))
    }

    fn read(
        &mut self,
        record: &[u8; RECORD],
        sections: &mut Vec<Section>,
        deletes: &mut Vec<(u8, u32, u32)>,
    ) {
        let author = record[0] % AUTHORS;
        let kind = KINDS[usize::from(record[1] % 16)];
        let length = 1 + u32::from(record[3] % 4);
        if kind == 11 {
            let clock = self.clock(author, record[2]);
            deletes.push((author, clock, length));
            return;
        }
        let index = match sections.iter().position(|section| section.author == author) {
            Some(index) => index,
            None => {
                let known = self.clocks[usize::from(author)];
                let start = match record[2] % 8 {
                    0 => known + 1 + u32::from(record[2] / 8 % 4),
                    1 => known.saturating_sub(1 + u32::from(record[2] / 8)),
                    _ => known,
                };
                sections.push(Section {
                    author,
                    start,
                    end: start,
                    count: 0,
                    out: Vec::new(),
                });
                sections.len() - 1
            }
        };
        let mut out = Vec::new();
        let ticks = self.structure(record, kind, length, &mut out);
        let section = &mut sections[index];
        section.out.extend(out);
        section.count += 1;
        section.end += ticks;
        let known = &mut self.clocks[usize::from(author)];
        *known = section.end.max(*known);
    }

    /// A clock of an author, counted from its last one back; or one that it has not written.
    fn clock(&self, author: u8, back: u8) -> u32 {
        let known = self.clocks[usize::from(author)];
        match back {
            0xf8.. => known + u32::from(back & 7),
            _ => known.saturating_sub(1 + u32::from(back)),
        }
    }

    fn id(&self, author: u8, back: u8, out: &mut Vec<u8>) {
        let author = author % AUTHORS;
        out.put_number(author.into());
        out.put_number(self.clock(author, back).into());
    }

    /// Writes a struct; gives its ticks.
    fn structure(&self, record: &[u8; RECORD], kind: u8, length: u32, out: &mut Vec<u8>) -> u32 {
        if kind == 0 || kind == 10 {
            out.put_byte(kind);
            out.put_number(length.into());
            return length;
        }
        let (has_origin, has_right, has_key) = (record[4] & 1 != 0, record[4] & 6 == 6, record[4] & 24 == 24);
        let flag = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        out.put_byte(kind | flag(has_origin, 0x80) | flag(has_right, 0x40) | flag(has_key, 0x20));
        if has_origin {
            self.id(record[5], record[6], out);
        }
        if has_right {
            self.id(record[7], record[8], out);
        }
        if !has_origin && !has_right {
            match record[9] {
                nested @ 0x80.. => {
                    out.put_byte(0);
                    self.id(nested, record[10], out);
                }
                root => {
                    out.put_byte(1);
                    out.put_string(ROOTS[usize::from(root % 4)]);
                }
            }
            if has_key {
                out.put_string(KEYS[usize::from(record[11] % 3)]);
            }
        }
        // Under a key each value is one tick.
        content(kind, if has_key { 1 } else { length }, record[11], out)
    }
}

fn content(kind: u8, length: u32, choice: u8, out: &mut Vec<u8>) -> u32 {
    match kind {
        1 => {
            out.put_number(length.into());
            return length;
        }
        4 if length == 2 && choice & 4 != 0 => {
            out.put_string("\u{1f600}");
            return 2;
        }
        4 => {
            let text: String = "wörd".chars().take(length as usize).collect();
            out.put_string(&text);
            return length;
        }
        8 => {
            out.put_number(length.into());
            (0..length).for_each(|_| out.put_byte([126, 127, 120, 121][usize::from(choice % 4)]));
            return length;
        }
        7 if choice % 7 == 3 => {
            out.put_byte(3);
            out.put_string("p");
        }
        7 => out.put_byte([0, 1, 2, 1, 4, 6, 1][usize::from(choice % 7)]),
        6 => {
            out.put_string("bold");
            out.put_string("true");
        }
        5 => out.put_string("{}"),
        _ => out.put_buffer(&[choice]),
    }
    1
}

fn written(mut sections: Vec<Section>, mut deletes: Vec<(u8, u32, u32)>) -> Vec<u8> {
    sections.sort_by_key(|section| std::cmp::Reverse(section.author));
    deletes.sort_by_key(|(author, ..)| std::cmp::Reverse(*author));
    let mut out = Vec::new();
    out.put_number(sections.len() as u64);
    for Section {
        author,
        start,
        count,
        out: structs,
        ..
    } in sections
    {
        out.put_number(count);
        out.put_number(author.into());
        out.put_number(start.into());
        out.put_raw(&structs);
    }
    let of_authors: Vec<_> = deletes.chunk_by(|left, right| left.0 == right.0).collect();
    out.put_number(of_authors.len() as u64);
    for ranges in of_authors {
        out.put_number(ranges[0].0.into());
        out.put_number(ranges.len() as u64);
        for &(_, clock, length) in ranges {
            out.put_number(clock.into());
            out.put_number(length.into());
        }
    }
    out
}

/// Changes records as wholes, or one field of one: what comes of it is records again.
pub fn mutate(records: &mut Vec<u8>, most: usize, random: &mut Random) {
    records.truncate(records.len() / RECORD * RECORD);
    let pick = |records: &[u8], random: &mut Random| {
        let count = (records.len() / RECORD) as u32;
        (count > 0).then(|| random.below(count) as usize * RECORD)
    };
    for _ in 0..=random.below(4) {
        let has_room = records.len() + RECORD <= most;
        let Some(at) = pick(records, random) else {
            records.extend((0..RECORD.min(most)).map(|_| random.bits() as u8));
            continue;
        };
        let other = pick(records, random).unwrap_or(at);
        let record = records[at..at + RECORD].to_vec();
        match random.below(8) {
            // Again, later: what is known, and what builds on it.
            0 if has_room => drop(records.splice(other..other, record)),
            // In another order: what was to come later waits.
            1 => (0..RECORD).for_each(|byte| records.swap(at + byte, other + byte)),
            2 => drop(records.drain(at..at + RECORD)),
            3 if has_room => {
                let fresh: Vec<u8> = (0..RECORD).map(|_| random.bits() as u8).collect();
                records.splice(at..at, fresh);
            }
            // The update ends here, or not.
            4 => records[at] ^= 0x80,
            // Another author's neighbour, or a later one.
            5 => records.copy_within(other + 5..other + 9, at + 5),
            6 => records[at + 6] = records[at + 6].wrapping_add(random.below(3) as u8),
            _ => records[at + random.below(RECORD as u32) as usize] = random.bits() as u8,
        }
    }
}
