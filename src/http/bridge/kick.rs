//! `POST /api/kick`: a backend sends a user's connections out of rooms.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use storage::EVERYBODY;

use super::{body_of_backend, refused};
use crate::{
    access::Note,
    http::{App, body::UnreadBody, now},
    rooms::{Notice, Refusal, RefusalCode, RoomKind, RoomName},
};

/// The reasons that programs of members know.
const REASONS: [&str; 6] = [
    "member_removed",
    "role_changed",
    "permission_revoked",
    "session_revoked",
    "page_private",
    "conversation_unshared",
];
/// Of these, those for which a user stays out of a shared room until a permission is granted again.
const LASTING: [&str; 2] = ["member_removed", "permission_revoked"];
/// Rooms that one request may name.
const MAX_ROOMS: usize = 10_000;

/// Whom to send away, from where, and why.
struct Kick {
    user: String,
    rooms: Vec<String>,
    reason: String,
    except: Option<String>,
    metadata: Option<Arc<Value>>,
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
            rooms: rooms(fields.get("roomPattern")).ok_or("Missing or invalid roomPattern")?,
            reason: text("reason")
                .filter(|reason| REASONS.contains(&reason.as_str()))
                .ok_or("Missing or invalid reason")?,
            except: text("exceptUserId"),
            metadata: fields
                .get("metadata")
                .filter(|metadata| metadata.is_object())
                .map(|metadata| Arc::new(metadata.clone())),
        })
    }
}

/// One room, or a list of rooms.
fn rooms(pattern: Option<&Value>) -> Option<Vec<String>> {
    let text = |room: &Value| {
        let room = room.as_str().filter(|room| !room.is_empty())?;
        Some(room.to_owned())
    };
    let pattern = pattern?;
    match pattern.as_array() {
        Some(rooms) if (1..=MAX_ROOMS).contains(&rooms.len()) => rooms.iter().map(text).collect(),
        Some(_) => None,
        None => Some(vec![text(pattern)?]),
    }
}

/// See the module.
pub(in crate::http) async fn kick(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
    body: UnreadBody,
) -> Response {
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
    let (mut refusals, mut unkept) = (BTreeMap::new(), None);
    for spelled in &kick.rooms {
        let Some(room) = RoomName::parse(spelled).or_else(|| RoomName::page(spelled)) else {
            continue;
        };
        if let Some(user) = user
            && room.kind() == RoomKind::Shared
            && LASTING.contains(&kick.reason.as_str())
            && unkept.is_none()
        {
            unkept = access.keep_out(&room, user).await.err();
        }
        let notice = Notice {
            room: spelled.clone(),
            reason: kick.reason.clone(),
            metadata: kick.metadata.clone(),
        };
        let refusal = Refusal::new(RefusalCode::Forbidden, "you were sent out of the room");
        let notice = Some(Arc::new(notice));
        refusals.entry(room).or_insert(Refusal { notice, ..refusal });
    }
    let sent = access.send_away(user, kick.except.as_deref(), |room| refusals.get(room?).cloned());
    let left: BTreeSet<&RoomName> = sent.iter().collect();
    let spelled = |room: &RoomName| {
        let notice = refusals.get(room)?.notice.as_ref()?;
        Some(notice.room.clone())
    };
    let left: Vec<String> = left.into_iter().filter_map(spelled).collect();
    let one = match kick.rooms.as_slice() {
        [room] => Some(room.as_str()),
        _ => None,
    };
    let detail = match one {
        Some(_) => kick.reason.clone(),
        None => format!("{}: {} of {} rooms", kick.reason, left.len(), kick.rooms.len()),
    };
    access.audit().note(
        now(),
        Note {
            action: "kick",
            outcome: if unkept.is_none() { "ok" } else { "unavailable" },
            user: Some(&kick.user),
            page: one,
            detail: &detail,
            ..Note::default()
        },
    );
    if let Some(error) = unkept {
        tracing::warn!(%error, "who was sent out of a shared room is not kept out of it");
        return refused(StatusCode::SERVICE_UNAVAILABLE, "The removal could not be stored");
    }
    Json(json!({ "success": true, "kickedCount": sent.len(), "rooms": left })).into_response()
}
