//! Sets of struct ids as sorted clock ranges per client: what is deleted.

use crate::encoding::{ReadError, Reader, Write};
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

/// Ids as sorted, disjoint, non-adjacent ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct IdSet {
    /// Sorted by client.
    clients: Vec<(ClientId, Vec<ClockRange>)>,
}

impl IdSet {
    pub(crate) fn contains(&self, client: ClientId, clock: u32) -> bool {
        let ranges = self.ranges(client);
        let after = ranges.partition_point(|range| range.start <= clock);
        after
            .checked_sub(1)
            .and_then(|index| ranges.get(index))
            .is_some_and(|range| clock < range.end)
    }

    pub(crate) fn insert(&mut self, client: ClientId, range: ClockRange) {
        let index = match self.clients.binary_search_by_key(&client, |entry| entry.0) {
            Ok(index) => index,
            Err(index) => {
                self.clients.insert(index, (client, Vec::new()));
                index
            }
        };
        if let Some((_, ranges)) = self.clients.get_mut(index) {
            insert_range(ranges, range);
        }
    }

    /// Inserts many ranges in time linear in what is there and what is added.
    pub(crate) fn insert_all(&mut self, added: &mut Vec<IdRange>) {
        if added.len() <= 8 {
            for IdRange { client, range } in added.iter() {
                self.insert(*client, *range);
            }
            return;
        }
        normalize(added);
        let mut new = Vec::new();
        for group in added.chunk_by(|left, right| left.client == right.client) {
            let Some(first) = group.first() else { continue };
            let ranges = group.iter().map(|added| added.range);
            match self.clients.binary_search_by_key(&first.client, |entry| entry.0) {
                Ok(index) => {
                    if let Some((_, known)) = self.clients.get_mut(index) {
                        known.extend(ranges);
                        // Two sorted runs, which the sort merges.
                        known.sort();
                        join(known);
                    }
                }
                Err(_) => new.push((first.client, ranges.collect())),
            }
        }
        self.clients.extend(new.into_iter().rev());
        self.clients.sort_by_key(|entry| entry.0);
    }

    /// Calls `found` with the parts of `range` that are not in the set, in order.
    pub(crate) fn missing_from(
        &self,
        client: ClientId,
        range: ClockRange,
        mut found: impl FnMut(ClockRange),
    ) {
        let ranges = self.ranges(client);
        let first = ranges.partition_point(|known| known.end <= range.start);
        let mut start = range.start;
        for known in ranges.iter().skip(first) {
            if known.start >= range.end {
                break;
            }
            if known.start > start {
                found(ClockRange {
                    start,
                    end: known.start,
                });
            }
            start = known.end;
        }
        if start < range.end {
            found(ClockRange {
                start,
                end: range.end,
            });
        }
    }

    fn ranges(&self, client: ClientId) -> &[ClockRange] {
        match self.clients.binary_search_by_key(&client, |entry| entry.0) {
            Ok(index) => self.clients.get(index).map_or(&[], |(_, ranges)| ranges),
            Err(_) => &[],
        }
    }
}

fn join(ranges: &mut Vec<ClockRange>) {
    ranges.dedup_by(|next, kept| {
        let joins = next.start <= kept.end;
        if joins {
            kept.end = kept.end.max(next.end);
        }
        joins
    });
}

fn insert_range(ranges: &mut Vec<ClockRange>, range: ClockRange) {
    // Everything that touches the new range is joined with it.
    let first = ranges.partition_point(|known| known.end < range.start);
    let after = first
        + ranges
            .get(first..)
            .unwrap_or_default()
            .iter()
            .take_while(|known| known.start <= range.end)
            .count();
    match (
        ranges.get(first).copied(),
        after.checked_sub(1).and_then(|last| ranges.get(last).copied()),
    ) {
        (Some(head), Some(tail)) if first < after => {
            let joined = ClockRange {
                start: head.start.min(range.start),
                end: tail.end.max(range.end),
            };
            if let Some(slot) = ranges.get_mut(first) {
                *slot = joined;
            }
            ranges.drain(first + 1..after);
        }
        _ => ranges.insert(first, range),
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_set_of_ranges_is_a_set_of_clocks(inserts in proptest::collection::vec((0u32..64, 1u32..8), 0..40)) {
            let client = ClientId(7);
            let mut set = IdSet::default();
            let mut model = BTreeSet::new();
            for (start, length) in inserts {
                let range = ClockRange { start, end: start + length };
                let mut missing = Vec::new();
                set.missing_from(client, range, |part| missing.extend(part.start..part.end));
                let expected: Vec<_> = (range.start..range.end).filter(|clock| !model.contains(clock)).collect();
                prop_assert_eq!(missing, expected);
                set.insert(client, range);
                model.extend(range.start..range.end);
                for clock in 0..80 {
                    prop_assert_eq!(set.contains(client, clock), model.contains(&clock));
                }
                let ranges = set.ranges(client);
                prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
            }
            prop_assert!(!set.contains(ClientId(8), 0));
        }

        #[test]
        fn many_at_once_are_as_many_in_turn(
            before in proptest::collection::vec((0u64..4, 0u32..200, 1u32..8), 0..20),
            added in proptest::collection::vec((0u64..6, 0u32..200, 1u32..8), 0..60),
        ) {
            let ranges = |list: Vec<(u64, u32, u32)>| -> Vec<IdRange> {
                list.into_iter()
                    .map(|(client, start, length)| IdRange {
                        client: ClientId(client),
                        range: ClockRange { start, end: start + length },
                    })
                    .collect()
            };
            let mut in_turn = IdSet::default();
            let (before, mut added) = (ranges(before), ranges(added));
            for IdRange { client, range } in &before {
                in_turn.insert(*client, *range);
            }
            let mut at_once = in_turn.clone();
            for IdRange { client, range } in &added {
                in_turn.insert(*client, *range);
            }
            at_once.insert_all(&mut added);
            prop_assert_eq!(at_once, in_turn);
        }
    }
}
