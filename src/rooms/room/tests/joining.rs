//! Joining: what a newcomer is asked and told, and when.

use super::*;

#[test]
fn a_joiner_is_asked_what_it_has_and_told_who_is_here() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    stage.says(&alice, awareness::shows(&alice, 1, "{\"name\":\"alice\"}"));
    let bob = stage.enters(2, Role::Edit, Some("bob"));
    let known = [(ClientId(1), 5)].into_iter().collect();
    assert_eq!(
        stage.hears(&bob),
        [
            Heard::Step1(known),
            Heard::Awareness(vec![(1, Some("{\"name\":\"alice\"}".into()))]),
        ]
    );
}

#[test]
fn a_joiner_gets_exactly_what_it_lacks() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    let world = alice.types(" world");
    stage.edits(&alice, &world);
    stage.store_answers_everything();
    let mut bob = stage.arrives(2, "bob");
    bob.replica.apply(&hello);
    stage.asks(&bob);
    let heard = stage.hears(&bob);
    // Who comes back may have missed acknowledgements: what was written lately follows.
    let [Heard::Step2(diff), Heard::Stored(lately)] = &heard[..] else {
        panic!("one step 2 and what was written lately were expected, not {heard:?}");
    };
    let lately = Update::parse(lately.clone(), &stage.config.gate).unwrap();
    assert!(lately.ranges().any(|range| (range.start, range.end) == (0, 11)));
    let parsed = Update::parse(diff.clone(), &stage.config.gate).unwrap();
    let ranges: Vec<_> = parsed.ranges().map(|range| (range.start, range.end)).collect();
    assert_eq!(ranges, [(5, 11)]);
    bob.takes(&heard);
    assert_eq!(bob.text(), "hello world");
}

#[test]
fn a_joiner_who_lacks_nothing_still_gets_a_step_2() {
    let mut stage = Stage::new();
    let bob = stage.arrives(2, "bob");
    stage.asks(&bob);
    assert_eq!(stage.hears(&bob), [Heard::Step2(Bytes::from_static(&[0, 0]))]);
}

#[test]
fn a_step_2_waits_for_the_commit_of_what_it_contains() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    let bob = stage.arrives(2, "bob");
    stage.asks(&bob);
    assert_eq!(stage.hears(&bob), []);
    stage.store_answers();
    assert_eq!(stage.hears(&bob), [Heard::Step2(hello)]);
}

#[test]
fn a_step_2_waits_for_what_was_admitted_in_the_same_breath() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let bob = stage.arrives(2, "bob");
    let hello = alice.types("hello");
    stage.says_without_settling(&alice, update(&hello));
    stage.asks(&bob);
    let heard = stage.hears(&bob);
    assert!(
        !heard.iter().any(|heard| matches!(heard, Heard::Step2(_))),
        "{heard:?}"
    );
    stage.store_answers();
    assert_eq!(stage.hears(&bob), [Heard::Step2(hello)]);
}

#[test]
fn what_was_stored_before_need_not_be_waited_for() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    stage.store_answers();
    let bob = stage.arrives(2, "bob");
    stage.asks(&bob);
    assert_eq!(stage.hears(&bob), [Heard::Step2(hello)]);
}

#[test]
fn a_joiner_is_served_from_memory_once_the_store_has_not_answered_for_two_seconds() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    let bob = stage.arrives(2, "bob");
    stage.asks(&bob);
    stage.passes(millis(1999));
    assert_eq!(stage.hears(&bob), []);
    stage.passes(millis(1));
    assert_eq!(stage.hears(&bob), [Heard::Step2(hello.clone())]);
    let carol = stage.arrives(3, "carol");
    stage.asks(&carol);
    assert_eq!(stage.hears(&carol), [Heard::Step2(hello.clone())]);
    // The author, however, is told nothing that is not true.
    assert_eq!(stage.hears(&alice), []);
    stage.store_answers();
    assert_eq!(stage.hears(&alice), [Heard::Stored(hello)]);
    assert_eq!(stage.hears(&bob), []);
}

#[test]
fn joiners_who_have_nothing_share_one_message() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    stage.store_answers();
    let mut shared = Vec::new();
    for id in 2..5 {
        let joiner = stage.arrives(id, "joiner");
        stage.asks(&joiner);
        match stage.outboxes[&joiner.member].next() {
            Some(Next::Message(message)) => shared.push(message),
            other => panic!("a step 2 was expected, not {other:?}"),
        }
    }
    assert!(shared.windows(2).all(|pair| Arc::ptr_eq(&pair[0], &pair[1])));
}

#[test]
fn who_joins_between_two_flushes_misses_nothing() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let hello = alice.types("hello");
    stage.says_without_settling(&alice, update(&hello));
    let mut bob = stage.enters(2, Role::Edit, Some("bob"));
    stage.asks(&bob);
    stage.store_answers();
    let heard = stage.hears(&bob);
    bob.takes(&heard);
    assert_eq!(bob.text(), "hello");
}

#[test]
fn a_full_room_turns_the_next_one_away() {
    let mut stage = Stage::with(RoomConfig {
        max_members: 1,
        ..config()
    });
    let alice = stage.joins(1, "alice");
    let bob = stage.enters(2, Role::Edit, Some("bob"));
    assert_eq!(stage.hears(&bob), [Heard::Closed(RefusalCode::RoomFull)]);
    stage.leaves(&alice, Departure::Clean);
    let carol = stage.enters(3, Role::Edit, Some("carol"));
    assert_eq!(stage.hears(&carol), [Heard::Step1(StateVector::new())]);
}

#[test]
fn a_state_vector_that_makes_no_sense_ends_the_connection_of_its_sender_only() {
    let mut stage = Stage::new();
    let alice = stage.joins(1, "alice");
    let bob = stage.arrives(2, "bob");
    stage.says(
        &bob,
        ClientMessage::SyncStep1(Bytes::from_static(&[0xff, 0xff, 0x03])),
    );
    assert_eq!(stage.hears(&bob), [Heard::Closed(RefusalCode::Malformed)]);
    assert_eq!(stage.hears(&alice), []);
    assert_eq!(stage.room.member_count(), 1);
}

#[test]
fn however_often_somebody_asks_it_is_answered_once() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    stage.store_answers_everything();
    let bob = stage.arrives(2, "bob");
    let nothing = StateVector::new().encode();
    for _ in 0..5_000 {
        stage.says_without_settling(&bob, ClientMessage::SyncStep1(nothing.clone()));
    }
    stage.settle();
    let heard = stage.hears(&bob);
    let answers = heard.iter().filter(|heard| matches!(heard, Heard::Step2(_)));
    assert_eq!(answers.count(), 1, "{heard:?}");
}

#[test]
fn whoever_asks_after_another_process_has_written_does_not_wait_for_the_store() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let foreign = Replica::new(ClientId(50)).insert(0, "foreign ");
    stage.other_process_stores(&foreign);
    let mine = alice.types("mine");
    stage.edits(&alice, &mine);
    stage.store_answers();
    stage.reads_foreign();
    stage.compaction = None;
    let bob = stage.arrives(2, "bob");
    stage.asks(&bob);
    let heard = stage.hears(&bob);
    assert!(
        heard.iter().any(|heard| matches!(heard, Heard::Step2(_))),
        "everything is durable: {heard:?}"
    );
}

#[test]
fn what_somebody_wrote_before_the_answer_and_what_has_no_effect_yet_is_not_in_it() {
    let mut stage = Stage::new();
    let mut alice = stage.arrives(1, "alice");
    // She knows more than the room, and types before she has been told what the room lacks.
    alice.types("first ");
    let state_vector = alice.replica.state_vector().encode();
    stage.says_without_settling(&alice, ClientMessage::SyncStep1(state_vector));
    let early = alice.types("early");
    stage.edits(&alice, &early);
    stage.store_answers_everything();
    for heard in stage.hears(&alice) {
        if let Heard::Step2(update) | Heard::Delta(update) | Heard::Stored(update) = heard {
            let update = Update::parse(update, &stage.config.gate).unwrap();
            assert_eq!(
                update.ranges().len(),
                0,
                "it would be taken for the acknowledgement"
            );
        }
    }
}
