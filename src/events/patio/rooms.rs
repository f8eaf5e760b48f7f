//! Coming into shared rooms, leaving them, and what is done in their threads.

use std::sync::Arc;

use serde_json::{Value as Json, json};
use storage::SharedRoom;

use super::{
    fields::{self, Fields},
    hall::{person, timestamp},
    participants::About,
};
use crate::{
    access::REMOVED,
    events::{Answer, EventSocket, Way},
    rooms::{Notice, Refusal, RefusalCode, Role, RoomKind, RoomName},
};

/// How somebody who may not come in is refused: it does not say whether there is such a room.
fn not_found(code: RefusalCode) -> Refusal {
    Refusal::new(code, "Room not found")
}

fn full() -> Refusal {
    Refusal::new(RefusalCode::RoomFull, "Room is full")
}

/// The room of an event, of which the socket must be a part with at least this role.
pub(super) fn of_member(socket: &EventSocket, room: RoomName, needed: Role) -> Result<RoomName, Refusal> {
    let role = socket.role(&room);
    match role.filter(|_| socket.services().patio.is_in(&room, socket.id())) {
        Some(role) if role >= needed => Ok(room),
        Some(_) => Err(Refusal::read_only()),
        None => Err(not_found(RefusalCode::Forbidden)),
    }
}

pub(super) async fn join(socket: &Arc<EventSocket>, code: &Json) -> Answer {
    let room = fields::room("shareCode", code)?;
    let patio = &socket.services().patio;
    let (user, address) = (socket.user_id(), socket.address());
    if patio.guesses_too_much(&user, address).await {
        return Err(Refusal::new(
            RefusalCode::RateLimited,
            "Too many wrong codes, try again later",
        ));
    }
    let joined = enter(socket, &room).await;
    let Err(refusal) = &joined else {
        return joined;
    };
    let is_wrong = matches!(refusal.code, RefusalCode::NotFound | RefusalCode::Forbidden);
    if !is_wrong {
        return joined;
    }
    if refusal.message == REMOVED {
        return Err(named(socket, &room, refusal).await);
    }
    patio.note_guess(&user, address).await;
    match refusal.code == RefusalCode::Forbidden {
        true => Err(not_found(RefusalCode::Forbidden)),
        false => joined,
    }
}

/// A refusal that says what the room is called.
async fn named(socket: &EventSocket, room: &RoomName, refusal: &Refusal) -> Refusal {
    let known = socket.services().access.shared_room(room).await;
    let known = known.ok().flatten();
    let metadata = known.map(|known| Arc::new(json!({ "roomName": about(room, &known).name })));
    let notice = Notice {
        room: room.as_str().to_owned(),
        reason: refusal.message.to_string(),
        metadata,
    };
    Refusal {
        notice: Some(Arc::new(notice)),
        ..refusal.clone()
    }
}

fn about(room: &RoomName, known: &SharedRoom) -> About {
    About {
        name: known.name.clone().unwrap_or_else(|| room.id().to_owned()),
        max_members: known.max_members,
    }
}

async fn enter(socket: &Arc<EventSocket>, room: &RoomName) -> Answer {
    let was_there = socket.role(room).is_some();
    let role = socket.enter(room, Way::Room).await?;
    take_part(socket, room, role, was_there).await
}

/// Takes part again in the shared rooms in which it is after the loss of a connection.
pub(super) async fn take_part_again(socket: &Arc<EventSocket>) {
    for (room, seat) in socket.seats() {
        if room.kind() == RoomKind::Shared
            && let Err(refusal) = take_part(socket, &room, seat.role(), false).await
        {
            socket.tell("room-error", &json!({ "error": refusal.message }));
        }
    }
}

/// Takes part in a room that the socket is in; leaves it where that is not possible and it was not there before.
async fn take_part(socket: &Arc<EventSocket>, room: &RoomName, role: Role, was_there: bool) -> Answer {
    let services = socket.services();
    let leave = || {
        if !was_there {
            socket.leave(room, Way::Room);
        }
    };
    let known = match services.access.shared_room(room).await {
        Ok(Some(known)) => known,
        Ok(None) => {
            leave();
            return Err(not_found(RefusalCode::NotFound));
        }
        Err(refusal) => {
            leave();
            return Err(refusal);
        }
    };
    let joined = services
        .patio
        .join(socket, room, about(room, &known), role == Role::Admin);
    let Ok(body) = joined else {
        leave();
        return Err(full());
    };
    if socket.role(room).is_none() {
        // It was sent away meanwhile, when nobody knew yet that it takes part.
        services.patio.leave(room, socket.id(), false);
        return Err(not_found(RefusalCode::Forbidden));
    }
    Ok(body)
}

pub(super) fn leave(socket: &EventSocket, code: &Json) -> Answer {
    let room = fields::room("shareCode", code)?;
    socket.leave(&room, Way::Room);
    socket.services().patio.leave(&room, socket.id(), false);
    let body = json!({ "shareCode": room.id() });
    socket.tell("room-left", &body);
    Ok(body)
}

pub(super) fn participants(socket: &EventSocket, code: &Json) -> Answer {
    let room = of_member(socket, fields::room("shareCode", code)?, Role::View)?;
    let participants = socket.services().patio.participants(&room);
    let body = json!({ "shareCode": room.id(), "participants": participants });
    socket.tell("room-participants", &body);
    Ok(body)
}

pub(super) fn switch_thread(socket: &EventSocket, payload: &Json) -> Answer {
    let fields = Fields::of(payload)?;
    let room = fields.room(&["roomId", "shareCode"])?;
    let thread = fields.thread()?;
    let room = of_member(socket, room, Role::View)?;
    let switched = socket.services().patio.switch(socket, &room, thread.clone());
    let from = switched.ok_or_else(|| not_found(RefusalCode::Forbidden))?;
    if from != thread {
        let body = json!({
            "displayName": person(socket).name,
            "fromThread": from,
            "toThread": thread,
            "roomId": room.id(),
            "timestamp": timestamp(),
        });
        socket.tell_others(&[room], "user-thread-switch", &body)?;
    }
    Ok(json!({ "fromThread": from, "toThread": thread }))
}

pub(super) fn start_typing(socket: &EventSocket, payload: &Json) -> Answer {
    let fields = Fields::of(payload)?;
    let (room, thread) = (fields.room(&["roomId", "shareCode"])?, fields.thread()?);
    let room = of_member(socket, room, Role::Comment)?;
    match socket.services().patio.start_typing(socket, &room, thread) {
        true => Ok(json!({})),
        false => Err(not_found(RefusalCode::Forbidden)),
    }
}

pub(super) fn stop_typing(socket: &EventSocket, payload: &Json) -> Answer {
    let fields = Fields::of(payload)?;
    let room = fields.room(&["roomId", "shareCode"])?;
    fields.thread()?;
    let room = of_member(socket, room, Role::View)?;
    socket.services().patio.stop_typing(&room, socket.id());
    Ok(json!({}))
}
