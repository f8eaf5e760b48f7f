//! The writer's lanes: what one page brings, or whoever holds it, delays only itself.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use pageroom::{
    rooms::{BatchLimits, StoreHealth, StoreWriter, WriterConfig},
    telemetry::{Metrics, Traces},
};
use storage::{
    Committed, NewUpdate, PageCommit, PageId, SharedStore,
    testing::{Fault, Moment, disk::FaultyStore},
};
use tokio::{net::TcpStream, sync::oneshot::Receiver};

use crate::support::{
    client::Client,
    database::Database,
    server::{TestServer, empty_store},
    store::{SwitchedStore, Weather},
    until,
};

fn page(id: &str) -> PageId {
    PageId::new(id).expect("a page id")
}

fn start(store: SharedStore) -> StoreWriter {
    let config = WriterConfig {
        batches: BatchLimits {
            commit_interval: Duration::ZERO,
            max_backoff: Duration::from_millis(50),
            max_pages: 1000,
            max_bytes: 32 << 20,
        },
        max_unstored_bytes: 0,
    };
    let (door, writer) = StoreWriter::new(store, config, Metrics::new(), Arc::new(()));
    tokio::spawn(writer);
    door
}

fn edit(writer: &StoreWriter, id: &str, bytes: usize) -> Receiver<Committed> {
    let commit = PageCommit {
        page: page(id),
        updates: vec![NewUpdate {
            data: Bytes::from(vec![7; bytes]),
            user: None,
        }],
        size_bytes: None,
        generation: None,
    };
    writer.commit(commit, Traces::default())
}

/// Each batch that was asked for is another than the one before.
fn assert_nothing_is_repeated_whole(store: &FaultyStore) {
    let batches = store.batches();
    let whole = batches
        .windows(2)
        .find(|pair| pair[0] == pair[1] && pair[0].len() > 1);
    assert_eq!(whole, None, "in {batches:?}");
}

#[tokio::test]
async fn a_page_that_somebody_holds_delays_only_itself() {
    for can_be_found_out in [true, false] {
        let store = FaultyStore::in_memory();
        store.hold(&page("held"), can_be_found_out);
        let writer = start(store.clone());
        let mut held = edit(&writer, "held", 10);
        let others = ["a", "b", "c", "d", "e", "f"].map(|id| edit(&writer, id, 10));
        for other in others {
            assert_eq!(other.await.expect("an answer").last_seq, 1);
        }
        assert!(held.try_recv().is_err(), "it is not stored");
        assert_nothing_is_repeated_whole(&store);
        until("the writer to say that something is not stored", async || {
            matches!(writer.health(), StoreHealth::Failing { .. })
        })
        .await;
        // Others go on.
        assert_eq!(edit(&writer, "a", 10).await.expect("an answer").last_seq, 2);
        store.let_go();
        assert_eq!(held.await.expect("an answer").last_seq, 1);
        assert_eq!(writer.health(), StoreHealth::Good);
    }
}

#[tokio::test]
async fn what_is_large_goes_alone() {
    let store = FaultyStore::in_memory();
    let writer = start(store.clone());
    let large = edit(&writer, "large", 42 << 20);
    let small = edit(&writer, "small", 10);
    assert_eq!(small.await.expect("an answer").last_seq, 1);
    assert_eq!(large.await.expect("an answer").last_seq, 1);
    assert_eq!(store.batches(), [[page("small")]]);
}

#[tokio::test]
async fn a_store_that_was_away_gets_everything_when_it_is_back() {
    let store = FaultyStore::in_memory();
    store.turn(|faults| faults.fail_until_healed(Fault::Unavailable));
    let writer = start(store.clone());
    let answers: Vec<_> = (0..300)
        .map(|n| edit(&writer, &format!("page-{n}"), 10))
        .collect();
    until("the store to be missed", async || {
        matches!(writer.health(), StoreHealth::Failing { .. })
    })
    .await;
    store.turn(|faults| faults.heal());
    for answer in answers {
        assert_eq!(answer.await.expect("an answer").last_seq, 1);
    }
    assert_eq!(writer.health(), StoreHealth::Good);
    // Nothing was cut in pieces for a store that was not there.
    assert!(store.batches().iter().all(|batch| batch.len() == 300));
}

#[tokio::test]
async fn an_answer_that_is_lost_leaves_no_trouble_behind() {
    let store = FaultyStore::in_memory();
    store.turn(|faults| faults.fail_next(1, Fault::Unavailable, Moment::Before));
    let writer = start(store.clone());
    // The store is there all the same, and the page is stored alone. Nothing else is stored afterwards.
    assert_eq!(edit(&writer, "alone", 10).await.expect("an answer").last_seq, 1);
    assert_eq!(writer.health(), StoreHealth::Good);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_another_session_of_postgres_holds_delays_only_its_page() {
    let Some(database) = Database::postgres() else {
        return;
    };
    let store = database.open().await;
    let writer = start(Arc::clone(&store));
    for id in ["held", "other"] {
        edit(&writer, id, 10).await.expect("an answer");
    }
    let session = database.hold("SELECT 1 FROM page_heads WHERE page_id = 'held' FOR UPDATE");
    let mut held = edit(&writer, "held", 10);
    // Three posts of one page that are large as well.
    for seq in 2..5 {
        let (other, large) = (edit(&writer, "other", 10), edit(&writer, "large", 42 << 20));
        assert_eq!(other.await.expect("an answer").last_seq, seq);
        assert_eq!(large.await.expect("an answer").last_seq, seq - 1);
    }
    assert!(held.try_recv().is_err(), "it is not stored");
    drop(session);
    assert_eq!(held.await.expect("an answer").last_seq, 2);
    store.close().await;
}

#[tokio::test]
async fn a_server_whose_writer_has_died_stops_and_says_so() {
    let store = SwitchedStore::new(empty_store().await);
    let server = TestServer::start_on(store.clone(), &["--shutdown-deadline-seconds", "3"]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    ada.write_durably("stored ").await;
    store.writing(Weather::Panicking);
    ada.write("lost").await;
    // Nobody has told it to stop.
    until("the door to close", async || {
        TcpStream::connect(server.address).await.is_err()
    })
    .await;
    assert!(!server.stop().await, "this was no good end");
    assert_eq!(ada.acknowledged, 7, "what is not stored is not acknowledged");
}
