//! Recorded editing sessions end in what they ended in, through the gate, in batches, merged, and after a restart.
#![expect(clippy::unwrap_used, reason = "a test stops at the first error")]

use std::path::Path;

use bytes::Bytes;
use pageroom_crdt::testing::Replica;
use pageroom_crdt::testing::traces::{ConcurrentTrace, MergeCase, SequentialTrace, merge_cases};
use pageroom_crdt::{Admission, ClientId, Document, Limits, Update, merge};

fn read(name: &str) -> Vec<u8> {
    std::fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../tests/traces")
            .join(name),
    )
    .unwrap()
}

/// Offers the updates in order, applies in batches, and checks document, receivers of deltas, and snapshot.
fn replay(updates: &[Bytes], batch: usize, expected: &str) {
    let mut document = Document::new(Limits::default());
    let mut receiver = Document::new(Limits::default());
    for updates in updates.chunks(batch) {
        let mut delta = Vec::new();
        for update in updates {
            match document
                .admit(Update::parse(update.clone(), &Limits::default()).unwrap())
                .unwrap()
            {
                Admission::New(new) => {
                    assert_eq!(new.bytes(), update);
                    delta.push(new);
                }
                Admission::Known => assert_eq!(update.as_ref(), [0, 0]),
                Admission::Early { .. } | Admission::Partly { .. } => panic!("in order"),
            }
        }
        if !delta.is_empty() {
            let merged = Update::parse(merge(&delta).bytes().clone(), &Limits::default()).unwrap();
            assert!(matches!(receiver.admit(merged).unwrap(), Admission::New(_)));
        }
    }
    let snapshot = document.snapshot().unwrap();
    let mut restarted = Document::load(Limits::default(), [snapshot.state]).unwrap();
    for document in [&mut document, &mut receiver, &mut restarted] {
        assert_eq!(
            document.content().unwrap().text(Some("text")).unwrap().unwrap(),
            expected
        );
    }
}

#[test]
fn automerge_paper() {
    let trace = SequentialTrace::read(&read("automerge-paper.json.gz"));
    let updates = trace.updates(ClientId(1));
    replay(&updates, 100, &trace.end_content);
}

fn concurrent(name: &str) {
    let trace = ConcurrentTrace::read(&read(name));
    let authored = trace.updates(ClientId(100));
    let updates: Vec<_> = authored.into_iter().map(|authored| authored.update).collect();
    replay(&updates, 25, &trace.end_content);
}

#[test]
fn friendsforever() {
    concurrent("friendsforever.json.gz");
}

#[test]
fn clownschool() {
    concurrent("clownschool.json.gz");
}

#[test]
fn every_case_of_the_merge_data_set() {
    let cases = merge_cases(&read("small-test-dataset.bin.gz"));
    assert_eq!(cases.len(), 5320);
    for (
        index,
        MergeCase {
            updates,
            text,
            map,
            array,
        },
    ) in cases.into_iter().enumerate()
    {
        let mut document = Document::load(Limits::default(), updates.clone()).unwrap();
        let content = document.content().unwrap();
        let field = |name: &str| content.json(Some(name)).unwrap().filter(|value| !value.is_null());
        // A text without characters, only embedded objects, looks like a list.
        assert_eq!(
            field("text")
                .and_then(|text| Some(text.as_str()?.to_owned()))
                .unwrap_or_default(),
            text,
            "case {index}"
        );
        assert_eq!(field("map").unwrap_or(serde_json::json!({})), map, "case {index}");
        assert_eq!(
            field("array").unwrap_or(serde_json::json!([])),
            array,
            "case {index}"
        );
        let mut client = Replica::new(ClientId(1 << 40));
        client.apply(&document.encode().unwrap());
        assert_eq!(client.text(), text, "case {index}");
    }
}
