//! Acknowledged means durable: what restarts, failing stores, damaged pages and second processes do to what people wrote.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use storage::{
    NewUpdate, PageCommit, PageId, Store,
    testing::{Fault, Moment, disk::FaultyStore},
};

use crate::support::{
    client::Client,
    database::Database,
    http::{get, post},
    replica::{Replica, insertion},
    server::{TestServer, empty_store},
    socket::Socket,
    store::{SwitchedStore, Weather},
};

fn page(id: &str) -> PageId {
    PageId::new(id).expect("a page id")
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    for database in Database::each() {
        let server = TestServer::start_on(database.open().await, &[]).await;
        let mut ada = Client::join(&server, "page", 1).await;
        let mut bob = Client::join(&server, "page", 2).await;
        ada.write_durably("hello").await;
        bob.until_text("hello").await;
        bob.write_durably(" you").await;
        ada.until_text("hello you").await;
        let etag = get(server.address, "/api/pages/page/content")
            .await
            .header("etag")
            .to_owned();
        assert!(server.stop().await, "everything stored in time");

        let server = TestServer::start_on(database.open().await, &[]).await;
        let content = get(server.address, "/api/pages/page/content").await;
        assert_eq!(content.json(), json!({ "text": "hello you" }));
        assert_eq!(content.header("etag"), etag, "the same state has the same tag");
        let mut late = Client::join(&server, "page", 3).await;
        late.until_text("hello you").await;
        late.write_durably("!").await;
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_without_any_goodbye() {
    for database in Database::each() {
        let server = TestServer::start_on(database.open().await, &[]).await;
        let mut ada = Client::join(&server, "page", 1).await;
        for word in ["one ", "two ", "three"] {
            ada.write_durably(word).await;
        }
        // The first server goes on as if it had been cut off; what counts is what another one finds.
        let other = TestServer::start_on(database.open().await, &[]).await;
        let found = Client::join(&other, "page", 2).await;
        assert_eq!(found.replica.text(), "one two three");
    }
}

#[tokio::test]
async fn a_store_that_fails_for_a_while_loses_nothing() {
    for fault in [Fault::Unavailable, Fault::Full, Fault::ReadOnly] {
        let durable = empty_store().await;
        let store = SwitchedStore::new(durable.clone());
        let server = TestServer::start_on(store.clone(), &["--store-retry-milliseconds", "50"]).await;
        let mut ada = Client::join(&server, "page", 1).await;
        let mut bob = Client::join(&server, "page", 2).await;
        ada.write_durably("before ").await;
        bob.until_text("before ").await;

        store.writing(Weather::Failing(fault));
        for word in ["during ", "the ", "outage"] {
            ada.write(word).await;
        }
        bob.until_text("before during the outage").await;
        bob.write("!").await;
        ada.until("what Bob wrote", |ada| ada.replica.text().contains('!'))
            .await;
        assert_eq!(
            (ada.acknowledged, bob.acknowledged),
            (7, 0),
            "nothing of it is acknowledged"
        );
        crate::support::until("readiness to go red", async || {
            get(server.address, "/readyz").await.status == 503
        })
        .await;
        let problem = get(server.address, "/readyz").await.json()["problem"]
            .as_str()
            .map(str::to_owned);
        let says = match fault {
            Fault::Unavailable | Fault::Statement => "cannot be reached",
            Fault::Full => "free disk space",
            Fault::ReadOnly => "check the permissions",
        };
        assert!(
            problem.as_ref().is_some_and(|problem| problem.contains(says)),
            "{problem:?}"
        );

        store.writing(Weather::Fine);
        ada.until_acknowledged().await;
        bob.until_acknowledged().await;
        crate::support::until("readiness to come back", async || {
            get(server.address, "/readyz").await.status == 200
        })
        .await;
        let text = ada.replica.text();
        let other = TestServer::start_on(durable, &[]).await;
        assert_eq!(Client::join(&other, "page", 3).await.replica.text(), text);
    }
}

#[tokio::test]
async fn a_room_that_everybody_left_is_kept_until_it_is_stored() {
    let store = SwitchedStore::new(empty_store().await);
    let flags = ["--room-idle-seconds", "0", "--store-retry-milliseconds", "50"];
    let server = TestServer::start_on(store.clone(), &flags).await;
    let mut ada = Client::join(&server, "page", 1).await;
    let mut bob = Client::join(&server, "page", 2).await;
    store.writing(Weather::Failing(Fault::Unavailable));
    ada.write("not lost").await;
    bob.until_text("not lost").await;
    ada.leave().await;
    bob.leave().await;
    server.until_metric("pageroom_connections_open", 0.0).await;
    assert_eq!(server.metric("pageroom_rooms_open").await, Some(1.0));
    assert!(server.metric("pageroom_unstored_bytes").await > Some(0.0));
    store.writing(Weather::Fine);
    server.until_metric("pageroom_rooms_open", 0.0).await;
    assert_eq!(server.metric("pageroom_unstored_bytes").await, Some(0.0));
    assert_eq!(
        get(server.address, "/api/pages/page/content").await.json(),
        json!({ "text": "not lost" })
    );
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_stored_once_more_and_harms_nothing() {
    let store = FaultyStore::in_memory();
    let server = TestServer::start_on(store.clone(), &["--store-retry-milliseconds", "50"]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    store.turn(|faults| faults.fail_next(1, Fault::Unavailable, Moment::After));
    ada.write_durably("hello").await;
    assert_eq!(store.counts().answers_lost, 1);
    ada.write_durably(" you").await;
    let other = TestServer::start_on(store.durable(), &[]).await;
    let mut found = Client::join(&other, "page", 2).await;
    assert_eq!(found.replica.text(), "hello you");
    found.write_durably("!").await;
}

#[tokio::test]
async fn an_acknowledgement_survives_one_failed_call() {
    let store = FaultyStore::in_memory();
    let server = TestServer::start_on(store.clone(), &["--store-retry-milliseconds", "50"]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    for fault in [Fault::Unavailable, Fault::Full, Fault::ReadOnly, Fault::Statement] {
        store.turn(|faults| faults.fail_next(1, fault, Moment::Before));
        ada.write_durably("x").await;
    }
    let other = TestServer::start_on(store.durable(), &[]).await;
    assert_eq!(Client::join(&other, "page", 2).await.replica.text(), "xxxx");
}

#[tokio::test]
async fn a_page_that_cannot_be_loaded_sends_its_joiners_away_for_now() {
    let store = SwitchedStore::new(empty_store().await);
    let server = TestServer::start_on(store.clone(), &[]).await;
    Client::join(&server, "page", 1)
        .await
        .write_durably("hello")
        .await;
    let cold = TestServer::start_on(store.clone(), &[]).await;
    store.reading(Weather::Failing(Fault::Unavailable));
    let closed = Socket::open(cold.address, "/ws/page").await.closed().await;
    assert_eq!(closed.code, 1013, "{closed:?}");
    assert!(closed.reason.starts_with("unavailable: "), "{closed:?}");
    for path in ["", "/content", "/snapshot"] {
        let answer = get(cold.address, &format!("/api/pages/page{path}")).await;
        assert_eq!(
            (answer.status.as_u16(), answer.error().as_str()),
            (503, "unavailable"),
            "{path}"
        );
        assert_eq!(answer.json()["error"]["retryable"], true);
    }
    let posted = post(cold.address, "/api/pages/page/updates", insertion(2, 0, "x")).await;
    assert_eq!(
        (posted.status.as_u16(), posted.error().as_str()),
        (503, "unavailable")
    );
    store.reading(Weather::Fine);
    let mut ada = Client::join(&cold, "page", 3).await;
    ada.until_text("hello").await;
}

#[tokio::test]
async fn a_page_that_does_not_open_in_time_sends_its_joiners_away_for_now() {
    let store = SwitchedStore::new(empty_store().await);
    let flags = ["--keepalive-seconds", "1", "--connection-timeout-seconds", "2"];
    let server = TestServer::start_on(store.clone(), &flags).await;
    store.opening(Weather::Hanging);
    let closed = Socket::open(server.address, "/ws/page").await.closed().await;
    assert_eq!(closed.code, 1013, "{closed:?}");
    assert!(closed.reason.contains("took too long to open"), "{closed:?}");
    store.opening(Weather::Fine);
    let mut ada = Client::join(&server, "page", 1).await;
    ada.write_durably("hello").await;
}

#[tokio::test]
async fn a_damaged_page_is_never_written() {
    let store = empty_store().await;
    let rows = [Bytes::from_static(b"not an update")];
    for (id, data) in [("garbage", rows[0].clone())] {
        let updates = vec![NewUpdate { data, user: None }];
        let commit = PageCommit {
            page: page(id),
            updates,
            size_bytes: None,
            generation: None,
        };
        store.commit(&[commit]).await.expect("memory");
    }
    let server = TestServer::start_on(store.clone(), &["--room-idle-seconds", "0"]).await;
    for (id, row) in [("garbage", &rows[0])] {
        let closed = Socket::open(server.address, &format!("/ws/{id}"))
            .await
            .closed()
            .await;
        assert_eq!(closed.code, 1013, "{id}: {closed:?}");
        let posted = post(
            server.address,
            &format!("/api/pages/{id}/updates"),
            insertion(2, 0, "x"),
        )
        .await;
        assert_eq!(posted.status, 503, "{id}: {posted:?}");
        let read = get(server.address, &format!("/api/pages/{id}/content")).await;
        assert_eq!(
            (read.status.as_u16(), read.error().as_str()),
            (500, "internal"),
            "{id}"
        );
        let kept = store.load(&page(id)).await.expect("memory").expect("the page");
        assert!(kept.snapshot.is_none());
        assert_eq!(
            kept.log.iter().map(|row| &row.data).collect::<Vec<_>>(),
            [row],
            "{id}"
        );
    }
    Client::join(&server, "sound", 1)
        .await
        .write_durably("others are not affected")
        .await;
}

#[tokio::test]
async fn what_a_backend_reads_from_the_database_is_the_page() {
    for database in Database::each() {
        let store = database.open().await;
        let server = TestServer::start_on(database.open().await, &["--snapshot-interval-seconds", "1"]).await;
        let mut ada = Client::join(&server, "team/page", 1).await;
        ada.write_durably("read me").await;
        crate::support::until("the snapshot", async || {
            store
                .snapshot(&page("team/page"))
                .await
                .expect("a database")
                .is_some()
        })
        .await;
        let snapshot = store
            .snapshot(&page("team/page"))
            .await
            .expect("a database")
            .expect("a snapshot");
        assert_eq!(snapshot.content, json!({ "text": "read me" }));
        assert_eq!(snapshot.text, "read me");
        assert_eq!(crate::support::replica::text_of(&snapshot.state), "read me");
        assert_eq!(snapshot.state_vector, ada.replica.state_vector());
    }
    if let Some(database) = Database::postgres() {
        let server = TestServer::start_on(database.open().await, &[]).await;
        Client::join(&server, "page", 1)
            .await
            .write_durably("SQL sees it")
            .await;
        assert!(server.stop().await);
        let row = database.query("SELECT page_id, seq, content->>'text', text FROM page_snapshots");
        assert_eq!(row, "page|1|SQL sees it|SQL sees it");
        let age = database.query("SELECT now() - updated_at < interval '1 hour' FROM page_snapshots");
        assert_eq!(age, "t");
    }
}

#[tokio::test]
async fn two_processes_on_one_database_lose_nothing() {
    for database in Database::each() {
        let flags = ["--snapshot-interval-seconds", "1"];
        let first = TestServer::start_on(database.open().await, &flags).await;
        let second = TestServer::start_on(database.open().await, &flags).await;
        let mut ada = Client::join(&first, "page", 1).await;
        let mut bob = Client::join(&second, "page", 2).await;
        let (mut by_ada, mut by_bob) = (String::new(), String::new());
        for round in 0..40 {
            // Each process learns what the other stored when it stores something itself.
            let word = format!("a{round} ");
            ada.write(&word).await;
            by_ada.push_str(&word);
            let word = format!("b{round} ");
            bob.write(&word).await;
            by_bob.push_str(&word);
            if round % 10 == 9 {
                ada.until_acknowledged().await;
                bob.until_acknowledged().await;
            }
        }
        ada.write_durably("(a)").await;
        bob.write_durably("(b)").await;
        ada.write_durably("(A)").await;
        let all = format!("{by_ada}(a)(A){by_bob}(b)");
        ada.until_text(&all).await;
        let third = TestServer::start_on(database.open().await, &[]).await;
        assert_eq!(Client::join(&third, "page", 3).await.replica.text(), all);
        assert!(first.stop().await && second.stop().await);
        let fourth = TestServer::start_on(database.open().await, &[]).await;
        assert_eq!(Client::join(&fourth, "page", 4).await.replica.text(), all);
    }
}

#[tokio::test]
async fn a_copy_that_was_edited_offline_is_merged() {
    let store: Arc<dyn Store> = empty_store().await;
    let server = TestServer::start_on(store.clone(), &[]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    ada.write_durably("online ").await;
    let mut replica = ada.leave().await;
    replica.write("offline");
    Client::join(&server, "page", 2)
        .await
        .write_durably("meanwhile")
        .await;
    assert!(server.stop().await);

    let server = TestServer::start_on(store, &[]).await;
    let mut back = Client::join_as(Socket::open(server.address, "/ws/page").await, replica).await;
    back.until_acknowledged().await;
    back.until_text("online offlinemeanwhile").await;
    let other = Client::join_as(Socket::open(server.address, "/ws/page").await, Replica::new(3)).await;
    assert_eq!(other.replica.text(), "online offlinemeanwhile");
}
