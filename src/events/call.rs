//! An event of a client as a profile reads it, and what comes of it.

use serde::de::DeserializeOwned;
use serde_json::Value as Json;

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
    fn payloads_are_nested_so_deep_and_no_deeper() {
        let nested = |depth: usize| (0..depth).fold(Json::Null, |inner, _| Json::Array(vec![inner]));
        assert!(is_shallow(&nested(MAX_DEPTH)));
        assert!(!is_shallow(&nested(MAX_DEPTH + 1)));
    }
}
