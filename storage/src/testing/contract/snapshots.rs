//! What becomes of snapshots, and of the rows that they cover.

use bytes::Bytes;
use serde_json::json;

use super::{Place, append, commit_one, compact, page, snapshot, stored};
use crate::{Committed, Compaction, Seq, Snapshot};

pub async fn a_snapshot_swallows_exactly_the_rows_it_covers(place: &dyn Place) {
    let store = place.open().await;
    store
        .commit(&[append("p", [b"1", b"2", b"3"]), append("q", [b"x", b"y"])])
        .await
        .unwrap();
    assert_eq!(
        compact(&store, "p", snapshot(2, b"12")).await,
        Compaction::Compacted
    );
    assert_eq!(
        stored(&store, "p").await,
        (2, b"12".to_vec(), vec![(3, b"3".to_vec())])
    );
    assert_eq!(
        stored(&store, "q").await,
        (0, Vec::new(), vec![(1, b"x".to_vec()), (2, b"y".to_vec())])
    );
    let answer = commit_one(&store, append("p", [b"4"])).await;
    assert_eq!((answer.first_seq, answer.last_seq), (4, 4));
    // Two pages at once.
    tokio::join!(
        compact(&store, "q", snapshot(1, b"x")),
        compact(&store, "p", snapshot(4, b"1234"))
    );
    assert_eq!(stored(&store, "p").await, (4, b"1234".to_vec(), vec![]));
    assert_eq!(
        stored(&store, "q").await,
        (1, b"x".to_vec(), vec![(2, b"y".to_vec())])
    );
    assert_eq!(
        store.snapshot(&page("p")).await.unwrap().unwrap(),
        snapshot(4, b"1234")
    );
}

pub async fn a_snapshot_that_covers_no_more_is_passed_over(place: &dyn Place) {
    let store = place.open().await;
    commit_one(&store, append("p", [b"1", b"2", b"3"])).await;
    assert_eq!(
        compact(&store, "p", snapshot(0, b"of nothing")).await,
        Compaction::Passed
    );
    assert!(store.snapshot(&page("p")).await.unwrap().is_none());
    compact(&store, "p", snapshot(2, b"first")).await;
    for seq in [0, 1, 2] {
        assert_eq!(
            compact(&store, "p", snapshot(seq, b"late")).await,
            Compaction::Passed
        );
        assert_eq!(
            stored(&store, "p").await,
            (2, b"first".to_vec(), vec![(3, b"3".to_vec())])
        );
    }
    assert_eq!(
        store.snapshot(&page("p")).await.unwrap().unwrap(),
        snapshot(2, b"first")
    );
}

pub async fn a_snapshot_beyond_the_log_is_passed_over(place: &dyn Place) {
    let store = place.open().await;
    commit_one(&store, append("p", [b"1"])).await;
    for seq in [2, Seq::MAX] {
        assert_eq!(
            compact(&store, "p", snapshot(seq, b"wrong")).await,
            Compaction::Passed
        );
        assert_eq!(
            stored(&store, "p").await,
            (0, Vec::new(), vec![(1, b"1".to_vec())])
        );
    }
}

pub async fn a_snapshot_of_a_page_that_was_never_stored_is_passed_over(place: &dyn Place) {
    let store = place.open().await;
    for seq in [0, 1] {
        assert_eq!(
            compact(&store, "p", snapshot(seq, b"s")).await,
            Compaction::Passed
        );
    }
    assert!(store.load(&page("p")).await.unwrap().is_none());
    assert!(store.snapshot(&page("p")).await.unwrap().is_none());
}

pub async fn what_is_committed_alone_is_stored_like_anything_else(place: &dyn Place) {
    let store = place.open().await;
    commit_one(&store, append("p", [b"1"])).await;
    let large = vec![7; 40 << 20];
    let answer = store.commit_alone(&append("p", [&large])).await.unwrap();
    assert_eq!((answer.first_seq, answer.last_seq), (2, 2));
    assert_eq!(commit_one(&store, append("p", [b"3"])).await.first_seq, 3);
    let nothing = store.commit_alone(&append::<&[u8]>("q", [])).await.unwrap();
    assert_eq!(nothing, Committed::nothing());
    let log = stored(&store, "p").await.2;
    assert!(log == [(1, b"1".to_vec()), (2, large), (3, b"3".to_vec())]);
}

pub async fn no_content_makes_a_snapshot_unstorable(place: &dyn Place) {
    let store = place.open().await;
    let deep = |levels: usize| (0..levels).fold(json!("bottom"), |inner, _| json!({ "deeper": inner }));
    let cases = [
        (
            json!({ "a\0b": ["x\0", "\\u0000", "\u{1}"] }),
            json!({ "a\u{fffd}b": ["x\u{fffd}", "\\u0000", "\u{1}"] }),
        ),
        (
            json!({ "n": [0, -1, 1.5, 1e300, u64::MAX, i64::MIN] }),
            json!({ "n": [0, -1, 1.5, 1e300, u64::MAX, i64::MIN] }),
        ),
        (
            json!({ "": "\u{10ffff}\u{2028}\u{fffe} \"quoted\" 'single'" }),
            json!({ "": "\u{10ffff}\u{2028}\u{fffe} \"quoted\" 'single'" }),
        ),
        (deep(100), deep(100)),
        (deep(101), json!(null)),
        (json!(null), json!(null)),
    ];
    for (n, (content, kept)) in (1..).zip(cases) {
        let text = "nul \0, quotes '\"\\, \u{10ffff}".to_owned();
        commit_one(&store, append("p", [b"row"])).await;
        let kept_as = Snapshot {
            content,
            text,
            ..snapshot(n, b"\0state")
        };
        compact(&store, "p", kept_as).await;
        let read = store.snapshot(&page("p")).await.unwrap().unwrap();
        assert_eq!(
            (read.seq, &read.state[..], read.content),
            (n, &b"\0state"[..], kept)
        );
        assert_eq!(read.text, "nul \u{fffd}, quotes '\"\\, \u{10ffff}");
    }
    // Nothing at all in it.
    let empty = Snapshot {
        state: Bytes::new(),
        state_vector: Bytes::new(),
        text: String::new(),
        ..snapshot(1, b"")
    };
    commit_one(&store, append("q", [b""])).await;
    compact(&store, "q", empty.clone()).await;
    assert_eq!(store.snapshot(&page("q")).await.unwrap(), Some(empty));
}

/// Bytes of every kind, in no order.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..length).map(|_| next()).collect()
}

pub async fn what_is_many_megabytes_long_comes_out_as_it_went_in(place: &dyn Place) {
    let store = place.open().await;
    let rows = [
        noise(3_500_000, 1),
        b"short".to_vec(),
        noise((1 << 20) + 1, 2),
        noise(1 << 21, 3),
    ];
    let logged = |from: Seq, rows: &[Vec<u8>]| -> Vec<_> { (from..).zip(rows.iter().cloned()).collect() };
    commit_one(&store, append("p", &rows[..2])).await;
    let answer = store.commit_alone(&append("p", &rows[2..])).await.unwrap();
    assert_eq!((answer.first_seq, answer.last_seq), (3, 4));
    assert!(stored(&store, "p").await == (0, Vec::new(), logged(1, &rows)));
    let read = store.log(&page("p"), 1, 2).await.unwrap().unwrap();
    let read: Vec<_> = read.into_iter().map(|row| (row.seq, row.data.to_vec())).collect();
    assert!(read == logged(2, &rows[1..3]));

    // Twice: the first state becomes one to begin from.
    let states = [noise(4_000_000, 4), noise(6_000_000, 5)];
    compact(&store, "p", snapshot(3, &states[0])).await;
    assert!(stored(&store, "p").await == (3, states[0].clone(), logged(4, &rows[3..])));
    commit_one(&store, append("p", [b"last"])).await;
    compact(&store, "p", snapshot(5, &states[1])).await;
    assert!(stored(&store, "p").await == (5, states[1].clone(), Vec::new()));
    let kept = store.snapshot(&page("p")).await.unwrap().unwrap();
    assert!(kept.state == states[1]);

    let past = store.past(&page("p"), 0, 3).await.unwrap().unwrap();
    let read: Vec<_> = past.rows.iter().map(|row| (row.seq, row.data.to_vec())).collect();
    assert!(past.base.is_none() && read == logged(1, &rows[..3]));
    let past = store.past(&page("p"), 3, 5).await.unwrap().unwrap();
    let read: Vec<_> = past.rows.iter().map(|row| (row.seq, row.data.to_vec())).collect();
    assert!(past.base.is_some_and(|base| base == states[0]));
    assert!(read == [(4, rows[3].clone()), (5, b"last".to_vec())]);
    let changes = store.changes(&page("p"), 0, 10).await.unwrap().unwrap();
    let lengths: Vec<_> = changes.rows.iter().map(|change| change.bytes).collect();
    let expected: Vec<_> = rows.iter().map(|row| row.len() as u64).chain([4]).collect();
    assert_eq!(lengths, expected);
    let record = store.history(&page("p")).await.unwrap();
    let all = expected.iter().sum::<u64>() + states[0].len() as u64;
    assert!((all..all + 1000).contains(&record.bytes), "{record:?} of {all}");

    // What is forgotten weighs nothing any more.
    store.forget_history(&page("p"), 3).await.unwrap();
    let record = store.history(&page("p")).await.unwrap();
    let left = states[0].len() as u64 + rows[3].len() as u64;
    assert!(
        (left..left + 1000).contains(&record.bytes),
        "{record:?} of {left}"
    );
    assert!(stored(&store, "p").await == (5, states[1].clone(), Vec::new()));
}
