//! REST for webhooks: what waits to be delivered and what was given up, for backends and administrators, who may have it sent again.

use axum::{
    Json,
    extract::{Path, Query, State, rejection::PathRejection, rejection::QueryRejection},
    http::{HeaderMap, Uri},
};
use serde::{Deserialize, Serialize};
use storage::{DeliveryState, WebhookDelivery};
use utoipa::ToSchema;

use super::{
    App, HttpError, now,
    openapi::{
        parameters::{Label, WaitingOrDead},
        refusals::{Asking, Conflicting, Reading},
    },
    pages::{limit_of, next_after, timestamp},
};
use crate::{
    access::Note,
    auth::Identity,
    rooms::{Refusal, RefusalCode},
};

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Listing {
    /// Those that wait, or those that were given up; `pending` if nothing is said.
    #[param(value_type = Option<WaitingOrDead>)]
    state: Option<String>,
    /// The `next` of the answer before.
    after: Option<u64>,
    /// Most deliveries; 100 if nothing is said, at most 1 000.
    #[param(format = Int64)]
    limit: Option<usize>,
}

/// Deliveries, and where the listing goes on.
#[derive(Serialize, ToSchema)]
pub(super) struct DeliveryListing {
    deliveries: Vec<Delivery>,
    /// The next `after`; null at the end.
    #[schema(required)]
    next: Option<u64>,
}

/// An event on its way to an address.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Delivery {
    /// The same in every attempt.
    id: String,
    #[schema(value_type = WaitingOrDead)]
    state: &'static str,
    event: String,
    page_id: String,
    #[schema(required)]
    seq: Option<u64>,
    target: String,
    /// When it happened.
    #[schema(format = DateTime)]
    at: String,
    /// Since when it waits.
    #[schema(format = DateTime)]
    since: String,
    attempts: u64,
    #[schema(required)]
    last_error: Option<String>,
    /// When it was given up.
    #[schema(required, format = DateTime)]
    dead_since: Option<String>,
}

/// How many are sent again.
#[derive(Serialize, ToSchema)]
pub(super) struct Replayed {
    replayed: u64,
    /// The next `after`; null at the end.
    #[schema(required)]
    next: Option<u64>,
}

/// Lists deliveries of webhooks that wait, or were given up, the oldest first.
#[utoipa::path(
    get,
    path = "/api/webhooks/deliveries",
    operation_id = "listDeliveries",
    tag = "webhooks",
    params(Listing),
    responses((status = 200, description = "Deliveries", body = DeliveryListing), Asking),
)]
pub(super) async fn list(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
    query: Result<Query<Listing>, QueryRejection>,
) -> Result<Json<DeliveryListing>, HttpError> {
    app.allow_backend(&headers, &uri).await?;
    let Query(Listing { state, after, limit }) = query?;
    let state = match state.as_deref() {
        None => DeliveryState::Pending,
        Some(word) => {
            DeliveryState::parse(word).ok_or_else(|| Refusal::malformed("state is `pending` or `dead`"))?
        }
    };
    let limit = limit_of(limit);
    let found = app
        .store
        .webhooks(state, after.unwrap_or_default(), limit)
        .await?;
    let next = next_after(&found, limit, |delivery| delivery.number);
    let deliveries = found.into_iter().map(shown).collect();
    Ok(Json(DeliveryListing { deliveries, next }))
}

/// Sends a delivery again that was given up, before what waits behind it.
#[utoipa::path(
    post,
    path = "/api/webhooks/deliveries/{id}/replay",
    operation_id = "replayDelivery",
    tag = "webhooks",
    params(("id" = Label, Path, description = "The id of a delivery")),
    responses((status = 200, description = "It is sent again", body = Replayed), Conflicting, Reading),
)]
pub(super) async fn replay(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<Replayed>, HttpError> {
    let identity = app.allow_backend(&headers, &uri).await?;
    let Path(id) = id?;
    let unknown = || Refusal::new(RefusalCode::NotFound, "there is no such delivery");
    let found = app.store.webhook(&id).await?.ok_or_else(unknown)?;
    if app.store.replay_webhooks(now(), &[found.number]).await? == 0 {
        let refusal = Refusal::new(RefusalCode::Conflict, "it was not given up, and is sent anyway");
        return Err(refusal.into());
    }
    note(&app, &identity, 1);
    Ok(Json(Replayed {
        replayed: 1,
        next: None,
    }))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Part {
    /// The `next` of the answer before.
    after: Option<u64>,
    /// Most deliveries; 100 if nothing is said, at most 1 000.
    #[param(format = Int64)]
    limit: Option<usize>,
}

/// Sends deliveries again that were given up, the oldest first.
#[utoipa::path(
    post,
    path = "/api/webhooks/replay",
    operation_id = "replayDeliveries",
    tag = "webhooks",
    params(Part),
    responses((status = 200, description = "They are sent again", body = Replayed), Asking),
)]
pub(super) async fn replay_all(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
    query: Result<Query<Part>, QueryRejection>,
) -> Result<Json<Replayed>, HttpError> {
    let identity = app.allow_backend(&headers, &uri).await?;
    let Query(Part { after, limit }) = query?;
    let limit = limit_of(limit);
    let found = app
        .store
        .webhooks(DeliveryState::Dead, after.unwrap_or_default(), limit)
        .await?;
    let next = next_after(&found, limit, |delivery| delivery.number);
    let numbers: Vec<u64> = found.iter().map(|delivery| delivery.number).collect();
    let replayed = match numbers.is_empty() {
        true => 0,
        false => app.store.replay_webhooks(now(), &numbers).await?,
    };
    note(&app, &identity, replayed);
    Ok(Json(Replayed { replayed, next }))
}

fn note(app: &App, identity: &Identity, replayed: u64) {
    app.around.access.audit().note(
        now(),
        Note {
            action: "replay_webhooks",
            outcome: "ok",
            user: identity.user.as_deref(),
            detail: &format!("{replayed} of them"),
            ..Note::default()
        },
    );
}

fn shown(delivery: WebhookDelivery) -> Delivery {
    Delivery {
        id: delivery.id,
        state: delivery.state.as_str(),
        event: delivery.event,
        page_id: delivery.page,
        seq: delivery.seq,
        target: delivery.target,
        at: timestamp(delivery.at),
        since: timestamp(delivery.since),
        attempts: delivery.attempts,
        last_error: delivery.last_error,
        dead_since: delivery.ended_at.map(timestamp),
    }
}
