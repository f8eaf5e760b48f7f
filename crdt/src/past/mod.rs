//! The past of a document: who did what in it, and undoing that as an edit on top, all from bytes and without an engine.
//!
//! What was inserted is deleted, and what was deleted is put there again as copies: beside what is left of it, as the undo manager of Yjs
//! does. So the outcome is an update like any other, under a client id of its own, which merges with what others write meanwhile and
//! which a client can undo in turn.

mod compare;
mod content;
mod deeds;
mod lists;
mod revert;
mod waiting;

use bytes::Bytes;
use thiserror::Error;

pub use compare::{Fate, Piece, Thing, compare};
pub use deeds::{Deeds, Row};

use crate::document::Document;
use crate::error::{ApplyError, DecodeError, LoadError};
use crate::id_set::IdSet;
use crate::limits::Limits;
use crate::state_vector::{ClientId, StateVector};
use crate::update::Update;
pub(crate) use lists::{Item, List, Lists, NONE, Owner};

/// Why something cannot be undone. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PastError {
    /// A row or a state is not an update.
    #[error("what is stored is not well-formed: {0}")]
    Malformed(#[from] DecodeError),
    /// What is stored does not fit together.
    #[error(transparent)]
    Damaged(#[from] LoadError),
    /// A document broke.
    #[error(transparent)]
    Broken(#[from] ApplyError),
    /// It would take too long to find out what stands where.
    #[error("the document is too entangled")]
    TooMuchWork,
    /// The states are not of one document.
    #[error("the states do not belong together")]
    Inconsistent,
}

/// How many items of a document stand elsewhere than between their neighbours: copies of it may differ there.
pub(crate) fn misplaced(whole: Bytes) -> Result<usize, PastError> {
    let parse = |bytes| Update::parse(bytes, &Limits::trusted());
    let nothing = parse(Bytes::from_static(&[0, 0]))?;
    Ok(Lists::to_count(parse(whole)?, nothing)?.misplaced())
}

/// The edit under `client`, which must be new, that makes of a document what it was in the state `then`. It is empty when nothing has
/// changed since.
///
/// # Errors
/// When a document broke, or the two are not of one page.
pub fn restore(client: ClientId, now: &mut Document, then: &mut Document) -> Result<Bytes, PastError> {
    let (now, then) = (admitted(now)?, admitted(then)?);
    let known = then.state_vector();
    let mut deeds = Deeds::default();
    for run in now.runs() {
        let start = run.start.max(known.get(run.client));
        deeds.insert(run.client, start, run.end);
    }
    let deleted = deleted_in(&then);
    now.each_delete(|found| {
        let end = found.range.end.min(known.get(found.client));
        deeds.delete(found.client, found.range.start, end, &deleted);
    });
    undo_in(client, &now, then, &deeds)
}

/// The edit under `client`, which must be new, that undoes in a document what was done. `kept` has the content of what was deleted: it comes
/// with the [`Deeds`].
///
/// # Errors
/// When a document broke, or the two are not of one page.
pub fn undo(
    client: ClientId,
    now: &mut Document,
    kept: &mut Document,
    deeds: &Deeds,
) -> Result<Bytes, PastError> {
    undo_in(client, &admitted(now)?, admitted(kept)?, deeds)
}

fn undo_in(client: ClientId, now: &Update, then: Update, deeds: &Deeds) -> Result<Bytes, PastError> {
    if !now.state_vector().covers(&then.state_vector()) {
        return Err(PastError::Inconsistent);
    }
    let deleted = deleted_in(now);
    let lists = Lists::new(then, now.clone())?;
    revert::revert(client, lists, &deleted, deeds)
}

/// What is in a document without what waits for something missing.
fn admitted(document: &mut Document) -> Result<Update, PastError> {
    let bytes = document.admitted_since(&StateVector::new())?;
    Ok(Update::parse(bytes, &Limits::trusted())?)
}

fn deleted_in(update: &Update) -> IdSet {
    let mut deleted = IdSet::default();
    update.each_delete(|found| deleted.insert(found.client, found.range));
    deleted
}
