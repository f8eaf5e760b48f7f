//! Components are merged key by key, thing by thing and word by word, and what is deleted stays deleted.

use crate::page::{Page, certain};
use pageroom_crdt::{Candidate, ComponentChange, MergeError, MergeRefusal};
use proptest::prelude::*;
use serde_json::{Value, json};

fn update(path: &[&str], updates: Value, candidates: Vec<Candidate>) -> ComponentChange {
    let Value::Object(updates) = updates else {
        panic!("an object")
    };
    ComponentChange::Update {
        path: owned(path),
        updates,
        candidates,
        had_current: false,
    }
}

fn owned(path: &[&str]) -> Vec<String> {
    path.iter().map(|id| (*id).to_owned()).collect()
}

fn not_found(id: &str) -> MergeError {
    MergeRefusal::NotFound { id: id.to_owned() }.into()
}

fn page_of(data: Value) -> Page {
    let mut page = Page::new();
    page.change(&update(&[], data, Vec::new())).unwrap();
    page
}

#[track_caller]
fn merges(base: Value, current: Value, saved: Value, outcome: Value) {
    let mut page = page_of(base.clone());
    page.change(&update(&[], current, vec![certain(base.clone())]))
        .unwrap();
    let merged = page
        .change(&update(&[], saved.clone(), vec![certain(base)]))
        .unwrap();
    assert_eq!(merged.content, outcome);
    assert_eq!(page.component(), outcome, "what is shown later");
    assert_eq!(merged.differs, saved != outcome);
}

#[test]
fn a_component_is_shown_as_it_was_saved() {
    let data = json!({
        "title": "A page of several words", "name": "word", "count": 3, "ratio": 0.5, "big": 9_007_199_254_740_993_u64, "none": null, "on": true,
        "meta": { "tags": ["b", "a"], "empty": {} }, "nothing": [],
        "rows": [
            { "id": "r2", "position": 0, "components": [{ "id": "c1", "data": { "content": "x" } }, { "id": 7 }] },
            { "id": "r1", "position": 1, "components": [] },
        ],
        "twins": [{ "id": 1 }, { "id": 1 }], "nameless": [{ "a": 1 }],
    });
    assert_eq!(page_of(data.clone()).component(), data);
}

#[test]
fn both_sides_of_each_kind_of_value_are_in_the_outcome() {
    merges(
        json!({ "a": 1, "b": 1, "o": { "x": 1, "y": 1, "z": 1 } }),
        json!({ "a": 2, "b": 1, "o": { "x": 2, "y": 1, "z": 1, "theirs": 1 } }),
        json!({ "a": 1, "b": 3, "o": { "x": 1, "y": 3, "ours": 1 } }),
        json!({ "a": 2, "b": 3, "o": { "x": 2, "y": 3, "theirs": 1, "ours": 1 } }),
    );
    merges(
        json!({ "text": "one two three", "word": "one" }),
        json!({ "text": "one 2 three", "word": "two" }),
        json!({ "text": "one two three four", "word": "three" }),
        json!({ "text": "one 2 three four", "word": "three" }),
    );
    // Delete wins over update, whichever comes first.
    merges(
        json!({ "o": { "gone": 1, "lost": 1 } }),
        json!({ "o": { "lost": 2 } }),
        json!({ "o": { "gone": 2 } }),
        json!({ "o": {} }),
    );
    let row = |id: &str, text: &str| json!({ "id": id, "text": text });
    merges(
        json!({ "rows": [row("a", "1"), row("b", "1"), row("c", "1")] }),
        json!({ "rows": [row("b", "1"), row("c", "2"), row("theirs", "1")] }),
        json!({ "rows": [row("a", "2"), row("ours", "1"), row("c", "1")] }),
        json!({ "rows": [row("ours", "1"), row("c", "2"), row("theirs", "1")] }),
    );
}

#[test]
fn things_that_two_move_are_there_once() {
    let rows =
        |order: &str| json!({ "rows": order.split(' ').map(|id| json!({ "id": id })).collect::<Vec<_>>() });
    for (current, saved, outcome) in [
        ("d a b c", "a b c d", "d a b c"),
        ("d a b c", "b a c d", "b d a c"),
        ("d a b c", "a d b c", "a d b c"),
        ("a c b d", "a b d c", "a c b d"),
        ("a x b c d", "b c d a", "x b c d a"),
    ] {
        merges(rows("a b c d"), rows(current), rows(saved), rows(outcome));
    }
}

#[test]
fn things_are_created_updated_moved_and_deleted_by_their_ids() {
    let mut page =
        page_of(json!({ "data": { "rows": [{ "id": "r1", "components": [{ "id": "c1", "a": 1 }] }] } }));
    let create = |path: &[&str], list: &str, thing: Value| ComponentChange::Create {
        path: owned(path),
        list: list.to_owned(),
        thing: thing.as_object().unwrap().clone(),
    };
    let new =
        json!({ "id": "c0", "position": 1, "columnIndex": 0, "data": { "content": "Hello you there" } });
    page.change(&create(&["r1"], "components", new.clone())).unwrap();
    page.change(&create(
        &["r1"],
        "components",
        json!({ "id": "c2", "position": 0, "columnIndex": 0 }),
    ))
    .unwrap();
    // Created once more: the same thing.
    page.change(&create(&["r1"], "components", new)).unwrap();
    page.change(&update(
        &["r1", "c0"],
        json!({ "data": { "content": "Hello all of you there" } }),
        Vec::new(),
    ))
    .unwrap();
    page.change(&update(&["c1"], json!({ "a": 2 }), Vec::new()))
        .unwrap();
    let ids = |page: &mut Page| -> Vec<String> {
        let shown = page.component();
        let things = shown["data"]["rows"][0]["components"].as_array().unwrap().clone();
        things
            .iter()
            .map(|thing| thing["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids(&mut page), ["c1", "c2", "c0"]);
    page.change(&ComponentChange::Move {
        path: owned(&["r1", "c0"]),
        index: 0,
    })
    .unwrap();
    assert_eq!(ids(&mut page), ["c0", "c1", "c2"]);
    page.change(&update(&["r1", "c2"], json!({ "position": 0.5 }), Vec::new()))
        .unwrap();
    assert_eq!(ids(&mut page), ["c2", "c0", "c1"]);
    page.change(&ComponentChange::Delete {
        path: owned(&["r1", "c1"]),
    })
    .unwrap();
    assert_eq!(ids(&mut page), ["c2", "c0"]);
    for gone in [
        ComponentChange::Delete {
            path: owned(&["r1", "c1"]),
        },
        ComponentChange::Move {
            path: owned(&["c1"]),
            index: 0,
        },
        update(&["r1", "c1"], json!({ "a": 3 }), Vec::new()),
    ] {
        assert_eq!(page.change(&gone).unwrap_err(), not_found("c1"));
    }
    let nowhere = create(&["r9"], "components", json!({ "id": "c" }));
    assert_eq!(page.change(&nowhere).unwrap_err(), not_found("r9"));
    let nameless = create(&["r1"], "components", json!({}));
    assert!(matches!(
        page.change(&nameless).unwrap_err(),
        MergeError::Refused(MergeRefusal::Malformed { .. })
    ));
}

#[test]
fn programs_that_put_things_in_at_the_same_place_at_the_same_time_see_the_same() {
    let mut page = page_of(json!({ "rows": [{ "id": "a" }, { "id": "z" }] }));
    let base = page.component();
    let at_once: Vec<_> = ["m", "n"]
        .map(|id| {
            let saved = json!({ "rows": [{ "id": "a" }, { "id": id }, { "id": "z" }] });
            update(&[], saved, vec![certain(base.clone())])
        })
        .iter()
        .map(|change| page.merged_apart(change))
        .collect();
    for merged in &at_once {
        page.apply(&merged.update);
    }
    let ids: Vec<_> = page.component()["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["id"].clone())
        .collect();
    assert_eq!(ids.len(), 4);
    assert_eq!((&ids[0], &ids[3]), (&json!("a"), &json!("z")));
    // And between the two something still goes, or behind both.
    page.change(&ComponentChange::Move {
        path: owned(&["a"]),
        index: 1,
    })
    .unwrap();
    let rows = page.component();
    assert!(
        rows["rows"][1]["id"] == "a" || rows["rows"][2]["id"] == "a",
        "{rows}"
    );
}

/// What somebody does with a list of things: each is kept, changed or taken out, new ones come, and it is rotated.
fn list(name: &'static str) -> impl Strategy<Value = Vec<(String, String)>> {
    let fates = prop::collection::vec(0..4_u8, 5);
    (fates, prop::collection::vec(0..6_usize, 0..3), 0..5_usize).prop_map(move |(fates, new, turn)| {
        let mut things: Vec<_> = (fates.iter().enumerate())
            .filter(|(_, fate)| **fate != 0)
            .map(|(index, fate)| {
                let text = if *fate == 1 { name } else { "base" };
                (format!("t{index}"), text.to_owned())
            })
            .collect();
        for (number, at) in new.iter().enumerate() {
            things.insert(
                (*at).min(things.len()),
                (format!("{name}{number}"), name.to_owned()),
            );
        }
        let turn = turn.min(things.len());
        things.rotate_left(turn);
        things
    })
}

proptest! {
    #[test]
    fn of_two_lists_each_thing_is_there_once_and_gone_when_one_takes_it_out(ada in list("ada"), bob in list("bob")) {
        let rows = |list: &[(String, String)]| {
            let rows: Vec<_> = list.iter().map(|(id, text)| json!({ "id": id, "text": text })).collect();
            json!({ "rows": rows })
        };
        let base: Vec<_> = (0..5).map(|index| (format!("t{index}"), "base".to_owned())).collect();
        let mut page = page_of(rows(&base));
        for list in [&ada, &bob] {
            page.change(&update(&[], rows(list), vec![certain(rows(&base))])).unwrap();
        }
        let shown = page.component();
        let mut ids: Vec<_> = shown["rows"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        let has = |list: &[(String, String)], id: &str| list.iter().any(|(other, _)| other == id);
        let mut expected: Vec<_> = ada.iter().chain(&bob).chain(&base).map(|(id, _)| id.clone()).collect();
        expected.sort();
        expected.dedup();
        expected.retain(|id| !has(&base, id) || has(&ada, id) && has(&bob, id));
        prop_assert_eq!(ids, expected);
        for row in shown["rows"].as_array().unwrap() {
            let id = row["id"].as_str().unwrap();
            let text = |list: &[(String, String)]| list.iter().find(|(other, _)| other == id).map(|(_, text)| text.clone());
            let theirs = [text(&bob), text(&ada)].into_iter().flatten().find(|text| text != "base");
            prop_assert_eq!(row["text"].as_str().unwrap(), theirs.as_deref().unwrap_or("base"));
        }
    }
}

/// Changes of one component that its authors make at the same time.
fn change() -> impl Strategy<Value = ComponentChange> {
    let id = || (0..5_usize).prop_map(|number| format!("t{number}"));
    let moved = (id(), 0..6_usize).prop_map(|(id, index)| ComponentChange::Move {
        path: vec![id],
        index,
    });
    let placed = (id(), -1..6_i32)
        .prop_map(|(id, position)| update(&[&id], json!({ "position": position }), Vec::new()));
    let written =
        (id(), "[a-z]{1,4}").prop_map(|(id, word)| update(&[&id], json!({ (word): 1 }), Vec::new()));
    let created = ("[a-c]", 0..6_i32).prop_map(|(id, position)| ComponentChange::Create {
        path: Vec::new(),
        list: "rows".to_owned(),
        thing: json!({ "id": id, "position": position })
            .as_object()
            .unwrap()
            .clone(),
    });
    let deleted = id().prop_map(|id| ComponentChange::Delete { path: vec![id] });
    prop_oneof![moved, placed, written, created, deleted]
}

/// The things of a component, which has each once.
fn things(page: &mut Page) -> Vec<Value> {
    let shown = page.component()["rows"].as_array().unwrap().clone();
    let mut ids: Vec<_> = shown.iter().map(|thing| thing["id"].to_string()).collect();
    ids.sort();
    let count = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), count, "each is there once: {shown:?}");
    shown
}

proptest! {
    #[test]
    fn what_authors_change_at_the_same_time_is_all_there_in_whatever_order_it_comes(
        changes in prop::collection::vec(change(), 1..6),
        turn in 0..6_usize,
    ) {
        let rows: Vec<_> = (0..5).map(|number| json!({ "id": format!("t{number}"), "position": number })).collect();
        let mut page = page_of(json!({ "rows": rows }));
        // Each author has seen nothing of the others.
        let made: Vec<_> = changes.iter().map(|change| page.merged_apart(change)).collect();
        let begin = page.encode();
        let mut replicas = [0, turn.min(made.len())].map(|turn| {
            let mut replica = Page::new();
            replica.apply(&begin);
            let mut updates: Vec<_> = made.iter().map(|merged| &merged.update).collect();
            updates.rotate_left(turn);
            for update in updates.into_iter().filter(|update| !update.is_empty()) {
                replica.apply(update);
            }
            replica
        });
        let [one, other] = replicas.each_mut().map(things);
        prop_assert_eq!(&one, &other, "all replicas are equal");
        let find = |id: &str| one.iter().find(|thing| thing["id"] == id);
        for change in &changes {
            match change {
                ComponentChange::Delete { path } => prop_assert!(find(&path[0]).is_none(), "what was deleted is gone"),
                ComponentChange::Create { thing, .. } => {
                    prop_assert!(find(thing["id"].as_str().unwrap()).is_some(), "what was created is there");
                }
                ComponentChange::Update { path, updates, .. } if !updates.contains_key("position") => {
                    let key = updates.keys().next().unwrap();
                    prop_assert!(find(&path[0]).is_none_or(|thing| thing.get(key).is_some()), "what was written is there");
                }
                ComponentChange::Update { .. } | ComponentChange::Move { .. } => {}
            }
        }
    }

    #[test]
    fn of_two_objects_each_property_is_as_who_changed_it_has_it(
        ada in prop::collection::vec(0..3_u8, 6),
        bob in prop::collection::vec(0..3_u8, 6),
    ) {
        // Of each property: left alone, changed or taken out.
        let object = |name: &str, fates: &[u8]| {
            let entries = fates.iter().enumerate().filter(|(_, fate)| **fate != 2);
            let inner: serde_json::Map<_, _> = entries
                .map(|(index, fate)| (format!("k{index}"), json!(if *fate == 1 { name } else { "base" })))
                .collect();
            json!({ "o": { "inner": inner } })
        };
        let base = object("", &[0; 6]);
        let mut page = page_of(base.clone());
        for (name, fates) in [("ada", &ada), ("bob", &bob)] {
            page.change(&update(&[], object(name, fates), vec![certain(base.clone())])).unwrap();
        }
        let shown = page.component();
        for (index, fates) in ada.iter().zip(&bob).enumerate() {
            let expected = match fates {
                (2, _) | (_, 2) => None,
                (_, 1) => Some("bob"),
                (1, _) => Some("ada"),
                _ => Some("base"),
            };
            prop_assert_eq!(shown["o"]["inner"][format!("k{index}")].as_str(), expected);
        }
    }
}

#[test]
fn many_things_are_put_elsewhere_at_once() {
    let rows =
        |ids: Vec<usize>| json!({ "rows": ids.iter().map(|id| json!({ "id": id })).collect::<Vec<_>>() });
    let (rising, falling) = (rows((0..3000).collect()), rows((0..3000).rev().collect()));
    let mut page = page_of(rising.clone());
    page.change(&update(&[], falling.clone(), vec![certain(rising)]))
        .unwrap();
    assert_eq!(page.component(), falling);
    assert!(
        page.encode().len() < 500_000,
        "the fractions stay short: {}",
        page.encode().len()
    );
}
