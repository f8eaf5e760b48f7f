//! A slow reader: its queue is bounded, it misses nothing, and nobody waits for it.

use super::*;

const SMALL: usize = 400;

/// Alice, and Bob whose outbox is small.
fn alice_and_slow_bob() -> (Stage, Person, Person) {
    let mut stage = Stage::new();
    let alice = stage.joins(1, "alice");
    stage.outbox_bytes = SMALL;
    let bob = stage.joins(2, "bob");
    (stage, alice, bob)
}

fn queued(stage: &Stage, person: &Person) -> usize {
    stage.outboxes[&person.member].queued_bytes()
}

/// Bob reads until nothing is left, as his connection does it.
fn reads_to_the_end(stage: &mut Stage, person: &mut Person) -> Vec<Heard> {
    let mut all = Vec::new();
    loop {
        let heard = stage.hears(person);
        if heard.is_empty() {
            return all;
        }
        person.takes(&heard);
        if heard.contains(&Heard::CaughtUp) {
            stage.catches_up(person);
        }
        all.extend(heard);
    }
}

#[test]
fn a_reader_that_falls_behind_gets_one_diff_when_its_queue_has_left() {
    let (mut stage, mut alice, mut bob) = alice_and_slow_bob();
    for _ in 0..100 {
        let typed = alice.types("typing ");
        stage.edits(&alice, &typed);
        stage.store_answers();
        assert!(queued(&stage, &bob) <= SMALL);
    }
    let heard = reads_to_the_end(&mut stage, &mut bob);
    let diffs = heard
        .iter()
        .filter(|heard| matches!(heard, Heard::Step2(_)))
        .count();
    assert_eq!(diffs, 1);
    assert_eq!(bob.text(), alice.text());
    assert!(!bob.replica.is_waiting());
    // From then on it gets deltas again.
    let typed = alice.types("!");
    stage.edits(&alice, &typed);
    assert_eq!(stage.hears(&bob), [Heard::Delta(typed)]);
}

#[test]
fn nobody_waits_for_a_slow_reader() {
    let (mut stage, mut alice, bob) = alice_and_slow_bob();
    stage.outbox_bytes = 0;
    let carol = stage.joins(3, "carol");
    for _ in 0..50 {
        let typed = alice.types("typing ");
        stage.edits(&alice, &typed);
        assert_eq!(stage.hears(&carol), [Heard::Delta(typed)]);
    }
    assert!(queued(&stage, &bob) <= SMALL);
}

#[test]
fn a_message_larger_than_the_limit_passes_alone() {
    let (mut stage, mut alice, bob) = alice_and_slow_bob();
    let much = alice.types(&"x".repeat(2 * SMALL));
    stage.edits(&alice, &much);
    assert_eq!(stage.hears(&bob), [Heard::Delta(much)]);
}

#[test]
fn the_diff_starts_where_the_reader_stopped_also_when_the_room_was_in_the_middle_of_a_batch() {
    let (mut stage, mut alice, mut bob) = alice_and_slow_bob();
    let mut carol = stage.joins(3, "carol");
    for round in 0..40 {
        let from_alice = alice.types("alice ");
        let from_carol = carol.types("carol ");
        stage.says_without_settling(&alice, update(&from_alice));
        if round % 3 == 0 {
            stage.settle();
        }
        stage.says_without_settling(&carol, update(&from_carol));
        stage.settle();
        for person in [&mut alice, &mut carol] {
            let heard = stage.hears(person);
            person.takes(&heard);
        }
        stage.store_answers_everything();
    }
    reads_to_the_end(&mut stage, &mut bob);
    reads_to_the_end(&mut stage, &mut alice);
    reads_to_the_end(&mut stage, &mut carol);
    assert!(!bob.replica.is_waiting());
    let [a, b, c] = texts([&alice, &bob, &carol]);
    assert!(a == b && b == c, "{a}\n{b}\n{c}");
}

#[test]
fn an_acknowledgement_that_was_dropped_is_part_of_the_diff() {
    let (mut stage, mut alice, mut bob) = alice_and_slow_bob();
    let mine = bob.types("from bob ");
    stage.edits(&bob, &mine);
    for _ in 0..60 {
        let typed = alice.types("typing ");
        stage.edits(&alice, &typed);
    }
    // Bob's echo comes only now, when his queue is full.
    stage.store_answers_everything();
    let heard = reads_to_the_end(&mut stage, &mut bob);
    assert!(
        !heard.contains(&Heard::Stored(mine)),
        "the echo was to be dropped"
    );
    let mut acknowledged = Replica::new(ClientId(9));
    for heard in &heard {
        if let Heard::Step2(diff) = heard {
            acknowledged.apply(diff);
        }
    }
    assert!(
        acknowledged.state_vector().get(ClientId(2)) == 9,
        "{acknowledged:?}"
    );
    let heard = stage.hears(&alice);
    alice.takes(&heard);
    assert_eq!(bob.text(), alice.text());
}

#[test]
fn the_diff_waits_for_the_commit_of_what_it_contains() {
    let (mut stage, mut alice, mut bob) = alice_and_slow_bob();
    for _ in 0..60 {
        let typed = alice.types("typing ");
        stage.edits(&alice, &typed);
    }
    let heard = reads_to_the_end(&mut stage, &mut bob);
    assert!(
        !heard.iter().any(|heard| matches!(heard, Heard::Step2(_))),
        "{heard:?}"
    );
    stage.store_answers_everything();
    reads_to_the_end(&mut stage, &mut bob);
    assert_eq!(bob.text(), alice.text());
}

#[test]
fn a_joiner_who_falls_behind_while_its_first_answer_waits_still_gets_everything() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let before = alice.types("long before ");
    stage.edits(&alice, &before);
    stage.outbox_bytes = SMALL;
    let mut bob = stage.joins(2, "bob");
    // The answer contains what is not stored yet, so it waits; meanwhile the others type on.
    stage.asks(&bob);
    for _ in 0..60 {
        let typed = alice.types("typing ");
        stage.edits(&alice, &typed);
    }
    reads_to_the_end(&mut stage, &mut bob);
    stage.store_answers_everything();
    reads_to_the_end(&mut stage, &mut bob);
    assert!(!bob.replica.is_waiting(), "bob misses what came first");
    assert_eq!(bob.text(), alice.text());
}

#[test]
fn of_presence_a_slow_reader_gets_the_latest() {
    let (mut stage, alice, bob) = alice_and_slow_bob();
    for clock in 1..100 {
        let state = format!("{{\"at\":{clock}}}");
        stage.says(&alice, awareness::shows(&alice, clock, &state));
    }
    assert_eq!(
        stage.hears(&bob),
        [Heard::Awareness(vec![(1, Some("{\"at\":99}".into()))])]
    );
}

#[test]
fn who_asks_again_and_again_without_reading_has_one_answer_waiting() {
    let (mut stage, mut alice, bob) = alice_and_slow_bob();
    let hello = alice.types(&"x".repeat(1000));
    stage.edits(&alice, &hello);
    stage.store_answers();
    stage.hears(&bob);
    for _ in 0..100 {
        stage.asks(&bob);
    }
    let heard = stage.hears(&bob);
    assert_eq!(heard.len(), 1, "{}", heard.len());
}

#[test]
fn what_is_told_when_it_is_stored_is_not_missed_by_who_has_fallen_behind_meanwhile() {
    let (mut stage, mut alice, mut bob) = alice_and_slow_bob();
    let mut carol = stage.joins(3, "carol");
    let brought = carol.types("written offline ");
    stage.says(&carol, ClientMessage::SyncStep2(brought));
    let typed = alice.types(&"far too much ".repeat(100));
    stage.edits(&alice, &typed);
    let typed = alice.types("more ");
    stage.edits(&alice, &typed);
    stage.store_answers_everything();
    reads_to_the_end(&mut stage, &mut bob);
    assert!(bob.text().contains("written offline"));
    assert!(bob.text().contains("more"));
    assert!(!bob.replica.is_waiting());
}
