//! Changes of components by backends, which tell them as their clients do.

use serde::Deserialize;
use serde_json::Value as Json;

use super::{
    edits::{Author, Right},
    fields::Edit,
};
use crate::{
    events::{Broadcast, BroadcastWork, EventServices, Told, is_shallow},
    rooms::{Refusal, RoomKind, is_id},
};

/// Largest change, in bytes.
const MAX_CHANGE_BYTES: usize = 64 * 1024;

/// In whose name a backend makes a change.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InName {
    user_id: Option<String>,
    updated_by: Option<String>,
}

/// Does what an event of a backend wants that is a change of a component. The members of the component hear of it, and those of the room
/// that the backend tells it in.
pub(super) fn broadcast(services: &EventServices, broadcast: &Broadcast) -> Option<BroadcastWork> {
    let event = Edit::told_as(&broadcast.event)?;
    let (services, broadcast) = (services.clone(), broadcast.clone());
    Some(Box::pin(async move {
        let (edit, author) = read(&broadcast, event)?;
        let outcome = services.components.change(author, edit).await?;
        Ok(Told { ..outcome.told })
    }))
}

/// Says what is wrong with a change that an event of a backend wants made.
pub(super) fn check(broadcast: &Broadcast) -> Result<(), Refusal> {
    match Edit::told_as(&broadcast.event) {
        Some(event) => read(broadcast, event).map(drop),
        None => Ok(()),
    }
}

fn read(broadcast: &Broadcast, event: &'static str) -> Result<(Edit, Author), Refusal> {
    let text = broadcast.payload.get();
    if text.len() > MAX_CHANGE_BYTES {
        return Err(Refusal::too_large(format!(
            "a change of a component has at most {MAX_CHANGE_BYTES} bytes"
        )));
    }
    let malformed = |error: serde_json::Error| Refusal::malformed(error.to_string());
    let mut payload: Json = serde_json::from_str(text).map_err(malformed)?;
    if !is_shallow(&payload) {
        return Err(Refusal::malformed("the payload is nested too deep"));
    }
    let room = &broadcast.room;
    if let (RoomKind::Component, Json::Object(fields)) = (room.kind(), &mut payload) {
        fields.entry("componentId").or_insert_with(|| room.id().into());
    }
    let edit = Edit::read(&broadcast.event, &payload)?;
    let InName { user_id, updated_by } = InName::deserialize(&payload).map_err(malformed)?;
    let user = updated_by.or(user_id);
    if user.as_deref().is_some_and(|user| !is_id(user)) {
        return Err(Refusal::malformed("`userId` must be an id of 1 to 255 bytes"));
    }
    let mut rooms = edit.named.rooms();
    if !rooms.contains(room) {
        rooms.push(room.clone());
    }
    let author = Author {
        socket: None,
        user: user.as_deref().map(Into::into),
        told: user,
        rooms,
        event,
        right: Right::Backend,
    };
    Ok((edit, author))
}
