//! A document as it is read: made by the document library from update bytes, and asked for its content.
//!
//! Well-formed updates exist that this library panics on, never ends with, or that make it use memory it has freed. Panics are
//! caught here; against the rest only a process of its own helps, so a server makes views in its reader processes alone.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use serde_json::{Map, Value};
use thiserror::Error;
use yrs::updates::decoder::Decode;
use yrs::{Doc, OffsetKind, Options, ReadTxn, Transact, Transaction, TransactionMut};

use crate::content::{FieldType, root_json, root_text};
use crate::document::{keep_new, take_ready};
use crate::error::DecodeError;
use crate::limits::Limits;
use crate::past::{self, PastError};
use crate::pending::Pending;
use crate::roots::Roots;
use crate::state_vector::{ClientId, StateVector};
use crate::structs::{StructStore, TakenIn};
use crate::update::{Update, merge};

/// Why a document cannot be read. Whoever keeps and serves its bytes is not concerned.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ViewError {
    /// The bytes are not an update.
    #[error("the document is not well-formed: {0}")]
    Malformed(#[from] DecodeError),
    /// The document library does not take it.
    #[error("the document library does not read this document")]
    Rejected,
    /// Parts of the document are not there.
    #[error("the document depends on something that is not in it")]
    Incomplete,
    /// The document library panicked on it. The view must not be used again.
    #[error("the document library failed on this document")]
    Panicked,
    /// One root type cannot be shown.
    #[error("the field `{name}` cannot be shown")]
    Field {
        /// Its name.
        name: String,
    },
    /// The view failed before.
    #[error("the view failed before")]
    Failed,
}

/// An update without structs and deletions.
const NOTHING: [u8; 2] = [0, 0];

/// An empty document of the library's.
fn document(client: ClientId, keeps_deleted: bool) -> Doc {
    // The library's defaults draw a random identity. Offsets are Yjs's, and it must not tidy up formatting: that would change the
    // document.
    let mut options = Options::with_guid_and_client_id("pageroom".into(), yrs::ClientID::new(client.0));
    options.offset_kind = OffsetKind::Utf16;
    options.cleanup_formatting = false;
    options.skip_gc = keeps_deleted;
    Doc::with_options(options)
}

/// A document made from updates, to be read.
pub struct View {
    doc: Doc,
    /// Keeps from the document library what waits for something missing: it would show what Yjs does not.
    store: StructStore,
    pending: Pending,
    roots: Roots,
    failed: bool,
}

impl View {
    /// An empty document. With `keeps_deleted` it frees nothing that is deleted in it, which is the safer way: what the library frees
    /// it has been seen to use again.
    pub fn new(keeps_deleted: bool) -> Self {
        Self {
            // Nothing is written here.
            doc: document(ClientId(0), keeps_deleted),
            store: StructStore::new(true),
            pending: Pending::default(),
            roots: Roots::default(),
            failed: false,
        }
    }

    /// Takes in an update: a whole state, or what came after the ones before. What builds on something that is not there waits.
    ///
    /// # Errors
    /// When it cannot be taken in. The view is unusable from then on.
    pub fn apply(&mut self, update: &[u8]) -> Result<(), ViewError> {
        if self.failed {
            return Err(ViewError::Failed);
        }
        self.failed = true;
        let checked = Update::parse(Bytes::copy_from_slice(update), &Limits::trusted())?;
        let Some(checked) = self.take_in(checked)? else {
            self.failed = false;
            return Ok(());
        };
        guarded(|| {
            let decoded = yrs::Update::decode_v1(&checked.readable()).map_err(|_| ViewError::Rejected)?;
            let mut transaction = self.doc.try_transact_mut().map_err(|_| ViewError::Failed)?;
            transaction
                .apply_update(decoded)
                .map_err(|_| ViewError::Rejected)?;
            transaction.commit();
            match transaction.has_missing_updates() {
                true => Err(ViewError::Incomplete),
                false => Ok(()),
            }
        })?;
        self.roots.learn(&checked);
        self.failed = false;
        Ok(())
    }

    /// What is complete now: of an update, and of what came before and waited for it.
    fn take_in(&mut self, update: Update) -> Result<Option<Update>, ViewError> {
        let limits = Limits::trusted();
        let taken_in = self.store.take_in(update, &limits);
        let TakenIn { new, early } = taken_in.map_err(|_| ViewError::Rejected)?;
        for (part, missing) in early {
            keep_new(&mut self.pending, part, missing);
        }
        let mut new = Vec::from_iter(new);
        let clients: Vec<_> = (new.iter().flat_map(Update::ranges))
            .map(|range| range.client)
            .collect();
        take_ready(&mut self.store, &mut self.pending, clients, &limits, |ready| {
            new.push(ready);
        });
        Ok((!new.is_empty()).then(|| merge(&new)))
    }

    /// Edits a copy of the document under `client` and gives the edits as one update, which is empty when there are none.
    pub(crate) fn edited(
        &self,
        client: ClientId,
        edit: impl FnOnce(&mut TransactionMut<'_>),
    ) -> Result<Bytes, ViewError> {
        if self.failed {
            return Err(ViewError::Failed);
        }
        guarded(|| {
            let whole = self.doc.try_transact().map_err(|_| ViewError::Failed)?;
            let whole = whole.encode_diff_v1(&yrs::StateVector::default());
            let whole = yrs::Update::decode_v1(&whole).map_err(|_| ViewError::Rejected)?;
            let copy = document(client, true);
            let mut opening = copy.try_transact_mut().map_err(|_| ViewError::Failed)?;
            opening.apply_update(whole).map_err(|_| ViewError::Rejected)?;
            drop(opening);
            let mut editing = copy.try_transact_mut().map_err(|_| ViewError::Failed)?;
            edit(&mut editing);
            let update = editing.encode_update_v1();
            Ok(match update.as_slice() == NOTHING {
                true => Bytes::new(),
                false => update.into(),
            })
        })
    }

    /// The root types in the order of their names, as far as their content tells what they are.
    pub fn fields(&self) -> Vec<(String, FieldType)> {
        self.roots
            .iter()
            .map(|(name, kinds)| (name.to_owned(), FieldType::of(kinds)))
            .collect()
    }

    /// One root type, or an object of all of them by name, as Yjs's `toJSON` gives them: text as string, map as object, list as array,
    /// XML as string. A root type with nothing left in it that would tell what it is, is null. `None` when there is no such field.
    ///
    /// # Errors
    /// When a field cannot be shown; says which.
    pub fn json(&self, field: Option<&str>) -> Result<Option<Value>, ViewError> {
        let Some(field) = field else {
            let mut all = Map::new();
            for (name, kind) in self.fields() {
                let value = self.read(&name, |transaction| root_json(transaction, &name, kind))?;
                all.insert(name, value);
            }
            return Ok(Some(Value::Object(all)));
        };
        self.kind(field)
            .map(|kind| self.read(field, |transaction| root_json(transaction, field, kind)))
            .transpose()
    }

    /// The plain text of one root type, or of all that hold text, in name order. XML blocks, and fields, are separated
    /// by newlines. `None` when there is no such field.
    ///
    /// # Errors
    /// When a field cannot be shown; says which.
    pub fn text(&self, field: Option<&str>) -> Result<Option<String>, ViewError> {
        let Some(field) = field else {
            let mut texts = Vec::new();
            for (name, kind) in self.fields() {
                texts.extend(self.read(&name, |transaction| root_text(transaction, &name, kind))?);
            }
            return Ok(Some(texts.join("\n")));
        };
        self.kind(field)
            .map(|kind| {
                let text = self.read(field, |transaction| root_text(transaction, field, kind))?;
                Ok(text.unwrap_or_default())
            })
            .transpose()
    }

    /// How much of the document is known.
    pub fn state_vector(&self) -> &StateVector {
        self.store.known()
    }

    /// How many items stand elsewhere than between their neighbours: no editor writes such neighbours, and copies that have heard of them in
    /// different orders may differ. The library is not asked.
    ///
    /// # Errors
    /// When it would take too long to find out.
    pub fn misplaced(&self) -> Result<usize, PastError> {
        past::misplaced(self.store.encode())
    }

    fn kind(&self, field: &str) -> Option<FieldType> {
        self.roots
            .iter()
            .find(|(name, _)| *name == field)
            .map(|(_, kinds)| FieldType::of(kinds))
    }

    pub(crate) fn read<T>(
        &self,
        name: &str,
        read: impl FnOnce(&Transaction<'_>) -> T,
    ) -> Result<T, ViewError> {
        if self.failed {
            return Err(ViewError::Failed);
        }
        let shown = guarded(|| {
            let transaction = self.doc.try_transact().map_err(|_| ViewError::Failed)?;
            Ok(read(&transaction))
        });
        shown.map_err(|_| ViewError::Field {
            name: name.to_owned(),
        })
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("View")
            .field("fields", &self.fields())
            .finish_non_exhaustive()
    }
}

/// Turns a panic into an error.
fn guarded<T>(call: impl FnOnce() -> Result<T, ViewError>) -> Result<T, ViewError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or(Err(ViewError::Panicked))
}
