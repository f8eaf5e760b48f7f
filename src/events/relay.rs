//! Events of an application's own that clients tell each other, as far as the rules of its file allow.
//!
//! The payload is an object whose fields name the room. Its author must have the rule's role there, and is told in it as `userId`,
//! whatever the payload says. The answer comes when the event is stored, if it is kept, and says how many were told.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::{Value as Json, json};

use super::{Answer, Call, EventSocket, Profile, RelayRule, ticker::now};
use crate::rooms::{Refusal, RefusalCode};

pub(crate) static PROFILE: Profile = Profile {
    // Which events it speaks, the rules say.
    name: "relay",
    handle,
    ..Profile::SILENT
};

fn handle(socket: Arc<EventSocket>, call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let history = socket.services().history.clone();
        match history.rules().relay(&call.name) {
            Some(rule) => relay(&socket, rule, call.payload).await,
            None => Err(super::not_found("there is no such event")),
        }
    })
}

async fn relay(socket: &Arc<EventSocket>, rule: &RelayRule, mut payload: Json) -> Answer {
    let size = payload.to_string().len();
    if size > rule.max_bytes {
        return Err(Refusal::too_large(format!(
            "this event has at most {} bytes",
            rule.max_bytes
        )));
    }
    if !payload.is_object() {
        return Err(Refusal::malformed("the payload must be an object"));
    }
    let room = rule.room(|field| payload.get(field).and_then(Json::as_str));
    let room = room.ok_or_else(|| Refusal::malformed("the fields of the payload name no room"))?;
    if let Err(wait) = socket.may_relay(now(), rule) {
        let message = format!("too many of these events, wait {} ms", wait.as_millis());
        return Err(Refusal::new(RefusalCode::RateLimited, message));
    }
    let role = match socket.role(&room) {
        Some(role) => role,
        None => {
            let access = &socket.services().access;
            access.room_membership(socket.identity(), &room).await?.role
        }
    };
    if role < rule.role {
        let message = format!("this event needs the role {}", rule.role.as_str());
        return Err(Refusal::new(RefusalCode::Forbidden, message));
    }
    payload["userId"] = socket.user_id().into();
    let count = match rule.to_sender {
        true => socket.tell_all(&[room], &rule.event, &payload)?,
        false => socket.tell_others(&[room], &rule.event, &payload)?,
    };
    Ok(json!({ "delivered": count }))
}
