//! Rooms: opened once, kept while somebody needs them, gone afterwards, and rebuilt when they break.

use bytes::Bytes;
use serde_json::json;
use storage::{NewUpdate, PageCommit, PageId};

use crate::support::{
    client::Client,
    http::get,
    replica::text_of,
    server::{TestServer, empty_store},
    socket::Socket,
    store::{SwitchedStore, Weather},
    until,
};

#[tokio::test]
async fn everybody_who_comes_first_shares_one_load() {
    let store = SwitchedStore::new(empty_store().await);
    let server = TestServer::start_on(store.clone(), &[]).await;
    Client::join(&server, "page", 1)
        .await
        .write_durably("hello")
        .await;
    let server = TestServer::start_on(store.clone(), &[]).await;
    let loads = store.loads();
    store.opening(Weather::Hanging);
    let joiners: Vec<_> = (0..50)
        .map(|joiner| {
            let address = server.address;
            tokio::spawn(async move {
                Client::join_at(address, "/ws/page", 100 + joiner)
                    .await
                    .replica
                    .text()
            })
        })
        .collect();
    until("the load to begin", async || store.loads() > loads).await;
    store.opening(Weather::Fine);
    for joiner in joiners {
        assert_eq!(joiner.await.expect("a joiner"), "hello");
    }
    assert_eq!(store.loads(), loads + 1);
    assert_eq!(server.metric("pageroom_rooms_open").await, Some(1.0));
}

#[tokio::test]
async fn who_loses_patience_while_a_page_loads_does_not_stay() {
    let store = SwitchedStore::new(empty_store().await);
    let server = TestServer::start_on(store.clone(), &["--room-idle-seconds", "0"]).await;
    store.opening(Weather::Hanging);
    for _ in 0..5 {
        Socket::open(server.address, "/ws/page").await.cut();
    }
    until("the load to begin", async || store.loads() == 1).await;
    store.opening(Weather::Fine);
    server.until_metric("pageroom_rooms_open", 0.0).await;
    Client::join(&server, "page", 1)
        .await
        .write_durably("hello")
        .await;
}

#[tokio::test]
async fn a_room_that_nobody_needs_leaves_memory_and_an_exact_snapshot() {
    let store = empty_store().await;
    // The interval alone would keep the snapshot away for an hour.
    let flags = ["--room-idle-seconds", "1", "--snapshot-interval-seconds", "3600"];
    let server = TestServer::start_on(store.clone(), &flags).await;
    let mut ada = Client::join(&server, "page", 1).await;
    for word in ["one ", "two ", "three"] {
        ada.write_durably(word).await;
    }
    let page = PageId::new("page").expect("a page id");
    assert!(store.snapshot(&page).await.expect("memory").is_none());
    let replica = ada.leave().await;
    server.until_metric("pageroom_rooms_open", 0.0).await;
    let snapshot = store.snapshot(&page).await.expect("memory").expect("a snapshot");
    assert_eq!(text_of(&snapshot.state), "one two three");
    assert_eq!(
        (snapshot.text.as_str(), &snapshot.content),
        ("one two three", &json!({ "text": "one two three" }))
    );
    let stored = store.load(&page).await.expect("memory").expect("the page");
    assert_eq!(
        (snapshot.seq, stored.log.len()),
        (stored.record.seq, 0),
        "it covers everything"
    );

    let mut back = Client::join_as(Socket::open(server.address, "/ws/page").await, replica).await;
    back.write_durably("!").await;
}

#[tokio::test]
async fn opening_a_page_and_leaving_writes_nothing() {
    let store = empty_store().await;
    let server = TestServer::start_on(store.clone(), &["--room-idle-seconds", "0"]).await;
    Client::join(&server, "page", 1).await.leave().await;
    server.until_metric("pageroom_rooms_open", 0.0).await;
    assert!(store.pages("", None, 10).await.expect("memory").is_empty());
}

#[tokio::test]
async fn a_page_that_slept_wakes_up() {
    let server = TestServer::start(&["--document-sleep-seconds", "0"]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    ada.write_durably("asleep").await;
    let page = PageId::new("page").expect("a page id");
    until("the document to fall asleep", async || {
        let awake = server
            .registry
            .read(&page, |room| room.document().is_awake())
            .await;
        !awake.expect("a room")
    })
    .await;
    let mut bob = Client::join(&server, "page", 2).await;
    assert_eq!(bob.replica.text(), "asleep");
    bob.write_durably("!").await;
    ada.until_text("asleep!").await;
    assert_eq!(
        get(server.address, "/api/pages/page/content").await.json(),
        json!({ "text": "asleep!" })
    );
}

#[tokio::test]
async fn rows_of_another_process_that_make_no_sense_take_nobody_else_with_them() {
    let store = empty_store().await;
    let server = TestServer::start_on(store.clone(), &[]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    let mut bob = Client::join(&server, "page", 2).await;
    let mut eve = Client::join(&server, "elsewhere", 3).await;
    ada.write_durably("kept ").await;
    bob.until_text("kept ").await;
    let nonsense = PageCommit {
        page: PageId::new("page").expect("a page id"),
        updates: vec![NewUpdate {
            data: Bytes::from_static(&[1, 1, 1]),
            user: None,
        }],
        size_bytes: None,
        generation: None,
    };
    store.commit(&[nonsense]).await.expect("a row");
    ada.write("and acknowledged").await;
    for client in [&mut ada, &mut bob] {
        let closed = client.closed().await;
        assert_eq!(closed.code, 1013, "{closed:?}");
        assert!(closed.reason.starts_with("unavailable: "), "{closed:?}");
    }
    assert_eq!(bob.replica.text(), "kept and acknowledged");
    eve.write_durably("unharmed").await;
    let failures = server
        .metric("pageroom_errors_total{kind=\"document_failed\"}")
        .await;
    assert_eq!(failures, Some(1.0));
    // Nobody is given half a page.
    let mut socket = Socket::open(server.address, "/ws/page").await;
    let closed = socket.closed().await;
    assert_eq!(closed.code, 1013, "{closed:?}");
}

#[tokio::test]
async fn a_room_that_panics_takes_nobody_with_it() {
    let server = TestServer::start(&[]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    let mut eve = Client::join(&server, "elsewhere", 2).await;
    ada.write_durably("kept").await;
    let page = PageId::new("page").expect("a page id");
    let broken: Option<()> = server
        .registry
        .read(&page, |_| panic!("a defect, on demand"))
        .await;
    assert_eq!(broken, None);
    let closed = ada.closed().await;
    assert_eq!(closed.code, 1013, "{closed:?}");
    eve.write_durably("unharmed").await;
    let mut ada = Client::join_as(Socket::open(server.address, "/ws/page").await, ada.replica).await;
    ada.write_durably("!").await;
    assert_eq!(
        get(server.address, "/api/pages/page/content").await.json(),
        json!({ "text": "kept!" })
    );
    assert_eq!(
        server.metric("pageroom_errors_total{kind=\"room_panic\"}").await,
        Some(1.0)
    );
    assert_eq!(server.metric("pageroom_rooms_open").await, Some(2.0));
}
