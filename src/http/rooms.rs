//! REST for shared rooms: what a room is that its members know by a code.

use axum::{
    Json,
    extract::{FromRequestParts, Path, State},
    http::{HeaderMap, StatusCode, Uri, request::Parts},
};
use serde::{Deserialize, Serialize};
use storage::{AccessChange, SharedRoom};
use utoipa::ToSchema;

use super::{
    App, HttpError,
    body::UnreadBody,
    now,
    openapi::{
        parameters::{Label, RoomCode},
        refusals::{Reading, Sending},
    },
    pages::timestamp,
    times::time,
    whole::maybe_whole,
};
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

/// What a shared room is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DescribedRoom {
    /// `room:CODE`.
    room: String,
    #[schema(required)]
    name: Option<String>,
    /// Members at once; null for as many as a room may have.
    #[schema(required)]
    max_members: Option<u32>,
    /// When it is over; null when it has no end.
    #[schema(required, format = DateTime)]
    expires_at: Option<String>,
}

fn describe(room: &SharedRoom) -> DescribedRoom {
    DescribedRoom {
        room: room.room.clone(),
        name: room.name.clone(),
        max_members: room.max_members,
        expires_at: room.expires_at.map(timestamp),
    }
}

/// Says what a shared room is, as it was set here or as the application's query says.
#[utoipa::path(
    get,
    path = "/api/rooms/{room}",
    operation_id = "describeRoom",
    tag = "rooms",
    params(("room" = RoomCode, Path)),
    responses((status = 200, description = "The room", body = DescribedRoom), Reading),
)]
pub(super) async fn get(
    State(app): State<App>,
    SharedRoomInPath(room): SharedRoomInPath,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<DescribedRoom>, HttpError> {
    app.allow_backend(&headers, &uri).await?;
    let known = app.around.access.shared_room(&room).await?;
    known.map(|known| Json(describe(&known))).ok_or_else(unknown)
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = RoomSetting)]
pub(super) struct Description {
    #[schema(value_type = Option<Label>)]
    name: Option<String>,
    /// Members at once.
    #[serde(default, deserialize_with = "maybe_whole")]
    #[schema(minimum = 1)]
    max_members: Option<u32>,
    /// When it is over: a time of RFC 3339.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

/// Says what a shared room is from now on, in the place of what was said before.
///
/// Answers when that holds for those who are there.
#[utoipa::path(
    put,
    path = "/api/rooms/{room}",
    operation_id = "setRoom",
    tag = "rooms",
    params(("room" = RoomCode, Path)),
    request_body = Description,
    responses((status = 200, description = "The room", body = DescribedRoom), Sending),
)]
pub(super) async fn put(
    State(app): State<App>,
    SharedRoomInPath(room): SharedRoomInPath,
    headers: HeaderMap,
    uri: Uri,
    body: UnreadBody,
) -> Result<Json<DescribedRoom>, HttpError> {
    app.allow_backend(&headers, &uri).await?;
    let said: Description = body.json().await?;
    if said.name.as_deref().is_some_and(|name| !is_id(name)) {
        return Err(Refusal::malformed("name has 1 to 255 bytes and no control characters").into());
    }
    if said.max_members == Some(0) {
        return Err(Refusal::malformed("maxMembers is at least 1").into());
    }
    let no_time = || Refusal::malformed("expiresAt is no time: write `2030-01-31T12:00:00Z`");
    let expires_at = said.expires_at.as_deref();
    let expires_at = expires_at
        .map(|ends| time(ends).ok_or_else(no_time))
        .transpose()?;
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

/// Ends a shared room, unless the application's query knows it.
///
/// Answers when nobody is there.
#[utoipa::path(
    delete,
    path = "/api/rooms/{room}",
    operation_id = "deleteRoom",
    tag = "rooms",
    params(("room" = RoomCode, Path)),
    responses((status = 204, description = "It is no more"), Reading),
)]
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
