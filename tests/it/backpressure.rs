//! Slow readers: they cost a bounded amount of memory, catch up by state vector, and are hung up on when they never read.

use std::{net::SocketAddr, time::Duration};

use hyper::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::{
    access::{AT_ONCE, backend, locked, now},
    support::{
        client::Client,
        database::Database,
        http::get_with,
        process::Process,
        provider::Provider,
        replica::{Replica, deletion},
        server::TestServer,
        socket::Socket,
        socket_io::{Session, place},
        token::token,
    },
};

/// A connection of a machine that takes next to nothing that it does not read.
async fn small_stream(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    socket.connect(address).await.expect("a server that listens")
}

async fn slow_reader(address: SocketAddr, author: u64) -> Client {
    let socket = Socket::over(small_stream(address).await, "/ws/page").await;
    let mut client = Client::new(socket, Replica::new(author));
    client.ask().await;
    client.until("the answer to step 1", |client| client.synced).await;
    client
}

#[tokio::test]
async fn a_slow_reader_is_brought_up_to_date_with_one_diff() {
    let server = TestServer::start(&["--max-outbox-bytes", "65536"]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    let mut slow = slow_reader(server.address, 2).await;
    slow.write_durably("slow").await;
    let part = "x".repeat(100_000);
    // More than any socket buffer holds.
    for _ in 0..200 {
        ada.write_durably(&part).await;
    }
    let sent = server
        .metric("pageroom_sent_bytes_total")
        .await
        .expect("a number");
    let echoed = 200.0 * 100_000.0;
    assert!(
        sent < echoed * 1.6,
        "{sent} bytes left the server, of which the author was sent {echoed}"
    );
    slow.until("all of it", |slow| {
        slow.replica.clock() == 4 && slow.replica.text().len() == 20_000_004
    })
    .await;
    assert!(server.metric("pageroom_resyncs_total").await >= Some(1.0));
    assert!(slow.deltas < 200, "deltas were left out");
    // From now on as everybody else.
    slow.write_durably("!").await;
    ada.until("the edit of who was slow", |ada| {
        ada.replica.text().ends_with('!')
    })
    .await;
    ada.write_durably("?").await;
    slow.until("the next edit", |slow| slow.replica.text().contains('?'))
        .await;
    assert_eq!(slow.replica.text(), ada.replica.text());
}

#[tokio::test]
async fn an_acknowledgement_that_a_slow_reader_missed_reaches_it_later() {
    let server = TestServer::start(&["--max-outbox-bytes", "65536"]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    let mut slow = slow_reader(server.address, 2).await;
    let part = "x".repeat(100_000);
    for _ in 0..300 {
        ada.write_durably(&part).await;
    }
    // It writes although it does not read: the acknowledgement finds a full outbox.
    slow.write("from the slow one").await;
    ada.until("its edit", |ada| ada.replica.text().contains("slow one"))
        .await;
    slow.until_acknowledged().await;
    slow.until("everything", |slow| slow.replica.text() == ada.replica.text())
        .await;
}

#[tokio::test]
async fn who_never_reads_is_hung_up_on() {
    let server = TestServer::start(&["--max-outbox-bytes", "65536", "--max-stall-seconds", "2"]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    let stalled = slow_reader(server.address, 2).await;
    let part = "x".repeat(100_000);
    for _ in 0..300 {
        ada.write_durably(&part).await;
    }
    server.until_metric("pageroom_connections_open", 1.0).await;
    assert_eq!(
        server
            .metric("pageroom_refusals_total{kind=\"unavailable\"}")
            .await,
        Some(1.0)
    );
    let back = Client::join_as(Socket::open(server.address, "/ws/page").await, stalled.replica).await;
    assert_eq!(back.replica.text(), ada.replica.text());
}

/// What a slow reader holds on to, while it reads nothing.
enum Slow {
    Client(Client),
    Provider(Provider),
    Session(Session),
}

#[tokio::test]
async fn who_reads_nothing_and_is_blocked_is_hung_up_on_at_once() {
    let bob = token("bob", &json!({ "*": "edit" }));
    for protocol in ["y-websocket", "Hocuspocus", "y-socket.io", "events"] {
        let server = locked(&["--max-outbox-bytes", "65536"]).await;
        let path = format!("/ws/page?token={}", token("ada", &json!({ "*": "edit" })));
        let mut ada = Client::join_at(server.address, &path, 1).await;
        let stream = small_stream(server.address).await;
        let slow = match protocol {
            "y-websocket" => {
                let socket = Socket::over(stream, &format!("/ws/page?token={bob}")).await;
                Slow::Client(Client::join_as(socket, Replica::new(2)).await)
            }
            "Hocuspocus" => {
                let mut provider = Provider::over(Socket::over(stream, "/hocuspocus").await);
                provider.enter("page", &bob).await;
                Slow::Provider(provider)
            }
            "y-socket.io" => {
                let mut session = Session::over(stream).await;
                let auth = json!({ "token": bob });
                session.say(&format!("40/yjs|page,{auth}")).await;
                session.until_text("40/yjs|page,").await;
                session.emit("page", "sync-step-1", Some(7), &[0]).await;
                session.until_text("/yjs|page,7").await;
                Slow::Session(session)
            }
            _ => {
                let mut session = Session::over(stream).await;
                session.say(&format!("40{}", json!({ "token": bob }))).await;
                session.until_text("40{").await;
                let page = json!({ "pageId": "page", "stateVector": place(0) });
                session.send("join_page", Some(1), &page, &[&[0]]).await;
                session.until_told("1").await;
                Slow::Session(session)
            }
        };
        // More than any socket buffer holds.
        let part = "x".repeat(1_000_000);
        for _ in 0..12 {
            ada.write_durably(&part).await;
        }
        let since = now();
        let blocked = backend(&server, Method::PUT, "/api/users/bob/block", Value::Null).await;
        assert_eq!(blocked.status, 204);
        server.until_metric("pageroom_connections_open", 1.0).await;
        assert!(
            since.elapsed() < AT_ONCE,
            "{protocol} after {:?}",
            since.elapsed()
        );
        match slow {
            Slow::Client(slow) => drop(slow),
            Slow::Provider(slow) => drop(slow),
            Slow::Session(slow) => drop(slow),
        }
    }
}

#[tokio::test]
async fn who_reads_nothing_and_is_blocked_is_heard_by_nobody_any_more() {
    let server = locked(&[]).await;
    let auth = |user: &str| json!({ "token": token(user, &json!({ "*": "edit" })) });
    let (mut eve, _) = Session::connect(server.address, &auth("eve")).await;
    let mut bob = Session::over(small_stream(server.address).await).await;
    bob.say(&format!("40{}", auth("bob"))).await;
    bob.until_text("40{").await;
    for session in [&mut eve, &mut bob] {
        session.send("join_page", Some(1), &json!("page"), &[]).await;
        session.until_told("1").await;
    }
    bob.send("join_drive", Some(2), &json!("d"), &[]).await;
    bob.until_told("2").await;
    // More than any socket buffer holds.
    for _ in 0..12 {
        let told = json!({ "channelId": "drive:d", "event": "stuff", "payload": "x".repeat(800_000) });
        let answer = backend(&server, Method::POST, "/api/broadcast", told).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let points = async |bob: &mut Session, n: u32| {
        let body = json!({ "pageId": "page", "cursor": { "n": n } });
        bob.send("cursor_move", None, &body, &[]).await;
    };
    points(&mut bob, 0).await;
    assert_eq!(eve.until_told("cursor_moved").await.body["cursor"]["n"], 0);
    let since = now();
    let blocked = backend(&server, Method::PUT, "/api/users/bob/block", Value::Null).await;
    assert_eq!(blocked.status, 204);
    for n in 1..50 {
        points(&mut bob, n).await;
        bob.send("typing_start", None, &json!({ "pageId": "page" }), &[])
            .await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.until_metric("pageroom_connections_open", 1.0).await;
    assert!(since.elapsed() < AT_ONCE, "after {:?}", since.elapsed());
    eve.send("join", Some(9), &json!("x"), &[]).await;
    let mut heard = Vec::new();
    loop {
        let told = eve.told().await;
        match told.what.as_str() {
            "9" => break,
            "cursor_moved" | "user_typing" => heard.push(told.body),
            _ => {}
        }
    }
    assert_eq!(heard, [Value::Null; 0], "of somebody who is blocked");
}

#[tokio::test]
async fn a_message_may_take_longer_than_silence_may() {
    let flags = ["--keepalive-seconds", "1", "--connection-timeout-seconds", "2"];
    let server = TestServer::start(&flags).await;
    let mut slow = Client::join(&server, "page", 1).await;
    let update = slow.replica.write(&"x".repeat(1 << 20));
    let message = crdt::message::update(&update);
    // Over three seconds, in which it can answer no ping.
    let (piece, pause) = (message.len() / 60, Duration::from_millis(50));
    slow.socket.say_slowly(&message, piece, pause).await;
    slow.until_acknowledged().await;
    let reader = Client::join(&server, "page", 2).await;
    assert_eq!(reader.replica.text().len(), 1 << 20);
}

/// Resident memory of a process, in bytes.
fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("Linux");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("VmRSS");
    let kilobytes: u64 = line
        .trim()
        .trim_end_matches("kB")
        .trim()
        .parse()
        .expect("a number");
    kilobytes * 1024
}

#[tokio::test]
async fn readers_that_stopped_cost_little_memory() {
    let database = Database::sqlite();
    let outbox = ("PAGEROOM_MAX_OUTBOX_BYTES", "65536");
    let server = Process::start(&[("DATABASE_URL", &database.url()), outbox]);
    let address = server.address().await;
    let mut ada = Client::join_at(address, "/ws/page", 1).await;
    let mut stopped = Vec::new();
    for author in 2..12 {
        stopped.push(slow_reader(address, author).await);
    }
    // The page stays small: what is written is deleted again, but each of it is a frame to everybody.
    let write_and_erase = async |ada: &mut Client, times: usize| {
        for _ in 0..times {
            let from = ada.replica.clock();
            ada.write_durably(&"x".repeat(100_000)).await;
            let erasure = deletion(1, from, 100_000);
            ada.replica.receive(&erasure);
            ada.send(&erasure).await;
        }
    };
    write_and_erase(&mut ada, 100).await;
    let before = resident(server.id());
    write_and_erase(&mut ada, 400).await;
    let grown = resident(server.id()).saturating_sub(before);
    assert!(
        grown < 20 << 20,
        "40 MB written to each of ten, {grown} bytes kept"
    );
    let text = ada.replica.text();
    for client in &mut stopped {
        client
            .until("all of it", |client| {
                client.replica.text() == text && client.replica.is_whole()
            })
            .await;
        tokio::time::timeout(Duration::from_millis(1), client.turn())
            .await
            .ok();
    }
}

/// Text in which nothing repeats, so that it is about as long packed as it is.
fn unpackable(characters: usize) -> String {
    let mut seed = 1_u64;
    let mut letter = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b' ' + (seed >> 33) as u8 % 94)
    };
    (0..characters).map(|_| letter()).collect()
}

#[tokio::test]
async fn a_page_of_a_million_characters_is_sent_as_its_readers_take_it() {
    const READERS: usize = 100;
    let database = Database::sqlite();
    let server = Process::start(&[
        ("DATABASE_URL", &database.url()),
        // Making one takes memory, too, whoever reads.
        ("PAGEROOM_SNAPSHOT_INTERVAL_SECONDS", "3600"),
    ]);
    let address = server.address().await;
    let text = unpackable(1_000_000);
    let mut ada = Client::join_at(address, "/ws/page", 1).await;
    ada.write_durably(&text).await;
    for encoding in ["identity", "gzip", "zstd"] {
        // The first one has it made; it is the same buffer for all.
        let path = "/api/pages/page/content?format=text";
        get_with(address, path, &[("accept-encoding", encoding)]).await;
        let before = resident(server.id());
        let mut stopped = Vec::new();
        for _ in 0..READERS {
            let mut stream = small_stream(address).await;
            let request = format!(
                "GET {path} HTTP/1.1\r\nhost: {address}\r\naccept-encoding: {encoding}\r\nconnection: close\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await.expect("a server");
            stream.readable().await.expect("the beginning of an answer");
            stopped.push(stream);
        }
        let grown = resident(server.id()).saturating_sub(before);
        assert!(
            grown < 25 << 20,
            "{encoding}: {READERS} readers of 1 MB, {grown} bytes kept"
        );
        // One that goes on reading has all of it.
        let mut answer = Vec::new();
        let mut one = stopped.swap_remove(READERS / 2);
        one.read_to_end(&mut answer).await.expect("an answer");
        assert!(answer.starts_with(b"HTTP/1.1 200"));
        if encoding == "identity" {
            assert!(answer.ends_with(text.as_bytes()), "what is sent is the text");
        }
    }
}
