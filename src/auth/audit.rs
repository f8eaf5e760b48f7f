//! Notes who connected, was refused or removed, and who changed a permission: in the log and in the store.
//!
//! Nobody waits for a note to be stored. Notes wait in a bounded queue for one writer, which stores them in batches; when
//! the store is away for so long that the queue is full, notes are only in the log, and that is counted.

use std::time::{Duration, SystemTime};

use storage::{AuditEntry, SharedStore};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::telemetry::Metrics;

/// Notes that wait for the store.
const MAX_WAITING: usize = 8192;
/// Longest text in a note, in bytes.
const MAX_TEXT_BYTES: usize = 512;
/// Notes stored at once.
const MAX_BATCH: usize = 500;
/// Longest pause between two tries to store a batch.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// How often notes that are too old are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(3600);

/// Takes notes. Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    notes: Option<mpsc::Sender<AuditEntry>>,
    metrics: Metrics,
}

/// A note on something that was done or refused.
#[derive(Clone, Copy, Debug, Default)]
pub struct Note<'a> {
    /// What, as one word.
    pub action: &'a str,
    /// How it ended: `ok`, or the code of a refusal.
    pub outcome: &'a str,
    /// Whose doing it was, or whom it befell.
    pub user: Option<&'a str>,
    /// On which page.
    pub page: Option<&'a str>,
    /// From which network address.
    pub address: Option<&'a str>,
    /// More, for people; never a token or content.
    pub detail: &'a str,
}

impl Audit {
    /// Starts the writer. Notes are kept in the store for `retention`; zero keeps none there.
    pub fn start(
        store: SharedStore,
        retention: Duration,
        metrics: Metrics,
        stop: CancellationToken,
        tasks: &TaskTracker,
    ) -> Self {
        if retention.is_zero() {
            return Self { notes: None, metrics };
        }
        let (notes, queue) = mpsc::channel(MAX_WAITING);
        tasks.spawn(write(store.clone(), queue, stop.clone()));
        tasks.spawn(forget(store, retention, stop));
        Self {
            notes: Some(notes),
            metrics,
        }
    }

    /// Takes a note.
    pub fn note(&self, now: SystemTime, note: Note<'_>) {
        let Note {
            action,
            outcome,
            user,
            page,
            address,
            detail,
        } = note;
        let (user, page, detail) = (user.map(short), page.map(short), short(detail));
        tracing::info!(target: "pageroom::audit", action, outcome, user, page, address, detail, "audit");
        let Some(notes) = &self.notes else { return };
        let entry = AuditEntry {
            at: now,
            action: action.to_owned(),
            outcome: outcome.to_owned(),
            user: user.map(str::to_owned),
            page: page.map(str::to_owned),
            address: address.map(str::to_owned),
            detail: detail.to_owned(),
        };
        if notes.try_send(entry).is_err() {
            self.metrics.error("audit_note_not_stored");
        }
    }
}

/// The beginning of a text that somebody else made as long as it is.
fn short(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_TEXT_BYTES))
        .unwrap_or(text)
}

async fn write(store: SharedStore, mut queue: mpsc::Receiver<AuditEntry>, stop: CancellationToken) {
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            biased;
            taken = queue.recv_many(&mut batch, MAX_BATCH) => if taken == 0 { return },
            () = stop.cancelled() => return,
        }
        let mut pause = Duration::from_millis(100);
        while let Err(error) = store.audit(&batch).await {
            if !error.is_retryable() || stop.is_cancelled() {
                tracing::error!(%error, notes = batch.len(), "notes of the audit log cannot be stored");
                break;
            }
            tracing::warn!(%error, "the audit log cannot be stored now");
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(MAX_PAUSE),
                () = stop.cancelled() => {}
            }
        }
        batch.clear();
    }
}

async fn forget(store: SharedStore, retention: Duration, stop: CancellationToken) {
    loop {
        if let Some(before) = super::now().checked_sub(retention)
            && let Err(error) = store.forget_audit(before).await
        {
            tracing::warn!(%error, "old notes of the audit log could not be forgotten yet");
        }
        tokio::select! {
            () = tokio::time::sleep(FORGET_EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}
