//! The struct store: a document as the structs that its clients wrote, in order, without an engine.
//!
//! It keeps for each client its structs ([`blocks`]) and where they belong ([`lineage`]), and what is deleted. That is enough to decide
//! what of an update can be integrated, to answer any state vector, and to drop the content of what is deleted. What stands where in a
//! text it does not know: that takes an integration, which replicas and readers do.

mod block;
mod blocks;
mod division;
mod key_order;
mod lineage;
mod rewrite;
mod take_in;

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::encoding::{Write, number_length};
use crate::id_set::{ClockRange, IdRange, IdSet, normalize, subtract};
use crate::pending::Pending;
use crate::state_vector::{ClientId, StateVector};
use crate::update::{Body, Id, Keep, Section, Update};
use blocks::Blocks;
pub(crate) use division::TakenIn;
use lineage::{Lineage, contains};

/// A document as structs.
#[derive(Debug, Default)]
pub(crate) struct StructStore {
    known: StateVector,
    clients: BTreeMap<ClientId, Box<Blocks>>,
    lineage: Lineage,
    /// How many bytes the sections of all clients have.
    size: usize,
    deleted: IdSet,
    /// Deleted content stays.
    keeps_deleted: bool,
    /// What was deleted since this was asked for, if it was.
    newly_deleted: Option<IdSet>,
}

impl StructStore {
    /// An empty store. With `keeps_deleted` the content of what is deleted stays.
    pub(crate) fn new(keeps_deleted: bool) -> Self {
        Self {
            keeps_deleted,
            ..Self::default()
        }
    }

    /// What has been deleted since this was asked last; from the second time on.
    pub(crate) fn take_newly_deleted(&mut self) -> IdSet {
        self.newly_deleted.replace(IdSet::default()).unwrap_or_default()
    }

    /// The clocks up to which structs are there.
    pub(crate) fn known(&self) -> &StateVector {
        &self.known
    }

    /// Whether an update would bring nothing new: everything it inserts is there, and everything it deletes is deleted, or is `early`.
    /// Takes no more steps than the update has structs and ranges, times the logarithm of what is looked up.
    pub(crate) fn contains(&self, update: &Update, early: &Pending) -> bool {
        let mut is_known = update.runs().into_iter().all(|run| {
            let start = self.known.get(run.client).max(run.start);
            let range = ClockRange { start, end: run.end };
            start >= run.end || early.has_structs(run.client, range)
        });
        update.each_delete(|IdRange { client, mut range }| {
            while is_known && let Some(part) = self.deleted.first_missing(client, range) {
                is_known = early.has_deletes(client, part);
                range.start = part.end;
            }
        });
        is_known
    }

    /// What a replica with this state vector lacks, as one update with all deletes, as Yjs writes it. Takes time in proportion to the
    /// answer.
    pub(crate) fn diff(&self, has: &StateVector) -> Vec<u8> {
        let mut lacking: Vec<(ClientId, u32)> = Vec::new();
        for (client, end) in self.known.iter().rev() {
            let from = has.get(client);
            if from < end {
                lacking.push((client, from));
            }
        }
        let mut out = Vec::new();
        out.put_number(lacking.len() as u64);
        let mut body = Body::default();
        for (client, from) in lacking {
            if let Some(blocks) = self.clients.get(&client) {
                let written = body.write(
                    blocks.sections(client, from, |clock| self.is_in_list(client, clock)),
                    from,
                    &mut out,
                );
                debug_assert!(written.is_some(), "there is something from the clock on");
            }
        }
        self.deleted.write(&mut out);
        out
    }

    /// How many bytes [`Self::encode`] gives: never less, and more only by the heads of the pieces that are put together when they leave.
    /// Constant time.
    pub(crate) fn encoded_size(&self) -> usize {
        number_length(self.clients.len() as u64) + self.size + self.deleted.encoded_size()
    }

    /// The whole document as one update.
    pub(crate) fn encode(&self) -> Bytes {
        let mut encoded = self.diff(&StateVector::new());
        // It is kept, so it should not keep the room in which it grew.
        encoded.shrink_to_fit();
        Bytes::from(encoded)
    }

    fn is_in_list(&self, client: ClientId, clock: u32) -> bool {
        self.lineage.is_list(self.lineage.at(Id { client, clock }).0)
    }

    /// Puts structs that have been judged behind those that are there, and notes which of them come deleted, in order.
    fn append(&mut self, bytes: &[u8], section: &Section, from: u32, come_deleted: &mut Vec<IdRange>) {
        let client = section.client;
        let lineage = &self.lineage;
        let before = come_deleted.len();
        let blocks = self.clients.entry(client).or_insert_with(|| {
            // With the clock at which every section begins.
            self.size += number_length(client.0) + number_length(0) + Blocks::default().encoded_size();
            Box::default()
        });
        self.size -= blocks.encoded_size();
        blocks.append(
            bytes,
            section,
            from,
            |clock| lineage.is_list(lineage.at(Id { client, clock }).0),
            |range| match come_deleted.get_mut(before..).and_then(<[_]>::last_mut) {
                Some(last) if last.range.end == range.start => last.range.end = range.end,
                _ => come_deleted.push(IdRange { client, range }),
            },
        );
        self.size += blocks.encoded_size();
        let new = come_deleted.get(before..).unwrap_or_default();
        self.deleted.extend(client, new.iter().map(|found| found.range));
    }

    /// What of new structs goes at once, because it came into a type that is gone.
    fn dead_among(&mut self, new: &[Keep]) -> Vec<IdRange> {
        let mut found = Vec::new();
        for Keep { section, from } in new {
            let (client, end) = (section.client, section.end);
            let places = self.lineage.places(client, ClockRange { start: *from, end });
            let is_deleted = |id| contains(&self.deleted, id);
            found.extend(
                places
                    .filter(|(_, place)| self.lineage.is_dead(*place, is_deleted))
                    .map(|(range, place)| (IdRange { client, range }, place)),
            );
        }
        for owner in found
            .iter()
            .filter_map(|(_, place)| self.lineage.owner(*place))
            .collect::<Vec<_>>()
        {
            self.lineage.take_children(owner);
        }
        found.into_iter().map(|(range, _)| range).collect()
    }

    /// Deletes what is there, and everything in it. Of what is `gone`, and of everything in what is deleted, not even its place stays: the
    /// type it is in is gone. All that goes is found first, so that each block is rewritten once or twice, however deep types are nested.
    fn delete(&mut self, mut deleted: Vec<IdRange>, mut gone: Vec<IdRange>) {
        let mut parts = Vec::new();
        normalize(&mut deleted);
        for IdRange { client, range } in deleted {
            (self.deleted).missing_from(client, range, |range| parts.push(IdRange { client, range }));
        }
        let mut deleted = parts;
        for &range in &deleted {
            gone.extend(self.lineage.take_children_in(range));
        }
        let mut at = 0;
        while let Some(&range) = gone.get(at) {
            gone.extend(self.lineage.take_children_in(range));
            at += 1;
        }
        normalize(&mut gone);
        if !gone.is_empty() {
            deleted = subtract(&deleted, &gone);
        }
        for &IdRange { client, range } in deleted.iter().chain(&gone) {
            if let Some(new) = &mut self.newly_deleted {
                (self.deleted).missing_from(client, range, |range| new.insert(client, range));
            }
            self.deleted.insert(client, range);
        }
        if !self.keeps_deleted {
            self.rewrite(&gone, true);
            self.rewrite(&deleted, false);
        }
    }

    fn rewrite(&mut self, deleted: &[IdRange], collect: bool) {
        for of_client in deleted.chunk_by(|left, right| left.client == right.client) {
            let client = of_client.first().map(|found| found.client);
            if let Some((client, blocks)) =
                client.and_then(|client| Some((client, self.clients.get_mut(&client)?)))
            {
                let ranges: Vec<_> = of_client.iter().map(|found| found.range).collect();
                self.size -= blocks.encoded_size();
                blocks.delete(client, &ranges, collect);
                self.size += blocks.encoded_size();
            }
        }
    }
}
