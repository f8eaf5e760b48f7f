//! Makes the versions that nobody asks for, and forgets what is older or longer than is kept, away from the edits.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use storage::{AddedVersion, HistoryLimits, NewVersion, PageId, Seq, VersionKind};
use tokio_util::sync::CancellationToken;

use super::{History, Keep};
use crate::auth::now;

/// How often it is looked for what is to be forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(3600);
/// Histories that are shortened before it is looked again.
const PAGES_AT_ONCE: usize = 100;
/// Versions that wait for the store, while it fails.
const MAX_WAITING: usize = 10_000;
const DAY: Duration = Duration::from_secs(24 * 3600);

impl History {
    /// Makes versions until `stop`, and then one of each page that has been edited since its last one.
    pub async fn keep_versions(self, stop: CancellationToken) {
        let pace = self.feed.editing(|editing| editing.pace());
        let mut waiting = BTreeMap::new();
        loop {
            let is_last = tokio::select! {
                () = tokio::time::sleep(pace) => false,
                () = stop.cancelled() => true,
            };
            let due = self.feed.editing(|editing| match is_last {
                true => editing.finish(),
                false => editing.due(clock()),
            });
            for (page, seq) in due {
                if waiting.len() < MAX_WAITING || waiting.contains_key(&page) {
                    waiting.insert(page, seq);
                }
            }
            self.make(&mut waiting).await;
            if is_last {
                return;
            }
        }
    }

    /// Makes the versions that wait. Those that the store does not take now wait on.
    async fn make(&self, waiting: &mut BTreeMap<PageId, Seq>) {
        while let Some((page, &seq)) = waiting.first_key_value() {
            let (page, version) = (page.clone(), automatic(seq));
            match self.add_version(&page, &version).await {
                Ok(AddedVersion::Added(_) | AddedVersion::Unknown | AddedVersion::TooMany) => {}
                Err(error) => {
                    tracing::warn!(%page, seq, %error, "a version of a page could not be kept yet");
                    if error.is_retryable() {
                        return;
                    }
                }
            }
            waiting.remove(&page);
        }
    }

    /// Forgets until `stop`.
    pub async fn keep_short(self, stop: CancellationToken) {
        loop {
            self.shorten(&stop).await;
            tokio::select! {
                () = tokio::time::sleep(FORGET_EVERY) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Forgets what is too old or too long now.
    pub async fn shorten(&self, stop: &CancellationToken) {
        let days = match self.config.keep {
            Keep::Days(days) => now().checked_sub(days * DAY),
            // What was kept before it was switched off.
            Keep::Nothing => Some(now()),
            Keep::Everything | Keep::Versions(_) => None,
        };
        let limits = HistoryLimits {
            before: days,
            bytes: self.config.max_bytes,
        };
        let mut last = Vec::new();
        loop {
            let long = match self.store.long_histories(limits, PAGES_AT_ONCE).await {
                Ok(long) => long,
                Err(error) => {
                    return tracing::warn!(%error, "what is to be forgotten cannot be looked for now");
                }
            };
            // What did not become shorter does not become so by trying again.
            if long.is_empty() || long == last {
                return;
            }
            for (page, upto) in &long {
                if stop.is_cancelled() {
                    return;
                }
                if let Err(error) = self.forget(page, *upto).await {
                    tracing::warn!(%page, %error, "the history of a page could not be shortened yet");
                }
            }
            last = long;
        }
    }
}

fn automatic(seq: Seq) -> NewVersion {
    NewVersion {
        seq,
        kind: VersionKind::Automatic,
        name: None,
        user: None,
        reason: None,
    }
}

#[expect(clippy::disallowed_methods, reason = "versions meet the clock here")]
fn clock() -> Instant {
    Instant::now()
}
