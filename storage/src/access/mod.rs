//! What a store keeps about people: their permissions on pages, whether they are signed out or blocked, and what was done.
//!
//! A **permission** gives a user a role on a page, or on all pages whose ids begin with a prefix (`team-7/*`, `*`); the user `*`
//! is everybody. A store keeps the names of roles and does not know what they mean. Rows whose time is over are returned
//! like others: the caller has the clock.
//!
//! Unlike an edit, a change of a permission is answered only when it is committed, so whoever reads afterwards, in any
//! process, sees it. In PostgreSQL triggers announce every change of these tables, whoever makes it, on the channel
//! [`CHANNEL`]; an application's own triggers may do the same.

use std::time::SystemTime;

use async_trait::async_trait;

use crate::{PageId, StoreError};

mod listener;
mod memory;

pub use listener::AccessListener;
pub use memory::AccessTables;

/// The user that stands for everybody.
pub const EVERYBODY: &str = "*";
/// Name of the channel on which PostgreSQL announces changes. A payload is a JSON object with `userId` and `pageId`, each of
/// which may be missing and then means all of them.
pub const CHANNEL: &str = "pageroom_access";
/// How many audit entries [`MemoryStore`](crate::MemoryStore) keeps.
pub const MAX_MEMORY_AUDIT_ROWS: usize = 10_000;

/// How many audit entries are forgotten at once.
pub const MAX_FORGOTTEN_AT_ONCE: usize = 1000;

/// A role that somebody has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// A page id, or a prefix followed by `*`.
    pub page: String,
    /// A user, or [`EVERYBODY`].
    pub user: String,
    /// The name of the role.
    pub role: String,
    /// When it ends; kept to the millisecond.
    pub expires_at: Option<SystemTime>,
}

/// What is known of a user. A user of whom nothing has been stored has the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserRecord {
    /// Raised by every sign-out; `None` before the first.
    pub token_version: Option<u64>,
    /// When the user was last signed out everywhere; kept to the millisecond.
    pub signed_out_at: Option<SystemTime>,
    /// May not enter at all.
    pub blocked: bool,
}

/// Something that was done or refused. Never a token or content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// When; kept to the millisecond.
    pub at: SystemTime,
    /// What, as one word: `connect`, `grant`, …
    pub action: String,
    /// How it ended: `ok`, or the code of a refusal.
    pub outcome: String,
    /// Whose doing it was, or whom it befell.
    pub user: Option<String>,
    /// On which page.
    pub page: Option<String>,
    /// From which network address.
    pub address: Option<String>,
    /// More, for people.
    pub detail: String,
}

/// When a user was last in a room that shows who is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastSeen {
    /// The name of the room.
    pub room: String,
    /// The user.
    pub user: String,
    /// When; kept to the millisecond.
    pub at: SystemTime,
}

/// Which audit entries are wanted; what is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// Of this user.
    pub user: Option<String>,
    /// Of this action.
    pub action: Option<String>,
    /// With this outcome.
    pub outcome: Option<String>,
    /// On this page, or in this room, as it was noted.
    pub page: Option<String>,
    /// Not before this time.
    pub from: Option<SystemTime>,
    /// Before this time.
    pub to: Option<SystemTime>,
    /// Older than the entry with this number, for reading on.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: usize,
}

/// A change that somebody announced: whose access to what may be another now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessChange {
    /// The user; `None` for all.
    pub user: Option<String>,
    /// The page or pattern; `None` for all.
    pub page: Option<String>,
}

/// The part of a store that knows people. See the module.
#[async_trait]
pub trait AccessStore: Send + Sync + 'static {
    /// The permissions of a user, and of everybody, that cover a page.
    async fn permissions_for(&self, user: &str, page: &PageId) -> Result<Vec<Permission>, StoreError>;

    /// The pages and patterns that permissions of a user or of everybody name, in their order (bytewise), each once, at most `limit`.
    async fn permitted(&self, user: &str, limit: usize) -> Result<Vec<String>, StoreError>;

    /// The permissions on exactly this page or pattern in the order of users (bytewise), after `after`, at most `limit`.
    async fn permissions_on(
        &self,
        page: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Permission>, StoreError>;

    /// Stores a permission in the place of what the same user had on the same page or pattern.
    async fn grant(&self, permission: &Permission) -> Result<(), StoreError>;

    /// Removes a permission. `false` when there was none.
    async fn revoke(&self, page: &str, user: &str) -> Result<bool, StoreError>;

    /// What is known of a user.
    async fn user(&self, user: &str) -> Result<UserRecord, StoreError>;

    /// Raises the user's token version, notes the time, and returns the new version.
    async fn sign_out(&self, user: &str, at: SystemTime) -> Result<u64, StoreError>;

    /// Blocks a user, or no longer.
    async fn block(&self, user: &str, blocked: bool) -> Result<(), StoreError>;

    /// Appends to the audit log.
    async fn audit(&self, entries: &[AuditEntry]) -> Result<(), StoreError>;

    /// Reads the audit log, the newest entry first, each with its number.
    async fn audited(&self, query: &AuditQuery) -> Result<Vec<(u64, AuditEntry)>, StoreError>;

    /// Forgets audit entries from before this time, the oldest first and at most [`MAX_FORGOTTEN_AT_ONCE`], and returns how many: others who
    /// write need not wait until all are gone.
    async fn forget_audit(&self, before: SystemTime) -> Result<u64, StoreError>;

    /// Notes when users were last in rooms, each user of a room once. An earlier time than what is known changes nothing.
    async fn see(&self, seen: &[LastSeen]) -> Result<(), StoreError>;

    /// Who was in a room, those of whom that is the shortest time ago first, at most `limit`.
    async fn seen(&self, room: &str, limit: usize) -> Result<Vec<LastSeen>, StoreError>;

    /// Forgets that a user was in a room.
    async fn forget_seen(&self, room: &str, user: &str) -> Result<(), StoreError>;

    /// Hears of changes that others make, where the database can announce them.
    fn access_listener(&self) -> Option<AccessListener> {
        None
    }
}

/// All names under which a permission can cover a page: its id and every pattern that it begins with.
pub(crate) fn matching_patterns(page: &PageId) -> Vec<String> {
    let id = page.as_str();
    let ends = id.char_indices().map(|(start, _)| start).chain([id.len()]);
    let patterns = ends
        .filter_map(|end| id.get(..end))
        .map(|prefix| format!("{prefix}*"));
    std::iter::once(id.to_owned()).chain(patterns).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_covered_by_its_id_and_by_every_prefix() {
        let names = matching_patterns(&PageId::new("aä").unwrap());
        assert_eq!(names, ["aä", "*", "a*", "aä*"]);
    }
}
