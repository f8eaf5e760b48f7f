//! What a user has missed: the kept events of the user's own rooms, for who asks.
//!
//! `inbox:get {after?, limit?}` → `{events: [{id, room, event, payload, at}], complete}`. The events are those behind `after` (an `id`), the
//! oldest first. `complete` says that these are all there are up to now; otherwise the next ones are behind the last `id`, or (where
//! `after` is of another database, or older than what is kept) some are gone. Nothing is told unasked: clients fetch what they show when
//! they connect, and would show it twice.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Call, EventSocket, Profile, history::Found};
use crate::rooms::{Refusal, RefusalCode, RoomKind, RoomName};

/// Events of one answer, when nothing is said.
const USUALLY: usize = 100;
/// Events of one answer.
const MAX_LISTED: usize = 500;

pub(super) static PROFILE: Profile = Profile {
    name: "inbox",
    speaks: |event| event == "inbox:get",
    handle,
    lists: Some("events"),
    ..Profile::SILENT
};

#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    after: Option<String>,
    #[serde(default)]
    limit: Option<usize>,
}

fn handle(socket: Arc<EventSocket>, call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let wanted = match call.payload.is_null() {
            true => Wanted {
                after: None,
                limit: None,
            },
            false => call.read()?,
        };
        let limit = wanted.limit.unwrap_or(USUALLY).clamp(1, MAX_LISTED);
        let services = socket.services();
        let after = wanted.after.map(|after| services.history.epoch().read(&after));
        let is_known = !matches!(after, Some(None));
        let found = read(&socket, own_rooms(&socket)?, after.flatten().unwrap_or(0), limit).await?;
        Ok(json!({
            "events": services.history.list(&found.events),
            "complete": found.is_complete && is_known,
        }))
    })
}

/// The rooms of the user alone.
fn own_rooms(socket: &EventSocket) -> Result<Vec<RoomName>, Refusal> {
    let user = socket.identity().user.clone();
    let user = user.ok_or_else(|| Refusal::new(RefusalCode::Forbidden, "guests have no inbox"))?;
    let own = RoomName::personal(&user).filter(|room| room.kind() == RoomKind::Personal);
    Ok(own.collect())
}

async fn read(
    socket: &EventSocket,
    rooms: Vec<RoomName>,
    after: u64,
    limit: usize,
) -> Result<Found, Refusal> {
    let services = socket.services();
    services
        .history
        .read(&rooms, after, services.rooms.last_offset(), limit)
        .await
}

/// The body of `missed-messages-response`: what was kept in the user's own rooms, and in those that the socket is in, since a time in
/// milliseconds. `cursor` is the `id` behind which the next ones are. `messages` is the text of JSON.
///
/// # Errors
/// When the store cannot be read.
pub async fn missed_messages(socket: &EventSocket, since_ms: u64) -> Answer {
    let mut rooms = own_rooms(socket).unwrap_or_default();
    rooms.extend(socket.seats().into_iter().map(|(room, _)| room));
    rooms.sort();
    rooms.dedup();
    let after = since_ms.saturating_mul(1000);
    let found = read(socket, rooms, after, MAX_LISTED).await?;
    let history = &socket.services().history;
    let cursor = found.events.last().map_or(after, |event| event.offset);
    Ok(json!({
        "success": true,
        "messages": history.list(&found.events),
        "complete": found.is_complete,
        "cursor": history.epoch().write(cursor),
    }))
}
