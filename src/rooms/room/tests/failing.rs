//! A room whose document is not what is stored: what was admitted is stored and acknowledged, and everybody comes back to a room that is
//! rebuilt.

use super::*;

impl Stage {
    /// Another process has stored what cannot be read here.
    fn breaks(&mut self) {
        self.hand_over(Input::Remote {
            rows: vec![LoggedUpdate {
                seq: 1,
                data: Bytes::from_static(&[1, 1, 1]),
                user: None,
            }],
        });
        self.settle();
    }
}

#[test]
fn everybody_is_sent_away_to_come_back_to_a_room_that_is_rebuilt() {
    let mut stage = Stage::new();
    let alice = stage.joins(1, "alice");
    let bob = stage.joins(2, "bob");
    stage.breaks();
    assert_eq!(stage.hears(&alice), [Heard::Closed(RefusalCode::Unavailable)]);
    assert_eq!(stage.hears(&bob), [Heard::Closed(RefusalCode::Unavailable)]);
    assert!(stage.append.is_none());
    assert!(stage.retired);
}

#[test]
fn what_was_admitted_is_stored_and_acknowledged_before_everybody_is_sent_away() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    let more = alice.types(" more");
    stage.edits(&alice, &more);
    stage.breaks();
    assert_eq!(stage.hears(&alice), []);
    stage.store_answers_everything();
    assert_eq!(
        stage.hears(&alice),
        [
            Heard::Stored(hello),
            Heard::Stored(more),
            Heard::Closed(RefusalCode::Unavailable)
        ]
    );
    assert_eq!(stage.stored_text(), "hello more");
    assert!(stage.retired);
}

#[test]
fn what_waits_for_the_window_of_a_crowd_is_stored_as_well() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let crowd: Vec<Person> = (10..50).map(|id| stage.joins(id, "somebody")).collect();
    let first = alice.types("first ");
    stage.edits(&alice, &first);
    stage.store_answers();
    // In the window after the first flush an edit is admitted, and its repetition waits for its commit.
    let second = alice.types("second");
    stage.edits(&alice, &second);
    stage.edits(&alice, &second);
    stage.breaks();
    stage.passes(seconds(1));
    stage.store_answers_everything();
    for person in crowd.iter().chain([&alice]) {
        let heard = stage.hears(person);
        assert_eq!(heard.last(), Some(&Heard::Closed(RefusalCode::Unavailable)));
    }
    assert_eq!(stage.stored_text(), "first second");
    assert!(stage.retired);
}

#[test]
fn a_backend_gets_its_answer_before_the_room_goes() {
    let mut stage = Stage::new();
    let update = Replica::new(ClientId(77)).insert(0, "posted");
    stage.hand_over(Input::Posted {
        request: RequestId(1),
        member: None,
        user: None,
        update: update.clone(),
        condition: Condition::Always,
    });
    stage.breaks();
    assert!(!stage.retired);
    stage.store_answers();
    assert_eq!(stage.answers, [(RequestId(1), Ok(1))]);
    assert!(stage.retired);
    // A room that is about to be rebuilt takes nothing more.
    stage.hand_over(Input::Posted {
        request: RequestId(2),
        member: None,
        user: None,
        update,
        condition: Condition::Always,
    });
    stage.settle();
    assert_eq!(
        stage.answers.last(),
        Some(&(RequestId(2), Err(RefusalCode::Unavailable)))
    );
}

#[test]
fn who_joins_a_failed_room_is_asked_to_come_back() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    stage.breaks();
    let bob = stage.enters(2, Role::Edit, Some("bob"));
    assert_eq!(stage.hears(&bob), [Heard::Closed(RefusalCode::Unavailable)]);
}

#[test]
fn a_failed_room_writes_no_snapshot() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    stage.store_answers();
    stage.breaks();
    stage.passes(seconds(60));
    assert!(stage.append.is_none());
    assert_eq!(stage.compaction, None);
    assert_eq!(stage.stored_text(), "hello");
}

#[test]
fn a_document_that_cannot_wake_is_no_fault_of_who_edits_it() {
    let mut stage = Stage::new();
    let state = Replica::new(ClientId(77)).insert(0, "kept");
    // The state vector says that there is more.
    let document = Document::asleep(stage.config.gate, state, &[1, 77, 9]).unwrap();
    let mut loaded = load(&stage.store, &stage.page, &stage.config, stage.now);
    loaded.document = document;
    stage.room = Room::new(stage.now, stage.page.clone(), stage.config.clone(), loaded);
    let mut alice = stage.arrives(1, "alice");
    let bob = stage.arrives(2, "bob");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    assert!(stage.failed);
    for person in [&alice, &bob] {
        assert_eq!(stage.hears(person), [Heard::Closed(RefusalCode::Unavailable)]);
    }
}

#[test]
fn a_room_whose_page_was_purged_meanwhile_ends_without_acknowledging_or_storing_anything() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let old = alice.types("old");
    stage.edits(&alice, &old);
    stage.store_answers_everything();
    stage.hears(&alice);
    // Another process has purged the page; another one begins with what is typed next.
    let page = stage.page.clone();
    assert!(stage.store.set_deleted(&page, Some(SystemTime::UNIX_EPOCH)));
    assert!(stage.store.purge(&page));
    let next = alice.types(" next");
    stage.edits(&alice, &next);
    stage.store_answers();
    assert_eq!(stage.hears(&alice), [Heard::Closed(RefusalCode::Unavailable)]);
    assert!(stage.append.is_none() && stage.compaction.is_none() && stage.retired);
    assert!(stage.store.page(&page).is_none());
}
