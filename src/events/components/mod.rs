//! The vocabulary of components: objects out of rows and nested components that several edit at once, property by property.
#![doc = include_str!("../components.md")]

mod bridge;
mod copies;
mod desk;
mod edits;
mod fields;
mod gestures;
mod hall;
mod members;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
pub use hall::Components;
use hall::MAX_MERGING_KIB;
use serde_json::Value as Json;

use self::{
    edits::{Author, Right},
    fields::{Edit, Named, Wish},
};
use super::{Answer, Call, EventSocket, MAX_CURSOR_BYTES, Profile};
use crate::rooms::{Departure, Refusal};

pub(super) static PROFILE: Profile = Profile {
    name: "components",
    speaks,
    enters: |event| event == "component:subscribe",
    handle,
    broadcast: bridge::broadcast,
    check: bridge::check,
    removed: |socket, room, _| {
        let components = &socket.services().components;
        components.forget(socket.id(), std::slice::from_ref(room), Departure::Clean);
    },
    returned: |socket| Box::pin(async move { socket.services().components.clone().returned(&socket).await }),
    disconnected: |socket, departure| {
        socket.services().components.disconnect(socket.id(), departure);
    },
    ..Profile::SILENT
};

fn speaks(event: &str) -> bool {
    let others = ["component:subscribe", "component:unsubscribe"];
    others.contains(&event) || is_gesture(event) || Edit::is_one(event)
}

/// Whether of an event only the last one counts, so that it may come as often as it does.
pub(super) fn is_gesture(event: &str) -> bool {
    matches!(event, "component:typing" | "component:cursor")
}

fn handle(socket: Arc<EventSocket>, call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let components = socket.services().components.clone();
        let payload = &call.payload;
        match call.name.as_str() {
            "component:subscribe" => components.subscribe(&socket, &Named::read(payload)?).await,
            "component:unsubscribe" => components.unsubscribe(&socket, &Named::read(payload)?),
            "component:typing" => components.types(socket.id(), &Named::read_component(payload)?),
            "component:cursor" => {
                let (at, position) = (Named::read(payload)?, position(payload)?);
                components.points(socket.id(), &at, position)
            }
            _ => change(&socket, &components, &call).await,
        }
    })
}

/// Where a cursor is; `None` for nowhere.
fn position(payload: &Json) -> Result<Option<Json>, Refusal> {
    let position = payload.get("position").filter(|position| !position.is_null());
    match position {
        Some(position) if position.to_string().len() > MAX_CURSOR_BYTES => Err(Refusal::too_large(format!(
            "a cursor has at most {MAX_CURSOR_BYTES} bytes"
        ))),
        position => Ok(position.cloned()),
    }
}

/// Does what an event wants that changes a component.
async fn change(socket: &Arc<EventSocket>, components: &Arc<Components>, call: &Call) -> Answer {
    let edit = Edit::read(&call.name, &call.payload)?;
    let (Some(event), Some(room)) = (Edit::told_as(&call.name), edit.named.component.clone()) else {
        return Err(super::not_found("there is no such event"));
    };
    let right = match socket.seat(&room) {
        Some(seat) => Right::Seat(seat),
        None => Right::Asked(socket.clone(), room),
    };
    // Before anybody waits for it.
    right.check().await?;
    let author = Author {
        socket: Some(socket.id()),
        user: socket.identity().user.clone(),
        told: Some(socket.user_id()),
        rooms: components.audience_of_change(socket.id(), &edit.named),
        event,
        right,
    };
    let mut answer = serde_json::Map::new();
    if let Wish::Create(_, _, nested) = &edit.wish {
        answer.extend(
            nested
                .get("id")
                .map(|id| ("nestedComponentId".to_owned(), id.clone())),
        );
    }
    answer.extend(edit.op.clone().map(|op| ("clientOpId".to_owned(), op.into())));
    let outcome = components.change(author, edit).await?;
    socket.services().stored(outcome.told).await?;
    answer.insert("seq".to_owned(), outcome.seq.into());
    Ok(Json::Object(answer))
}

fn lock<T>(guarded: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while the lock is held, so what a poisoned lock guards is whole.
    guarded.lock().unwrap_or_else(PoisonError::into_inner)
}
