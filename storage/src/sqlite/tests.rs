//! What only SQLite can be made to do: run out of space at a known place.

use sqlx::Executor;

use super::*;
use crate::{
    Search, SearchStore,
    testing::contract::{append, page, snapshot},
};

#[tokio::test]
async fn a_full_disk_refuses_what_does_not_fit_until_there_is_room_again() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/pages.db", folder.path().display());
    // A snapshot makes room where the rows that it covers are not kept.
    let options = StoreOptions {
        history: false,
        ..StoreOptions::default()
    };
    // A file with room for 70 blocks of 4 KiB beside its tables: SQLite reports its end as it does a full disk.
    let empty = SqliteStore::open(&url, &options).await.unwrap();
    let blocks: Vec<(i64,)> = empty.read(sqlx::query_as("PRAGMA page_count")).await.unwrap();
    empty.close().await;
    drop(empty);
    let most = (blocks[0].0 + 70).to_string();
    let small = connect_options(&url, &options)
        .unwrap()
        .pragma("max_page_count", most);
    let store = SqliteStore::open_with(small, &options).await.unwrap();

    store.commit(&[append("p", ["1"])]).await.unwrap();
    let large = vec![7; 200_000];
    store.commit(&[append("big", [&large])]).await.unwrap();
    let error = store
        .commit(&[append("p", ["2"]), append("q", [&large])])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), "full", "{error}");
    assert!(error.to_string().contains("free disk space"));

    // Nothing of the batch was stored, what was committed is there, and what fits is still taken.
    assert_eq!(store.load(&page("p")).await.unwrap().unwrap().record.seq, 1);
    assert!(store.load(&page("q")).await.unwrap().is_none());
    assert_eq!(store.commit(&[append("p", ["2"])]).await.unwrap()[0].first_seq, 2);

    // Somebody makes room.
    store
        .compact(&page("big"), None, &snapshot(1, b"small"))
        .await
        .unwrap();
    let answers = store
        .commit(&[append("p", ["3"]), append("q", [&large])])
        .await
        .unwrap();
    assert_eq!((answers[0].first_seq, answers[1].first_seq), (3, 1));
}

#[tokio::test]
async fn damage_is_refused_rather_than_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/pages.db", folder.path().display());
    let store = SqliteStore::open(&url, &StoreOptions::default()).await.unwrap();
    store.commit(&[append("p", ["1", "2", "3"])]).await.unwrap();
    let mut lease = store.writer.lease().await.unwrap();
    lease
        .connection
        .execute("DELETE FROM page_updates WHERE seq = 2")
        .await
        .unwrap();
    lease.give_back();
    let error = store.load(&page("p")).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { seq: 2, .. }), "{error}");
}

#[tokio::test]
async fn commits_are_synced() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/pages.db", folder.path().display());
    let store = SqliteStore::open(&url, &StoreOptions::default()).await.unwrap();
    let mut lease = store.writer.lease().await.unwrap();
    let journal: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(&mut lease.connection)
        .await
        .unwrap();
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous")
        .fetch_one(&mut lease.connection)
        .await
        .unwrap();
    // 2 is FULL: in WAL mode the log is synced at each commit.
    assert_eq!((journal.as_str(), synchronous), ("wal", 2));
}

#[tokio::test]
async fn commits_do_not_make_the_log_longer() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pages.db");
    let url = format!("sqlite://{}", file.display());
    let length = |suffix: &str| {
        std::fs::metadata(format!("{}{suffix}", file.display()))
            .unwrap()
            .len()
    };
    let store = SqliteStore::open(&url, &StoreOptions::default()).await.unwrap();
    let (pages, log) = (length(""), length("-wal"));
    assert!(pages < 1_000_000, "{pages}");
    // More than one checkpoint's worth.
    for _ in 0..150 {
        store.commit(&[append("p", [&[7; 32_000]])]).await.unwrap();
    }
    assert_eq!(length("-wal"), log);
    assert_eq!(store.load(&page("p")).await.unwrap().unwrap().log.len(), 150);
}

#[tokio::test]
async fn what_is_large_does_not_make_the_log_longer() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pages.db");
    let url = format!("sqlite://{}", file.display());
    let length = |suffix: &str| {
        std::fs::metadata(format!("{}{suffix}", file.display()))
            .unwrap()
            .len()
    };
    let store = SqliteStore::open(&url, &StoreOptions::default()).await.unwrap();
    let log = length("-wal");
    store.commit(&[append("large", ["1"])]).await.unwrap();
    let state = vec![7; 20_000_000];
    let large = store.compact(&page("large"), None, &snapshot(1, &state)).await;
    assert_eq!(large.unwrap(), Compaction::Compacted);
    for n in 0..30 {
        store.commit(&[append("small", [&[7; 1_000_000]])]).await.unwrap();
        assert!(
            length("-wal") < 2 * log,
            "after {n} MB: {} of {log}",
            length("-wal")
        );
    }
    assert!(length("") > 40_000_000, "it is in the file");
}

#[tokio::test]
async fn who_opens_a_page_waits_for_no_search() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/pages.db", folder.path().display());
    let options = StoreOptions {
        readers: 1,
        ..StoreOptions::default()
    };
    let store = SqliteStore::open(&url, &options).await.unwrap();
    store.commit(&[append("p", ["1"])]).await.unwrap();
    let search = Search::parse("word").unwrap();
    let ranges = [(String::new(), "\u{10ffff}".to_owned())];
    let under_way: Vec<_> = [(); MAX_SEARCHES]
        .map(|()| store.searching.clone().try_acquire_owned().unwrap())
        .into();
    let opened = page("p");
    let mut waiting = std::pin::pin!(store.search(&search, &ranges, 0, 10));
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("so many searches are under way"),
        loaded = store.load(&opened) => assert!(loaded.unwrap().is_some()),
    }
    drop(under_way);
    assert_eq!(waiting.await.unwrap(), []);
    assert_eq!(store.searching.available_permits(), MAX_SEARCHES);
}
