//! The one writer of a process: gathers what all rooms want stored into one transaction, and tries until it succeeds.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use storage::{Committed, PageCommit, SharedStore, StoreError};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::telemetry::Metrics;

/// How the writer goes about it.
#[derive(Clone, Copy, Debug)]
pub struct WriterConfig {
    /// After a commit the next one waits until this much time has passed since the last began, so that it can gather more. The first
    /// after a pause goes at once.
    pub commit_interval: Duration,
    /// Longest pause between two tries while the store fails.
    pub max_backoff: Duration,
    /// Most pages in one transaction.
    pub max_batch_pages: usize,
    /// Most bytes in one transaction; one larger page alone passes.
    pub max_batch_bytes: usize,
    /// While rooms hold more unstored bytes than this, connections are not read.
    pub max_unstored_bytes: u64,
}

/// How the store is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreHealth {
    /// The last thing asked of it succeeded.
    Good,
    /// Writes have been failing.
    Failing {
        /// Since when.
        since: Instant,
        /// The kind of error, for metrics.
        kind: &'static str,
        /// What the store said.
        message: Arc<str>,
    },
}

#[derive(Debug)]
struct Request {
    commit: PageCommit,
    reply: oneshot::Sender<Committed>,
}

/// The door to the writer. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StoreWriter {
    requests: mpsc::Sender<Request>,
    health: Arc<Mutex<StoreHealth>>,
    unstored_bytes: Arc<AtomicU64>,
    max_unstored_bytes: u64,
}

impl StoreWriter {
    /// Starts the writer. It ends when every clone of the door is gone.
    pub fn start(
        store: SharedStore,
        config: WriterConfig,
        metrics: Metrics,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        // A room has at most one request under way, so rooms bound this queue; it must not make them wait while the store is away.
        let (requests, queue) = mpsc::channel(MAX_WAITING);
        let health = Arc::new(Mutex::new(StoreHealth::Good));
        let writer = Writer {
            store,
            config,
            queue,
            health: health.clone(),
            metrics,
            stuck: Vec::new(),
        };
        let handle = tokio::spawn(writer.run());
        let unstored_bytes = Arc::new(AtomicU64::new(0));
        (
            Self {
                requests,
                health,
                unstored_bytes,
                max_unstored_bytes: config.max_unstored_bytes,
            },
            handle,
        )
    }

    /// Asks for something to be stored. The answer comes when it is; dropping the receiver does not take the request back.
    pub fn commit(&self, commit: PageCommit) -> oneshot::Receiver<Committed> {
        let (reply, answer) = oneshot::channel();
        // The queue has place for every room, and the writer lives as long as this door: this fails only while the process is ending.
        let _ = self.requests.try_send(Request { commit, reply });
        answer
    }

    /// How the store is doing.
    pub fn health(&self) -> StoreHealth {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells how a room's unstored bytes have changed.
    pub fn unstored_changed(&self, before: u64, after: u64) {
        if after >= before {
            self.unstored_bytes.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.unstored_bytes.fetch_sub(before - after, Ordering::Relaxed);
        }
    }

    /// Bytes that rooms hold and the store has not confirmed.
    pub fn unstored_bytes(&self) -> u64 {
        self.unstored_bytes.load(Ordering::Relaxed)
    }

    /// Requests that wait for a commit.
    pub fn queue_depth(&self) -> usize {
        self.requests.max_capacity() - self.requests.capacity()
    }

    /// Whether so much is unstored that edits have to wait outside.
    pub fn is_full(&self) -> bool {
        self.max_unstored_bytes != 0 && self.unstored_bytes() > self.max_unstored_bytes
    }
}

struct Writer {
    store: SharedStore,
    config: WriterConfig,
    queue: mpsc::Receiver<Request>,
    health: Arc<Mutex<StoreHealth>>,
    metrics: Metrics,
    /// What the store refused although it answers. At most one request a room, so no more than there are rooms.
    stuck: Vec<Request>,
}

/// Requests that may wait: more than a process can have rooms.
const MAX_WAITING: usize = 1 << 20;
/// First pause after a failed try.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);

impl Writer {
    async fn run(mut self) {
        let mut next_commit = Instant::now();
        let mut waiting = Vec::new();
        loop {
            if waiting.is_empty() && !self.gather(&mut waiting).await {
                return;
            }
            tokio::time::sleep_until(next_commit).await;
            while waiting.len() < self.config.max_batch_pages {
                let Ok(request) = self.queue.try_recv() else { break };
                waiting.push(request);
            }
            let rest = self.split(&mut waiting);
            next_commit = Instant::now() + self.config.commit_interval;
            self.store_all(std::mem::replace(&mut waiting, rest)).await;
        }
    }

    /// Waits for requests, or for the time to try again what the store would not take. `false` when nobody can ask any more.
    async fn gather(&mut self, waiting: &mut Vec<Request>) -> bool {
        let limit = self.config.max_batch_pages;
        if self.stuck.is_empty() {
            return self.queue.recv_many(waiting, limit).await > 0;
        }
        let received = tokio::time::timeout(self.config.max_backoff, self.queue.recv_many(waiting, limit));
        if received.await == Ok(0) {
            // Nobody can ask any more; what is stuck is still tried.
            tokio::time::sleep(self.config.max_backoff).await;
        }
        waiting.append(&mut self.stuck);
        true
    }

    /// Cuts the batch at the byte limit and returns what is left for the next one.
    fn split(&self, waiting: &mut Vec<Request>) -> Vec<Request> {
        let mut bytes = 0usize;
        let cut = waiting.iter().position(|request| {
            let size = request.commit.bytes();
            let over = bytes > 0 && bytes.saturating_add(size) > self.config.max_batch_bytes;
            bytes = bytes.saturating_add(size);
            over
        });
        cut.map(|cut| waiting.split_off(cut)).unwrap_or_default()
    }

    /// Stores a batch, however long the store is away.
    async fn store_all(&mut self, requests: Vec<Request>) {
        let (commits, replies): (Vec<_>, Vec<_>) = requests
            .into_iter()
            .map(|request| (request.commit, request.reply))
            .unzip();
        let mut backoff = FIRST_BACKOFF;
        loop {
            match self.try_commit(&commits).await {
                Ok(committed) => {
                    for (reply, committed) in replies.into_iter().zip(committed) {
                        // A room that is gone needs no answer.
                        let _ = reply.send(committed);
                    }
                    return;
                }
                Err(StoreError::Statement { .. } | StoreError::Corrupt { .. }) => {
                    for (commit, reply) in commits.into_iter().zip(replies) {
                        self.store_alone(Request { commit, reply }).await;
                    }
                    return;
                }
                Err(_) => {
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(self.config.max_backoff);
                }
            }
        }
    }

    /// Stores one page's part of a batch that the store refused, so that the good ones do not wait for the bad one; what it
    /// refuses again is set aside to be tried later.
    async fn store_alone(&mut self, request: Request) {
        match self.try_commit(std::slice::from_ref(&request.commit)).await {
            Ok(committed) => {
                if let Some(committed) = committed.into_iter().next() {
                    let _ = request.reply.send(committed);
                }
            }
            Err(_) => self.stuck.push(request),
        }
    }

    async fn try_commit(&mut self, commits: &[PageCommit]) -> Result<Vec<Committed>, StoreError> {
        let started = Instant::now();
        let result = self.store.commit(commits).await;
        self.metrics
            .store_commit(started.elapsed(), commits.len(), result.as_ref().err());
        self.note(result.as_ref().err());
        result
    }

    /// Keeps the health, and logs the beginning and the end of an outage once each.
    fn note(&self, error: Option<&StoreError>) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        match (error, &*health) {
            (None, StoreHealth::Good) => {}
            (None, StoreHealth::Failing { since, .. }) => {
                tracing::info!(
                    outage_ms = since.elapsed().as_millis() as u64,
                    "the store is back, everything held is being stored"
                );
                *health = StoreHealth::Good;
            }
            (Some(error), StoreHealth::Good) => {
                tracing::error!(%error, kind = error.kind(), "the store fails; edits are kept in memory and nothing is acknowledged until it is back");
                *health = StoreHealth::Failing {
                    since: Instant::now(),
                    kind: error.kind(),
                    message: error.to_string().into(),
                };
            }
            (Some(error), StoreHealth::Failing { since, .. }) => {
                *health = StoreHealth::Failing {
                    since: *since,
                    kind: error.kind(),
                    message: error.to_string().into(),
                };
            }
        }
    }
}
