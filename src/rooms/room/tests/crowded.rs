//! A crowded room: the first edit goes at once, the next ones wait for a window, and a small room never waits.

use super::*;
use crate::rooms::room::life::{NEVER_WAITS, WINDOW_PER_MEMBER};

/// A room with this many people in it who have all heard what a newcomer hears.
fn room_of(people: u64) -> (Stage, Vec<Person>) {
    let mut stage = Stage::new();
    let people = (1..=people).map(|id| stage.joins(id, "somebody")).collect();
    (stage, people)
}

fn deltas(heard: &[Heard]) -> usize {
    heard
        .iter()
        .filter(|heard| matches!(heard, Heard::Delta(_)))
        .count()
}

#[test]
fn a_small_room_never_waits() {
    let (mut stage, mut people) = room_of(NEVER_WAITS as u64);
    for _ in 0..5 {
        let typed = people[0].types("x");
        stage.edits(&people[0], &typed);
        assert_eq!(stage.hears(&people[1]), [Heard::Delta(typed)]);
    }
}

#[test]
fn in_a_crowd_the_first_edit_goes_at_once_and_the_next_ones_together_at_the_end_of_the_window() {
    let (mut stage, mut people) = room_of(NEVER_WAITS as u64 + 20);
    let window = WINDOW_PER_MEMBER * 20;
    let first = people[0].types("first ");
    stage.edits(&people[0], &first);
    assert_eq!(stage.hears(&people[9]), [Heard::Delta(first.clone())]);
    for word in ["second ", "third"] {
        let typed = people[0].types(word);
        stage.edits(&people[0], &typed);
    }
    assert_eq!(stage.hears(&people[9]), []);
    stage.passes(window - Duration::from_micros(1));
    assert_eq!(stage.hears(&people[9]), []);
    stage.passes(Duration::from_micros(1));
    let heard = stage.hears(&people[9]);
    assert_eq!(deltas(&heard), 1, "{heard:?}");
    people[9].replica.apply(&first);
    people[9].takes(&heard);
    assert_eq!(people[9].text(), "first second third");
    // After a pause the next one goes at once again.
    stage.passes(seconds(1));
    let typed = people[0].types("!");
    stage.edits(&people[0], &typed);
    assert_eq!(stage.hears(&people[9]), [Heard::Delta(typed)]);
}

#[test]
fn nobody_gets_more_than_sixty_deltas_a_second_however_large_the_crowd() {
    let (mut stage, mut people) = room_of(300);
    let mut heard = 0;
    for _ in 0..500 {
        let typed = people[0].types("x");
        stage.edits(&people[0], &typed);
        stage.passes(millis(2));
        if stage.append.is_some() {
            stage.store_answers();
        }
        heard += deltas(&stage.hears(&people[200]));
    }
    assert!((50..=61).contains(&heard), "{heard} deltas in a second");
}

#[test]
fn an_edit_that_waits_for_the_window_is_neither_stored_nor_acknowledged_nor_lost() {
    let (mut stage, mut people) = room_of(40);
    let first = people[0].types("first ");
    stage.edits(&people[0], &first);
    stage.store_answers();
    stage.hears(&people[0]);
    let second = people[0].types("second");
    stage.edits(&people[0], &second);
    assert!(stage.append.is_none());
    stage.passes(millis(20));
    assert_eq!(stage.hears(&people[0]), []);
    stage.store_answers();
    assert_eq!(stage.hears(&people[0]), [Heard::Stored(second)]);
    assert_eq!(stage.stored_text(), "first second");
}

#[test]
fn the_presence_of_a_crowd_is_told_by_windows_too() {
    let (mut stage, people) = room_of(40);
    for (clock, person) in people.iter().enumerate() {
        let state = format!("{{\"at\":{clock}}}");
        stage.says(person, awareness::shows(person, 1, &state));
    }
    stage.passes(millis(20));
    let mut told = 0;
    for heard in stage.hears(&people[0]) {
        if let Heard::Awareness(changes) = heard {
            told += changes.len();
        }
    }
    assert_eq!(told, people.len());
}
