//! How much happens in a second: what counters have gained since somebody looked a moment ago. Pure: time is an argument.

use std::time::{Duration, Instant};

use serde::Serialize;
use utoipa::ToSchema;

use crate::telemetry::Totals;

/// Shortest time over which something is called a rate.
const SHORTEST: Duration = Duration::from_secs(1);
/// What was seen longer ago than this says nothing of now.
const LONGEST: Duration = Duration::from_secs(30);

/// What has been counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct Counted {
    /// Messages received from clients.
    pub(super) messages: u64,
    /// Payload received from clients, in bytes.
    pub(super) received_bytes: u64,
    /// Frames sent to clients.
    pub(super) frames: u64,
    /// Frames sent to clients, in bytes.
    pub(super) sent_bytes: u64,
    /// Members that were brought up to date after falling behind.
    pub(super) resyncs: u64,
    /// Requests and messages that were refused.
    pub(super) refusals: u64,
    /// What went wrong in the server.
    pub(super) errors: u64,
}

/// The same in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct PerSecond {
    pub(super) messages: f64,
    pub(super) received_bytes: f64,
    pub(super) frames: f64,
    pub(super) sent_bytes: f64,
    pub(super) resyncs: f64,
    pub(super) refusals: f64,
    pub(super) errors: f64,
}

impl Counted {
    /// What counters say now.
    pub(super) fn of(totals: &Totals) -> Self {
        Self {
            messages: totals.messages_in.total(),
            received_bytes: totals.bytes_in.total(),
            frames: totals.frames_out.total(),
            sent_bytes: totals.bytes_out.total(),
            resyncs: totals.resyncs.total(),
            refusals: totals.refusals.total(),
            errors: totals.errors.total(),
        }
    }

    fn since(self, before: Self, time: Duration) -> PerSecond {
        // Tenths are enough for whoever looks, and what stays the same is not told again.
        let rate = |now: u64, before: u64| {
            let rate = now.saturating_sub(before) as f64 / time.as_secs_f64();
            (rate * 10.0).round() / 10.0
        };
        PerSecond {
            messages: rate(self.messages, before.messages),
            received_bytes: rate(self.received_bytes, before.received_bytes).round(),
            frames: rate(self.frames, before.frames),
            sent_bytes: rate(self.sent_bytes, before.sent_bytes).round(),
            resyncs: rate(self.resyncs, before.resyncs),
            refusals: rate(self.refusals, before.refusals),
            errors: rate(self.errors, before.errors),
        }
    }
}

/// What was seen before, for all who look.
#[derive(Debug, Default)]
pub(super) struct Rates {
    /// At least so long ago that a rate can be made of it.
    before: Option<(Instant, Counted)>,
    /// Takes its place when it is old enough.
    last: Option<(Instant, Counted)>,
}

impl Rates {
    /// The rates, now that so much has been counted; `None` while nothing is there to compare with.
    pub(super) fn now(&mut self, now: Instant, counted: Counted) -> Option<PerSecond> {
        let age = |seen: &(Instant, Counted)| now.saturating_duration_since(seen.0);
        if self.last.as_ref().is_none_or(|last| age(last) >= SHORTEST) {
            self.before = self.last.replace((now, counted));
        }
        let before = self.before.filter(|before| age(before) <= LONGEST)?;
        Some(counted.since(before.1, age(&before)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(messages: u64) -> Counted {
        Counted {
            messages,
            ..Counted::default()
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a moment to begin with")]
    fn a_rate_is_over_a_second_at_least_and_not_over_what_is_long_ago() {
        let begin = Instant::now();
        let mut rates = Rates::default();
        let mut at = |milliseconds, messages| {
            let now = begin + Duration::from_millis(milliseconds);
            let rate = rates.now(now, counted(messages));
            rate.map(|rate| rate.messages)
        };
        assert_eq!(at(0, 1_000), None, "nothing to compare with");
        assert_eq!(at(500, 1_500), None, "too early");
        assert_eq!(at(1_000, 2_000), Some(1_000.0));
        // However many look, and however often, the time is a second or more.
        assert_eq!(at(1_500, 2_000), Some(666.7));
        assert_eq!(at(2_000, 2_000), Some(0.0));
        assert_eq!(at(60_000, 9_000), None, "nobody has looked for a while");
        assert_eq!(at(61_000, 9_010), Some(10.0));
        // Counters that begin anew are no rate below zero.
        assert_eq!(at(62_000, 0), Some(0.0));
    }
}
