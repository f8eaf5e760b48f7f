//! `GET /api/admin/users`: the users who are connected, and where each is.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, Uri},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    access::ConnectedUser,
    http::{App, HttpError, openapi::refusals::Asking, pages::next_after},
    rooms::{Role, RoomKind, RoomName},
};

/// Rows when nothing else is asked for, and at most.
const DEFAULT_USERS: usize = 25;
const MAX_USERS: usize = 100;
/// Rooms of a user that are named.
const MAX_PLACES: usize = 20;

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Listing {
    /// Only this user.
    user: Option<String>,
    /// The user behind whom the listing goes on: `next` of what was listed before.
    after: Option<String>,
    /// Rows at most: 25 when it is not said, and never more than 100.
    #[param(format = Int64)]
    limit: Option<usize>,
}

/// Users, and where the listing goes on.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct UserListing {
    users: Vec<User>,
    /// The next `after`; null at the end.
    #[schema(required)]
    next: Option<String>,
}

/// A user who is connected.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct User {
    user_id: String,
    #[schema(required)]
    name: Option<String>,
    /// Sockets that hear events, whether they are in a room or not.
    sockets: usize,
    /// In how many rooms the user is.
    room_count: usize,
    /// The first of them by name: twenty at most.
    rooms: Vec<RoomOfUser>,
}

/// A room in which a user is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RoomOfUser {
    /// Its name, as `POST /api/kick` takes it.
    room: String,
    /// The page, where it is the room of one.
    #[schema(required)]
    page_id: Option<String>,
    seats: usize,
    /// The most that one of the seats allows.
    #[schema(value_type = Role)]
    role: &'static str,
}

/// Lists the users who are connected to this server, in the order of their ids, and says where they are. Guests are no users.
#[utoipa::path(
    get,
    path = "/api/admin/users",
    operation_id = "listConnectedUsers",
    tag = "administration",
    params(Listing),
    responses((status = 200, description = "The users", body = UserListing), Asking),
)]
pub(in crate::http) async fn list(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
    query: Result<Query<Listing>, QueryRejection>,
) -> Result<Json<UserListing>, HttpError> {
    app.allow_backend(&headers, &uri).await?;
    let Query(listing) = query?;
    let access = &app.around.access;
    if let Some(user) = listing.user {
        let found = access.connected_user(&user);
        return Ok(Json(UserListing {
            users: found.iter().map(describe).collect(),
            next: None,
        }));
    }
    let limit = listing.limit.unwrap_or(DEFAULT_USERS).clamp(1, MAX_USERS);
    let found = access.connected_users(listing.after.as_deref(), limit);
    let next = next_after(&found, limit, |last| last.user.as_ref().to_owned());
    Ok(Json(UserListing {
        users: found.iter().map(describe).collect(),
        next,
    }))
}

fn describe(found: &ConnectedUser) -> User {
    let page = |room: &RoomName| (room.kind() == RoomKind::Page).then(|| room.id().to_owned());
    let rooms = found.rooms.iter().take(MAX_PLACES);
    let rooms = rooms.map(|(room, (seats, role))| RoomOfUser {
        room: room.as_str().to_owned(),
        page_id: page(room),
        seats: *seats,
        role: role.as_str(),
    });
    User {
        user_id: found.user.as_ref().to_owned(),
        name: found.name.clone(),
        sockets: found.sockets,
        room_count: found.rooms.len(),
        rooms: rooms.collect(),
    }
}
