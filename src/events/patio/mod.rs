//! The vocabulary of PatioAI: shared rooms with threads, messages, answers of an AI, and sidebars.
#![doc = include_str!("../patio.md")]

mod ai;
mod bridge;
mod fields;
mod hall;
mod messages;
mod participants;
mod personal;
mod refreshes;
mod rooms;
mod streams;
mod threads;

use std::sync::Arc;

use futures_util::future::BoxFuture;
pub(super) use hall::timestamp;
pub use hall::{Patio, PatioConfig};
use serde_json::{Value as Json, json};

use super::{Answer, Call, EventSocket, Profile};
use crate::{
    access::REMOVED,
    rooms::{Refusal, RefusalCode, RoomKind, RoomName},
};

pub(super) static PROFILE: Profile = Profile {
    name: "patio",
    speaks: |event| family(event).is_some(),
    enters: |event| event == "join-room",
    connected,
    handle,
    broadcast: bridge::broadcast,
    check: |_| Ok(()),
    refused,
    lists: messages::LISTS,
    answers,
    removed,
    returned: |socket| Box::pin(async move { rooms::take_part_again(&socket).await }),
    disconnected: |socket, departure| socket.services().patio.disconnect(socket.id(), departure),
};

/// What an event is about, and so in which words it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Health,
    Room,
    Message,
    Sidebar,
    Chat,
    Document,
    Ai,
}

fn family(event: &str) -> Option<Family> {
    Some(match event {
        "health-ping" | "user-background" | "user-foreground" => Family::Health,
        "join-room"
        | "leave-room"
        | "get-room-participants"
        | "switch-thread"
        | "typing-start"
        | "typing-stop"
        | "request-missed-messages" => Family::Room,
        "send-message" => Family::Message,
        "join-user-channel"
        | "leave-user-channel"
        | "request-sidebar-refresh"
        | "notify-sidebar-change"
        | "get-sidebar-data" => Family::Sidebar,
        "chat-session-created" | "chat-message-sent" => Family::Chat,
        "document-uploaded" => Family::Document,
        "invoke-ai" | "stop-ai" | "toggle-ai" | "update-ai-config" => Family::Ai,
        _ => return None,
    })
}

fn connected(socket: &EventSocket) {
    let body = json!({ "socketId": &**socket.name(), "timestamp": timestamp() });
    socket.tell("connection-confirmed", &body);
}

fn handle(socket: Arc<EventSocket>, call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let payload = &call.payload;
        match call.name.as_str() {
            "health-ping" => personal::ping(payload),
            "user-background" => {
                socket.services().patio.rest(socket.id());
                socket.set_away(true);
                Ok(json!({}))
            }
            "user-foreground" => {
                socket.set_away(false);
                Ok(json!({}))
            }
            "join-room" => rooms::join(&socket, payload).await,
            "leave-room" => rooms::leave(&socket, payload),
            "get-room-participants" => rooms::participants(&socket, payload),
            "switch-thread" => rooms::switch_thread(&socket, payload),
            "typing-start" => rooms::start_typing(&socket, payload),
            "typing-stop" => rooms::stop_typing(&socket, payload),
            "send-message" => messages::send(&socket, payload).await,
            "request-missed-messages" => messages::missed(&socket, payload).await,
            "join-user-channel" => personal::channel(&socket, "user-channel-joined"),
            "leave-user-channel" => personal::channel(&socket, "user-channel-left"),
            "request-sidebar-refresh" => {
                socket.services().patio.wish_refresh(&socket.user_id());
                Ok(json!({}))
            }
            "notify-sidebar-change" => personal::sidebar_change(&socket, payload),
            "get-sidebar-data" => personal::sidebar_data(&socket),
            "chat-session-created" => personal::session_created(&socket, payload),
            "chat-message-sent" => personal::message_sent(&socket, payload),
            "document-uploaded" => personal::document_uploaded(&socket, payload),
            event @ ("invoke-ai" | "stop-ai") => ai::ask(&socket, event, payload).await,
            "toggle-ai" | "update-ai-config" => Err(ai::of_backend()),
            _ => Ok(json!({})),
        }
    })
}

/// Beside a refusing answer the event is told as well: clients wait for one and listen for the other.
fn answers(socket: &EventSocket, call: &Call, answer: &Answer, body: &mut Json) {
    let Err(refusal) = answer else {
        body["success"] = true.into();
        return;
    };
    refused(socket, call, refusal);
    body["success"] = false.into();
    body["message"] = refusal.message.clone().into();
    if is_invalid(refusal) {
        body["errors"] = errors(refusal);
    }
}

fn is_invalid(refusal: &Refusal) -> bool {
    matches!(refusal.code, RefusalCode::Malformed | RefusalCode::TooLarge)
}

fn errors(refusal: &Refusal) -> Json {
    let (field, message) = fields::told(refusal);
    json!([{ "field": field, "message": message }])
}

/// Tells a client why its event was refused.
fn refused(socket: &EventSocket, call: &Call, refusal: &Refusal) {
    if is_invalid(refusal) {
        return socket.tell("validation-error", &json!({ "errors": errors(refusal) }));
    }
    let mut body = json!({ "error": refusal.message });
    let event = match family(&call.name) {
        Some(Family::Message) if refusal.code == RefusalCode::RateLimited => {
            return socket.tell("rate-limited", &json!({ "message": refusal.message }));
        }
        Some(Family::Room | Family::Message) => {
            let named = refusal
                .notice
                .as_ref()
                .and_then(|notice| notice.metadata.as_ref());
            if let Some(name) = named.and_then(|metadata| metadata.get("roomName")) {
                body["roomName"] = name.clone();
            }
            "room-error"
        }
        Some(Family::Sidebar) => "sidebar-error",
        Some(Family::Chat) => "chat-error",
        Some(Family::Document) => "document-error",
        Some(Family::Ai) => "ai-error",
        Some(Family::Health) | None => "error",
    };
    socket.tell(event, &body);
}

/// A socket was sent out of a room.
fn removed(socket: &EventSocket, room: &RoomName, refusal: &Refusal) {
    if room.kind() != RoomKind::Shared {
        return;
    }
    let patio = &socket.services().patio;
    let error = match refusal.code == RefusalCode::Forbidden {
        true => REMOVED,
        false => &refusal.message,
    };
    let mut body = json!({ "error": error });
    if let Some(name) = patio.room_name(room) {
        body["roomName"] = name.into();
    }
    // Of a room that is no more, and of one whom a backend removed in the room's own words, everybody has been told.
    let others_know = refusal.code == RefusalCode::NotFound || refusal.message == REMOVED;
    patio.leave(room, socket.id(), others_know);
    // Who comes back with a fresh token enters again.
    if refusal.code != RefusalCode::TokenExpired {
        socket.tell("room-error", &body);
    }
}
