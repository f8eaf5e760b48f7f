//! Finds things in a component as it is shown: the same ones, by the same ids, as are found in the document itself.

use serde_json::{Map as Object, Value};

use super::things::{MAX_DEPTH, ids, thing_id};

/// The thing with these ids, each anywhere in the one before; without any the component itself. O(size).
pub fn thing_in<'a>(component: &'a Value, path: &[String]) -> Option<&'a Object<String, Value>> {
    let component = component.as_object()?;
    (path.iter()).try_fold(component, |object, id| search(object, id, 0))
}

/// The thing with this id that is nearest to the surface.
fn search<'a>(
    object: &'a Object<String, Value>,
    id: &str,
    depth: usize,
) -> Option<&'a Object<String, Value>> {
    if depth > MAX_DEPTH {
        return None;
    }
    // In the order of their keys, whatever keeps the object.
    let mut entries: Vec<_> = object.iter().collect();
    entries.sort_unstable_by(|left, right| left.0.cmp(right.0));
    let lists = || {
        let lists = entries.iter().filter_map(|(_, value)| value.as_array());
        lists.filter(|list| ids(list).is_some())
    };
    let things = || lists().flatten().filter_map(Value::as_object);
    let is_it = |thing: &&Object<String, Value>| thing.get("id").and_then(thing_id).as_deref() == Some(id);
    let here = things().find(is_it);
    let within_maps = || {
        let mut maps = entries.iter().filter_map(|(_, value)| value.as_object());
        maps.find_map(|map| search(map, id, depth + 1))
    };
    let within_things = || things().find_map(|thing| search(thing, id, depth + 1));
    here.or_else(within_maps).or_else(within_things)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::thing_in;

    #[test]
    fn things_are_found_by_their_ids_the_one_nearest_to_the_surface_first() {
        let component = json!({
            "a": [{ "id": "row", "components": [{ "id": "x", "n": 1 }, { "id": 7, "n": 2 }] }],
            "b": [{ "id": "other", "components": [{ "id": "x", "n": 3 }] }],
            "c": { "deep": [{ "id": "y", "n": 4 }] },
            "d": [{ "id": "twin" }, { "id": "twin" }],
        });
        for (path, expected) in [
            (&["row", "x"][..], Some(1)),
            (&["other", "x"], Some(3)),
            (&["x"], Some(1)),
            (&["7"], Some(2)),
            (&["y"], Some(4)),
            (&["twin"], None),
            (&["none", "x"], None),
            (&["row", "none"], None),
        ] {
            let path: Vec<_> = path.iter().map(|id| (*id).to_owned()).collect();
            let found = thing_in(&component, &path).and_then(|thing| thing["n"].as_u64());
            assert_eq!(found, expected, "{path:?}");
        }
        assert_eq!(thing_in(&component, &[]), component.as_object());
        assert_eq!(thing_in(&json!(7), &[]), None);
    }
}
