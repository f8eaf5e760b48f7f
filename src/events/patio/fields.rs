//! The fields of events, checked before anything is looked up.

use serde_json::Value as Json;

use super::threads::Thread;
use crate::rooms::{Refusal, RoomName, is_id};

/// The payload of an event that is an object. What is wrong is said with the name of the field in front.
pub(super) struct Fields<'a>(&'a Json);

fn wrong(field: &str, what: &str) -> Refusal {
    Refusal::malformed(format!("`{field}` {what}"))
}

/// The field that a refusal is about, and what is wrong with it.
pub(super) fn told(refusal: &Refusal) -> (&str, &str) {
    let about = refusal.message.strip_prefix('`');
    about
        .and_then(|about| about.split_once("` "))
        .unwrap_or(("", &refusal.message))
}

impl<'a> Fields<'a> {
    pub(super) fn of(payload: &'a Json) -> Result<Self, Refusal> {
        match payload.is_object() {
            true => Ok(Self(payload)),
            false => Err(Refusal::malformed("the event has an object with fields")),
        }
    }

    /// The first of these fields that is there: programs of several versions name it differently.
    fn first(&self, names: &[&'static str]) -> (&'static str, Option<&'a Json>) {
        let found = names
            .iter()
            .find_map(|name| Some((*name, self.0.get(*name).filter(|value| !value.is_null())?)));
        match found {
            Some((name, value)) => (name, Some(value)),
            None => (names.first().copied().unwrap_or_default(), None),
        }
    }

    pub(super) fn room(&self, names: &[&'static str]) -> Result<RoomName, Refusal> {
        let (name, value) = self.first(names);
        room(name, value.unwrap_or(&Json::Null))
    }

    pub(super) fn id(&self, name: &'static str) -> Result<&'a str, Refusal> {
        match self.0.get(name) {
            Some(Json::String(id)) if is_id(id) => Ok(id),
            Some(_) | None => Err(wrong(name, "must be an id of 1 to 255 bytes")),
        }
    }

    /// The thread that is meant; without one the room's main thread.
    pub(super) fn thread(&self) -> Result<Thread, Refusal> {
        match self.0.get("threadId") {
            None | Some(Json::Null) => Ok(None),
            Some(_) => self.id("threadId").map(|id| Some(id.to_owned())),
        }
    }

    /// A text that is not empty and has at most so many bytes.
    pub(super) fn text(&self, names: &[&'static str], max_bytes: usize) -> Result<&'a str, Refusal> {
        let (name, value) = self.first(names);
        let Some(Json::String(text)) = value else {
            return Err(wrong(name, "must be a text"));
        };
        match text.len() {
            0 => Err(wrong(name, "must not be empty")),
            length if length > max_bytes => Err(wrong(name, &format!("has at most {max_bytes} bytes"))),
            _ => Ok(text),
        }
    }

    /// A text that may be missing.
    pub(super) fn optional(&self, name: &'static str) -> Result<Option<&'a str>, Refusal> {
        match self.0.get(name) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(name, "must be a text")),
        }
    }

    /// A time in milliseconds since 1970, or 0 when it is missing.
    pub(super) fn milliseconds(&self, name: &'static str) -> Result<u64, Refusal> {
        match self.0.get(name) {
            None | Some(Json::Null) => Ok(0),
            Some(time) => time
                .as_u64()
                .ok_or_else(|| wrong(name, "must be a time in milliseconds")),
        }
    }

    /// Something that may be missing and is passed on as it is.
    pub(super) fn any(&self, name: &str) -> Json {
        self.0.get(name).cloned().unwrap_or_default()
    }
}

/// The room that a code names.
pub(super) fn room(field: &str, code: &Json) -> Result<RoomName, Refusal> {
    let Json::String(code) = code else {
        return Err(wrong(field, "must be a text"));
    };
    let room = RoomName::with_prefix("room:", code).filter(|room| room.asked().is_some());
    room.ok_or_else(|| wrong(field, "must be a code of a room"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_checked_and_what_is_wrong_names_them() {
        let payload = json!({
            "roomId": "CODE", "threadId": 7, "content": "", "long": "xxxxx", "id": "a\nb", "null": null,
        });
        let fields = Fields::of(&payload).expect("an object");
        let room = fields.room(&["shareCode", "roomId"]).expect("a room");
        assert_eq!(room.as_str(), "room:CODE");
        let said = |refusal: Refusal| {
            let (field, what) = told(&refusal);
            format!("{field}|{what}")
        };
        for (refusal, expected) in [
            (fields.thread().err(), "threadId|must be an id of 1 to 255 bytes"),
            (fields.id("id").err(), "id|must be an id of 1 to 255 bytes"),
            (fields.text(&["content"], 9).err(), "content|must not be empty"),
            (fields.text(&["long"], 4).err(), "long|has at most 4 bytes"),
            (
                fields.text(&["missing", "null"], 4).err(),
                "missing|must be a text",
            ),
            (fields.room(&["shareCode"]).err(), "shareCode|must be a text"),
            (fields.optional("threadId").err(), "threadId|must be a text"),
            (
                Fields::of(&json!([])).err(),
                "|the event has an object with fields",
            ),
        ] {
            assert_eq!(refusal.map(said).as_deref(), Some(expected));
        }
        assert_eq!(fields.optional("null"), Ok(None));
    }
}
