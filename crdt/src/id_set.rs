//! Sets of struct ids as sorted clock ranges per client: what is deleted.

use std::collections::BTreeMap;

use crate::encoding::{ReadError, Reader, Write, number_length};
use crate::state_vector::{ClientId, MAX_CLOCK};

/// Clocks `start..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClockRange {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// A range of one client's clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdRange {
    pub(crate) client: ClientId,
    pub(crate) range: ClockRange,
}

/// Ids as sorted, disjoint, non-adjacent ranges. Adding and finding take logarithmic time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct IdSet {
    /// Each range's end by its start.
    clients: BTreeMap<ClientId, BTreeMap<u32, u32>>,
    /// How many bytes [`Self::write`] writes, without the count of clients.
    size: usize,
}

/// How many bytes a client with its count of ranges has.
fn head_size(client: ClientId, ranges: usize) -> usize {
    match ranges {
        0 => 0,
        _ => number_length(client.0) + number_length(ranges as u64),
    }
}

/// How many bytes a range has.
fn range_size(start: u32, end: u32) -> usize {
    number_length(start.into()) + number_length((end - start).into())
}

impl IdSet {
    /// The clients of which something is in the set.
    pub(crate) fn clients(&self) -> impl Iterator<Item = ClientId> {
        let some = self.clients.iter().filter(|(_, ranges)| !ranges.is_empty());
        some.map(|(client, _)| *client)
    }

    /// All ranges, in the order of clients and clocks.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = IdRange> {
        self.clients.iter().flat_map(|(&client, ranges)| {
            let range = |(&start, &end)| ClockRange { start, end };
            let ranges = ranges.iter().map(range);
            ranges.map(move |range| IdRange { client, range })
        })
    }

    /// Calls `found` with the parts of `range` that are in the set, in order.
    pub(crate) fn common(
        &self,
        client: ClientId,
        ClockRange { start, end }: ClockRange,
        mut found: impl FnMut(ClockRange),
    ) {
        let Some(ranges) = self.clients.get(&client) else {
            return;
        };
        let first = ranges
            .range(..=start)
            .next_back()
            .map_or(start, |(&first, _)| first);
        for (&known, &until) in ranges.range(first..end.max(first)) {
            crate::work::steps(1);
            if until > start {
                found(ClockRange {
                    start: known.max(start),
                    end: until.min(end),
                });
            }
        }
    }

    pub(crate) fn contains(&self, client: ClientId, clock: u32) -> bool {
        let before = |ranges: &BTreeMap<u32, u32>| ranges.range(..=clock).next_back().map(|(_, &end)| end);
        self.clients
            .get(&client)
            .and_then(before)
            .is_some_and(|end| clock < end)
    }

    pub(crate) fn insert(&mut self, client: ClientId, ClockRange { mut start, mut end }: ClockRange) {
        let ranges = self.clients.entry(client).or_default();
        self.size -= head_size(client, ranges.len());
        // Everything that touches the new range is joined with it.
        while let Some((&known, &until)) = ranges.range(..=end).next_back()
            && until >= start
        {
            ranges.remove(&known);
            self.size -= range_size(known, until);
            start = start.min(known);
            end = end.max(until);
        }
        ranges.insert(start, end);
        self.size += range_size(start, end) + head_size(client, ranges.len());
    }

    /// Calls `found` with the parts of `range` that are not in the set, in order.
    pub(crate) fn missing_from(
        &self,
        client: ClientId,
        ClockRange { mut start, end }: ClockRange,
        mut found: impl FnMut(ClockRange),
    ) {
        if let Some(ranges) = self.clients.get(&client) {
            if let Some((_, &until)) = ranges.range(..=start).next_back() {
                start = start.max(until);
            }
            if start >= end {
                return;
            }
            for (&known, &until) in ranges.range(start..end) {
                crate::work::steps(1);
                if known > start {
                    found(ClockRange { start, end: known });
                }
                start = until;
            }
        }
        if start < end {
            found(ClockRange { start, end });
        }
    }

    /// The first part of `range` that is not in the set.
    pub(crate) fn first_missing(
        &self,
        client: ClientId,
        ClockRange { mut start, end }: ClockRange,
    ) -> Option<ClockRange> {
        crate::work::steps(1);
        let ranges = self.clients.get(&client);
        if let Some((_, &until)) = ranges.and_then(|ranges| ranges.range(..=start).next_back()) {
            start = start.max(until);
        }
        if start >= end {
            return None;
        }
        let next = ranges.and_then(|ranges| ranges.range(start..end).next());
        let end = next.map_or(end, |(&known, _)| known);
        Some(ClockRange { start, end })
    }

    /// Adds ranges that are in order and apart.
    pub(crate) fn extend(&mut self, client: ClientId, mut new: impl Iterator<Item = ClockRange>) {
        let Some(first) = new.next() else { return };
        match self.clients.get(&client) {
            // Many at once are put together faster than one by one.
            None => {
                let all = std::iter::once(first).chain(new);
                let ranges: BTreeMap<_, _> = all.map(|range| (range.start, range.end)).collect();
                let size = ranges.iter().map(|(&start, &end)| range_size(start, end));
                self.size += size.sum::<usize>() + head_size(client, ranges.len());
                self.clients.insert(client, ranges);
            }
            Some(_) => std::iter::once(first)
                .chain(new)
                .for_each(|range| self.insert(client, range)),
        }
    }

    /// Takes a range out of the set.
    pub(crate) fn remove(&mut self, client: ClientId, ClockRange { start, end }: ClockRange) {
        let Some(ranges) = self.clients.get_mut(&client) else {
            return;
        };
        self.size -= head_size(client, ranges.len());
        while let Some((&known, &until)) = ranges.range(..end).next_back()
            && until > start
        {
            ranges.remove(&known);
            self.size -= range_size(known, until);
            if until > end {
                ranges.insert(end, until);
                self.size += range_size(end, until);
            }
            if known < start {
                ranges.insert(known, start);
                self.size += range_size(known, start);
            }
        }
        self.size += head_size(client, ranges.len());
        if ranges.is_empty() {
            self.clients.remove(&client);
        }
    }

    /// Whether all of a range is in the set.
    pub(crate) fn contains_all(&self, client: ClientId, range: ClockRange) -> bool {
        self.first_missing(client, range).is_none()
    }

    /// How many bytes [`Self::write`] writes. Constant time.
    pub(crate) fn encoded_size(&self) -> usize {
        number_length(self.clients.len() as u64) + self.size
    }

    /// Writes the set as the delete set of an update, highest client first as Yjs does.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.put_number(self.clients.len() as u64);
        for (client, ranges) in self.clients.iter().rev() {
            out.put_number(client.0);
            out.put_number(ranges.len() as u64);
            for (&start, &end) in ranges {
                out.put_number(u64::from(start));
                out.put_number(u64::from(end - start));
            }
        }
    }
}

/// Reads the delete set at the end of an update, calling `found` for each range as written.
///
/// A count of clients, then for each: client, count of ranges, and for each range clock and length.
pub(crate) fn read_delete_set<E: From<ReadError>>(
    reader: &mut Reader<'_>,
    mut found: impl FnMut(usize, IdRange) -> Result<(), E>,
) -> Result<(), E> {
    let clients = reader.count()?;
    for index in 0..clients {
        let client = ClientId(reader.number()?);
        let ranges = reader.count()?;
        for _ in 0..ranges {
            let start = reader.number_up_to(MAX_CLOCK)?;
            let length = reader.number_up_to(MAX_CLOCK)?;
            found(
                index,
                IdRange {
                    client,
                    range: ClockRange {
                        start,
                        end: start + length,
                    },
                },
            )?;
        }
    }
    Ok(())
}

/// Writes ranges that are sorted by client, highest first, then by clock, and disjoint within a client.
pub(crate) fn write_delete_set(out: &mut Vec<u8>, ranges: &[IdRange]) {
    let groups = || ranges.chunk_by(|left, right| left.client == right.client);
    out.put_number(groups().count() as u64);
    for group in groups() {
        let Some(first) = group.first() else { continue };
        out.put_number(first.client.0);
        out.put_number(group.len() as u64);
        for IdRange { range, .. } in group {
            out.put_number(u64::from(range.start));
            out.put_number(u64::from(range.end - range.start));
        }
    }
}

/// Sorts ranges as they are written and joins those that touch.
pub(crate) fn normalize(ranges: &mut Vec<IdRange>) {
    let sorted = ranges.is_sorted_by(|left, right| {
        left.client > right.client || (left.client == right.client && left.range.end < right.range.start)
    });
    if sorted {
        return;
    }
    ranges.sort_unstable_by(|left, right| {
        right
            .client
            .cmp(&left.client)
            .then(left.range.start.cmp(&right.range.start))
    });
    ranges.dedup_by(|next, kept| {
        let joins = next.client == kept.client && next.range.start <= kept.range.end;
        if joins {
            kept.range.end = kept.range.end.max(next.range.end);
        }
        joins
    });
}

/// What of some ranges is not in others; both as [`normalize`] leaves them.
pub(crate) fn subtract(ranges: &[IdRange], mut others: &[IdRange]) -> Vec<IdRange> {
    let mut left = Vec::new();
    for &IdRange { client, mut range } in ranges {
        let is_before = |other: &IdRange| {
            other.client > client || (other.client == client && other.range.end <= range.start)
        };
        while let [other, rest @ ..] = others
            && is_before(other)
        {
            others = rest;
        }
        for other in others {
            crate::work::steps(1);
            if other.client != client || other.range.start >= range.end || range.start >= range.end {
                break;
            }
            if range.start < other.range.start {
                let (start, end) = (range.start, other.range.start);
                let range = ClockRange { start, end };
                left.push(IdRange { client, range });
            }
            range.start = other.range.end;
        }
        if range.start < range.end {
            left.push(IdRange { client, range });
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_set_of_ranges_is_a_set_of_clocks(inserts in proptest::collection::vec((0u32..200, 1u32..8, proptest::bool::weighted(0.3)), 0..40)) {
            let client = ClientId(7);
            let mut set = IdSet::default();
            let mut model = BTreeSet::new();
            for (start, length, is_taken_out) in inserts {
                let range = ClockRange { start, end: start + length };
                let mut missing = Vec::new();
                set.missing_from(client, range, |part| missing.extend(part.start..part.end));
                let expected: Vec<_> = (range.start..range.end).filter(|clock| !model.contains(clock)).collect();
                prop_assert_eq!(missing, expected);
                if is_taken_out {
                    set.remove(client, range);
                    model.retain(|clock| !(range.start..range.end).contains(clock));
                } else {
                    set.insert(client, range);
                    model.extend(range.start..range.end);
                }
                for clock in 0..210 {
                    prop_assert_eq!(set.contains(client, clock), model.contains(&clock));
                }
                let ranges: Vec<_> = set.clients.values().flatten().collect();
                prop_assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0));
                let mut written = Vec::new();
                set.write(&mut written);
                prop_assert_eq!(set.encoded_size(), written.len());
            }
            prop_assert!(!set.contains(ClientId(8), 0));
        }
    }
}
