//! REST for backends: listing pages, reading them merged, and adding updates.
//!
//! A page that is open is read from its room, one that is not from the store, without opening a room for it.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequestParts, Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderName, HeaderValue, Uri, header, request::Parts},
    response::Response,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use storage::{PageId, PageRecord, Seq};
use utoipa::ToSchema;

use super::{
    App, HttpError,
    body::UnreadBody,
    described::{Field, ListedPage, PageDescription, PageListing, Stored},
    openapi::{
        parameters::{Brief, Conditions, Known, PageName, YjsUpdate},
        refusals::{Asking, Briefly, Changing, Reading, ReadingPast, Sending},
    },
    page_state::{answer, tag, view},
    past::{self, When},
    weighing::known,
};
use crate::{
    auth::Identity,
    rooms::{Condition, Refusal, RefusalCode, Role, run_blocking_if},
};

/// The state vector of the answer, base64url.
pub(super) const STATE_VECTOR_HEADER: HeaderName = HeaderName::from_static("x-pageroom-state-vector");

/// Rows of a listing when nothing else is asked for, and at most.
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

/// How many rows a listing has: as many as are asked for, within bounds.
pub(super) fn limit_of(asked: Option<usize>) -> usize {
    asked.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT)
}

/// After which row the listing goes on, when it is as long as it may be.
pub(super) fn next_after<T, K>(rows: &[T], limit: usize, key: impl FnOnce(&T) -> K) -> Option<K> {
    rows.last().filter(|_| rows.len() == limit).map(key)
}

/// The page that a path names.
pub(super) struct PageInPath(pub(super) PageId);

impl<S: Send + Sync> FromRequestParts<S> for PageInPath {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, HttpError> {
        let Path(id) = Path::<String>::from_request_parts(parts, state).await?;
        Ok(Self(PageId::new(&id)?))
    }
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Listing {
    /// How the ids begin.
    #[serde(default)]
    prefix: String,
    /// The id behind which the listing goes on: `next` of what was listed before.
    after: Option<String>,
    /// Rows at most: 100 when it is not said, and never more than 1,000.
    #[param(format = Int64)]
    limit: Option<usize>,
    /// Those in the trash instead of the others, for whoever manages them.
    #[serde(default)]
    deleted: bool,
}

/// Pages that are read at once when few of them are wanted.
const READ_AT_ONCE: usize = 500;
/// Pages that are looked at for one request.
const MAX_LOOKED_AT: usize = 5000;

/// Lists pages, in the order of their ids.
///
/// Those that the asker may see. A listing says nothing of others. While there is a `next`, more is to be asked for, also when fewer came.
#[utoipa::path(
    get,
    path = "/api/pages",
    operation_id = "listPages",
    tag = "pages",
    params(Listing),
    responses((status = 200, description = "The pages", body = PageListing), Asking),
)]
pub(super) async fn list(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
    query: Result<Query<Listing>, QueryRejection>,
) -> Result<Json<PageListing>, HttpError> {
    let identity = app.identify(&headers, &uri).await?;
    let Query(listing) = query?;
    let limit = limit_of(listing.limit);
    let listed = app.visible(&identity, &listing.prefix, listing.after, limit, listing.deleted);
    let (records, next) = listed.await?;
    let pages = records.iter().map(describe_record).collect();
    Ok(Json(PageListing { pages, next }))
}

impl App {
    /// Pages in id order that somebody may see, those in the trash or the others, and behind which one there may be more. They may be fewer
    /// than asked for when there are more: so many pages are looked at for one request.
    pub(super) async fn visible(
        &self,
        identity: &Identity,
        prefix: &str,
        mut after: Option<String>,
        limit: usize,
        deleted: bool,
    ) -> Result<(Vec<PageRecord>, Option<String>), HttpError> {
        let reach = self.around.access.reach(identity).await?;
        let (mut visible, mut looked_at) = (Vec::new(), 0);
        for range in reach.remaining(prefix, after.as_deref()) {
            loop {
                // Of those that were read first few may be wanted.
                let count = match looked_at {
                    0 => limit,
                    _ => limit.max(READ_AT_ONCE),
                };
                let records = range.pages(&self.store, after.as_deref(), count).await?;
                let is_last = records.len() < count;
                for record in records {
                    looked_at += 1;
                    after = Some(record.page.as_str().to_owned());
                    let is_wanted = record.deleted_at.is_some() == deleted;
                    // Pages that the asker may not see are skipped, so that a listing says nothing of them.
                    if is_wanted && self.may_list(identity, &record).await? {
                        visible.push(record);
                    }
                    if visible.len() == limit || looked_at == MAX_LOOKED_AT {
                        return Ok((visible, after));
                    }
                }
                if is_last {
                    break;
                }
            }
        }
        Ok((visible, None))
    }
}

pub(super) fn describe_record(record: &PageRecord) -> ListedPage {
    ListedPage {
        page_id: record.page.as_str().to_owned(),
        generation: record.generation.0.to_string(),
        seq: record.seq,
        size_bytes: record.size_bytes,
        created_at: timestamp(record.created_at),
        updated_at: timestamp(record.updated_at),
        deleted_at: record.deleted_at.map(timestamp),
    }
}

pub(super) fn timestamp(time: std::time::SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// Says what is known of a page.
#[utoipa::path(
    get,
    path = "/api/pages/{id}",
    operation_id = "describePage",
    tag = "pages",
    params(("id" = PageName, Path)),
    responses((status = 200, description = "What is known", body = PageDescription), Reading),
)]
pub(super) async fn describe(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<PageDescription>, HttpError> {
    app.allow(&headers, &uri, &page, Role::View).await?;
    let record = app.store.page(&page).await?;
    let (known, seq) = known(&app, &page).await?.ok_or_else(HttpError::unknown_page)?;
    let record = record.ok_or_else(HttpError::unknown_page)?;
    let history = app.store.history(&page).await?;
    let connections = app.around.registry.look(&page, |room| room.member_count()).await;
    Ok(Json(PageDescription {
        page: ListedPage {
            seq,
            size_bytes: known.size,
            ..describe_record(&record)
        },
        fields: known
            .fields
            .iter()
            .cloned()
            .map(|(name, kind)| Field { name, kind })
            .collect(),
        unreadable: app.readers.is_unreadable(&page),
        connections: connections.unwrap_or(0),
        history_bytes: history.bytes,
        history_from_seq: history.first_seq,
        weight: known.weight.into(),
    }))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct SnapshotQuery {
    /// A state vector of Yjs (v1), base64url: only what it lacks is answered.
    #[param(pattern = "^[A-Za-z0-9_-]*=*$")]
    sv: Option<String>,
    /// The number of a row: the state after it. Not together with `version`.
    seq: Option<u64>,
    /// The number of a version: the state that it is. Not together with `seq`.
    version: Option<u64>,
}

/// Reads a page as one update of Yjs (v1).
#[utoipa::path(
    get,
    path = "/api/pages/{id}/snapshot",
    operation_id = "readSnapshot",
    tag = "pages",
    params(("id" = PageName, Path), SnapshotQuery, Known),
    responses(
        (status = 200, description = "The update", body = YjsUpdate, content_type = "application/octet-stream", headers(
            ("etag" = String, description = "The tag of the state"),
            ("x-pageroom-seq" = u64, description = "The number of the row up to which it is stored"),
            ("x-pageroom-state-vector" = Option<String>, description = "The state vector, base64url; left out over 4096 characters"),
        )),
        (status = 304, description = "The asker has this state"),
        ReadingPast,
    ),
)]
pub(super) async fn snapshot(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
    query: Result<Query<SnapshotQuery>, QueryRejection>,
) -> Result<Response, HttpError> {
    app.allow(&headers, &uri, &page, Role::View).await?;
    let Query(query) = query?;
    let has = query
        .sv
        .as_deref()
        .map(|encoded| state_vector(encoded, &app.gate))
        .transpose()?;
    let merge = move |document: &mut crdt::Document| {
        let state_vector = document.state_vector().encode();
        let update = match &has {
            Some(has) => document.diff(has)?,
            None => document.encode()?,
        };
        Ok((update, state_vector))
    };
    let ((update, state_vector), etag, seq) =
        match When::new(query.seq, query.version).seq(&app, &page).await? {
            Some(seq) => {
                let mut past = past::state(&app, &page, seq).await?;
                let merged =
                    run_blocking_if(true, || merge(&mut past.state.document)).map_err(HttpError::Broken)?;
                (merged, past.etag, seq)
            }
            None => {
                let (view, _) = view(&app, &page, merge)
                    .await?
                    .ok_or_else(HttpError::unknown_page)?;
                (view.value, view.etag, view.seq)
            }
        };
    let kind = "application/octet-stream";
    let mut answer = answer(&headers, kind, update, &etag, seq);
    if let Ok(value) = HeaderValue::from_str(&URL_SAFE_NO_PAD.encode(state_vector)) {
        // A page of very many clients has a state vector that no header can hold; it is in the body anyway.
        if value.len() <= 4096 {
            answer.headers_mut().insert(STATE_VECTOR_HEADER, value);
        }
    }
    Ok(answer)
}

fn state_vector(encoded: &str, gate: &crdt::Limits) -> Result<crdt::StateVector, HttpError> {
    let bytes = URL_SAFE_NO_PAD
        .decode(encoded.trim_end_matches('='))
        .map_err(|_| Refusal::malformed("sv is not base64url"))?;
    let decoded = crdt::StateVector::decode(&bytes, gate);
    Ok(decoded.map_err(|error| Refusal::malformed(format!("sv is not a state vector: {error}")))?)
}

/// Adds an update of Yjs (v1), and answers when it is stored.
#[utoipa::path(
    post,
    path = "/api/pages/{id}/updates",
    operation_id = "addUpdate",
    tag = "pages",
    params(("id" = PageName, Path), Conditions, Brief),
    request_body(content = YjsUpdate, content_type = "application/octet-stream", description = "One update. The media type is not looked at"),
    responses((status = 200, description = "It is stored", body = Stored), Briefly, Changing),
)]
pub(super) async fn post_update(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
    body: UnreadBody,
) -> Result<Stored, HttpError> {
    let seq = add_update(&app, &page, &headers, &uri, body).await?;
    Ok(Stored { seq })
}

/// Adds one update for whoever asks, if it may, and returns when it is stored.
pub(super) async fn add_update(
    app: &App,
    page: &PageId,
    headers: &HeaderMap,
    uri: &Uri,
    body: UnreadBody,
) -> Result<Seq, HttpError> {
    let identity = app.allow(headers, uri, page, Role::Edit).await?;
    if app.is_draining() {
        return Err(Refusal::draining().into());
    }
    check_conditions(app, page, headers).await?;
    let update = body.bytes().await?;
    post(app, page, headers, identity.user, update).await
}

/// Puts an update into a page; with `If-None-Match: *` only if it is the first, however many ask at once.
async fn post(
    app: &App,
    page: &PageId,
    headers: &HeaderMap,
    user: Option<Arc<str>>,
    update: Bytes,
) -> Result<Seq, HttpError> {
    let condition = match is_first_only(headers) {
        true => Condition::First,
        false => Condition::Always,
    };
    match app.around.registry.post_if(page, user, update, condition).await {
        Err(refusal) if condition != Condition::Always && refusal.code == RefusalCode::Conflict => {
            Err(HttpError::Precondition)
        }
        posted => Ok(posted?),
    }
}

/// Whether a change is for a page that does not exist yet.
pub(super) fn is_first_only(headers: &HeaderMap) -> bool {
    let known = headers.get(header::IF_NONE_MATCH);
    known.is_some_and(|known| known.as_bytes().trim_ascii() == b"*")
}

/// Holds a change to what its headers say about the state of the page (`If-Match`, `If-None-Match`), before anything is done. What others
/// change between this and the change itself is merged with it, as always.
pub(super) async fn check_conditions(app: &App, page: &PageId, headers: &HeaderMap) -> Result<(), HttpError> {
    if !headers.contains_key(header::IF_MATCH) && !headers.contains_key(header::IF_NONE_MATCH) {
        return Ok(());
    }
    let tag = tag(app, page).await?;
    let names = |name| {
        let values = headers.get_all(name).iter();
        let mut tags = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        let tag = tag.as_deref();
        // A page that is ahead of the store has a tag that is none.
        tags.any(|known| match known.trim() {
            "*" => tag.is_some(),
            known => tag.is_some_and(|tag| tag == known && !tag.starts_with("W/")),
        })
    };
    let holds = (!headers.contains_key(header::IF_MATCH) || names(header::IF_MATCH))
        && (!headers.contains_key(header::IF_NONE_MATCH) || !names(header::IF_NONE_MATCH));
    match holds {
        true => Ok(()),
        false => Err(HttpError::Precondition),
    }
}

/// The merged document as one update, which is empty for a page that does not exist.
pub(super) async fn whole(app: &App, page: &PageId) -> Result<Bytes, HttpError> {
    let merged = view(app, page, crdt::Document::encode).await?;
    match merged {
        Some((view, _)) => Ok(view.value),
        None => {
            let mut nothing = crdt::Document::new(app.gate);
            nothing.encode().map_err(HttpError::Broken)
        }
    }
}

#[derive(Deserialize, ToSchema)]
pub(super) struct Stateless {
    /// What is told, as it is. At most `PAGEROOM_MAX_MESSAGE_BYTES` bytes (16 MiB).
    payload: String,
}

/// To how many something was told.
#[derive(Serialize, ToSchema)]
pub(super) struct StatelessTold {
    /// Connections that are there to hear it.
    delivered: usize,
}

/// Tells the Hocuspocus clients of a page something that is no part of it.
#[utoipa::path(
    post,
    path = "/api/pages/{id}/stateless",
    operation_id = "tellStateless",
    tag = "pages",
    params(("id" = PageName, Path)),
    request_body = Stateless,
    responses((status = 200, description = "It is told", body = StatelessTold), Reading, Sending),
)]
pub(super) async fn post_stateless(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
    body: UnreadBody,
) -> Result<Json<StatelessTold>, HttpError> {
    app.allow(&headers, &uri, &page, Role::Comment).await?;
    let Stateless { payload } = body.json().await?;
    let limit = app.around.max_message_bytes;
    if limit != 0 && payload.len() > limit {
        return Err(Refusal::too_large("the payload is over the limit of messages").into());
    }
    let delivered = app.around.registry.announce(&page, payload.into()).await;
    Ok(Json(StatelessTold { delivered }))
}
