//! Who has the page open is told to those who want to know, as a whole, and not too often.

use super::*;

impl Stage {
    fn joins_as_viewer(&mut self, id: u64, name: &str) -> Person {
        let capabilities = Capabilities {
            viewers: true,
            ..Capabilities::default()
        };
        self.enters_with(id, Role::Edit, Some(name), capabilities)
    }

    /// The lists of viewers among what somebody has heard.
    fn sees(&mut self, person: &Person) -> Vec<Heard> {
        let mut heard = self.hears(person);
        heard.retain(|heard| matches!(heard, Heard::Viewers(_)));
        heard
    }
}

fn viewers(users: &[&str]) -> Heard {
    Heard::Viewers(users.iter().map(|user| Some((*user).to_owned())).collect())
}

#[test]
fn comings_and_goings_are_told_to_those_who_want_to_know() {
    let mut stage = Stage::new();
    let alice = stage.joins_as_viewer(1, "alice");
    assert_eq!(stage.sees(&alice), [viewers(&["alice"])]);
    stage.passes(seconds(1));
    let bob = stage.joins(2, "bob");
    assert_eq!(stage.sees(&alice), [viewers(&["alice", "bob"])]);
    assert_eq!(stage.sees(&bob), []);
    stage.passes(seconds(1));
    stage.leaves(&bob, Departure::Lost);
    assert_eq!(stage.sees(&alice), [viewers(&["alice"])]);
}

#[test]
fn a_crowd_that_comes_at_once_is_told_of_once() {
    let mut stage = Stage::new();
    let alice = stage.joins_as_viewer(1, "alice");
    stage.sees(&alice);
    for id in 2..100 {
        stage.joins(id, "bob");
    }
    assert_eq!(stage.sees(&alice), []);
    stage.passes(seconds(1));
    assert!(matches!(
        stage.sees(&alice).as_slice(),
        [Heard::Viewers(users)] if users.len() == 99
    ));
    stage.passes(seconds(10));
    assert_eq!(stage.sees(&alice), [], "nothing has changed");
}

#[test]
fn whoever_was_not_let_in_is_not_seen() {
    let mut stage = Stage::with(RoomConfig {
        max_members: 1,
        ..config()
    });
    let alice = stage.joins_as_viewer(1, "alice");
    stage.joins_as_viewer(2, "bob");
    stage.passes(seconds(1));
    assert_eq!(stage.sees(&alice), [viewers(&["alice"])]);
}
