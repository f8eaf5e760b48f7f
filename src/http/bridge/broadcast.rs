//! `POST /api/broadcast` and `POST /api/broadcast/batch`: a backend tells events in rooms.

use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use subtle::ConstantTimeEq;
use utoipa::ToSchema;

use super::{BridgeError, body_of_backend, read, refused};
use crate::{
    events::{Broadcast, BroadcastBody, BroadcastError},
    http::{App, body::UnreadBody, openapi::refusals::Defect},
    rooms::{RefusalCode, RoomKind},
};

/// Events of one request.
const MAX_BATCH: usize = 1000;

/// The events of one request.
#[derive(ToSchema)]
#[schema(max_items = 1000)]
#[expect(dead_code, reason = "it describes what `broadcast_batch` reads")]
struct Batch(Vec<BroadcastBody>);

/// The body of a request, and whether it may speak to workspaces alone.
async fn body_of_speaker(
    app: &App,
    headers: &HeaderMap,
    uri: &Uri,
    body: UnreadBody,
) -> Result<(Bytes, bool), Response> {
    let bearer = headers.get(header::AUTHORIZATION);
    let bearer = bearer.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    if let (Some(token), Some(indexer)) = (bearer, &app.indexer_token)
        && bool::from(token.ct_eq(indexer.expose().as_bytes()))
    {
        return Ok((read(body).await?, true));
    }
    let body = body_of_backend(app, headers, uri, body).await?;
    Ok((body, false))
}

fn status(error: &BroadcastError) -> StatusCode {
    match error {
        BroadcastError::Json | BroadcastError::Payload => StatusCode::BAD_REQUEST,
        BroadcastError::Audience | BroadcastError::Reserved => StatusCode::FORBIDDEN,
        BroadcastError::Conflict => StatusCode::CONFLICT,
        BroadcastError::Refused(refusal) => match refusal.code {
            RefusalCode::Malformed => StatusCode::BAD_REQUEST,
            RefusalCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            RefusalCode::NotFound
            | RefusalCode::PageDeleted
            | RefusalCode::PageRenamed
            | RefusalCode::PageRebuilt => StatusCode::NOT_FOUND,
            RefusalCode::Conflict => StatusCode::CONFLICT,
            RefusalCode::Unauthenticated
            | RefusalCode::TokenExpired
            | RefusalCode::TokenRevoked
            | RefusalCode::Forbidden
            | RefusalCode::ReadOnly => StatusCode::FORBIDDEN,
            RefusalCode::RoomFull
            | RefusalCode::RateLimited
            | RefusalCode::Unavailable
            | RefusalCode::Draining
            | RefusalCode::Internal => StatusCode::SERVICE_UNAVAILABLE,
        },
    }
}

fn check(broadcast: &Broadcast, is_indexer: bool) -> Result<(), BroadcastError> {
    let is_allowed = !is_indexer || broadcast.room.kind() == RoomKind::Workspace;
    is_allowed.then_some(()).ok_or(BroadcastError::Audience)
}

/// To how many an event was told.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct EventTold {
    /// Always true.
    success: bool,
    /// Sockets in the room.
    delivered: usize,
}

/// To how many events were told, in their order.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct EventsTold {
    /// Always true.
    success: bool,
    results: Vec<Delivered>,
}

/// To how many an event of a list was told.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Delivered {
    /// Sockets in the room.
    delivered: usize,
}

/// Tells an event in a room.
///
/// A body has at most 1 MiB.
#[utoipa::path(
    post,
    path = "/api/broadcast",
    operation_id = "tellEvent",
    tag = "bridge",
    security(("signature" = []), ("bearer" = [])),
    request_body = BroadcastBody,
    responses(
        (status = 200, description = "It is told", body = EventTold),
        (status = 400, description = "The body is not what it must be", body = BridgeError),
        (status = 401, description = "No token, or a signature that proves nothing", body = BridgeError),
        (status = 403, description = "There is no such room, or the name of the event is reserved", body = BridgeError),
        (status = 404, description = "What the event is to change is not there", body = BridgeError),
        (status = 409, description = "The id was used for another event", body = BridgeError),
        (status = 413, description = "The body is too large", body = BridgeError),
        (status = 503, description = "What the event is to change cannot be changed now", body = BridgeError),
        Defect,
    ),
)]
pub(in crate::http) async fn broadcast(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
    body: UnreadBody,
) -> Response {
    let (body, is_indexer) = match body_of_speaker(&app, &headers, &uri, body).await {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    let telling = async {
        let broadcast = Broadcast::read(&body)?;
        check(&broadcast, is_indexer)?;
        let events = &app.around.events;
        events
            .end_broadcast(events.begin_broadcast(broadcast).await?)
            .await
    };
    match telling.await {
        Ok(delivered) => {
            let success = true;
            Json(EventTold { success, delivered }).into_response()
        }
        Err(error) => refused(status(&error), &error.to_string()),
    }
}

/// Tells many events, after all of them have been checked.
///
/// At most 1,000. A body has at most 1 MiB.
#[utoipa::path(
    post,
    path = "/api/broadcast/batch",
    operation_id = "tellEvents",
    tag = "bridge",
    security(("signature" = []), ("bearer" = [])),
    request_body = inline(Batch),
    responses(
        (status = 200, description = "They are told", body = EventsTold),
        (status = 400, description = "The body is not what it must be", body = BridgeError),
        (status = 401, description = "No token, or a signature that proves nothing", body = BridgeError),
        (status = 403, description = "There is no such room, or the name of an event is reserved", body = BridgeError),
        (status = 404, description = "What an event is to change is not there", body = BridgeError),
        (status = 409, description = "An id was used for another event", body = BridgeError),
        (status = 413, description = "The body is too large", body = BridgeError),
        (status = 503, description = "What an event is to change cannot be changed now", body = BridgeError),
        Defect,
    ),
)]
pub(in crate::http) async fn broadcast_batch(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
    body: UnreadBody,
) -> Response {
    let (body, is_indexer) = match body_of_speaker(&app, &headers, &uri, body).await {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    let at = |index: usize, error: &BroadcastError| {
        let body = BridgeError {
            error: error.to_string(),
            index: Some(index),
        };
        (status(error), Json(body)).into_response()
    };
    let events = match Broadcast::split(&body) {
        Ok(events) if events.len() <= MAX_BATCH => events,
        Ok(_) => return refused(StatusCode::BAD_REQUEST, "Invalid broadcast payload"),
        Err(error) => return refused(status(&error), &error.to_string()),
    };
    let mut broadcasts = Vec::with_capacity(events.len());
    for (index, event) in events.iter().enumerate() {
        let read = Broadcast::read(event.get().as_bytes());
        let checked = read.and_then(|broadcast| check(&broadcast, is_indexer).map(|()| broadcast));
        match checked {
            Ok(broadcast) => broadcasts.push(broadcast),
            Err(error) => return at(index, &error),
        }
    }
    let (events, mut told) = (&app.around.events, Vec::with_capacity(broadcasts.len()));
    if let Err((index, error)) = events.check_broadcasts(&broadcasts).await {
        return at(index, &error);
    }
    for (index, broadcast) in broadcasts.into_iter().enumerate() {
        match events.begin_broadcast(broadcast).await {
            Ok(done) => told.push(done),
            Err(error) => return at(index, &error),
        }
    }
    let mut results = Vec::with_capacity(told.len());
    for (index, done) in told.into_iter().enumerate() {
        match events.end_broadcast(done).await {
            Ok(delivered) => results.push(Delivered { delivered }),
            Err(error) => return at(index, &error),
        }
    }
    let success = true;
    Json(EventsTold { success, results }).into_response()
}
