//! What real Yjs clients did, and what Yjs made of it (`yjs/generate.mjs`): here it must become the same.
#![expect(clippy::unwrap_used, reason = "a test stops at the first error")]

use bytes::Bytes;
use pageroom_crdt::{Admission, Document, Limits, StateVector, Update, merge};
use serde_json::Value;

fn sessions() -> Vec<Value> {
    let sessions: Value = serde_json::from_str(include_str!("yjs/sessions.json")).unwrap();
    sessions.as_array().unwrap().clone()
}

fn hex(value: &Value) -> Bytes {
    let digits = value.as_str().unwrap().as_bytes();
    let digit = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
    digits
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

fn parse(bytes: Bytes) -> Update {
    Update::parse(bytes, &Limits::default()).unwrap()
}

fn assert_content(document: &mut Document, session: &Value, index: usize) {
    let content = document.content().unwrap();
    for field in ["text", "map", "array", "xml"] {
        // A root type in which nothing is left is not known by its kind.
        let found = content.json(Some(field)).unwrap().unwrap_or(Value::Null);
        let is_empty = session[field].as_str() == Some("")
            || session[field].as_array().is_some_and(Vec::is_empty)
            || session[field].as_object().is_some_and(serde_json::Map::is_empty);
        // A text with nothing but embedded objects is empty too, and looks like a text or a list.
        assert!(
            found == session[field] || (is_empty && !found.is_string()),
            "session {index}, {field}: {found} is not {}",
            session[field]
        );
    }
}

#[test]
fn in_turn_and_in_batches() {
    for (index, session) in sessions().iter().enumerate() {
        for batch in [1, 7] {
            let mut document = Document::new(Limits::default());
            let mut receiver = Document::new(Limits::default());
            for updates in session["updates"].as_array().unwrap().chunks(batch) {
                let mut new = Vec::new();
                for update in updates {
                    match document.admit(parse(hex(update))).unwrap() {
                        Admission::New(update) => new.push(update),
                        Admission::Known => {}
                        Admission::Early { .. } | Admission::Partly { .. } => {
                            panic!("session {index} is in order")
                        }
                    }
                }
                receiver.admit(parse(merge(&new).bytes().clone())).unwrap();
            }
            assert_content(&mut document, session, index);
            assert_content(&mut receiver, session, index);
            document.snapshot().unwrap();
        }
    }
}

#[test]
fn whole_states_and_diffs_of_yjs_are_known_afterwards() {
    for (index, session) in sessions().iter().enumerate() {
        let updates = session["updates"].as_array().unwrap().iter().map(hex);
        let mut document = Document::load(Limits::default(), updates).unwrap();
        for state in ["state", "diff"] {
            let admitted = document.admit(parse(hex(&session[state]))).unwrap();
            assert!(
                matches!(admitted, Admission::Known),
                "session {index}: {admitted:?}"
            );
        }
        let mut from_state = Document::load(Limits::default(), [hex(&session["state"])]).unwrap();
        assert_content(&mut from_state, session, index);
        // Our diff for the first client is what Yjs's is.
        let known = StateVector::decode(&hex(&session["known"]), &Limits::default()).unwrap();
        let (ours, theirs) = (
            parse(document.diff(&known).unwrap()),
            parse(hex(&session["diff"])),
        );
        assert_eq!(ours.state_vector(), theirs.state_vector(), "session {index}");
    }
}
