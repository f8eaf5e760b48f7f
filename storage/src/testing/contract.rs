//! The promises of a store, each as a test that any store can be put through with [`store_contract!`](crate::store_contract).

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]
#![expect(missing_docs, reason = "the name of a promise says it")]

use std::{
    collections::BTreeSet,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;

use crate::{
    Committed, NewUpdate, PageCommit, PageId, QUARANTINE_ROWS, Seq, SharedStore, Snapshot, StoreOptions, open,
};

/// An empty database of a test's own, which can be opened more than once.
#[async_trait]
pub trait Place: Send + Sync {
    /// Opens another store on the same database, as another process would.
    async fn open(&self) -> SharedStore;

    /// Removes the database after a test that succeeded, where that does not happen by itself.
    async fn remove(&self) {}
}

/// The memory of this process: every opening is the same store.
#[derive(Default)]
pub struct MemoryPlace(Arc<crate::MemoryStore>);

#[async_trait]
impl Place for MemoryPlace {
    async fn open(&self) -> SharedStore {
        Arc::clone(&self.0) as SharedStore
    }
}

/// A database at a `DATABASE_URL`.
pub struct UrlPlace(pub String);

#[async_trait]
impl Place for UrlPlace {
    async fn open(&self) -> SharedStore {
        open(&self.0, &StoreOptions::default()).await.unwrap()
    }
}

/// Makes one test of each promise. The argument is an async expression that gives an `Option` of a [`Place`]; `None` skips.
#[macro_export]
macro_rules! store_contract {
    ($place:expr) => {
        $crate::store_contract! { $place;
            what_was_never_stored_is_none_and_asking_writes_nothing
            rows_are_numbered_from_one_and_come_back_as_they_were
            answers_come_in_the_order_of_the_batch
            a_page_twice_in_a_batch_is_refused_and_nothing_is_stored
            a_batch_larger_than_a_statement_is_stored_whole
            a_generation_stays_and_differs_between_pages
            a_snapshot_swallows_exactly_the_rows_it_covers
            a_snapshot_that_covers_no_more_is_passed_over
            a_snapshot_beyond_the_log_is_passed_over
            rows_of_an_entry_come_before_its_snapshot
            an_entry_without_rows_for_an_unknown_page_writes_nothing
            a_log_is_read_in_parts_and_none_where_a_snapshot_swallowed_it
            pages_are_listed_bytewise_by_prefix_and_in_parts
            sizes_and_times_are_those_of_the_last_rows
            no_content_makes_a_snapshot_unstorable
            what_was_committed_is_there_after_reopening
            two_stores_append_to_one_page_without_holes
            two_stores_compact_one_page_and_lose_nothing
            two_stores_write_the_same_pages_in_any_order_without_deadlock
            a_cancelled_commit_is_stored_whole_or_not_at_all
            quarantine_and_check_work
        }
    };
    ($place:expr; $($promise:ident)*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $promise() {
            if let Some(place) = $place.await {
                $crate::testing::contract::$promise(&place).await;
                $crate::testing::contract::Place::remove(&place).await;
            }
        }
    )* };
}

/// A page id.
pub fn page(id: &str) -> PageId {
    PageId::new(id).unwrap()
}

/// An update with these bytes, of nobody.
pub fn update(data: impl AsRef<[u8]>) -> NewUpdate {
    NewUpdate {
        data: Bytes::copy_from_slice(data.as_ref()),
        user: None,
    }
}

/// An entry of a batch that appends these rows to a page.
pub fn append<D: AsRef<[u8]>>(id: &str, rows: impl IntoIterator<Item = D>) -> PageCommit {
    PageCommit {
        page: page(id),
        updates: rows.into_iter().map(update).collect(),
        snapshot: None,
        size_bytes: None,
    }
}

/// A snapshot with these bytes that covers the log up to `seq`.
pub fn snapshot(seq: Seq, state: impl AsRef<[u8]>) -> Snapshot {
    Snapshot {
        seq,
        state: Bytes::copy_from_slice(state.as_ref()),
        state_vector: Bytes::from_static(&[9, 9]),
        content: json!({ "covered": seq }),
        text: format!("up to {seq}"),
    }
}

/// An entry of a batch that writes a snapshot of a page.
pub fn compact(id: &str, snapshot: Snapshot) -> PageCommit {
    PageCommit {
        page: page(id),
        updates: Vec::new(),
        snapshot: Some(snapshot),
        size_bytes: None,
    }
}

async fn commit_one(store: &SharedStore, entry: PageCommit) -> Committed {
    store.commit(&[entry]).await.unwrap().remove(0)
}

/// What a page is stored as: the number that its snapshot covers, the snapshot's state, and the rows behind it.
async fn stored(store: &SharedStore, id: &str) -> (Seq, Vec<u8>, Vec<(Seq, Vec<u8>)>) {
    let stored = store.load(&page(id)).await.unwrap().unwrap();
    let (covered, state) = stored
        .snapshot
        .map_or((0, Vec::new()), |s| (s.seq, s.state.to_vec()));
    (
        covered,
        state,
        stored
            .log
            .into_iter()
            .map(|row| (row.seq, row.data.to_vec()))
            .collect(),
    )
}

async fn listed(store: &SharedStore, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    let records = store.pages(prefix, after, limit).await.unwrap();
    records
        .into_iter()
        .map(|record| record.page.as_str().to_owned())
        .collect()
}

pub async fn what_was_never_stored_is_none_and_asking_writes_nothing(place: &dyn Place) {
    let store = place.open().await;
    assert!(store.load(&page("p")).await.unwrap().is_none());
    assert!(store.page(&page("p")).await.unwrap().is_none());
    assert!(store.snapshot(&page("p")).await.unwrap().is_none());
    assert_eq!(store.log(&page("p"), 0, 10).await.unwrap(), Some(Vec::new()));
    assert_eq!(store.commit(&[]).await.unwrap(), []);
    assert!(listed(&store, "", None, 10).await.is_empty());
}

pub async fn rows_are_numbered_from_one_and_come_back_as_they_were(place: &dyn Place) {
    let store = place.open().await;
    let large: Vec<u8> = (0..5_000_000_u32)
        .map(|n| n.to_le_bytes()[usize::from(n % 3 == 0)])
        .collect();
    let all_bytes: Vec<u8> = (0..=255).collect();
    let mut entry = append("p", [&all_bytes[..], b"", &large]);
    entry.updates[0].user = Some("zoë \"quoted\" \\ \u{10ffff}".into());
    entry.updates[1].user = Some("with\0nul".into());
    let first = commit_one(&store, entry).await;
    assert_eq!((first.first_seq, first.last_seq), (1, 3));
    let second = commit_one(&store, append("p", [b"four"])).await;
    assert_eq!((second.first_seq, second.last_seq), (4, 4));

    let loaded = store.load(&page("p")).await.unwrap().unwrap();
    assert!(loaded.snapshot.is_none());
    assert_eq!(
        loaded.log.iter().map(|row| row.seq).collect::<Vec<_>>(),
        [1, 2, 3, 4]
    );
    let data: Vec<&[u8]> = loaded.log.iter().map(|row| &*row.data).collect();
    assert_eq!(data, [&all_bytes[..], b"", &large, b"four"]);
    let users: Vec<Option<&str>> = loaded.log.iter().map(|row| row.user.as_deref()).collect();
    assert_eq!(
        users,
        [
            Some("zoë \"quoted\" \\ \u{10ffff}"),
            Some("with\u{fffd}nul"),
            None,
            None
        ]
    );

    // Only empty rows in a batch, and none at all.
    let empty = commit_one(&store, append("p", [b""])).await;
    assert_eq!((empty.first_seq, empty.last_seq), (5, 5));
    let nothing = commit_one(&store, append::<&[u8]>("p", [])).await;
    assert_eq!((nothing.first_seq, nothing.last_seq), (6, 5));
}

pub async fn answers_come_in_the_order_of_the_batch(place: &dyn Place) {
    let store = place.open().await;
    // More pages than a row buffer holds, with ids that sort differently from the batch.
    let ids: Vec<String> = (0..1_500)
        .map(|n| format!("{:04}-'\"%\\/é", (n * 7) % 1_500))
        .collect();
    let batch: Vec<PageCommit> = ids
        .iter()
        .enumerate()
        .map(|(n, id)| append(id, vec![id; n % 3 + 1]))
        .collect();
    for round in 0..2 {
        let answers = store.commit(&batch).await.unwrap();
        for (n, answer) in answers.iter().enumerate() {
            let rows = n as Seq % 3 + 1;
            assert_eq!(
                (answer.first_seq, answer.last_seq),
                (round * rows + 1, (round + 1) * rows),
                "{}",
                ids[n]
            );
        }
    }
    let (_, _, log) = stored(&store, &ids[4]).await;
    assert_eq!(
        log,
        (1..=4)
            .map(|seq| (seq, ids[4].clone().into_bytes()))
            .collect::<Vec<_>>()
    );
}

pub async fn a_page_twice_in_a_batch_is_refused_and_nothing_is_stored(place: &dyn Place) {
    let store = place.open().await;
    let error = store
        .commit(&[append("a", [b"1"]), append("b", [b"2"]), append("a", [b"3"])])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), "statement");
    assert!(listed(&store, "", None, 10).await.is_empty());
}

pub async fn a_batch_larger_than_a_statement_is_stored_whole(place: &dyn Place) {
    let store = place.open().await;
    let large = vec![5; 12 << 20];
    commit_one(&store, append("a", [b"first"])).await;
    let mut compacted = append("a", [&large[..], &large]);
    compacted.snapshot = Some(snapshot(2, &large));
    let answers = store
        .commit(&[append("b", [&large[..], b"small", &large]), compacted])
        .await
        .unwrap();
    assert_eq!((answers[0].first_seq, answers[0].last_seq), (1, 3));
    assert_eq!((answers[1].first_seq, answers[1].last_seq), (2, 3));
    let (covered, state, log) = stored(&store, "a").await;
    assert_eq!((covered, state == large), (2, true));
    assert!(log == [(3, large.clone())]);
    let (_, _, log) = stored(&store, "b").await;
    assert!(log == [(1, large.clone()), (2, b"small".to_vec()), (3, large)]);
}

pub async fn a_generation_stays_and_differs_between_pages(place: &dyn Place) {
    let store = place.open().await;
    let first = commit_one(&store, append("a", [b"1"])).await.generation;
    assert!(!first.0.is_empty() && first.0.len() <= 32 && first.0.is_ascii());
    assert_eq!(commit_one(&store, append("a", [b"2"])).await.generation, first);
    assert_eq!(
        commit_one(&store, compact("a", snapshot(1, b"s")))
            .await
            .generation,
        first
    );
    assert_eq!(store.page(&page("a")).await.unwrap().unwrap().generation, first);
    assert_eq!(
        store.load(&page("a")).await.unwrap().unwrap().record.generation,
        first
    );
    assert_ne!(commit_one(&store, append("b", [b"1"])).await.generation, first);
}

pub async fn a_snapshot_swallows_exactly_the_rows_it_covers(place: &dyn Place) {
    let store = place.open().await;
    store
        .commit(&[append("p", [b"1", b"2", b"3"]), append("q", [b"x", b"y"])])
        .await
        .unwrap();
    let answer = commit_one(&store, compact("p", snapshot(2, b"12"))).await;
    assert_eq!((answer.first_seq, answer.last_seq), (4, 3));
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
    // Two pages compacted together.
    store
        .commit(&[
            compact("q", snapshot(1, b"x")),
            compact("p", snapshot(4, b"1234")),
        ])
        .await
        .unwrap();
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
    commit_one(&store, compact("p", snapshot(0, b"of nothing"))).await;
    assert!(store.snapshot(&page("p")).await.unwrap().is_none());
    commit_one(&store, compact("p", snapshot(2, b"first"))).await;
    for seq in [0, 1, 2] {
        commit_one(&store, compact("p", snapshot(seq, b"late"))).await;
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
        commit_one(&store, compact("p", snapshot(seq, b"wrong"))).await;
        assert_eq!(
            stored(&store, "p").await,
            (0, Vec::new(), vec![(1, b"1".to_vec())])
        );
    }
}

pub async fn rows_of_an_entry_come_before_its_snapshot(place: &dyn Place) {
    let store = place.open().await;
    let mut entry = append("p", [b"1", b"2"]);
    entry.snapshot = Some(snapshot(1, b"s1"));
    let answer = commit_one(&store, entry).await;
    assert_eq!((answer.first_seq, answer.last_seq), (1, 2));
    assert_eq!(
        stored(&store, "p").await,
        (1, b"s1".to_vec(), vec![(2, b"2".to_vec())])
    );
    let mut entry = append("p", [b"3"]);
    entry.snapshot = Some(snapshot(3, b"s3"));
    commit_one(&store, entry).await;
    assert_eq!(stored(&store, "p").await, (3, b"s3".to_vec(), vec![]));
}

pub async fn an_entry_without_rows_for_an_unknown_page_writes_nothing(place: &dyn Place) {
    let store = place.open().await;
    let mut sized = append::<&[u8]>("q", []);
    sized.size_bytes = Some(7);
    let batch = [compact("p", snapshot(0, b"s")), sized, append("r", [b"1"])];
    let answers = store.commit(&batch).await.unwrap();
    assert_eq!(answers[..2], [Committed::nothing(), Committed::nothing()]);
    assert_eq!(answers[2].last_seq, 1);
    assert_eq!(listed(&store, "", None, 10).await, ["r"]);
    assert!(store.snapshot(&page("p")).await.unwrap().is_none());
}

pub async fn a_log_is_read_in_parts_and_none_where_a_snapshot_swallowed_it(place: &dyn Place) {
    let store = place.open().await;
    commit_one(&store, append("p", [b"1", b"2", b"3", b"4", b"5"])).await;
    commit_one(&store, compact("p", snapshot(2, b"12"))).await;
    let log = async |after, limit| {
        let rows = store.log(&page("p"), after, limit).await.unwrap();
        rows.map(|rows| {
            rows.into_iter()
                .map(|row| (row.seq, row.data.to_vec()))
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(log(0, 10).await, None);
    assert_eq!(log(1, 10).await, None);
    assert_eq!(
        log(2, 2).await,
        Some(vec![(3, b"3".to_vec()), (4, b"4".to_vec())])
    );
    assert_eq!(log(4, 2).await, Some(vec![(5, b"5".to_vec())]));
    assert_eq!(log(5, 2).await, Some(vec![]));
    assert_eq!(log(9, usize::MAX).await, Some(vec![]));
}

pub async fn pages_are_listed_bytewise_by_prefix_and_in_parts(place: &dyn Place) {
    let store = place.open().await;
    let longest = "é".repeat(127);
    let mut ids = [
        "a",
        "a b",
        "a/b",
        "a_b",
        "aB",
        "ab",
        "ab%",
        "é",
        "éa",
        "\u{ffff}z",
        "\u{10ffff}",
        "\u{10ffff}z",
    ]
    .map(str::to_owned)
    .to_vec();
    ids.push(longest.clone());
    let batch: Vec<PageCommit> = ids.iter().rev().map(|id| append(id, [id])).collect();
    store.commit(&batch).await.unwrap();
    ids.sort_unstable();
    assert_eq!(listed(&store, "", None, usize::MAX).await, ids);

    let mut parts = Vec::new();
    while let part = listed(&store, "", parts.last().map(String::as_str), 3).await
        && !part.is_empty()
    {
        parts.extend(part);
    }
    assert_eq!(parts, ids);

    let with = |prefix: &str| {
        ids.iter()
            .filter(|id| id.starts_with(prefix))
            .cloned()
            .collect::<Vec<_>>()
    };
    for prefix in [
        "a",
        "ab",
        "a_",
        "ab%",
        "%",
        "é",
        "éé",
        "\u{10ffff}",
        "z",
        "a\0",
        "\u{ffff}",
        &longest,
    ] {
        assert_eq!(
            listed(&store, prefix, None, 100).await,
            with(prefix),
            "{prefix:?}"
        );
    }
    assert_eq!(listed(&store, "a", Some("a/b"), 2).await, ["aB", "a_b"]);
    assert_eq!(listed(&store, "b", Some("a"), 9).await, Vec::<String>::new());
    assert_eq!(listed(&store, "ab", Some("a"), 9).await, ["ab", "ab%"]);
    assert_eq!(listed(&store, "ab", Some("b"), 9).await, Vec::<String>::new());
    assert_eq!(listed(&store, "a", Some("ab\0nul"), 9).await, ["ab%"]);
    assert_eq!(listed(&store, "a", None, 0).await, Vec::<String>::new());
}

pub async fn sizes_and_times_are_those_of_the_last_rows(place: &dyn Place) {
    let store = place.open().await;
    let record = async || store.page(&page("p")).await.unwrap().unwrap();
    commit_one(&store, append("p", [b"1"])).await;
    let first = record().await;
    assert_eq!((first.seq, first.size_bytes), (1, 0));
    assert_eq!(first.created_at, first.updated_at);

    let mut entry = append("p", [b"2"]);
    entry.size_bytes = Some(5_000_000_000);
    commit_one(&store, entry).await;
    commit_one(&store, append("p", [b"3"])).await;
    let second = record().await;
    assert_eq!(
        (second.seq, second.size_bytes, second.created_at),
        (3, 5_000_000_000, first.created_at)
    );
    assert!(second.updated_at >= first.updated_at);

    // A snapshot may correct the size; it is not an edit.
    let mut entry = compact("p", snapshot(3, b"s"));
    entry.size_bytes = Some(3);
    commit_one(&store, entry).await;
    let third = record().await;
    assert_eq!((third.size_bytes, third.updated_at), (3, second.updated_at));
    assert_eq!(store.load(&page("p")).await.unwrap().unwrap().record, third);
    assert_eq!(store.pages("p", None, 1).await.unwrap(), [third]);
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
        let mut entry = append("p", [b"row"]);
        let text = "nul \0, quotes '\"\\, \u{10ffff}".to_owned();
        entry.snapshot = Some(Snapshot {
            content,
            text,
            ..snapshot(n, b"\0state")
        });
        commit_one(&store, entry).await;
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
    let mut entry = append("q", [b""]);
    entry.snapshot = Some(empty.clone());
    commit_one(&store, entry).await;
    assert_eq!(store.snapshot(&page("q")).await.unwrap(), Some(empty));
}

pub async fn what_was_committed_is_there_after_reopening(place: &dyn Place) {
    let store = place.open().await;
    commit_one(&store, append("p", [b"1", b"2"])).await;
    let before = commit_one(&store, compact("p", snapshot(1, b"s"))).await;
    store.close().await;
    let store = place.open().await;
    assert_eq!(
        stored(&store, "p").await,
        (1, b"s".to_vec(), vec![(2, b"2".to_vec())])
    );
    let after = commit_one(&store, append("p", [b"3"])).await;
    assert_eq!((after.generation, after.first_seq), (before.generation, 3));
}

pub async fn two_stores_append_to_one_page_without_holes(place: &dyn Place) {
    let writer = async |store: SharedStore, name: &'static str| {
        let mut numbers = Vec::new();
        for n in 0..40_usize {
            let rows = n % 3 + 1;
            let answer = commit_one(&store, append("p", vec![name; rows])).await;
            assert_eq!(answer.last_seq + 1 - answer.first_seq, rows as Seq);
            numbers.extend(answer.first_seq..=answer.last_seq);
        }
        numbers
    };
    let (alice, bob) = (place.open().await, place.open().await);
    let (a, b) = tokio::join!(writer(Arc::clone(&alice), "alice"), writer(bob, "bob"));
    let (_, _, log) = stored(&alice, "p").await;
    let of = |name: &str| {
        log.iter()
            .filter(|(_, data)| data == name.as_bytes())
            .map(|(seq, _)| *seq)
            .collect::<Vec<_>>()
    };
    assert_eq!((of("alice"), of("bob")), (a, b));
    assert!(log.iter().map(|(seq, _)| *seq).eq(1..=160 - 2));
}

/// Two processes append rows with a letter of their own each and merge what they see. The merged state is the rows in a
/// sorted list, so a row that is lost or swallowed unmerged is missing at the end.
pub async fn two_stores_compact_one_page_and_lose_nothing(place: &dyn Place) {
    fn merged(state: &[u8], log: &[(Seq, Vec<u8>)]) -> BTreeSet<[u8; 4]> {
        let rows = state.chunks_exact(4).chain(log.iter().map(|(_, data)| &data[..]));
        rows.map(|row| row.try_into().unwrap()).collect()
    }
    let writer = async |store: SharedStore, name: u8| {
        for n in 0..60_u8 {
            commit_one(&store, append("p", [[name, n, 0, 0], [name, n, 1, 0]])).await;
            // A load fails when a row is missing between the snapshot and the last number.
            let (covered, state, log) = stored(&store, "p").await;
            let seen = log.last().map_or(covered, |(seq, _)| *seq);
            let merged: Vec<u8> = merged(&state, &log).into_iter().flatten().collect();
            let mut entry = append("p", [[name, n, 2, 0]]);
            entry.snapshot = Some(snapshot(seen, merged));
            commit_one(&store, entry).await;
        }
    };
    let (alice, bob) = (place.open().await, place.open().await);
    tokio::join!(writer(Arc::clone(&alice), b'a'), writer(bob, b'b'));
    let (covered, state, log) = stored(&alice, "p").await;
    assert!(covered > 300);
    let expected: BTreeSet<[u8; 4]> = [b'a', b'b']
        .iter()
        .flat_map(|&name| (0..180).map(move |n| [name, n / 3, n % 3, 0]))
        .collect();
    assert_eq!(merged(&state, &log), expected);
}

pub async fn two_stores_write_the_same_pages_in_any_order_without_deadlock(place: &dyn Place) {
    let ids: Vec<String> = (0..30).map(|n| format!("page-{n:02}")).collect();
    let writer = async |store: SharedStore, backwards: bool| {
        for round in 0..30 {
            let mut batch: Vec<PageCommit> = ids.iter().map(|id| append(id, [b"row"])).collect();
            if round % 5 == 0 {
                for entry in &mut batch {
                    entry.snapshot = Some(snapshot(round, b"state"));
                }
            }
            if backwards {
                batch.reverse();
            }
            store.commit(&batch).await.unwrap();
        }
    };
    let (alice, bob) = (place.open().await, place.open().await);
    tokio::join!(writer(Arc::clone(&alice), false), writer(bob, true));
    for record in alice.pages("", None, 100).await.unwrap() {
        assert_eq!(record.seq, 60);
    }
}

pub async fn a_cancelled_commit_is_stored_whole_or_not_at_all(place: &dyn Place) {
    let store = place.open().await;
    let rows = [[0_u8; 8]; 100];
    let other = |polls: u64| format!("with-{polls}");
    for polls in 0..12 {
        let batch = [append("p", rows), append(&other(polls), rows)];
        let mut commit = pin!(store.commit(&batch));
        for _ in 0..polls {
            let mut context = Context::from_waker(Waker::noop());
            if let Poll::Ready(answer) = commit.as_mut().poll(&mut context) {
                assert_eq!(answer.unwrap().len(), 2);
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    // The store goes on, also while a database may still be busy with what nobody waits for any more.
    commit_one(&store, append("p", [b"last"])).await;
    let whole = async || {
        let mut whole = Vec::new();
        for polls in 0..12 {
            if let Some(record) = store.page(&page(&other(polls))).await.unwrap() {
                assert_eq!(record.seq, 100);
                whole.push(polls);
            }
        }
        whole
    };
    loop {
        let before = whole().await;
        let rows = stored(&store, "p").await.2.len();
        if whole().await == before {
            assert_eq!(rows, before.len() * 100 + 1);
            break;
        }
    }
}

pub async fn quarantine_and_check_work(place: &dyn Place) {
    let store = place.open().await;
    for n in 0..=QUARANTINE_ROWS {
        let update = NewUpdate {
            data: Bytes::from(vec![0; n]),
            user: Some("u\0".into()),
        };
        store
            .quarantine(&page("p"), &update, "killed\0 a document")
            .await
            .unwrap();
    }
    store.check().await.unwrap();
    store.check().await.unwrap();
    assert!(listed(&store, "", None, 10).await.is_empty());
}
