//! The past of pages: states that were, who is told of changes, versions that are made by themselves, and what is forgotten.
//!
//! ```text
//!  writer ── stored ──► ChangeFeed ──► followers (`GET …/changes` as a stream)
//!                           │
//!                           └─► Editing (pure): it was quiet, or it is time ──► keeper ──► store: versions
//!                                                                              keeper ──► store: forgets, in pieces
//! ```
//!
//! Rows that snapshots have covered are kept by the store in the transaction of the snapshot. None of this is on the way of an edit.

mod editing;
mod feed;
mod keeper;
mod marks;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use crdt::{Document, Limits, LoadError};
use storage::{
    AddedVersion, Generation, HistoryPolicy, Keep, NewVersion, PageId, Past, Seq, SharedStore, StoreError,
    VersionKind,
};
use tokio::sync::{Notify, Semaphore};

pub use editing::Editing;
pub use feed::{ChangeFeed, Follower, StoredNews};
pub use marks::{Author, MarkedFields, html as marked_html, json as marked_json};

use crate::{rooms::run_blocking_if, webhooks::WebhookNotes};

/// Questions about a page and its past that are worked on at once; others wait before anything is read for them.
const MAX_PASTS: usize = 2;
pub(crate) static PAST_AT_ONCE: Semaphore = Semaphore::const_new(MAX_PASTS);

/// How much of the past is kept, and when a version is made.
#[derive(Clone, Copy, Debug)]
pub struct HistoryConfig {
    /// How long it is kept of pages without a policy.
    pub keep: Keep,
    /// What the past of one page may take, in bytes.
    pub max_bytes: Option<u64>,
    /// A page that has been edited for this long gets a version.
    pub version_interval: Option<Duration>,
    /// So does one that has not been edited for this long.
    pub version_quiet: Option<Duration>,
}

/// Why a state of the past cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PastError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is stored does not fit together.
    #[error(transparent)]
    Damaged(#[from] LoadError),
}

impl PastError {
    /// Whether it may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable(),
            Self::Damaged(_) => false,
        }
    }
}

/// A state that a page had.
#[derive(Debug)]
pub struct PastState {
    /// The page's generation.
    pub generation: Generation,
    /// The state after this row.
    pub seq: Seq,
    /// The document as it was.
    pub document: Document,
}

/// The past of pages. Cheap to clone.
#[derive(Clone)]
pub struct History {
    store: SharedStore,
    gate: Limits,
    config: HistoryConfig,
    feed: ChangeFeed,
    webhooks: WebhookNotes,
    /// It is to be looked for what is to be forgotten, before it is time.
    policies_changed: Arc<Notify>,
}

impl History {
    /// The past of the pages of a store.
    pub fn new(store: SharedStore, gate: Limits, config: HistoryConfig, feed: ChangeFeed) -> Self {
        Self {
            store,
            gate,
            config,
            feed,
            webhooks: WebhookNotes::off(),
            policies_changed: Arc::default(),
        }
    }

    /// The same, and webhooks are told of versions.
    #[must_use]
    pub fn telling(self, webhooks: WebhookNotes) -> Self {
        Self { webhooks, ..self }
    }

    /// Who is told of changes.
    pub fn feed(&self) -> &ChangeFeed {
        &self.feed
    }

    /// How long the past of pages without a policy is kept.
    pub fn setting(&self) -> Keep {
        self.config.keep
    }

    /// How long the past of a page is kept.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn keep_of(&self, page: &PageId) -> Result<Keep, StoreError> {
        let policy = self.store.history_policy(page).await?;
        Ok(policy.map_or(self.config.keep, |policy| policy.keep))
    }

    /// Sets how long the past of a page, or of many, is kept; what is not to be kept any more is forgotten soon. `false` where there are too
    /// many policies.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn set_policy(&self, policy: &HistoryPolicy) -> Result<bool, StoreError> {
        let set = self.store.set_history_policy(policy).await?;
        self.policies_changed.notify_one();
        Ok(set)
    }

    /// Removes the policy on exactly these pages. `false` when there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn remove_policy(&self, pages: &PageId) -> Result<bool, StoreError> {
        let removed = self.store.remove_history_policy(pages).await?;
        self.policies_changed.notify_one();
        Ok(removed)
    }

    /// The state of a page after row `seq`. `None` when it is not kept.
    ///
    /// # Errors
    /// When the store fails, or what is stored does not fit together.
    pub async fn state(&self, page: &PageId, seq: Seq) -> Result<Option<PastState>, PastError> {
        let Some(past) = self.store.past(page, seq, seq).await? else {
            return Ok(None);
        };
        let generation = past.generation.clone();
        let document = run_blocking_if(true, || Document::load(self.gate, parts(past)))?;
        Ok(Some(PastState {
            generation,
            seq,
            document,
        }))
    }

    /// Keeps a version, and forgets what comes before the last one that is kept.
    ///
    /// # Errors
    /// When the store fails, or what is stored does not fit together.
    pub async fn add_version(&self, page: &PageId, version: &NewVersion) -> Result<AddedVersion, PastError> {
        let added = self.store.add_version(page, version).await?;
        if let AddedVersion::Added(_) = added {
            self.webhooks.has_version(page);
        }
        if let Keep::Versions(count) = self.keep_of(page).await?
            && let Some(oldest) = self.store.version_from_newest(page, count).await?
        {
            self.forget(page, oldest).await?;
        }
        Ok(added)
    }

    /// Forgets the past of a page before row `upto`, but for the versions that somebody wanted.
    async fn forget(&self, page: &PageId, upto: Seq) -> Result<(), PastError> {
        let record = self.store.history(page).await?;
        if record.first_seq >= upto {
            return Ok(());
        }
        let mut before = None;
        loop {
            let versions = self.store.versions(page, before, VERSIONS_AT_ONCE).await?;
            for version in &versions {
                let seq = version.version.seq;
                // Those before have got theirs when what is behind them was forgotten.
                if version.version.kind != VersionKind::Automatic && (record.first_seq..upto).contains(&seq) {
                    self.keep_base(page, seq, true).await?;
                }
            }
            before = versions.last().map(|version| version.id);
            if versions.len() < VERSIONS_AT_ONCE {
                break;
            }
        }
        self.keep_base(page, upto, false).await?;
        while self.store.forget_history(page, upto).await? > 0 {}
        Ok(())
    }

    /// Makes a state a base, also where it is that of the snapshot, which will not stay.
    async fn keep_base(&self, page: &PageId, seq: Seq, also_of_snapshot: bool) -> Result<(), PastError> {
        let Some(past) = self.store.past(page, seq, seq).await? else {
            return Ok(());
        };
        if past.rows.is_empty() && !also_of_snapshot {
            return Ok(());
        }
        let state = run_blocking_if(true, || {
            let mut document = Document::load(self.gate, parts(past))?;
            Ok::<_, PastError>(document.encode().ok())
        })?;
        if let Some(state) = state {
            self.store.keep_base(page, seq, &state).await?;
        }
        Ok(())
    }
}

/// Versions that are looked at in one go.
const VERSIONS_AT_ONCE: usize = 1000;

/// The updates that a stretch of the past consists of.
pub(crate) fn parts(past: Past) -> impl Iterator<Item = Bytes> {
    past.base
        .into_iter()
        .chain(past.rows.into_iter().map(|row| row.data))
}

#[cfg(test)]
mod tests;
