//! The document library behind one narrow door: every call that bytes from outside can reach is caught when it panics.

use std::panic::{AssertUnwindSafe, catch_unwind};

use yrs::updates::decoder::Decode;
use yrs::{Doc, OffsetKind, Options, ReadTxn, Transact};

use crate::error::ApplyError;

/// An unpacked document.
pub(crate) struct Live {
    doc: Doc,
    /// What is deleted is freed in a transaction of its own.
    collects_later: bool,
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
    pub(crate) fn apply(&mut self, update: &[u8]) -> Result<(), ApplyError> {
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
            let collect = self.collects_later.then(|| transaction.delete_set().clone());
            drop(transaction);
            if let Some(collect) = collect {
                collect_deleted(&self.doc, &collect)?;
            }
            Ok(())
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
