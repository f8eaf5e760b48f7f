//! A backup that is taken while a store writes is whole, and a store goes on from it.

use std::sync::Arc;

use pageroom_storage::{
    BackupError, SharedStore, StoreOptions, backup, open,
    testing::contract::{Place, append, page},
};
use sqlx::{Connection, Executor, PgConnection};
use tokio::sync::oneshot;

use crate::{
    cluster::{Cluster, run},
    database::SqlitePlace,
};

/// Writes rows until it is told to stop, and says how many.
async fn write_until(store: SharedStore, mut stop: oneshot::Receiver<()>) -> u64 {
    let mut rows = 0;
    while stop.try_recv().is_err() {
        rows += 1;
        let row = rows.to_string();
        store.commit(&[append("p", [row.as_str()])]).await.unwrap();
    }
    rows
}

/// The rows of the page: those that were written first, without a hole.
async fn rows_in(store: &SharedStore) -> u64 {
    let log = store.load(&page("p")).await.unwrap().unwrap().log;
    for (number, row) in log.iter().enumerate() {
        assert_eq!(row.data, (number + 1).to_string().as_bytes());
    }
    log.len() as u64
}

/// The copy holds what was there before it was begun, and can be written.
async fn goes_on(copy: SharedStore, before: u64, written: u64) {
    let rows = rows_in(&copy).await;
    assert!(
        before <= rows && rows <= written,
        "{before} <= {rows} <= {written}"
    );
    assert_eq!(
        copy.commit(&[append("p", ["on"])]).await.unwrap()[0].first_seq,
        rows + 1
    );
    copy.close().await;
}

async fn written_before(store: &SharedStore) -> u64 {
    loop {
        if let Some(record) = store
            .page(&page("p"))
            .await
            .unwrap()
            .filter(|record| record.seq > 20)
        {
            return record.seq;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_file_that_is_written_is_whole() {
    let (place, copies) = (SqlitePlace::new(), SqlitePlace::new());
    let store = place.open().await;
    let (stop, stopped) = oneshot::channel();
    let writing = tokio::spawn(write_until(Arc::clone(&store), stopped));
    let before = written_before(&store).await;
    let bytes = backup(&place.url(), &copies.file()).await.unwrap();
    stop.send(()).unwrap();
    assert_eq!(bytes, copies.file().metadata().unwrap().len());
    let again = backup(&place.url(), &copies.file()).await;
    assert!(matches!(again, Err(BackupError::Exists(_))), "{again:?}");
    let written = writing.await.unwrap();
    goes_on(copies.open().await, before, written).await;
    assert_eq!(rows_in(&store).await, written);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_of_a_database_that_is_written_is_whole() {
    let Some(cluster) = Cluster::start_new() else {
        return;
    };
    let url = cluster.url("pageroom");
    let store = open(&url, &StoreOptions::default()).await.unwrap();
    let (stop, stopped) = oneshot::channel();
    let writing = tokio::spawn(write_until(Arc::clone(&store), stopped));
    let before = written_before(&store).await;
    let file = cluster.path("pageroom.dump");
    let dump = tokio::task::spawn_blocking({
        let mut dump = cluster.program("pg_dump");
        dump.arg("--format=custom").arg("--file").arg(&file).arg(&url);
        move || run(&mut dump)
    });
    dump.await.unwrap();
    stop.send(()).unwrap();
    let written = writing.await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    connection.execute("CREATE DATABASE restored").await.unwrap();
    let restored = url.replace("/postgres", "/restored");
    let mut restore = cluster.program("pg_restore");
    run(restore
        .arg("--no-owner")
        .arg("--dbname")
        .arg(&restored)
        .arg(&file));
    let copy = open(&restored, &StoreOptions::default()).await.unwrap();
    goes_on(copy, before, written).await;
}
