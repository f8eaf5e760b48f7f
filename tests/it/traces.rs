//! Real editing sessions through real sockets: they end in exactly the text that they ended in, also after a restart.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use crdt::{
    ClientId,
    testing::traces::{ConcurrentTrace, SequentialTrace},
};
use tokio::sync::Notify;

use crate::support::{client::Client, database::Database, http::get, server::TestServer};

const AUTOMERGE_PAPER: &[u8] = include_bytes!("../traces/automerge-paper.json.gz");
const CLOWNSCHOOL: &[u8] = include_bytes!("../traces/clownschool.json.gz");
const FRIENDSFOREVER: &[u8] = include_bytes!("../traces/friendsforever.json.gz");

/// How many characters the session of `automerge-paper` inserts.
const INSERTED: u32 = 182_315;
/// Updates that a writer sends before it waits for the acknowledgement of the last.
const WINDOW: usize = 500;

/// The page reads as the trace ends: for a client that comes now, for a backend, and after a restart.
async fn assert_ends_in(server: TestServer, database: &Database, text: &str) {
    let late = Client::join(&server, "page", 1_000_000).await;
    assert!(late.replica.text() == text, "what a joiner is given");
    let content = get(server.address, "/api/pages/page/content?format=text").await;
    assert!(content.text() == text, "what a backend reads");
    assert!(server.stop().await, "everything stored in time");
    let server = TestServer::start_on(database.open().await, &[]).await;
    let back = Client::join(&server, "page", 1_000_001).await;
    assert!(back.replica.text() == text, "what a restarted server gives");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn automerge_paper() {
    let trace = SequentialTrace::read(AUTOMERGE_PAPER);
    let database = Database::sqlite();
    let server = TestServer::start_on(database.open().await, &["--max-updates-per-second", "0"]).await;
    let text = trace.end_content.clone();
    let updates = tokio::task::spawn_blocking(move || trace.updates(ClientId(1)))
        .await
        .expect("a replay");
    let mut reader = Client::join(&server, "page", 2).await;
    let end = text.clone();
    let reading = tokio::spawn(async move {
        // The text is costly to look at, so only when everything inserted is there.
        reader
            .until_all_has_come("every insertion", |reader| reader.replica.knows(1) == INSERTED)
            .await;
        reader
            .until_all_has_come("the last deletion", |reader| reader.replica.text() == end)
            .await;
    });
    let mut writer = Client::join(&server, "page", 1).await;
    for window in updates.chunks(WINDOW) {
        send(&mut writer, window).await;
        writer.until_acknowledged().await;
    }
    reading.await.expect("a reader");
    assert_ends_in(server, &database, &text).await;
}

async fn send(writer: &mut Client, updates: &[Bytes]) {
    for update in updates {
        writer.replica.receive(update);
        writer.queue(update).await;
    }
    writer.flush().await;
}

/// Who has come how far in a session of several authors: nobody gets further ahead of the others than they really were
/// apart, which keeps what has to wait for others within bounds.
struct Progress {
    next: Vec<AtomicUsize>,
    moved: Notify,
}

impl Progress {
    const AHEAD: usize = 200;

    async fn may_send(&self, index: usize) {
        loop {
            let moved = self.moved.notified();
            let slowest = self.next.iter().map(|next| next.load(Ordering::SeqCst)).min();
            if index <= slowest.unwrap_or(usize::MAX).saturating_add(Self::AHEAD) {
                return;
            }
            moved.await;
        }
    }

    fn moved_to(&self, author: usize, index: usize) {
        self.next[author].store(index, Ordering::SeqCst);
        self.moved.notify_waiters();
    }
}

/// Replays a session with one connection an author.
async fn replay(packed: &'static [u8]) {
    let trace = ConcurrentTrace::read(packed);
    let database = Database::sqlite();
    let server = TestServer::start_on(database.open().await, &["--max-updates-per-second", "0"]).await;
    let first = ClientId(10);
    let mut shares: Vec<Vec<(usize, Bytes)>> = vec![Vec::new(); trace.num_agents];
    for (index, authored) in trace.updates(first).into_iter().enumerate() {
        shares[authored.author].push((index, authored.update));
    }
    let progress = Arc::new(Progress {
        next: shares
            .iter()
            .map(|share| AtomicUsize::new(share.first().map_or(usize::MAX, |(index, _)| *index)))
            .collect(),
        moved: Notify::new(),
    });
    let mut authors = Vec::new();
    for (author, share) in shares.into_iter().enumerate() {
        let mut client = Client::join(&server, "page", first.0 + author as u64).await;
        let progress = progress.clone();
        authors.push(tokio::spawn(async move {
            for (position, (index, update)) in share.iter().enumerate() {
                // What others say is heard while waiting for them, as a real program does.
                client.hear_until(progress.may_send(*index)).await;
                client.replica.receive(update);
                client.send(update).await;
                progress.moved_to(
                    author,
                    share.get(position + 1).map_or(usize::MAX, |(next, _)| *next),
                );
            }
            client
        }));
    }
    let text = trace.end_content;
    let mut clients = Vec::new();
    for author in authors {
        clients.push(author.await.expect("an author"));
    }
    for client in &mut clients {
        client
            .until_all_has_come("the end of the session", |client| client.replica.text() == text)
            .await;
        client.until_acknowledged().await;
    }
    assert_ends_in(server, &database, &text).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clownschool_with_a_connection_an_author() {
    replay(CLOWNSCHOOL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn friendsforever_with_a_connection_an_author() {
    replay(FRIENDSFOREVER).await;
}
