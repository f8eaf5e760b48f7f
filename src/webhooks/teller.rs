//! Puts what has happened into the outbox: soon after it was noted, and whatever was not noted when it looks through the pages.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use serde_json::json;
use storage::{Look, Notice, StoreError, Telling, WebhookEvent};
use tokio_util::sync::CancellationToken;

use super::{
    Office, WebhookNotes,
    notes::{Attendance, Batch},
};
use crate::{
    auth::{complaints, now},
    telemetry::Fault,
};

/// Pages that are told of in one transaction.
const MAX_PAGES_AT_ONCE: usize = 200;
/// Pages that are looked through at once.
const MAX_STRETCH: usize = 1000;
/// Events that may wait. Beyond that nothing is added until some are delivered: what is stored can be told later.
const MAX_PENDING_EVENTS: u64 = 1_000_000;
/// How often all pages are looked through, for what another server has stored and died before it told.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// Pauses after telling what was found so.
const TELL_PAUSE: Duration = Duration::from_millis(50);
/// Pauses while looking through them.
const STRETCH_PAUSE: Duration = Duration::from_millis(20);
/// Pauses while the store fails, or too much waits.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How far all pages have been looked through.
enum Search {
    /// It begins then.
    Due(Instant),
    /// Up to this page, and it goes on then.
    At(String, Instant),
}

impl Office {
    /// Puts what happens into the outbox until `stop`, and then what is left.
    pub(super) async fn tell(self, notes: WebhookNotes, stop: CancellationToken) {
        let mut patience = Patience::new(&stop);
        loop {
            match patience.hear(self.store.begin_webhooks(now()).await).await {
                Heard::Answer(()) => break,
                Heard::Again => {}
                Heard::End => return,
            }
        }
        let mut search = Search::Due(clock());
        while !stop.is_cancelled() {
            self.wait(&notes, &search, &stop).await;
            if !stop.is_cancelled() && self.is_full() {
                wait_or(&stop, LONGEST_PAUSE).await;
                continue;
            }
            self.tell_noted(&notes, Some(clock()), &stop).await;
            if notes.wants_stored() {
                search = self.search(&notes, search, &stop).await;
            }
        }
        // What there is no time for is found by whoever looks through the pages next.
        self.tell_noted(&notes, None, &stop).await;
    }

    /// Waits until there is something to do.
    async fn wait(&self, notes: &WebhookNotes, search: &Search, stop: &CancellationToken) {
        let noted = notes.pending(|pending| pending.next(clock())).flatten();
        let searches_at = match search {
            Search::Due(at) | Search::At(_, at) => *at,
        };
        let at = noted.map_or(searches_at, |at| at.min(searches_at));
        tokio::select! {
            () = tokio::time::sleep_until(at.into()) => {}
            () = notes.noted() => {}
            () = stop.cancelled() => {}
        }
    }

    fn is_full(&self) -> bool {
        self.pending.load(Ordering::Relaxed) >= MAX_PENDING_EVENTS
    }

    /// Tells what has been noted and is due by `until`.
    async fn tell_noted(&self, notes: &WebhookNotes, until: Option<Instant>, stop: &CancellationToken) {
        loop {
            let batch = notes.pending(|pending| pending.take(until, MAX_PAGES_AT_ONCE));
            let Some(batch) = batch.filter(|batch| !batch.is_empty()) else {
                break;
            };
            if self.tell_batch(batch, stop).await.is_none() {
                break;
            }
        }
        let missed = notes.pending(|pending| std::mem::take(&mut pending.missed));
        if let Some(missed) = missed.filter(|missed| *missed > 0) {
            tracing::warn!(
                missed,
                "too many pages were entered and left at once for webhooks to be told of all"
            );
            self.metrics.error(Fault::WebhookAttendance);
        }
    }

    /// Tells a batch, as often as it takes. `None` when it could not be told before the end.
    async fn tell_batch(&self, batch: Batch, stop: &CancellationToken) -> Option<u64> {
        let notices = batch.attendance.into_iter().map(|noted| self.notice(noted));
        let mut telling = Telling {
            now: now(),
            targets: self
                .config
                .targets
                .iter()
                .map(|target| target.name().to_owned())
                .collect(),
            events: self.config.events.clone(),
            looks: batch.looks,
            notices: notices.collect(),
        };
        let mut patience = Patience::new(stop);
        let told = loop {
            telling.now = now();
            match patience.hear(self.store.tell_webhooks(&telling).await).await {
                Heard::Answer(told) => break told,
                Heard::Again => {}
                Heard::End => return None,
            }
        };
        if told > 0 {
            self.pending.fetch_add(told, Ordering::Relaxed);
            self.posted.notify_waiters();
        }
        Some(told)
    }

    fn notice(&self, noted: Attendance) -> Notice {
        Notice {
            page: noted.page,
            event: match noted.is_attended {
                true => WebhookEvent::FirstJoined,
                false => WebhookEvent::LastLeft,
            },
            detail: json!({ "server": *self.server }).to_string(),
            at: noted.at,
        }
    }

    /// Looks through a stretch of the pages, if it is time.
    async fn search(&self, notes: &WebhookNotes, search: Search, stop: &CancellationToken) -> Search {
        let is_incomplete = notes.pending(|pending| pending.take_incomplete()) == Some(true);
        let after = match search {
            Search::Due(at) if clock() < at && !is_incomplete => return Search::Due(at),
            Search::At(after, at) if clock() < at => return Search::At(after, at),
            Search::Due(_) => None,
            Search::At(after, _) => Some(after),
        };
        let mut patience = Patience::new(stop);
        let found = loop {
            let found = self.store.untold_pages(after.as_deref(), MAX_STRETCH).await;
            match patience.hear(found).await {
                Heard::Answer(found) => break found,
                Heard::Again => {}
                Heard::End => return Search::Due(clock()),
            }
        };
        let later = notes.pending(|pending| {
            let pages = found.pages.into_iter();
            pages
                .map(|page| Look {
                    // Changes of this process have their time.
                    with_changes: !pending.is_waiting(&page),
                    page,
                })
                .collect::<Vec<_>>()
        });
        for looks in later.unwrap_or_default().chunks(MAX_PAGES_AT_ONCE) {
            let batch = Batch {
                looks: looks.to_vec(),
                attendance: Vec::new(),
            };
            if self.tell_batch(batch, stop).await.is_none() {
                return Search::Due(clock());
            }
            // Couriers, and whoever else writes aside, have their turn.
            wait_or(stop, TELL_PAUSE).await;
        }
        match found.last {
            Some(last) => Search::At(last, clock() + STRETCH_PAUSE),
            None => Search::Due(clock() + LOOK_EVERY),
        }
    }
}

/// What keeps trying while the store fails.
struct Patience<'a> {
    stop: &'a CancellationToken,
    pause: Duration,
}

impl<'a> Patience<'a> {
    fn new(stop: &'a CancellationToken) -> Self {
        Self {
            stop,
            pause: FIRST_PAUSE,
        }
    }

    /// Gives an answer, or waits before the store is asked again. At the end there is no more waiting.
    async fn hear<T>(&mut self, answer: Result<T, StoreError>) -> Heard<T> {
        let error = match answer {
            Ok(answer) => return Heard::Answer(answer),
            Err(error) => error,
        };
        if complaints::is_due("webhook outbox") {
            tracing::warn!(%error, "webhooks cannot be told of what happens until the store is back");
        }
        if self.stop.is_cancelled() {
            return Heard::End;
        }
        wait_or(self.stop, self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Heard::Again
    }
}

/// What came of asking the store.
enum Heard<T> {
    Answer(T),
    Again,
    End,
}

/// Waits for a while, or until `stop`.
pub(super) async fn wait_or(stop: &CancellationToken, pause: Duration) {
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = stop.cancelled() => {}
    }
}

#[expect(clippy::disallowed_methods, reason = "webhooks meet the clock here")]
fn clock() -> Instant {
    Instant::now()
}
