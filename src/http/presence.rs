//! REST for who is at a page.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, Uri},
};
use serde_json::{Value, json, value::RawValue};

use super::{App, HttpError, now, pages::PageInPath, pages::timestamp};
use crate::{
    events::{Place, Shown},
    rooms::{Role, RoomName},
};

/// `GET /api/pages/{id}/presence`: the users at a page, the earliest first. A page without anybody has none, whether or not it exists.
pub(super) async fn list(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<Value>, HttpError> {
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
    let users: Vec<Value> = here
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
    Ok(Json(json!({ "pageId": page.as_str(), "users": users })))
}

fn described(shown: &Shown, states: &BTreeMap<u64, Value>, is_idle: bool) -> Value {
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
    json!({
        "userId": &*person.user_id,
        "name": person.name.as_deref(),
        "avatarUrl": person.avatar_url.as_deref(),
        "cursor": cursor,
        "typing": types,
        "idle": is_idle,
        "since": timestamp(now() - shown.present_for),
        "connections": shown.here.places.len(),
    })
}
