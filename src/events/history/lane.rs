//! The lane in which events are stored: a bounded queue that one task empties in small batches, apart from edits.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use storage::{EventBatch, EventId, KeptEvent, SharedStore, StoreError};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// Bytes that may wait for the store.
const MAX_WAITING_BYTES: usize = 64 << 20;
/// What is stored at once: entries, and their bytes (one larger entry alone passes).
const MAX_BATCH: usize = 200;
const MAX_BATCH_BYTES: usize = 1 << 20;
/// Beside its payload, an entry takes about this much.
const OVERHEAD: usize = 256;
/// Pauses between two tries.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Something to be stored.
#[derive(Debug)]
pub(super) enum Entry {
    Event(KeptEvent),
    Id(EventId),
    State { room: String, state: String },
}

/// The queue, and how far it is stored.
pub(super) struct Lane {
    queue: Mutex<Queue>,
    woken: Notify,
    /// Everything up to this number is stored.
    stored: watch::Sender<u64>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Entry>,
    bytes: usize,
    /// The number of the last entry.
    last: u64,
    /// Events up to this offset may be missing.
    lost: u64,
}

impl Entry {
    fn bytes(&self) -> usize {
        OVERHEAD
            + match self {
                Self::Event(event) => event.payload.len(),
                Self::Id(id) => id.id.len(),
                Self::State { state, .. } => state.len(),
            }
    }
}

impl Lane {
    pub(super) fn new() -> Self {
        Self {
            queue: Mutex::default(),
            woken: Notify::new(),
            stored: watch::Sender::new(0),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while the lock is held, so what a poisoned lock guards is whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether more can wait. Who adds something asks before; what is added between the two by others comes on top.
    pub(super) fn has_space(&self) -> bool {
        self.queue().bytes < MAX_WAITING_BYTES
    }

    /// Queues something. Gives its number.
    pub(super) fn push(&self, entry: Entry) -> u64 {
        let mut queue = self.queue();
        queue.bytes += entry.bytes();
        queue.waiting.push_back(entry);
        queue.last += 1;
        let number = queue.last;
        drop(queue);
        self.woken.notify_one();
        number
    }

    /// The number of the last entry.
    pub(super) fn last(&self) -> u64 {
        self.queue().last
    }

    /// Up to which offset events may be missing.
    pub(super) fn lost(&self) -> u64 {
        self.queue().lost
    }

    /// Waits until everything up to a number is stored.
    pub(super) async fn stored(&self, number: u64) {
        // The sender lives as long as this.
        let _ = self.stored.subscribe().wait_for(|stored| *stored >= number).await;
    }

    /// The first entries of the queue, which stay there.
    fn batch(&self) -> (EventBatch, usize) {
        let queue = self.queue();
        let (mut batch, mut bytes, mut count) = (EventBatch::default(), 0, 0);
        for entry in queue.waiting.iter().take(MAX_BATCH) {
            bytes += entry.bytes();
            if count > 0 && bytes > MAX_BATCH_BYTES {
                break;
            }
            count += 1;
            add(&mut batch, entry);
        }
        (batch, count)
    }

    /// Takes entries off the queue that are stored, or cannot be.
    fn done(&self, count: usize) {
        let mut queue = self.queue();
        let count = count.min(queue.waiting.len());
        let bytes: usize = queue.waiting.drain(..count).map(|entry| entry.bytes()).sum();
        queue.bytes -= bytes;
        let stored = queue.last - queue.waiting.len() as u64;
        drop(queue);
        self.stored.send_replace(stored);
    }

    /// Stores what is queued, until the server stops and nothing is left or the store fails.
    pub(super) async fn run(&self, store: SharedStore, stop: CancellationToken) {
        let mut pause = FIRST_PAUSE;
        loop {
            let (batch, count) = self.batch();
            if count == 0 {
                tokio::select! {
                    () = self.woken.notified() => continue,
                    () = stop.cancelled() => return,
                }
            }
            match store.keep_events(&batch).await {
                Ok(()) => {
                    self.done(count);
                    pause = FIRST_PAUSE;
                    continue;
                }
                // What the store will never take must not keep the rest out.
                Err(StoreError::Statement { .. }) => {
                    if self.one_by_one(&store, count).await.is_ok() {
                        continue;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, waiting = count, "events cannot be stored now; they are kept in memory and not acknowledged");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(MAX_PAUSE),
                () = stop.cancelled() => return,
            }
        }
    }

    async fn one_by_one(&self, store: &SharedStore, count: usize) -> Result<(), StoreError> {
        for _ in 0..count {
            let mut batch = EventBatch::default();
            if let Some(entry) = self.queue().waiting.front() {
                add(&mut batch, entry);
            }
            match store.keep_events(&batch).await {
                Ok(()) => {}
                Err(error @ StoreError::Statement { .. }) => {
                    tracing::error!(%error, "an event cannot be stored and is dropped");
                    let mut queue = self.queue();
                    if let Some(Entry::Event(event)) = queue.waiting.front() {
                        queue.lost = queue.lost.max(event.offset);
                    }
                }
                Err(error) => return Err(error),
            }
            self.done(1);
        }
        Ok(())
    }
}

fn add(batch: &mut EventBatch, entry: &Entry) {
    match entry {
        Entry::Event(event) => batch.events.push(event.clone()),
        Entry::Id(id) => {
            // Of two entries of one transaction the later one counts.
            batch.ids.retain(|before| before.id != id.id);
            batch.ids.push(id.clone());
        }
        Entry::State { room, state } => {
            batch.states.retain(|(before, _)| before != room);
            batch.states.push((room.clone(), state.clone()));
        }
    }
}
