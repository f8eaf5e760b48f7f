//! REST for webhooks: what waits to be delivered and what was given up, for backends and administrators, who may have it sent again.

use axum::{
    Json,
    extract::{Path, Query, State, rejection::PathRejection, rejection::QueryRejection},
    http::{HeaderMap, Uri},
};
use serde::Deserialize;
use serde_json::{Value, json};
use storage::{DeliveryState, WebhookDelivery};

use super::{
    App, HttpError, now,
    pages::{limit_of, next_after},
};
use crate::{
    access::Note,
    auth::Identity,
    rooms::{Refusal, RefusalCode},
};

#[derive(Deserialize)]
pub(super) struct Listing {
    state: Option<String>,
    after: Option<u64>,
    limit: Option<usize>,
}

/// `GET /api/webhooks/deliveries`: those that wait or, with `state=dead`, those that were given up, the oldest first.
pub(super) async fn list(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
    query: Result<Query<Listing>, QueryRejection>,
) -> Result<Json<Value>, HttpError> {
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
    let deliveries: Vec<Value> = found.into_iter().map(shown).collect();
    Ok(Json(json!({ "deliveries": deliveries, "next": next })))
}

/// `POST /api/webhooks/deliveries/{id}/replay`: one that was given up is sent again, before what waits behind it.
pub(super) async fn replay(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<Value>, HttpError> {
    let identity = app.allow_backend(&headers, &uri).await?;
    let Path(id) = id?;
    let unknown = || Refusal::new(RefusalCode::NotFound, "there is no such delivery");
    let found = app.store.webhook(&id).await?.ok_or_else(unknown)?;
    if app.store.replay_webhooks(now(), &[found.number]).await? == 0 {
        let refusal = Refusal::new(RefusalCode::Conflict, "it was not given up, and is sent anyway");
        return Err(refusal.into());
    }
    note(&app, &identity, 1);
    Ok(Json(json!({ "replayed": 1 })))
}

#[derive(Deserialize)]
pub(super) struct Part {
    after: Option<u64>,
    limit: Option<usize>,
}

/// `POST /api/webhooks/replay`: those that were given up are sent again, the oldest first; `next` says where the next part begins.
pub(super) async fn replay_all(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
    query: Result<Query<Part>, QueryRejection>,
) -> Result<Json<Value>, HttpError> {
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
    Ok(Json(json!({ "replayed": replayed, "next": next })))
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

fn shown(delivery: WebhookDelivery) -> Value {
    let time = |at| humantime::format_rfc3339_millis(at).to_string();
    json!({
        "id": delivery.id,
        "state": delivery.state.as_str(),
        "event": delivery.event,
        "pageId": delivery.page,
        "seq": delivery.seq,
        "target": delivery.target,
        "at": time(delivery.at),
        "since": time(delivery.since),
        "attempts": delivery.attempts,
        "lastError": delivery.last_error,
        "deadSince": delivery.ended_at.map(time),
    })
}
