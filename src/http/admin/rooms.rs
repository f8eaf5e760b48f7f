//! `GET /api/admin/rooms`: the pages that are open, with who is there and what they weigh.

use std::time::Duration;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, Uri},
};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use storage::{PageId, Seq};
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::{
    http::{App, HttpError, described::PageWeight, openapi::refusals::Asking, pages::next_after},
    rooms::RoomName,
};

/// Rows when nothing else is asked for, and at most.
const DEFAULT_ROOMS: usize = 25;
const MAX_ROOMS: usize = 100;
/// Users of a room that are named.
const MAX_NAMED: usize = 10;
/// A room that does not answer for so long has something else to do, which is told.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Listing {
    /// How the ids begin.
    #[serde(default)]
    prefix: String,
    /// The id behind which the listing goes on: `next` of what was listed before.
    after: Option<String>,
    /// Rows at most: 25 when it is not said, and never more than 100.
    #[param(format = Int64)]
    limit: Option<usize>,
}

/// Open pages, and where the listing goes on.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct RoomListing {
    rooms: Vec<OpenRoom>,
    /// The next `after`; null at the end.
    #[schema(required)]
    next: Option<String>,
}

/// A page that is open.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct OpenRoom {
    page_id: String,
    /// Users and guests who are there.
    people: usize,
    /// The first of them: ten at most.
    users: Vec<Person>,
    /// Null while the room is busy, as while it is being opened.
    #[schema(required)]
    state: Option<RoomState>,
    /// Null for a page that is too large to be weighed here, and while its room is busy. At most ten seconds old.
    #[schema(required)]
    weight: Option<PageWeight>,
}

/// Somebody who is there.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Person {
    user_id: String,
    #[schema(required)]
    name: Option<String>,
}

/// What a room holds.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RoomState {
    /// Seats, whoever has them.
    members: usize,
    /// The number of the last row that is stored.
    seq: Seq,
    /// The size of the page, in bytes.
    size_bytes: u64,
    /// What of it is not stored yet, in bytes.
    unstored_bytes: u64,
}

/// Lists the pages that are open on this server, in the order of their ids.
#[utoipa::path(
    get,
    path = "/api/admin/rooms",
    operation_id = "listRooms",
    tag = "administration",
    params(Listing),
    responses((status = 200, description = "The pages", body = RoomListing), Asking),
)]
pub(in crate::http) async fn list(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
    query: Result<Query<Listing>, QueryRejection>,
) -> Result<Json<RoomListing>, HttpError> {
    app.allow_backend(&headers, &uri).await?;
    let Query(listing) = query?;
    let limit = listing.limit.unwrap_or(DEFAULT_ROOMS).clamp(1, MAX_ROOMS);
    let registry = &app.around.registry;
    let pages = registry.open_pages(&listing.prefix, listing.after.as_deref(), limit);
    let next = next_after(&pages, limit, |last| last.as_str().to_owned());
    let rooms = join_all(pages.iter().map(|page| describe(&app, page))).await;
    Ok(Json(RoomListing { rooms, next }))
}

async fn describe(app: &App, page: &PageId) -> OpenRoom {
    let looking = app.around.registry.look(page, |room| RoomState {
        members: room.member_count(),
        seq: room.seq(),
        unstored_bytes: room.unstored_bytes(),
        size_bytes: room.document().encoded_size_estimate() as u64,
    });
    let state = timeout(PATIENCE, looking).await.ok().flatten();
    let weight = match &state {
        Some(state) => {
            let weights = &app.administration.weights;
            weights.of(app, page, state.seq, state.size_bytes).await
        }
        None => None,
    };
    let presence = &app.around.events.presence;
    let (people, first) = presence.first(&RoomName::of_page(page), MAX_NAMED);
    let users = first.iter().map(|person| Person {
        user_id: person.user_id.as_ref().to_owned(),
        name: person.name.as_deref().map(str::to_owned),
    });
    OpenRoom {
        page_id: page.as_str().to_owned(),
        people,
        users: users.collect(),
        state,
        weight,
    }
}
