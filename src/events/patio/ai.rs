//! Wishes for answers of an AI, which go to the application.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::{
    fields::Fields,
    hall::{person, timestamp},
    messages,
    rooms::of_member,
};
use crate::{
    auth::now,
    events::{Answer, EventSocket, not_found},
    rooms::{Refusal, RefusalCode, Role},
};

/// Header with the signature of a wish, as backends sign what they tell.
pub(super) const SIGNATURE: &str = "x-broadcast-signature";
/// Longest prompt, in bytes.
const MAX_PROMPT_BYTES: usize = 16 * 1024;

/// What only the application may decide.
pub(super) fn of_backend() -> Refusal {
    Refusal::new(
        RefusalCode::Forbidden,
        "how the AI answers is decided by the application",
    )
}

/// Passes a wish on. What comes of it is told by the application over the bridge.
pub(super) async fn ask(socket: &Arc<EventSocket>, event: &str, payload: &Json) -> Answer {
    let fields = Fields::of(payload)?;
    let room = fields.room(&["shareCode", "roomId"])?;
    fields.thread()?;
    if event == "invoke-ai" {
        fields.text(&["prompt"], MAX_PROMPT_BYTES)?;
    }
    let room = of_member(socket, room, Role::Comment)?;
    messages::allow(socket)?;
    let ai = socket.services().patio.ai();
    let ai = ai.ok_or_else(|| not_found("there is no AI on this server"))?;
    let sender = person(socket);
    let body = json!({
        "event": event,
        "room": room.as_str(),
        "userId": sender.user,
        "displayName": sender.name,
        "socketId": &**socket.name(),
        "timestamp": timestamp(),
        "payload": payload,
    });
    let failed = |error: &dyn std::fmt::Display| {
        tracing::warn!(%error, event, "the application does not take a wish for an answer of its AI");
        Refusal::unavailable("the AI cannot be reached now, try again")
    };
    let posted = ai.post(now(), body.to_string()).await;
    let (status, _) = posted.map_err(|error| failed(&error))?;
    match status.is_success() {
        true => Ok(json!({ "message": "the AI was asked" })),
        false => Err(failed(&status)),
    }
}
