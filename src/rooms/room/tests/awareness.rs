//! Presence: who is here, until when, and who may say so.

use crdt::awareness::encode_changes;

use super::*;

/// The message with which somebody shows a state.
pub(super) fn shows(person: &Person, clock: u32, state: &str) -> ClientMessage {
    shows_as(person.client(), clock, Some(state))
}

fn clears(person: &Person, clock: u32) -> ClientMessage {
    shows_as(person.client(), clock, None)
}

fn shows_as(client: u64, clock: u32, state: Option<&str>) -> ClientMessage {
    let change = AwarenessChange {
        client: ClientId(client),
        clock,
        state: state.map(Arc::from),
    };
    ClientMessage::Awareness(encode_changes(&[change]))
}

fn shown(client: u64, state: &str) -> Heard {
    Heard::Awareness(vec![(client, Some(state.to_owned()))])
}

fn withdrawn(client: u64) -> Heard {
    Heard::Awareness(vec![(client, None)])
}

const ALICE: &str = "{\"name\":\"alice\"}";

#[test]
fn everybody_is_told_and_the_sender_too_because_its_program_waits_for_a_sign_of_life() {
    let mut stage = Stage::new();
    let alice = stage.joins(1, "alice");
    let bob = stage.joins(2, "bob");
    stage.says(&alice, shows(&alice, 1, ALICE));
    assert_eq!(stage.hears(&bob), [shown(1, ALICE)]);
    assert_eq!(stage.hears(&alice), [shown(1, ALICE)]);
}

#[test]
fn a_clean_leave_is_told_at_once() {
    let mut stage = Stage::new();
    let alice = stage.joins(1, "alice");
    let bob = stage.joins(2, "bob");
    stage.says(&alice, shows(&alice, 1, ALICE));
    stage.hears(&bob);
    stage.leaves(&alice, Departure::Clean);
    assert_eq!(stage.hears(&bob), [withdrawn(1)]);
}

#[test]
fn who_clears_its_state_is_gone_at_once() {
    let mut stage = Stage::new();
    let alice = stage.joins(1, "alice");
    let bob = stage.joins(2, "bob");
    stage.says(&alice, shows(&alice, 1, ALICE));
    stage.hears(&bob);
    stage.says(&alice, clears(&alice, 2));
    assert_eq!(stage.hears(&bob), [withdrawn(1)]);
}

#[test]
fn a_quick_reconnect_does_not_flicker() {
    let mut stage = Stage::new();
    let alice = stage.joins(1, "alice");
    let bob = stage.joins(2, "bob");
    stage.says(&alice, shows(&alice, 1, ALICE));
    stage.hears(&bob);
    stage.leaves(&alice, Departure::Lost);
    stage.passes(seconds(2));
    let again = stage.joins(3, "alice");
    stage.says(&again, shows_as(1, 1, Some(ALICE)));
    stage.passes(seconds(5));
    let heard = stage.hears(&bob);
    assert!(!heard.contains(&withdrawn(1)), "{heard:?}");
    stage.leaves(&again, Departure::Clean);
    assert_eq!(stage.hears(&bob), [withdrawn(1)]);
}

#[test]
fn who_does_not_come_back_is_withdrawn_after_three_seconds_and_back_at_once_later() {
    let mut stage = Stage::new();
    let alice = stage.joins(1, "alice");
    let bob = stage.joins(2, "bob");
    stage.says(&alice, shows(&alice, 7, ALICE));
    stage.hears(&bob);
    stage.leaves(&alice, Departure::Lost);
    stage.passes(millis(2999));
    assert_eq!(stage.hears(&bob), []);
    stage.passes(millis(1));
    assert_eq!(stage.hears(&bob), [withdrawn(1)]);
    // Its program repeats the clock that it had. It was shown with the next one, and the others would not take that again.
    let again = stage.joins(3, "alice");
    stage.says(&again, shows_as(1, 7, Some(ALICE)));
    assert_eq!(stage.hears(&bob), []);
    assert_eq!(stage.hears(&again), [withdrawn(1)]);
    stage.says(&again, shows_as(1, 9, Some(ALICE)));
    assert_eq!(stage.hears(&bob), [shown(1, ALICE)]);
}

#[test]
fn what_goes_out_is_always_newer_than_what_went_out_before() {
    let mut stage = Stage::new();
    let alice = stage.joins(1, "alice");
    stage.says(&alice, shows(&alice, 7, ALICE));
    stage.leaves(&alice, Departure::Clean);
    let bob = stage.joins(2, "bob");
    let again = stage.joins(3, "alice");
    stage.says(&again, shows_as(1, 8, Some(ALICE)));
    let clock = first_clock(&stage, &bob);
    assert!(clock > 8, "clock {clock}");
}

/// The clock of the first presence that somebody is told.
fn first_clock(stage: &Stage, person: &Person) -> u32 {
    loop {
        let Some(Next::Message(message)) = stage.outboxes[&person.member].next() else {
            panic!("presence was expected");
        };
        if let ServerMessage::Awareness(changes) = message.message() {
            return changes[0].clock;
        }
    }
}

#[test]
fn nobody_speaks_for_somebody_else() {
    let mut stage = Stage::new();
    let alice = stage.joins(1, "alice");
    let mallory = stage.joins(2, "mallory");
    stage.says(&alice, shows(&alice, 1, ALICE));
    stage.hears(&alice);
    stage.says(&mallory, shows_as(1, 5, Some("{\"name\":\"fool\"}")));
    stage.says(&mallory, shows_as(1, 6, None));
    assert_eq!(stage.hears(&alice), []);
    assert_eq!(stage.refused.get("foreign_awareness"), Some(&2));
}

#[test]
fn a_user_may_take_over_from_its_own_older_connection() {
    let mut stage = Stage::new();
    let alice = stage.joins(1, "alice");
    let bob = stage.joins(2, "bob");
    stage.says(&alice, shows(&alice, 1, ALICE));
    stage.hears(&bob);
    // The old connection is dead and the server does not know it yet.
    let again = stage.joins(3, "alice");
    stage.says(&again, shows_as(1, 2, Some("{\"tab\":2}")));
    assert_eq!(stage.hears(&bob), [shown(1, "{\"tab\":2}")]);
    stage.leaves(&alice, Departure::Lost);
    stage.passes(seconds(5));
    let heard = stage.hears(&bob);
    assert!(
        !heard.contains(&withdrawn(1)),
        "the newer connection holds it: {heard:?}"
    );
}

#[test]
fn who_is_silent_for_half_a_minute_is_withdrawn() {
    let mut stage = Stage::new();
    let alice = stage.joins(1, "alice");
    let bob = stage.joins(2, "bob");
    stage.says(&alice, shows(&alice, 1, ALICE));
    stage.hears(&bob);
    stage.passes(seconds(29));
    stage.says(&alice, shows(&alice, 2, ALICE));
    stage.passes(seconds(29));
    assert!(!stage.hears(&bob).contains(&withdrawn(1)));
    stage.passes(seconds(2));
    assert_eq!(stage.hears(&bob), [withdrawn(1)]);
}

#[test]
fn who_asks_is_told_who_is_here() {
    let mut stage = Stage::new();
    let alice = stage.joins(1, "alice");
    let bob = stage.joins(2, "bob");
    stage.says(&alice, shows(&alice, 1, ALICE));
    stage.hears(&bob);
    stage.says(&bob, ClientMessage::QueryAwareness);
    assert_eq!(stage.hears(&bob), [shown(1, ALICE)]);
}

#[test]
fn presence_that_makes_no_sense_ends_the_connection_of_its_sender_only() {
    let mut stage = Stage::new();
    let alice = stage.joins(1, "alice");
    let bob = stage.joins(2, "bob");
    stage.says(
        &bob,
        ClientMessage::Awareness(Bytes::from_static(&[1, 2, 1, 3, b'n', b'o', b'!'])),
    );
    assert_eq!(stage.hears(&bob), [Heard::Closed(RefusalCode::Malformed)]);
    assert_eq!(stage.hears(&alice), []);
}

#[test]
fn presence_does_not_wait_for_the_store_and_stores_nothing() {
    let mut stage = Stage::new();
    let alice = stage.joins(1, "alice");
    stage.says(&alice, shows(&alice, 1, ALICE));
    assert_eq!(stage.hears(&alice), [shown(1, ALICE)]);
    assert!(stage.append.is_none());
}

#[test]
fn whoever_says_nothing_back_is_asked_so_that_others_may_come_back_as_often_as_they_like() {
    let mut stage = Stage::new();
    let asked = Capabilities {
        asked: true,
        ..Capabilities::default()
    };
    let alice = stage.enters_with(1, Role::Edit, Some("alice"), asked);
    stage.hears(&alice);
    stage.says(&alice, shows(&alice, 7, ALICE));
    // Her program has taken over the next clock, and says so when it is asked.
    assert_eq!(stage.hears(&alice), [shown(1, ALICE), Heard::Asked]);
    stage.says(&alice, shows(&alice, 8, ALICE));
    assert_eq!(stage.hears(&alice), []);
    for clock in 9..12 {
        let bob = stage.enters(2, Role::Edit, Some("bob"));
        assert_eq!(first_clock(&stage, &bob), clock, "one that he has not seen");
        assert_eq!(stage.hears(&alice), [shown(1, ALICE), Heard::Asked]);
        stage.says(&alice, shows(&alice, clock, ALICE));
        stage.leaves(&bob, Departure::Clean);
    }
    // Others say it back by themselves.
    let carol = stage.joins(3, "carol");
    stage.says(&carol, shows(&carol, 7, ALICE));
    assert!(!stage.hears(&carol).contains(&Heard::Asked));
}

#[test]
fn whoever_says_nothing_back_and_comes_back_too_far_behind_is_asked() {
    let mut stage = Stage::new();
    let asked = Capabilities {
        asked: true,
        ..Capabilities::default()
    };
    let alice = stage.joins(1, "alice");
    stage.says(&alice, shows(&alice, 7, ALICE));
    stage.leaves(&alice, Departure::Lost);
    stage.passes(seconds(3));
    let again = stage.enters_with(3, Role::Edit, Some("alice"), asked);
    stage.hears(&again);
    stage.says(&again, shows_as(1, 7, Some(ALICE)));
    assert_eq!(stage.hears(&again), [withdrawn(1), Heard::Asked]);
}
