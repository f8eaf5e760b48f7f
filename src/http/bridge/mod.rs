//! The bridge of backends: they tell events in rooms, and send users out of them.
//!
//! A backend signs the raw body (see [`signature`]), or shows its token. Status codes and bodies are
//! those that backends of this kind of bridge know, not those of REST.

pub(super) mod broadcast;
pub(super) mod kick;

use axum::{
    Json,
    body::Bytes,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
pub(super) use broadcast::{broadcast, broadcast_batch};
pub(super) use kick::kick;
use serde::Serialize;
use utoipa::ToSchema;

use super::{App, body::UnreadBody, now, refusals::Refused};
use crate::{auth::signature, rooms::Refusal};

/// Largest body, in bytes.
const MAX_BODY_BYTES: usize = 1 << 20;
/// Header with the signature of a body.
const SIGNATURE: &str = "x-broadcast-signature";

/// Why something was not done.
#[derive(Serialize, ToSchema)]
pub(super) struct BridgeError {
    /// The reason in words.
    error: String,
    /// Which event of a list it is about, from 0 on. The others are not told either.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    index: Option<usize>,
}

fn refused(status: StatusCode, error: &str) -> Response {
    let error = BridgeError {
        error: error.to_owned(),
        index: None,
    };
    (status, Json(error)).into_response()
}

fn stranger() -> Response {
    not_authenticated(signature::unproven())
}

/// Who asked is told the same whatever the reason is.
fn not_authenticated(reason: Refusal) -> Response {
    let mut answer = refused(StatusCode::UNAUTHORIZED, "Authentication failed");
    answer.extensions_mut().insert(Refused(reason));
    answer
}

/// Reads the body of a backend. What the headers say already is looked at first: nobody else's body is waited for.
async fn body_of_backend(
    app: &App,
    headers: &HeaderMap,
    uri: &Uri,
    body: UnreadBody,
) -> Result<Bytes, Response> {
    let signature = match headers.get(SIGNATURE) {
        Some(given) => match (given.to_str(), &app.broadcast_secret) {
            (Ok(given), Some(secret)) if signature::may_hold(now(), given) => Some((secret, given)),
            _ => return Err(stranger()),
        },
        None => match app.allow_backend(headers, uri).await {
            Ok(_) => None,
            Err(error) if headers.contains_key(header::AUTHORIZATION) => {
                return Err(not_authenticated(error.refusal()));
            }
            Err(_) => return Err(stranger()),
        },
    };
    let body = read(body).await?;
    match signature {
        Some((secret, given)) if !signature::verify(secret, now(), given, &body) => Err(stranger()),
        Some(_) | None => Ok(body),
    }
}

async fn read(body: UnreadBody) -> Result<Bytes, Response> {
    let body = body.at_most(MAX_BODY_BYTES).await;
    body.ok_or_else(|| refused(StatusCode::PAYLOAD_TOO_LARGE, "Body too large"))
}
