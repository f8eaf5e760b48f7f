//! The document library behind one narrow door: every call that bytes from outside can reach is caught when it panics.

use std::panic::{AssertUnwindSafe, catch_unwind};

use yrs::updates::decoder::Decode;
use yrs::{Doc, OffsetKind, Options, ReadTxn, Transact};

use crate::error::ApplyError;
use crate::id_set::{ClockRange, IdRange};
use crate::state_vector::{ClientId, StateVector};

/// An unpacked document.
pub(crate) struct Live {
    doc: Doc,
    /// What is deleted is freed in a transaction of its own.
    collects_later: bool,
}

/// What applying did beyond what the update says.
pub(crate) struct Applied {
    /// Everything that was deleted, also what follows from other deletes.
    pub(crate) deleted: Vec<IdRange>,
}

impl Live {
    /// An empty document. With `collects_later` it may hold subdocuments (see [`collect_deleted`]), and takes longer.
    pub(crate) fn new(collects_later: bool) -> Self {
        // The library's defaults draw a random identity; this replica writes nothing, so it needs none. Offsets are
        // Yjs's, and it must not tidy up formatting: that would make the server an author of deletes.
        let mut options = Options::with_guid_and_client_id("pageroom".into(), yrs::ClientID::new(0));
        options.offset_kind = OffsetKind::Utf16;
        options.cleanup_formatting = false;
        options.skip_gc = collects_later;
        Self {
            doc: Doc::with_options(options),
            collects_later,
        }
    }

    /// Applies a checked update in one transaction.
    pub(crate) fn apply(&mut self, update: &[u8]) -> Result<Applied, ApplyError> {
        guarded(|| {
            let update = yrs::Update::decode_v1(update).map_err(|_| ApplyError::Rejected)?;
            let mut transaction = self.doc.try_transact_mut().map_err(|_| ApplyError::Failed)?;
            transaction
                .apply_update(update)
                .map_err(|_| ApplyError::Rejected)?;
            transaction.commit();
            if transaction.has_missing_updates() {
                return Err(ApplyError::Diverged);
            }
            let mut deleted = Vec::new();
            let collect = self.collects_later.then(|| transaction.delete_set().clone());
            for (client, ranges) in transaction.delete_set().iter() {
                let client = ClientId(client.get());
                deleted.extend(ranges.iter().map(|range| IdRange {
                    client,
                    range: ClockRange {
                        start: range.start,
                        end: range.end,
                    },
                }));
            }
            drop(transaction);
            if let Some(collect) = collect {
                collect_deleted(&self.doc, &collect)?;
            }
            Ok(Applied { deleted })
        })
    }

    pub(crate) fn collects_later(&self) -> bool {
        self.collects_later
    }

    pub(crate) fn state_vector(&self) -> Result<StateVector, ApplyError> {
        guarded(|| {
            let transaction = self.doc.try_transact().map_err(|_| ApplyError::Failed)?;
            let known = transaction.state_vector();
            Ok(known
                .iter()
                .map(|(client, &clock)| (ClientId(client.get()), clock))
                .collect())
        })
    }

    /// What a replica with this state vector lacks.
    pub(crate) fn diff(&self, known: &StateVector) -> Result<Vec<u8>, ApplyError> {
        guarded(|| {
            let mut remote = yrs::StateVector::default();
            for (client, clock) in known.iter() {
                remote.set_max(yrs::ClientID::new(client.0), clock);
            }
            let transaction = self.doc.try_transact().map_err(|_| ApplyError::Failed)?;
            Ok(transaction.encode_diff_v1(&remote))
        })
    }

    /// Reads the document in one transaction.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&yrs::Transaction<'_>) -> T) -> Result<T, ApplyError> {
        guarded(|| {
            let transaction = self.doc.try_transact().map_err(|_| ApplyError::Failed)?;
            Ok(read(&transaction))
        })
    }
}

/// Frees what a transaction deleted, in a transaction of its own: when the library does it with the first one, it goes on
/// to say goodbye to subdocuments whose place in the document it has just freed.
pub(crate) fn collect_deleted(doc: &Doc, deleted: &yrs::IdSet) -> Result<(), ApplyError> {
    if !deleted.is_empty() {
        let mut transaction = doc.try_transact_mut().map_err(|_| ApplyError::Failed)?;
        transaction.gc(Some(deleted));
        transaction.commit();
    }
    Ok(())
}

/// Turns a panic into an error. What was being changed must not be used again; documents see to that.
pub(crate) fn guarded<T>(call: impl FnOnce() -> Result<T, ApplyError>) -> Result<T, ApplyError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or(Err(ApplyError::Panicked))
}
