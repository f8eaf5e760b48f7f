//! Pages in the trash, and how they are purged: after that nothing says that they ever were.

use std::time::SystemTime;

use async_trait::async_trait;

use crate::{PageId, StoreError};

/// Rows of a page's history that are deleted in one transaction, before the page itself.
pub(crate) const MAX_PURGED_ROWS_AT_ONCE: usize = 5000;

/// The part of a store that empties the trash.
#[async_trait]
pub trait TrashStore: Send + Sync + 'static {
    /// Pages that have been in the trash since before `before`, those that went there first, at most `limit`.
    async fn trashed(&self, before: SystemTime, limit: usize) -> Result<Vec<PageId>, StoreError>;

    /// Deletes all that is stored of a page in the trash: its rows, its snapshot, its history, its versions, its words, the permissions
    /// on exactly this page, and the kept events and last states of `rooms`, which are its own. `false` when it is not in the trash, or is not at all; then nothing is changed.
    ///
    /// A long history goes first, in pieces, so that no transaction is long. A page that is stored under the same id afterwards is another
    /// one, of another generation. Whoever still writes to the old one must have ended before.
    async fn purge(&self, page: &PageId, rooms: &[String; 2]) -> Result<bool, StoreError>;
}
