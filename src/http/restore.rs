//! REST for bringing back what a page was: a version of it, or what it was without some user's changes. Either is an edit on top, which
//! members see and can undo, and which merges with what they write meanwhile.

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, Uri},
};
use crdt::{Deeds, Document, PastError, Row};
use serde::Deserialize;
use storage::{NewVersion, PageId, Past, Seq, VersionKind};
use utoipa::ToSchema;

use super::{
    App, HttpError,
    body::UnreadBody,
    described::Stored,
    now,
    openapi::{
        parameters::{Brief, PageName},
        refusals::{Briefly, Restoring},
    },
    page_state::{head, view},
    pages::PageInPath,
    past::{self, not_kept},
    versions::{VersionInPath, unknown_version},
    whole::whole,
};
use crate::{
    access::Note,
    auth::Identity,
    history::PAST_AT_ONCE,
    reader::new_client,
    rooms::{Refusal, RefusalCode, Role},
};

/// Rows of which the changes of one user are undone at once.
const MAX_UNDONE_ROWS: u64 = 10_000;

impl From<PastError> for HttpError {
    fn from(error: PastError) -> Self {
        match error {
            PastError::Damaged(error) => Self::Damaged(error),
            PastError::Broken(error) => Self::Broken(error),
            PastError::TooMuchWork => {
                Refusal::too_large("the page is too entangled for this to be found out").into()
            }
            PastError::Malformed(error) => {
                tracing::error!(%error, "what is stored of a page's past cannot be read");
                Refusal::new(
                    RefusalCode::Internal,
                    "what is stored of the page's past is damaged",
                )
                .into()
            }
            PastError::Inconsistent => {
                tracing::error!("a page does not have what its past has");
                Refusal::new(
                    RefusalCode::Internal,
                    "what is stored of the page's past is damaged",
                )
                .into()
            }
        }
    }
}

/// Makes a page say again what it said at a version.
///
/// That is an edit, which members see and can undo. What the page said before becomes a version, too.
#[utoipa::path(
    post,
    path = "/api/pages/{id}/versions/{version}/restore",
    operation_id = "restoreVersion",
    tag = "history",
    params(("id" = PageName, Path), ("version" = u64, Path, description = "Its number"), Brief),
    responses((status = 200, description = "It is stored", body = Stored), Briefly, Restoring),
)]
pub(super) async fn restore(
    State(app): State<App>,
    VersionInPath(page, version): VersionInPath,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Stored, HttpError> {
    let identity = app.allow(&headers, &uri, &page, Role::Edit).await?;
    let found = app.store.version(&page, version).await?;
    let found = found.ok_or_else(unknown_version)?;
    let _permit = PAST_AT_ONCE.acquire().await;
    let mut then = past::state(&app, &page, found.version.seq).await?.state.document;
    let reason = format!("before version {version} was restored");
    let update = edit(&app, &page, move |mut now| {
        take_in(&mut now, &then.encode()?)?;
        crdt::restore(new_client(), &mut now, &mut then)
    });
    store(&app, &page, &identity, update.await?, ("restore_version", reason)).await
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Undo {
    /// Whose changes are undone.
    user: String,
    /// The number of the first row.
    #[schema(minimum = 1)]
    #[serde(deserialize_with = "whole")]
    from_seq: u64,
    /// The number of the last row: no less than `fromSeq`, and less than 10,000 more.
    #[serde(deserialize_with = "whole")]
    to_seq: u64,
}

/// Undoes what one user did in a stretch of the log, and leaves what others did.
///
/// That is an edit, which members see and can undo. What the page said before becomes a version.
#[utoipa::path(
    post,
    path = "/api/pages/{id}/undo",
    operation_id = "undoChanges",
    tag = "history",
    params(("id" = PageName, Path), Brief),
    request_body = Undo,
    responses((status = 200, description = "It is stored", body = Stored), Briefly, Restoring),
)]
pub(super) async fn undo(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
    body: UnreadBody,
) -> Result<Stored, HttpError> {
    let identity = app.allow(&headers, &uri, &page, Role::Edit).await?;
    let Undo {
        user,
        from_seq,
        to_seq,
    } = body.json().await?;
    if from_seq == 0 || to_seq < from_seq {
        return Err(Refusal::malformed("fromSeq is at least 1, and toSeq no less than fromSeq").into());
    }
    if to_seq - from_seq >= MAX_UNDONE_ROWS {
        return Err(Refusal::too_large("changes of at most 10000 rows are undone at once").into());
    }
    let _permit = PAST_AT_ONCE.acquire().await;
    let past = app.store.past(&page, from_seq - 1, to_seq).await?;
    let past = past.ok_or_else(not_kept)?;
    let reason = format!("before changes of {user:?} from row {from_seq} to {to_seq} were undone");
    let limits = app.gate;
    let update = edit(&app, &page, move |mut now| {
        let (before, rows) = at_row(past, from_seq, &user);
        let (deeds, mut kept) = Deeds::of(limits, before, rows)?;
        if deeds.is_empty() {
            return Ok(Bytes::from_static(NOTHING));
        }
        take_in(&mut now, &kept.encode()?)?;
        crdt::undo(new_client(), &mut now, &mut kept, &deeds)
    });
    store(&app, &page, &identity, update.await?, ("undo", reason)).await
}

/// What leads to the state before row `from`, and the rows from there on, of which those of `user` are meant.
fn at_row(past: Past, from: Seq, user: &str) -> (Vec<Bytes>, Vec<Row>) {
    let (before, behind): (Vec<_>, Vec<_>) = past.rows.into_iter().partition(|row| row.seq < from);
    let base = past.base.into_iter();
    let before = base.chain(before.into_iter().map(|row| row.data)).collect();
    let rows = behind.into_iter().map(|row| Row {
        is_meant: row.user.as_deref() == Some(user),
        update: row.data,
    });
    (before, rows.collect())
}

/// An update that changes nothing.
const NOTHING: &[u8] = &[0, 0];

/// What the page lacks that was there before: rows that another process has stored, and its room has not seen yet.
fn take_in(now: &mut Document, state: &Bytes) -> Result<(), PastError> {
    Ok(now.take_in_stored(state.clone())?)
}

/// Makes an edit of a page as it is now, away from the runtime's threads.
async fn edit(
    app: &App,
    page: &PageId,
    make: impl FnOnce(Document) -> Result<Bytes, PastError> + Send + 'static,
) -> Result<Bytes, HttpError> {
    if app.is_draining() {
        return Err(Refusal::draining().into());
    }
    let (view, _) = view(app, page, Document::encode)
        .await?
        .ok_or_else(HttpError::unknown_page)?;
    let limits = app.gate;
    let work = tokio::task::spawn_blocking(move || {
        let now = Document::load(limits, [view.value])?;
        make(now)
    });
    let made = work.await;
    Ok(made.map_err(|_| Refusal::new(RefusalCode::Internal, "a defect of the server"))??)
}

/// Stores an edit, and what there was before it as a version; answers when that is durable.
async fn store(
    app: &App,
    page: &PageId,
    identity: &Identity,
    update: Bytes,
    (action, reason): (&str, String),
) -> Result<Stored, HttpError> {
    let (seq, _) = head(app, page).await?.ok_or_else(HttpError::unknown_page)?;
    if update == NOTHING {
        return Ok(Stored { seq });
    }
    let before = NewVersion {
        seq,
        kind: VersionKind::Restore,
        name: None,
        user: identity.user.as_deref().map(str::to_owned),
        reason: Some(reason),
    };
    // Where there are too many already, none is made: that keeps nobody from restoring one of them.
    app.past
        .add_version(page, &before)
        .await
        .map_err(HttpError::from)?;
    let seq = app
        .around
        .registry
        .post(page, identity.user.clone(), update)
        .await?;
    app.around.access.audit().note(
        now(),
        Note {
            action,
            outcome: "ok",
            user: identity.user.as_deref(),
            page: Some(page.as_str()),
            detail: before.reason.as_deref().unwrap_or_default(),
            ..Note::default()
        },
    );
    Ok(Stored { seq })
}
