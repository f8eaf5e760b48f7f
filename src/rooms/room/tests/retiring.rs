//! Retiring: an idle room leaves memory once nothing holds it, and leaves an exact snapshot behind.

use super::*;

#[test]
fn an_empty_room_goes_after_the_idle_time() {
    let mut stage = Stage::new();
    let alice = stage.joins(1, "alice");
    stage.leaves(&alice, Departure::Clean);
    stage.passes(stage.config.idle - millis(1));
    assert!(!stage.retired);
    stage.passes(millis(1));
    assert!(stage.retired);
    assert!(
        stage.append.is_none(),
        "a page that was only looked at is not written"
    );
    assert!(stage.store.load(&stage.page).is_none());
}

#[test]
fn somebody_who_comes_back_in_time_keeps_the_room() {
    let mut stage = Stage::new();
    let alice = stage.joins(1, "alice");
    stage.leaves(&alice, Departure::Clean);
    stage.passes(seconds(20));
    stage.joins(2, "alice");
    stage.passes(seconds(100));
    assert!(!stage.retired);
}

#[test]
fn a_room_that_holds_anything_unwritten_stays() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    stage.leaves(&alice, Departure::Clean);
    stage.passes(seconds(600));
    assert!(!stage.retired);
    stage.store_answers_everything();
    stage.passes(seconds(60));
    stage.store_answers_everything();
    stage.passes(seconds(60));
    assert!(stage.retired);
    assert_eq!(stage.stored_text(), "hello");
}

#[test]
fn the_snapshot_it_leaves_is_exact() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    for word in ["one ", "two ", "three"] {
        let typed = alice.types(word);
        stage.edits(&alice, &typed);
        stage.store_answers();
    }
    stage.leaves(&alice, Departure::Clean);
    for _ in 0..3 {
        stage.passes(seconds(31));
        stage.store_answers_everything();
    }
    assert!(stage.retired);
    let snapshot = stage.store.snapshot(&stage.page).expect("a snapshot");
    assert_eq!(snapshot.seq, 3);
    assert_eq!(snapshot.text, "one two three");
    assert_eq!(snapshot.content, serde_json::json!({"text": "one two three"}));
    assert_eq!(stage.store.load(&stage.page).unwrap().log, []);
}

#[test]
fn a_room_whose_snapshot_is_not_taken_goes_after_a_while_and_keeps_its_log() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    stage.store_answers();
    stage.leaves(&alice, Departure::Clean);
    // The snapshot after the interval is under way for ever.
    stage.passes(stage.config.idle + seconds(8) - millis(1));
    assert!(!stage.retired);
    stage.passes(millis(1));
    assert!(stage.retired);
    assert_eq!(stage.stored_text(), "hello");
}

#[test]
fn a_room_that_was_told_to_stay_waits_another_idle_time() {
    let mut stage = Stage::new();
    let alice = stage.joins(1, "alice");
    stage.leaves(&alice, Departure::Clean);
    stage.passes(stage.config.idle);
    assert!(std::mem::take(&mut stage.retired));
    let now = stage.now;
    stage.room.stay(now);
    stage.passes(stage.config.idle - millis(1));
    assert!(!stage.retired);
    stage.passes(millis(1));
    assert!(stage.retired);
}

#[test]
fn a_quiet_room_lets_its_document_sleep_and_still_serves_and_edits() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    stage.store_answers();
    stage.passes(seconds(10));
    stage.store_answers_everything();
    stage.hears(&alice);
    stage.passes(stage.config.sleep);
    assert!(!stage.room.document().is_awake());
    let bob = stage.joins(2, "bob");
    stage.asks(&bob);
    assert_eq!(stage.hears(&bob), [Heard::Step2(hello)]);
    assert!(!stage.room.document().is_awake(), "a newcomer does not wake it");
    let world = alice.types(" world");
    stage.edits(&alice, &world);
    assert_eq!(stage.hears(&bob), [Heard::Delta(world.clone())]);
    stage.store_answers();
    assert_eq!(stage.hears(&alice), [Heard::Stored(world)]);
    assert_eq!(stage.stored_text(), "hello world");
}
