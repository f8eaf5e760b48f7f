//! Who changes a component, and how its members are told what has come of it.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use serde_json::{Map, Value as Json, json, value::RawValue};
use storage::{PageId, Seq};

use super::{
    Components,
    fields::{Edit, Wish},
    members::named,
};
use crate::{
    access::RoomSeat,
    events::{EventSocket, SocketId, Told, patio::timestamp},
    protocols::events::Content,
    rooms::{Refusal, Role, RoomName},
};

/// Whether somebody may change a component, asked when a change is begun and once more before it is stored.
pub(super) enum Right {
    /// Of a member, whose right is followed.
    Seat(Arc<RoomSeat>),
    /// Of who is no member.
    Asked(Arc<EventSocket>, RoomName),
    /// Of a backend.
    Backend,
}

/// Who changes a component.
pub(super) struct Author {
    /// Of a backend there is none.
    pub(super) socket: Option<SocketId>,
    /// In whose name it is stored.
    pub(super) user: Option<Arc<str>>,
    /// Who is told to have made it.
    pub(super) told: Option<String>,
    /// Where it is told.
    pub(super) rooms: Vec<RoomName>,
    /// The event with which it is told.
    pub(super) event: &'static str,
    pub(super) right: Right,
}

/// What has come of a change.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The sequence number of the page.
    pub(super) seq: Seq,
    pub(super) told: Told,
}

impl Outcome {
    /// There was nothing to be changed.
    pub(super) fn nothing(seq: Seq) -> Self {
        Self {
            seq,
            told: Told::default(),
        }
    }
}

impl Right {
    /// Whether it holds now.
    pub(super) async fn check(&self) -> Result<(), Refusal> {
        let role = match self {
            Self::Backend => return Ok(()),
            Self::Seat(seat) => match seat.removed() {
                Some(refusal) => return Err(refusal),
                None => seat.role(),
            },
            Self::Asked(socket, room) => {
                let access = &socket.services().access;
                access.room_membership(socket.identity(), room).await?.role
            }
        };
        match role {
            Role::Edit | Role::Admin => Ok(()),
            Role::View | Role::Comment => Err(Refusal::read_only()),
        }
    }
}

impl Components {
    /// Whether what is told of a change can be kept, if it is to be.
    pub(super) fn check_space(&self, author: &Author) -> Result<(), Refusal> {
        let mut rooms = author.rooms.iter();
        rooms.try_for_each(|room| self.history.check(room, author.event))
    }

    /// Tells what has come of a change: the others, if something has changed, and its author, where that is to hear of it.
    pub(super) fn tell_change(
        &self,
        author: &Author,
        edit: &Edit,
        (seq, has_changed, is_told): (Seq, bool, bool),
        outcome: Map<String, Json>,
    ) -> Outcome {
        let told_to_all = !matches!(edit.wish, Wish::Update(..));
        let except = author.socket.filter(|_| !told_to_all);
        let mut done = Outcome::nothing(seq);
        if has_changed {
            let body = body(edit, author.told.as_deref(), &outcome);
            let (rooms, event) = (&author.rooms, author.event);
            let told = self.rooms.tell_kept(rooms, except, event, &body, None);
            done.told = told.unwrap_or_else(|refusal| {
                // It is stored, so the members hear of it in any case.
                tracing::warn!(%refusal, event, "a change of a component is told and not kept");
                Told {
                    count: self.rooms.tell(rooms, except, event, &body),
                    stored_at: None,
                }
            });
        }
        if let Some(socket) = except.filter(|_| is_told) {
            // Not in its own name: programs take what they are told in their own name for what they have.
            self.rooms
                .tell_one(socket, author.event, &body(edit, None, &outcome));
        }
        done
    }

    /// Tells the members what others have edited who are no members. Gives the bytes of that.
    pub(super) fn tell_edited(&self, page: &PageId, before: &Content, after: &Content) -> usize {
        let (before, after) = (parts(before), parts(after));
        let is_other = |key: &&String| match (before.get(*key), after.get(*key)) {
            (Some(before), Some(after)) => before.get() != after.get(),
            (before, after) => before.is_some() != after.is_some(),
        };
        let keys = before.keys().chain(after.keys()).filter(is_other);
        let updates: BTreeMap<&String, &RawValue> = keys
            .map(|key| (key, after.get(key).copied().unwrap_or(RawValue::NULL)))
            .collect();
        let Some(room) = RoomName::parse(page.as_str()).filter(|_| !updates.is_empty()) else {
            return 0;
        };
        let bytes = updates.values().map(|value| value.get().len()).sum();
        let body = Edited {
            component_id: room.id(),
            updates: &updates,
            updated_by: None,
            timestamp: timestamp(),
        };
        self.rooms
            .tell(std::slice::from_ref(&room), None, "component:updated", &body);
        bytes
    }
}

/// The properties of a component, which are not taken apart.
fn parts(content: &Content) -> BTreeMap<String, &RawValue> {
    serde_json::from_str(content.get()).unwrap_or_default()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Edited<'a> {
    component_id: &'a str,
    updates: &'a BTreeMap<&'a String, &'a RawValue>,
    updated_by: Option<&'a str>,
    timestamp: String,
}

/// How a change is told.
fn body(edit: &Edit, user: Option<&str>, outcome: &Map<String, Json>) -> Json {
    let mut fields = named(edit.named.component.as_slice());
    let mut set = |name: &str, value: Json| drop(fields.insert(name.to_owned(), value));
    let mut path = edit.wish.path().iter();
    if let Some(row) = path.next() {
        set("rowId", row.as_str().into());
    }
    if let Some(nested) = path.next() {
        set("nestedComponentId", nested.as_str().into());
    }
    match &edit.wish {
        Wish::Update(..) => {
            set("updates", outcome.clone().into());
            set("updatedBy", json!(user));
            set("timestamp", timestamp().into());
        }
        Wish::Create(..) => {
            set("nestedComponent", outcome.clone().into());
            set("createdBy", json!(user));
        }
        Wish::Delete(_) => set("deletedBy", json!(user)),
    }
    if let Some(op) = &edit.op {
        set("clientOpId", op.as_str().into());
    }
    Json::Object(fields)
}
