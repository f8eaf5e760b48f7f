//! Restoring earlier states and undoing what one author did, as edits on top.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

use bytes::Bytes;
use pageroom_crdt::{
    ClientId, Deeds, Document, Fate, Limits, Piece, Row, Thing, compare, restore,
    testing::{Random, Replica},
    undo,
};
use proptest::prelude::*;
use serde_json::Value;

const RESTORER: ClientId = ClientId(777_777);

/// A log: each row, and which replica wrote it.
fn log(seed: u64, clients: u64, edits: usize) -> Vec<(Bytes, u64)> {
    let mut random = Random::new(seed);
    let mut replicas: Vec<_> = (0..clients).map(|n| Replica::new(ClientId(10 + 7 * n))).collect();
    let mut rows: Vec<(Bytes, u64)> = Vec::new();
    let mut heard = vec![0; replicas.len()];
    while rows.len() < edits {
        let author = random.below(clients as u32) as usize;
        if random.below(3) > 0 {
            for (update, _) in &rows[heard[author]..] {
                replicas[author].apply(update);
            }
            heard[author] = rows.len();
        }
        let update = replicas[author].edit(&mut random);
        if update.as_ref() != [0, 0] {
            rows.push((update, author as u64));
        }
    }
    rows
}

fn load(rows: &[(Bytes, u64)]) -> Document {
    Document::load(Limits::default(), rows.iter().map(|(update, _)| update.clone())).unwrap()
}

fn content(document: &mut Document) -> Value {
    document.content().unwrap().json(None).unwrap().unwrap()
}

/// Content that can be compared: half of a character of two units stays half of one, and a root type that never had content, or has lost
/// it, is not there.
fn comparable(value: &Value) -> String {
    let mut value = value.clone();
    if let Some(roots) = value.as_object_mut() {
        roots.retain(|_, root| match root {
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) => !map.is_empty(),
            Value::Null => false,
            Value::Bool(_) | Value::Number(_) => true,
        });
    }
    value.to_string().replace('\u{1f600}', "\u{fffd}\u{fffd}")
}

fn with(document: &mut Document, updates: &[Bytes]) -> Document {
    let whole = document.encode().unwrap();
    Document::load(
        Limits::default(),
        [whole].into_iter().chain(updates.iter().cloned()),
    )
    .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_restored_page_says_what_it_said(seed: u64, clients in 1u64..5, edits in 1usize..60, at in 0.0..1.0f64) {
        let rows = log(seed, clients, edits);
        let then_rows = (rows.len() as f64 * at) as usize;
        let mut now = load(&rows);
        // A snapshot that a history begins from may have dropped what was deleted before it.
        let mut then = load(&rows[..then_rows]);
        let update = restore(RESTORER, &mut now, &mut then).unwrap();
        let mut restored = with(&mut now, std::slice::from_ref(&update));
        prop_assert_eq!(comparable(&content(&mut restored)), comparable(&content(&mut then)));
        prop_assert_eq!(restored.pending_bytes(), 0);
        // Clients of the document library see the same.
        let mut replica = Replica::new(ClientId(5));
        replica.apply(&now.encode().unwrap());
        replica.apply(&update);
        prop_assert!(!replica.is_waiting());
        prop_assert_eq!(comparable(&replica.json()), comparable(&content(&mut then)));
        // Once more changes nothing.
        let again = restore(ClientId(777_778), &mut restored, &mut then).unwrap();
        let mut twice = with(&mut restored, &[again]);
        prop_assert_eq!(comparable(&content(&mut twice)), comparable(&content(&mut then)));
        // And restoring what was before the restoring brings that back.
        let back = restore(ClientId(777_779), &mut restored, &mut now).unwrap();
        let mut back = with(&mut restored, &[back]);
        prop_assert_eq!(comparable(&content(&mut back)), comparable(&content(&mut now)));
    }

    #[test]
    fn what_others_write_meanwhile_survives_a_restoring(seed: u64, edits in 1usize..40, at in 0.0..1.0f64) {
        let rows = log(seed, 3, edits);
        let then_rows = (rows.len() as f64 * at) as usize;
        let mut now = load(&rows);
        let mut then = load(&rows[..then_rows]);
        let mut other = Replica::new(ClientId(6));
        other.apply(&now.encode().unwrap());
        let meanwhile = other.insert(0, "<meanwhile>");
        let update = restore(RESTORER, &mut now, &mut then).unwrap();
        let mut first = with(&mut now, &[update.clone(), meanwhile.clone()]);
        let mut second = with(&mut now, &[meanwhile, update]);
        let merged = content(&mut first);
        prop_assert_eq!(&merged, &content(&mut second), "in any order");
        let text = merged["text"].as_str().unwrap_or_default().to_owned();
        prop_assert_eq!(text.matches("<meanwhile>").count(), 1);
        let expected = content(&mut then)["text"].as_str().unwrap_or_default().to_owned();
        let expected = expected.replace('\u{1f600}', "\u{fffd}\u{fffd}");
        prop_assert_eq!(text.replace("<meanwhile>", "").replace('\u{1f600}', "\u{fffd}\u{fffd}"), expected);
    }

    #[test]
    fn undoing_all_that_was_done_since_is_restoring(seed: u64, clients in 1u64..4, edits in 1usize..50, at in 0.0..1.0f64) {
        let rows = log(seed, clients, edits);
        let from = (rows.len() as f64 * at) as usize;
        let mut now = load(&rows);
        let mut before = load(&rows[..from]);
        let meant = rows[from..].iter().map(|(update, _)| Row { update: update.clone(), is_meant: true });
        let (deeds, mut kept) = Deeds::of(Limits::default(), [before.encode().unwrap()], meant).unwrap();
        let update = undo(RESTORER, &mut now, &mut kept, &deeds).unwrap();
        let mut undone = with(&mut now, &[update]);
        prop_assert_eq!(comparable(&content(&mut undone)), comparable(&content(&mut before)));
    }

    #[test]
    fn undoing_what_nobody_did_is_nothing(seed: u64, edits in 1usize..30) {
        let rows = log(seed, 2, edits);
        let mut now = load(&rows);
        let nobody = rows.iter().map(|(update, _)| Row { update: update.clone(), is_meant: false });
        let (deeds, mut kept) = Deeds::of(Limits::default(), [], nobody).unwrap();
        prop_assert!(deeds.is_empty());
        let update = undo(RESTORER, &mut now, &mut kept, &deeds).unwrap();
        prop_assert_eq!(&update[..], &[0, 0]);
    }

    #[test]
    fn whatever_a_document_is_made_of_it_is_restored_by_an_edit_that_it_takes(records in proptest::collection::vec(any::<u8>(), 0..600)) {
        pageroom_crdt::testing::fuzz::past(&records);
    }
}

/// Two structs under one id, of which the first waits for something and is ready before the second one comes.
#[test]
fn what_was_ready_first_keeps_its_id() {
    let records = [
        116, 71, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 40, 12, 81, 0, 125, 52, 0, 0, 0, 8, 40, 97, 30, 28, 218,
        251, 152, 113, 141, 249, 52, 151, 34, 115, 227, 8, 12, 53, 25, 205, 27, 56, 189, 70, 110, 196, 11,
        226, 207, 35, 24, 35, 139, 199, 46, 199, 4, 249, 92, 154, 241, 59, 172, 178, 236, 218, 221, 99, 114,
        224, 186, 188, 89, 109, 249, 203, 236, 22, 51, 205, 29, 86, 62, 220, 177, 139, 48, 154, 201, 96, 190,
        211, 146, 175, 31, 75, 10, 67, 214, 155, 153, 86, 89, 0, 166, 138, 141, 77, 76, 101, 61, 114, 150,
        170, 235, 53, 165, 58, 178, 232, 181, 78, 84, 50, 216, 11, 199, 57, 109, 148, 142, 234, 105, 69, 162,
        199, 200, 180, 35, 50, 82, 153, 118, 61, 9, 171, 29, 149, 137, 127, 183, 246, 214, 29, 43, 164, 206,
        27, 154, 106, 48, 189, 116, 191, 132, 58, 180, 81, 161, 113, 226, 143, 79, 207, 241, 110, 9, 101,
        235, 72, 132, 142, 78, 106, 92, 112, 76, 137, 230, 227,
    ];
    pageroom_crdt::testing::fuzz::past(&records);
}

#[test]
fn undoing_what_one_did_leaves_what_others_did() {
    let (mut ada, mut bob) = (Replica::new(ClientId(1)), Replica::new(ClientId(2)));
    let mut rows = vec![(ada.insert(0, "one two three"), 0)];
    bob.apply(&rows[0].0);
    rows.push((bob.replace(4, 3, "zwei"), 1));
    ada.apply(&rows[1].0);
    rows.push((ada.insert(0, "zero "), 0));
    bob.apply(&rows[2].0);
    rows.push((bob.insert(19, " four"), 1));
    ada.apply(&rows[3].0);
    rows.push((ada.replace(0, 8, ""), 0));
    let mut now = load(&rows);
    assert_eq!(content(&mut now)["text"], " zwei three four");
    let without = |who, from: usize, to: usize| {
        let mut now = load(&rows);
        let meant = rows[from..to].iter().map(|(update, author)| Row {
            update: update.clone(),
            is_meant: *author == who,
        });
        let before = rows[..from].iter().map(|(update, _)| update.clone());
        let (deeds, mut kept) = Deeds::of(Limits::default(), before, meant).unwrap();
        let update = undo(RESTORER, &mut now, &mut kept, &deeds).unwrap();
        content(&mut with(&mut now, &[update]))["text"].clone()
    };
    assert_eq!(without(1, 1, 5), " two three");
    assert_eq!(without(1, 3, 5), " zwei three");
    assert_eq!(without(0, 4, 5), "zero one zwei three four");
    assert_eq!(without(0, 2, 5), "one zwei three four");
}

/// What a comparison says of one root, as the earlier and as the later state have it.
fn sides(pieces: &[Piece]) -> (String, String) {
    let side = |missing: Fate| {
        let there = pieces.iter().filter(|piece| piece.fate != missing);
        let text = there.filter_map(|piece| match &piece.thing {
            Thing::Text(text) => Some(text.as_str()),
            Thing::Node(_) | Thing::Value(_) | Thing::Embed => None,
        });
        text.collect::<String>().replace('\u{1f600}', "\u{fffd}\u{fffd}")
    };
    (side(Fate::Inserted), side(Fate::Deleted))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_two_states_have_apart_makes_the_one_and_the_other(seed: u64, clients in 1u64..4, edits in 1usize..50, at in 0.0..1.0f64) {
        let rows = log(seed, clients, edits);
        let from = (rows.len() as f64 * at) as usize;
        let parts = |rows: &[(Bytes, u64)]| rows.iter().map(|(update, _)| update.clone()).collect::<Vec<_>>();
        let fields = compare(Limits::default(), parts(&rows[..from]), parts(&rows[from..]), None).unwrap();
        let (mut before, mut after) = (load(&rows[..from]), load(&rows));
        for (name, pieces) in fields.iter().filter(|(name, _)| ["text", "notes", "title"].contains(&name.as_str())) {
            let (first, second) = sides(pieces);
            let text = |document: &mut Document| {
                let text = content(document)[name].as_str().unwrap_or_default().to_owned();
                text.replace('\u{1f600}', "\u{fffd}\u{fffd}")
            };
            prop_assert_eq!(first, text(&mut before), "{} before", name);
            prop_assert_eq!(second, text(&mut after), "{} after", name);
        }
        // All that was not there before was done by one of the rows.
        let pieces = fields.iter().flat_map(|(_, pieces)| pieces);
        for piece in pieces.filter(|piece| piece.fate != Fate::Kept) {
            prop_assert!(piece.row.is_some_and(|row| row < rows.len() - from), "{:?}", piece);
        }
    }
}

#[test]
fn a_comparison_names_the_row_of_everything_and_what_is_in_a_tree() {
    let (mut ada, mut bob) = (Replica::new(ClientId(1)), Replica::new(ClientId(2)));
    let first = ada.insert(0, "one two three");
    bob.apply(&first);
    let second = bob.replace(4, 3, "zwei");
    ada.apply(&second);
    let third = ada.insert(13, "!");
    let fields = compare(
        Limits::default(),
        [first.clone()],
        [second.clone(), third.clone()],
        Some("text"),
    )
    .unwrap();
    let said: Vec<_> = fields[0]
        .1
        .iter()
        .map(|piece| (piece.fate, piece.thing.clone(), piece.row))
        .collect();
    let text = |text: &str| Thing::Text(text.to_owned());
    let mut expected = vec![
        (Fate::Kept, text("one "), None),
        (Fate::Inserted, text("zwei"), Some(0)),
        (Fate::Deleted, text("two"), Some(0)),
        (Fate::Kept, text(" thre"), None),
        (Fate::Inserted, text("!"), Some(1)),
        (Fate::Kept, text("e"), None),
    ];
    if said[1].0 == Fate::Deleted {
        expected.swap(1, 2);
    }
    assert_eq!(said, expected);
    // From an empty page on it is known of everything who wrote it.
    let fields = compare(Limits::default(), [], [first, second, third], Some("text")).unwrap();
    let said: Vec<_> = fields[0]
        .1
        .iter()
        .map(|piece| (piece.thing.clone(), piece.row))
        .collect();
    let parts = [("one ", 0), ("zwei", 1), (" thre", 0), ("!", 2), ("e", 0)];
    assert_eq!(said, parts.map(|(part, row)| (text(part), Some(row))));
}
