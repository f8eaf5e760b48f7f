//! Draining: what is unwritten is stored, then everybody is asked to come back elsewhere.

use super::*;

impl Stage {
    fn drains(&mut self, abandon: bool) {
        self.hand_over(Input::Draining { abandon });
        self.settle();
    }
}

#[test]
fn what_is_unwritten_is_stored_and_acknowledged_before_members_are_sent_away() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    stage.drains(false);
    assert_eq!(stage.hears(&alice), []);
    stage.store_answers_everything();
    assert_eq!(
        stage.hears(&alice),
        [Heard::Stored(hello), Heard::Closed(RefusalCode::Draining)]
    );
    assert!(stage.retired);
    assert_eq!(stage.stored_text(), "hello");
}

#[test]
fn a_window_does_not_delay_the_end() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    for id in 10..50 {
        stage.joins(id, "somebody");
    }
    let first = alice.types("first ");
    stage.edits(&alice, &first);
    let second = alice.types("second");
    stage.edits(&alice, &second);
    stage.drains(false);
    stage.store_answers_everything();
    assert_eq!(stage.stored_text(), "first second");
    assert!(stage.retired);
}

#[test]
fn who_writes_without_a_pause_does_not_delay_the_end_and_is_told_nothing_that_is_not_true() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let first = alice.types("first ");
    stage.edits(&alice, &first);
    stage.drains(false);
    for _ in 0..100 {
        let more = alice.types("x");
        stage.edits(&alice, &more);
    }
    stage.says(&alice, ClientMessage::Mark(Bytes::from_static(b"mark")));
    stage.store_answers();
    assert_eq!(
        stage.hears(&alice),
        [Heard::Stored(first), Heard::Closed(RefusalCode::Draining)]
    );
    stage.store_answers_everything();
    assert_eq!(stage.stored_text(), "first ");
    assert!(stage.retired);
}

#[test]
fn who_joins_a_draining_room_is_sent_on() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    stage.drains(false);
    let bob = stage.enters(2, Role::Edit, Some("bob"));
    assert_eq!(stage.hears(&bob), [Heard::Closed(RefusalCode::Draining)]);
}

#[test]
fn when_time_is_up_members_are_sent_away_and_told_nothing_that_is_not_true() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    stage.drains(false);
    stage.passes(seconds(10));
    assert_eq!(stage.hears(&alice), []);
    stage.drains(true);
    assert_eq!(stage.hears(&alice), [Heard::Closed(RefusalCode::Draining)]);
    assert_eq!(stage.room.member_count(), 0);
    assert!(!stage.retired, "it still holds what the store may yet take");
}

#[test]
fn an_empty_room_goes_at_once_and_leaves_a_snapshot() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    stage.store_answers();
    stage.leaves(&alice, Departure::Clean);
    stage.drains(false);
    stage.store_answers_everything();
    assert!(stage.retired);
    let stored = stage.store.load(&stage.page).unwrap();
    assert_eq!(stored.log, []);
    assert_eq!(stored.snapshot.map(|snapshot| snapshot.seq), Some(1));
}
