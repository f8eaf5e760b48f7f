//! The contract of a store: what Pageroom asks of the place where pages are kept, in words and in one trait.
//!
//! A page is an append-only **log** of updates, numbered by [`Seq`] from 1, and a merged **snapshot** that covers the
//! log up to a sequence number. Rows that a snapshot covers go into the page's **history** in the transaction that writes it, or are
//! deleted when none is kept. A store keeps bytes and never decodes them.
//!
//! What every store promises (`testing::contract` checks each of these on each store):
//!
//! 1. **Committed means synced.** When [`Store::commit`] returns `Ok`, everything in the batch survives `kill -9` of
//!    the process and of the database.
//! 2. **All or nothing.** A batch is one transaction. When it returns an error, either nothing of it was stored or (a
//!    connection lost during `COMMIT`) all of it was; storing it again is harmless, because updates are idempotent.
//! 3. **Sequence numbers** of a page are given by the store, without holes between committed rows, also when several
//!    processes append to the same page at once. [`Committed`] says which numbers a page's rows got, so a process notices
//!    rows of another one between its own and can read them with [`Store::log`].
//! 4. **A snapshot never loses.** It leaves by [`Store::compact`], apart from edits. It replaces an older one only when it covers more, and takes exactly the log rows it
//!    covers out of the log, atomically, also beside another process that does the same.
//! 5. **A load is consistent**: snapshot and log rows are of one moment.
//! 6. **Permissions are exact**: what [`AccessStore`] answers is what was committed last, by whichever process.
//! 7. **Kept events are in order**: [`EventStore`] gives those of a room back by their offsets, byte for byte, and the oldest go first.
//! 8. **The past is exact or absent**: [`HistoryStore::past`] gives every row once, in its order and with its author, or `None`.
//! 9. **What a snapshot says can be found**: [`SearchStore`] finds a page by the words of its snapshot from the moment it is written.
//! 10. **A page that is renamed or purged is not written to any more** by whoever knew it before: [`PageCommit`] names the generation that
//!     it is for, and a former id ([`RenameStore`]) is not given to a new page.
//! 11. **What is stored is told**: [`WebhookStore::tell_webhooks`] puts each event into the outbox once, and it stays there until it is
//!     delivered or given up.
//!
//! To add a store: implement [`Store`], run the contract suite on it, and give it a scheme in [`open()`].
//!
//! Three stores exist: [`MemoryStore`] (nothing survives), SQLite in one file, and PostgreSQL 15 or newer. The schemas and
//! their reasons are in `migrations/`. A backend may read table `page_snapshots` of the latter two directly.

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;

mod access;
mod application;
mod backup;
mod batch;
mod columns;
mod connections;
mod documents;
mod error;
mod events;
mod gathered;
mod history;
mod memory;
mod migrations;
mod model;
mod open;
mod place;
mod policies;
mod postgres;
mod readable;
mod rebuilding;
mod renaming;
mod rooms;
mod rows;
mod schema;
mod search;
mod sqlite;
#[cfg(feature = "testing")]
pub mod testing;
mod trash;
mod webhooks;

pub use access::{
    AccessChange, AccessListener, AccessStore, AccessTables, AuditEntry, AuditQuery, CHANNEL, EVERYBODY,
    LastSeen, MAX_FORGOTTEN_AT_ONCE, MAX_MEMORY_AUDIT_ROWS, Permission, UserRecord,
};
pub use application::{Application, PageSpaceSession};
pub use backup::{BackupError, backup};
pub use documents::read_documents;
pub use error::StoreError;
pub use events::{EventBatch, EventId, EventStore, EventTables, KeptEvent, KeptQuery, ReadEvent};
pub use history::{
    AddedVersion, HistoryCursor, HistoryRecord, HistoryStore, MAX_HISTORY_ROWS_AT_ONCE, MAX_NAMED_VERSIONS,
    NewVersion, OldHistory, PageChange, PageChanges, Past, Version, VersionKind,
};
pub use memory::{MemoryStore, Tables};
pub use model::{
    Committed, Compaction, Generation, LoggedUpdate, NewUpdate, PageCommit, PageId, PageIdError, PageRecord,
    Seq, Snapshot, StoredPage, StoredSnapshot,
};
pub use open::{
    DirectUrl, StoreOptions, check_address, describe, is_postgres, migrate, missing_file, open,
    unused_parameters,
};
pub use policies::{
    HistoryPolicies, HistoryPolicy, HistoryPolicyStore, Keep, KeepError, MAX_HISTORY_POLICIES,
};
pub use rebuilding::{RebuildStore, Rebuilding};
pub use renaming::{MAX_FORMER_IDS, RenameStore, Renaming};
pub use rooms::{RoomStore, RoomTables, SharedRoom};
pub use rows::prefix_range;
pub use search::{Found, IdRange, Search, SearchError, SearchStore};
pub use trash::TrashStore;
pub use webhooks::{
    DeliveryClaim, DeliveryOutcome, DeliveryState, FinishedDelivery, Look, MAX_QUEUED_EVENTS,
    MAX_WEBHOOK_ROWS_AT_ONCE, Notice, OutboxDepth, OutboxLimits, Telling, UntoldPages, WebhookDelivery,
    WebhookEvent, WebhookStore, WebhookTables,
};

/// A place where pages are kept. See the crate documentation for what it promises.
#[async_trait]
pub trait Store:
    AccessStore
    + EventStore
    + HistoryPolicyStore
    + HistoryStore
    + RebuildStore
    + RenameStore
    + RoomStore
    + SearchStore
    + TrashStore
    + WebhookStore
{
    /// Reads a page whole. `None` when it has never been stored.
    async fn load(&self, page: &PageId) -> Result<Option<StoredPage>, StoreError>;

    /// Reads the log rows of a page after `after` (exclusive), in order, at most `limit`. Rows that a snapshot has swallowed
    /// are gone: `Ok(None)` then, and the page must be loaded whole.
    async fn log(
        &self,
        page: &PageId,
        after: Seq,
        limit: usize,
    ) -> Result<Option<Vec<LoggedUpdate>>, StoreError>;

    /// Stores a batch of many pages in one transaction; the results are in the order of the batch. An entry without rows for
    /// a page that has never been stored writes nothing and is answered with [`Committed::nothing`]; so is one whose page has another
    /// generation than it names, or whose id is a former one.
    ///
    /// Where another process holds some of the pages, this does not wait for it for long: it fails as [`StoreError::Busy`] with the
    /// names of these pages, and the caller stores them with [`Store::commit_alone`].
    async fn commit(&self, batch: &[PageCommit]) -> Result<Vec<Committed>, StoreError>;

    /// Stores the rows of one page that is large, or held by another process, in a lane of its own: batches do not wait for it, and
    /// its time grows with its size.
    async fn commit_alone(&self, entry: &PageCommit) -> Result<Committed, StoreError> {
        let committed = self.commit(std::slice::from_ref(entry)).await?;
        Ok(committed.into_iter().next().unwrap_or_else(Committed::nothing))
    }

    /// Writes a snapshot of a page and takes the rows that it covers out of the log, in one transaction of its own lane: batches do not wait for
    /// it, and its time grows with its size. It must cover only rows that its writer has seen, and hold nothing that is in no row.
    ///
    /// Passed over when the page has another generation than `generation` names: what was written of a page that has been purged or rebuilt
    /// since then says nothing of the one that has its id now.
    async fn compact(
        &self,
        page: &PageId,
        generation: Option<&Generation>,
        snapshot: &Snapshot,
    ) -> Result<Compaction, StoreError>;

    /// Describes a page. `None` when it has never been stored.
    async fn page(&self, page: &PageId) -> Result<Option<PageRecord>, StoreError>;

    /// Lists pages in the order of their ids (bytewise), those that start with `prefix` and come after `after`, at most `limit`.
    async fn pages(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<PageRecord>, StoreError>;

    /// Moves a page to the trash, or (`None`) out of it. `false` when there is no such page, or it is there (or not) already. Whether
    /// it is in the trash changes nothing of what is stored and of what can be.
    async fn set_deleted(&self, page: &PageId, at: Option<SystemTime>) -> Result<bool, StoreError>;

    /// Reads the snapshot with its readable columns. `None` when there is none. In `content` and `text` U+0000 has become
    /// U+FFFD; `content` is `null` when it is nested more than 100 levels deep or longer than 128 MiB.
    async fn snapshot(&self, page: &PageId) -> Result<Option<Snapshot>, StoreError>;

    /// Asks whether the store answers and can be written, without writing pages. One round trip; SQLite rewrites one row of
    /// its own, because only a write notices a full disk.
    async fn check(&self) -> Result<(), StoreError>;

    /// Waits for running calls and closes the connections. Later calls fail as [`StoreError::Unavailable`].
    async fn close(&self);
}

/// A store that can be shared.
pub type SharedStore = Arc<dyn Store>;
