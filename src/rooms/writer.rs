//! The one writer of a process: gathers the edits of all rooms into one transaction, and tries until they are stored.
//!
//! What goes into a transaction and what becomes of one that fails is decided by [`Batching`]; what it wants stored alone goes on in
//! a [lane](super::lane) of its own.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use storage::{Committed, PageCommit, PageId, Seq, SharedStore, StoreError};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    batching::{BatchLimits, Batching, Failure, Storing},
    lane::{Lanes, Request},
};

use crate::telemetry::{CommitSpan, Metrics, Traces};

/// How the writer goes about it.
#[derive(Clone, Copy, Debug)]
pub struct WriterConfig {
    /// How edits are gathered.
    pub batches: BatchLimits,
    /// While rooms hold more unstored bytes than this, connections are not read.
    pub max_unstored_bytes: u64,
}

/// Is told what was stored. It is called between two commits, so it must not take long.
pub trait StoreListener: Send + Sync {
    /// A page is stored up to row `seq`.
    fn stored(&self, now: std::time::Instant, page: &PageId, seq: Seq);
}

impl StoreListener for () {
    fn stored(&self, _: std::time::Instant, _: &PageId, _: Seq) {}
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
        listener: Arc<dyn StoreListener>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        // A room has at most one request under way, so rooms bound this queue; it must not make them wait while the store is away.
        let (requests, queue) = mpsc::channel(MAX_WAITING);
        let health = Arc::new(Mutex::new(Health::default()));
        let lanes = Lanes::new(
            store.clone(),
            config.batches.max_backoff,
            health.clone(),
            metrics.clone(),
            listener.clone(),
        );
        let writer = Writer {
            store,
            batching: Batching::new(config.batches),
            queue,
            health: health.clone(),
            metrics,
            listener,
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

    /// Asks for something to be stored, with the spans of the edits in it that are sampled. The answer comes when it is; dropping the
    /// receiver does not take the request back.
    pub fn commit(&self, commit: PageCommit, traces: Traces) -> oneshot::Receiver<Committed> {
        let (reply, answer) = oneshot::channel();
        // The queue has place for every room, and the writer lives as long as this door: this fails only while the process is ending.
        let _ = self.requests.try_send(Request {
            commit,
            traces,
            reply,
        });
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

    /// How many may wait.
    pub fn max_queue_depth(&self) -> usize {
        self.requests.max_capacity()
    }

    /// How many bytes may be unstored before edits have to wait outside; 0 for any number.
    pub fn max_unstored_bytes(&self) -> u64 {
        self.max_unstored_bytes
    }

    /// Whether so much is unstored that edits have to wait outside.
    pub fn is_full(&self) -> bool {
        self.max_unstored_bytes != 0 && self.unstored_bytes() > self.max_unstored_bytes
    }
}

struct Writer {
    store: SharedStore,
    batching: Batching<Request>,
    queue: mpsc::Receiver<Request>,
    health: Arc<Mutex<Health>>,
    metrics: Metrics,
    listener: Arc<dyn StoreListener>,
    lanes: Lanes,
}

/// Requests that may wait: more than a process can have rooms.
const MAX_WAITING: usize = 1 << 20;
/// A store that says nothing for this long is away.
const CHECK_PATIENCE: Duration = Duration::from_secs(2);

impl Storing for Request {
    fn commit(&self) -> &PageCommit {
        &self.commit
    }
}

impl Writer {
    async fn run(mut self) {
        let mut is_open = true;
        while is_open || !self.batching.is_idle() {
            self.take_what_waits();
            if self.batching.begin(Instant::now().into_std()) {
                self.commit().await;
                continue;
            }
            let begins_at = self.batching.begins_at().map(Instant::from_std);
            let alarm = async {
                match begins_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                request = self.queue.recv(), if is_open && self.batching.place() > 0 => match request {
                    Some(request) => self.batching.push(request),
                    None => is_open = false,
                },
                () = self.lanes.ended(), if self.lanes.are_busy() => {}
                () = alarm => {}
            }
        }
        // Nobody can ask any more; what is in lanes is still tried.
        self.lanes.finish().await;
    }

    fn take_what_waits(&mut self) {
        while self.batching.place() > 0
            && let Ok(request) = self.queue.try_recv()
        {
            self.batching.push(request);
        }
        while let Some(request) = self.batching.next_alone() {
            self.lanes.take(request);
        }
        self.lanes.start();
    }

    /// Tries to store what is under way.
    async fn commit(&mut self) {
        let batch = self.batching.batch();
        let traces = self.batching.under_way().iter().map(|request| &request.traces);
        let mut span = CommitSpan::begin(traces, batch.len());
        let started = Instant::now();
        let result = self.store.commit(&batch).await;
        self.metrics
            .store_commit(started.elapsed(), batch.len(), result.as_ref().err());
        span.ended(result.as_ref().err().map(StoreError::kind));
        match result {
            Ok(committed) => {
                self.note_health(None);
                let now = Instant::now().into_std();
                for (request, committed) in self.batching.committed().into_iter().zip(committed) {
                    self.listener
                        .stored(now, &request.commit.page, committed.last_seq);
                    request.traces.stored(&span, !committed.is_nothing());
                    // A room that is gone needs no answer.
                    let _ = request.reply.send(committed);
                }
            }
            Err(error) => {
                let failure = self.judge(&error).await;
                match failure {
                    // That somebody holds a page says nothing about the store.
                    Failure::Held(_) => {}
                    // The store is there. Whether what is in the batch can be stored is for its lane to say.
                    Failure::OfTheBatch => self.note_health(None),
                    Failure::OfTheStore => self.note_health(Some(&error)),
                }
                self.batching.failed(Instant::now().into_std(), failure);
            }
        }
    }

    /// Whether a batch has failed because of what is in it, or because the store is away.
    async fn judge(&self, error: &StoreError) -> Failure {
        match error {
            StoreError::Busy { pages } => Failure::Held(pages.clone()),
            StoreError::Statement { .. } | StoreError::Corrupt { .. } => Failure::OfTheBatch,
            StoreError::Unavailable { .. } => {
                let answer = tokio::time::timeout(CHECK_PATIENCE, self.store.check()).await;
                match answer {
                    Ok(Ok(())) => Failure::OfTheBatch,
                    Ok(Err(_)) | Err(_) => Failure::OfTheStore,
                }
            }
            StoreError::Full { .. }
            | StoreError::ReadOnly { .. }
            | StoreError::Address { .. }
            | StoreError::Migration { .. } => Failure::OfTheStore,
        }
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
