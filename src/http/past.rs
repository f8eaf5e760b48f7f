//! Reads a page in a state that it had: by the number of a row (`?seq=`), or of a version (`?version=`).

use axum::{
    body::Bytes,
    http::{HeaderMap, header},
};
use storage::{PageId, Seq};

use super::{
    App, HttpError,
    page_state::{etag, unchanged},
    versions::unknown_version,
};
use crate::{
    history::{PastError, PastState},
    rooms::{Refusal, RefusalCode, run_blocking_if},
};

/// Which state of a page is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct When {
    seq: Option<Seq>,
    version: Option<u64>,
}

impl From<PastError> for HttpError {
    fn from(error: PastError) -> Self {
        match error {
            PastError::Store(error) => error.into(),
            PastError::Damaged(error) => Self::Damaged(error),
        }
    }
}

/// What is kept no longer, or was never there.
pub(super) fn not_kept() -> HttpError {
    Refusal::new(
        RefusalCode::NotFound,
        "the page has no such state, or it is not kept",
    )
    .into()
}

/// A state that a page had.
pub(super) struct Past {
    pub(super) etag: String,
    pub(super) state: PastState,
}

impl Past {
    /// The whole document as one update.
    pub(super) fn encode(&mut self) -> Result<Bytes, HttpError> {
        let document = &mut self.state.document;
        run_blocking_if(true, || document.encode()).map_err(HttpError::Broken)
    }
}

impl When {
    pub(super) fn new(seq: Option<Seq>, version: Option<u64>) -> Self {
        Self { seq, version }
    }

    /// The row after which the state was; `None` when it is the present one that is asked for.
    pub(super) async fn seq(self, app: &App, page: &PageId) -> Result<Option<Seq>, HttpError> {
        match (self.seq, self.version) {
            (None, None) => Ok(None),
            (Some(seq), None) => Ok(Some(seq)),
            (None, Some(version)) => {
                let version = app.store.version(page, version).await?;
                Ok(Some(version.ok_or_else(unknown_version)?.version.seq))
            }
            (Some(_), Some(_)) => Err(Refusal::malformed("say `seq` or `version`").into()),
        }
    }
}

/// The tag of a state that whoever asks has already: it never changes, so nothing is read.
pub(super) async fn known(
    app: &App,
    page: &PageId,
    seq: Seq,
    headers: &HeaderMap,
) -> Result<Option<String>, HttpError> {
    if !headers.contains_key(header::IF_NONE_MATCH) {
        return Ok(None);
    }
    let record = app.store.page(page).await?;
    let tag = record.filter(|record| seq <= record.seq);
    let tag = tag.map(|record| etag(&record.generation.0, seq, false));
    Ok(tag.filter(|tag| unchanged(headers, tag)))
}

/// The state of a page after row `seq`.
pub(super) async fn state(app: &App, page: &PageId, seq: Seq) -> Result<Past, HttpError> {
    let state = app.past.state(page, seq).await?.ok_or_else(not_kept)?;
    Ok(Past {
        etag: etag(&state.generation.0, seq, false),
        state,
    })
}
