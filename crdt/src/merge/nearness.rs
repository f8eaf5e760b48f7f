//! How near an object is to another one, part by part: which of several copies the properties of a component were changed in.

use std::collections::BTreeMap;

use serde_json::{Map as Object, Value};

use super::base::{INSERTED, words};
use super::things::{ids, is_same};

/// The index of the object whose properties are nearest to `saved`, which has only some of them; of equally near ones the first.
///
/// What would have been put in is dearer than what would have been taken out, as with texts. Things in lists are the same by their ids, and
/// what is in objects by its key, so a new thing is never taken for another one that has been changed.
pub fn nearest_object<'a>(
    candidates: impl Iterator<Item = &'a Object<String, Value>>,
    saved: &Object<String, Value>,
) -> Option<usize> {
    let cost = |candidate: &Object<String, Value>| -> usize {
        let costs = saved.iter().map(|(key, saved)| cost(candidate.get(key), saved));
        costs.sum()
    };
    let costs = candidates.map(cost).enumerate();
    costs.min_by_key(|(_, cost)| *cost).map(|(index, _)| index)
}

/// What it takes to make one value of another. O(size).
fn cost<'a>(from: Option<&'a Value>, to: &'a Value) -> usize {
    match (from, to) {
        (None, to) => INSERTED * weight(to),
        (Some(from), to) if is_same(from, to) => 0,
        (Some(Value::Object(from)), Value::Object(to)) => {
            let named = |object: &'a Object<String, Value>| {
                let entries = object.iter();
                entries.map(|(key, value)| (&**key, value)).collect()
            };
            parts(&named(from), &named(to))
        }
        (Some(Value::Array(from)), Value::Array(to)) => match (ids(from), ids(to)) {
            (Some(before), Some(after)) => {
                let by_id: BTreeMap<_, _> = before.iter().map(String::as_str).zip(from).collect();
                let saved: BTreeMap<_, _> = after.iter().map(String::as_str).zip(to).collect();
                let stayed = before.iter().filter(|id| saved.contains_key(id.as_str()));
                let is_moved = !stayed.eq(after.iter().filter(|id| by_id.contains_key(id.as_str())));
                parts(&by_id, &saved) + usize::from(is_moved)
            }
            (None, _) | (_, None) => replaced(&Value::Null, &Value::Null),
        },
        (Some(Value::String(from)), Value::String(to)) => of_words(from, to).max(1),
        (Some(from), to) => replaced(from, to),
    }
}

fn parts(from: &BTreeMap<&str, &Value>, to: &BTreeMap<&str, &Value>) -> usize {
    let kept: usize = to.iter().map(|(key, to)| cost(from.get(key).copied(), to)).sum();
    kept + from.keys().filter(|key| !to.contains_key(*key)).count()
}

fn replaced(from: &Value, to: &Value) -> usize {
    INSERTED * weight(to) + weight(from)
}

/// Words that were put in and taken out, without regard to their order.
fn of_words(from: &str, to: &str) -> usize {
    let mut counts: BTreeMap<&str, isize> = BTreeMap::new();
    for word in words(to) {
        *counts.entry(word).or_default() += 1;
    }
    for word in words(from) {
        *counts.entry(word).or_default() -= 1;
    }
    let costs = counts.values().map(|count| match *count {
        count if count > 0 => INSERTED * count.unsigned_abs(),
        count => count.unsigned_abs(),
    });
    costs.sum()
}

/// How much there is in a value.
fn weight(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
        Value::String(text) => words(text).len().max(1),
        Value::Array(values) => values.iter().map(weight).sum::<usize>().max(1),
        Value::Object(entries) => entries.values().map(weight).sum::<usize>().max(1),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::nearest_object;

    #[track_caller]
    fn is_nearest<const N: usize>(candidates: [Value; N], saved: Value, expected: usize) {
        let objects: Vec<_> = candidates.iter().filter_map(Value::as_object).collect();
        let nearest = nearest_object(objects.into_iter(), saved.as_object().expect("an object"));
        assert_eq!(nearest, Some(expected), "{saved}");
    }

    #[test]
    fn the_copy_that_was_changed_least_is_the_nearest() {
        let row = |id: &str| json!({ "id": id, "components": [], "styles": { "color": "red" } });
        let rows = |ids: &str| json!({ "rows": ids.split(' ').map(row).collect::<Vec<_>>() });
        // Two have put in a row each, that look the same: neither has taken the other's out.
        is_nearest([rows("a b"), rows("a")], rows("a c"), 1);
        is_nearest([rows("a b"), rows("a")], rows("a b c"), 0);
        is_nearest([rows("b a"), rows("a b")], rows("a b c"), 1);
        is_nearest([rows("a b c"), rows("a b")], rows("b c"), 0);
        // Two have put in a key each.
        is_nearest(
            [json!({ "meta": { "theirs": 1 } }), json!({})],
            json!({ "meta": { "ours": 1 } }),
            1,
        );
        // Words.
        is_nearest(
            [json!({ "text": "one two bob" }), json!({ "text": "one two" })],
            json!({ "text": "one two ada" }),
            1,
        );
        is_nearest(
            [json!({ "text": "one two bob" }), json!({ "text": "one two" })],
            json!({ "text": "one two bob ada" }),
            0,
        );
        // Of several properties one copy had all.
        is_nearest(
            [
                json!({ "a": 2, "rows": [row("r")] }),
                json!({ "a": 1, "rows": [] }),
            ],
            json!({ "a": 1, "rows": [] }),
            1,
        );
        // The properties that were not saved say nothing.
        is_nearest(
            [json!({ "a": 1, "b": 7 }), json!({ "a": 2 })],
            json!({ "a": 1 }),
            0,
        );
        assert_eq!(nearest_object([].into_iter(), &serde_json::Map::new()), None);
    }
}
