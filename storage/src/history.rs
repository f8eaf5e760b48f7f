//! What a store keeps of the past of a page: the rows that snapshots have covered, states to begin from, and versions.
//!
//! Rows go from the log into the history in the transaction of the snapshot that covers them, in order and with their authors and
//! times. A state of the past is the nearest **base** before it and the rows from there on; a snapshot that is replaced becomes a base
//! whenever the rows since the last one have grown as long as it is, so reading a past state takes work in proportion to that state.
//! What has been forgotten, or was never kept, is `None`: never another state.

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Generation, LoggedUpdate, PageId, Seq, StoreError};

/// A row counts for this many bytes more than its data: what a database takes for it, and what reading it takes.
pub(crate) const ROW_BYTES: u64 = 64;
/// The rows since the last base may always take this much.
pub(crate) const MIN_BASE_BYTES: u64 = 256 << 10;
/// Rows of a history that are forgotten in one transaction.
pub const MAX_HISTORY_ROWS_AT_ONCE: usize = 5_000;
/// Named versions, and those before a restore, that a page may have.
pub const MAX_NAMED_VERSIONS: usize = 1_000;

/// A stretch of a page's past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// The page's generation.
    pub generation: Generation,
    /// The state after row `covered`; `None` when that is 0.
    pub base: Option<Bytes>,
    /// The rows before this one and itself are in the base.
    pub covered: Seq,
    /// The rows behind it, in order, none missing.
    pub rows: Vec<LoggedUpdate>,
}

/// One row of a log, without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageChange {
    /// Its place in the log.
    pub seq: Seq,
    /// Who made it, where that was known.
    pub user: Option<Arc<str>>,
    /// When it was stored, to the millisecond.
    pub at: SystemTime,
    /// How long the update is.
    pub bytes: u64,
}

/// What has changed in a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageChanges {
    /// Number of the page's last row.
    pub last: Seq,
    /// The rows, in order. Where the history begins later they do not begin where they were asked for.
    pub rows: Vec<PageChange>,
}

/// Why there is a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionKind {
    /// It was time, or it had become quiet.
    Automatic,
    /// A user asked for it.
    Named,
    /// It is what there was before another one was restored.
    Restore,
}

impl VersionKind {
    /// The word that is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            Self::Named => "named",
            Self::Restore => "restore",
        }
    }

    pub(crate) fn parse(word: &str) -> Self {
        match word {
            "automatic" => Self::Automatic,
            "restore" => Self::Restore,
            _ => Self::Named,
        }
    }
}

/// A version to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewVersion {
    /// The state after this row.
    pub seq: Seq,
    /// Why.
    pub kind: VersionKind,
    /// What it is called.
    pub name: Option<String>,
    /// Who asked for it.
    pub user: Option<String>,
    /// Why, in words.
    pub reason: Option<String>,
}

/// A version of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its number, which grows; no other version of any page has it.
    pub id: u64,
    /// What it is.
    pub version: NewVersion,
    /// When it was made, to the millisecond.
    pub at: SystemTime,
}

/// What became of a version that was to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddedVersion {
    /// It has this number.
    Added(u64),
    /// The page has no such row.
    Unknown,
    /// The page has as many versions as it may, all of which somebody wanted.
    TooMany,
}

/// What is kept of a page's past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistoryRecord {
    /// What rows and bases take, in bytes.
    pub bytes: u64,
    /// States from this row on can be read, with few exceptions before it.
    pub first_seq: Seq,
}

/// A page whose history begins long ago.
#[derive(Clone, Debug)]
pub struct OldHistory {
    /// The page.
    pub page: PageId,
    /// When the oldest row was stored, to the millisecond.
    pub first_at: SystemTime,
    /// Where the listing goes on behind it.
    pub cursor: HistoryCursor,
}

/// A place in a listing of histories by their age.
#[derive(Clone, Debug)]
pub struct HistoryCursor {
    /// In the unit of the store.
    pub(crate) at: i64,
    pub(crate) key: String,
}

/// The past of pages. See the module.
#[async_trait]
pub trait HistoryStore: Send + Sync {
    /// Reads what leads to the states after rows `from` to `to`: the nearest base at `from` or before, and all rows behind it up to
    /// `to`. `None` when the page has no such rows, or they are not kept.
    async fn past(&self, page: &PageId, from: Seq, to: Seq) -> Result<Option<Past>, StoreError>;

    /// Says who changed a page after row `after`, at most `limit` rows. `None` when the page has never been stored.
    async fn changes(
        &self,
        page: &PageId,
        after: Seq,
        limit: usize,
    ) -> Result<Option<PageChanges>, StoreError>;

    /// Keeps a version of a page.
    async fn add_version(&self, page: &PageId, version: &NewVersion) -> Result<AddedVersion, StoreError>;

    /// Lists versions, the newest first, those with numbers below `before`, at most `limit`.
    async fn versions(
        &self,
        page: &PageId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Version>, StoreError>;

    /// Finds a version of a page.
    async fn version(&self, page: &PageId, id: u64) -> Result<Option<Version>, StoreError>;

    /// Says what is kept of a page's past.
    async fn history(&self, page: &PageId) -> Result<HistoryRecord, StoreError>;

    /// Finds the row that the `count`-th version of a page is of, counted from the newest one. `None` when there are fewer.
    async fn version_from_newest(&self, page: &PageId, count: u32) -> Result<Option<Seq>, StoreError>;

    /// Lists histories whose oldest row was stored before `before`, the oldest first, those behind `after`, at most `limit`.
    async fn old_histories(
        &self,
        before: SystemTime,
        after: Option<&HistoryCursor>,
        limit: usize,
    ) -> Result<Vec<OldHistory>, StoreError>;

    /// Finds the last row of a history before the first one that was stored at `before` or later. `None` when there is none.
    async fn last_before(&self, page: &PageId, before: SystemTime) -> Result<Option<Seq>, StoreError>;

    /// Finds histories that take more than `bytes`, at most `limit`, and up to which row they are to be forgotten.
    async fn large_histories(&self, bytes: u64, limit: usize) -> Result<Vec<(PageId, Seq)>, StoreError>;

    /// Keeps the state after row `seq` as a base.
    async fn keep_base(&self, page: &PageId, seq: Seq, state: &Bytes) -> Result<(), StoreError>;

    /// Forgets rows up to `upto` with the bases before it and the automatic versions, at most [`MAX_HISTORY_ROWS_AT_ONCE`] rows at
    /// once, the oldest first; says how many. Bases of other versions stay. Without a base at `upto`, only where the snapshot is as old.
    async fn forget_history(&self, page: &PageId, upto: Seq) -> Result<u64, StoreError>;
}
