//! Slow readers: they cost a bounded amount of memory, catch up by state vector, and are hung up on when they never read.

use std::time::Duration;

use tokio::net::TcpSocket;

use crate::support::{
    client::Client,
    database::Database,
    process::Process,
    replica::{Replica, deletion},
    server::TestServer,
    socket::Socket,
};

/// A member whose machine takes next to nothing that it does not read.
async fn slow_reader(address: std::net::SocketAddr, author: u64) -> Client {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let stream = socket.connect(address).await.expect("a server that listens");
    let mut client = Client::new(Socket::over(stream, "/ws/page").await, Replica::new(author));
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
