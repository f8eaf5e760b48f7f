//! The values a store keeps and returns: pages, their log rows and their snapshots.

use std::{borrow::Borrow, fmt, sync::Arc, time::SystemTime};

use bytes::Bytes;

/// The name of a page: 1–255 bytes of UTF-8 without control characters and without `.` or `..` as a path segment.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageId(Arc<str>);

/// Why a string is not a page id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageIdError {
    /// Nothing in it.
    #[error("a page id must not be empty")]
    Empty,
    /// More than 255 bytes of UTF-8.
    #[error("a page id has at most 255 bytes, this one has {0}")]
    TooLong(usize),
    /// A control character (Unicode category Cc).
    #[error("a page id must not contain control characters")]
    ControlCharacter,
    /// A `.` or `..` between slashes.
    #[error("a page id must not contain `.` or `..` as a path segment")]
    DotSegment,
}

impl PageId {
    /// Longest page id, in bytes of UTF-8.
    pub const MAX_BYTES: usize = 255;

    /// Checks `id` and takes it as a page id.
    pub fn new(id: &str) -> Result<Self, PageIdError> {
        if id.is_empty() {
            return Err(PageIdError::Empty);
        }
        if id.len() > Self::MAX_BYTES {
            return Err(PageIdError::TooLong(id.len()));
        }
        if id.chars().any(char::is_control) {
            return Err(PageIdError::ControlCharacter);
        }
        if id.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err(PageIdError::DotSegment);
        }
        Ok(Self(id.into()))
    }

    /// The id as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// Lets maps from page ids be searched by a prefix, which need not be a page id. Both compare bytewise.
impl PageId {
    /// Whether permissions and policies take it for a prefix of ids: it ends with `*`. What is set on it is not that of the page with
    /// this id alone.
    pub fn is_pattern(&self) -> bool {
        self.0.ends_with('*')
    }
}

impl Borrow<str> for PageId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for PageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A position in a page's log: 0 before the first update, then one more for each stored row.
pub type Seq = u64;

/// One update to be appended, as it will be replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewUpdate {
    /// The bytes of the update; the store does not look inside.
    pub data: Bytes,
    /// Who made it, where that is known.
    pub user: Option<Arc<str>>,
}

/// One row of a page's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedUpdate {
    /// Its place in the log.
    pub seq: Seq,
    /// The bytes as they were appended.
    pub data: Bytes,
    /// Who made it, where that was known.
    pub user: Option<Arc<str>>,
}

/// A merged page and what a reader of the database sees of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The log is covered up to and including this row.
    pub seq: Seq,
    /// The merged document as one update.
    pub state: Bytes,
    /// Its state vector.
    pub state_vector: Bytes,
    /// All root types by name, as JSON.
    pub content: serde_json::Value,
    /// The plain text of all text-like root types.
    pub text: String,
}

/// What a batch asks of one page: rows to append.
#[derive(Clone, Debug)]
pub struct PageCommit {
    /// The page; at most one entry a page in a batch.
    pub page: PageId,
    /// Rows to append, in order.
    pub updates: Vec<NewUpdate>,
    /// Size of the page when encoded, as far as the writer knows it (shown in listings).
    pub size_bytes: Option<u64>,
    /// The generation that the page has to have, where the writer knows it.
    pub generation: Option<Generation>,
}

impl PageCommit {
    /// Bytes of all its rows.
    pub fn bytes(&self) -> usize {
        self.updates.iter().map(|update| update.data.len()).sum()
    }
}

/// What became of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compaction {
    /// It was written, and the rows that it covers are deleted.
    Compacted,
    /// It covers no more than the stored one, or more than the page's log has: nothing was changed.
    Passed,
}

/// What became of one [`PageCommit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The page's generation: given at its first row, unchanged by editing.
    pub generation: Generation,
    /// Number of the first appended row; `last_seq + 1` when none was appended. Above the writer's last known number plus
    /// one when another process has appended rows in between.
    pub first_seq: Seq,
    /// Number of the page's last row now.
    pub last_seq: Seq,
}

impl Committed {
    /// The answer to an entry that asked nothing of a page that has never been stored, or whose page has another generation or
    /// another id now: nothing of it was stored.
    pub fn nothing() -> Self {
        Self {
            generation: Generation("".into()),
            first_seq: 1,
            last_seq: 0,
        }
    }
}

impl Committed {
    /// Whether nothing was stored.
    pub fn is_nothing(&self) -> bool {
        self.last_seq == 0
    }
}

/// An opaque id (up to 32 characters of ASCII) that changes only when a page's document is rebuilt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Generation(pub Arc<str>);

/// A page as it is stored, all of one moment.
#[derive(Clone, Debug)]
pub struct StoredPage {
    /// Its description.
    pub record: PageRecord,
    /// The merged part, if there is one yet (`content` and `text` may be left empty by [`Store::load`](crate::Store::load)).
    pub snapshot: Option<StoredSnapshot>,
    /// The rows after the snapshot, in order.
    pub log: Vec<LoggedUpdate>,
    /// The client ids of former generations, of a page whose document has been rebuilt.
    pub ended_clients: Option<Bytes>,
}

/// The part of a snapshot that a document is loaded from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSnapshot {
    /// The log is covered up to and including this row.
    pub seq: Seq,
    /// The merged document as one update.
    pub state: Bytes,
    /// Its state vector.
    pub state_vector: Bytes,
}

/// What a listing says about a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRecord {
    /// The page.
    pub page: PageId,
    /// Its generation.
    pub generation: Generation,
    /// Number of its last row.
    pub seq: Seq,
    /// Size of the page when encoded, as last told by a writer, in bytes.
    pub size_bytes: u64,
    /// When its first row was stored.
    pub created_at: SystemTime,
    /// When its last row was stored.
    pub updated_at: SystemTime,
    /// Since when it is in the trash; kept to the millisecond.
    pub deleted_at: Option<SystemTime>,
}
