//! Counts what is in the outbox, and forgets what has been there for too long.

use std::{
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

use storage::{MAX_WEBHOOK_ROWS_AT_ONCE, OutboxLimits};
use tokio_util::sync::CancellationToken;

use super::{
    Office,
    schedule::{LONGEST_PAUSE, PATIENCE},
    teller::wait_or,
};
use crate::auth::now;

/// How often the outbox is counted.
const COUNT_EVERY: Duration = Duration::from_secs(10);
/// After so many counts is looked for what is too old.
const FORGET_AFTER: u32 = 60;
/// Dead events that are kept; the oldest go first.
const MAX_DEAD_EVENTS: u64 = 100_000;

impl Office {
    /// Looks after the outbox until `stop`.
    pub(super) async fn look_after_outbox(self, stop: CancellationToken) {
        let mut counts = 0;
        while !stop.is_cancelled() {
            if counts % FORGET_AFTER == 0 {
                self.forget(&stop).await;
            }
            self.count().await;
            counts += 1;
            wait_or(&stop, COUNT_EVERY).await;
        }
    }

    async fn count(&self) {
        match self.store.outbox_depth().await {
            Ok(depth) => {
                self.pending.store(depth.pending, Ordering::Relaxed);
                self.metrics.webhooks_pending.set(depth.pending as f64);
                let age = depth
                    .oldest
                    .and_then(|oldest| now().duration_since(oldest).ok())
                    .unwrap_or_default();
                self.metrics.webhooks_age.set(age.as_secs_f64());
            }
            // Whoever delivers says so.
            Err(error) => tracing::debug!(%error, "the outbox of webhooks cannot be counted now"),
        }
    }

    async fn forget(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let now = now();
            let before = |age: Duration| now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
            let targets = self.config.targets.iter();
            let limits = OutboxLimits {
                now,
                targets: targets.map(|target| target.name().to_owned()).collect(),
                pending_before: before(PATIENCE),
                dead_before: before(self.config.dead_retention),
                dead_count: MAX_DEAD_EVENTS,
                latest: now + 2 * LONGEST_PAUSE,
            };
            match self.store.forget_webhooks(&limits).await {
                Ok(forgotten) if forgotten >= MAX_WEBHOOK_ROWS_AT_ONCE as u64 => {}
                Ok(_) => return,
                Err(error) => {
                    return tracing::debug!(%error, "old webhooks cannot be forgotten now");
                }
            }
        }
    }
}
