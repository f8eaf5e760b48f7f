//! What is read: parts of a log, listings, descriptions.

use std::time::{Duration, UNIX_EPOCH};

use super::{Place, append, commit_one, compact, listed, page, snapshot, stored};
use crate::PageCommit;

pub async fn a_log_is_read_in_parts_and_none_where_a_snapshot_swallowed_it(place: &dyn Place) {
    let store = place.open().await;
    commit_one(&store, append("p", [b"1", b"2", b"3", b"4", b"5"])).await;
    compact(&store, "p", snapshot(2, b"12")).await;
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

    // The size may be corrected; that is not an edit.
    let mut entry = append::<&[u8]>("p", []);
    entry.size_bytes = Some(3);
    commit_one(&store, entry).await;
    let third = record().await;
    assert_eq!((third.size_bytes, third.updated_at), (3, second.updated_at));
    assert_eq!(store.load(&page("p")).await.unwrap().unwrap().record, third);
    assert_eq!(store.pages("p", None, 1).await.unwrap(), [third]);
}

pub async fn check_works_and_writes_no_page(place: &dyn Place) {
    let store = place.open().await;
    store.check().await.unwrap();
    store.check().await.unwrap();
    assert!(listed(&store, "", None, 10).await.is_empty());
}

pub async fn a_page_in_the_trash_is_marked_and_otherwise_as_it_was(place: &dyn Place) {
    let store = place.open().await;
    let (gone, stays) = (page("gone"), page("stays"));
    let at = Some(UNIX_EPOCH + Duration::from_millis(1_700_000_000_123));
    assert!(
        !store.set_deleted(&gone, at).await.unwrap(),
        "there is no such page"
    );
    commit_one(&store, append("gone", ["one"])).await;
    commit_one(&store, append("stays", ["one"])).await;
    assert!(store.set_deleted(&gone, at).await.unwrap());
    assert!(
        !store.set_deleted(&gone, at).await.unwrap(),
        "it is there already"
    );
    let other = place.open().await;
    let marks = async || {
        let listed = other.pages("", None, 10).await.unwrap();
        let listed: Vec<_> = listed.into_iter().map(|record| record.deleted_at).collect();
        let described = other.page(&gone).await.unwrap().unwrap().deleted_at;
        let loaded = other.load(&gone).await.unwrap().unwrap().record.deleted_at;
        assert_eq!((described, loaded), (listed[0], listed[0]));
        listed
    };
    assert_eq!(marks().await, [at, None]);
    // What was on its way when it was deleted is stored all the same.
    assert_eq!(commit_one(&store, append("gone", ["two"])).await.last_seq, 2);
    assert_eq!(marks().await, [at, None]);
    assert!(!store.set_deleted(&stays, None).await.unwrap());
    assert!(store.set_deleted(&gone, None).await.unwrap());
    assert_eq!(marks().await, [None, None]);
    assert_eq!(stored(&other, "gone").await.2.len(), 2);
}
