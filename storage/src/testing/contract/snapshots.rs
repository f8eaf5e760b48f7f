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
