//! Notes who connected, was refused or removed, and who changed a permission: in the log and in the store.
//!
//! Nobody waits for a note to be stored. Notes wait in a bounded queue for one writer, which stores them in batches; when
//! the store is away for so long that the queue is full, notes are only in the log, and that is counted.
//!
//! Somebody who knocks at closed doors again and again is noted once a minute: the first refusal as it is, and at the end of the
//! minute how many there were besides.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use storage::{AuditEntry, MAX_FORGOTTEN_AT_ONCE, SharedStore};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    auth::now,
    supervision::Supervisor,
    tally::Tally,
    telemetry::{Fault, Metrics},
};

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

/// The same refusal of the same user, or address, is noted once within this time, and otherwise counted.
const WINDOW: Duration = Duration::from_secs(60);
/// How often it is looked for windows that have ended.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Refusals of how many users and addresses are counted at once. What comes beyond that is noted each time.
const MAX_REPEATS: usize = 10_000;

/// Takes notes. Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    notes: Option<mpsc::Sender<AuditEntry>>,
    repeats: Arc<Mutex<Repeats>>,
    metrics: Metrics,
    /// Notes that have been stored.
    stored: Tally,
}

/// Refusals of the last minute that may come again.
#[derive(Default)]
struct Repeats(HashMap<Refused, Repeat>);

/// Which refusal of whom: the action, the outcome, and the user, or the address where nobody knows the user.
#[derive(PartialEq, Eq, Hash)]
struct Refused(String, String, Option<String>);

struct Repeat {
    /// The last one.
    entry: AuditEntry,
    ends: SystemTime,
    /// How many came after the first.
    more: u64,
}

impl Repeats {
    /// Whether this is to be noted, and not only counted.
    fn is_new(&mut self, entry: &AuditEntry) -> bool {
        if entry.outcome == "ok" {
            return true;
        }
        let who = entry.user.clone().or_else(|| entry.address.clone());
        let refused = Refused(entry.action.clone(), entry.outcome.clone(), who);
        if let Some(repeat) = self.0.get_mut(&refused).filter(|repeat| entry.at < repeat.ends) {
            repeat.more += 1;
            repeat.entry = entry.clone();
            return false;
        }
        if self.0.len() < MAX_REPEATS {
            // What a window has counted that ended since it was last looked for is told with the new one.
            let more = self.0.get(&refused).map_or(0, |before| before.more);
            let repeat = Repeat {
                entry: entry.clone(),
                ends: entry.at + WINDOW,
                more,
            };
            self.0.insert(refused, repeat);
        }
        true
    }

    /// Takes out those whose minute is over, as notes on how many there were.
    fn ended(&mut self, now: SystemTime) -> Vec<AuditEntry> {
        let over = self.0.extract_if(|_, repeat| now >= repeat.ends);
        over.filter(|(_, repeat)| repeat.more > 0)
            .map(|(_, Repeat { mut entry, more, .. })| {
                entry.detail = format!("{} ({more} more like this within a minute)", entry.detail);
                entry
            })
            .collect()
    }
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
        supervisor: &Supervisor,
    ) -> Self {
        let repeats = Arc::<Mutex<Repeats>>::default();
        let stored = Tally::default();
        if retention.is_zero() {
            return Self {
                notes: None,
                repeats,
                metrics,
                stored,
            };
        }
        let (notes, queue) = mpsc::channel(MAX_WAITING);
        let audit = Self {
            notes: Some(notes),
            repeats,
            metrics,
            stored: stored.clone(),
        };
        supervisor.spawn("audit", write(store.clone(), queue, stored, stop.clone()));
        supervisor.spawn("audit_retention", forget(store, retention, stop.clone()));
        supervisor.spawn("audit_repeats", audit.clone().tell_repeats(stop));
        audit
    }

    /// Notes how often refusals came again, when their minute is over.
    async fn tell_repeats(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = stop.cancelled() => return,
            }
            let ended = self.repeats().ended(now());
            for entry in ended {
                self.keep(entry);
            }
        }
    }

    fn repeats(&self) -> MutexGuard<'_, Repeats> {
        self.repeats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many notes have been stored, or given up.
    pub fn stored(&self) -> u64 {
        self.stored.total()
    }

    /// Notes that wait for the store, and how many may; `None` when none are kept there.
    pub fn waiting(&self) -> Option<(usize, usize)> {
        let notes = self.notes.as_ref()?;
        let most = notes.max_capacity();
        Some((most - notes.capacity(), most))
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
        let entry = AuditEntry {
            at: now,
            action: action.to_owned(),
            outcome: outcome.to_owned(),
            user: user.map(str::to_owned),
            page: page.map(str::to_owned),
            address: address.map(str::to_owned),
            detail: detail.to_owned(),
        };
        if self.notes.is_none() || self.repeats().is_new(&entry) {
            self.keep(entry);
        }
    }

    fn keep(&self, entry: AuditEntry) {
        tracing::info!(
            target: "pageroom::audit",
            action = entry.action,
            outcome = entry.outcome,
            user = entry.user,
            page = entry.page,
            address = entry.address,
            detail = entry.detail,
            "audit"
        );
        let Some(notes) = &self.notes else { return };
        if notes.try_send(entry).is_err() {
            self.metrics.error(Fault::AuditNoteNotStored);
        }
    }
}

/// The beginning of a text that somebody else made as long as it is.
fn short(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_TEXT_BYTES))
        .unwrap_or(text)
}

async fn write(
    store: SharedStore,
    mut queue: mpsc::Receiver<AuditEntry>,
    stored: Tally,
    stop: CancellationToken,
) {
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
        stored.add(batch.len() as u64);
        batch.clear();
    }
}

async fn forget(store: SharedStore, retention: Duration, stop: CancellationToken) {
    loop {
        // In pieces: others who write take turns with it.
        while let Some(before) = now().checked_sub(retention)
            && !stop.is_cancelled()
        {
            match store.forget_audit(before).await {
                Ok(forgotten) if forgotten >= MAX_FORGOTTEN_AT_ONCE as u64 => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "old notes of the audit log could not be forgotten yet");
                    break;
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(FORGET_EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(second: u64, outcome: &str, user: Option<&str>, page: &str) -> AuditEntry {
        AuditEntry {
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(second),
            action: "connect".to_owned(),
            outcome: outcome.to_owned(),
            user: user.map(str::to_owned),
            page: Some(page.to_owned()),
            address: Some("192.0.2.1".to_owned()),
            detail: "no".to_owned(),
        }
    }

    #[test]
    fn the_same_refusal_is_noted_once_a_minute_and_counted() {
        let mut repeats = Repeats::default();
        assert!(repeats.is_new(&entry(0, "forbidden", Some("ada"), "first")));
        for n in 0..3500 {
            assert!(!repeats.is_new(&entry(n / 60, "forbidden", Some("ada"), &format!("page-{n}"))));
        }
        assert!(repeats.is_new(&entry(1, "forbidden", Some("bob"), "page")));
        assert!(repeats.is_new(&entry(1, "read_only", Some("ada"), "page")));
        assert!(repeats.is_new(&entry(1, "forbidden", None, "page")));
        assert!(!repeats.is_new(&entry(2, "forbidden", None, "another")));
        // What was done is always noted.
        assert!(repeats.is_new(&entry(1, "ok", Some("ada"), "page")));
        assert!(repeats.is_new(&entry(1, "ok", Some("ada"), "page")));
        assert!(
            repeats
                .ended(SystemTime::UNIX_EPOCH + Duration::from_secs(59))
                .is_empty()
        );
        let mut details: Vec<String> = repeats
            .ended(SystemTime::UNIX_EPOCH + Duration::from_secs(62))
            .into_iter()
            .map(|entry| entry.detail)
            .collect();
        details.sort();
        assert_eq!(
            details,
            [
                "no (1 more like this within a minute)",
                "no (3500 more like this within a minute)"
            ]
        );
        assert!(repeats.is_new(&entry(62, "forbidden", Some("ada"), "page")));
    }

    #[test]
    fn only_so_many_are_counted_at_once() {
        let mut repeats = Repeats::default();
        for n in 0..2 * MAX_REPEATS {
            repeats.is_new(&entry(0, "forbidden", Some(&n.to_string()), "page"));
        }
        assert_eq!(repeats.0.len(), MAX_REPEATS);
    }
}
