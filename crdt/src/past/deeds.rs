//! What rows of a log did: which structs they inserted first, and what was deleted when they were taken in.

use bytes::Bytes;

use super::{PastError, admitted};
use crate::document::Document;
use crate::id_set::{ClockRange, IdSet};
use crate::limits::Limits;
use crate::state_vector::ClientId;
use crate::update::Update;

/// A row of the log.
#[derive(Debug, Clone)]
pub struct Row {
    /// The update.
    pub update: Bytes,
    /// What it does is meant.
    pub is_meant: bool,
}

/// What was inserted and what was deleted.
#[derive(Debug, Clone, Default)]
pub struct Deeds {
    pub(super) inserted: IdSet,
    pub(super) deleted: IdSet,
}

impl Deeds {
    /// What those rows did that are meant, beside the others and after the state `before`; and the document after all of them, with the
    /// content of what they deleted. Of what several rows bring, the first did it.
    ///
    /// # Errors
    /// When a row is no update, or the document broke.
    pub fn of(
        limits: Limits,
        before: impl IntoIterator<Item = Bytes>,
        rows: impl IntoIterator<Item = Row>,
    ) -> Result<(Self, Document), PastError> {
        let limits = Limits {
            keeps_deleted: true,
            ..limits
        };
        let mut document = Document::load(limits, before)?;
        let mut inserted = IdSet::default();
        for run in admitted(&mut document)?.runs() {
            let (start, end) = (run.start, run.end);
            inserted.insert(run.client, ClockRange { start, end });
        }
        let mut deeds = Self::default();
        // From here on it is noted what is deleted.
        document.load_more(Bytes::from_static(&[0, 0]))?;
        for Row { update, is_meant } in rows {
            let deleted = document.load_more(update.clone())?;
            for of in deleted.ranges().filter(|_| is_meant) {
                deeds.deleted.insert(of.client, of.range);
            }
            for run in Update::parse(update, &Limits::trusted())?.runs() {
                let (start, end) = (run.start, run.end);
                if is_meant {
                    deeds.insert_new(run.client, start, end, &inserted);
                }
                inserted.insert(run.client, ClockRange { start, end });
            }
        }
        Ok((deeds, document))
    }

    /// Whether nothing was done.
    pub fn is_empty(&self) -> bool {
        self.inserted.clients().next().is_none() && self.deleted.clients().next().is_none()
    }

    pub(super) fn insert(&mut self, client: ClientId, start: u32, end: u32) {
        if start < end {
            self.inserted.insert(client, ClockRange { start, end });
        }
    }

    fn insert_new(&mut self, client: ClientId, start: u32, end: u32, known: &IdSet) {
        known.missing_from(client, ClockRange { start, end }, |new| {
            self.inserted.insert(client, new)
        });
    }

    /// Notes what of a range was not deleted before.
    pub(super) fn delete(&mut self, client: ClientId, start: u32, end: u32, known: &IdSet) {
        if start < end {
            known.missing_from(client, ClockRange { start, end }, |new| {
                self.deleted.insert(client, new)
            });
        }
    }
}
