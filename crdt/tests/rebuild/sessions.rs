//! What many clients wrote, random and seeded, and what real Yjs clients wrote.

use bytes::Bytes;
use pageroom_crdt::testing::{Random, Replica};
use pageroom_crdt::{Admission, ClientId, Document, Form, Limits};
use proptest::prelude::*;
use serde_json::Value;

use super::writer::{load, parse};

/// Whose id takes no more bytes than those of the replicas.
const REBUILDER: ClientId = ClientId(99);

/// A document of several clients that hear of each other now and then.
fn document(seed: u64, clients: u64, edits: usize, limits: Limits) -> Document {
    let mut random = Random::new(seed);
    let mut replicas: Vec<_> = (0..clients)
        .map(|client| Replica::new(ClientId(100 + client * 7)))
        .collect();
    let mut updates: Vec<Bytes> = Vec::new();
    let mut heard = vec![0; replicas.len()];
    for _ in 0..edits {
        let author = random.below(clients as u32) as usize;
        if random.below(3) == 0 {
            for update in &updates[heard[author]..] {
                replicas[author].apply(update);
            }
            heard[author] = updates.len();
        }
        updates.push(replicas[author].edit(&mut random));
    }
    Document::load(limits, updates).unwrap()
}

/// Content that can be compared: half of a character of two units stays half of one, and a root type that never had content, or has lost
/// it, is not there.
fn comparable(document: &mut Document) -> (String, Vec<Option<String>>) {
    let view = document.content().unwrap();
    let halves = |text: String| text.replace('\u{1f600}', "\u{fffd}\u{fffd}");
    let mut value = view.json(None).unwrap().unwrap();
    value.as_object_mut().unwrap().retain(|_, root| match root {
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Null => false,
        Value::Bool(_) | Value::Number(_) => true,
    });
    let rich = [
        (Form::Delta, "text"),
        (Form::Html, "xml"),
        (Form::Prosemirror, "xml"),
    ];
    let shown = |(form, field): (Form, &str)| view.shown(form, Some(field)).ok().flatten().map(halves);
    (halves(value.to_string()), rich.into_iter().map(shown).collect())
}

#[track_caller]
fn assert_same(document: &mut Document, rebuilt: &mut Document) {
    let (json, rich) = comparable(document);
    let (json_again, rich_again) = comparable(rebuilt);
    assert_eq!(json_again, json);
    for (found, expected) in rich_again.into_iter().zip(rich) {
        // A root type that has lost all is not there.
        let is_empty = expected.as_deref().is_none_or(is_without_content);
        assert!(
            found == expected || (is_empty && found.as_deref().is_none_or(is_without_content)),
            "{found:?} is not {expected:?}"
        );
    }
}

fn is_without_content(shown: &str) -> bool {
    matches!(shown, "" | r#"{"ops":[]}"# | r#"{"content":[],"type":"doc"}"#)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_is_read(seed: u64, clients in 1u64..5, edits in 1usize..80, keeps_deleted: bool) {
        let limits = Limits { keeps_deleted, ..Limits::default() };
        let mut before = document(seed, clients, edits, limits);
        let bytes = before.rebuilt(REBUILDER).unwrap();
        let mut after = load(bytes.clone());
        assert_same(&mut before, &mut after);
        // Nothing else is in it: what is there is of one client, and all of it is live.
        let update = parse(bytes.clone());
        prop_assert!(!update.has_deletes());
        prop_assert!(update.ranges().all(|range| (range.client, range.start) == (REBUILDER, 0)));
        let (light, heavy) = (after.weight().unwrap(), before.weight().unwrap());
        prop_assert_eq!(light.dead_bytes, 0);
        prop_assert!(light.clients <= 1);
        // Each struct loses its right origin, or is what is behind something put into it: that costs a head and a count. Clocks may take
        // a byte more.
        prop_assert!(light.encoded_bytes <= heavy.encoded_bytes + 3 * light.structs);
        // Once more, from the same or from what came of it, it is the same.
        prop_assert_eq!(&before.rebuilt(REBUILDER).unwrap(), &bytes);
        prop_assert_eq!(&after.rebuilt(REBUILDER).unwrap(), &bytes);
        prop_assert_eq!(&after.encode().unwrap(), &bytes);
    }

    #[test]
    fn what_clients_write_on_top_is_merged_as_ever(seed: u64, edits in 1usize..40) {
        let mut before = document(seed, 3, edits, Limits::default());
        let bytes = before.rebuilt(REBUILDER).unwrap();
        let mut page = load(bytes.clone());
        let mut random = Random::new(seed ^ 1);
        let mut replicas = [Replica::new(ClientId(1000)), Replica::new(ClientId(2000))];
        let mut written = Vec::new();
        for replica in &mut replicas {
            replica.apply(&bytes);
            for _ in 0..12 {
                written.push(replica.edit(&mut random));
            }
        }
        for update in &written {
            let admitted = page.admit(parse(update.clone())).unwrap();
            prop_assert!(matches!(admitted, Admission::New(_) | Admission::Known));
        }
        let [first, second] = &mut replicas;
        for update in &written {
            first.apply(update);
            second.apply(update);
        }
        let (mut first, mut second) = (load(first.encode()), load(second.encode()));
        assert_same(&mut first, &mut second);
        assert_same(&mut first, &mut page);
        // And that can be rebuilt in turn.
        let mut again = load(page.rebuilt(ClientId(98)).unwrap());
        assert_same(&mut page, &mut again);
    }
}

fn hex(digits: &str) -> Bytes {
    let digit = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

#[test]
fn sessions_of_yjs_say_the_same_when_they_are_rebuilt() {
    let sessions: Value = serde_json::from_str(include_str!("../yjs/sessions.json")).unwrap();
    let sessions = sessions.as_array().unwrap();
    assert!(sessions.len() > 5);
    for session in sessions {
        let mut before = load(hex(session["state"].as_str().unwrap()));
        let bytes = before.rebuilt(REBUILDER).unwrap();
        let mut after = load(bytes.clone());
        assert_same(&mut before, &mut after);
        let content = after.content().unwrap();
        for field in ["text", "map", "array", "xml"] {
            let found = content.json(Some(field)).unwrap().unwrap_or(Value::Null);
            let is_empty = matches!(session[field].as_str(), Some(""))
                || session[field].as_array().is_some_and(Vec::is_empty)
                || session[field].as_object().is_some_and(serde_json::Map::is_empty);
            let is_same = found == session[field] || (is_empty && !found.is_string());
            assert!(is_same, "{field}: {found} is not {}", session[field]);
        }
    }
}
