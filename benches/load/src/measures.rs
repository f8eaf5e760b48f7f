//! What a run counts and times.

use std::ops::{Range, Sub};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Nanoseconds since the start of the run.
pub(super) type Nanos = u64;

/// Latencies above this count as this.
const LATENCY_MAX_MICROSECONDS: u64 = 600_000_000;

/// What was counted up to some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    /// Edits written.
    pub(super) written: u64,
    /// Edits that reached a member other than their author.
    pub(super) delivered: u64,
    /// Edits that came back to their author.
    pub(super) acknowledged: u64,
    /// Edits that reached a member again.
    pub(super) overlapping: u64,
    /// Edits that reached a member before an earlier edit of the same author.
    pub(super) out_of_order: u64,
    /// Presence messages written.
    pub(super) awareness_written: u64,
    /// Presence states that reached another member; a newer one may have replaced one on the way.
    pub(super) awareness_delivered: u64,
    /// Frames with updates that were received.
    pub(super) update_frames: u64,
    /// All frames received.
    pub(super) frames: u64,
    /// All bytes received.
    pub(super) bytes: u64,
    /// Sync steps 1 received.
    pub(super) sync_steps_1: u64,
    /// Sync steps 2 received.
    pub(super) sync_steps_2: u64,
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            written: self.written - earlier.written,
            delivered: self.delivered - earlier.delivered,
            acknowledged: self.acknowledged - earlier.acknowledged,
            overlapping: self.overlapping - earlier.overlapping,
            out_of_order: self.out_of_order - earlier.out_of_order,
            awareness_written: self.awareness_written - earlier.awareness_written,
            awareness_delivered: self.awareness_delivered - earlier.awareness_delivered,
            update_frames: self.update_frames - earlier.update_frames,
            frames: self.frames - earlier.frames,
            bytes: self.bytes - earlier.bytes,
            sync_steps_1: self.sync_steps_1 - earlier.sync_steps_1,
            sync_steps_2: self.sync_steps_2 - earlier.sync_steps_2,
        }
    }
}

/// Latencies, in microseconds.
#[derive(Clone, Debug)]
pub(super) struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        let bounded = Histogram::new_with_bounds(1, LATENCY_MAX_MICROSECONDS, 3);
        #[expect(
            clippy::expect_used,
            reason = "constant arguments within the library's limits"
        )]
        Self(bounded.expect("bounds that a histogram can have"))
    }
}

impl Latencies {
    /// Adds one.
    pub(super) fn record(&mut self, nanos: Nanos) {
        self.0.saturating_record(nanos / 1_000);
    }

    /// What a report says about them.
    pub(super) fn summary(&self) -> LatencySummary {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1_000.0;
        LatencySummary {
            count: self.0.len(),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            max_ms: self.0.max() as f64 / 1_000.0,
        }
    }
}

/// Latencies as a report shows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct LatencySummary {
    /// How many there are.
    pub(super) count: u64,
    /// Half of them are at most this, in milliseconds.
    pub(super) p50_ms: f64,
    /// Nine in ten are at most this, in milliseconds.
    pub(super) p90_ms: f64,
    /// 99 in 100 are at most this, in milliseconds.
    pub(super) p99_ms: f64,
    /// The longest, in milliseconds.
    pub(super) max_ms: f64,
}

/// Everything a run counts and times.
#[derive(Debug, Default)]
pub(super) struct Measures {
    /// Latencies are kept of what was written in this time.
    pub(super) window: Range<Nanos>,
    /// From the author to another member.
    pub(super) propagation: Latencies,
    /// From the author back to it.
    pub(super) acknowledgement: Latencies,
    /// The same as [`Self::propagation`], of presence.
    pub(super) awareness: Latencies,
    /// The counts.
    pub(super) counts: Counts,
}
