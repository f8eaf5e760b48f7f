//! Makes the versions that nobody asks for, and forgets what is older or longer than is kept, away from the edits.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use storage::{AddedVersion, HistoryPolicies, Keep, NewVersion, PageId, Seq, StoreError, VersionKind};
use tokio_util::sync::CancellationToken;

use super::{History, PastError};
use crate::auth::now;

/// How often it is looked for what is to be forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(3600);
/// After it was looked for what is to be forgotten, so many times as long passes before it is looked again.
const PAUSES: u32 = 9;
/// Histories, and policies, that are read at once.
const ROWS_AT_ONCE: usize = 1000;
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
            match self.add_automatic(&page, &version).await {
                Ok(()) => {}
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

    /// Keeps a version that nobody asked for, of a page whose past is kept.
    pub(super) async fn add_automatic(&self, page: &PageId, version: &NewVersion) -> Result<(), PastError> {
        if self.keep_of(page).await? == Keep::Nothing {
            return Ok(());
        }
        match self.add_version(page, version).await? {
            AddedVersion::Added(_) | AddedVersion::Unknown | AddedVersion::TooMany => Ok(()),
        }
    }

    /// Forgets until `stop`.
    pub async fn keep_short(self, stop: CancellationToken) {
        loop {
            let began = tokio::time::Instant::now();
            self.shorten(&stop).await;
            // Policies may be set again and again: what that makes the store read is a tenth of its time.
            let pause = began.elapsed() * PAUSES;
            let next = async {
                tokio::time::sleep(pause).await;
                let changed = self.policies_changed.notified();
                let _ = tokio::time::timeout(FORGET_EVERY, changed).await;
            };
            tokio::select! {
                () = next => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Forgets what is too old or too long now.
    pub async fn shorten(&self, stop: &CancellationToken) {
        if let Err(error) = self.forget_old(stop).await {
            tracing::warn!(%error, "what is to be forgotten cannot be looked for now");
        }
        if let Some(bytes) = self.config.max_bytes
            && let Err(error) = self.forget_large(bytes, stop).await
        {
            tracing::warn!(%error, "histories that are too large cannot be looked for now");
        }
    }

    /// Goes once through the histories that are older than any of the policies, and the setting, would keep them.
    async fn forget_old(&self, stop: &CancellationToken) -> Result<(), StoreError> {
        let policies = self.policies().await?;
        let keeps = policies.keeps().map(Cut::of);
        // That of so many versions is kept to where versions are made: histories without a policy are gone through by their age only.
        let setting = match self.config.keep {
            Keep::Versions(_) => None,
            keep @ (Keep::Nothing | Keep::Everything | Keep::Days(_)) => Some(Cut::of(keep)),
        };
        let Some(newest) = keeps.chain(setting).filter_map(|cut| cut.before()).max() else {
            return Ok(());
        };
        let mut after = None;
        loop {
            let old = self
                .store
                .old_histories(newest, after.as_ref(), ROWS_AT_ONCE)
                .await?;
            for history in &old {
                if stop.is_cancelled() {
                    return Ok(());
                }
                let cut = match policies.nearest(&history.page) {
                    Some((_, keep)) => Some(Cut::of(keep)),
                    None => setting,
                };
                let is_due = |cut: &Cut| cut.before().is_some_and(|before| history.first_at < before);
                let Some(cut) = cut.filter(is_due) else { continue };
                let page = &history.page;
                if let Err(error) = self.forget_upto(page, cut).await {
                    tracing::warn!(%page, %error, "the history of a page could not be shortened yet");
                }
            }
            after = old.last().map(|last| last.cursor.clone());
            if old.len() < ROWS_AT_ONCE {
                return Ok(());
            }
        }
    }

    async fn forget_upto(&self, page: &PageId, cut: Cut) -> Result<(), PastError> {
        let upto = match cut {
            Cut::Nothing => None,
            Cut::Before(before) => self.store.last_before(page, before).await?,
            Cut::Versions(count) => self.store.version_from_newest(page, count).await?,
        };
        match upto {
            Some(upto) => self.forget(page, upto).await,
            None => Ok(()),
        }
    }

    /// Shortens histories until none takes more than so many bytes.
    async fn forget_large(&self, bytes: u64, stop: &CancellationToken) -> Result<(), StoreError> {
        let mut last = Vec::new();
        loop {
            let large = self.store.large_histories(bytes, ROWS_AT_ONCE).await?;
            // What did not become shorter does not become so by trying again.
            if large.is_empty() || large == last {
                return Ok(());
            }
            for (page, upto) in &large {
                if stop.is_cancelled() {
                    return Ok(());
                }
                if let Err(error) = self.forget(page, *upto).await {
                    tracing::warn!(%page, %error, "the history of a page could not be shortened yet");
                }
            }
            last = large;
        }
    }

    /// All policies.
    async fn policies(&self) -> Result<HistoryPolicies, StoreError> {
        let mut policies = HistoryPolicies::default();
        let mut after: Option<String> = None;
        loop {
            let found = self
                .store
                .history_policies(after.as_deref(), ROWS_AT_ONCE)
                .await?;
            let is_last = found.len() < ROWS_AT_ONCE;
            after = found.last().map(|last| last.pages.as_str().to_owned());
            for policy in found {
                policies.insert(policy);
            }
            if is_last {
                return Ok(policies);
            }
        }
    }
}

/// What of a history is forgotten.
#[derive(Clone, Copy)]
enum Cut {
    Nothing,
    /// What was stored before.
    Before(SystemTime),
    /// What comes before the oldest of so many versions.
    Versions(u32),
}

impl Cut {
    fn of(keep: Keep) -> Self {
        match keep {
            Keep::Everything => Self::Nothing,
            // What was kept before it was switched off.
            Keep::Nothing => Self::Before(now()),
            // Nothing was stored before 1970, and not every database has a time for what is long before.
            Keep::Days(days) => now()
                .checked_sub(days * DAY)
                .filter(|before| *before > SystemTime::UNIX_EPOCH)
                .map_or(Self::Nothing, Self::Before),
            Keep::Versions(count) => Self::Versions(count),
        }
    }

    /// A history that begins later is not concerned.
    fn before(self) -> Option<SystemTime> {
        match self {
            Self::Nothing => None,
            Self::Before(before) => Some(before),
            Self::Versions(_) => Some(now()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_from_before_there_was_anything_forget_nothing() {
        assert!(Cut::of(Keep::Days(30)).before().is_some());
        for days in [100_000, u32::MAX] {
            assert_eq!(Cut::of(Keep::Days(days)).before(), None, "{days}");
        }
    }
}
