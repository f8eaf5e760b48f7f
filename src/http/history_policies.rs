//! REST for how long the past of pages is kept.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, Uri},
};
use serde::{Deserialize, Serialize};
use storage::{HistoryPolicy, Keep, KeepError, MAX_HISTORY_POLICIES};
use utoipa::ToSchema;

use super::{
    App, HttpError,
    body::UnreadBody,
    openapi::{
        parameters::PagePattern,
        refusals::{Asking, Reading, Restoring},
    },
    pages::{PageInPath, limit_of, next_after},
    permissions::allow_managing,
};
use crate::rooms::{Refusal, RefusalCode};

/// A policy that is stored.
#[derive(Serialize, ToSchema)]
pub(super) struct StoredPolicy {
    /// A page, or a prefix of ids followed by `*`.
    pages: String,
    /// `off`, `all`, `30 days` (any number of days), or `100 versions`: from the oldest of so many versions on.
    keep: String,
}

fn describe(policy: &HistoryPolicy) -> StoredPolicy {
    StoredPolicy {
        pages: policy.pages.as_str().to_owned(),
        keep: policy.keep.to_string(),
    }
}

/// How long the past is kept.
#[derive(Serialize, ToSchema)]
pub(super) struct CountingPolicy {
    /// `off`, `all`, `30 days` (any number of days), or `100 versions`: from the oldest of so many versions on.
    keep: String,
    /// Which policy says so: that on the page or on the longest prefix of its id. Null where the setting `PAGEROOM_HISTORY` does.
    #[schema(required)]
    from: Option<String>,
}

/// Says how long the past of a page is kept, and by which policy.
///
/// What it takes now is in the page's description: `historyBytes`, which `PAGEROOM_MAX_HISTORY_BYTES` bounds whatever the policy is.
#[utoipa::path(
    get,
    path = "/api/pages/{id}/history-policy",
    operation_id = "getHistoryPolicy",
    tag = "history",
    params(("id" = PagePattern, Path)),
    responses((status = 200, description = "The policy that counts", body = CountingPolicy), Reading),
)]
pub(super) async fn get(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<CountingPolicy>, HttpError> {
    allow_managing(&app, &headers, &uri, &page).await?;
    let policy = app.store.history_policy(&page).await?;
    Ok(Json(match policy {
        Some(policy) => CountingPolicy {
            keep: policy.keep.to_string(),
            from: Some(policy.pages.as_str().to_owned()),
        },
        None => CountingPolicy {
            keep: app.past.setting().to_string(),
            from: None,
        },
    }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WantedPolicy {
    /// `off`, `all`, a number of days (`30 days`), or a number of versions (`100 versions`).
    #[schema(example = "30 days")]
    keep: String,
}

/// Sets how long the past of a page, or of all pages with a prefix, is kept.
///
/// It counts before the setting `PAGEROOM_HISTORY` and before the policies on shorter prefixes. What is not to be kept any more is forgotten soon, for
/// good; versions that somebody wanted stay.
#[utoipa::path(
    put,
    path = "/api/pages/{id}/history-policy",
    operation_id = "setHistoryPolicy",
    tag = "history",
    params(("id" = PagePattern, Path)),
    request_body = WantedPolicy,
    responses((status = 200, description = "The policy", body = StoredPolicy), Restoring),
)]
pub(super) async fn set(
    State(app): State<App>,
    PageInPath(pages): PageInPath,
    headers: HeaderMap,
    uri: Uri,
    body: UnreadBody,
) -> Result<Json<StoredPolicy>, HttpError> {
    let by = allow_managing(&app, &headers, &uri, &pages).await?;
    let WantedPolicy { keep } = body.json().await?;
    let keep: Keep = keep
        .parse()
        .map_err(|problem: KeepError| Refusal::malformed(format!("keep: {problem}")))?;
    let policy = HistoryPolicy { pages, keep };
    if !app.past.set_policy(&policy).await? {
        return Err(Refusal::too_large(format!(
            "there are {MAX_HISTORY_POLICIES} policies, more are not kept: set one on a prefix"
        ))
        .into());
    }
    app.note_done(
        by.user.as_deref(),
        &policy.pages,
        "history_policy",
        &keep.to_string(),
    );
    Ok(Json(describe(&policy)))
}

/// Removes the policy on exactly this page or prefix: the next one counts, or the setting.
#[utoipa::path(
    delete,
    path = "/api/pages/{id}/history-policy",
    operation_id = "removeHistoryPolicy",
    tag = "history",
    params(("id" = PagePattern, Path)),
    responses((status = 204, description = "It is removed"), Asking, Reading),
)]
pub(super) async fn remove(
    State(app): State<App>,
    PageInPath(pages): PageInPath,
    headers: HeaderMap,
    uri: Uri,
) -> Result<StatusCode, HttpError> {
    let by = allow_managing(&app, &headers, &uri, &pages).await?;
    if !app.past.remove_policy(&pages).await? {
        return Err(Refusal::new(RefusalCode::NotFound, "there is no such policy").into());
    }
    app.note_done(by.user.as_deref(), &pages, "history_policy", "");
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Listing {
    /// The page or prefix behind which the listing goes on: `next` of what was listed before.
    after: Option<String>,
    /// Rows at most: 100 when it is not said, and never more than 1,000.
    #[param(format = Int64)]
    limit: Option<usize>,
}

/// Policies, and where the listing goes on.
#[derive(Serialize, ToSchema)]
pub(super) struct PolicyListing {
    policies: Vec<StoredPolicy>,
    /// The next `after`; null at the end.
    #[schema(required)]
    next: Option<String>,
}

/// Lists how long the past of which pages is kept, in the order of the pages.
#[utoipa::path(
    get,
    path = "/api/history-policies",
    operation_id = "listHistoryPolicies",
    tag = "history",
    params(Listing),
    responses((status = 200, description = "The policies", body = PolicyListing), Asking),
)]
pub(super) async fn list(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
    query: Result<Query<Listing>, QueryRejection>,
) -> Result<Json<PolicyListing>, HttpError> {
    app.allow_backend(&headers, &uri).await?;
    let Query(listing) = query?;
    let limit = limit_of(listing.limit);
    let found = app
        .store
        .history_policies(listing.after.as_deref(), limit)
        .await?;
    let next = next_after(&found, limit, |last| last.pages.as_str().to_owned());
    let policies = found.iter().map(describe).collect();
    Ok(Json(PolicyListing { policies, next }))
}
