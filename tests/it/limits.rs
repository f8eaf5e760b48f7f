//! Every limit: what is refused over it, with which code, and that nothing is dropped in silence.

use std::time::Duration;

use bytes::Bytes;
use crdt::{encoding::Write, message};
use serde_json::json;
use storage::testing::Fault;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

use crate::support::{
    client::{Client, presence_update},
    http::{get, get_with, post},
    process::Process,
    replica::{FIELD, Replica, insertion},
    server::{ADMIN_TOKEN, TestServer, empty_store},
    socket::{Closed, Socket},
    soon,
    store::{SwitchedStore, Weather},
    token::{SECRET, token},
    until,
};

/// How a connection is refused that comes with these headers.
async fn refused(server: &TestServer, path: &str, headers: &[(&'static str, &str)]) -> Closed {
    Socket::open_with(server.address, path, headers)
        .await
        .closed()
        .await
}

fn assert_closed(closed: &Closed, code: u16, reason: &str) {
    assert_eq!(closed.code, code, "{closed:?}");
    assert!(closed.reason.starts_with(&format!("{reason}: ")), "{closed:?}");
}

#[tokio::test]
async fn a_message_over_the_limit_ends_its_connection() {
    let server = TestServer::start(&["--max-message-bytes", "1000"]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    ada.write_durably(&"x".repeat(900)).await;
    let mut loud = Client::join(&server, "page", 2).await;
    loud.write(&"y".repeat(1000)).await;
    assert_closed(&loud.closed().await, 4413, "too_large");
    // Also when it comes in small frames.
    let mut sly = Client::join(&server, "page", 3).await;
    let packed = vec![0; 1001];
    sly.socket.say(packed).await;
    assert_closed(&sly.closed().await, 4413, "too_large");
    ada.write_durably("unharmed").await;
}

#[tokio::test]
async fn presence_over_the_limit_is_refused_and_counted() {
    let flags = ["--max-awareness-bytes", "50", "--max-awareness-clients", "2"];
    let server = TestServer::start(&flags).await;
    let mut ada = Client::join(&server, "page", 1).await;
    let mut bob = Client::join(&server, "page", 9).await;
    ada.show(&json!({ "padding": "x".repeat(100) })).await;
    ada.show(&json!({ "name": "Ada" })).await;
    for id in [2, 3, 4] {
        ada.show_as(id, 1, &json!({ "id": id })).await;
    }
    ada.show(&json!({ "name": "Ada", "last": true })).await;
    bob.until_shown(1, Some(&json!({ "name": "Ada", "last": true })))
        .await;
    assert_eq!(bob.presence.shown(), [1, 2], "two ids a connection");
    let refused = server
        .metric("pageroom_refusals_total{kind=\"awareness_too_large\"}")
        .await;
    assert_eq!(refused, Some(3.0));
    ada.write_durably("still connected").await;
}

#[tokio::test]
async fn a_full_page_can_be_read_and_not_changed() {
    let server = TestServer::start(&["--max-page-bytes", "1000", "--max-message-bytes", "600"]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    while ada.replica.text().len() <= 1000 {
        ada.write_durably(&"x".repeat(300)).await;
    }
    let text = ada.replica.text();
    ada.send(&insertion(2, 0, "over")).await;
    ada.until("the refusal", |ada| !ada.refusals.is_empty()).await;
    assert!(ada.refusals[0].starts_with("too_large: "), "{:?}", ada.refusals);
    let posted = post(server.address, "/api/pages/page/updates", insertion(3, 0, "over")).await;
    assert_eq!(
        (posted.status.as_u16(), posted.error().as_str()),
        (413, "too_large")
    );
    let mut reader = Client::join(&server, "page", 4).await;
    assert_eq!(reader.replica.text(), text);
    reader.show(&json!({ "name": "Rita" })).await;
    ada.until_shown(4, Some(&json!({ "name": "Rita" }))).await;
    Client::join(&server, "other", 5)
        .await
        .write_durably("other pages are not full")
        .await;
}

#[tokio::test]
async fn more_connections_than_the_server_takes_are_asked_to_come_later() {
    let server = TestServer::start(&["--max-connections", "2"]).await;
    let ada = Client::join(&server, "a", 1).await;
    let _bob = Client::join(&server, "b", 2).await;
    assert_closed(&refused(&server, "/ws/c", &[]).await, 1013, "unavailable");
    ada.leave().await;
    server.until_metric("pageroom_connections_open", 1.0).await;
    Client::join(&server, "c", 3)
        .await
        .write_durably("her place is free")
        .await;
}

#[tokio::test]
async fn a_full_room_says_so() {
    let server = TestServer::start(&["--max-connections-per-room", "2"]).await;
    let _ada = Client::join(&server, "page", 1).await;
    let bob = Client::join(&server, "page", 2).await;
    assert_closed(&refused(&server, "/ws/page", &[]).await, 1013, "room_full");
    Client::join(&server, "other", 3).await;
    bob.leave().await;
    Client::join(&server, "page", 4)
        .await
        .write_durably("his place is free")
        .await;
}

#[tokio::test]
async fn a_user_has_so_many_connections_and_guests_are_no_users() {
    let server = TestServer::start(&["--jwt-secret", SECRET, "--max-connections-per-user", "2"]).await;
    let path = |user: &str| format!("/ws/page?token={}", token(user, &json!({ "*": "edit" })));
    let first = Client::join_at(server.address, &path("ada"), 1).await;
    let _second = Client::join_at(server.address, &path("ada"), 2).await;
    assert_closed(&refused(&server, &path("ada"), &[]).await, 4429, "rate_limited");
    Client::join_at(server.address, &path("bob"), 3).await;
    first.leave().await;
    Client::join_at(server.address, &path("ada"), 4).await;

    let open = TestServer::start(&["--max-connections-per-user", "1"]).await;
    let _guests = [
        Client::join(&open, "page", 1).await,
        Client::join(&open, "page", 2).await,
    ];
}

#[tokio::test]
async fn an_address_has_so_many_connections_behind_a_trusted_proxy_too() {
    let flags = ["--max-connections-per-ip", "2", "--trusted-proxies", "127.0.0.1"];
    let server = TestServer::start(&flags).await;
    let from = async |forwarded: &'static str| {
        Socket::open_with(server.address, "/ws/page", &[("x-forwarded-for", forwarded)]).await
    };
    let mut here = Vec::new();
    for forwarded in ["192.0.2.1", "198.51.100.9, 192.0.2.1"] {
        here.push(Client::join_as(from(forwarded).await, Replica::new(1)).await);
    }
    assert_closed(&from("192.0.2.1").await.closed().await, 4429, "rate_limited");
    here.push(Client::join_as(from("192.0.2.2").await, Replica::new(2)).await);
    // What the client wrote before, and how a proxy writes it, change nothing.
    for same in ["unknown, 192.0.2.1", "192.0.2.1:4711", "_x,, \"192.0.2.1:1\""] {
        assert_closed(&from(same).await.closed().await, 4429, "rate_limited");
    }
    for nobody in ["unknown", "192.0.2.7, _hidden"] {
        here.push(Client::join_as(from(nobody).await, Replica::new(9)).await);
    }
    assert_closed(&from("").await.closed().await, 4429, "rate_limited");
    // This machine is nobody's address.
    for author in 3..7 {
        here.push(Client::join(&server, "page", author).await);
    }
    let doubting = TestServer::start(&["--max-connections-per-ip", "1"]).await;
    for author in 1..4 {
        let socket =
            Socket::open_with(doubting.address, "/ws/page", &[("x-forwarded-for", "192.0.2.1")]).await;
        here.push(Client::join_as(socket, Replica::new(author)).await);
    }
}

#[tokio::test]
async fn a_trusted_proxy_that_does_not_say_whom_it_serves_makes_nobody_exempt_in_silence() {
    let admin = format!("Bearer {ADMIN_TOKEN}");
    let told = "PAGEROOM_TRUSTED_PROXIES names this address";
    let start = |proxies: &str| {
        Process::start(&[
            ("DATABASE_URL", "memory:"),
            ("PAGEROOM_AUTH", "open"),
            ("PAGEROOM_ADMIN_TOKEN", ADMIN_TOKEN),
            ("PAGEROOM_MAX_CONNECTIONS_PER_IP", "2"),
            ("PAGEROOM_TRUSTED_PROXIES", proxies),
        ])
    };
    let server = start("127.0.0.1");
    let address = server.address().await;
    // A proxy that tells how it was reached, and not by whom: its clients are one to every limit.
    let mut here = Vec::new();
    for author in 1..3 {
        let headers = [("x-real-ip", "198.51.100.9"), ("x-forwarded-proto", "https")];
        let socket = Socket::open_with(address, "/ws/page", &headers).await;
        here.push(Client::join_as(socket, Replica::new(author)).await);
    }
    let mut third = Socket::open_with(address, "/ws/page", &[("via", "1.1 proxy")]).await;
    let closed = soon("the limit of connections", third.closed()).await;
    assert_closed(&closed, 4429, "rate_limited");
    until("the proxy to be told of", async || server.log().contains(told)).await;
    let log = server.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains(told)).collect();
    let [line] = lines.as_slice() else {
        panic!("once a minute: {log}");
    };
    for part in ["WARN", "peer=127.0.0.1", "X-Forwarded-For", "Forwarded"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    // One that tells nothing at all looks like a program of this machine, which is let in, and told of.
    for path in ["/ws/page", "/hocuspocus", "/socket.io/?EIO=4&transport=websocket"] {
        let server = start("127.0.0.1");
        let address = server.address().await;
        let bearer = [("authorization", admin.as_str())];
        let backend = get_with(address, "/api/pages", &bearer).await;
        assert_eq!(backend.status, 200);
        let whose = [("x-forwarded-for", "198.51.100.9")];
        assert_eq!(get_with(address, "/api/pages", &whose).await.status, 200);
        assert!(!server.log().contains(told), "{}", server.log());
        let sockets = [(), (), ()].map(|()| Socket::open(address, path));
        let sockets = futures_util::future::join_all(sockets).await;
        assert_eq!(sockets.len(), 3);
        until(path, async || server.log().contains(told)).await;
    }
    // Whom nobody trusts is not asked for it.
    let server = start("192.0.2.1");
    let address = server.address().await;
    for author in 1..4 {
        here.push(Client::join_at(address, "/ws/page", author).await);
    }
    assert!(!server.log().contains(told), "{}", server.log());
}

#[tokio::test]
async fn who_writes_too_fast_is_read_more_slowly_and_loses_nothing() {
    let flags = ["--max-updates-per-second", "50", "--max-updates-burst", "10"];
    let server = TestServer::start(&flags).await;
    let mut ada = Client::join(&server, "page", 1).await;
    let mut bob = Client::join(&server, "page", 2).await;
    let started = Instant::now();
    for _ in 0..100 {
        let update = ada.replica.write("x");
        ada.socket
            .feed(message::update(&update))
            .await
            .expect("a connection");
    }
    ada.socket.flush().await.expect("a connection");
    // Others have budgets of their own.
    bob.write("b").await;
    ada.until("Bob's edit", |ada| ada.replica.text().contains('b'))
        .await;
    ada.until_acknowledged().await;
    bob.until("all of Ada's edits", |bob| {
        bob.replica.text().matches('x').count() == 100
    })
    .await;
    // Up to 64 messages are taken in one turn before the budget is looked at.
    let least = Duration::from_secs(1) / 50 * (100 - 10 - 64);
    assert!(
        started.elapsed() >= least,
        "{:?} is faster than allowed",
        started.elapsed()
    );
}

#[tokio::test]
async fn while_too_much_is_unstored_nobody_is_read() {
    let store = SwitchedStore::new(empty_store().await);
    let flags = [
        "--max-unstored-bytes",
        "10000",
        "--room-mailbox",
        "1",
        "--store-retry-milliseconds",
        "50",
    ];
    let server = TestServer::start_on(store.clone(), &flags).await;
    let mut ada = Client::join(&server, "page", 1).await;
    let mut bob = Client::join(&server, "page", 2).await;
    store.writing(Weather::Failing(Fault::Unavailable));
    let part = "x".repeat(1000);
    for _ in 0..1000 {
        ada.write(&part).await;
    }
    bob.until("some of it", |bob| bob.replica.text().len() >= 10_000)
        .await;
    // A few reads of up to 64 messages are under way when the limit is noticed; the rest waits in the socket.
    let bound = 10_000.0 + 4.0 * 64.0 * 1100.0;
    for _ in 0..20 {
        let unstored = server.metric("pageroom_unstored_bytes").await.expect("a number");
        assert!(
            unstored > 10_000.0 && unstored < bound,
            "{unstored} bytes in memory"
        );
    }
    assert_eq!(ada.acknowledged, 0);
    store.writing(Weather::Fine);
    ada.until_acknowledged().await;
    bob.until("all of it", |bob| bob.replica.text().len() == 1_000_000)
        .await;
}

#[tokio::test]
async fn updates_that_wait_for_others_are_bounded() {
    let server = TestServer::start(&["--max-parked-bytes", "300"]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    let mut early = Client::join(&server, "page", 2).await;
    // What it wrote first got lost on the way.
    early.replica.receive(&insertion(2, 0, "x"));
    for clock in [1, 2, 3, 4] {
        early.replica.receive(&insertion(2, clock, "x"));
        early.send(&insertion(2, clock, "x")).await;
    }
    ada.write("a").await;
    early
        .until("what Ada wrote", |early| early.replica.text().contains('a'))
        .await;
    let refused = server
        .metric("pageroom_refusals_total{kind=\"parking_full\"}")
        .await;
    assert!(refused >= Some(2.0), "{refused:?}");
    // What was not kept is asked for when there is room again, so nothing is lost by it.
    ada.send(&insertion(2, 0, "x")).await;
    early.hear_until(ada.until_text("axxxxx")).await;
}

#[tokio::test]
async fn an_update_of_too_many_clients_is_refused() {
    let server = TestServer::start(&["--max-clients-per-update", "3"]).await;
    let crowd = |clients: u64| {
        let mut update = Vec::new();
        update.put_number(clients);
        for client in (1..=clients).rev() {
            update.put_number(1);
            update.put_number(client);
            update.put_raw(&[0, 4, 1]);
            update.put_string(FIELD);
            update.put_string("x");
        }
        update.put_byte(0);
        Bytes::from(update)
    };
    let mut ada = Client::join(&server, "page", 9).await;
    ada.socket.say(message::sync_step_2(&crowd(4))).await;
    assert_closed(&ada.closed().await, 4400, "malformed");
    let posted = post(server.address, "/api/pages/page/updates", crowd(4)).await;
    assert_eq!(
        (posted.status.as_u16(), posted.error().as_str()),
        (422, "malformed")
    );
    assert_eq!(
        post(server.address, "/api/pages/page/updates", crowd(3))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_state_vector_names_only_so_many_clients() {
    let server = TestServer::start(&["--max-clients-per-state-vector", "3"]).await;
    let knowing = |clients: u8| {
        let mut vector = vec![clients];
        for client in 1..=clients {
            vector.extend([client, 1]);
        }
        vector
    };
    let mut ada = Client::join(&server, "page", 9).await;
    ada.write_durably("a").await;
    ada.synced = false;
    ada.socket.say(message::sync_step_1(&knowing(3))).await;
    ada.until("the answer", |ada| ada.synced).await;
    ada.socket.say(message::sync_step_1(&knowing(4))).await;
    assert_closed(&ada.closed().await, 4400, "malformed");
    for (known, status) in [("AwEBAgEDAQ", 200), ("BAEBAgEDAQQB", 422)] {
        let answer = get(server.address, &format!("/api/pages/page/snapshot?sv={known}")).await;
        assert_eq!(answer.status, status, "{known}: {}", answer.text());
    }
}

#[tokio::test]
async fn plain_values_go_only_so_deep() {
    let server = TestServer::start(&["--max-value-nesting", "10"]).await;
    // A list with a plain value: lists in lists, the last one empty.
    let nested = |levels: usize| {
        let mut update = vec![1, 1, 1, 0, 8, 1];
        update.put_string("root");
        update.put_number(1);
        for _ in 1..levels {
            update.put_raw(&[117, 1]);
        }
        update.put_raw(&[117, 0]);
        update.put_byte(0);
        Bytes::from(update)
    };
    let posted = post(server.address, "/api/pages/deep/updates", nested(12)).await;
    assert_eq!(
        (posted.status.as_u16(), posted.error().as_str()),
        (422, "malformed")
    );
    let mut ada = Client::join(&server, "deep", 9).await;
    ada.socket.say(message::sync_step_2(&nested(12))).await;
    assert_closed(&ada.closed().await, 4400, "malformed");
    let posted = post(server.address, "/api/pages/flat/updates", nested(10)).await;
    assert_eq!(posted.status, 200, "{}", posted.text());
}

#[tokio::test]
async fn types_inside_types_go_only_so_deep() {
    let server = TestServer::start(&["--max-nesting", "10"]).await;
    // Lists in lists: the first in a root type, each other in the one before.
    let nested = |levels: u64| {
        let mut update = vec![1];
        update.put_number(levels);
        update.put_raw(&[1, 0]);
        for level in 0..levels {
            update.put_byte(7);
            match level.checked_sub(1) {
                None => {
                    update.put_byte(1);
                    update.put_string("root");
                }
                Some(parent) => {
                    update.put_raw(&[0, 1]);
                    update.put_number(parent);
                }
            }
            update.put_byte(0);
        }
        update.put_byte(0);
        Bytes::from(update)
    };
    let posted = post(server.address, "/api/pages/deep/updates", nested(20)).await;
    assert_eq!(
        (posted.status.as_u16(), posted.error().as_str()),
        (422, "malformed")
    );
    assert_eq!(
        post(server.address, "/api/pages/flat/updates", nested(10))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn zero_switches_a_limit_off() {
    let flags = [
        ["--max-connections", "0"],
        ["--max-connections-per-room", "0"],
        ["--max-connections-per-user", "0"],
        ["--max-connections-per-ip", "0"],
        ["--max-updates-per-second", "0"],
        ["--max-message-bytes", "0"],
        ["--max-page-bytes", "0"],
        ["--max-awareness-bytes", "0"],
        ["--max-awareness-clients", "0"],
        ["--max-clients-per-update", "0"],
        ["--max-clients-per-state-vector", "0"],
        ["--max-outbox-bytes", "0"],
        ["--max-stall-seconds", "0"],
        ["--max-body-bytes", "0"],
        ["--max-unstored-bytes", "0"],
        ["--max-parked-bytes", "0"],
    ];
    let server = TestServer::start(&flags.concat()).await;
    let mut ada = Client::join(&server, "page", 1).await;
    let mut bob = Client::join(&server, "page", 2).await;
    ada.write_durably(&"x".repeat(100_000)).await;
    bob.until("all of it", |bob| bob.replica.text().len() == 100_000)
        .await;
    for id in 100..250 {
        ada.socket
            .say(message::awareness(&presence_update(
                id,
                1,
                &json!({ "id": "x".repeat(1000) }),
            )))
            .await;
    }
    bob.until("many states", |bob| bob.presence.shown().len() == 150)
        .await;
    bob.send(&insertion(2, 1, "early")).await;
    bob.send(&insertion(2, 0, "x")).await;
    ada.until("both", |ada| ada.replica.text().contains("xearly"))
        .await;
    assert_eq!(get(server.address, "/api/pages/page").await.status, 200);
}

/// Proxies on this machine are believed, so that a test can come from anywhere.
const ANYWHERE: [&str; 2] = ["--trusted-proxies", "127.0.0.0/8"];

#[tokio::test]
async fn requests_of_a_user_and_of_an_address_are_limited_and_those_of_backends_are_not() {
    let slow = ["--max-requests-per-second", "1", "--max-requests-burst", "3"];
    let locked = ["--jwt-secret", SECRET, "--admin-token", ADMIN_TOKEN];
    let server = TestServer::start(&[&slow[..], &locked, &ANYWHERE].concat()).await;
    let ask = async |from: &str, token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("x-forwarded-for", from), ("authorization", bearer.as_str())];
        let answer = get_with(server.address, "/api/pages", &headers).await;
        let waits = answer.headers.get("retry-after").is_some();
        assert_eq!(waits, answer.status == 429);
        answer.status.as_u16()
    };
    let (ada, bob) = (token("ada", &json!({})), token("bob", &json!({})));
    // A user, wherever it comes from.
    let mut asked = Vec::new();
    for last in 1..=5 {
        asked.push(ask(&format!("198.51.100.{last}"), &ada).await);
    }
    assert_eq!(asked.get(..3), Some(&[200, 200, 200][..]));
    assert!(asked.contains(&429), "{asked:?}");
    // An address, whoever comes from there, also without a token that proves something.
    let mut asked = Vec::new();
    for token in [bob.as_str(), "nonsense", "nonsense", &bob, &bob] {
        asked.push(ask("203.0.113.7", token).await);
    }
    assert_eq!(asked.get(..3), Some(&[200, 401, 401][..]));
    assert!(asked.contains(&429), "{asked:?}");
    for _ in 0..20 {
        assert_eq!(ask("203.0.113.7", ADMIN_TOKEN).await, 200);
    }
    // y-sweet's requests come out of the same bucket.
    for path in ["/d/page/as-update", "/check_store"] {
        let from = [("x-forwarded-for", "203.0.113.8")];
        let mut asked = Vec::new();
        while asked.len() < 6 && !asked.contains(&429) {
            asked.push(get_with(server.address, path, &from).await.status.as_u16());
        }
        assert!(asked.contains(&429), "{path}: {asked:?}");
    }
    assert!(
        server
            .metric("pageroom_refusals_total{kind=\"rate_limited\"}")
            .await
            .is_some()
    );
}

#[tokio::test]
async fn an_address_that_connects_again_and_again_is_told_to_wait_in_every_protocol() {
    let slow = ["--max-arrivals-per-second", "1", "--max-arrivals-burst", "2"];
    let server = TestServer::start(&[&slow[..], &ANYWHERE].concat()).await;
    let web_socket = async |path: &str, from: &str| {
        let socket = Socket::open_with(server.address, path, &[("x-forwarded-for", from)]).await;
        let mut client = Client::new(socket, Replica::new(1));
        client.ask().await;
        while !client.synced {
            if let Err(closed) = client.turn().await {
                return closed.code;
            }
        }
        200
    };
    let polling = async |from: &str| {
        let path = "/socket.io/?EIO=4&transport=polling";
        let answer = get_with(server.address, path, &[("x-forwarded-for", from)]).await;
        answer.status.as_u16()
    };
    for (path, from) in [("/ws/page", "203.0.113.1"), ("/d/page/ws/page", "203.0.113.4")] {
        let mut knocks = Vec::new();
        while knocks.len() < 4 && !knocks.contains(&4429) {
            knocks.push(web_socket(path, from).await);
        }
        assert_eq!(knocks.get(..2), Some(&[200, 200][..]));
        assert!(knocks.contains(&4429), "{path}: {knocks:?}");
    }
    let from = "203.0.113.2";
    let knocks = [polling(from).await, polling(from).await, polling(from).await];
    assert_eq!(knocks.get(..2), Some(&[200, 200][..]));
    assert!(knocks.contains(&429) || polling(from).await == 429, "{knocks:?}");
    // Somebody next door is let in.
    assert_eq!(web_socket("/ws/page", "203.0.113.3").await, 200);
}

#[tokio::test]
async fn the_head_of_a_request_is_bounded() {
    let server = TestServer::start(&[]).await;
    let large = "x".repeat(30 * 1024);
    let answer = get_with(server.address, "/healthz", &[("x-large", &large)]).await;
    assert_eq!(answer.status, 200);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let mut head = b"GET /healthz HTTP/1.1\r\nx-large: ".to_vec();
    head.resize(32 * 1024, b'x');
    stream.write_all(&head).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn who_does_not_finish_the_head_of_a_request_is_hung_up_on() {
    let server = TestServer::start(&[]).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    let mut answer = Vec::new();
    soon("the server to hang up", stream.read_to_end(&mut answer))
        .await
        .unwrap();
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
}
