//! An event of a client as a profile reads it, and what comes of it.

use serde::{Serialize, Serializer, de::DeserializeOwned, ser::SerializeMap};
use serde_json::{Value as Json, value::RawValue};

use crate::rooms::{Refusal, RefusalCode};

/// Levels of nesting that the payload of an event may have.
pub const MAX_DEPTH: usize = 64;

/// An event of a client.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// Its first argument; null without one.
    pub payload: Json,
}

/// What a client is answered: the fields beside `ok`, or why not.
pub type Answer = Result<Json, Refusal>;

impl Call {
    /// The payload as the event's own type.
    ///
    /// # Errors
    /// When it is another one: says which field is wrong.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        T::deserialize(&self.payload).map_err(|error| Refusal::malformed(error.to_string()))
    }
}

/// An object of which one field is the text of JSON, and is written as that JSON, byte for byte. Payloads of backends have numbers and
/// halves of characters that no [`Json`] can hold.
pub struct Verbatim<'a> {
    /// The object.
    pub body: &'a Json,
    /// The field; `None` for an object that is written as it is.
    pub field: Option<&'static str>,
}

impl Serialize for Verbatim<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (Json::Object(fields), Some(verbatim)) = (self.body, self.field) else {
            return self.body.serialize(serializer);
        };
        let mut map = serializer.serialize_map(Some(fields.len()))?;
        for (name, value) in fields {
            if name == verbatim
                && let Json::String(text) = value
            {
                let raw = RawValue::from_string(text.clone()).map_err(serde::ser::Error::custom)?;
                map.serialize_entry(name, &raw)?;
            } else {
                map.serialize_entry(name, value)?;
            }
        }
        map.end()
    }
}

/// Whether a value is nested no deeper than the payload of an event may be. O(size).
pub fn is_shallow(value: &Json) -> bool {
    fn depth(value: &Json, left: usize) -> bool {
        match value {
            Json::Array(values) => left > 0 && values.iter().all(|value| depth(value, left - 1)),
            Json::Object(fields) => left > 0 && fields.values().all(|value| depth(value, left - 1)),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => true,
        }
    }
    depth(value, MAX_DEPTH)
}

/// There is no such thing.
pub fn not_found(message: &'static str) -> Refusal {
    Refusal::new(RefusalCode::NotFound, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_json_is_written_as_it_is() {
        let list = r#"[{"payload":{"n":1.0,"huge":1e400,"half":"\ud83d","n":2}}]"#;
        let body = serde_json::json!({ "events": list, "complete": true });
        let written = |field| serde_json::to_string(&Verbatim { body: &body, field }).expect("JSON");
        assert_eq!(
            written(Some("events")),
            format!(r#"{{"complete":true,"events":{list}}}"#)
        );
        assert_eq!(written(None), body.to_string());
        assert_eq!(written(Some("others")), body.to_string());
    }

    #[test]
    fn payloads_are_nested_so_deep_and_no_deeper() {
        let nested = |depth: usize| (0..depth).fold(Json::Null, |inner, _| Json::Array(vec![inner]));
        assert!(is_shallow(&nested(MAX_DEPTH)));
        assert!(!is_shallow(&nested(MAX_DEPTH + 1)));
    }
}
