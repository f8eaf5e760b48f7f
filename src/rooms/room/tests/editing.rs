//! Editing: what is told to whom, and what the author hears when.

use super::*;

#[test]
fn one_update_is_passed_on_as_it_was_received_to_everybody_but_its_author() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let bob = stage.joins(2, "bob");
    let carol = stage.joins(3, "carol");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    assert_eq!(stage.hears(&alice), []);
    assert_eq!(stage.hears(&bob), [Heard::Delta(hello.clone())]);
    assert_eq!(stage.hears(&carol), [Heard::Delta(hello)]);
}

#[test]
fn the_author_hears_its_edit_only_after_the_commit_and_others_never_twice() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let bob = stage.joins(2, "bob");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    stage.passes(seconds(10));
    assert_eq!(stage.hears(&alice), []);
    stage.store_answers();
    assert_eq!(stage.hears(&alice), [Heard::Stored(hello.clone())]);
    assert_eq!(stage.hears(&bob), [Heard::Delta(hello)]);
}

#[test]
fn several_updates_of_one_batch_leave_as_one_delta() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let mut bob = stage.joins(2, "bob");
    for word in ["one ", "two ", "three"] {
        let typed = alice.types(word);
        stage.says_without_settling(&alice, update(&typed));
    }
    stage.settle();
    let heard = stage.hears(&bob);
    assert_eq!(heard.len(), 1, "{heard:?}");
    bob.takes(&heard);
    assert_eq!(bob.text(), "one two three");
    stage.store_answers();
    let echo = stage.hears(&alice);
    assert!(matches!(&echo[..], [Heard::Stored(_)]), "{echo:?}");
    assert_eq!(stage.stored_text(), "one two three");
}

#[test]
fn who_wrote_in_a_batch_gets_only_what_the_others_wrote_in_it() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let mut bob = stage.joins(2, "bob");
    let mut carol = stage.joins(3, "carol");
    let from_alice = alice.types("A");
    let from_bob = bob.types("B");
    stage.says_without_settling(&alice, update(&from_alice));
    stage.says_without_settling(&bob, update(&from_bob));
    stage.settle();
    assert_eq!(stage.hears(&alice), [Heard::Delta(from_bob.clone())]);
    assert_eq!(stage.hears(&bob), [Heard::Delta(from_alice.clone())]);
    let heard = stage.hears(&carol);
    assert_eq!(heard.len(), 1, "{heard:?}");
    carol.takes(&heard);
    alice.replica.apply(&from_bob);
    bob.replica.apply(&from_alice);
    let [a, b, c] = texts([&alice, &bob, &carol]);
    assert!(a == b && b == c && a.len() == 2, "{a} {b} {c}");
    stage.store_answers();
    assert_eq!(stage.hears(&alice), [Heard::Stored(from_alice)]);
    assert_eq!(stage.hears(&bob), [Heard::Stored(from_bob)]);
    assert_eq!(stage.hears(&carol), []);
}

#[test]
fn an_update_that_is_known_already_is_acknowledged_again_and_not_told_again() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let bob = stage.joins(2, "bob");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    stage.store_answers();
    stage.hears(&alice);
    stage.hears(&bob);
    stage.edits(&alice, &hello);
    assert_eq!(stage.hears(&alice), [Heard::Stored(hello)]);
    assert_eq!(stage.hears(&bob), []);
    assert!(stage.append.is_none(), "there is nothing to store");
}

#[test]
fn a_known_update_that_is_not_stored_yet_is_acknowledged_when_it_is() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    stage.leaves(&alice, Departure::Lost);
    // The connection broke before the echo; the next one repeats what was never acknowledged.
    let again = stage.arrives(2, "alice");
    stage.says(&again, ClientMessage::SyncStep2(hello.clone()));
    assert_eq!(stage.hears(&again), []);
    stage.store_answers();
    assert_eq!(stage.hears(&again), [Heard::Stored(hello)]);
}

#[test]
fn an_update_of_which_a_part_is_known_is_passed_on_without_that_part() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let bob = stage.joins(2, "bob");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    stage.hears(&bob);
    alice.types(" world");
    let everything = alice.replica.encode();
    stage.says(&alice, ClientMessage::SyncStep2(everything.clone()));
    stage.store_answers_everything();
    let heard = stage.hears(&bob);
    let [Heard::Delta(delta)] = &heard[..] else {
        panic!("one message was expected, not {heard:?}");
    };
    assert!(delta.len() < everything.len());
    let mut after = Replica::new(ClientId(9));
    after.apply(&hello);
    after.apply(delta);
    assert_eq!(after.text(), "hello world");
    let echoed = stage.hears(&alice);
    assert!(
        echoed.contains(&Heard::Stored(everything)),
        "what was sent is acknowledged as it was sent: {echoed:?}"
    );
}

#[test]
fn an_early_update_waits_and_its_sender_is_asked_for_what_is_missing() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let mut bob = stage.joins(2, "bob");
    let first = alice.types("first ");
    let second = alice.types("second");
    stage.edits(&alice, &second);
    assert_eq!(stage.hears(&alice), [Heard::Step1(StateVector::new())]);
    assert_eq!(stage.hears(&bob), []);
    stage.edits(&alice, &first);
    stage.store_answers_everything();
    let heard = stage.hears(&bob);
    bob.takes(&heard);
    assert_eq!(bob.text(), "first second");
    assert!(!bob.replica.is_waiting());
    let echoed = stage.hears(&alice);
    let mut acknowledged = Replica::new(ClientId(9));
    for heard in &echoed {
        if let Heard::Stored(update) | Heard::Delta(update) = heard {
            acknowledged.apply(update);
        }
    }
    assert_eq!(acknowledged.text(), "first second");
    assert_eq!(stage.stored_text(), "first second");
}

#[test]
fn an_early_update_becomes_ready_through_somebody_else() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let mut bob = stage.joins(2, "bob");
    let mut carol = stage.joins(3, "carol");
    let first = alice.types("first ");
    // Bob has it from Alice by another way, and is faster.
    bob.replica.apply(&first);
    let second = bob.types("second");
    stage.edits(&bob, &second);
    assert_eq!(stage.hears(&carol), []);
    stage.edits(&alice, &first);
    stage.store_answers_everything();
    let heard = stage.hears(&carol);
    carol.takes(&heard);
    assert_eq!(carol.text(), "first second");
    let comes_back = |heard: &Heard| matches!(heard, Heard::Stored(_) | Heard::Delta(_));
    assert!(stage.hears(&bob).iter().any(comes_back));
    assert_eq!(stage.stored_text(), "first second");
}

#[test]
fn what_came_early_is_stored_and_acknowledged_and_takes_effect_after_a_restart() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let first = alice.types("first ");
    let early = alice.types("early");
    stage.edits(&alice, &early);
    stage.store_answers_everything();
    assert!(!stage.hears(&alice).contains(&Heard::Stored(early)));
    stage.leaves(&alice, Departure::Clean);
    assert!(stage.room.document().pending_bytes() > 0);
    let mut stage = Stage::opened(config(), stage.store);
    assert_eq!(stage.stored_text(), "");
    let bob = stage.joins(2, "bob");
    stage.says(&bob, ClientMessage::SyncStep2(first));
    stage.store_answers_everything();
    assert_eq!(stage.stored_text(), "first early");
    assert_eq!(stage.room.document().pending_bytes(), 0);
}

#[test]
fn what_is_complete_of_an_update_is_told_at_once() {
    let mut stage = Stage::new();
    let alice = stage.joins(1, "alice");
    let bob = stage.joins(2, "bob");
    // Client 2 writes "m" and needs nothing; of client 1 the clocks 0 and 1 are missing.
    let update = Bytes::from_static(&[
        2, 1, 2, 0, 4, 1, 4, b't', b'e', b'x', b't', 1, b'm', 1, 1, 2, 0x84, 1, 1, 1, b'C', 0,
    ]);
    stage.edits(&alice, &update);
    let heard = stage.hears(&bob);
    let mut reader = Replica::new(ClientId(9));
    for heard in &heard {
        if let Heard::Delta(update) = heard {
            reader.apply(update);
        }
    }
    assert_eq!(reader.text(), "m");
    assert!(!reader.is_waiting());
    stage.store_answers_everything();
    assert!(matches!(
        stage.hears(&alice)[..],
        [Heard::Step1(_), Heard::Stored(_)]
    ));
}

#[test]
fn what_does_not_fit_among_what_waits_is_counted_and_asked_for_again() {
    let mut config = config();
    config.gate.max_pending_bytes = 300;
    let mut stage = Stage::with(config);
    let mut alice = stage.joins(1, "alice");
    let first = alice.types("1");
    let second = alice.types("2");
    let third = alice.types(&"3".repeat(200));
    stage.edits(&alice, &second);
    stage.edits(&alice, &third);
    assert_eq!(stage.refused.get("parking_full"), Some(&1));
    let asked = stage.hears(&alice);
    assert_eq!(asked, [Heard::Step1(StateVector::new())]);
    // She answers with everything that the room does not have.
    stage.says(&alice, ClientMessage::SyncStep2(alice.replica.encode()));
    stage.store_answers_everything();
    assert_eq!(stage.stored_text(), format!("12{}", "3".repeat(200)));
    assert_eq!(stage.room.document().pending_bytes(), 0);
    drop(first);
}

#[test]
fn bytes_that_are_no_update_end_the_connection_of_their_sender_only() {
    let mut stage = Stage::new();
    let alice = stage.joins(1, "alice");
    let bob = stage.joins(2, "bob");
    stage.edits(&bob, &Bytes::from_static(&[1, 1, 1]));
    assert_eq!(stage.hears(&bob), [Heard::Closed(RefusalCode::Malformed)]);
    assert_eq!(stage.hears(&alice), []);
    assert_eq!(stage.room.member_count(), 1);
    assert!(!stage.failed);
}

#[test]
fn whoever_was_sent_away_is_not_listened_to_any_more() {
    let mut stage = Stage::new();
    let mut bob = stage.joins(2, "bob");
    let late = bob.types("late");
    stage.hand_over(Input::Said {
        member: bob.member,
        messages: vec![update(&Bytes::from_static(&[9])), update(&late)],
    });
    stage.settle();
    assert!(stage.append.is_none());
    assert!(stage.room.document().state_vector().is_empty());
}

#[test]
fn nobody_may_continue_what_another_user_is_writing() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let mallory = stage.joins(2, "mallory");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    stage.hears(&mallory);
    let mut forger = Replica::new(ClientId(1));
    forger.apply(&hello);
    let forged = forger.insert(5, "!!!");
    stage.edits(&mallory, &forged);
    assert_eq!(stage.hears(&mallory), [Heard::Closed(RefusalCode::Forbidden)]);
    assert_eq!(stage.refused.get("forged_client"), Some(&1));
    stage.store_answers_everything();
    assert_eq!(stage.stored_text(), "hello");
    // What Alice writes next is taken.
    let world = alice.types(" world");
    stage.edits(&alice, &world);
    stage.store_answers_everything();
    assert_eq!(stage.stored_text(), "hello world");
}

#[test]
fn a_user_may_continue_what_it_wrote_through_an_older_connection() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    let again = stage.joins(2, "alice");
    let world = alice.types(" world");
    stage.edits(&again, &world);
    stage.store_answers_everything();
    assert_eq!(stage.stored_text(), "hello world");
}

#[test]
fn a_deletion_is_told_stored_and_acknowledged_like_any_edit() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let mut bob = stage.joins(2, "bob");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    let heard = stage.hears(&bob);
    bob.takes(&heard);
    let gone = bob.replica.replace(0, 4, "");
    stage.edits(&bob, &gone);
    assert_eq!(stage.hears(&alice), [Heard::Delta(gone.clone())]);
    stage.store_answers_everything();
    assert!(stage.hears(&bob).contains(&Heard::Stored(gone)));
    assert_eq!(stage.stored_text(), "o");
}

#[test]
fn a_page_over_its_limit_is_read_and_not_changed() {
    let mut stage = Stage::with(RoomConfig {
        max_page_bytes: 200,
        ..config()
    });
    let mut alice = stage.joins(1, "alice");
    let much = alice.types(&"x".repeat(300));
    stage.edits(&alice, &much);
    stage.store_answers_everything();
    stage.hears(&alice);
    let more = alice.types("more");
    stage.edits(&alice, &more);
    assert_eq!(stage.hears(&alice), [Heard::Refused(RefusalCode::TooLarge)]);
    assert!(stage.append.is_none());
    let bob = stage.joins(2, "bob");
    stage.asks(&bob);
    assert_eq!(stage.hears(&bob), [Heard::Step2(much)]);
}

#[test]
fn an_update_without_content_says_nothing() {
    let mut stage = Stage::new();
    let alice = stage.joins(1, "alice");
    let bob = stage.joins(2, "bob");
    stage.says(&alice, ClientMessage::SyncStep2(Bytes::from_static(&[0, 0])));
    assert_eq!(stage.hears(&alice), []);
    assert_eq!(stage.hears(&bob), []);
    assert!(stage.append.is_none());
}

#[test]
fn what_somebody_brings_back_is_told_only_when_it_is_stored_as_anybody_may_have_written_it() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let mut bob = stage.joins(2, "bob");
    let carol = stage.joins(3, "carol");
    // Bob heard of it before the server was killed. Alice, who wrote it, has not said yet who she is.
    let lost = alice.types("a");
    bob.replica.apply(&lost);
    stage.says(&bob, ClientMessage::SyncStep2(lost.clone()));
    assert_eq!(stage.hears(&alice), []);
    assert_eq!(stage.hears(&carol), []);
    stage.store_answers();
    assert_eq!(stage.hears(&alice), [Heard::Delta(lost.clone())]);
    assert_eq!(stage.hears(&bob), [Heard::Stored(lost.clone())]);
    assert_eq!(stage.hears(&carol), [Heard::Delta(lost)]);
}

#[test]
fn what_is_written_after_what_somebody_brings_back_is_told_after_it() {
    let mut stage = Stage::new();
    let mut bob = stage.joins(2, "bob");
    let mut carol = stage.joins(3, "carol");
    let offline = bob.types("a");
    stage.says(&bob, ClientMessage::SyncStep2(offline.clone()));
    let online = bob.types("b");
    stage.edits(&bob, &online);
    assert_eq!(stage.hears(&carol), []);
    // The first commit has only what was brought.
    stage.store_answers();
    let heard = stage.hears(&carol);
    assert_eq!(heard, [Heard::Delta(offline), Heard::Delta(online)]);
    carol.takes(&heard);
    assert_eq!(carol.text(), "ab");
    let now = bob.types("c");
    stage.edits(&bob, &now);
    assert_eq!(stage.hears(&carol), [Heard::Delta(now)]);
}

#[test]
fn whoever_asks_while_something_is_kept_back_hears_nothing_of_what_builds_on_it_before_the_answer() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let mut bob = stage.joins(2, "bob");
    let offline = alice.types("a");
    stage.says(&alice, ClientMessage::SyncStep2(offline));
    let second = alice.types("b");
    stage.edits(&alice, &second);
    stage.asks(&bob);
    let third = alice.types("c");
    stage.edits(&alice, &third);
    assert_eq!(stage.hears(&bob), []);
    // The first commit has only what was brought; the answer has the second edit, too.
    stage.store_answers();
    assert_eq!(stage.hears(&bob), []);
    stage.store_answers();
    let heard = stage.hears(&bob);
    assert!(
        matches!(heard.as_slice(), [Heard::Step2(_), later @ ..] if later.contains(&Heard::Delta(third))),
        "{heard:?}"
    );
    bob.takes(&heard);
    assert_eq!(bob.text(), "abc");
    let fourth = alice.types("d");
    stage.edits(&alice, &fourth);
    assert_eq!(stage.hears(&bob), [Heard::Delta(fourth)]);
}

#[test]
fn what_somebody_brings_back_is_told_late_when_the_store_fails_except_to_who_wrote_it() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let mut tab = stage.joins(2, "alice");
    let carol = stage.joins(3, "carol");
    let first = alice.types("a");
    stage.edits(&alice, &first);
    stage.store_answers_everything();
    for person in [&alice, &tab, &carol] {
        stage.hears(person);
    }
    let lost = alice.types("b");
    tab.replica.apply(&first);
    tab.replica.apply(&lost);
    stage.says(&tab, ClientMessage::SyncStep2(lost.clone()));
    stage.passes(seconds(2));
    assert_eq!(stage.hears(&carol), [Heard::Delta(lost.clone())]);
    assert_eq!(stage.hears(&alice), []);
    stage.store_answers_everything();
    assert_eq!(stage.hears(&alice), [Heard::Stored(lost.clone())]);
    assert_eq!(stage.hears(&tab), [Heard::Stored(lost)]);
    assert_eq!(stage.hears(&carol), []);
}

#[test]
fn who_comes_back_at_once_does_not_hear_its_own_edit_before_the_commit() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let bob = stage.joins(2, "bob");
    let again = stage.arrives(3, "alice");
    // Her older connection was not empty when she was back already.
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    assert_eq!(stage.hears(&bob), [Heard::Delta(hello.clone())]);
    assert_eq!(stage.hears(&again), []);
    let world = alice.types(" world");
    stage.says_without_settling(&alice, update(&world));
    stage.asks(&Person {
        member: again.member,
        replica: Replica::new(ClientId(77)),
    });
    assert_eq!(stage.hears(&bob), [Heard::Delta(world)]);
    assert_eq!(stage.hears(&again), []);
    stage.store_answers_everything();
    let heard = stage.hears(&again);
    assert!(
        matches!(&heard[..], [Heard::Step2(all)] if *all == alice.replica.encode()),
        "{heard:?}"
    );
}

#[test]
fn what_will_never_fit_is_not_asked_for_over_and_over() {
    let mut config = config();
    config.gate.max_pending_bytes = 1;
    let mut stage = Stage::with(config);
    let mut alice = stage.joins(1, "alice");
    alice.types("lost ");
    let early = alice.types("early");
    let mut questions = 0;
    for _ in 0..10 {
        stage.edits(&alice, &early);
        let heard = stage.hears(&alice);
        questions += heard
            .iter()
            .filter(|heard| matches!(heard, Heard::Step1(_)))
            .count();
    }
    assert_eq!(questions, 1);
}
