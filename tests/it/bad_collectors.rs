//! Collectors of OpenTelemetry that harm whoever sends to them: whatever they do, edits are acknowledged as fast, memory stays where it
//! was, the log says it once, and a stop waits for none of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::Instant,
};

use crate::support::{
    client::Client,
    collector::Collector,
    process::Process,
    receiver::{Receiver, Reply},
    until,
};

/// What a collector does with a connection, once a request has begun on it.
#[derive(Clone, Debug)]
enum Manner {
    /// Says nothing.
    Silence,
    /// Hangs up.
    HangsUp,
    /// Answers this, and no more.
    Says(String),
    /// Answers this, and then the letter for ever.
    Floods(String),
    /// Answers a letter now and then.
    Trickles,
}

/// A collector that counts its connections.
struct BadCollector {
    address: std::net::SocketAddr,
    connections: Arc<AtomicUsize>,
    running: JoinHandle<()>,
}

impl BadCollector {
    async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        let running = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(behave(stream, manner.clone()));
            }
        });
        Self {
            address,
            connections,
            running,
        }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for BadCollector {
    fn drop(&mut self) {
        self.running.abort();
    }
}

async fn behave(mut stream: TcpStream, manner: Manner) {
    let mut request = vec![0; 64 * 1024];
    if matches!(stream.read(&mut request).await, Ok(0) | Err(_)) {
        return;
    }
    // The other side hangs up when it has enough.
    match manner {
        Manner::HangsUp => {}
        Manner::Silence => while matches!(stream.read(&mut request).await, Ok(1..)) {},
        Manner::Says(words) => {
            let _ = stream.write_all(words.as_bytes()).await;
            while matches!(stream.read(&mut request).await, Ok(1..)) {}
        }
        Manner::Floods(words) => {
            let mut written = stream.write_all(words.as_bytes()).await;
            let flood = vec![b'x'; 1 << 20];
            while written.is_ok() {
                written = stream.write_all(&flood).await;
            }
        }
        Manner::Trickles => {
            let mut written = stream.write_all(b"HTTP/1.1 200 OK\r\nx-").await;
            while written.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
                written = stream.write_all(b"x").await;
            }
        }
    }
}

/// An answer with a head of its own and no body.
fn answer(status: &str, head: &str) -> Manner {
    Manner::Says(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n{head}\r\n"))
}

/// What a process has in memory, in bytes.
fn resident(server: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kilobytes.expect("a size") * 1024
}

/// Half of so many edits were acknowledged within this time.
async fn median(client: &mut Client, edits: usize) -> Duration {
    let mut times = Vec::new();
    for _ in 0..edits {
        let begun = Instant::now();
        client.write_durably("x").await;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    times[edits / 2]
}

/// How often a process has said something.
fn said(server: &Process, words: &str) -> usize {
    server.log().matches(words).count()
}

/// A server that sends much and soon, and is to stop soon.
fn impatient(endpoint: &str) -> Process {
    let more = [
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "500"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "64"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20sesame"),
        ("PAGEROOM_SHUTDOWN_DEADLINE_SECONDS", "3"),
    ];
    Process::start(&Collector::variables(endpoint, &more))
}

#[tokio::test]
async fn whatever_a_collector_does_edits_are_acknowledged_and_a_stop_is_in_time() {
    let quiet = Process::start(&[("DATABASE_URL", "memory:")]);
    let mut alone = Client::join_at(quiet.address().await, "/ws/page", 1).await;
    let ok = "HTTP/1.1 200 OK\r\n";
    let manners = [
        ("http", Manner::Silence),
        ("http", Manner::HangsUp),
        ("http", Manner::Trickles),
        ("http", answer("500 Internal Server Error", "")),
        ("http", answer("429 Too Many Requests", "retry-after: 1\r\n")),
        ("http", Manner::Says("\u{16}\u{3}\u{1}nonsense".to_owned())),
        (
            "https",
            Manner::Says("HTTP/1.1 400 Bad Request\r\n\r\n".to_owned()),
        ),
        (
            "http",
            Manner::Floods(format!("{ok}content-length: 104857600\r\n\r\n")),
        ),
        (
            "http",
            Manner::Floods(format!("{ok}transfer-encoding: chunked\r\n\r\n6400000\r\n")),
        ),
        ("http", Manner::Floods(format!("{ok}x-long: "))),
        ("https", Manner::Floods(String::new())),
    ];
    for (scheme, manner) in manners {
        let collector = BadCollector::start(manner.clone()).await;
        let mut server = impatient(&format!("{scheme}://{}", collector.address));
        let mut ada = Client::join_at(server.address().await, "/ws/page", 1).await;
        median(&mut ada, 10).await;
        until("both kinds to be sent", async || collector.connections() >= 2).await;
        let before = resident(&server);
        // Half of each before and after the other, so that a busy machine is as busy for both.
        let (first, told, second) = (
            median(&mut alone, 20).await,
            median(&mut ada, 40).await,
            median(&mut alone, 20).await,
        );
        let most = first.max(second) * 4 + Duration::from_millis(50);
        assert!(
            told <= most,
            "{manner:?}: {told:?}, and {first:?} and {second:?} without"
        );
        let grown = resident(&server).saturating_sub(before);
        assert!(grown < 48 << 20, "{manner:?}: {grown} bytes more");
        let begun = Instant::now();
        server.signal("TERM");
        assert!(server.ended().await.success(), "{manner:?}: {}", server.log());
        assert!(
            begun.elapsed() < Duration::from_secs(4),
            "{manner:?}: {:?}",
            begun.elapsed()
        );
        for kind in ["spans", "numbers"] {
            // One that says nothing is late, and refuses what is sent at the stop.
            let lines = said(&server, &format!("does not take {kind}"));
            assert!(
                lines <= 2,
                "{manner:?}: {lines} lines of {kind}: {}",
                server.log()
            );
        }
        assert!(!server.log().contains("sesame"), "{}", server.log());
    }
}

#[tokio::test]
async fn a_collector_that_asks_to_be_left_alone_is_left_alone() {
    for asks in [
        "retry-after: 3600\r\n",
        "retry-after: Fri, 31 Dec 9999 23:59:59 GMT\r\n",
    ] {
        for status in ["429 Too Many Requests", "503 Service Unavailable"] {
            // Each answer is the last of its connection, so that messages can be counted.
            let collector =
                BadCollector::start(answer(status, &format!("connection: close\r\n{asks}"))).await;
            let mut server = impatient(&format!("http://{}", collector.address));
            let mut ada = Client::join_at(server.address().await, "/ws/page", 1).await;
            until("both kinds to be refused", async || {
                ada.write_durably("x").await;
                said(&server, "the collector does not take") >= 2
            })
            .await;
            let log = server.log();
            assert!(log.contains(&format!("it answers {status}")), "{log}");
            // Many times what it takes for the next ones.
            let end = Instant::now() + Duration::from_secs(1);
            while Instant::now() < end {
                ada.write_durably("x").await;
            }
            server.signal("TERM");
            assert!(server.ended().await.success(), "{}", server.log());
            assert_eq!(collector.connections(), 2, "{status}, {asks}");
            assert_eq!(
                said(&server, "the collector does not take"),
                2,
                "{}",
                server.log()
            );
        }
    }
}

#[tokio::test]
async fn a_collector_that_leads_elsewhere_is_not_followed() {
    let elsewhere = BadCollector::start(Manner::HangsUp).await;
    for status in [
        "301 Moved Permanently",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        let head = format!("location: http://{}/v1/traces\r\n", elsewhere.address);
        let collector = BadCollector::start(answer(status, &head)).await;
        let server = impatient(&format!("http://{}", collector.address));
        let mut ada = Client::join_at(server.address().await, "/ws/page", 1).await;
        until("both kinds to be refused", async || {
            ada.write_durably("x").await;
            said(&server, &format!("it answers {status}")) >= 2
        })
        .await;
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn a_collector_that_takes_every_other_message_does_not_fill_the_log() {
    let turns = Arc::new(AtomicUsize::new(0));
    let counted = turns.clone();
    let collector = Receiver::answering(move |_| {
        let turn = counted.fetch_add(1, Ordering::Relaxed);
        // Each kind has to be refused and taken in turn, whichever comes when.
        Reply::Status(if (turn / 3).is_multiple_of(2) { 200 } else { 500 })
    })
    .await;
    let server = impatient(&format!("http://{}", collector.address));
    let mut ada = Client::join_at(server.address().await, "/ws/page", 1).await;
    until("many messages", async || {
        ada.write_durably("x").await;
        turns.load(Ordering::Relaxed) >= 60
    })
    .await;
    for kind in ["spans", "numbers"] {
        let (refused, taken) = (
            said(&server, &format!("does not take {kind}")),
            said(&server, &format!("takes {kind} again")),
        );
        assert!(refused <= 1 && taken <= refused, "{}", server.log());
    }
    assert!(said(&server, "does not take") > 0, "{}", server.log());
}

#[tokio::test]
async fn each_cause_is_told_when_it_is_new() {
    let collector = Receiver::answering(|_| Reply::Status(500)).await;
    let server = impatient(&format!("http://{}", collector.address));
    let mut ada = Client::join_at(server.address().await, "/ws/page", 1).await;
    until("a refusal to be told", async || {
        ada.write_durably("x").await;
        said(&server, "it answers 500") == 2
    })
    .await;
    collector.answer(|_| Reply::Silence);
    until("silence to be told", async || {
        ada.write_durably("x").await;
        said(&server, "no answer within 500ms") == 2
    })
    .await;
    let address = collector.address;
    drop(collector);
    // Connections that were open are closed with the runtime's tasks, and nobody listens any more.
    until("nobody to listen", async || {
        TcpStream::connect(address).await.is_err()
    })
    .await;
    until("the absence to be told", async || {
        ada.write_durably("x").await;
        said(&server, "it cannot be reached") == 2
    })
    .await;
    assert!(server.log().contains("Connection refused"), "{}", server.log());
}
