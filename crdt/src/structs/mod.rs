//! The struct store: a document as the structs that its clients wrote, in order, without an engine.
//!
//! It keeps for each client its structs ([`blocks`]) and where they belong ([`lineage`]), and what is deleted. That is enough to decide
//! what of an update can be integrated, to answer any state vector, and to drop the content of what is deleted. What stands where in a
//! text it does not know: that takes an integration, which replicas and readers do.

mod blocks;
mod lineage;
mod take_in;

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::encoding::Write;
use crate::id_set::{ClockRange, IdRange, IdSet};
use crate::pending::Pending;
use crate::state_vector::{ClientId, StateVector};
use crate::update::{Body, Id, Section, Update};
use blocks::Blocks;
use lineage::{Lineage, contains};
pub(crate) use take_in::TakenIn;

/// A document as structs.
#[derive(Debug, Default)]
pub(crate) struct StructStore {
    known: StateVector,
    clients: BTreeMap<ClientId, Box<Blocks>>,
    lineage: Lineage,
    deleted: IdSet,
    /// Deleted content stays.
    keeps_deleted: bool,
}

impl StructStore {
    /// An empty store. With `keeps_deleted` the content of what is deleted stays.
    pub(crate) fn new(keeps_deleted: bool) -> Self {
        Self {
            keeps_deleted,
            ..Self::default()
        }
    }

    /// The clocks up to which structs are there.
    pub(crate) fn known(&self) -> &StateVector {
        &self.known
    }

    /// Whether an update would bring nothing new: everything it inserts is there, and everything it deletes is deleted, or is `early`.
    pub(crate) fn contains(&self, update: &Update, early: &Pending) -> bool {
        let mut is_known = update.runs().into_iter().all(|run| {
            let start = self.known.get(run.client).max(run.start);
            let range = ClockRange { start, end: run.end };
            start >= run.end || early.has_structs(run.client, range)
        });
        update.each_delete(|IdRange { client, range }| {
            self.deleted.missing_from(client, range, |part| {
                is_known &= early.has_deletes(client, part);
            });
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

    /// Puts structs that have been judged behind those that are there, and notes which of them come deleted.
    fn append(&mut self, bytes: &[u8], section: &Section, from: u32, come_deleted: &mut Vec<IdRange>) {
        let client = section.client;
        let (lineage, deleted) = (&self.lineage, &mut self.deleted);
        self.clients.entry(client).or_default().append(
            bytes,
            section,
            from,
            |clock| lineage.is_list(lineage.at(Id { client, clock }).0),
            |range| {
                deleted.insert(client, range);
                come_deleted.push(IdRange { client, range });
            },
        );
        // What comes into a type that is gone goes with it.
        let range = ClockRange {
            start: from,
            end: section.end,
        };
        let dead: Vec<_> = (self.lineage.places(client, range))
            .filter(|(_, place)| self.lineage.is_dead(*place, |id| contains(&self.deleted, id)))
            .collect();
        for (range, place) in dead {
            if let Some(owner) = self.lineage.owner(place) {
                self.lineage.take_children(owner);
            }
            self.delete(IdRange { client, range }, true);
        }
    }

    /// Deletes what is there, and everything in it. With `collect`, because the type it is in is gone, not even its place stays.
    fn delete(&mut self, first: IdRange, collect: bool) {
        let mut work = vec![(first, collect)];
        let mut types = Vec::new();
        while let Some((IdRange { client, range }, collect)) = work.pop() {
            let mut parts = Vec::new();
            match collect {
                // What was deleted before still has its place.
                true => parts.push(range),
                false => self.deleted.missing_from(client, range, |part| parts.push(part)),
            }
            for part in parts {
                self.deleted.insert(client, part);
                let Some(blocks) = self.clients.get_mut(&client) else {
                    continue;
                };
                match self.keeps_deleted {
                    true => blocks.types_in(client, part, &mut types),
                    false => blocks.delete(client, part, collect, &mut types),
                }
            }
            for owner in types.drain(..) {
                let children = self.lineage.take_children(owner);
                work.extend(children.into_iter().map(|range| (range, true)));
            }
        }
    }
}
