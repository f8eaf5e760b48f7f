//! Stopping: everything is stored, clients are asked to come back, and it ends in time whatever the store does.

use std::{net::SocketAddr, time::Duration};

use serde_json::json;
use storage::testing::Fault;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    time::Instant,
};

use crate::support::{
    client::Client,
    database::Database,
    http::get,
    process::{Process, run, text},
    server::{TestServer, empty_store},
    store::{SwitchedStore, Weather},
};

#[tokio::test]
async fn a_signal_stores_everything_and_asks_clients_to_come_back() {
    for signal in ["TERM", "INT"] {
        let database = Database::sqlite();
        let url = database.url();
        let mut server = Process::start(&[("DATABASE_URL", &url)]);
        let address = server.address().await;
        let mut ada = Client::join_at(address, "/ws/page", 1).await;
        let mut bob = Client::join_at(address, "/ws/other", 2).await;
        bob.write_durably("elsewhere").await;
        for _ in 0..200 {
            ada.write("x").await;
        }
        // Once she is told of the first, the others are on their way.
        ada.until("an acknowledgement", |ada| ada.acknowledged > 0).await;
        server.signal(signal);
        for client in [&mut ada, &mut bob] {
            let closed = client.closed().await;
            assert_eq!(closed.code, 1012, "{closed:?}");
            assert!(closed.reason.starts_with("draining: "), "{closed:?}");
        }
        let ended = server.ended().await;
        assert_eq!(ended.code(), Some(0), "{signal}: {}", server.log());
        assert!(server.log().contains("everything is stored"), "{}", server.log());

        let server = TestServer::start_on(database.open().await, &[]).await;
        let stored = Client::join(&server, "page", 3).await.replica.text().len();
        assert!(
            stored >= ada.acknowledged as usize,
            "{stored} of {} acknowledged",
            ada.acknowledged
        );
        assert_eq!(
            get(server.address, "/api/pages/other/content").await.json(),
            json!({ "text": "elsewhere" })
        );
        let snapshot = get(server.address, "/api/pages/page").await.json();
        assert_eq!(snapshot["connections"], 0);
    }
}

#[tokio::test]
async fn while_it_stops_nobody_new_is_let_in() {
    let store = SwitchedStore::new(empty_store().await);
    let server = TestServer::start_on(store.clone(), &[]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    let mut bob = Client::join(&server, "page", 2).await;
    store.writing(Weather::Hanging);
    ada.write("unstored").await;
    bob.until_text("unstored").await;
    let address = server.address;
    let stopping = tokio::spawn(server.stop());
    crate::support::until("the door to close", async || {
        TcpStream::connect(address).await.is_err()
    })
    .await;
    // What was written before is stored. What is written now keeps nobody waiting, and is its author's to send again.
    bob.write("!").await;
    assert!(!stopping.is_finished());
    store.writing(Weather::Fine);
    ada.until_acknowledged().await;
    assert_eq!(ada.closed().await.code, 1012);
    assert_eq!(bob.closed().await.code, 1012);
    assert_eq!(bob.acknowledged, 0, "it is not stored, and nothing says so");
    assert!(!ada.replica.text().contains('!'), "nobody has it");
    assert!(
        stopping.await.expect("a server that does not panic"),
        "everything stored in time"
    );
}

#[tokio::test]
async fn a_store_that_is_away_does_not_hold_up_the_end() {
    for weather in [Weather::Failing(Fault::Unavailable), Weather::Hanging] {
        let durable = empty_store().await;
        let store = SwitchedStore::new(durable.clone());
        let server = TestServer::start_on(store.clone(), &["--shutdown-deadline-seconds", "3"]).await;
        let mut ada = Client::join(&server, "page", 1).await;
        ada.write_durably("stored").await;
        store.writing(weather);
        ada.write(" and not").await;
        let begun = Instant::now();
        let stopping = tokio::spawn(server.stop());
        assert_eq!(ada.closed().await.code, 1012, "{weather:?}");
        let stored = stopping.await.expect("a server that does not panic");
        assert!(!stored, "{weather:?}: it says that something was not stored");
        assert_eq!(
            ada.acknowledged, 6,
            "{weather:?}: what is lost was never acknowledged"
        );
        // Far below any patience of whoever waits for the end, and far above a slow machine's share.
        assert!(
            begun.elapsed() < Duration::from_secs(15),
            "{weather:?}: {:?}",
            begun.elapsed()
        );

        store.writing(Weather::Fine);
        let server = TestServer::start_on(durable, &[]).await;
        let mut back = Client::join_as(
            crate::support::socket::Socket::open(server.address, "/ws/page").await,
            ada.replica,
        )
        .await;
        back.until_acknowledged().await;
        assert_eq!(back.replica.text(), "stored and not", "she still has it");
    }
}

/// A way to a server that can be cut.
struct Way {
    address: SocketAddr,
    open: watch::Sender<bool>,
}

impl Way {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let open = watch::Sender::new(true);
        let watched = open.clone();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut open = watched.subscribe();
                tokio::spawn(async move {
                    if !*open.borrow() {
                        return;
                    }
                    let Ok(mut far) = TcpStream::connect(server).await else {
                        return;
                    };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = open.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Self { address, open }
    }

    fn cut(&self) {
        self.open.send_replace(false);
    }

    fn mend(&self) {
        self.open.send_replace(true);
    }
}

/// A database's address by another way.
async fn by_way(url: &str) -> (Way, String) {
    let (scheme, rest) = url.split_once("://").expect("an address");
    let (authority, path) = rest.split_once('/').expect("a database");
    let (user, host) = authority
        .rsplit_once('@')
        .map_or(("", authority), |(user, host)| (user, host));
    let host = if host.contains(':') {
        host.to_owned()
    } else {
        format!("{host}:5432")
    };
    let mut addresses = tokio::net::lookup_host(host).await.expect("a host");
    let way = Way::to(addresses.next().expect("an address")).await;
    let user = if user.is_empty() {
        String::new()
    } else {
        format!("{user}@")
    };
    let url = format!("{scheme}://{user}{}/{path}", way.address);
    (way, url)
}

#[tokio::test]
async fn a_database_that_is_away_and_comes_back() {
    let Some(database) = Database::postgres() else {
        return;
    };
    let (way, url) = by_way(&database.url()).await;
    let server = Process::start(&[("DATABASE_URL", &url)]);
    let address = server.address().await;
    let mut ada = Client::join_at(address, "/ws/page", 1).await;
    let mut bob = Client::join_at(address, "/ws/page", 2).await;
    ada.write_durably("before ").await;
    way.cut();
    ada.write("during ").await;
    bob.until("her edit", |bob| bob.replica.text() == "before during ")
        .await;
    crate::support::until("readiness to go red", async || {
        get(address, "/readyz").await.status == 503
    })
    .await;
    assert_eq!(ada.acknowledged, 7);
    way.mend();
    ada.until_acknowledged().await;
    crate::support::until("readiness to go green", async || {
        get(address, "/readyz").await.status == 200
    })
    .await;
    ada.write_durably("after").await;
    assert!(!server.log().contains("before"), "what people write is in no log");
    let text = database.open().await;
    drop(server);
    let other = TestServer::start_on(text, &[]).await;
    assert_eq!(
        Client::join(&other, "page", 3).await.replica.text(),
        "before during after"
    );
}

#[tokio::test]
async fn a_signal_while_the_database_is_away_ends_the_process_with_an_error() {
    let Some(database) = Database::postgres() else {
        return;
    };
    let (way, url) = by_way(&database.url()).await;
    let deadline = ("PAGEROOM_SHUTDOWN_DEADLINE_SECONDS", "3");
    let mut server = Process::start(&[("DATABASE_URL", &url), deadline]);
    let address = server.address().await;
    let mut ada = Client::join_at(address, "/ws/page", 1).await;
    ada.write_durably("stored").await;
    way.cut();
    ada.write(" and not").await;
    server.signal("TERM");
    assert_eq!(ada.closed().await.code, 1012);
    let ended = server.ended().await;
    assert_eq!(ended.code(), Some(1), "{}", server.log());
    assert!(
        server.log().contains("was never acknowledged"),
        "{}",
        server.log()
    );
    assert_eq!(ada.acknowledged, 6);
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let output = run(&["serve", "--port", &port], &[("DATABASE_URL", "memory:")]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.contains(&format!("cannot listen on 127.0.0.1:{port}")),
        "{said}"
    );

    let nowhere = run(
        &["serve", "--port", "0"],
        &[("DATABASE_URL", "sqlite:///nowhere/at/all/pages.db")],
    );
    assert_eq!(nowhere.status.code(), Some(1), "{}", text(&nowhere.stderr));
}
