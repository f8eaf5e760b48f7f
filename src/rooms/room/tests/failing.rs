//! A failing document: nothing of the broken batch is told, stored or acknowledged, and the room is rebuilt without the culprit.

use super::*;

#[test]
fn nothing_of_a_batch_that_broke_the_document_is_told_stored_or_acknowledged() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let bob = stage.joins(2, "bob");
    let poison = alice.types("poison");
    stage.room.document().panic_on_next_apply();
    stage.edits(&alice, &poison);
    assert!(stage.failed);
    assert!(stage.append.is_none());
    assert_eq!(stage.hears(&alice), [Heard::Closed(RefusalCode::Unavailable)]);
    assert_eq!(stage.hears(&bob), [Heard::Closed(RefusalCode::Unavailable)]);
    assert!(stage.retired);
}

#[test]
fn what_was_applied_before_is_stored_and_acknowledged_before_everybody_is_sent_away() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    let more = alice.types(" more");
    stage.edits(&alice, &more);
    let poison = alice.types("poison");
    stage.room.document().panic_on_next_apply();
    stage.edits(&alice, &poison);
    assert_eq!(stage.hears(&alice), []);
    stage.store_answers_everything();
    assert_eq!(
        stage.hears(&alice),
        [
            Heard::Stored(hello),
            Heard::Stored(more),
            Heard::Closed(RefusalCode::Unavailable)
        ]
    );
    assert_eq!(stage.stored_text(), "hello more");
    assert!(stage.retired);
}

#[test]
fn an_answer_that_waited_for_the_broken_batch_does_not_keep_the_room() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let mut crowd: Vec<Person> = (10..50).map(|id| stage.joins(id, "somebody")).collect();
    let first = alice.types("first ");
    stage.edits(&alice, &first);
    stage.store_answers();
    // In the window after the first flush an edit is admitted, and its repetition waits for its commit.
    let second = alice.types("second");
    stage.edits(&alice, &second);
    stage.edits(&alice, &second);
    stage.room.document().panic_on_next_apply();
    stage.passes(seconds(60));
    assert!(stage.failed);
    let heard = stage.hears(&alice);
    assert!(
        heard.contains(&Heard::Closed(RefusalCode::Unavailable)),
        "she must come back to a room that works: {heard:?}"
    );
    assert!(!heard.contains(&Heard::Stored(second)));
    for person in &mut crowd {
        let heard = stage.hears(person);
        assert!(
            heard.contains(&Heard::Closed(RefusalCode::Unavailable)),
            "{heard:?}"
        );
    }
    assert!(stage.retired);
}

#[test]
fn a_backend_whose_update_was_in_the_broken_batch_is_let_go_with_the_room() {
    let mut stage = Stage::new();
    let poison = Replica::new(ClientId(77)).insert(0, "poison");
    stage.room.document().panic_on_next_apply();
    stage.hand_over(Input::Posted {
        request: RequestId(1),
        member: None,
        user: None,
        update: poison,
    });
    stage.settle();
    // Whoever waits for an answer of a room that is gone asks the next one.
    assert_eq!(stage.answers, []);
    assert!(stage.retired);
}

#[test]
fn who_joins_a_failed_room_is_asked_to_come_back() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    let poison = alice.types("poison");
    stage.room.document().panic_on_next_apply();
    stage.edits(&alice, &poison);
    let bob = stage.enters(2, Role::Edit, Some("bob"));
    assert_eq!(stage.hears(&bob), [Heard::Closed(RefusalCode::Unavailable)]);
}

#[test]
fn a_failed_room_writes_no_snapshot() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    stage.store_answers();
    let poison = alice.types("poison");
    stage.room.document().panic_on_next_apply();
    stage.edits(&alice, &poison);
    stage.passes(seconds(60));
    assert!(stage.append.is_none());
    assert_eq!(stage.compaction, None);
    assert_eq!(stage.stored_text(), "hello");
}
