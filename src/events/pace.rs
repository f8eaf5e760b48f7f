//! How often and how much may be told of something that changes all the time: frames and bytes a second. Pure: time is an argument.

use std::time::{Duration, Instant};

/// Time between two frames.
const FRAME: Duration = Duration::from_millis(50);
/// Bytes a second, and bytes at once after a quiet time. One telling may exceed that once.
const BYTES_PER_SECOND: u64 = 50 * 1024;
const BURST_BYTES: i64 = 4 * 1024;

/// What may be told now.
#[derive(Debug)]
pub(super) struct Pace {
    /// Bytes that may be told now; below zero until one that was larger is made up for.
    budget: i64,
    refilled: Option<Instant>,
    frame_from: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            budget: BURST_BYTES,
            refilled: None,
            frame_from: None,
        }
    }
}

impl Pace {
    /// Whether it is time for a frame.
    pub(super) fn is_time(&mut self, now: Instant) -> bool {
        if self.frame_from.is_some_and(|from| now < from) {
            return false;
        }
        self.refill(now);
        true
    }

    /// Whether more may be told in this frame.
    pub(super) fn has_room(&self) -> bool {
        self.budget > 0
    }

    /// So many bytes are told.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.budget = self.budget.saturating_sub_unsigned(bytes as u64);
    }

    /// A frame is told.
    pub(super) fn told(&mut self, now: Instant) {
        self.frame_from = Some(now + FRAME);
    }

    /// When the next frame may be told; `None` before the first one. O(1).
    pub(super) fn next(&self) -> Option<Instant> {
        let from = self.frame_from?;
        let lacking = u64::try_from(1 - self.budget).unwrap_or_default();
        let wait = Duration::from_millis((lacking * 1000).div_ceil(BYTES_PER_SECOND));
        self.refilled.map(|refilled| from.max(refilled + wait))
    }

    fn refill(&mut self, now: Instant) {
        let since = self
            .refilled
            .map_or(Duration::from_secs(1), |at| now.saturating_duration_since(at));
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let bytes = millis.saturating_mul(BYTES_PER_SECOND) / 1000;
        if bytes > 0 || self.refilled.is_none() {
            self.budget = self.budget.saturating_add_unsigned(bytes).min(BURST_BYTES);
            self.refilled = Some(now);
        }
    }
}
