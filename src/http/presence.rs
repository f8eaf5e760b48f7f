//! REST for who is at a page.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, Uri},
};
use serde::Serialize;
use serde_json::{Value, value::RawValue};
use utoipa::ToSchema;

use super::{
    App, HttpError, now,
    openapi::{parameters::PageName, refusals::Reading},
    pages::{PageInPath, timestamp},
};
use crate::{
    events::{Place, Shown},
    rooms::{Role, RoomName},
};

/// Who is at a page.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Presence {
    page_id: String,
    users: Vec<Present>,
}

/// A user who is at a page.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Present {
    user_id: String,
    #[schema(required)]
    name: Option<String>,
    #[schema(required)]
    avatar_url: Option<String>,
    /// As the user's program shows it; null when it shows none.
    #[schema(required, value_type = Value)]
    cursor: Option<Value>,
    typing: bool,
    idle: bool,
    #[schema(format = DateTime)]
    since: String,
    connections: usize,
}

/// Lists the users who are at a page, the earliest first.
///
/// A page without anybody has none, whether or not it exists.
#[utoipa::path(
    get,
    path = "/api/pages/{id}/presence",
    operation_id = "listPresence",
    tag = "pages",
    params(("id" = PageName, Path)),
    responses((status = 200, description = "Who is there", body = Presence), Reading),
)]
pub(super) async fn list(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<Presence>, HttpError> {
    app.allow(&headers, &uri, &page, Role::View).await?;
    let events = &app.around.events;
    let here = events.presence.here(&RoomName::of_page(&page));
    // What programs with awareness show, by their seats.
    let shown = app.around.registry.look(&page, |room| {
        let entries = room.awareness().entries();
        let shown = entries.filter_map(|(change, owner)| Some((owner?.0, change.state?)));
        shown.collect::<Vec<_>>()
    });
    let states: BTreeMap<u64, Value> = (shown.await.into_iter().flatten())
        .filter_map(|(seat, state)| Some((seat, serde_json::from_str(&state).ok()?)))
        .collect();
    let users = here
        .iter()
        .map(|shown| {
            let idle = |place: &Place| match place {
                Place::Socket(socket) => events.drives.is_idle(*socket),
                Place::Seat(_) => false,
            };
            let places = &shown.here.places;
            let is_idle = !places.is_empty() && places.iter().all(idle);
            described(shown, &states, is_idle)
        })
        .collect();
    let page_id = page.as_str().to_owned();
    Ok(Json(Presence { page_id, users }))
}

fn described(shown: &Shown, states: &BTreeMap<u64, Value>, is_idle: bool) -> Present {
    let seats = shown.here.places.iter().filter_map(|place| match place {
        Place::Seat(seat) => states.get(seat),
        Place::Socket(_) => None,
    });
    let seats: Vec<_> = seats.collect();
    let of_socket = |cursor: &RawValue| serde_json::from_str(cursor.get()).ok();
    let cursor = shown.cursor.as_deref().and_then(of_socket).or_else(|| {
        let mut cursors = seats
            .iter()
            .filter_map(|state| state.get("cursor").or(state.get("selection")));
        cursors.rfind(|cursor| !cursor.is_null()).cloned()
    });
    let types = shown.types
        || seats
            .iter()
            .any(|state| state.get("typing") == Some(&Value::Bool(true)));
    let person = &shown.here.person;
    Present {
        user_id: person.user_id.as_ref().to_owned(),
        name: person.name.as_deref().map(str::to_owned),
        avatar_url: person.avatar_url.as_deref().map(str::to_owned),
        cursor,
        typing: types,
        idle: is_idle,
        since: timestamp(now() - shown.present_for),
        connections: shown.here.places.len(),
    }
}
