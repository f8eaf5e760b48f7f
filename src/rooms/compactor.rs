//! Writes the snapshots of all rooms, one at a time, apart from edits: nobody's acknowledgement waits for it.
//!
//! A room gives its encoded state and its state vector. The compactor has the columns made that people and backends read,
//! away from the runtime's threads, and hands the whole to [`Store::compact`](storage::Store::compact). Any of this may fail: the
//! room's log is kept, and the room asks again later.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use crdt::{Document, Limits, StateVector};
use futures_util::future::BoxFuture;
use serde_json::Value;
use storage::{Generation, PageId, Seq, SharedStore, Snapshot, StoreError};
use tokio::sync::{mpsc, oneshot};

use super::clock::wait_blocking_if;
use crate::telemetry::{Fault, Metrics};

/// What a page says, for people and backends.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Readable {
    /// All root types by name; null when it is nested too deep to be taken apart again.
    pub content: Value,
    /// The plain text of all root types that have text.
    pub text: String,
    /// How many items stand elsewhere than between their neighbours; not counted in large pages.
    pub misplaced: usize,
}

/// Makes the columns of a snapshot that people and backends read: all root types by name as JSON, and the plain text.
pub trait ReadableView: Send + Sync + 'static {
    /// The columns for an encoded state; `None` when it cannot be read now. It is then stored without them.
    fn readable(&self, page: &PageId, state: Bytes) -> BoxFuture<'static, Option<Readable>>;
}

/// What a room wants written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactRequest {
    /// The page.
    pub page: PageId,
    /// Its generation, where that is known: of another one nothing is written.
    pub generation: Option<Generation>,
    /// Its log is covered up to and including this row.
    pub seq: Seq,
    /// The whole document as one update. It holds nothing that is in no row.
    pub state: Bytes,
    /// Its state vector.
    pub state_vector: Bytes,
}

/// The door to the compactor. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Compactor {
    requests: mpsc::Sender<Request>,
    waiting_bytes: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Request {
    compact: CompactRequest,
    reply: oneshot::Sender<bool>,
}

/// Requests that may wait. A room has one at most, and whoever finds the queue full asks again.
const MAX_WAITING: usize = 256;
/// Bytes that may wait, so that snapshots of large pages do not add up. One larger page alone passes.
const MAX_WAITING_BYTES: usize = 64 << 20;
/// From here on a snapshot is copied for the database, and freed, beside the runtime.
const LARGE_BYTES: usize = 256 << 10;
/// Pages with misplaced items that are remembered to have been told of.
const MAX_MISPLACED: usize = 1000;

impl Compactor {
    /// Makes the compactor: its door, and the task that somebody has to run. The task ends when every clone of the door is gone.
    pub fn new(
        store: SharedStore,
        limits: Limits,
        view: Arc<dyn ReadableView>,
        metrics: Metrics,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (requests, queue) = mpsc::channel(MAX_WAITING);
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let task = Task {
            store,
            limits,
            view,
            metrics,
            queue,
            waiting_bytes: waiting_bytes.clone(),
            misplaced: BTreeMap::new(),
        };
        let door = Self {
            requests,
            waiting_bytes,
        };
        (door, task.run())
    }

    /// Asks for a snapshot to be written. The answer is whether the store has it, or one that covers as much; it fails when too many
    /// snapshots wait already.
    pub(super) fn compact(&self, compact: CompactRequest) -> oneshot::Receiver<bool> {
        let (reply, answer) = oneshot::channel();
        let bytes = compact.state.len();
        let before = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = before == 0 || before.saturating_add(bytes) <= MAX_WAITING_BYTES;
        if !fits || self.requests.try_send(Request { compact, reply }).is_err() {
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        answer
    }
}

struct Task {
    store: SharedStore,
    limits: Limits,
    view: Arc<dyn ReadableView>,
    metrics: Metrics,
    queue: mpsc::Receiver<Request>,
    waiting_bytes: Arc<AtomicUsize>,
    /// Pages that were told of, and how many misplaced items they had.
    misplaced: BTreeMap<PageId, usize>,
}

impl Task {
    async fn run(mut self) {
        while let Some(Request { compact, reply }) = self.queue.recv().await {
            let bytes = compact.state.len();
            let written = wait_blocking_if(bytes > LARGE_BYTES, self.write(compact)).await;
            // A room that has ended meanwhile needs no answer, and its snapshot is written all the same.
            let _ = reply.send(written);
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    async fn write(&mut self, compact: CompactRequest) -> bool {
        let CompactRequest {
            page,
            generation,
            seq,
            state,
            state_vector,
        } = compact;
        let Some(whole) = whole(self.limits, state.clone(), state_vector.clone()).await else {
            self.metrics.error(Fault::SnapshotNotWhole);
            tracing::error!(%page, seq, "a snapshot does not decode to the page it was made of; the log is kept instead");
            return false;
        };
        let readable = self.view.readable(&page, whole).await;
        if readable.is_none() {
            self.metrics.error(Fault::PageUnreadable);
            tracing::warn!(%page, seq, "a page cannot be shown; its snapshot is stored without readable columns");
        }
        let Readable {
            content,
            text,
            misplaced,
        } = readable.unwrap_or_default();
        self.note_misplaced(&page, misplaced);
        let snapshot = Snapshot {
            seq,
            state,
            state_vector,
            content,
            text,
        };
        match self.store.compact(&page, generation.as_ref(), &snapshot).await {
            // Where it was passed over, another process has written one that covers as much, or the page is another one.
            Ok(_) => true,
            Err(error) => {
                self.failed(&page, seq, &error);
                false
            }
        }
    }

    /// Tells of a page in which there are more misplaced items than it was told of before.
    fn note_misplaced(&mut self, page: &PageId, misplaced: usize) {
        if misplaced == 0 {
            return;
        }
        self.metrics.snapshots_misplaced.increment(1);
        if self.misplaced.len() >= MAX_MISPLACED {
            self.misplaced.clear();
        }
        let before = self.misplaced.insert(page.clone(), misplaced);
        if before.is_none_or(|before| before < misplaced) {
            tracing::warn!(%page, misplaced, "somebody has written what no editor writes: items of a page have neighbours between which they cannot stand, so copies of the page may differ");
        }
    }

    fn failed(&self, page: &PageId, seq: Seq, error: &StoreError) {
        self.metrics.error(Fault::SnapshotNotStored);
        tracing::warn!(%page, seq, %error, "a snapshot could not be stored yet; the log is kept");
    }
}

/// What a state has without what waits for something missing, if it decodes to what its state vector says: what replaces a log is looked
/// at before.
async fn whole(limits: Limits, state: Bytes, state_vector: Bytes) -> Option<Bytes> {
    let check = move || {
        let mut document = Document::load(limits, [state]).ok()?;
        let expected = StateVector::decode(&state_vector, &limits.for_stored()).ok()?;
        (*document.state_vector() == expected).then(|| document.encode().ok())?
    };
    // A thread that panicked has not said yes.
    tokio::task::spawn_blocking(check).await.ok().flatten()
}
