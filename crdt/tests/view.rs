//! What a view shows is what Yjs's `toJSON` gives.
#![expect(clippy::unwrap_used, reason = "a test stops at the first error")]

use pageroom_crdt::{FieldType, View, ViewError};
use serde_json::{Value, json};

fn hex(digits: &str) -> Vec<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

fn view<'a>(updates: impl IntoIterator<Item = &'a str>) -> View {
    let mut view = View::new(true);
    for update in updates {
        view.apply(&hex(update)).unwrap();
    }
    view
}

#[track_caller]
fn shows(update: &str, json: &Value) {
    assert_eq!(view([update]).json(None).unwrap().as_ref(), Some(json));
}

#[test]
fn a_list_that_holds_xml_stays_a_list() {
    let update = "01040100080101\
                  6c0177057469746c6587010001880101017d2a870102030170\
                  00";
    shows(update, &json!({ "l": ["title", {}, 42, "<p></p>"] }));
    assert_eq!(view([update]).fields(), [("l".to_owned(), FieldType::Array)]);
}

#[test]
fn a_list_of_fragments_is_a_list() {
    // One editor a slide: two fragments, an element in the second one.
    let update = "0103010007010673\
                  6c6964657304870100040700010103017000";
    shows(update, &json!({ "slides": ["", "<p></p>"] }));
}

#[test]
fn bytes_are_an_object_by_index() {
    shows(
        "010101002801016d016201740201ff00",
        &json!({ "m": { "b": { "0": 1, "1": 255 } } }),
    );
}

#[test]
fn what_is_undefined_is_null_in_a_list_and_no_entry_of_an_object() {
    shows(
        "010301002801016d0161017f2801016d016201760201757f016e7d012801016d01630175027f7b7ff800000000000000",
        &json!({ "m": { "b": { "n": 1 }, "c": [null, null] } }),
    );
}

#[test]
fn an_attribute_that_is_an_object_is_shown_as_one() {
    shows(
        "010201000701017803017028000100016101760000",
        &json!({ "x": "<p a=\"[object Object]\"></p>" }),
    );
}

#[test]
fn the_kind_of_a_field_comes_from_neighbours_that_are_deleted() {
    // Client 2 wrote first and deleted it; what client 1 wrote names only its neighbour.
    let update = "02010200010101740101010084020001620102010001";
    shows(update, &json!({ "t": "b" }));
    // And in a second update, which has nothing but the neighbour to go by.
    let later = view([update, "01010101840100016300"]);
    assert_eq!(later.text(Some("t")).unwrap().as_deref(), Some("bc"));
}

#[test]
fn what_depends_on_something_else_is_not_shown_in_part() {
    let mut view = View::new(true);
    view.apply(&[1, 1, 1, 1, 0x84, 1, 0, 1, b'b', 0]).unwrap();
    assert!(view.fields().is_empty());
    // And the deletion of "c", which comes only later.
    view.apply(&[0, 1, 1, 1, 2, 1]).unwrap();
    view.apply(&[1, 1, 1, 0, 4, 1, 1, b't', 1, b'a', 0]).unwrap();
    assert_eq!(view.text(Some("t")).unwrap().as_deref(), Some("ab"));
    view.apply(&[1, 1, 1, 2, 0x84, 1, 1, 2, b'c', b'd', 0]).unwrap();
    assert_eq!(view.text(Some("t")).unwrap().as_deref(), Some("abd"));
}

#[test]
fn what_is_no_update_is_refused() {
    for bytes in ["", "ff", "0000ff", "01010100"] {
        assert!(
            matches!(View::new(true).apply(&hex(bytes)), Err(ViewError::Malformed(_))),
            "{bytes}"
        );
    }
}

#[test]
fn sessions_of_yjs_are_shown_as_yjs_shows_them() {
    let sessions: Value = serde_json::from_str(include_str!("yjs/sessions.json")).unwrap();
    for (index, session) in sessions.as_array().unwrap().iter().enumerate() {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let updates: Vec<_> = session["updates"].as_array().unwrap().iter().map(text).collect();
        let step_by_step = view(updates.iter().map(String::as_str));
        let whole = view([text(&session["state"]).as_str()]);
        for view in [step_by_step, whole] {
            assert_eq!(view.misplaced(), Ok(0), "session {index}");
            for field in ["text", "map", "array", "xml"] {
                let found = view.json(Some(field)).unwrap().unwrap_or(Value::Null);
                let is_empty = session[field].as_str() == Some("")
                    || session[field].as_array().is_some_and(Vec::is_empty)
                    || session[field].as_object().is_some_and(serde_json::Map::is_empty);
                // A field with nothing in it is not known by its kind.
                assert!(
                    found == session[field] || (is_empty && !found.is_string()),
                    "session {index}, {field}: {found} is not {}",
                    session[field]
                );
            }
        }
    }
}

/// "b" of client 100, and "a" of client 200 before it.
const AB: [&str; 2] = ["0101640004010174016200", "0101c80100446400016100"];

#[test]
fn what_cannot_stand_between_its_neighbours_is_counted() {
    for (y, misplaced) in [
        // Between "a" and "b"; behind "b"; before "a".
        ("01013200c4c801006400015900", 0),
        ("01013200846400015900", 0),
        ("0101320044c80100015900", 0),
        // Behind "b" and before "a".
        ("01013200c46400c80100015900", 1),
    ] {
        assert_eq!(view(AB.into_iter().chain([y])).misplaced(), Ok(misplaced), "{y}");
    }
}
