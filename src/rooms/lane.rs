//! Lanes of the writer: the edits of one page each that are large, held by somebody else, or refused by the store.
//!
//! A lane tries until its page is stored, with pauses that grow. Only so many go on at once; others wait for their turn.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use storage::{Committed, PageCommit, SharedStore, StoreError};
use tokio::{
    sync::oneshot,
    task::{JoinError, JoinSet},
    time::Instant,
};

use super::{
    batching::FIRST_BACKOFF,
    clock::wait_blocking_if,
    writer::{Health, StoreListener},
};
use crate::telemetry::{CommitSpan, Metrics, Traces};

/// What a room wants stored, and where the answer goes.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) commit: PageCommit,
    /// Of those edits in it that are sampled.
    pub(super) traces: Traces,
    pub(super) reply: oneshot::Sender<Committed>,
}

/// Lanes that go on at once. The store lends them few connections, on which they take turns.
const MAX_LANES: usize = 64;
/// From here on edits are copied for the database beside the runtime.
const LARGE_BYTES: usize = 1 << 20;

/// The pages that are stored alone.
pub(super) struct Lanes {
    lane: Lane,
    running: JoinSet<()>,
    /// At most one request a room, so no more than there are rooms.
    waiting: VecDeque<Request>,
}

/// What a lane needs.
#[derive(Clone)]
struct Lane {
    store: SharedStore,
    max_backoff: Duration,
    health: Arc<Mutex<Health>>,
    metrics: Metrics,
    listener: Arc<dyn StoreListener>,
}

impl Lanes {
    pub(super) fn new(
        store: SharedStore,
        max_backoff: Duration,
        health: Arc<Mutex<Health>>,
        metrics: Metrics,
        listener: Arc<dyn StoreListener>,
    ) -> Self {
        let lane = Lane {
            store,
            max_backoff,
            health,
            metrics,
            listener,
        };
        Self {
            lane,
            running: JoinSet::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Stores what is asked in a lane of its own.
    pub(super) fn take(&mut self, request: Request) {
        self.waiting.push_back(request);
        self.start();
    }

    /// Whether anything goes on.
    pub(super) fn are_busy(&self) -> bool {
        !self.running.is_empty()
    }

    /// Waits until one has ended, and starts another that waits.
    pub(super) async fn ended(&mut self) {
        if let Some(ended) = self.running.join_next().await {
            look_at(ended);
        }
        self.start();
    }

    /// Waits until all have ended.
    pub(super) async fn finish(&mut self) {
        while self.are_busy() {
            self.ended().await;
        }
    }

    /// Starts what waits, where others have ended.
    pub(super) fn start(&mut self) {
        while let Some(ended) = self.running.try_join_next() {
            look_at(ended);
        }
        while self.running.len() < MAX_LANES
            && let Some(request) = self.waiting.pop_front()
        {
            self.running.spawn(self.lane.clone().store(request));
        }
    }
}

/// A lane that panicked takes the writer with it, which must not go on as if nothing had happened.
fn look_at(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}

impl Lane {
    async fn store(self, request: Request) {
        let Request {
            commit,
            traces,
            reply,
        } = request;
        let (mut backoff, mut has_failed) = (FIRST_BACKOFF, false);
        loop {
            let mut span = CommitSpan::begin(std::iter::once(&traces), 1);
            let started = Instant::now();
            let result =
                wait_blocking_if(commit.bytes() > LARGE_BYTES, self.store.commit_alone(&commit)).await;
            self.metrics
                .store_commit(started.elapsed(), 1, result.as_ref().err());
            span.ended(result.as_ref().err().map(StoreError::kind));
            match result {
                Ok(committed) => {
                    if has_failed {
                        self.health().lane_recovered();
                        tracing::info!(page = %commit.page, "a page that could not be stored is stored now");
                    }
                    let now = Instant::now().into_std();
                    self.listener.stored(now, &commit.page, committed.last_seq);
                    traces.stored(&span, !committed.is_nothing());
                    // A room that is gone needs no answer.
                    let _ = reply.send(committed);
                    return;
                }
                Err(error) => {
                    if !has_failed {
                        tracing::error!(page = %commit.page, %error, "a page cannot be stored now; its edits are kept in memory and not acknowledged");
                    }
                    self.health().lane_failed(!has_failed, &error);
                    has_failed = true;
                }
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(self.max_backoff);
        }
    }

    fn health(&self) -> std::sync::MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
