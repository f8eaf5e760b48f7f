//! Yjs updates (v1) as checked bytes with a small table of what is where in them.
//!
//! ```text
//! count of sections, then for each client:
//!   count of structs, client, clock of the first, the structs (see `structs`)
//! delete set: count of clients, then for each: client, count of ranges, and for each: clock, length
//! ```

mod merge;
mod readable;
mod structs;
mod trim;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::encoding::Reader;
use crate::error::DecodeError;
use crate::id_set::{IdRange, read_delete_set};
use crate::limits::Limits;
use crate::state_vector::{ClientId, MAX_CLOCK, StateVector};

pub(crate) use merge::{Body, SectionIn};
pub use merge::{mark, merge};
pub(crate) use structs::{
    ANY, DELETED, EMBED, FORMAT, GC, HAS_KEY, HAS_ORIGIN, HAS_RIGHT_ORIGIN, Id, JSON, Parent, SKIP, STRING,
    Struct, TYPE, read_head, read_struct, skip_any, utf16_length,
};
pub(crate) use trim::{Keep, rest, trimmed, without_right_origins, write_head, write_part};

/// Consecutive changes of one client inside an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientRange {
    /// The author.
    pub client: ClientId,
    /// Its first clock.
    pub start: u32,
    /// One past its last clock.
    pub end: u32,
}

/// One client's structs and where they are in the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) client: ClientId,
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// How many structs.
    pub(crate) count: u32,
    /// Byte positions of the first struct, of the last one, and of the end.
    pub(crate) first: u32,
    pub(crate) last: u32,
    pub(crate) until: u32,
    /// The first struct is known to go into a list, not under a key of a map, so that it may be joined with its
    /// predecessor. Only what was admitted is known.
    pub(crate) in_list: bool,
    /// Some of its structs are skips: it says nothing about their clocks.
    pub(crate) has_holes: bool,
}

/// An update whose structure was checked. Cheap to keep and to clone: the bytes are shared.
#[derive(Debug, Clone)]
pub struct Update {
    bytes: Bytes,
    sections: SmallVec<[Section; 1]>,
    /// Byte position of the delete set.
    deletes_at: u32,
    /// How many ranges the delete set has.
    delete_ranges: u32,
    /// The bytes must not go out as they are: the delete set is not in order, or structs end in a skip, which says nothing.
    must_rewrite: bool,
}

impl Update {
    /// Checks bytes from outside in one pass that allocates nothing sized by what the input merely claims.
    ///
    /// # Errors
    /// When the bytes are not exactly one update, or it is one that could not be handled safely.
    pub fn parse(bytes: Bytes, limits: &Limits) -> Result<Self, DecodeError> {
        let Ok(_) = u32::try_from(bytes.len()) else {
            return Err(DecodeError::TooLarge {
                what: "update",
                limit: u32::MAX as usize,
            });
        };
        let mut reader = Reader::new(&bytes);
        let mut sections = SmallVec::new();
        let mut ends_in_skip = false;
        for _ in 0..reader.count()? {
            let section = read_section(&mut reader, limits)?;
            ends_in_skip |= section.has_holes && bytes.get(section.last as usize) == Some(&SKIP);
            sections.push(section);
        }
        check_distinct(sections.iter().map(|section: &Section| section.client))?;
        let deletes_at = reader.position() as u32;
        let (delete_ranges, in_order) = check_delete_set(&mut reader)?;
        if !reader.is_at_end() {
            return Err(DecodeError::TrailingBytes {
                position: reader.position(),
            });
        }
        Ok(Self {
            sections,
            deletes_at,
            delete_ranges,
            must_rewrite: !in_order || ends_in_skip,
            bytes,
        })
    }

    /// The update as it goes over the wire.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many bytes the update takes on the wire.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.sections.is_empty() && self.delete_ranges == 0
    }

    /// Whose changes it has, and which.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = ClientRange> + '_ {
        self.sections.iter().map(|section| ClientRange {
            client: section.client,
            start: section.start,
            end: section.end,
        })
    }

    /// Whether it deletes anything.
    pub fn has_deletes(&self) -> bool {
        self.delete_ranges > 0
    }

    /// How far a replica that knew nothing before would know after it: the ends of its ranges.
    pub fn state_vector(&self) -> StateVector {
        self.sections
            .iter()
            .map(|section| (section.client, section.end))
            .collect()
    }

    /// Whether everything in it, deletes too, is about ticks that a state vector knows.
    pub(crate) fn is_within(&self, known: &StateVector) -> bool {
        let mut is_within = self
            .sections
            .iter()
            .all(|section| section.end <= known.get(section.client));
        self.each_delete(|found| is_within &= found.range.end <= known.get(found.client));
        is_within
    }

    /// What a replica with this state vector lacks of a whole state that was checked before: its structs from there on, and all deletes.
    /// `None` when the replica has more than the state, which it would not become.
    ///
    /// # Errors
    /// When the bytes are no update.
    pub fn lacking(bytes: Bytes, known: &StateVector) -> Result<Option<Bytes>, DecodeError> {
        let whole = Self::parse(bytes, &Limits::trusted())?;
        let mut holds = StateVector::new();
        for section in &whole.sections {
            holds.advance(section.client, section.end.max(holds.get(section.client)));
        }
        let is_behind = known.iter().any(|(client, clock)| holds.get(client) < clock);
        Ok((!is_behind).then(|| rest(&whole, known).bytes))
    }

    /// The update without the structs of some clients. All its deletes stay.
    #[must_use]
    pub fn without(&self, left_out: impl Fn(ClientId) -> bool) -> Self {
        let kept = self.sections.iter().filter(|section| !left_out(section.client));
        let mut keep: Vec<_> = kept.map(Keep::whole).collect();
        keep.sort_by_key(|keep| std::cmp::Reverse(keep.section.client));
        trimmed(self, &keep, None)
    }

    /// Copies the bytes out of a larger shared buffer, so that keeping the update does not keep the buffer.
    #[must_use]
    pub fn unpinned(self) -> Self {
        Self {
            bytes: Bytes::copy_from_slice(&self.bytes),
            ..self
        }
    }

    pub(crate) fn sections(&self) -> &[Section] {
        &self.sections
    }

    pub(crate) fn sections_mut(&mut self) -> &mut [Section] {
        &mut self.sections
    }

    pub(crate) fn must_rewrite(&self) -> bool {
        self.must_rewrite
    }

    pub(crate) fn delete_range_count(&self) -> usize {
        self.delete_ranges as usize
    }

    /// Calls `found` for each deleted range as written.
    pub(crate) fn each_delete(&self, mut found: impl FnMut(IdRange)) {
        if self.delete_ranges == 0 {
            return;
        }
        let mut reader = Reader::starting_at(&self.bytes, self.deletes_at as usize);
        let read = read_delete_set::<DecodeError>(&mut reader, |_, range| {
            found(range);
            Ok(())
        });
        debug_assert!(
            read.is_ok(),
            "the delete set was checked when the update was parsed"
        );
    }

    pub(crate) fn delete_set_bytes(&self) -> &[u8] {
        self.bytes.get(self.deletes_at as usize..).unwrap_or_default()
    }
}

impl PartialEq for Update {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Update {}

fn read_section(reader: &mut Reader<'_>, limits: &Limits) -> Result<Section, DecodeError> {
    let position = reader.position();
    let count = reader.count()?;
    if count == 0 {
        return Err(DecodeError::Empty { position });
    }
    let client = ClientId(reader.number()?);
    let start = reader.number_up_to(MAX_CLOCK)?;
    let first = reader.position() as u32;
    let mut last = first;
    let mut end = start;
    let mut has_holes = false;
    for _ in 0..count {
        last = reader.position() as u32;
        let read = read_struct::<false>(reader, limits)?;
        has_holes |= read.kind() == SKIP;
        // Neither can exceed 2^30, so the sum fits.
        end += read.length;
        if end > MAX_CLOCK {
            return Err(DecodeError::ClockTooLarge { client });
        }
    }
    let until = reader.position() as u32;
    Ok(Section {
        client,
        start,
        end,
        count: count as u32,
        first,
        last,
        until,
        in_list: false,
        has_holes,
    })
}

/// Counts the ranges and says whether they are sorted and apart within each client.
fn check_delete_set(reader: &mut Reader<'_>) -> Result<(u32, bool), DecodeError> {
    if reader.peek() == Some(0) {
        reader.byte()?;
        return Ok((0, true));
    }
    let mut count = 0u32;
    let mut in_order = true;
    let mut clients: SmallVec<[ClientId; 4]> = SmallVec::new();
    let mut previous: Option<(usize, IdRange)> = None;
    let position = reader.position();
    let mut named = reader.clone().count()?;
    read_delete_set(reader, |index, found| {
        if found.range.start == found.range.end {
            return Err(DecodeError::Empty { position });
        }
        if found.range.end > MAX_CLOCK {
            return Err(DecodeError::ClockTooLarge { client: found.client });
        }
        match previous {
            Some((at, before)) if at == index => in_order &= before.range.end <= found.range.start,
            _ => {
                clients.push(found.client);
                named -= 1;
            }
        }
        previous = Some((index, found));
        count += 1;
        Ok(())
    })?;
    check_distinct(clients.iter().copied())?;
    // A client that is named without a range says nothing and is left out when the update is passed on.
    Ok((count, in_order && named == 0))
}

fn check_distinct(clients: impl ExactSizeIterator<Item = ClientId> + Clone) -> Result<(), DecodeError> {
    if clients.len() < 2 || clients.clone().is_sorted_by(|left, right| left > right) {
        return Ok(());
    }
    let mut sorted: Vec<_> = clients.collect();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(DecodeError::DuplicateClient { client: pair[0] }),
        None => Ok(()),
    }
}
