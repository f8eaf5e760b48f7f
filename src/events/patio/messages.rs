//! Messages in shared rooms.

use std::sync::Arc;

use serde_json::{Value as Json, json, value::to_raw_value};
use socketioxide_core::Sid;

use super::{
    fields::Fields,
    hall::{person, timestamp},
    rooms::of_member,
};
use crate::{
    events::{Answer, EventSocket, Verbatim, missed_messages},
    rooms::{Refusal, RefusalCode, Role},
};

/// The field of an answer that lists kept events.
pub(super) const LISTS: Option<&str> = Some("messages");
/// Longest message, in bytes.
const MAX_BYTES: usize = 16 * 1024;

/// Refuses a user that sends too much in a minute.
pub(super) fn allow(socket: &EventSocket) -> Result<(), Refusal> {
    match socket.services().patio.may_send(&socket.user_id()) {
        true => Ok(()),
        false => Err(Refusal::new(RefusalCode::RateLimited, "Too many messages")),
    }
}

pub(super) async fn send(socket: &Arc<EventSocket>, payload: &Json) -> Answer {
    let fields = Fields::of(payload)?;
    let room = fields.room(&["shareCode", "roomId"])?;
    let thread = fields.thread()?;
    let content = fields.text(&["content", "message"], MAX_BYTES)?;
    let room = of_member(socket, room, Role::Comment)?;
    allow(socket)?;
    let (sender, time) = (person(socket), timestamp());
    let message = json!({
        "id": Sid::new().to_string(),
        "room_id": room.id(),
        "thread_id": thread,
        "sender_id": sender.user,
        "sender_name": sender.name,
        "content": content,
        "is_ai_response": false,
        "reasoning": null,
        "sources": null,
        "created_at": time,
    });
    let envelope = json!({
        "new": message,
        "eventType": "INSERT",
        "table": "room_messages",
        "schema": "public",
        "timestamp": time,
        "source": "socket",
    });
    let payload = to_raw_value(&envelope).map_err(|error| Refusal::malformed(error.to_string()))?;
    socket.services().patio.stop_typing(&room, socket.id());
    let services = socket.services();
    let told = services.tell_in(&room, "room-message-created", &payload.into(), None)?;
    services.stored(told).await?;
    Ok(json!({ "message": message }))
}

/// Tells what was kept since the client was last active.
pub(super) async fn missed(socket: &EventSocket, payload: &Json) -> Answer {
    let since = match payload.is_null() {
        true => 0,
        false => Fields::of(payload)?.milliseconds("lastActiveTime")?,
    };
    let mut body = missed_messages(socket, since).await?;
    body["timestamp"] = timestamp().into();
    let field = LISTS;
    socket.tell("missed-messages-response", &Verbatim { body: &body, field });
    Ok(body)
}
