//! When the log of a page is rewritten as a snapshot (pure policy; time is an argument).

use std::time::{Duration, Instant};

use storage::Seq;

use super::Loaded;

/// How often a page is rewritten as a snapshot.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotPolicy {
    /// A snapshot is at most this far behind the last edit.
    pub interval: Duration,
    /// A log of this many rows asks for a snapshot at once.
    pub max_log_rows: u64,
    /// A log of this many bytes asks for a snapshot at once.
    pub max_log_bytes: u64,
}

/// A snapshot that was not taken is tried again after this long, and then after twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A room that is empty stays for this long for its snapshot to be taken.
const CLOSING_PATIENCE: Duration = Duration::from_secs(8);

/// A snapshot that is being written.
#[derive(Debug)]
struct Running {
    seq: Seq,
    /// Since when; what is stored later is not covered.
    since: Instant,
    /// The size of the log that it covers.
    rows: u64,
    bytes: u64,
}

/// The log of one page since its last snapshot.
#[derive(Debug)]
pub(super) struct Compaction {
    policy: SnapshotPolicy,
    log_rows: u64,
    log_bytes: u64,
    /// Since when the snapshot lags behind the log.
    dirty_since: Option<Instant>,
    running: Option<Running>,
    /// After a snapshot was not taken: how long to wait, and when to try again.
    again: Option<(Duration, Instant)>,
    /// Since when the room would be gone if its snapshot did not lag behind.
    closing_since: Option<Instant>,
}

impl Compaction {
    pub(super) fn new(policy: SnapshotPolicy, loaded: &Loaded) -> Self {
        Self {
            policy,
            log_rows: loaded.log_rows,
            log_bytes: loaded.log_bytes,
            dirty_since: loaded.dirty_since,
            running: None,
            again: None,
            closing_since: None,
        }
    }

    /// Rows were appended to the log.
    pub(super) fn appended(&mut self, now: Instant, rows: u64, bytes: u64) {
        if rows > 0 {
            self.log_rows += rows;
            self.log_bytes += bytes;
            self.note_change(now);
        }
    }

    /// The document has something that no snapshot has.
    pub(super) fn note_change(&mut self, now: Instant) {
        self.dirty_since.get_or_insert(now);
    }

    /// Whether stored rows are covered by no snapshot.
    pub(super) fn is_dirty(&self) -> bool {
        self.dirty_since.is_some()
    }

    /// Whether a snapshot should be written now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.may_run(now) && self.due_at().is_some_and(|due| now >= due)
    }

    /// From when on a snapshot is due, if none is being written and the last one was taken.
    fn due_at(&self) -> Option<Instant> {
        let Self { policy, .. } = self;
        let dirty_since = self.dirty_since?;
        let is_long = self.log_rows >= policy.max_log_rows || self.log_bytes >= policy.max_log_bytes;
        Some(match is_long {
            true => dirty_since,
            false => dirty_since + policy.interval,
        })
    }

    /// Whether a snapshot could be written now.
    pub(super) fn may_run(&self, now: Instant) -> bool {
        self.is_dirty() && self.running.is_none() && self.again.is_none_or(|(_, at)| now >= at)
    }

    /// Whether the room has to stay until the snapshot covers the log. The log is kept, so it stays for a while only.
    pub(super) fn keeps_room(&self, now: Instant) -> bool {
        self.closing_since
            .is_none_or(|since| now < since + CLOSING_PATIENCE)
    }

    /// Notes whether only the page's snapshot keeps the room; if so, it is due.
    pub(super) fn note_closing(&mut self, now: Instant, is_closing: bool) -> bool {
        self.closing_since = is_closing.then(|| self.closing_since.unwrap_or(now));
        is_closing && self.may_run(now)
    }

    /// Whether the room would be gone if the page's snapshot did not lag behind.
    pub(super) fn is_closing(&self) -> bool {
        self.closing_since.is_some()
    }

    /// A snapshot of everything up to row `seq` is being written.
    pub(super) fn begin(&mut self, now: Instant, seq: Seq) {
        self.running = Some(Running {
            seq,
            since: now,
            rows: self.log_rows,
            bytes: self.log_bytes,
        });
    }

    /// The snapshot up to row `seq` has been taken, or not. The page is stored up to `stored`.
    pub(super) fn ended(&mut self, now: Instant, seq: Seq, stored: Seq, taken: bool) {
        let Some(running) = self.running.take_if(|running| running.seq == seq) else {
            return;
        };
        if taken {
            self.log_rows = self.log_rows.saturating_sub(running.rows);
            self.log_bytes = self.log_bytes.saturating_sub(running.bytes);
            self.dirty_since = (stored > seq).then_some(running.since);
            self.again = None;
        } else {
            let pause = match self.again {
                Some((pause, _)) => (pause * 2).min(LONGEST_PAUSE),
                None => FIRST_PAUSE,
            };
            self.again = Some((pause, now + pause));
        }
    }

    /// When the policy wants to be asked again, while a snapshot could be written.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let due = self.due_at()?;
        let due = self.closing_since.unwrap_or(due);
        let due = self.again.map_or(due, |(_, again)| again.max(due));
        let due = self.running.is_none().then_some(due);
        let closing = self.closing_since.map(|since| since + CLOSING_PATIENCE);
        due.into_iter().chain(closing).min()
    }
}
