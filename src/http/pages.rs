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
use serde::Deserialize;
use serde_json::{Value, json};
use storage::{PageId, PageRecord, Seq};

use super::{
    App, HttpError,
    body::UnreadBody,
    page_state::{answer, tag, view},
    past::{self, When},
};
use crate::{
    auth::Identity,
    reader::ReadError,
    rooms::{Condition, Refusal, RefusalCode, Role, heavily},
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

#[derive(Deserialize)]
pub(super) struct Listing {
    #[serde(default)]
    prefix: String,
    after: Option<String>,
    limit: Option<usize>,
    /// Those in the trash instead of the others, for whoever manages them.
    #[serde(default)]
    deleted: bool,
}

/// `GET /api/pages`: pages in id order that the asker may see.
pub(super) async fn list(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
    query: Result<Query<Listing>, QueryRejection>,
) -> Result<Json<Value>, HttpError> {
    let identity = app.identify(&headers, &uri).await?;
    let Query(listing) = query?;
    let limit = limit_of(listing.limit);
    let listed = app.visible(&identity, &listing.prefix, listing.after, limit, listing.deleted);
    let (records, next) = listed.await?;
    let pages: Vec<_> = records.iter().map(describe_record).collect();
    Ok(Json(json!({ "pages": pages, "next": next })))
}

impl App {
    /// Pages in id order that somebody may see, those in the trash or the others, and behind which one there may be more.
    pub(super) async fn visible(
        &self,
        identity: &Identity,
        prefix: &str,
        mut after: Option<String>,
        limit: usize,
        deleted: bool,
    ) -> Result<(Vec<PageRecord>, Option<String>), HttpError> {
        let reach = self.around.access.reach(identity).await?;
        let mut visible = Vec::new();
        for range in reach.remaining(prefix, after.as_deref()) {
            loop {
                let records = range.pages(&self.store, after.as_deref(), limit).await?;
                let is_last = records.len() < limit;
                for record in records {
                    after = Some(record.page.as_str().to_owned());
                    let is_wanted = record.deleted_at.is_some() == deleted;
                    // Pages that the asker may not see are skipped, so that a listing says nothing of them.
                    if is_wanted && self.may_list(identity, &record).await? {
                        visible.push(record);
                    }
                    if visible.len() == limit {
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

pub(super) fn describe_record(record: &PageRecord) -> Value {
    let mut described = json!({
        "pageId": record.page.as_str(),
        "generation": record.generation.0,
        "seq": record.seq,
        "sizeBytes": record.size_bytes,
        "createdAt": timestamp(record.created_at),
        "updatedAt": timestamp(record.updated_at),
    });
    if let Some(at) = record.deleted_at {
        described["deletedAt"] = timestamp(at).into();
    }
    described
}

pub(super) fn timestamp(time: std::time::SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// `GET /api/pages/{id}`: what is known of a page.
pub(super) async fn describe(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<Value>, HttpError> {
    app.allow(&headers, &uri, &page, Role::View).await?;
    let record = app.store.page(&page).await?;
    let sized = |document: &mut crdt::Document| {
        let size = document.encoded_size_estimate() as u64;
        Ok((size, document.encode()?))
    };
    let (view, connections) = match view(&app, &page, sized).await? {
        Some(view) => view,
        None => return Err(HttpError::unknown_page()),
    };
    let (size, state) = view.value;
    let fields = match app.readers.fields(&page, state).await {
        Ok(fields) => fields,
        // All that does not come from its content is known all the same.
        Err(ReadError::Unreadable { .. } | ReadError::Unshown { .. }) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let fields: Value = fields
        .into_iter()
        .map(|(name, kind)| json!({ "name": name, "type": kind }))
        .collect();
    let record = record.ok_or_else(HttpError::unknown_page)?;
    let mut described = describe_record(&record);
    described["seq"] = view.seq.into();
    described["sizeBytes"] = size.into();
    described["fields"] = fields;
    described["unreadable"] = app.readers.is_unreadable(&page).into();
    described["connections"] = connections.into();
    let history = app.store.history(&page).await?;
    described["historyBytes"] = history.bytes.into();
    described["historyFromSeq"] = history.first_seq.into();
    Ok(Json(described))
}

#[derive(Deserialize)]
pub(super) struct SnapshotQuery {
    sv: Option<String>,
    seq: Option<Seq>,
    version: Option<u64>,
}

/// `GET /api/pages/{id}/snapshot`: the merged document as one update, or what a state vector lacks.
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
                let merged = heavily(true, || merge(&mut past.state.document)).map_err(HttpError::Broken)?;
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

/// `POST /api/pages/{id}/updates`: adds one update and answers when it is stored.
pub(super) async fn post_update(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
    body: UnreadBody,
) -> Result<Json<Value>, HttpError> {
    let seq = add_update(&app, &page, &headers, &uri, body).await?;
    Ok(Json(json!({ "seq": seq })))
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

#[derive(Deserialize)]
pub(super) struct Stateless {
    payload: String,
}

/// `POST /api/pages/{id}/stateless`: tells the members something that is no part of the page; answers how many there are to hear it.
pub(super) async fn post_stateless(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
    body: UnreadBody,
) -> Result<Json<Value>, HttpError> {
    app.allow(&headers, &uri, &page, Role::Comment).await?;
    let Stateless { payload } = body.json().await?;
    let limit = app.around.max_message_bytes;
    if limit != 0 && payload.len() > limit {
        return Err(Refusal::too_large("the payload is over the limit of messages").into());
    }
    let delivered = app.around.registry.announce(&page, payload.into()).await;
    Ok(Json(json!({ "delivered": delivered })))
}
