//! A call ends within its time, whoever makes it wait.

use std::{fs::File, time::Duration};

use pageroom_storage::{
    Compaction, StoreError, StoreOptions, open,
    testing::contract::{Place, append, page, snapshot},
};
use sqlx::{Connection, Executor};
use tokio::{net::TcpListener, time::Instant};

use crate::database::{PostgresPlace, SqlitePlace};

fn impatient() -> StoreOptions {
    StoreOptions {
        timeout: Duration::from_millis(300),
        ..StoreOptions::default()
    }
}

#[tokio::test]
async fn a_file_that_another_process_is_writing_is_unavailable_until_it_is_done() {
    let place = SqlitePlace::new();
    let store = open(&place.url(), &impatient()).await.unwrap();
    store.commit(&[append("p", ["1"])]).await.unwrap();
    let mut other = place.connect().await;
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    assert_eq!(
        store.commit(&[append("p", ["2"])]).await.unwrap_err().kind(),
        "unavailable"
    );
    assert_eq!(store.check().await.unwrap_err().kind(), "unavailable");
    // Reading goes on.
    assert!(store.load(&page("p")).await.unwrap().is_some());
    other.execute("ROLLBACK").await.unwrap();
    assert_eq!(store.commit(&[append("p", ["2"])]).await.unwrap()[0].first_seq, 2);
}

#[tokio::test]
async fn opening_a_new_file_waits_for_another_process_that_writes_it() {
    let place = SqlitePlace::new();
    File::create(place.file()).unwrap();
    let mut other = place.connect().await;
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    let (options, began) = (impatient(), Instant::now());
    let error = open(&place.url(), &options).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), "unavailable", "{error}");
    // Half the time of a call is for other processes.
    assert!(began.elapsed() >= options.timeout / 2, "it did not wait");
    other.execute("ROLLBACK").await.unwrap();
    let store = open(&place.url(), &options).await.unwrap();
    store.commit(&[append("p", ["1"])]).await.unwrap();
}

#[tokio::test]
async fn a_page_that_another_process_has_locked_is_unavailable_until_it_is_done() {
    let Some(place) = PostgresPlace::new().await else {
        return;
    };
    let store = open(&place.url(), &impatient()).await.unwrap();
    store.commit(&[append("p", ["1"])]).await.unwrap();
    let mut other = place.connect().await;
    let mut lock = other.begin().await.unwrap();
    lock.execute("SELECT * FROM page_heads FOR UPDATE").await.unwrap();
    let error = store
        .commit(&[append("o", ["0"]), append("p", ["2"]), append("q", ["0"])])
        .await
        .unwrap_err();
    // It says which page is held, so that the others can go without it.
    assert!(
        matches!(&error, StoreError::Busy { pages } if *pages == [page("p")]),
        "{error:?}"
    );
    let error = store.commit_alone(&append("p", ["2"])).await.unwrap_err();
    assert!(matches!(error.kind(), "busy" | "unavailable"), "{error}");
    assert!(store.load(&page("p")).await.unwrap().is_some());
    store.commit(&[append("q", ["another page"])]).await.unwrap();
    // Snapshots do not hold the page, and do not wait for whoever does.
    assert_eq!(
        store.compact(&page("p"), None, &snapshot(1, b"s")).await.unwrap(),
        Compaction::Compacted
    );
    lock.rollback().await.unwrap();
    // The server has given up the statement that waited, too: nothing of it comes late.
    assert_eq!(store.commit(&[append("p", ["2"])]).await.unwrap()[0].first_seq, 2);
    place.remove().await;
}

#[tokio::test]
async fn a_server_that_says_nothing_is_unavailable() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "postgres://somebody:a-secret@{}/pages",
        silent.local_addr().unwrap()
    );
    let error = open(&url, &impatient()).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), "unavailable");
    assert!(!error.to_string().contains("a-secret"), "{error}");
}

#[tokio::test]
async fn calls_after_closing_fail_as_unavailable() {
    let place = SqlitePlace::new();
    let store = place.open().await;
    store.commit(&[append("p", ["1"])]).await.unwrap();
    store.close().await;
    store.close().await;
    assert_eq!(store.load(&page("p")).await.unwrap_err().kind(), "unavailable");
    assert_eq!(
        store.commit(&[append("p", ["2"])]).await.unwrap_err().kind(),
        "unavailable"
    );
}
