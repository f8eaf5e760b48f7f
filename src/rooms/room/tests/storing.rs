//! Storing: one request at a time, nothing lost while the store is away, snapshots by policy, and rows of another process.

use super::*;

#[test]
fn one_request_is_under_way_and_what_comes_meanwhile_goes_with_the_next() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let mut bob = stage.joins(2, "bob");
    let first = alice.types("first");
    stage.edits(&alice, &first);
    assert_eq!(stage.append.as_ref().map(|append| append.updates.len()), Some(1));
    let second = alice.types("second");
    stage.edits(&alice, &second);
    let third = bob.types("third");
    stage.edits(&bob, &third);
    assert_eq!(stage.append.as_ref().map(|append| append.updates.len()), Some(1));
    stage.store_answers();
    assert!(stage.hears(&alice).contains(&Heard::Stored(first)));
    let append = stage.append.as_ref().expect("the next request");
    let users: Vec<_> = append.updates.iter().map(|row| row.user.as_deref()).collect();
    assert_eq!(users, [Some("alice"), Some("bob")]);
    stage.store_answers();
    assert_eq!(stage.hears(&alice), [Heard::Stored(second)]);
    assert!(stage.hears(&bob).contains(&Heard::Stored(third)));
}

#[test]
fn while_the_store_is_away_editing_goes_on_and_memory_grows_with_the_page_only() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let bob = stage.joins(2, "bob");
    let mut frames = 0;
    for _ in 0..8000 {
        let typed = alice.types("x");
        stage.edits(&alice, &typed);
        frames += typed.len() as u64;
    }
    assert_eq!(stage.hears(&bob).len(), 8000);
    assert_eq!(stage.hears(&alice), []);
    let unstored = stage.room.unstored_bytes();
    assert!(
        unstored < frames / 2,
        "{unstored} bytes wait for {frames} bytes of edits"
    );
    stage.store_answers_everything();
    assert_eq!(stage.stored_text(), alice.text());
    let acknowledged = stage.hears(&alice);
    let mut reader = Replica::new(ClientId(9));
    for heard in &acknowledged {
        if let Heard::Stored(update) = heard {
            reader.apply(update);
        }
    }
    assert_eq!(
        reader.text(),
        alice.text(),
        "everything is acknowledged in the end"
    );
}

#[test]
fn what_people_wrote_in_answer_to_each_other_while_the_store_was_away_can_be_loaded() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let mut bob = stage.joins(2, "bob");
    for _ in 0..300 {
        let typed = alice.types("a");
        stage.edits(&alice, &typed);
        let heard = stage.hears(&bob);
        bob.takes(&heard);
        let typed = bob.types("b");
        stage.edits(&bob, &typed);
        let heard = stage.hears(&alice);
        alice.takes(&heard);
    }
    stage.store_answers_everything();
    assert_eq!(alice.text(), "ab".repeat(300));
    assert_eq!(stage.stored_text(), alice.text());
}

#[test]
fn two_people_who_know_of_each_other_by_another_way_can_be_stored_in_one_batch() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let mut bob = stage.joins(2, "bob");
    let first = alice.types("1");
    bob.replica.apply(&first);
    let second = bob.types("2");
    alice.replica.apply(&second);
    let third = alice.types("3");
    for (person, typed) in [(&alice, &first), (&bob, &second), (&alice, &third)] {
        stage.says_without_settling(person, update(typed));
    }
    stage.settle();
    stage.store_answers_everything();
    assert_eq!(stage.stored_text(), "123");
}

#[test]
fn the_room_says_how_much_is_unstored() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    assert_eq!(stage.room.unstored_bytes(), 0);
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    let (held, noted) = (stage.room.unstored_bytes(), 16..1024);
    assert!(
        noted.contains(&(held - hello.len() as u64)),
        "an edit of {} bytes counts as {held}, with who wrote it",
        hello.len()
    );
    assert!(!stage.room.is_settled());
    stage.store_answers();
    assert_eq!(stage.room.unstored_bytes(), 0);
    assert!(stage.room.is_settled());
}

#[test]
fn a_snapshot_follows_the_first_unmerged_edit_by_the_interval() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    stage.store_answers();
    stage.passes(seconds(5) - millis(1));
    assert_eq!(stage.compaction, None);
    stage.passes(millis(1));
    assert!(stage.append.is_none());
    assert_eq!(stage.store_compacts().seq, 1);
    let snapshot = stage.store.snapshot(&stage.page).expect("a snapshot");
    assert_eq!((snapshot.seq, snapshot.text.as_str()), (1, "hello"));
    assert_eq!(stage.store.load(&stage.page).unwrap().log, []);
    stage.passes(seconds(60));
    assert_eq!(stage.compaction, None, "nothing has changed since");
    assert_eq!(stage.stored_text(), "hello");
}

#[test]
fn a_long_log_or_a_large_one_asks_for_a_snapshot_at_once() {
    for policy in [
        SnapshotPolicy {
            max_log_rows: 3,
            ..config().snapshots
        },
        SnapshotPolicy {
            max_log_bytes: 50,
            ..config().snapshots
        },
    ] {
        let mut stage = Stage::with(RoomConfig {
            snapshots: policy,
            ..config()
        });
        let mut alice = stage.joins(1, "alice");
        for _ in 0..10 {
            let typed = alice.types("0123456789");
            stage.edits(&alice, &typed);
            stage.store_answers_everything();
        }
        let stored = stage.store.load(&stage.page).unwrap();
        assert!(stored.snapshot.is_some(), "{policy:?}");
        assert!(stored.log.len() <= 3, "{policy:?}");
        assert_eq!(stage.stored_text(), alice.text());
    }
}

#[test]
fn a_snapshot_covers_only_rows_that_are_stored() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let first = alice.types("first ");
    stage.edits(&alice, &first);
    stage.store_answers();
    stage.passes(seconds(4));
    let second = alice.types("second");
    stage.edits(&alice, &second);
    // The interval ends while the second row is under way.
    stage.passes(seconds(3));
    assert_eq!(stage.compaction, None);
    stage.store_answers();
    assert_eq!(stage.store_compacts().seq, 2);
    assert_eq!(stage.stored_text(), "first second");
}

/// The store is asked to keep an edit together with the state of which a snapshot is to be made: what comes meanwhile is in no row
/// yet, and so in no snapshot.
#[test]
fn a_snapshot_holds_nothing_that_is_in_no_row() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let first = alice.types("first ");
    stage.edits(&alice, &first);
    stage.store_answers();
    stage.passes(seconds(4));
    let second = alice.types("second ");
    stage.edits(&alice, &second);
    stage.passes(seconds(3));
    // It goes with the next request, which is made when the second is stored.
    let third = alice.types("third");
    stage.edits(&alice, &third);
    stage.store_answers();
    assert_eq!(stage.compaction, None, "the third is in no row yet");
    let fourth = alice.types(" fourth");
    stage.edits(&alice, &fourth);
    stage.store_answers();
    assert_eq!(stage.store_compacts().seq, 3);
    let snapshot = stage.store.snapshot(&stage.page).expect("a snapshot");
    assert_eq!(snapshot.text, "first second third");
    stage.store_answers_everything();
    assert_eq!(stage.stored_text(), alice.text());
}

#[test]
fn edits_do_not_wait_for_a_snapshot_and_one_that_was_not_taken_stays_due() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let first = alice.types("first ");
    stage.edits(&alice, &first);
    stage.store_answers();
    stage.passes(seconds(5));
    let mut under_way = stage.compaction.clone().expect("a snapshot").seq;
    let second = alice.types("second");
    stage.edits(&alice, &second);
    stage.store_answers();
    assert!(stage.hears(&alice).contains(&Heard::Stored(second)));
    for pause in [1, 2, 4] {
        stage.compaction = None;
        stage.happens(Input::Compacted {
            seq: under_way,
            taken: false,
        });
        stage.passes(seconds(pause) - millis(1));
        assert_eq!(stage.compaction, None);
        stage.passes(millis(1));
        under_way = stage.compaction.as_ref().expect("a snapshot").seq;
        assert_eq!(under_way, 2);
    }
    stage.store_compacts();
    assert_eq!(stage.store.load(&stage.page).unwrap().log, []);
    stage.passes(seconds(60));
    assert_eq!(stage.compaction, None);
}

#[test]
fn what_was_stored_while_a_snapshot_was_written_is_in_the_next() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let first = alice.types("first ");
    stage.edits(&alice, &first);
    stage.store_answers();
    stage.passes(seconds(5));
    let second = alice.types("second");
    stage.edits(&alice, &second);
    stage.store_answers();
    assert_eq!(stage.store_compacts().seq, 1);
    assert_eq!(stage.store.load(&stage.page).unwrap().log.len(), 1);
    stage.passes(seconds(5));
    assert_eq!(stage.store_compacts().seq, 2);
    assert_eq!(stage.stored_text(), "first second");
}

/// Two servers on one store: what the other has stored waits for nothing of ours.
#[test]
fn whoever_joins_after_rows_of_another_process_is_answered_at_once() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let foreign = Replica::new(ClientId(50)).insert(0, "foreign ");
    stage.other_process_stores(&foreign);
    let mine = alice.types("mine");
    stage.edits(&alice, &mine);
    stage.store_answers();
    stage.reads_foreign();
    let bob = stage.arrives(2, "bob");
    stage.asks(&bob);
    let heard = stage.hears(&bob);
    assert!(matches!(heard[..], [Heard::Step2(_)]), "{heard:?}");
    assert!(stage.room.is_settled());
}

#[test]
fn rows_of_another_process_are_taken_in_told_and_not_stored_again() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let foreign = Replica::new(ClientId(50)).insert(0, "foreign ");
    stage.other_process_stores(&foreign);
    let mine = alice.types("mine");
    stage.edits(&alice, &mine);
    let committed = stage.store_answers();
    assert_eq!((committed.first_seq, committed.last_seq), (2, 2));
    assert_eq!(stage.hears(&alice), [Heard::Stored(mine)]);
    assert_eq!(stage.gaps, [(0, 3)]);
    stage.reads_foreign();
    assert_eq!(stage.hears(&alice), [Heard::Delta(foreign)]);
    assert!(stage.append.is_none());
    assert_eq!(stage.room.seq(), 2);
    stage.passes(seconds(6));
    stage.store_answers_everything();
    let stored = stage.store.load(&stage.page).unwrap();
    assert_eq!(
        (stored.log.len(), stored.snapshot.map(|snapshot| snapshot.seq)),
        (0, Some(2))
    );
    assert_eq!(stage.stored_text().len(), "foreign mine".len());
}

#[test]
fn while_rows_of_another_process_are_unread_no_snapshot_is_written() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let foreign = Replica::new(ClientId(50)).insert(0, "foreign");
    stage.other_process_stores(&foreign);
    let mine = alice.types("mine");
    stage.edits(&alice, &mine);
    stage.store_answers();
    stage.passes(seconds(60));
    assert!(stage.append.is_none());
    assert!(!stage.room.is_settled());
}

#[test]
fn a_second_hole_does_not_close_the_first() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let one = Replica::new(ClientId(50)).insert(0, "one ");
    stage.other_process_stores(&one);
    let first = alice.types("first ");
    stage.edits(&alice, &first);
    stage.store_answers();
    assert_eq!(stage.gaps.len(), 1);
    // The store fails just when the rows are to be read.
    stage.gaps.clear();
    let two = Replica::new(ClientId(51)).insert(0, "two ");
    stage.other_process_stores(&two);
    let second = alice.types("second ");
    stage.edits(&alice, &second);
    stage.store_answers();
    while !stage.gaps.is_empty() {
        stage.reads_foreign();
    }
    stage.passes(seconds(60));
    stage.store_answers_everything();
    let stored = stage.stored_text();
    for word in ["one ", "two ", "first ", "second "] {
        assert!(stored.contains(word), "{word:?} is lost: {stored:?}");
    }
}

#[test]
fn rows_that_could_not_be_read_are_asked_for_again() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let one = Replica::new(ClientId(50)).insert(0, "one ");
    stage.other_process_stores(&one);
    let first = alice.types("first ");
    stage.edits(&alice, &first);
    stage.store_answers();
    // The store fails just when the rows are to be read.
    stage.gaps.clear();
    stage.passes(seconds(2));
    assert!(!stage.gaps.is_empty(), "the rows must be read some time");
    stage.reads_foreign();
    assert!(stage.room.is_settled());
    let heard = stage.hears(&alice);
    assert!(heard.contains(&Heard::Delta(one)), "{heard:?}");
}

#[test]
fn a_batch_whose_answer_was_lost_is_stored_twice_and_harms_nothing() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    // The connection to the store breaks during the commit; the writer repeats the batch.
    let commit = stage.append.clone().expect("a request");
    stage.store.commit(SystemTime::UNIX_EPOCH, &[commit]).unwrap();
    let committed = stage.store_answers();
    assert_eq!(committed.first_seq, 2);
    assert_eq!(stage.hears(&alice), [Heard::Stored(hello)]);
    while !stage.gaps.is_empty() {
        stage.reads_foreign();
    }
    assert!(stage.room.is_settled());
    assert_eq!(stage.hears(&alice), []);
    assert_eq!(stage.stored_text(), "hello");
}
