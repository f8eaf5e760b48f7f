//! Who wrote what in one room, and what of it each member has received.

use std::collections::BTreeMap;

use super::{
    measures::{Measures, Nanos},
    updates::{Insertion, Part, UpdateError, write_update},
};

/// What one writer has written.
#[derive(Debug, Default)]
struct Writer {
    /// When each edit was written.
    edits: Vec<Nanos>,
    /// When each presence message was written.
    awareness: Vec<Nanos>,
}

/// The books of one room. Members are numbered from 0; the first of them are the writers.
#[derive(Debug)]
pub(super) struct Ledger {
    first_client: u64,
    edit_length: u32,
    members: usize,
    writers: Vec<Writer>,
    /// The clock up to which a member has everything of a writer, members in rows.
    seen: Vec<u32>,
    /// What a member got ahead of something else, by member and writer.
    early: BTreeMap<(usize, usize), Vec<(u32, u32)>>,
    /// The newest presence a member has seen of a writer, members in rows.
    awareness_seen: Vec<u32>,
    text: String,
}

impl Ledger {
    /// The books of a room in which `writers` of `members` write edits of `edit_length` characters as the clients from
    /// `first_client` on.
    pub(super) fn new(first_client: u64, members: usize, writers: usize, edit_length: u32) -> Self {
        Self {
            first_client,
            edit_length,
            members,
            writers: (0..writers).map(|_| Writer::default()).collect(),
            seen: vec![0; members * writers],
            early: BTreeMap::new(),
            awareness_seen: vec![0; members * writers],
            text: String::new(),
        }
    }

    /// Appends the next edit of a writer, an update that continues the text it wrote before.
    pub(super) fn write(&mut self, writer: usize, now: Nanos, out: &mut Vec<u8>) {
        let client = self.first_client + writer as u64;
        let Some(written) = self.writers.get_mut(writer) else {
            return;
        };
        let clock = written.edits.len() as u32 * self.edit_length;
        written.edits.push(now);
        self.text.clear();
        self.text.extend((clock..clock + self.edit_length).map(letter));
        let insertion = Insertion {
            origin: clock.checked_sub(1),
            right_origin: None,
            text: &self.text,
        };
        write_update(out, client, clock, &[insertion], &[]);
    }

    /// Appends everything a writer wrote as one update.
    pub(super) fn write_all(&self, writer: usize, out: &mut Vec<u8>) {
        let text: String = (0..self.clock_of(writer)).map(letter).collect();
        let insertion = Insertion {
            origin: None,
            right_origin: None,
            text: &text,
        };
        let insertions = if text.is_empty() {
            &[][..]
        } else {
            &[insertion][..]
        };
        write_update(out, self.first_client + writer as u64, 0, insertions, &[]);
    }

    /// Notes that a writer writes presence; returns the client and the number of the message, from 1 on.
    pub(super) fn write_awareness(&mut self, writer: usize, now: Nanos) -> (u64, u32) {
        let client = self.first_client + writer as u64;
        let Some(written) = self.writers.get_mut(writer) else {
            return (client, 0);
        };
        written.awareness.push(now);
        (client, written.awareness.len() as u32)
    }

    /// Notes that a part of an update reached a member; returns whose it is.
    pub(super) fn arrived(
        &mut self,
        member: usize,
        part: Part,
        now: Nanos,
        measures: &mut Measures,
    ) -> Result<usize, UpdateError> {
        let (client, start, end) = match part {
            Part::Written { client, start, end } => (client, start, end),
            Part::Deleted { client, .. } => return Err(UpdateError::ForeignClient(client)),
        };
        let foreign = UpdateError::ForeignClient(client);
        let writer = self.writer_of(client).ok_or(foreign)?;
        let row = member * self.writers.len() + writer;
        let (Some(seen), Some(written)) = (self.seen.get_mut(row), self.writers.get(writer)) else {
            return Err(foreign);
        };
        if end > written.edits.len() as u32 * self.edit_length {
            return Err(foreign);
        }
        let length = u64::from(self.edit_length);
        if start > *seen {
            measures.counts.out_of_order += u64::from(end - start) / length;
            self.early.entry((member, writer)).or_default().push((start, end));
            return Ok(writer);
        }
        measures.counts.overlapping += u64::from(end.min(*seen) - start) / length;
        let mut reached = end.max(*seen);
        if !self.early.is_empty()
            && let Some(early) = self.early.get_mut(&(member, writer))
        {
            early.sort_unstable();
            early.retain(|(start, end)| {
                let follows = *start <= reached;
                reached = if follows { reached.max(*end) } else { reached };
                !follows
            });
        }
        let edits = (*seen / self.edit_length) as usize..(reached / self.edit_length) as usize;
        *seen = reached;
        let own = writer == member;
        let count = if own {
            &mut measures.counts.acknowledged
        } else {
            &mut measures.counts.delivered
        };
        *count += edits.len() as u64;
        let latencies = if own {
            &mut measures.acknowledgement
        } else {
            &mut measures.propagation
        };
        for time in written.edits.get(edits).unwrap_or_default() {
            if measures.window.contains(time) {
                latencies.record(now - time);
            }
        }
        Ok(writer)
    }

    /// Notes that presence of a client reached a member.
    pub(super) fn awareness_arrived(
        &mut self,
        member: usize,
        client: u64,
        number: u32,
        now: Nanos,
        measures: &mut Measures,
    ) {
        let Some(writer) = self.writer_of(client) else {
            return;
        };
        let row = member * self.writers.len() + writer;
        let (Some(seen), Some(written)) = (self.awareness_seen.get_mut(row), self.writers.get(writer)) else {
            return;
        };
        let time = written.awareness.get((number as usize).wrapping_sub(1));
        if let (Some(time), true, true) = (time, number > *seen, writer != member) {
            *seen = number;
            measures.counts.awareness_delivered += 1;
            if measures.window.contains(time) {
                measures.awareness.record(now - time);
            }
        }
    }

    /// How many edits a writer has written.
    pub(super) fn written(&self, writer: usize) -> u64 {
        self.writers
            .get(writer)
            .map_or(0, |writer| writer.edits.len() as u64)
    }

    /// How many edits of a writer a member does not have yet.
    pub(super) fn in_flight(&self, writer: usize, member: usize) -> u64 {
        let seen = self
            .seen
            .get(member * self.writers.len() + writer)
            .copied()
            .unwrap_or(0);
        u64::from((self.clock_of(writer) - seen) / self.edit_length)
    }

    /// How many deliveries to members other than the author are missing.
    pub(super) fn missing(&self) -> u64 {
        let pairs =
            (0..self.members).flat_map(|member| (0..self.writers.len()).map(move |writer| (member, writer)));
        pairs
            .filter(|(member, writer)| member != writer)
            .map(|(member, writer)| self.in_flight(writer, member))
            .sum()
    }

    /// How many edits have not come back to their authors.
    pub(super) fn unacknowledged(&self) -> u64 {
        (0..self.writers.len())
            .map(|writer| self.in_flight(writer, writer))
            .sum()
    }

    /// What is missing in a replica that has these parts, in edits.
    pub(super) fn missing_in(&self, parts: &[Part]) -> u64 {
        let mut books = Self::new(self.first_client, 1, self.writers.len(), self.edit_length);
        let mut unused = Measures::default();
        for (copy, written) in books.writers.iter_mut().zip(&self.writers) {
            copy.edits.clone_from(&written.edits);
        }
        for part in parts {
            // Parts of others are none of ours, and none of what is missing.
            let _ = books.arrived(0, *part, Nanos::MAX, &mut unused);
        }
        (0..self.writers.len())
            .map(|writer| books.in_flight(writer, 0))
            .sum()
    }

    fn clock_of(&self, writer: usize) -> u32 {
        self.writers
            .get(writer)
            .map_or(0, |writer| writer.edits.len() as u32 * self.edit_length)
    }

    fn writer_of(&self, client: u64) -> Option<usize> {
        let writer = usize::try_from(client.checked_sub(self.first_client)?).ok()?;
        (writer < self.writers.len()).then_some(writer)
    }
}

/// The character that every writer types at this clock.
fn letter(clock: u32) -> char {
    char::from(b'a' + (clock % 26) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::updates::read_update;

    const CLIENT: u64 = 1 << 31;

    fn written(edits: usize) -> (Ledger, Measures) {
        let mut ledger = Ledger::new(CLIENT, 2, 1, 1);
        for edit in 0..edits {
            ledger.write(0, edit as Nanos * 1_000_000, &mut Vec::new());
        }
        (
            ledger,
            Measures {
                window: 0..Nanos::MAX,
                ..Measures::default()
            },
        )
    }

    fn part(start: u32, end: u32) -> Part {
        Part::Written {
            client: CLIENT,
            start,
            end,
        }
    }

    #[test]
    fn each_edit_of_a_merged_update_is_a_delivery_with_its_own_latency() {
        let (mut ledger, mut measures) = written(3);
        ledger
            .arrived(1, part(0, 3), 2_000_000, &mut measures)
            .expect("an edit of this run");
        assert_eq!(measures.counts.delivered, 3);
        assert_eq!(measures.propagation.summary().max_ms, 2.0);
        assert_eq!((ledger.missing(), ledger.unacknowledged()), (0, 3));
        ledger
            .arrived(0, part(0, 3), 2_000_000, &mut measures)
            .expect("an edit of this run");
        assert_eq!((measures.counts.acknowledged, ledger.unacknowledged()), (3, 0));
    }

    #[test]
    fn what_arrives_twice_counts_once_and_is_told() {
        let (mut ledger, mut measures) = written(3);
        for (start, end) in [(0, 2), (1, 3), (0, 1)] {
            ledger
                .arrived(1, part(start, end), 9_000_000, &mut measures)
                .expect("an edit of this run");
        }
        assert_eq!((measures.counts.delivered, measures.counts.overlapping), (3, 2));
    }

    #[test]
    fn what_arrives_too_early_counts_when_the_rest_is_there() {
        let (mut ledger, mut measures) = written(4);
        ledger
            .arrived(1, part(2, 4), 9_000_000, &mut measures)
            .expect("an edit of this run");
        assert_eq!(
            (
                measures.counts.delivered,
                measures.counts.out_of_order,
                ledger.missing()
            ),
            (0, 2, 4)
        );
        ledger
            .arrived(1, part(0, 2), 9_000_000, &mut measures)
            .expect("an edit of this run");
        assert_eq!((measures.counts.delivered, ledger.missing()), (4, 0));
    }

    #[test]
    fn what_nobody_wrote_is_refused() {
        let (mut ledger, mut measures) = written(1);
        assert!(ledger.arrived(1, part(0, 2), 0, &mut measures).is_err());
        let stranger = Part::Written {
            client: 1,
            start: 0,
            end: 1,
        };
        assert_eq!(
            ledger.arrived(1, stranger, 0, &mut measures),
            Err(UpdateError::ForeignClient(1))
        );
    }

    #[test]
    fn an_edit_is_the_update_that_the_ledger_expects() {
        let mut ledger = Ledger::new(CLIENT, 2, 2, 40);
        let mut update = Vec::new();
        ledger.write(1, 0, &mut Vec::new());
        ledger.write(1, 0, &mut update);
        let mut parts = Vec::new();
        read_update(&update, |part| {
            parts.push(part);
            Ok(())
        })
        .expect("a well-formed update");
        assert_eq!(
            parts,
            [Part::Written {
                client: CLIENT + 1,
                start: 40,
                end: 80
            }]
        );
        assert_eq!(ledger.missing_in(&parts), 2);
        let mut everything = Vec::new();
        ledger.write_all(1, &mut everything);
        parts.clear();
        read_update(&everything, |part| {
            parts.push(part);
            Ok(())
        })
        .expect("a well-formed update");
        assert_eq!(ledger.missing_in(&parts), 0);
    }
}
