//! `POST /api/kick`: a backend sends a user's connections out of a room.
//!
//! The backend signs the raw body (see [`signature`]), or shows its token. Status codes and bodies are
//! those that backends of this kind of bridge know, not those of REST.

use axum::{
    Json,
    body::Bytes,
    extract::State,
    extract::rejection::BytesRejection,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use storage::EVERYBODY;

use super::{App, now};
use crate::{
    auth::{Note, signature},
    rooms::{Refusal, RefusalCode},
};

/// Largest body, in bytes.
const MAX_BODY_BYTES: usize = 1 << 20;
/// Header with the signature of a body.
const SIGNATURE: &str = "x-broadcast-signature";

fn refused(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}

/// Whether a backend sends this body.
async fn is_of_backend(app: &App, headers: &HeaderMap, uri: &Uri, body: &[u8]) -> bool {
    if let Some(given) = headers.get(SIGNATURE) {
        let (Ok(given), Some(secret)) = (given.to_str(), &app.broadcast_secret) else {
            return false;
        };
        return signature::verify(secret, now(), given, body);
    }
    app.allow_backend(headers, uri).await.is_ok()
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
pub(super) async fn kick(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let Some(body) = body.ok().filter(|body| body.len() <= MAX_BODY_BYTES) else {
        return refused(StatusCode::PAYLOAD_TOO_LARGE, "Body too large");
    };
    if !is_of_backend(&app, &headers, &uri, &body).await {
        return refused(StatusCode::UNAUTHORIZED, "Authentication failed");
    }
    let kick = match Kick::read(&body) {
        Ok(kick) => kick,
        Err(error) => return refused(StatusCode::BAD_REQUEST, error),
    };
    let user = Some(kick.user.as_str()).filter(|user| *user != EVERYBODY);
    let access = &app.around.access;
    let refusal = Refusal::new(RefusalCode::Forbidden, "you were sent out of the page");
    let pages = access
        .send_away(user, Some(&kick.room), kick.except.as_deref(), &refusal)
        .await;
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
