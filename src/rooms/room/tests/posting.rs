//! Posting: what a backend hears of the updates that it adds.

use super::*;

impl Stage {
    fn posts(&mut self, request: u64, update: &Bytes) {
        self.hand_over(Input::Posted {
            request: RequestId(request),
            member: None,
            user: None,
            update: update.clone(),
            condition: Condition::Always,
        });
        self.settle();
    }
}

#[test]
fn a_backend_is_answered_and_members_are_told_after_the_commit() {
    let mut stage = Stage::new();
    let bob = stage.joins(2, "bob");
    let hello = Replica::new(ClientId(77)).insert(0, "hello");
    stage.posts(1, &hello);
    // It may have been Bob who wrote it.
    assert_eq!(stage.hears(&bob), []);
    assert_eq!(stage.answers, []);
    stage.store_answers();
    assert_eq!(stage.hears(&bob), [Heard::Delta(hello.clone())]);
    assert_eq!(stage.answers, [(RequestId(1), Ok(1))]);
    // What is known already is answered with where the page is.
    stage.posts(2, &hello);
    assert_eq!(stage.answers, [(RequestId(1), Ok(1)), (RequestId(2), Ok(1))]);
}

#[test]
fn a_repeated_update_is_answered_only_when_it_is_stored() {
    let mut stage = Stage::new();
    let hello = Replica::new(ClientId(77)).insert(0, "hello");
    stage.posts(1, &hello);
    stage.posts(2, &hello);
    assert_eq!(stage.answers, []);
    stage.store_answers();
    assert_eq!(stage.answers, [(RequestId(1), Ok(1)), (RequestId(2), Ok(1))]);
}

#[test]
fn an_update_that_builds_on_unknown_ones_is_stored_and_nonsense_is_malformed() {
    let mut stage = Stage::new();
    let mut author = Replica::new(ClientId(77));
    let first = author.insert(0, "first ");
    let early = author.insert(6, "early");
    stage.posts(1, &early);
    stage.posts(2, &Bytes::from_static(&[1]));
    assert_eq!(stage.answers, [(RequestId(2), Err(RefusalCode::Malformed))]);
    stage.store_answers_everything();
    assert_eq!(stage.answers.last(), Some(&(RequestId(1), Ok(1))));
    assert_eq!(stage.stored_text(), "");
    stage.posts(3, &first);
    stage.store_answers_everything();
    assert_eq!(stage.stored_text(), "first early");
}

#[test]
fn an_update_that_builds_on_unknown_ones_is_a_conflict_when_too_much_waits() {
    let mut config = config();
    config.gate.max_pending_bytes = 1;
    let mut stage = Stage::with(config);
    let mut author = Replica::new(ClientId(77));
    author.insert(0, "never posted");
    stage.posts(1, &author.insert(0, "early"));
    assert_eq!(stage.answers, [(RequestId(1), Err(RefusalCode::Conflict))]);
    assert!(stage.append.is_none());
}
