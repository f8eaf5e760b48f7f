//! The one writer of a process: gathers the edits of all rooms into one transaction, and tries until they are stored.
//!
//! A batch that fails although the store is there is never repeated whole. Pages that somebody else holds leave it, and otherwise
//! it is cut in halves. What is left over is one page; it goes on in a [lane](super::lane) of its own, and so does what is
//! large from the beginning. So what one page brings, or whoever holds it, delays only itself.

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

use super::lane::{Lanes, Request};

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

/// What has been failing: batches, and pages in lanes of their own.
#[derive(Debug, Default)]
pub(super) struct Health {
    batches: Option<Outage>,
    lanes: Option<Outage>,
    failing_lanes: usize,
}

#[derive(Clone, Debug)]
struct Outage {
    since: Instant,
    kind: &'static str,
    message: Arc<str>,
}

/// The door to the writer. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StoreWriter {
    requests: mpsc::Sender<Request>,
    health: Arc<Mutex<Health>>,
    unstored_bytes: Arc<AtomicU64>,
    max_unstored_bytes: u64,
}

impl StoreWriter {
    /// Makes the writer: its door, and the task that somebody has to run. The task ends when every clone of the door is gone.
    pub fn new(
        store: SharedStore,
        config: WriterConfig,
        metrics: Metrics,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        // A room has at most one request under way, so rooms bound this queue; it must not make them wait while the store is away.
        let (requests, queue) = mpsc::channel(MAX_WAITING);
        let health = Arc::new(Mutex::new(Health::default()));
        let lanes = Lanes::new(store.clone(), config.max_backoff, health.clone(), metrics.clone());
        let writer = Writer {
            store,
            config,
            queue,
            health: health.clone(),
            metrics,
            lanes,
        };
        let unstored_bytes = Arc::new(AtomicU64::new(0));
        (
            Self {
                requests,
                health,
                unstored_bytes,
                max_unstored_bytes: config.max_unstored_bytes,
            },
            writer.run(),
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
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        match health.batches.as_ref().or(health.lanes.as_ref()) {
            None => StoreHealth::Good,
            Some(Outage { since, kind, message }) => StoreHealth::Failing {
                since: *since,
                kind,
                message: message.clone(),
            },
        }
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
    health: Arc<Mutex<Health>>,
    metrics: Metrics,
    lanes: Lanes,
}

/// Requests that may wait: more than a process can have rooms.
const MAX_WAITING: usize = 1 << 20;
/// First pause after a failed try.
pub(super) const FIRST_BACKOFF: Duration = Duration::from_millis(50);
/// From this many bytes on, the edits of a page go alone: others would wait for them.
const LARGE_BYTES: usize = 1 << 20;
/// A store that says nothing for this long is away.
const CHECK_PATIENCE: Duration = Duration::from_secs(2);

impl Writer {
    async fn run(mut self) {
        let mut next_commit = Instant::now();
        let mut waiting = Vec::new();
        loop {
            if waiting.is_empty() && !self.gather(&mut waiting).await {
                break;
            }
            tokio::time::sleep_until(next_commit).await;
            while waiting.len() < self.config.max_batch_pages {
                let Ok(request) = self.queue.try_recv() else { break };
                waiting.push(request);
            }
            for request in waiting.extract_if(.., |request| request.commit.bytes() >= LARGE_BYTES) {
                self.lanes.take(request);
            }
            self.lanes.start();
            let rest = self.split(&mut waiting);
            next_commit = Instant::now() + self.config.commit_interval;
            self.store_all(std::mem::replace(&mut waiting, rest)).await;
        }
        // Nobody can ask any more; what is in lanes is still tried.
        self.lanes.finish().await;
    }

    /// Waits for requests. `false` when nobody can ask any more.
    async fn gather(&mut self, waiting: &mut Vec<Request>) -> bool {
        loop {
            tokio::select! {
                biased;
                received = self.queue.recv_many(waiting, self.config.max_batch_pages) => return received > 0,
                () = self.lanes.ended(), if self.lanes.are_busy() => {}
            }
        }
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
        let mut backoff = FIRST_BACKOFF;
        // At most one more than a batch has halves of halves.
        let mut pieces = vec![requests];
        while let Some(mut piece) = pieces.pop() {
            if piece.is_empty() {
                continue;
            }
            match self.try_commit(&piece).await {
                Ok(committed) => {
                    self.note_health(None);
                    backoff = FIRST_BACKOFF;
                    for (request, committed) in piece.into_iter().zip(committed) {
                        // A room that is gone needs no answer.
                        let _ = request.reply.send(committed);
                    }
                }
                Err(StoreError::Busy { pages }) if !pages.is_empty() => {
                    for held in piece.extract_if(.., |request| pages.contains(&request.commit.page)) {
                        self.lanes.take(held);
                    }
                    pieces.push(piece);
                }
                Err(error) if self.is_about_the_batch(&error).await => {
                    // The store is there. Whether what is in the batch can be stored is for its lane to say.
                    self.note_health(None);
                    let half = piece.split_off(piece.len() / 2);
                    match <[Request; 1]>::try_from(half) {
                        Ok([only]) => self.lanes.take(only),
                        Err(half) => pieces.push(half),
                    }
                    pieces.push(piece);
                }
                Err(error) => {
                    self.note_health(Some(&error));
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(self.config.max_backoff);
                    pieces.push(piece);
                }
            }
        }
    }

    /// Whether a batch has failed because of what is in it, and not because the store is away.
    async fn is_about_the_batch(&self, error: &StoreError) -> bool {
        match error {
            StoreError::Statement { .. } | StoreError::Corrupt { .. } | StoreError::Busy { .. } => true,
            StoreError::Unavailable { .. } => {
                let answer = tokio::time::timeout(CHECK_PATIENCE, self.store.check()).await;
                matches!(answer, Ok(Ok(())))
            }
            StoreError::Full { .. }
            | StoreError::ReadOnly { .. }
            | StoreError::Address { .. }
            | StoreError::Migration { .. } => false,
        }
    }

    async fn try_commit(&mut self, requests: &[Request]) -> Result<Vec<Committed>, StoreError> {
        let commits: Vec<PageCommit> = requests.iter().map(|request| request.commit.clone()).collect();
        let started = Instant::now();
        let result = self.store.commit(&commits).await;
        self.metrics
            .store_commit(started.elapsed(), commits.len(), result.as_ref().err());
        result
    }

    fn note_health(&self, error: Option<&StoreError>) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.note_batch(error);
    }
}

impl Outage {
    fn new(error: &StoreError, since: Instant) -> Self {
        Self {
            since,
            kind: error.kind(),
            message: error.to_string().into(),
        }
    }
}

impl Health {
    /// Keeps the health, and logs the beginning and the end of an outage once each.
    fn note_batch(&mut self, error: Option<&StoreError>) {
        match (error, &self.batches) {
            (None, None) => {}
            (None, Some(outage)) => {
                tracing::info!(
                    outage_ms = outage.since.elapsed().as_millis() as u64,
                    "the store is back, everything held is being stored"
                );
                self.batches = None;
            }
            (Some(error), None) => {
                tracing::error!(%error, kind = error.kind(), "the store fails; edits are kept in memory and nothing is acknowledged until it is back");
                self.batches = Some(Outage::new(error, Instant::now()));
            }
            (Some(error), Some(outage)) => self.batches = Some(Outage::new(error, outage.since)),
        }
    }

    /// A lane has failed; for the first time with this page, or again.
    pub(super) fn lane_failed(&mut self, first: bool, error: &StoreError) {
        self.failing_lanes += usize::from(first);
        let since = self
            .lanes
            .as_ref()
            .map_or_else(Instant::now, |outage| outage.since);
        self.lanes = Some(Outage::new(error, since));
    }

    /// A lane that had failed has stored its page.
    pub(super) fn lane_recovered(&mut self) {
        self.failing_lanes = self.failing_lanes.saturating_sub(1);
        if self.failing_lanes == 0 {
            self.lanes = None;
        }
    }
}
