//! What the readable columns of a snapshot can hold, so that no content can make an edit unstorable.
//!
//! The document itself is in the bytes, which are kept as they are. Beside them stand columns for people and backends
//! (`content`, `text`) and the names of users. PostgreSQL refuses U+0000 in all of these and bounds how deep and how large
//! a `jsonb` may be, so every store keeps the same slightly reduced form: U+FFFD in the place of U+0000, and no `content` at
//! all when it is beyond the bounds.

use std::borrow::Cow;

use serde_json::Value;

use crate::Snapshot;

/// Deepest `content` that is kept, in levels of arrays and objects. What is parsed again must not exhaust a stack.
pub(crate) const MAX_DEPTH: usize = 100;

/// Largest `content` and `text` that are kept, in bytes each. PostgreSQL ends at 256 MiB for all strings of a `jsonb`.
pub(crate) const MAX_BYTES: usize = 128 << 20;

/// The readable form of a text: without U+0000, and empty when it is beyond the bounds.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    if text.len() > MAX_BYTES {
        Cow::Borrowed("")
    } else if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// The readable form of a JSON value as text; `None` when it is beyond the bounds.
pub(crate) fn json(content: &Value) -> Option<String> {
    if depth_exceeds(content, MAX_DEPTH) {
        return None;
    }
    let mut json = content.to_string();
    // Serialised JSON holds U+0000 only as this escape. (An escaped backslash before `u0000` looks the same and takes the slow
    // way for nothing.)
    if json.contains("\\u0000") {
        json = without_nul(content).to_string();
    }
    (json.len() <= MAX_BYTES).then_some(json)
}

/// A snapshot as a store gives it back.
pub(crate) fn snapshot(snapshot: &Snapshot) -> Snapshot {
    Snapshot {
        content: json(&snapshot.content).map_or(Value::Null, |_| without_nul(&snapshot.content)),
        text: text(&snapshot.text).into_owned(),
        ..snapshot.clone()
    }
}

fn depth_exceeds(value: &Value, levels: usize) -> bool {
    let Some(below) = levels.checked_sub(1) else {
        return value.is_array() || value.is_object();
    };
    match value {
        Value::Array(items) => items.iter().any(|item| depth_exceeds(item, below)),
        Value::Object(fields) => fields.values().any(|field| depth_exceeds(field, below)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn without_nul(value: &Value) -> Value {
    match value {
        Value::String(string) => Value::String(string.replace('\0', "\u{fffd}")),
        Value::Array(items) => Value::Array(items.iter().map(without_nul).collect()),
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(name, field)| (name.replace('\0', "\u{fffd}"), without_nul(field)))
                .collect(),
        ),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nul_becomes_the_replacement_character_in_texts_names_and_strings() {
        assert_eq!(text("a\0b"), "a\u{fffd}b");
        assert_eq!(
            json(&json!({"k\0": ["v\0", 1]})).unwrap(),
            "{\"k\u{fffd}\":[\"v\u{fffd}\",1]}"
        );
        // A backslash followed by "u0000" is not U+0000.
        assert_eq!(json(&json!("\\u0000")).unwrap(), r#""\\u0000""#);
    }

    #[test]
    fn content_deeper_than_the_bound_is_not_kept() {
        let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
        assert!(json(&nested(MAX_DEPTH)).is_some());
        assert!(json(&nested(MAX_DEPTH + 1)).is_none());
        // What is kept can be parsed again.
        assert!(serde_json::from_str::<Value>(&json(&nested(MAX_DEPTH)).unwrap()).is_ok());
    }

    #[test]
    fn texts_beyond_the_bound_are_kept_empty() {
        assert_eq!(text(&"x".repeat(MAX_BYTES)).len(), MAX_BYTES);
        assert_eq!(text(&"x".repeat(MAX_BYTES + 1)), "");
    }
}
