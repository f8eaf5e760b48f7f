//! Who has the page open is told to those who want to know, as a whole, and not too often.

use super::*;
use crate::rooms::{Capabilities, Viewer};

impl Stage {
    fn introduces(&mut self, person: &Person, user: &str, viewers: bool) {
        self.happens(Input::Introduced {
            member: person.member,
            viewer: Viewer {
                user: Some(user.into()),
                ..Viewer::default()
            },
            capabilities: Capabilities { viewers },
        });
    }
}

fn viewers(users: &[&str]) -> Heard {
    Heard::Viewers(users.iter().map(|user| Some((*user).to_owned())).collect())
}

#[test]
fn comings_and_goings_are_told_to_those_who_want_to_know() {
    let mut stage = Stage::new();
    let alice = stage.joins(1, "alice");
    stage.introduces(&alice, "alice", true);
    assert_eq!(stage.hears(&alice), [viewers(&["alice"])]);
    stage.passes(seconds(1));
    let bob = stage.joins(2, "bob");
    stage.introduces(&bob, "bob", false);
    assert_eq!(stage.hears(&alice), [viewers(&["alice", "bob"])]);
    assert_eq!(stage.hears(&bob), []);
    stage.passes(seconds(1));
    stage.leaves(&bob, Departure::Lost);
    assert_eq!(stage.hears(&alice), [viewers(&["alice"])]);
}

#[test]
fn a_crowd_that_comes_at_once_is_told_of_once() {
    let mut stage = Stage::new();
    let alice = stage.joins(1, "alice");
    stage.introduces(&alice, "alice", true);
    stage.hears(&alice);
    for id in 2..100 {
        let person = stage.joins(id, "bob");
        stage.introduces(&person, "bob", false);
    }
    assert_eq!(stage.hears(&alice), []);
    stage.passes(seconds(1));
    assert!(matches!(
        stage.hears(&alice).as_slice(),
        [Heard::Viewers(users)] if users.len() == 99
    ));
    stage.passes(seconds(10));
    assert_eq!(stage.hears(&alice), [], "nothing has changed");
}

#[test]
fn whoever_was_not_let_in_is_not_seen() {
    let mut stage = Stage::with(RoomConfig {
        max_members: 1,
        ..config()
    });
    let alice = stage.joins(1, "alice");
    stage.introduces(&alice, "alice", true);
    let bob = stage.joins(2, "bob");
    stage.introduces(&bob, "bob", true);
    stage.passes(seconds(1));
    assert_eq!(stage.hears(&alice), [viewers(&["alice"])]);
}
