//! `POST /api/kick`: a backend sends a user's connections out of a room.
//!
//! The backend signs the raw body (see [`signature`]), or shows its token. Status codes and bodies are
//! those that backends of this kind of bridge know, not those of REST.

use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use storage::EVERYBODY;

use super::{App, body::UnreadBody, now};
use crate::{
    access::Note,
    auth::signature,
    rooms::{Refusal, RefusalCode},
};

/// Largest body, in bytes.
const MAX_BODY_BYTES: usize = 1 << 20;
/// Header with the signature of a body.
const SIGNATURE: &str = "x-broadcast-signature";

fn refused(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}

/// Reads the body of a backend. What the headers say already is looked at first: nobody else's body is waited for.
async fn body_of_backend(
    app: &App,
    headers: &HeaderMap,
    uri: &Uri,
    body: UnreadBody,
) -> Result<Bytes, Response> {
    let stranger = || refused(StatusCode::UNAUTHORIZED, "Authentication failed");
    let signature = match headers.get(SIGNATURE) {
        Some(given) => match (given.to_str(), &app.broadcast_secret) {
            (Ok(given), Some(secret)) if signature::may_hold(now(), given) => Some((secret, given)),
            _ => return Err(stranger()),
        },
        None if app.allow_backend(headers, uri).await.is_ok() => None,
        None => return Err(stranger()),
    };
    let body = body.at_most(MAX_BODY_BYTES).await;
    let body = body.ok_or_else(|| refused(StatusCode::PAYLOAD_TOO_LARGE, "Body too large"))?;
    match signature {
        Some((secret, given)) if !signature::verify(secret, now(), given, &body) => Err(stranger()),
        Some(_) | None => Ok(body),
    }
}

/// Whom to send away, from where, and why.
struct Kick {
    user: String,
    room: String,
    reason: String,
    except: Option<String>,
}

impl Kick {
    fn read(body: &[u8]) -> Result<Self, &'static str> {
        let fields: Map<String, Value> = serde_json::from_slice(body).map_err(|_| "Invalid JSON")?;
        let text = |name: &str| {
            let text = fields.get(name)?.as_str()?;
            (!text.is_empty()).then(|| text.to_owned())
        };
        Ok(Self {
            user: text("userId").ok_or("Missing or invalid userId")?,
            room: text("roomPattern").ok_or("Missing or invalid roomPattern")?,
            reason: text("reason").ok_or("Missing or invalid reason")?,
            except: text("exceptUserId"),
        })
    }
}

/// See the module.
pub(super) async fn kick(State(app): State<App>, headers: HeaderMap, uri: Uri, body: UnreadBody) -> Response {
    let body = match body_of_backend(&app, &headers, &uri, body).await {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    let kick = match Kick::read(&body) {
        Ok(kick) => kick,
        Err(error) => return refused(StatusCode::BAD_REQUEST, error),
    };
    let user = Some(kick.user.as_str()).filter(|user| *user != EVERYBODY);
    let access = &app.around.access;
    let refusal = Refusal::new(RefusalCode::Forbidden, "you were sent out of the page");
    let pages = access.send_away(user, Some(&kick.room), kick.except.as_deref(), &refusal);
    access.audit().note(
        now(),
        Note {
            action: "kick",
            outcome: "ok",
            user: Some(&kick.user),
            page: Some(&kick.room),
            detail: &kick.reason,
            ..Note::default()
        },
    );
    let rooms: &[&str] = if pages.is_empty() { &[] } else { &[&kick.room] };
    Json(json!({ "success": true, "kickedCount": pages.len(), "rooms": rooms })).into_response()
}
