//! Joins updates as bytes, without a document: the delta of a batch, an author's echo, a row of the log.
//!
//! Structs do not depend on their place in an update, so one client's sections are put behind each other. Where a
//! section continues the previous one as typing does, the two structs that meet become one: the same type, the second
//! inserted directly behind the first, before the same right neighbour. Placing the joined struct is the same as
//! placing the two in turn, because nothing can come between a struct and one that names it as its origin.

use bytes::Bytes;
use smallvec::SmallVec;

use super::structs::Struct;
use super::trim::write_section;
use super::{ANY, DELETED, GC, Id, SKIP, STRING, Section, Update, read_struct};
use crate::encoding::{Reader, Write};
use crate::id_set::{normalize, write_delete_set};
use crate::limits::Limits;
use crate::state_vector::ClientId;

/// An update with nothing but a collected struct as the first of a client: whoever has it knows that the client was here.
pub fn mark(client: ClientId) -> Bytes {
    let mut out = Vec::new();
    // One client with one struct.
    out.put_number(1);
    out.put_number(1);
    out.put_number(client.0);
    // From clock 0: a collected struct of one tick. Nothing is deleted.
    out.extend([0, 0, 1, 0]);
    out.into()
}

/// Joins admitted updates into one with the same effect as applying them in turn.
///
/// Takes time linear in their number and size. What several of them bring is taken once. A gap between the clocks of
/// one client (when one of its updates was left out, because the receiver has it) is marked by a skip.
pub fn merge<'a>(updates: impl IntoIterator<Item = &'a Update>) -> Update {
    let updates: SmallVec<[&Update; 16]> = updates.into_iter().collect();
    if let [only] = updates[..] {
        return only.clone();
    }
    let mut parts: Vec<SectionIn<'_>> = Vec::with_capacity(updates.len());
    let mut deletes = Vec::new();
    let mut size = 8;
    for update in &updates {
        size += update.len();
        for section in update.sections() {
            if section.has_holes {
                each_run(update, section, |run| parts.push((update.bytes(), run)));
            } else {
                parts.push((update.bytes(), *section));
            }
        }
        update.each_delete(|range| deletes.push(range));
    }
    parts.sort_by(|(_, left), (_, right)| {
        right
            .client
            .cmp(&left.client)
            .then(left.start.cmp(&right.start))
            .then(right.end.cmp(&left.end))
    });
    normalize(&mut deletes);

    let mut body = Body {
        out: Vec::with_capacity(size),
        ..Body::default()
    };
    let mut sections: SmallVec<[Section; 1]> = SmallVec::new();
    let mut out = Vec::with_capacity(size);
    let groups = || parts.chunk_by(|(_, left), (_, right)| left.client == right.client);
    out.put_number(groups().count() as u64);
    for group in groups() {
        sections.extend(body.write(group.iter().copied(), 0, &mut out));
    }
    let deletes_at = out.len() as u32;
    write_delete_set(&mut out, &deletes);
    Update {
        bytes: Bytes::from(out),
        sections,
        deletes_at,
        delete_ranges: deletes.len() as u32,
        must_rewrite: updates.iter().any(|update| update.must_rewrite),
    }
}

impl Update {
    /// Whose changes it has, and which, without what it leaves out between them.
    pub fn runs(&self) -> Vec<super::ClientRange> {
        let mut runs = Vec::new();
        for section in self.sections() {
            each_run(self, section, |run| {
                runs.push(super::ClientRange {
                    client: run.client,
                    start: run.start,
                    end: run.end,
                });
            });
        }
        runs
    }
}

/// Takes a section apart where it has gaps, which another update may fill.
pub(super) fn each_run(update: &Update, section: &Section, mut found: impl FnMut(Section)) {
    let limits = Limits::trusted();
    let mut reader = Reader::starting_at(update.bytes(), section.first as usize);
    let mut clock = section.start;
    let mut run: Option<Section> = None;
    for _ in 0..section.count {
        let at = reader.position() as u32;
        let Ok(read) = read_struct::<true>(&mut reader, &limits) else {
            debug_assert!(false, "the structs were checked when the update was parsed");
            break;
        };
        let end = clock + read.length;
        if read.kind() == SKIP {
            run.take().into_iter().for_each(&mut found);
        } else {
            let run = run.get_or_insert(Section {
                start: clock,
                count: 0,
                first: at,
                in_list: section.in_list && clock == section.start,
                has_holes: false,
                ..*section
            });
            run.end = end;
            run.count += 1;
            run.last = at;
            run.until = reader.position() as u32;
        }
        clock = end;
    }
    run.into_iter().for_each(found);
}

/// One client's consecutive structs, and the bytes that they are in.
pub(crate) type SectionIn<'a> = (&'a [u8], Section);

/// The structs of one client being put together.
#[derive(Default)]
pub(crate) struct Body {
    out: Vec<u8>,
    count: u32,
    last: u32,
    /// The last struct, kept open while others may still be joined to it.
    open: Option<Open>,
    /// The content of the open struct: text, or values.
    content: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Open {
    kind: u8,
    right_origin: Option<Id>,
    /// In clock ticks.
    length: u32,
}

impl Body {
    /// Writes sections of one client, in the order of their clocks, as one section that begins no earlier than `from`; says where
    /// everything is in `to`.
    pub(crate) fn write<'a>(
        &mut self,
        group: impl IntoIterator<Item = SectionIn<'a>>,
        from: u32,
        to: &mut Vec<u8>,
    ) -> Option<Section> {
        let mut section = self.join_all(group, from)?;
        to.put_number(u64::from(section.count));
        to.put_number(section.client.0);
        to.put_number(u64::from(section.start));
        let offset = to.len() as u32;
        section.first += offset;
        section.last += offset;
        section.until += offset;
        to.put_raw(&self.out);
        Some(section)
    }

    /// Leaves the structs in `out` and says what they are, with positions relative to it.
    fn join_all<'a>(&mut self, group: impl IntoIterator<Item = SectionIn<'a>>, from: u32) -> Option<Section> {
        self.out.clear();
        self.count = 0;
        self.last = 0;
        let mut group = group.into_iter().peekable();
        let first = group.peek()?.1;
        let start = first.start.max(from);
        let mut end = start;
        let mut has_holes = false;
        for (bytes, section) in group {
            if section.end <= end && section.start < end {
                continue;
            }
            if section.start > end {
                has_holes = true;
                self.close();
                self.last = self.out.len() as u32;
                self.out.put_byte(SKIP);
                self.out.put_number(u64::from(section.start - end));
                self.count += 1;
            }
            if section.start < end {
                let mut rest = Vec::new();
                let cut = write_section(&mut rest, bytes, &section, end);
                self.append(&rest, &cut);
            } else {
                self.append(bytes, &section);
            }
            end = section.end;
        }
        self.close();
        Some(Section {
            client: first.client,
            start,
            end,
            count: self.count,
            first: 0,
            last: self.last,
            until: self.out.len() as u32,
            in_list: first.in_list,
            has_holes,
        })
    }

    fn append(&mut self, bytes: &[u8], section: &Section) {
        let limits = Limits::trusted();
        let (first, last, until) = (
            section.first as usize,
            section.last as usize,
            section.until as usize,
        );
        if section.count == 1 {
            let mut reader = Reader::starting_at(bytes, first);
            // The length of a lone struct is that of its section: the text need not be counted again.
            match read_struct::<true>(&mut reader, &limits) {
                Ok(read) => self.append_struct(bytes, first, until, &read, section),
                Err(_) => debug_assert!(false, "the structs were checked when the update was parsed"),
            }
            return;
        }
        let mut middle = first;
        if self.open.is_some() {
            let mut reader = Reader::starting_at(bytes, first);
            if let Ok(read) = read_struct::<true>(&mut reader, &limits)
                && self.join(bytes, reader.position(), &read, section)
            {
                middle = reader.position();
                self.count -= 1;
            }
            self.close();
        }
        self.count += section.count - 1;
        self.out.put_raw(bytes.get(middle..last).unwrap_or_default());
        let mut reader = Reader::starting_at(bytes, last);
        match read_struct::<true>(&mut reader, &limits) {
            Ok(read) => self.begin(bytes, last, until, &read),
            Err(_) => debug_assert!(false, "the structs were checked when the update was parsed"),
        }
    }

    fn append_struct(&mut self, bytes: &[u8], at: usize, until: usize, read: &Struct<'_>, section: &Section) {
        if self.open.is_some() {
            if self.join(bytes, until, read, section) {
                return;
            }
            self.close();
        }
        self.begin(bytes, at, until, read);
    }

    /// Adds a struct to the open one, if it continues it.
    fn join(&mut self, bytes: &[u8], until: usize, read: &Struct<'_>, section: &Section) -> bool {
        let Some(open) = &mut self.open else { return false };
        if open.kind != read.kind() || !continues(open, read, section) {
            return false;
        }
        match open.kind {
            STRING => {
                let text = Reader::starting_at(bytes, read.content)
                    .buffer()
                    .unwrap_or_default();
                self.content.put_raw(text);
            }
            ANY => {
                let mut reader = Reader::starting_at(bytes, read.content);
                if reader.count().is_err() {
                    return false;
                }
                self.content
                    .put_raw(bytes.get(reader.position()..until).unwrap_or_default());
            }
            _ => {}
        }
        open.length += read.length;
        true
    }

    /// Starts a new last struct. Its head is written at once, its content when it is closed.
    fn begin(&mut self, bytes: &[u8], at: usize, until: usize, read: &Struct<'_>) {
        self.count += 1;
        self.last = self.out.len() as u32;
        let mut reader = Reader::starting_at(bytes, read.content);
        self.content.clear();
        match read.kind() {
            STRING => self.content.put_raw(reader.buffer().unwrap_or_default()),
            ANY if reader.count().is_ok() => {
                self.content
                    .put_raw(bytes.get(reader.position()..until).unwrap_or_default());
            }
            DELETED | GC => {}
            _ => {
                self.out.put_raw(bytes.get(at..until).unwrap_or_default());
                return;
            }
        }
        self.out.put_raw(bytes.get(at..read.content).unwrap_or_default());
        self.open = Some(Open {
            kind: read.kind(),
            right_origin: read.right_origin,
            length: read.length,
        });
    }

    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        match open.kind {
            STRING => self.out.put_buffer(&self.content),
            ANY => {
                self.out.put_number(u64::from(open.length));
                self.out.put_raw(&self.content);
            }
            _ => self.out.put_number(u64::from(open.length)),
        }
    }
}

/// Whether a section's first struct continues the one before it as a typed character continues a word.
fn continues(open: &Open, read: &Struct<'_>, section: &Section) -> bool {
    if open.kind == GC {
        return true;
    }
    let before = Id {
        client: section.client,
        clock: section.start.wrapping_sub(1),
    };
    // Under a key of a map a later value replaces an earlier one, so they must not become one.
    (section.in_list || open.kind == DELETED)
        && read.origin == Some(before)
        && read.right_origin == open.right_origin
}
