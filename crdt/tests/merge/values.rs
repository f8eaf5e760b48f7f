//! Saves of JSON: objects property by property, rows by their id.

use pageroom_crdt::{ClientId, Format, MergeError, MergeRefusal, Save, SmallEdit};
use serde_json::{Value, json};

use crate::page::{Page, certain, save};

fn page(content: Value, shared: bool) -> Page {
    let mut page = Page::new();
    let edit: SmallEdit =
        serde_json::from_value(json!({ "op": "add", "path": "/data", "value": content, "shared": shared }))
            .unwrap();
    let merged = page.view().edit_small(ClientId(5), &[edit]).unwrap();
    page.apply(&merged.update);
    page
}

fn json_save(content: Value, base: Value) -> Save {
    Save {
        field: Some("data".to_owned()),
        candidates: vec![certain(base)],
        ..save(content, Format::Json)
    }
}

/// The outcome is the same whether values are shared types or in one piece.
#[track_caller]
fn merges(base: &Value, current: &Value, saved: &Value, outcome: &Value) {
    for shared in [false, true] {
        let mut page = page(base.clone(), shared);
        for (client, content) in [(6, current), (7, saved)] {
            let save = json_save(content.clone(), base.clone());
            let merged = page.view().merge_shown(ClientId(client), save).unwrap();
            page.apply(&merged.update);
            if client == 7 {
                assert_eq!(merged.differs, saved != outcome, "shared: {shared}");
            }
        }
        let now = page.view().json(Some("data")).unwrap().unwrap();
        assert_eq!(&now, outcome, "shared: {shared}");
        let again = json_save(outcome.clone(), outcome.clone());
        assert!(
            page.view()
                .merge_shown(ClientId(8), again)
                .unwrap()
                .update
                .is_empty()
        );
    }
}

#[test]
fn objects_are_merged_by_property() {
    merges(
        &json!({ "a": 1, "b": { "c": 2, "d": 3 }, "e": 4, "f": 5 }),
        &json!({ "a": 9, "b": { "c": 2, "d": 8 }, "e": 7, "f": 5, "theirs": true }),
        &json!({ "a": 1, "b": { "c": 6, "d": 3 }, "ours": null }),
        // `e` has been changed by others, `f` has not.
        &json!({ "a": 9, "b": { "c": 6, "d": 8 }, "e": 7, "ours": null, "theirs": true }),
    );
    merges(
        &json!({ "gone": { "x": 1 }, "changed": { "y": 1 } }),
        &json!({}),
        &json!({ "gone": { "x": 1 }, "changed": { "y": 2 } }),
        &json!({ "changed": { "y": 2 } }),
    );
}

#[test]
fn lists_are_merged_by_item_and_rows_by_id() {
    merges(
        &json!({ "list": ["a", "b", "c"] }),
        &json!({ "list": ["a", "theirs", "b", "c"] }),
        &json!({ "list": ["a", "c", "ours"] }),
        &json!({ "list": ["a", "theirs", "c", "ours"] }),
    );
    merges(
        &json!({ "rows": [{ "id": 1, "a": 1, "b": 1 }, { "id": 2, "a": 2 }, { "id": 3, "a": 3 }, { "id": 4 }] }),
        &json!({ "rows": [{ "id": 1, "a": 1, "b": 9 }, { "id": 2, "a": 2 }, { "id": 3, "a": 33 }, { "id": 5 }] }),
        &json!({ "rows": [{ "id": 2, "a": 2 }, { "id": 1, "a": 8, "b": 1 }, { "id": 6 }, { "id": 4 }] }),
        // The first two have changed places. Row 3 has been changed by others and stays, row 4 has been taken out by them and not been
        // changed.
        &json!({ "rows": [{ "id": 2, "a": 2 }, { "id": 1, "a": 8, "b": 9 }, { "id": 6 }, { "id": 3, "a": 33 }, { "id": 5 }] }),
    );
}

#[test]
fn a_whole_page_is_saved_by_its_root_types() {
    let mut page = page(json!({ "a": 1 }), false);
    let save_all = |content: Value| Save {
        had_current: true,
        ..save(content, Format::Json)
    };
    let mut put = |content: Value| {
        let merged = page.view().merge_shown(ClientId(9), save_all(content)).unwrap();
        page.apply(&merged.update);
        assert!(!merged.differs);
        page.view().json(None).unwrap().unwrap()
    };
    let whole = json!({ "data": { "a": 1, "b": [1] }, "list": [{ "x": 1 }], "text": "some text" });
    assert_eq!(put(whole.clone()), whole);
    let fewer = json!({ "data": { "a": 2 }, "text": "some more text" });
    assert_eq!(
        put(fewer),
        json!({ "data": { "a": 2 }, "list": null, "text": "some more text" })
    );
    let mut page = Page::new();
    page.save(&save(json!("<p>rich</p>"), Format::Html));
    let rich = save_all(json!({ "default": "<paragraph>other</paragraph>" }));
    assert_eq!(
        page.view().merge_shown(ClientId(9), rich),
        Err(MergeError::Refused(MergeRefusal::Conflict {
            held: "xml".to_owned()
        }))
    );
    let same = save_all(json!({ "default": "<paragraph>rich</paragraph>", "data": { "a": 1 } }));
    let merged = page.view().merge_shown(ClientId(9), same).unwrap();
    page.apply(&merged.update);
    assert_eq!(page.view().json(Some("data")).unwrap(), Some(json!({ "a": 1 })));
}

mod random {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{json_save, page};
    use pageroom_crdt::ClientId;

    /// Rows with different ids, in some order, and items without.
    fn list() -> impl Strategy<Value = Vec<Value>> {
        let row = (0..6_u8, 0..3_u8, any::<bool>()).prop_map(|(id, a, has_b)| match has_b {
            true => json!({ "id": id, "a": a, "b": { "c": a } }),
            false => json!({ "id": id, "a": a }),
        });
        let plain = (0..4_u8).prop_map(Value::from);
        prop::collection::vec(prop_oneof![3 => row, 1 => plain], 0..8).prop_map(|list| {
            let mut seen = Vec::new();
            list.into_iter()
                .filter(|item| {
                    let is_new = item.get("id").is_none_or(|id| !seen.contains(id));
                    seen.extend(item.get("id").cloned());
                    is_new
                })
                .collect()
        })
    }

    fn ids(list: &Value) -> Vec<&Value> {
        list.as_array().map_or(Vec::new(), |list| {
            list.iter().filter_map(|item| item.get("id")).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

        /// No row is there twice, what one side has put in is there, and what both left alone is, too.
        #[test]
        fn rows_are_neither_lost_nor_doubled(base in list(), theirs in list(), ours in list(), shared in any::<bool>()) {
            let of = |list: &[Value]| json!({ "rows": list });
            let mut page = page(of(&base), shared);
            for (client, list) in [(6, &theirs), (7, &ours)] {
                let merged = page.view().merge_shown(ClientId(client), json_save(of(list), of(&base))).unwrap();
                if !merged.update.is_empty() {
                    page.apply(&merged.update);
                }
            }
            let now = page.view().json(Some("data")).unwrap().unwrap();
            let (base, theirs, ours) = (of(&base), of(&theirs), of(&ours));
            let found = ids(&now["rows"]);
            for (at, id) in found.iter().enumerate() {
                prop_assert!(!found[..at].contains(id), "{} is there twice: {}", id, now);
            }
            let [base, theirs, ours] = [&base, &theirs, &ours].map(|list| ids(&list["rows"]));
            for id in theirs.iter().chain(&ours) {
                let is_new = !base.contains(id);
                let is_left_alone = theirs.contains(id) && ours.contains(id);
                prop_assert!(!(is_new || is_left_alone) || found.contains(id), "{} is lost: {}", id, now);
            }
        }
    }
}

/// Separate values the engine would join with a copy of all before for each, which takes memory with the square of their number.
#[test]
fn a_long_list_of_values_is_written_and_replaced_in_one_piece() {
    const LENGTH: usize = 5_000;
    let numbers = |from: usize| json!((from..from + LENGTH).collect::<Vec<_>>());
    let mut page = Page::new();
    let mut before = json!([]);
    for from in [0, 7, 1_000_000] {
        let after = numbers(from);
        let merged = page
            .view()
            .merge_shown(ClientId(6), json_save(after.clone(), before))
            .unwrap();
        assert!(
            merged.update.len() < 5 * LENGTH + 200,
            "{} bytes",
            merged.update.len()
        );
        page.apply(&merged.update);
        assert_eq!(page.view().json(Some("data")).unwrap().unwrap(), after);
        before = after;
    }
    let mut page = Page::new();
    let edit = json!({ "op": "add", "path": "/data", "value": numbers(0), "shared": true });
    let edit: SmallEdit = serde_json::from_value(edit).unwrap();
    let merged = page.view().edit_small(ClientId(5), &[edit]).unwrap();
    assert!(
        merged.update.len() < 5 * LENGTH + 200,
        "{} bytes",
        merged.update.len()
    );
    page.apply(&merged.update);
    assert_eq!(page.view().json(Some("data")).unwrap().unwrap(), numbers(0));
}

fn edits(ops: impl Iterator<Item = Value>) -> Vec<SmallEdit> {
    ops.map(|op| serde_json::from_value(op).unwrap()).collect()
}

#[test]
fn values_that_go_to_the_end_of_a_list_one_by_one_are_put_there_at_once() {
    for (start, shared) in [
        (json!([]), true),
        (json!(["first"]), true),
        (json!(["first"]), false),
    ] {
        let mut page = page(json!({ "list": start.clone() }), shared);
        let many =
            edits((0..2_000).map(|value| json!({ "op": "add", "path": "/data/list/-", "value": value })));
        // A plain list is written once more with each.
        let many = if shared { &many[..] } else { &many[..20] };
        let merged = page.view().edit_small(ClientId(6), many).unwrap();
        assert!(merged.update.len() < 10_000, "{} bytes", merged.update.len());
        page.apply(&merged.update);
        let mut list = start.as_array().unwrap().clone();
        list.extend((0..many.len()).map(Value::from));
        let now = page.view().json(Some("data")).unwrap().unwrap();
        assert_eq!(now, json!({ "list": list }), "shared: {shared}");
    }
}

#[test]
fn copies_of_copies_are_bounded() {
    for shared in [false, true] {
        let start = json!({ "list": [1] });
        let copies = |path: &str, count: usize| {
            edits((0..count).map(|_| json!({ "op": "copy", "from": "/data/list", "path": path })))
        };
        let mut page = page(start.clone(), shared);
        let few = page.view().edit_small(ClientId(6), &copies("/data/list/-", 10));
        assert!(few.is_ok(), "shared: {shared}, {few:?}");
        let many = page.view().edit_small(ClientId(6), &copies("/data/list/-", 40));
        assert!(
            matches!(many, Err(MergeError::Refused(MergeRefusal::TooMuch))),
            "shared: {shared}, {many:?}"
        );
    }
    let mut page = page(
        json!({ "long": "x".repeat(90_000), "list": vec![1; 2_000] }),
        false,
    );
    for op in [
        json!({ "op": "copy", "from": "/data/long", "path": "/data/other" }),
        json!({ "op": "move", "from": "/data/long", "path": "/data/other" }),
        json!({ "op": "add", "path": "/data/list/0", "value": 1 }),
    ] {
        let times = |count| {
            let back = json!({ "op": "move", "from": "/data/other", "path": "/data/long" });
            let ops = [op.clone(), back];
            let ops = ops.into_iter().take(if op["op"] == "move" { 2 } else { 1 });
            edits(std::iter::repeat_with(move || ops.clone()).take(count).flatten())
        };
        assert!(page.view().edit_small(ClientId(6), &times(50)).is_ok(), "{op}");
        let many = page.view().edit_small(ClientId(6), &times(500));
        let is_refused = matches!(many, Err(MergeError::Refused(MergeRefusal::TooMuch)));
        assert!(is_refused, "{op}");
    }
}
