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
use serde::Serialize;
use serde_json::{Map, Value};
use storage::EVERYBODY;
use utoipa::ToSchema;

use super::{BridgeError, body_of_backend, refused};
use crate::{
    access::Note,
    http::{App, body::UnreadBody, now, openapi::refusals::Defect},
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
        let except = match fields.get("exceptUserId") {
            None | Some(Value::Null) => None,
            Some(Value::String(user)) => Some(user.clone()).filter(|user| !user.is_empty()),
            // Whoever was to stay would be sent away.
            Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                return Err("Missing or invalid exceptUserId");
            }
        };
        let metadata = match fields.get("metadata") {
            None | Some(Value::Null) => None,
            Some(metadata) if metadata.is_object() => Some(Arc::new(metadata.clone())),
            Some(_) => return Err("Missing or invalid metadata"),
        };
        Ok(Self {
            user: text("userId").ok_or("Missing or invalid userId")?,
            rooms: rooms(fields.get("roomPattern")).ok_or("Missing or invalid roomPattern")?,
            reason: text("reason")
                .filter(|reason| REASONS.contains(&reason.as_str()))
                .ok_or("Missing or invalid reason")?,
            except,
            metadata,
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

/// Whom a backend sends away.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "it describes what `Kick::read` reads")]
struct KickBody {
    /// The user, or `*` for everybody.
    #[schema(min_length = 1)]
    user_id: String,
    room_pattern: KickedRooms,
    reason: KickReason,
    /// Of everybody, who stays.
    except_user_id: Option<String>,
    /// What the programs of those who are sent away are told beside the reason.
    metadata: Option<BTreeMap<String, Value>>,
}

/// A room by its name, or rooms: at most 10,000. Others than those that are named are not meant.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it describes what `rooms` reads")]
enum KickedRooms {
    One(KickedRoom),
    Many(#[schema(inline)] KickedRoomList),
}

/// The name of a room.
#[derive(ToSchema)]
#[schema(min_length = 1)]
#[expect(dead_code, reason = "it describes what `rooms` reads")]
struct KickedRoom(String);

#[derive(ToSchema)]
#[schema(min_items = 1, max_items = 10_000)]
#[expect(dead_code, reason = "it describes what `rooms` reads")]
struct KickedRoomList(Vec<KickedRoom>);

/// Why somebody is sent away.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "it describes `REASONS`")]
enum KickReason {
    MemberRemoved,
    RoleChanged,
    PermissionRevoked,
    SessionRevoked,
    PagePrivate,
    ConversationUnshared,
}

/// Who was sent away.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct Kicked {
    /// Always true.
    success: bool,
    /// Seats that were taken away: a socket in two rooms counts twice.
    kicked_count: usize,
    /// The rooms, as they were named.
    rooms: Vec<String>,
}

/// Sends a user's connections out of rooms.
///
/// A body has at most 1 MiB. Whoever is not there is not missed: that is no error.
#[utoipa::path(
    post,
    path = "/api/kick",
    operation_id = "kickUser",
    tag = "bridge",
    security(("signature" = []), ("bearer" = [])),
    request_body = inline(KickBody),
    responses(
        (status = 200, description = "They are sent away", body = Kicked),
        (status = 400, description = "The body is not what it must be", body = BridgeError),
        (status = 401, description = "No token, or a signature that proves nothing", body = BridgeError),
        (status = 413, description = "The body is too large", body = BridgeError),
        (status = 503, description = "They are sent away, and that could not be stored", body = BridgeError),
        Defect,
    ),
)]
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
    let kicked = Kicked {
        success: true,
        kicked_count: sent.len(),
        rooms: left,
    };
    Json(kicked).into_response()
}
