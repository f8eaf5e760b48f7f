//! Marks are said back when all that was said before them is stored, and never for what is not.

use super::*;

impl Stage {
    fn marks(&mut self, person: &Person, mark: &'static [u8]) {
        self.says(person, ClientMessage::Mark(Bytes::from_static(mark)));
    }

    /// Answers the room's first question with what somebody has.
    pub(super) fn resyncs(&mut self, person: &Person) {
        let all = person.replica.diff(&StateVector::new());
        self.says(person, ClientMessage::SyncStep2(all));
    }
}

fn mark(mark: &'static [u8]) -> Heard {
    Heard::Mark(Bytes::from_static(mark))
}

#[test]
fn a_mark_waits_for_the_commit_and_only_the_last_one_is_said_back() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    stage.resyncs(&alice);
    stage.marks(&alice, b"0");
    assert_eq!(stage.hears(&alice), [mark(b"0")], "nothing has to be stored");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    stage.marks(&alice, b"1");
    stage.marks(&alice, b"2");
    stage.passes(seconds(10));
    assert_eq!(stage.hears(&alice), [], "however late the store is");
    stage.store_answers();
    assert_eq!(stage.hears(&alice), [Heard::Stored(hello), mark(b"2")]);
}

#[test]
fn a_mark_waits_for_what_the_member_has_from_before() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    alice.types("written offline");
    stage.marks(&alice, b"1");
    assert_eq!(stage.hears(&alice), []);
    stage.resyncs(&alice);
    assert_eq!(stage.hears(&alice), []);
    stage.store_answers();
    assert!(stage.hears(&alice).contains(&mark(b"1")));
}

#[test]
fn a_mark_waits_for_what_is_parked() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    stage.resyncs(&alice);
    let first = alice.types("1");
    let second = alice.types("2");
    stage.edits(&alice, &second);
    stage.marks(&alice, b"2");
    stage.hears(&alice);
    stage.edits(&alice, &first);
    assert_eq!(stage.hears(&alice), []);
    stage.store_answers_everything();
    assert!(stage.hears(&alice).contains(&mark(b"2")));
}

#[test]
fn nothing_is_vouched_for_after_a_refusal_until_the_member_has_been_asked_again() {
    let mut stage = Stage::new();
    let mut alice = stage.enters(1, Role::View, Some("alice"));
    stage.hears(&alice);
    stage.resyncs(&alice);
    stage.marks(&alice, b"0");
    assert_eq!(stage.hears(&alice), [mark(b"0")]);
    let refused = alice.types("refused");
    stage.edits(&alice, &refused);
    stage.marks(&alice, b"1");
    assert_eq!(stage.hears(&alice), [Heard::Refused(RefusalCode::ReadOnly)]);
    stage.happens(Input::RoleChanged {
        member: alice.member,
        role: Role::Edit,
    });
    stage.hears(&alice);
    stage.resyncs(&alice);
    stage.store_answers();
    assert!(stage.hears(&alice).contains(&mark(b"1")));
}
