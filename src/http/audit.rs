//! `GET /api/audit`: what was done and refused, the newest first, for backends and administrators.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, Uri},
};
use serde::Deserialize;
use serde_json::{Value, json};
use storage::AuditQuery;

use super::{
    App, HttpError,
    pages::{limit_of, next_after},
};
use crate::rooms::Refusal;

#[derive(Deserialize)]
pub(super) struct Listing {
    user: Option<String>,
    action: Option<String>,
    outcome: Option<String>,
    from: Option<String>,
    to: Option<String>,
    before: Option<u64>,
    limit: Option<usize>,
}

/// See the module.
pub(super) async fn list(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
    query: Result<Query<Listing>, QueryRejection>,
) -> Result<Json<Value>, HttpError> {
    app.allow_backend(&headers, &uri).await?;
    let Query(listing) = query?;
    let time = |text: Option<String>| text.as_deref().map(humantime::parse_rfc3339_weak).transpose();
    let no_time = |_| Refusal::malformed("from and to are times: write `2030-01-31T12:00:00Z`");
    let limit = limit_of(listing.limit);
    let query = AuditQuery {
        user: listing.user,
        action: listing.action,
        outcome: listing.outcome,
        from: time(listing.from).map_err(no_time)?,
        to: time(listing.to).map_err(no_time)?,
        before: listing.before,
        limit,
    };
    let found = app.store.audited(&query).await?;
    let next = next_after(&found, limit, |(number, _)| *number);
    let entries: Vec<Value> = found
        .into_iter()
        .map(|(number, entry)| {
            json!({
                "id": number,
                "at": humantime::format_rfc3339_millis(entry.at).to_string(),
                "action": entry.action,
                "outcome": entry.outcome,
                "userId": entry.user,
                "pageId": entry.page,
                "address": entry.address,
                "detail": entry.detail,
            })
        })
        .collect();
    Ok(Json(json!({ "entries": entries, "next": next })))
}
