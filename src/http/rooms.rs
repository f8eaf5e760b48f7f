//! REST for shared rooms: what a room is that its members know by a code.

use axum::{
    Json,
    extract::{FromRequestParts, Path, State},
    http::{HeaderMap, StatusCode, Uri, request::Parts},
};
use serde::Deserialize;
use serde_json::{Value, json};
use storage::{AccessChange, SharedRoom};

use super::{App, HttpError, body::UnreadBody, now};
use crate::{
    access::Note,
    rooms::{Refusal, RefusalCode, RoomKind, RoomName, is_id},
};

/// A shared room in a path: `room:CODE`, or the code alone where it has no colon.
pub(super) struct SharedRoomInPath(RoomName);

impl<S: Send + Sync> FromRequestParts<S> for SharedRoomInPath {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, HttpError> {
        let Path(name) = Path::<String>::from_request_parts(parts, state).await?;
        let room = match name.contains(':') {
            true => RoomName::parse(&name),
            false => RoomName::with_prefix("room:", &name),
        };
        let room = room.filter(|room| room.kind() == RoomKind::Shared && room.asked().is_some());
        room.map(Self)
            .ok_or_else(|| Refusal::malformed("a shared room is named `room:CODE`").into())
    }
}

fn unknown() -> HttpError {
    Refusal::new(RefusalCode::NotFound, "Room not found").into()
}

fn describe(room: &SharedRoom) -> Value {
    json!({
        "room": room.room,
        "name": room.name,
        "maxMembers": room.max_members,
        "expiresAt": room.expires_at.map(|ends| humantime::format_rfc3339_millis(ends).to_string()),
    })
}

/// `GET /api/rooms/{room}`: what the room is, as it was set here or as the application's query says.
pub(super) async fn get(
    State(app): State<App>,
    SharedRoomInPath(room): SharedRoomInPath,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<Value>, HttpError> {
    app.allow_backend(&headers, &uri).await?;
    let known = app.around.access.shared_room(&room).await?;
    known.map(|known| Json(describe(&known))).ok_or_else(unknown)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Description {
    name: Option<String>,
    max_members: Option<u32>,
    /// RFC 3339.
    expires_at: Option<String>,
}

/// `PUT /api/rooms/{room}`: says what the room is, in the place of what was said before. Answers when that holds for those who are there.
pub(super) async fn put(
    State(app): State<App>,
    SharedRoomInPath(room): SharedRoomInPath,
    headers: HeaderMap,
    uri: Uri,
    body: UnreadBody,
) -> Result<Json<Value>, HttpError> {
    app.allow_backend(&headers, &uri).await?;
    let said: Description = body.json().await?;
    if said.name.as_deref().is_some_and(|name| !is_id(name)) {
        return Err(Refusal::malformed("name has 1 to 255 bytes and no control characters").into());
    }
    if said.max_members == Some(0) {
        return Err(Refusal::malformed("maxMembers is at least 1").into());
    }
    let expires_at = said.expires_at.as_deref().map(humantime::parse_rfc3339_weak);
    let expires_at = expires_at
        .transpose()
        .map_err(|_| Refusal::malformed("expiresAt is no time: write `2030-01-31T12:00:00Z`"))?;
    let kept = SharedRoom {
        room: room.as_str().to_owned(),
        name: said.name,
        max_members: said.max_members,
        expires_at,
    };
    app.store.keep_room(&kept).await?;
    changed(&app, &room, "put_room").await;
    Ok(Json(describe(&kept)))
}

/// `DELETE /api/rooms/{room}`: the room is no more, unless the application's query knows it. Answers when nobody is there.
pub(super) async fn delete(
    State(app): State<App>,
    SharedRoomInPath(room): SharedRoomInPath,
    headers: HeaderMap,
    uri: Uri,
) -> Result<StatusCode, HttpError> {
    app.allow_backend(&headers, &uri).await?;
    if !app.around.access.forget_room(&room).await? {
        return Err(unknown());
    }
    changed(&app, &room, "delete_room").await;
    Ok(StatusCode::NO_CONTENT)
}

async fn changed(app: &App, room: &RoomName, action: &str) {
    let access = &app.around.access;
    access.audit().note(
        now(),
        Note {
            action,
            outcome: "ok",
            page: Some(room.as_str()),
            ..Note::default()
        },
    );
    let change = AccessChange {
        user: None,
        page: Some(room.as_str().to_owned()),
    };
    access.changed(&change).await;
}
