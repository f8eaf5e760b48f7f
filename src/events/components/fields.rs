//! The events of components as their types: checked before anything is looked up.

use crdt::thing_id;
use serde::Deserialize;
use serde_json::{Map, Value as Json};
use socketioxide_core::Sid;
use storage::Seq;

use super::copies::Path;
use crate::rooms::{Refusal, RoomName, is_id};

/// The list of a row that nested components are in.
const NESTED: &str = "components";
const ID: &str = "id";

/// What an event names: a component, what that belongs to, or both.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) component: Option<RoomName>,
    pub(super) entity: Option<RoomName>,
}

/// A change of a component.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Wish {
    /// Properties of it, or of a nested one.
    Update(Path, Map<String, Json>),
    /// A new nested component in a list of a row.
    Create(Path, &'static str, Map<String, Json>),
    /// A nested component goes.
    Delete(Path),
}

/// An event that changes a component.
#[derive(Clone, Debug)]
pub(super) struct Edit {
    pub(super) named: Named,
    pub(super) wish: Wish,
    /// The sequence number of the component in which it was made, of an author that knows it.
    pub(super) base: Option<Seq>,
    /// What its author calls it.
    pub(super) op: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    component_id: Option<Json>,
    entity_type: Option<Json>,
    entity_id: Option<Json>,
    row_id: Option<Json>,
    nested_component_id: Option<Json>,
    nested_component: Option<Json>,
    updates: Option<Json>,
    base_version: Option<Json>,
    client_op_id: Option<Json>,
}

fn wrong(field: &str, what: &str) -> Refusal {
    Refusal::malformed(format!("`{field}` {what}"))
}

fn fields(payload: &Json) -> Result<Fields, Refusal> {
    let fields = Fields::deserialize(payload).ok().filter(|_| payload.is_object());
    fields.ok_or_else(|| Refusal::malformed("the event has an object with fields"))
}

/// A field with an id, or `None` when it is missing.
fn optional(name: &str, field: Option<Json>) -> Result<Option<String>, Refusal> {
    match field {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(id)) if is_id(&id) => Ok(Some(id)),
        Some(_) => Err(wrong(name, "must be an id of 1 to 255 bytes")),
    }
}

fn id(name: &str, field: Option<Json>) -> Result<String, Refusal> {
    optional(name, field)?.ok_or_else(|| wrong(name, "must be an id of 1 to 255 bytes"))
}

fn object(name: &str, field: Option<Json>) -> Result<Map<String, Json>, Refusal> {
    match field {
        Some(Json::Object(object)) if has_reserved(&object) => {
            let message = format!("has a property `{}`, which is the server's own", crdt::ORDER);
            Err(wrong(name, &message))
        }
        Some(Json::Object(object)) => Ok(object),
        Some(_) | None => Err(wrong(name, "must be an object")),
    }
}

/// Whether the property that keeps the order is in an object, which would be taken for that. Payloads are nested so deep at most.
fn has_reserved(object: &Map<String, Json>) -> bool {
    fn within(value: &Json) -> bool {
        match value {
            Json::Object(object) => has_reserved(object),
            Json::Array(values) => values.iter().any(within),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => false,
        }
    }
    object.contains_key(crdt::ORDER) || object.values().any(within)
}

fn named(component: Option<String>, kind: Option<String>, id: Option<String>) -> Result<Named, Refusal> {
    let component = component.map(|id| {
        let room = RoomName::with_prefix("component:", &id);
        room.filter(|room| room.asked().is_some())
            .ok_or_else(|| wrong("componentId", "must be the id of a component"))
    });
    let entity = match (kind, id) {
        (None, None) => None,
        (Some(kind), Some(id)) => {
            let room = RoomName::with_prefix("entity:", &format!("{kind}:{id}"));
            let room = room.filter(|room| room.asked().is_some() && !kind.contains(':'));
            Some(room.ok_or_else(|| wrong("entityType", "and `entityId` must name an entity")))
        }
        (Some(_), None) => Some(Err(wrong("entityId", "must be there with `entityType`"))),
        (None, Some(_)) => Some(Err(wrong("entityType", "must be there with `entityId`"))),
    };
    Ok(Named {
        component: component.transpose()?,
        entity: entity.transpose()?,
    })
}

impl Wish {
    /// The thing that it is about, or in which something is made.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Update(path, _) | Self::Create(path, ..) | Self::Delete(path) => path,
        }
    }
}

impl Named {
    /// Reads what an event names, which is something.
    pub(super) fn read(payload: &Json) -> Result<Self, Refusal> {
        let Fields {
            component_id,
            entity_type,
            entity_id,
            ..
        } = fields(payload)?;
        let named = named(
            optional("componentId", component_id)?,
            optional("entityType", entity_type)?,
            optional("entityId", entity_id)?,
        )?;
        match named.component.is_some() || named.entity.is_some() {
            true => Ok(named),
            false => Err(wrong("componentId", "must be an id of 1 to 255 bytes")),
        }
    }

    /// The same of an event that is about a component.
    pub(super) fn read_component(payload: &Json) -> Result<Self, Refusal> {
        let named = Self::read(payload)?;
        match named.component.is_some() {
            true => Ok(named),
            false => Err(wrong("componentId", "must be an id of 1 to 255 bytes")),
        }
    }

    /// The rooms.
    pub(super) fn rooms(&self) -> Vec<RoomName> {
        self.component.iter().chain(&self.entity).cloned().collect()
    }
}

impl Edit {
    /// Whether an event is one.
    pub(super) fn is_one(event: &str) -> bool {
        Self::told_as(event).is_some()
    }

    /// The event with which the members hear of it.
    pub(super) fn told_as(event: &str) -> Option<&'static str> {
        Some(match event {
            "component:update" => "component:updated",
            "component:nested-update" => "component:nested-updated",
            "component:nested-create" => "component:nested-created",
            "component:nested-delete" => "component:nested-deleted",
            _ => return None,
        })
    }

    /// Reads the payload of such an event.
    pub(super) fn read(event: &str, payload: &Json) -> Result<Self, Refusal> {
        let named = Named::read_component(payload)?;
        let fields = fields(payload)?;
        let base = match fields.base_version {
            None | Some(Json::Null) => None,
            Some(base) => {
                let base = base
                    .as_u64()
                    .ok_or_else(|| wrong("baseVersion", "must be a number"));
                Some(base?)
            }
        };
        let op = optional("clientOpId", fields.client_op_id)?;
        let wish = match event {
            "component:update" => Wish::Update(Path::new(), object("updates", fields.updates)?),
            "component:nested-create" => {
                let row = id("rowId", fields.row_id)?;
                let mut nested = object("nestedComponent", fields.nested_component)?;
                match nested.get(ID) {
                    None | Some(Json::Null) => {
                        drop(nested.insert(ID.to_owned(), Sid::new().to_string().into()))
                    }
                    Some(Json::Number(_)) => {}
                    Some(Json::String(id)) if is_id(id) => {}
                    Some(_) => return Err(wrong("nestedComponent", "has an `id` of 1 to 255 bytes")),
                }
                Wish::Create(vec![row], NESTED, nested)
            }
            _ => {
                let nested = id("nestedComponentId", fields.nested_component_id)?;
                let path = vec![id("rowId", fields.row_id)?, nested.clone()];
                if event == "component:nested-delete" {
                    Wish::Delete(path)
                } else {
                    let updates = object("updates", fields.updates)?;
                    let id = updates.get(ID);
                    let stays = id.is_none_or(|id| thing_id(id).as_deref() == Some(&*nested));
                    if !stays {
                        return Err(wrong("updates", "cannot change the `id`"));
                    }
                    Wish::Update(path, updates)
                }
            }
        };
        Ok(Self {
            named,
            wish,
            base,
            op,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_named_is_a_component_an_entity_or_both() {
        let rooms = |payload: Json| -> Vec<String> {
            let named = Named::read(&payload).expect("something");
            named
                .rooms()
                .iter()
                .map(|room| room.as_str().to_owned())
                .collect()
        };
        assert_eq!(rooms(json!({ "componentId": "c:1" })), ["component:c:1"]);
        assert_eq!(
            rooms(json!({ "entityType": "page", "entityId": "p:1", "componentId": "c" })),
            ["component:c", "entity:page:p:1"]
        );
        assert_eq!(
            rooms(json!({ "entityType": "page", "entityId": "p", "componentId": null })),
            ["entity:page:p"]
        );
        for payload in [
            json!(null),
            json!("c"),
            json!([]),
            json!({}),
            json!({ "componentId": 7 }),
            json!({ "componentId": "" }),
            json!({ "componentId": "a\nb" }),
            json!({ "componentId": "x".repeat(256) }),
            // The name of the room would be longer than a page's id.
            json!({ "componentId": "x".repeat(250) }),
            json!({ "componentId": "a/../c" }),
            json!({ "componentId": "c", "entityType": "page" }),
            json!({ "entityId": "p" }),
            json!({ "entityType": "a:b", "entityId": "p" }),
        ] {
            let refused = Named::read(&payload).expect_err("refused");
            assert_eq!(refused.code, crate::rooms::RefusalCode::Malformed, "{payload}");
        }
    }

    #[test]
    fn changes_are_checked_and_nested_components_without_an_id_get_one() {
        let read = |event: &str, payload: Json| Edit::read(event, &payload);
        let created = read(
            "component:nested-create",
            json!({ "componentId": "c", "rowId": "r", "nestedComponent": { "a": 1 } }),
        );
        let Wish::Create(path, "components", nested) = created.expect("a change").wish else {
            panic!("it creates");
        };
        assert!(path == ["r"] && nested["a"] == 1);
        assert!(nested["id"].as_str().is_some_and(|id| id.len() > 10));
        let update = read(
            "component:nested-update",
            json!({ "componentId": "c", "rowId": "r", "nestedComponentId": "7", "updates": { "id": 7 } }),
        );
        assert!(matches!(update.expect("a change").wish, Wish::Update(path, _) if path == ["r", "7"]));
        for (event, payload, field) in [
            ("component:update", json!({ "componentId": "c" }), "updates"),
            (
                "component:update",
                json!({ "componentId": "c", "updates": [] }),
                "updates",
            ),
            (
                "component:update",
                json!({ "componentId": "c", "updates": { "a": [{ "$order": "80" }] } }),
                "updates",
            ),
            ("component:update", json!({ "updates": {} }), "componentId"),
            (
                "component:update",
                json!({ "entityType": "page", "entityId": "p", "updates": {} }),
                "componentId",
            ),
            (
                "component:update",
                json!({ "componentId": "c", "updates": {}, "baseVersion": "1" }),
                "baseVersion",
            ),
            (
                "component:update",
                json!({ "componentId": "c", "updates": {}, "clientOpId": {} }),
                "clientOpId",
            ),
            (
                "component:nested-update",
                json!({ "componentId": "c", "rowId": "r", "updates": {} }),
                "nestedComponentId",
            ),
            (
                "component:nested-update",
                json!({ "componentId": "c", "rowId": "r", "nestedComponentId": "n", "updates": { "id": "m" } }),
                "updates",
            ),
            (
                "component:nested-delete",
                json!({ "componentId": "c", "nestedComponentId": "n" }),
                "rowId",
            ),
            (
                "component:nested-create",
                json!({ "componentId": "c", "rowId": "r", "nestedComponent": { "id": {} } }),
                "nestedComponent",
            ),
            (
                "component:nested-create",
                json!({ "componentId": "c", "rowId": "r" }),
                "nestedComponent",
            ),
        ] {
            let refused = read(event, payload.clone()).expect_err("refused");
            assert!(
                refused.message.starts_with(&format!("`{field}`")),
                "{payload}: {refused:?}"
            );
        }
    }
}
