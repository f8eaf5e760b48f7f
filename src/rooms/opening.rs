//! What a page's room is opened with: what is stored, or what an application knows of a page that never was.

use storage::{LoggedUpdate, NewUpdate, PageCommit, PageId, StoreError, StoredPage};

use super::{Refusal, RefusalCode, loading::open_document, registry::Shared};
use crate::telemetry::Traces;

fn refused(error: &StoreError) -> Refusal {
    tracing::error!(%error, "the store could not load a page");
    Refusal::unavailable("the page cannot be loaded now, connect again")
}

/// What is stored of a page; of one that never was, the first content that is known elsewhere, stored by now.
pub(super) async fn stored(page: &PageId, shared: &Shared) -> Result<Option<StoredPage>, Refusal> {
    let load = async || shared.store.load(page).await.map_err(|error| refused(&error));
    let stored = load().await?;
    if stored.is_none() {
        let renamed = shared.store.renamed(page).await;
        if renamed.map_err(|error| refused(&error))?.is_some() {
            return Err(Refusal::renamed(None));
        }
    }
    let (None, Some(elsewhere)) = (&stored, &shared.first_content) else {
        return Ok(stored);
    };
    let Some(update) = elsewhere.of(page).await? else {
        return Ok(None);
    };
    let row = LoggedUpdate {
        seq: 1,
        data: update.clone(),
        user: None,
    };
    // It comes from outside, as edits do: what no room could be made of is not stored.
    open_document(shared.config.room.gate, None, vec![row]).map_err(|error| {
        tracing::error!(%error, "the first content of a page is no document; the page is not opened");
        Refusal::new(
            RefusalCode::Internal,
            "the first content of the page cannot be read",
        )
    })?;
    let commit = PageCommit {
        page: page.clone(),
        size_bytes: Some(update.len() as u64),
        updates: vec![NewUpdate {
            data: update,
            user: None,
        }],
        generation: None,
    };
    let committed = shared.writer.commit(commit, Traces::default()).await;
    committed.map_err(|_| Refusal::draining())?;
    load().await
}
