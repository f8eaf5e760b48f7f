//! REST for versions of a page: states of it that have a number, by themselves or because a user wanted one.

use axum::{
    Json,
    extract::{FromRequestParts, Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, Uri, request::Parts},
};
use serde::Deserialize;
use serde_json::{Value, json};
use storage::{AddedVersion, MAX_NAMED_VERSIONS, NewVersion, PageId, Version, VersionKind};

use super::{
    App, HttpError,
    body::UnreadBody,
    page_state::head,
    pages::{PageInPath, limit_of, next_after, timestamp},
};
use crate::rooms::{Refusal, RefusalCode, Role, is_id};

/// Longest reason, in bytes.
const MAX_REASON_BYTES: usize = 4096;

/// A version that a path names, and its page.
pub(super) struct VersionInPath(pub(super) PageId, pub(super) u64);

impl<S: Send + Sync> FromRequestParts<S> for VersionInPath {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, HttpError> {
        let Path((page, version)) = Path::<(String, u64)>::from_request_parts(parts, state).await?;
        Ok(Self(PageId::new(&page)?, version))
    }
}

fn describe(known: &Version) -> Value {
    let version = &known.version;
    json!({
        "version": known.id,
        "seq": version.seq,
        "kind": version.kind.as_str(),
        "name": version.name,
        "user": version.user,
        "reason": version.reason,
        "at": timestamp(known.at),
    })
}

#[derive(Deserialize)]
pub(super) struct Listing {
    before: Option<u64>,
    limit: Option<usize>,
}

/// `GET /api/pages/{id}/versions`: the newest first.
pub(super) async fn list(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
    query: Result<Query<Listing>, QueryRejection>,
) -> Result<Json<Value>, HttpError> {
    app.allow(&headers, &uri, &page, Role::View).await?;
    let Query(listing) = query?;
    let limit = limit_of(listing.limit);
    let found = app.store.versions(&page, listing.before, limit).await?;
    if found.is_empty() && app.store.page(&page).await?.is_none() {
        return Err(HttpError::unknown_page());
    }
    let next = next_after(&found, limit, |version| version.id);
    let versions: Vec<Value> = found.iter().map(describe).collect();
    Ok(Json(json!({ "versions": versions, "next": next })))
}

/// `GET /api/pages/{id}/versions/{v}`: one of them.
pub(super) async fn get(
    State(app): State<App>,
    VersionInPath(page, version): VersionInPath,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<Value>, HttpError> {
    app.allow(&headers, &uri, &page, Role::View).await?;
    let version = app.store.version(&page, version).await?;
    let version = version.ok_or_else(unknown_version)?;
    Ok(Json(describe(&version)))
}

pub(super) fn unknown_version() -> HttpError {
    Refusal::new(RefusalCode::NotFound, "the page has no such version").into()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    name: Option<String>,
    reason: Option<String>,
}

/// `POST /api/pages/{id}/versions`: gives the state that is stored now a number, and a name.
pub(super) async fn post(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
    body: UnreadBody,
) -> Result<(StatusCode, Json<Value>), HttpError> {
    let identity = app.allow(&headers, &uri, &page, Role::Edit).await?;
    let Wanted { name, reason } = body.json().await?;
    if name.as_deref().is_some_and(|name| !is_id(name)) {
        return Err(Refusal::malformed("name has 1 to 255 bytes and no control characters").into());
    }
    if reason
        .as_ref()
        .is_some_and(|reason| reason.len() > MAX_REASON_BYTES)
    {
        return Err(Refusal::too_large("reason has at most 4096 bytes").into());
    }
    if app.past.is_off() {
        return Err(Refusal::new(RefusalCode::Conflict, "no history of pages is kept here").into());
    }
    let (seq, _) = head(&app, &page).await?.ok_or_else(HttpError::unknown_page)?;
    let version = NewVersion {
        seq,
        kind: VersionKind::Named,
        name,
        user: identity.user.as_deref().map(str::to_owned),
        reason,
    };
    let id = add(&app, &page, &version).await?;
    Ok((StatusCode::CREATED, Json(json!({ "version": id, "seq": seq }))))
}

/// Keeps a version that somebody wanted.
pub(super) async fn add(app: &App, page: &PageId, version: &NewVersion) -> Result<u64, HttpError> {
    match app.past.add_version(page, version).await? {
        AddedVersion::Added(id) => Ok(id),
        AddedVersion::Unknown => Err(HttpError::unknown_page()),
        AddedVersion::TooMany => Err(Refusal::too_large(format!(
            "the page has {MAX_NAMED_VERSIONS} versions that somebody wanted, more are not kept"
        ))
        .into()),
    }
}
