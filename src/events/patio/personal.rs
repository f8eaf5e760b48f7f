//! What concerns one user over all of its sockets: health, sidebars, and what one tab lets the others know.

use serde_json::{Value as Json, json};
use socketioxide_core::Sid;

use super::{fields::Fields, hall::timestamp};
use crate::{
    auth::now,
    events::{Answer, EventSocket},
    rooms::RoomName,
};

/// Longest text of a message that one tab tells the others, in bytes.
const MAX_CONTENT_BYTES: usize = 16 * 1024;

pub(super) fn ping(payload: &Json) -> Answer {
    let fields = Fields::of(payload)?;
    let now = now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let sent = fields.any("timestamp");
    let trip = sent.as_i64().map(|sent| now.saturating_sub(sent));
    Ok(json!({
        "id": fields.any("id"),
        "serverTimestamp": now,
        "clientTimestamp": sent,
        "roundTripTime": trip,
    }))
}

/// A user is in its own channel from the beginning to the end of its connection; this is only answered.
pub(super) fn channel(socket: &EventSocket, event: &str) -> Answer {
    let body = json!({ "userId": socket.user_id(), "timestamp": timestamp() });
    socket.tell(event, &body);
    Ok(body)
}

/// Tells the other sockets of the same user.
fn tell_own(socket: &EventSocket, event: &str, body: &Json) -> Answer {
    if let Some(room) = RoomName::of_user(&socket.user_id()) {
        socket.tell_others(&[room], event, body)?;
    }
    Ok(json!({}))
}

pub(super) fn sidebar_change(socket: &EventSocket, payload: &Json) -> Answer {
    let fields = Fields::of(payload)?;
    let body = json!({
        "changeType": fields.id("changeType")?,
        "entityId": fields.id("entityId")?,
        "metadata": fields.any("metadata"),
        "timestamp": timestamp(),
        "userId": socket.user_id(),
    });
    tell_own(socket, "sidebar-change-notification", &body)
}

/// What is known here of what sidebars show: the rooms that the socket is in. Everything else is in the application's tables.
pub(super) fn sidebar_data(socket: &EventSocket) -> Answer {
    let body = json!({
        "userId": socket.user_id(),
        "rooms": socket.services().patio.rooms_of(socket.id()),
        "timestamp": timestamp(),
    });
    socket.tell("sidebar-data", &body);
    Ok(body)
}

fn envelope(new: &Json, table: &str) -> Json {
    json!({
        "new": new,
        "eventType": "INSERT",
        "table": table,
        "schema": "public",
        "timestamp": timestamp(),
        "source": "socket",
    })
}

pub(super) fn session_created(socket: &EventSocket, payload: &Json) -> Answer {
    let fields = Fields::of(payload)?;
    let time = timestamp();
    let session = json!({
        "id": fields.id("sessionId")?,
        "user_id": socket.user_id(),
        "chat_title": fields.optional("title")?,
        "created_at": time,
        "updated_at": time,
    });
    tell_own(
        socket,
        "chat-session-created",
        &envelope(&session, "chat_sessions"),
    )
}

pub(super) fn message_sent(socket: &EventSocket, payload: &Json) -> Answer {
    let fields = Fields::of(payload)?;
    let message = json!({
        "id": Sid::new().to_string(),
        "chat_session_id": fields.id("sessionId")?,
        "content": fields.text(&["content"], MAX_CONTENT_BYTES)?,
        "is_user_message": fields.any("isUserMessage").as_bool().unwrap_or(true),
        "attachments": fields.any("attachments"),
        "created_at": timestamp(),
    });
    tell_own(
        socket,
        "chat-message-created",
        &envelope(&message, "chat_messages"),
    )
}

pub(super) fn document_uploaded(socket: &EventSocket, payload: &Json) -> Answer {
    let fields = Fields::of(payload)?;
    let time = timestamp();
    let document = json!({
        "id": fields.id("documentId")?,
        "user_id": socket.user_id(),
        "title": fields.optional("title")?,
        "total_pages": fields.any("totalPages"),
        "filter_tags": fields.any("filterTags"),
        "created_at": time,
        "updated_at": time,
    });
    tell_own(
        socket,
        "document-uploaded",
        &envelope(&document, "user_documents"),
    )
}
