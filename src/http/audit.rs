//! `GET /api/audit`: what was done and refused, the newest first, for backends and administrators.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, Uri},
};
use serde::{Deserialize, Serialize};
use storage::AuditQuery;
use utoipa::ToSchema;

use super::{
    App, HttpError,
    openapi::refusals::Asking,
    pages::{limit_of, next_after, timestamp},
    times::time,
};
use crate::rooms::Refusal;

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Listing {
    /// Only what this user did, or what was done to this user.
    user: Option<String>,
    /// Only this: `request`, `grant`, `kick`, …
    action: Option<String>,
    /// Only what ended so: `ok`, or the code of a refusal.
    outcome: Option<String>,
    /// Only what was on this page or in this room, as it was noted.
    page: Option<String>,
    /// Only what was at this time or later: a time of RFC 3339.
    #[param(format = DateTime)]
    from: Option<String>,
    /// Only what was before this time: a time of RFC 3339.
    #[param(format = DateTime)]
    to: Option<String>,
    /// The number of the entry before which the listing goes on: `next` of what was listed before.
    before: Option<u64>,
    /// Rows at most: 100 when it is not said, and never more than 1,000.
    #[param(format = Int64)]
    limit: Option<usize>,
}

/// Entries, and where the listing goes on.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditListing {
    entries: Vec<AuditedAction>,
    /// The next `before`; null at the end.
    #[schema(required)]
    next: Option<u64>,
}

/// Something that was done or refused.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AuditedAction {
    id: u64,
    #[schema(format = DateTime)]
    at: String,
    action: String,
    /// `ok`, or the code of a refusal.
    outcome: String,
    #[schema(required)]
    user_id: Option<String>,
    /// The page or room.
    #[schema(required)]
    page_id: Option<String>,
    /// Where the request came from.
    #[schema(required)]
    address: Option<String>,
    detail: String,
}

fn no_time() -> Refusal {
    Refusal::malformed("from and to are times: write `2030-01-31T12:00:00Z`")
}

/// Lists what was done and refused, the newest first, for backends and administrators.
#[utoipa::path(
    get,
    path = "/api/audit",
    operation_id = "listAudit",
    tag = "access",
    params(Listing),
    responses((status = 200, description = "The entries", body = AuditListing), Asking),
)]
pub(super) async fn list(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
    query: Result<Query<Listing>, QueryRejection>,
) -> Result<Json<AuditListing>, HttpError> {
    app.allow_backend(&headers, &uri).await?;
    let Query(listing) = query?;
    let read = |text: Option<String>| {
        text.as_deref()
            .map(|text| time(text).ok_or_else(no_time))
            .transpose()
    };
    let limit = limit_of(listing.limit);
    let query = AuditQuery {
        user: listing.user,
        action: listing.action,
        outcome: listing.outcome,
        page: listing.page,
        from: read(listing.from)?,
        to: read(listing.to)?,
        before: listing.before,
        limit,
    };
    let found = app.store.audited(&query).await?;
    let next = next_after(&found, limit, |(number, _)| *number);
    let entries = found.into_iter().map(|(number, entry)| AuditedAction {
        id: number,
        at: timestamp(entry.at),
        action: entry.action,
        outcome: entry.outcome,
        user_id: entry.user,
        page_id: entry.page,
        address: entry.address,
        detail: entry.detail,
    });
    Ok(Json(AuditListing {
        entries: entries.collect(),
        next,
    }))
}
