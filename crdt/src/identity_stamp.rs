//! Who a presence state is of, as the server knows it, written into what a client shows.
//!
//! Applications show people by the member `user` of a state: an object with `id`, `name`, `avatarUrl` and, of the client's own
//! choice, colour and more. A stamp replaces those of its fields that the server knows and leaves everything else as it came,
//! byte for byte.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The member of a state that says who it is of.
const USER: &str = "user";

/// What the server knows of whoever shows a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityStamp {
    /// Names of fields with their JSON; `None` for a field that must not be there.
    fields: Vec<(&'static str, Option<String>)>,
}

impl IdentityStamp {
    /// The stamp of a user; `None` for somebody who is none and must not pass for one. A name or picture that is not known
    /// stays the client's choice.
    pub fn new(user: Option<&str>, name: Option<&str>, avatar_url: Option<&str>) -> Self {
        let json = |text: &str| serde_json::Value::from(text).to_string();
        let known = [("name", name), ("avatarUrl", avatar_url)];
        let known = known
            .into_iter()
            .filter_map(|(field, text)| Some((field, Some(json(text?)))));
        let fields = std::iter::once(("id", user.map(json))).chain(known).collect();
        Self { fields }
    }

    /// A state as others may see it; `None` when it is so already. What is no object names nobody and is left alone.
    pub fn stamped(&self, state: &str) -> Option<String> {
        if !state.trim_start().starts_with('{') {
            return None;
        }
        let Ok(Object(fields)) = serde_json::from_str(state) else {
            // Names of members that are no text: nobody can tell what such a state says, so only the stamp is left of it.
            let user = self.within(None).unwrap_or_else(|| "{}".to_owned());
            return Some(format!("{{\"{USER}\":{user}}}"));
        };
        let users = fields.iter().filter(|(name, _)| name == USER);
        let (count, user) = (users.clone().count(), users.map(|(_, user)| *user).next_back());
        let user = match (self.within(user), user) {
            (Some(user), _) => user,
            (None, Some(user)) if count > 1 => user.get().to_owned(),
            (None, _) => return None,
        };
        let others = fields.iter().filter(|(name, _)| name != USER);
        let others = others.map(|(name, value)| (name.as_str(), value.get()));
        Some(object(others.chain([(USER, user.as_str())])))
    }

    /// The user of a state with the fields of the stamp; `None` when they are right already.
    fn within(&self, user: Option<&RawValue>) -> Option<String> {
        let Object(fields) = user
            .and_then(|user| serde_json::from_str(user.get()).ok())
            .unwrap_or_default();
        let is_right = |(name, known): &(&'static str, Option<String>)| {
            let mut shown = fields.iter().filter(|(field, _)| field == name);
            match (shown.next(), known, shown.next()) {
                (None, None, None) => true,
                (Some((_, shown)), Some(known), None) => text(shown.get()) == text(known),
                _ => false,
            }
        };
        if self.fields.iter().all(is_right) {
            return None;
        }
        let is_known = |field: &str| self.fields.iter().any(|(name, _)| *name == field);
        let others = fields.iter().filter(|(field, _)| !is_known(field));
        let others = others.map(|(field, value)| (field.as_str(), value.get()));
        let known = self
            .fields
            .iter()
            .filter_map(|(name, known)| Some((*name, known.as_deref()?)));
        Some(object(others.chain(known)))
    }
}

/// The text that a piece of JSON is.
fn text(json: &str) -> Option<String> {
    serde_json::from_str(json).ok()
}

/// An object of members that are JSON already.
fn object<'a>(members: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut json = String::from("{");
    for (index, (name, value)) in members.enumerate() {
        if index > 0 {
            json.push(',');
        }
        json.push_str(&serde_json::Value::from(name).to_string());
        json.push(':');
        json.push_str(value);
    }
    json.push('}');
    json
}

/// The members of an object in their order, also those that are named twice, unread.
#[derive(Default)]
struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn ada() -> IdentityStamp {
        IdentityStamp::new(Some("ada"), Some("Ada \"L\""), None)
    }

    #[test]
    fn a_badge_says_who_it_is_and_changes_nothing_else() {
        for (state, expected) in [
            ("{}", r#"{"user":{"id":"ada","name":"Ada \"L\""}}"#),
            (
                r##"{"cursor": {"anchor":1e3}, "user":{"name":"Eve","color":"#fff","id":"eve"},"n":12345678901234567890.5}"##,
                r##"{"cursor":{"anchor":1e3},"n":12345678901234567890.5,"user":{"color":"#fff","id":"ada","name":"Ada \"L\""}}"##,
            ),
            // Somebody's name in the place of the object, twice, or spelt otherwise.
            (r#"{"user":"eve"}"#, r#"{"user":{"id":"ada","name":"Ada \"L\""}}"#),
            (
                r#"{"user":{"id":"eve"},"user":{"id":"ada","name":"Ada \"L\""}}"#,
                r#"{"user":{"id":"ada","name":"Ada \"L\""}}"#,
            ),
            (
                r#"{"\u0075ser":{"id":"ada","\u0069d":"eve"}}"#,
                r#"{"user":{"id":"ada","name":"Ada \"L\""}}"#,
            ),
            (
                r#"{"user":{"id":["ada"],"x":"\ud800"}}"#,
                r#"{"user":{"x":"\ud800","id":"ada","name":"Ada \"L\""}}"#,
            ),
            (
                r#"{"\ud800":1,"user":{"id":"eve"}}"#,
                r#"{"user":{"id":"ada","name":"Ada \"L\""}}"#,
            ),
        ] {
            assert_eq!(ada().stamped(state).as_deref(), Some(expected), "{state}");
            assert_eq!(ada().stamped(expected), None, "once is enough");
        }
        for nobody in ["1", "\"ada\"", "[{\"user\":1}]", " true"] {
            assert_eq!(ada().stamped(nobody), None);
        }
        let spelt = r#"{"user":{"id":"\u0061da","name":"Ada \"L\"","avatarUrl":"mine"}}"#;
        assert_eq!(ada().stamped(spelt), None, "the same text");
    }

    #[test]
    fn who_is_nobody_passes_for_nobody() {
        let guest = IdentityStamp::new(None, None, None);
        assert_eq!(guest.stamped("{}"), None);
        assert_eq!(guest.stamped(r#"{"user":{"name":"Guest"}}"#), None);
        assert_eq!(
            guest
                .stamped(r#"{"user":{"id":"ada","name":"Guest"}}"#)
                .as_deref(),
            Some(r#"{"user":{"name":"Guest"}}"#)
        );
    }

    proptest! {
        /// Whatever a state is, who reads it finds the user that the server knows, and all other members.
        #[test]
        fn whoever_reads_a_state_finds_the_right_user(
            members in proptest::collection::vec(("user|x|y", "[0-9]|\\{\\}|\"eve\"|\\{\"id\":\"eve\"\\}|\\{\"id\":\"ada\",\"k\":1,\"id\":2\\}"), 0..4)
        ) {
            let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            let state = format!("{{{}}}", members.join(","));
            let shown = ada().stamped(&state).unwrap_or_else(|| state.clone());
            let (before, after): (Value, Value) = (serde_json::from_str(&state)?, serde_json::from_str(&shown)?);
            prop_assert_eq!(&after["user"]["id"], "ada");
            for name in ["x", "y"] {
                prop_assert_eq!(before.get(name), after.get(name));
            }
            prop_assert_eq!(ada().stamped(&shown), None);
        }
    }
}
