//! A store mends itself when its PostgreSQL server was away, and what it said was committed is there.

use std::{sync::Arc, time::Duration};

use pageroom_storage::{
    SharedStore, StoreError, StoreOptions, open,
    testing::contract::{append, page},
};

use crate::cluster::Cluster;

async fn open_store(cluster: &Cluster) -> Result<SharedStore, StoreError> {
    open(&cluster.url("pageroom"), &StoreOptions::default()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_fails_while_its_server_is_away_and_works_when_it_is_back() {
    let Some(cluster) = Cluster::start_new() else {
        return;
    };
    let store = open_store(&cluster).await.unwrap();
    store.commit(&[append("p", ["before"])]).await.unwrap();
    assert!(store.load(&page("p")).await.unwrap().is_some());

    cluster.crash();
    for error in [
        store.commit(&[append("p", ["lost"])]).await.unwrap_err(),
        store.load(&page("p")).await.unwrap_err(),
        store.check().await.unwrap_err(),
        open_store(&cluster).await.map(drop).unwrap_err(),
    ] {
        assert_eq!(error.kind(), "unavailable", "{error}");
        assert!(!error.to_string().contains("a-secret"), "{error}");
    }

    cluster.start();
    store.check().await.unwrap();
    store.commit(&[append("p", ["after"])]).await.unwrap();
    let log = store.load(&page("p")).await.unwrap().unwrap().log;
    assert!(
        log.iter()
            .map(|row| &*row.data)
            .eq([b"before" as &[u8], b"after"])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_most_one_call_notices_a_restart_in_between() {
    let Some(cluster) = Cluster::start_new() else {
        return;
    };
    let store = open_store(&cluster).await.unwrap();
    store.commit(&[append("p", ["before"])]).await.unwrap();
    // Four connections for reading and one for writing, all idle.
    tokio::join!(store.check(), store.check(), store.check(), store.check())
        .0
        .unwrap();
    cluster.crash();
    cluster.start();
    let mut failed = 0;
    for _ in 0..8 {
        failed += usize::from(store.check().await.is_err());
        failed += usize::from(store.commit(&[append("p", ["after"])]).await.is_err());
    }
    assert!(failed <= 1, "{failed} calls failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_committed_is_lost_by_a_crash_in_the_middle_of_writing() {
    let Some(cluster) = Cluster::start_new() else {
        return;
    };
    let store = open_store(&cluster).await.unwrap();
    for round in 0..3_u32 {
        let writer = tokio::spawn({
            let store = Arc::clone(&store);
            async move {
                let (mut committed, mut failed) = (Vec::new(), 0);
                // Goes on until the server has been away and is back for a while.
                while failed == 0 || committed.len() % 50 != 49 {
                    let row = format!("{round}-{}", committed.len() + failed);
                    match store.commit(&[append("p", [&row])]).await {
                        Ok(_) => committed.push(row),
                        Err(error) => {
                            assert_eq!(error.kind(), "unavailable", "{error}");
                            failed += 1;
                            // The loop waits for the server, not this pause: it leaves the machine to it while it starts.
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                    }
                }
                committed
            }
        });
        // Some rows in.
        while store
            .page(&page("p"))
            .await
            .unwrap()
            .is_none_or(|record| record.seq < 20)
        {}
        cluster.crash();
        cluster.start();
        let committed = writer.await.unwrap();
        let log = store.load(&page("p")).await.unwrap().unwrap().log;
        for row in committed {
            assert!(
                log.iter().any(|logged| logged.data == row.as_bytes()),
                "{row} was committed and is gone"
            );
        }
    }
}
