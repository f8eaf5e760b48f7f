//! The life of a room: whether it is open, when it flushes, and when nothing holds it any more.

use std::time::{Duration, Instant};

use super::RoomConfig;

/// Up to this many members a room never holds a flush back.
pub(super) const NEVER_WAITS: usize = 8;
/// Each further member adds this to the window between two flushes.
pub(super) const WINDOW_PER_MEMBER: Duration = Duration::from_micros(500);

/// A room that has to go and may not yet tries again after this long.
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// How a room is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Members come and go.
    Open,
    /// The room ends: what it took in is stored, then members are disconnected. Nothing more is taken in.
    Draining,
    /// The server is stopping and there is no more time: members are sent away now.
    Abandoned,
    /// The document is not what is stored: what was admitted is stored, and members come back to a room that is rebuilt.
    Failed,
}

/// The phase of a room, and what happened when.
#[derive(Debug)]
pub(super) struct Life {
    phase: Phase,
    last_flush: Option<Instant>,
    last_edit: Instant,
    /// Since when there has been no member.
    empty_since: Option<Instant>,
}

impl Life {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            phase: Phase::Open,
            last_flush: None,
            last_edit: now,
            empty_since: Some(now),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    pub(super) fn has_failed(&self) -> bool {
        self.phase == Phase::Failed
    }

    /// Something is wrong with the document. Says whether that is new.
    pub(super) fn fail(&mut self) -> bool {
        let is_new = matches!(self.phase, Phase::Open | Phase::Draining);
        if is_new {
            self.phase = Phase::Failed;
        }
        is_new
    }

    /// Ends the room, at once (`abandon`) or when what it holds is stored.
    pub(super) fn drain(&mut self, abandon: bool) {
        self.phase = match (self.phase, abandon) {
            (_, true) | (Phase::Abandoned, _) => Phase::Abandoned,
            (Phase::Failed, false) => Phase::Failed,
            (Phase::Open | Phase::Draining, false) => Phase::Draining,
        };
    }

    /// A flush has left.
    pub(super) fn flushed(&mut self, now: Instant) {
        self.last_flush = Some(now);
    }

    /// The document has changed.
    pub(super) fn edited(&mut self, now: Instant) {
        self.last_edit = now;
    }

    /// When the document may be packed because nobody changes it.
    pub(super) fn sleep_at(&self, config: &RoomConfig) -> Instant {
        self.last_edit + config.sleep
    }

    /// The first member has come, or the last one has gone.
    pub(super) fn set_empty(&mut self, now: Instant, is_empty: bool) {
        self.empty_since = is_empty.then_some(now);
    }

    /// Somebody wants in just when the room wanted to go.
    pub(super) fn stay(&mut self, now: Instant) {
        self.empty_since = self.empty_since.map(|_| now);
    }

    /// When a room without members leaves memory.
    pub(super) fn idle_at(&self, config: &RoomConfig) -> Option<Instant> {
        let idle = if self.is_open() { config.idle } else { TRY_AGAIN };
        self.empty_since.map(|since| since + idle)
    }

    /// Whether the room would go if nothing held it.
    pub(super) fn wants_to_go(&self, now: Instant, config: &RoomConfig) -> bool {
        !self.is_open() || self.idle_at(config).is_some_and(|at| now >= at)
    }

    /// When the window of the last flush ends; `None` when flushes need not wait.
    pub(super) fn window_end(&self, members: usize, config: &RoomConfig) -> Option<Instant> {
        let crowd = members.saturating_sub(NEVER_WAITS);
        let window = WINDOW_PER_MEMBER
            .saturating_mul(u32::try_from(crowd).unwrap_or(u32::MAX))
            .min(config.max_window);
        let waits = crowd > 0 && matches!(self.phase, Phase::Open | Phase::Failed);
        self.last_flush.filter(|_| waits).map(|last| last + window)
    }
}
