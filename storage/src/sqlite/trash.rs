//! What SQLite is told and asked about the trash.

use std::time::SystemTime;

use async_trait::async_trait;
use sqlx::Row;

use super::SqliteStore;
use crate::{
    PageId, StoreError, TrashStore,
    batch::number,
    rows::{self, milliseconds},
    trash::MAX_PURGED_ROWS_AT_ONCE,
};

const TRASHED: &str =
    "SELECT page_id FROM page_heads WHERE deleted_at < $1 ORDER BY deleted_at, page_id LIMIT $2";

/// The page `$1`, if it is in the trash.
macro_rules! head {
    () => {
        "(SELECT id FROM page_heads WHERE page_id = $1 AND deleted_at IS NOT NULL)"
    };
}

const PURGE_HISTORY: &str = concat!(
    "BEGIN IMMEDIATE;
    DELETE FROM page_history WHERE head_id = ",
    head!(),
    " AND seq IN (SELECT seq FROM page_history WHERE head_id = ",
    head!(),
    " ORDER BY seq LIMIT $2);
    SELECT changes();
    COMMIT;"
);

const PURGE: &str = concat!(
    "BEGIN IMMEDIATE;
    DELETE FROM page_updates WHERE head_id = ",
    head!(),
    "; DELETE FROM page_ended_clients WHERE head_id = ",
    head!(),
    "; DELETE FROM page_words WHERE rowid = ",
    head!(),
    "; DELETE FROM page_history WHERE head_id = ",
    head!(),
    "; DELETE FROM page_bases WHERE head_id = ",
    head!(),
    "; DELETE FROM page_histories WHERE head_id = ",
    head!(),
    "; DELETE FROM page_versions WHERE head_id = ",
    head!(),
    "; DELETE FROM page_snapshots WHERE page_id = $1 AND ",
    head!(),
    " IS NOT NULL; DELETE FROM page_permissions WHERE page_id = $1 AND substr($1, -1) <> '*' AND ",
    head!(),
    " IS NOT NULL; DELETE FROM page_quarantine WHERE page_id = $1 AND ",
    head!(),
    " IS NOT NULL; DELETE FROM page_aliases WHERE page_id = $1 AND ",
    head!(),
    " IS NOT NULL; DELETE FROM history_policies WHERE pages = $1 AND substr($1, -1) <> '*' AND ",
    head!(),
    " IS NOT NULL; DELETE FROM kept_events WHERE room IN ($2, $3) AND ",
    head!(),
    " IS NOT NULL; DELETE FROM event_states WHERE room IN ($2, $3) AND ",
    head!(),
    " IS NOT NULL; DELETE FROM webhook_marks WHERE page_id = $1 AND ",
    head!(),
    " IS NOT NULL; DELETE FROM page_heads WHERE id = ",
    head!(),
    " RETURNING 1; COMMIT;"
);

#[async_trait]
impl TrashStore for SqliteStore {
    async fn trashed(&self, before: SystemTime, limit: usize) -> Result<Vec<PageId>, StoreError> {
        let query = sqlx::query_as(TRASHED)
            .bind(milliseconds(before))
            .bind(number(limit));
        rows::page_ids(self.read(query).await?)
    }

    async fn purge(&self, page: &PageId, rooms: &[String; 2]) -> Result<bool, StoreError> {
        loop {
            let history = sqlx::query(PURGE_HISTORY)
                .bind(page.as_str())
                .bind(number(MAX_PURGED_ROWS_AT_ONCE));
            let gone = self.write(&self.aside, 0, vec![history]).await?;
            let gone = gone.first().map(|row| row.try_get::<i64, _>(0)).transpose();
            let gone = gone.map_err(|error| self.failure(error))?;
            if gone.unwrap_or_default() < number(MAX_PURGED_ROWS_AT_ONCE) {
                break;
            }
        }
        let [room, other] = rooms;
        let purge = sqlx::query(PURGE).bind(page.as_str()).bind(room).bind(other);
        let is_purged = !self.write(&self.aside, 0, vec![purge]).await?.is_empty();
        self.sweep().await;
        Ok(is_purged)
    }
}
