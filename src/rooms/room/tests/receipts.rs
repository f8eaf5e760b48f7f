//! Receipts: one for each document message, in order, and only when it is stored.

use super::*;

/// No receipt.
const NONE: [bool; 0] = [];

const COUNTS: Capabilities = Capabilities {
    receipts: true,
    stateless: true,
    asked: false,
};

fn counter(stage: &mut Stage, id: u64, role: Role, name: &str) -> Person {
    let person = stage.enters_with(id, role, Some(name), COUNTS);
    stage.asks(&person);
    stage.hears(&person);
    person
}

fn receipts(heard: &[Heard]) -> Vec<bool> {
    let receipts = heard.iter().filter(|heard| matches!(heard, Heard::Receipt(_)));
    receipts.map(|heard| *heard == Heard::Receipt(true)).collect()
}

#[test]
fn each_message_has_its_receipt_after_the_commit_and_no_echo() {
    let mut stage = Stage::new();
    let mut ada = counter(&mut stage, 1, Role::Edit, "ada");
    let bob = stage.joins(2, "bob");
    for _ in 0..3 {
        let typed = ada.types("x");
        stage.edits(&ada, &typed);
    }
    assert_eq!(stage.hears(&bob).len(), 3, "others do not wait for the store");
    assert_eq!(stage.hears(&ada), []);
    stage.store_answers();
    assert_eq!(
        stage.hears(&ada),
        [Heard::Receipt(true)],
        "the first commit had only the first edit"
    );
    stage.store_answers();
    assert_eq!(stage.hears(&ada), [Heard::Receipt(true), Heard::Receipt(true)]);
    stage.passes(seconds(60));
    assert_eq!(stage.hears(&ada), []);
}

#[test]
fn messages_of_one_batch_are_counted_one_by_one() {
    let mut stage = Stage::new();
    let mut ada = counter(&mut stage, 1, Role::Edit, "ada");
    for _ in 0..5 {
        let typed = ada.types("x");
        stage.says_without_settling(&ada, update(&typed));
    }
    stage.settle();
    stage.store_answers();
    assert_eq!(stage.hears(&ada), vec![Heard::Receipt(true); 5]);
}

#[test]
fn what_is_known_has_its_receipt_too_and_waits_for_what_it_repeats() {
    let mut stage = Stage::new();
    let mut ada = counter(&mut stage, 1, Role::Edit, "ada");
    let bob = counter(&mut stage, 2, Role::Edit, "bob");
    let typed = ada.types("hello");
    stage.edits(&ada, &typed);
    stage.says(&bob, ClientMessage::SyncStep2(typed.clone()));
    stage.hears(&bob);
    assert_eq!(receipts(&stage.hears(&bob)), NONE);
    stage.store_answers();
    assert_eq!(stage.hears(&bob), [Heard::Receipt(true)]);
    stage.says(&bob, ClientMessage::SyncStep2(typed));
    stage.says(&bob, ClientMessage::SyncStep2(Bytes::from_static(&[0, 0])));
    assert_eq!(stage.hears(&bob), [Heard::Receipt(true), Heard::Receipt(true)]);
}

#[test]
fn the_answer_to_a_question_comes_before_the_receipt_of_what_was_said_after_it() {
    let mut stage = Stage::new();
    let mut ada = stage.joins(1, "ada");
    let typed = ada.types("hello");
    stage.edits(&ada, &typed);
    let bob = counter(&mut stage, 2, Role::Edit, "bob");
    stage.asks(&bob);
    stage.says(&bob, ClientMessage::SyncStep2(Bytes::from_static(&[0, 0])));
    assert_eq!(stage.hears(&bob), [], "nothing before it is stored");
    stage.store_answers();
    let heard = stage.hears(&bob);
    assert!(
        matches!(&heard[..], [Heard::Step2(_), Heard::Receipt(true)]),
        "{heard:?}"
    );
}

#[test]
fn a_viewer_is_refused_each_change_in_order() {
    let mut stage = Stage::new();
    let mut ada = stage.joins(1, "ada");
    let hello = ada.types("hello");
    stage.edits(&ada, &hello);
    let mut viewer = counter(&mut stage, 2, Role::View, "eve");
    let forged = viewer.types("x");
    stage.says(&viewer, ClientMessage::SyncStep2(hello.clone()));
    stage.edits(&viewer, &forged);
    stage.says(&viewer, ClientMessage::SyncStep2(forged));
    assert_eq!(
        receipts(&stage.hears(&viewer)),
        NONE,
        "the first one still waits for the store"
    );
    stage.store_answers();
    assert_eq!(receipts(&stage.hears(&viewer)), [true, false, false]);
    viewer.replica.apply(&hello);
    let gone = viewer.replica.replace(1, 5, "");
    stage.says(&viewer, ClientMessage::SyncStep2(gone));
    assert_eq!(receipts(&stage.hears(&viewer)), [false], "deleting is changing");
}

#[test]
fn an_undecodable_update_is_refused_and_ends_its_member() {
    let mut stage = Stage::new();
    let ada = counter(&mut stage, 1, Role::Edit, "ada");
    stage.edits(&ada, &Bytes::from_static(&[9, 9, 9, 9]));
    assert_eq!(
        stage.hears(&ada),
        [Heard::Receipt(false), Heard::Closed(RefusalCode::Malformed)]
    );
}

#[test]
fn an_early_update_has_its_receipt_when_it_is_stored() {
    let mut stage = Stage::new();
    let mut ada = counter(&mut stage, 1, Role::Edit, "ada");
    let first = ada.types("first ");
    let second = ada.types("second");
    stage.edits(&ada, &second);
    stage.says(&ada, ClientMessage::SyncStep2(Bytes::from_static(&[0, 0])));
    assert_eq!(receipts(&stage.hears(&ada)), NONE, "nothing is stored yet");
    stage.store_answers_everything();
    assert_eq!(receipts(&stage.hears(&ada)), [true, true]);
    stage.edits(&ada, &first);
    stage.store_answers_everything();
    assert_eq!(receipts(&stage.hears(&ada)), [true]);
    assert_eq!(stage.stored_text(), "first second");
}

#[test]
fn a_failing_store_gives_no_receipts_and_costs_none_for_each_message() {
    let mut stage = Stage::new();
    let mut ada = counter(&mut stage, 1, Role::Edit, "ada");
    for _ in 0..5000 {
        let typed = ada.types("x");
        stage.edits(&ada, &typed);
    }
    stage.passes(seconds(3600));
    assert_eq!(receipts(&stage.hears(&ada)), NONE);
    stage.store_answers_everything();
    assert_eq!(receipts(&stage.hears(&ada)), vec![true; 5000]);
}

#[test]
fn a_document_that_fails_gives_no_receipt() {
    let mut stage = Stage::new();
    let mut ada = counter(&mut stage, 1, Role::Edit, "ada");
    let typed = ada.types("x");
    stage.room.document().break_at_next_encode();
    stage.edits(&ada, &typed);
    assert_eq!(receipts(&stage.hears(&ada)), NONE);
}

#[test]
fn a_slow_reader_loses_no_receipt() {
    let mut stage = Stage::new();
    stage.outbox_bytes = 200;
    let mut ada = counter(&mut stage, 1, Role::Edit, "ada");
    let mut bob = stage.joins(2, "bob");
    for _ in 0..20 {
        let typed = bob.types("y");
        stage.edits(&bob, &typed);
        let typed = ada.types("x");
        stage.edits(&ada, &typed);
        stage.store_answers_everything();
    }
    let heard = stage.hears(&ada);
    assert_eq!(receipts(&heard), vec![true; 20]);
    assert!(heard.contains(&Heard::CaughtUp), "{heard:?}");
}

#[test]
fn what_another_window_brings_of_ones_own_is_told_as_any_edit() {
    let mut stage = Stage::new();
    let mut ada = counter(&mut stage, 1, Role::Edit, "ada");
    let first = ada.types("a");
    stage.edits(&ada, &first);
    stage.store_answers();
    stage.hears(&ada);
    let window = stage.joins(2, "ada");
    let second = ada.types("b");
    stage.says(&window, ClientMessage::SyncStep2(second.clone()));
    stage.store_answers();
    assert_eq!(stage.hears(&ada), [Heard::Delta(second)]);
}

#[test]
fn what_is_said_beside_the_document_reaches_the_others_who_may_comment() {
    let mut stage = Stage::new();
    let ada = counter(&mut stage, 1, Role::Comment, "ada");
    let bob = counter(&mut stage, 2, Role::Edit, "bob");
    let viewer = counter(&mut stage, 3, Role::View, "eve");
    let plain = stage.joins(4, "dan");
    let payload = Bytes::from_static(b"hello");
    stage.says(&ada, ClientMessage::Stateless(payload.clone()));
    assert_eq!(stage.hears(&bob), [Heard::Stateless(payload.clone())]);
    for nobody in [&ada, &viewer, &plain] {
        assert_eq!(stage.hears(nobody), []);
    }
    stage.says(&viewer, ClientMessage::Stateless(payload.clone()));
    assert_eq!(stage.hears(&bob), []);
    assert_eq!(stage.refused.get("stateless"), Some(&1));
    stage.hand_over(Input::Announced {
        payload: payload.clone(),
    });
    stage.settle();
    assert_eq!(stage.hears(&ada), [Heard::Stateless(payload.clone())]);
    assert_eq!(stage.hears(&bob), [Heard::Stateless(payload)]);
    assert_eq!(stage.hears(&viewer), []);
}

#[test]
fn whoever_does_not_read_what_others_say_is_hung_up_on() {
    let mut stage = Stage::new();
    stage.outbox_bytes = 500;
    let ada = counter(&mut stage, 1, Role::Edit, "ada");
    let bob = counter(&mut stage, 2, Role::Edit, "bob");
    for _ in 0..20 {
        stage.says(&ada, ClientMessage::Stateless(Bytes::from_static(&[b'x'; 100])));
    }
    let heard = stage.hears(&bob);
    assert_eq!(heard.last(), Some(&Heard::Closed(RefusalCode::Unavailable)));
    assert!(heard.len() < 20);
}

/// Alice, who has not sent the last thing that she typed, and Bob, who has it by a way of his own and brings with a resync what he typed
/// behind it.
fn hold_back(stage: &mut Stage) -> (Person, Person, Bytes) {
    let mut alice = counter(stage, 1, Role::Edit, "alice");
    let mut bob = counter(stage, 2, Role::Edit, "bob");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    stage.store_answers_everything();
    assert_eq!(receipts(&stage.hears(&alice)), [true]);
    let world = alice.types(" world");
    bob.replica.apply(&hello);
    bob.replica.apply(&world);
    bob.types("!");
    stage.hears(&bob);
    stage.resyncs(&bob);
    (alice, bob, world)
}

#[test]
fn what_builds_on_what_others_have_yet_to_bring_has_its_receipts_when_it_is_stored() {
    let mut stage = Stage::new();
    let (alice, mut bob, world) = hold_back(&mut stage);
    let more = bob.types("?");
    stage.edits(&bob, &more);
    stage.resyncs(&bob);
    assert_eq!(receipts(&stage.hears(&bob)), NONE, "nothing is stored yet");
    stage.store_answers_everything();
    assert_eq!(receipts(&stage.hears(&bob)), [true, true, true]);
    assert_eq!(
        stage.stored_text(),
        "hello",
        "it takes effect with what Alice has"
    );
    stage.edits(&alice, &world);
    stage.store_answers_everything();
    assert_eq!(stage.stored_text(), "hello world!?");
    assert_eq!(receipts(&stage.hears(&alice)), [true]);
    stage.resyncs(&bob);
    assert_eq!(
        receipts(&stage.hears(&bob)),
        [true],
        "what comes later is counted anew"
    );
}

#[test]
fn what_two_wrote_in_answer_to_each_other_takes_effect_when_both_have_brought_their_own() {
    let mut stage = Stage::new();
    let mut alice = counter(&mut stage, 1, Role::Edit, "alice");
    let mut bob = counter(&mut stage, 2, Role::Edit, "bob");
    for (turn, text) in ["0", "1", "2", "3", "4", "5"].into_iter().enumerate() {
        let (one, other) = match turn % 2 {
            0 => (&mut alice, &mut bob),
            _ => (&mut bob, &mut alice),
        };
        let typed = one.types(text);
        other.replica.apply(&typed);
        // The room knows who writes, and loses what comes later.
        if turn < 2 {
            stage.edits(one, &typed);
        }
    }
    stage.store_answers_everything();
    for person in [&alice, &bob] {
        assert_eq!(receipts(&stage.hears(person)), [true]);
    }
    stage.resyncs(&alice);
    stage.resyncs(&alice);
    stage.store_answers_everything();
    assert_eq!(receipts(&stage.hears(&alice)), [true, true]);
    assert_eq!(stage.stored_text(), "012");
    stage.resyncs(&bob);
    assert_eq!(receipts(&stage.hears(&bob)), NONE, "nothing is stored yet");
    stage.store_answers_everything();
    assert_eq!(stage.stored_text(), "012345");
    assert_eq!(receipts(&stage.hears(&bob)), [true]);
}

#[test]
fn what_cannot_be_kept_is_refused_and_asked_for_when_it_fits() {
    let mut config = config();
    config.gate.max_pending_bytes = 1;
    let mut stage = Stage::with(config);
    let (alice, bob, world) = hold_back(&mut stage);
    let heard = stage.hears(&bob);
    assert_eq!(receipts(&heard), [false]);
    stage.edits(&alice, &world);
    stage.store_answers_everything();
    assert_eq!(stage.stored_text(), "hello world");
    let asked = |heard: &Heard| matches!(heard, Heard::Step1(_));
    let later = stage.hears(&bob);
    assert!(heard.iter().chain(&later).any(asked), "{heard:?} {later:?}");
    stage.resyncs(&bob);
    stage.store_answers_everything();
    assert_eq!(stage.stored_text(), "hello world!");
    assert_eq!(receipts(&stage.hears(&bob)), [true]);
}
