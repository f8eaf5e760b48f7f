//! REST for versions of a page: states of it that have a number, by themselves or because a user wanted one.

use axum::{
    Json,
    extract::{FromRequestParts, Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, Uri, header, request::Parts},
    response::IntoResponse,
};
use percent_encoding::utf8_percent_encode;
use serde::{Deserialize, Serialize};
use storage::{AddedVersion, Keep, MAX_NAMED_VERSIONS, NewVersion, PageId, Version, VersionKind};
use utoipa::ToSchema;

use super::{
    App, HttpError,
    body::UnreadBody,
    openapi::{
        parameters::{Label, PageName},
        refusals::{Asking, Reading, Restoring},
    },
    page_state::head,
    pages::{PageInPath, limit_of, next_after, timestamp},
    y_sweet::UNRESERVED,
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

/// A state that has a number.
#[derive(Serialize, ToSchema)]
pub(super) struct KeptVersion {
    /// Its number.
    version: u64,
    /// The number of the row after which it was.
    seq: u64,
    /// `automatic`, `named` by somebody, or from before a `restore`.
    kind: &'static str,
    #[schema(required)]
    name: Option<String>,
    /// Who wanted it.
    #[schema(required)]
    user: Option<String>,
    #[schema(required)]
    reason: Option<String>,
    #[schema(format = DateTime)]
    at: String,
}

fn describe(known: &Version) -> KeptVersion {
    let version = &known.version;
    KeptVersion {
        version: known.id,
        seq: version.seq,
        kind: version.kind.as_str(),
        name: version.name.clone(),
        user: version.user.clone(),
        reason: version.reason.clone(),
        at: timestamp(known.at),
    }
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Listing {
    /// The number of the version before which it goes on: `next` of what was listed before.
    before: Option<u64>,
    /// Rows at most: 100 when it is not said, and never more than 1,000.
    #[param(format = Int64)]
    limit: Option<usize>,
}

/// Versions, and where the listing goes on.
#[derive(Serialize, ToSchema)]
pub(super) struct VersionListing {
    versions: Vec<KeptVersion>,
    /// The next `before`; null at the end.
    #[schema(required)]
    next: Option<u64>,
}

/// Lists the versions of a page, the newest first.
#[utoipa::path(
    get,
    path = "/api/pages/{id}/versions",
    operation_id = "listVersions",
    tag = "history",
    params(("id" = PageName, Path), Listing),
    responses((status = 200, description = "The versions", body = VersionListing), Reading),
)]
pub(super) async fn list(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
    query: Result<Query<Listing>, QueryRejection>,
) -> Result<Json<VersionListing>, HttpError> {
    app.allow(&headers, &uri, &page, Role::View).await?;
    let Query(listing) = query?;
    let limit = limit_of(listing.limit);
    let found = app.store.versions(&page, listing.before, limit).await?;
    if found.is_empty() && app.store.page(&page).await?.is_none() {
        return Err(HttpError::unknown_page());
    }
    let next = next_after(&found, limit, |version| version.id);
    let versions = found.iter().map(describe).collect();
    Ok(Json(VersionListing { versions, next }))
}

/// Says what is known of a version.
#[utoipa::path(
    get,
    path = "/api/pages/{id}/versions/{version}",
    operation_id = "describeVersion",
    tag = "history",
    params(("id" = PageName, Path), ("version" = u64, Path, description = "Its number")),
    responses((status = 200, description = "The version", body = KeptVersion), Reading),
)]
pub(super) async fn get(
    State(app): State<App>,
    VersionInPath(page, version): VersionInPath,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<KeptVersion>, HttpError> {
    app.allow(&headers, &uri, &page, Role::View).await?;
    let version = app.store.version(&page, version).await?;
    let version = version.ok_or_else(unknown_version)?;
    Ok(Json(describe(&version)))
}

pub(super) fn unknown_version() -> HttpError {
    Refusal::new(RefusalCode::NotFound, "the page has no such version").into()
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    #[schema(value_type = Option<Label>)]
    name: Option<String>,
    /// At most 4096 bytes.
    #[schema(max_length = 4096)]
    reason: Option<String>,
}

/// The numbers of a new version.
#[derive(Serialize, ToSchema)]
pub(super) struct NumberedVersion {
    version: u64,
    /// The number of the row after which it is.
    seq: u64,
}

/// Gives the state that is stored now a number, and a name.
#[utoipa::path(
    post,
    path = "/api/pages/{id}/versions",
    operation_id = "addVersion",
    tag = "history",
    params(("id" = PageName, Path)),
    request_body = Wanted,
    responses(
        (status = 201, description = "It is kept", body = NumberedVersion, headers(
            ("location" = String, description = "The address of the version"),
        )),
        Asking,
        Restoring,
    ),
)]
pub(super) async fn post(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
    body: UnreadBody,
) -> Result<impl IntoResponse, HttpError> {
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
    if app.past.keep_of(&page).await? == Keep::Nothing {
        return Err(Refusal::new(RefusalCode::Conflict, "no history of the page is kept").into());
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
    let place = utf8_percent_encode(page.as_str(), UNRESERVED);
    let place = [(header::LOCATION, format!("/api/pages/{place}/versions/{id}"))];
    Ok((
        StatusCode::CREATED,
        place,
        Json(NumberedVersion { version: id, seq }),
    ))
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
