//! Plain values as JavaScript's `String(value)` writes them: Yjs does that with attributes.

use yrs::types::text::Diff;
use yrs::{Any, Number};

/// The value as text.
pub(super) fn string(value: &Any) -> String {
    match value {
        Any::Null => "null".to_owned(),
        Any::Undefined => "undefined".to_owned(),
        Any::Bool(value) => value.to_string(),
        Any::Number(Number::Int(value)) => value.to_string(),
        Any::Number(Number::Float(value)) => number(*value),
        Any::String(value) => value.to_string(),
        Any::Buffer(bytes) => joined(bytes.iter().map(u8::to_string)),
        Any::Array(values) => joined(values.iter().map(|value| match value {
            Any::Null | Any::Undefined => String::new(),
            Any::Bool(_) | Any::Number(_) | Any::String(_) | Any::Buffer(_) | Any::Array(_) | Any::Map(_) => {
                string(value)
            }
        })),
        Any::Map(_) => OBJECT.to_owned(),
    }
}

/// What an object is as text.
pub(super) const OBJECT: &str = "[object Object]";

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(",")
}

/// Between these the digits are written out, beyond them with an exponent.
const SMALLEST_PLAIN: f64 = 1e-6;
const LARGEST_PLAIN: f64 = 1e21;

fn number(value: f64) -> String {
    let size = value.abs();
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else if size == 0.0 {
        "0".to_owned()
    } else if (SMALLEST_PLAIN..LARGEST_PLAIN).contains(&size) {
        value.to_string()
    } else {
        let written = format!("{value:e}");
        match written.split_once('e') {
            Some((digits, power)) if !power.starts_with('-') => format!("{digits}e+{power}"),
            _ => written,
        }
    }
}

/// The formats of a piece of text in the order of their names, each with its attributes as `for (key in value)` finds them.
pub(super) fn formats<T>(piece: &Diff<T>) -> Vec<(String, Vec<(String, String)>)> {
    let mut formats: Vec<_> = piece
        .attributes
        .iter()
        .flat_map(|attributes| attributes.iter())
        .map(|(name, value)| (name.to_string(), entries(value)))
        .collect();
    formats.sort_unstable();
    formats
}

fn entries(value: &Any) -> Vec<(String, String)> {
    let mut entries: Vec<_> = match value {
        Any::Map(entries) => entries
            .iter()
            .map(|(key, value)| (key.clone(), string(value)))
            .collect(),
        Any::Array(values) => numbered(values.iter().map(string)),
        Any::Buffer(bytes) => numbered(bytes.iter().map(u8::to_string)),
        Any::String(text) => {
            let units: Vec<u16> = text.encode_utf16().collect();
            numbered(units.iter().map(|unit| String::from_utf16_lossy(&[*unit])))
        }
        Any::Null | Any::Undefined | Any::Bool(_) | Any::Number(_) => Vec::new(),
    };
    entries.sort_unstable();
    entries
}

fn numbered(values: impl Iterator<Item = String>) -> Vec<(String, String)> {
    values
        .enumerate()
        .map(|(index, value)| (index.to_string(), value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{number, string};
    use yrs::Any;

    #[test]
    fn numbers_are_written_as_in_javascript() {
        for (value, written) in [
            (0.1, "0.1"),
            (-0.0, "0"),
            (1e21, "1e+21"),
            (1.5e-7, "1.5e-7"),
            (1e20, "100000000000000000000"),
            (0.000_001, "0.000001"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(number(value), written);
        }
    }

    #[test]
    fn lists_are_joined_and_objects_are_only_objects() {
        let list = Any::from(vec![Any::from(1), Any::Null, Any::from("a")]);
        assert_eq!(string(&list), "1,,a");
        assert_eq!(string(&Any::Map(std::sync::Arc::default())), "[object Object]");
    }
}
