//! What must hold: at every moment, and once everything has come to rest.

use bytes::Bytes;
use crdt::{ClientId, Document, Limits, StateVector, testing::Replica};
use pageroom::rooms::ServerMessage;
use serde_json::Value;
use storage::PageId;

use crate::disk::{Disk, parsed};

/// An acknowledgement names only what is durable at this very moment. A client takes for an acknowledgement whatever comes
/// back to it of its own writing, with client id `own`.
pub(crate) fn only_what_is_durable_is_acknowledged(
    disk: &mut Disk,
    page: &PageId,
    own: Option<ClientId>,
    said: &ServerMessage,
    store_is_late: bool,
) {
    match said {
        ServerMessage::Stored(update) => {
            assert!(
                disk.has(page, update),
                "an edit of {page} is acknowledged before it is durable"
            );
        }
        ServerMessage::SyncStep2(update) if !store_is_late => {
            assert!(
                disk.has(page, update),
                "a step 2 of {page} has something that is not durable"
            );
        }
        ServerMessage::Delta(update) => {
            let Some(own) = own else { return };
            for range in parsed(update).ranges().filter(|range| range.client == own) {
                assert!(
                    range.end <= disk.clock(page, own),
                    "{own} is told its own edit before it is durable"
                );
            }
        }
        ServerMessage::SyncStep1(_)
        | ServerMessage::SyncStep2(_)
        | ServerMessage::Awareness(_)
        | ServerMessage::Refused(_)
        | ServerMessage::Receipts { .. }
        | ServerMessage::QueryAwareness
        | ServerMessage::Stateless(_)
        | ServerMessage::Mark(_) => {}
    }
}

/// What a client posts is durable when it is answered: all that it has written itself. What it brings of others they may have to
/// bring themselves.
pub(crate) fn what_is_answered_is_durable(
    disk: &mut Disk,
    page: &PageId,
    own: Option<ClientId>,
    update: &Bytes,
) {
    let Some(own) = own else { return };
    let written = parsed(update).without(|client| client != own);
    assert!(
        disk.has(page, written.bytes()),
        "{own} is told that what it posted to {page} is stored, and it is not"
    );
}

/// Whatever somebody says who may not write, the document is as it was, its deletions too.
pub(crate) fn who_may_not_write_changes_nothing(before: &(StateVector, usize), after: &(StateVector, usize)) {
    assert_eq!(before, after, "somebody changes the page who may not write");
}

/// What others are told is part of the document. An answer to what somebody has, and an acknowledgement, may be of what waits in it for
/// something missing.
pub(crate) fn only_what_is_admitted_is_told(document: &mut Document, said: &ServerMessage) {
    let (ServerMessage::Delta(update) | ServerMessage::SyncStep2(update)) = said else {
        return;
    };
    let update = parsed(update);
    let beyond = update
        .ranges()
        .find(|range| range.end > document.state_vector().get(range.client));
    // It is asked only then, because that wakes it.
    if let Some(range) = beyond {
        assert!(
            matches!(said, ServerMessage::SyncStep2(_))
                && document.contains(&update).is_ok_and(|known| known),
            "a member is told of {} up to {} and the document has it up to {}",
            range.client,
            range.end,
            document.state_vector().get(range.client)
        );
    }
}

/// A queue has at most what it may have, and beyond that one answer of each kind and one large message.
pub(crate) fn the_outbox_is_bounded(queued: usize, max_bytes: usize, document: &Document) {
    let one_answer = 2 * document.encoded_size_estimate() + 1024;
    assert!(
        queued <= max_bytes + 3 * one_answer,
        "{queued} bytes wait in an outbox of {max_bytes}"
    );
}

/// A page that is opened has everything that was ever committed to it.
pub(crate) fn everything_kept_is_loaded(disk: &mut Disk, page: &PageId, document: &mut Document) {
    let kept = disk.everything(page);
    let mut expected = Document::load(Limits::default(), [kept]).expect("what was kept");
    assert_eq!(
        document.state_vector(),
        expected.state_vector(),
        "page {page} was opened without something that is durable"
    );
    same(
        &format!("page {page} as it was opened"),
        content(document),
        content(&mut expected),
    );
}

/// Everything that can be seen of a document.
pub(crate) fn content(document: &mut Document) -> Value {
    let content = document.content().expect("a document that works");
    seen(
        content
            .json(None)
            .expect("a document that works")
            .unwrap_or_default(),
    )
}

/// Two views show the same; if not, says where they begin to differ.
pub(crate) fn same(who: &str, one: Value, other: Value) {
    let (one, other) = (seen(one).to_string(), seen(other).to_string());
    let Some(at) = one
        .chars()
        .zip(other.chars())
        .position(|(one, other)| one != other)
    else {
        assert_eq!(one.len(), other.len(), "{who} shows more or less than there is");
        return;
    };
    let around = |text: &str| {
        text.chars()
            .skip(at.saturating_sub(30))
            .take(60)
            .collect::<String>()
    };
    panic!(
        "{who} shows something else: {} and not {}",
        around(&one),
        around(&other)
    );
}

/// Leaves out in what two replicas may differ for reasons that are not ours.
///
/// Whoever selects half of a surrogate pair to format it as it is formatted already has halves from then on and tells nobody, in
/// Yjs as here. And an empty root type does not say of which kind it is.
fn seen(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(halves(&text)),
        Value::Array(values) => Value::Array(values.into_iter().map(seen).collect()),
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, seen(value)));
            Value::Object(fields.filter(|(_, value)| !is_empty(value)).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

fn halves(text: &str) -> String {
    let halves = |character: char| {
        let count = character.len_utf16();
        std::iter::repeat_n(if count == 2 { '\u{fffd}' } else { character }, count)
    };
    text.chars().flat_map(halves).collect()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Two replicas have the same: the same structs, the same deletions, the same content.
pub(crate) fn equal(who: &str, one: &Bytes, other: &Bytes) {
    let mut one = Document::load(Limits::default(), [one.clone()]).expect("a whole document");
    let mut other = Document::load(Limits::default(), [other.clone()]).expect("a whole document");
    assert_eq!(
        one.state_vector(),
        other.state_vector(),
        "{who} knows something else"
    );
    same(who, content(&mut one), content(&mut other));
}

/// A client shows what the server's document says.
pub(crate) fn shows(who: &str, replica: &Replica, document: &Bytes) {
    assert!(!replica.is_waiting(), "{who} waits for something that never came");
    equal(who, &replica.encode(), document);
    let mut fresh = Replica::repeatable(ClientId(1));
    fresh.apply(document);
    same(who, replica.json(), fresh.json());
}
