//! What SQLite is told and asked about the ids of pages.

use async_trait::async_trait;

use super::SqliteStore;
use crate::{PageId, RenameStore, Renaming, StoreError, batch::number, renaming::MAX_FORMER_IDS, rows};

/// Gives page `$1` the id `$2`, if it has at most `$3` former ids by then; rooms `$4` and `$6` become `$5` and `$7`. Answers with a row if
/// it was done. Whether it was is seen by the alias: while a page has an id, nothing else has it.
const RENAME: &str = "BEGIN IMMEDIATE;
    DELETE FROM page_aliases WHERE alias = $2 AND page_id = $1
        AND EXISTS (SELECT 1 FROM page_heads WHERE page_id = $1 AND deleted_at IS NULL);
    INSERT INTO page_aliases (alias, page_id) SELECT $1, $2
    WHERE EXISTS (SELECT 1 FROM page_heads WHERE page_id = $1 AND deleted_at IS NULL)
        AND NOT EXISTS (SELECT 1 FROM page_heads WHERE page_id = $2)
        AND NOT EXISTS (SELECT 1 FROM page_aliases WHERE alias = $2)
        AND (SELECT count(*) FROM page_aliases WHERE page_id = $1) < $3;
    UPDATE page_heads SET page_id = $2
    WHERE page_id = $1 AND EXISTS (SELECT 1 FROM page_aliases WHERE alias = $1) RETURNING 1;
    UPDATE page_aliases SET page_id = $2
    WHERE page_id = $1 AND EXISTS (SELECT 1 FROM page_aliases WHERE alias = $1);
    UPDATE page_snapshots SET page_id = $2
    WHERE page_id = $1 AND EXISTS (SELECT 1 FROM page_aliases WHERE alias = $1);
    UPDATE page_quarantine SET page_id = $2
    WHERE page_id = $1 AND EXISTS (SELECT 1 FROM page_aliases WHERE alias = $1);
    UPDATE OR REPLACE webhook_marks SET page_id = $2
    WHERE page_id = $1 AND EXISTS (SELECT 1 FROM page_aliases WHERE alias = $1);
    UPDATE OR IGNORE page_permissions SET page_id = $2
    WHERE page_id = $1 AND EXISTS (SELECT 1 FROM page_aliases WHERE alias = $1);
    DELETE FROM page_permissions
    WHERE page_id = $1 AND EXISTS (SELECT 1 FROM page_aliases WHERE alias = $1);
    UPDATE OR IGNORE history_policies SET pages = $2
    WHERE pages = $1 AND EXISTS (SELECT 1 FROM page_aliases WHERE alias = $1);
    DELETE FROM history_policies
    WHERE pages = $1 AND EXISTS (SELECT 1 FROM page_aliases WHERE alias = $1);
    UPDATE OR IGNORE kept_events SET room = iif(room = $4, $5, $7)
    WHERE room IN ($4, $6) AND EXISTS (SELECT 1 FROM page_aliases WHERE alias = $1);
    UPDATE OR IGNORE event_states SET room = iif(room = $4, $5, $7)
    WHERE room IN ($4, $6) AND EXISTS (SELECT 1 FROM page_aliases WHERE alias = $1);
    DELETE FROM event_states
    WHERE room IN ($4, $6) AND EXISTS (SELECT 1 FROM page_aliases WHERE alias = $1);
    COMMIT;";

const RENAMED: &str = "SELECT page_id FROM page_aliases WHERE alias = $1";

const FORMER_IDS: &str = "SELECT alias FROM page_aliases WHERE page_id = $1 ORDER BY alias";

const FREE: &str = "DELETE FROM page_aliases WHERE alias = $2 AND page_id = $1 RETURNING 1";

#[async_trait]
impl RenameStore for SqliteStore {
    async fn rename(&self, renaming: &Renaming) -> Result<bool, StoreError> {
        if renaming.is_of_pattern() {
            return Ok(false);
        }
        let mut rename = sqlx::query(RENAME)
            .bind(renaming.from.as_str())
            .bind(renaming.to.as_str())
            .bind(number(MAX_FORMER_IDS));
        for (from, to) in &renaming.rooms {
            rename = rename.bind(from).bind(to);
        }
        Ok(!self.write(&self.aside, 0, vec![rename]).await?.is_empty())
    }

    async fn renamed(&self, former: &PageId) -> Result<Option<PageId>, StoreError> {
        let query = sqlx::query_as(RENAMED).bind(former.as_str());
        Ok(rows::page_ids(self.read(query).await?)?.pop())
    }

    async fn former_ids(&self, page: &PageId) -> Result<Vec<PageId>, StoreError> {
        let query = sqlx::query_as(FORMER_IDS).bind(page.as_str());
        rows::page_ids(self.read(query).await?)
    }

    async fn free_former_id(&self, page: &PageId, former: &PageId) -> Result<bool, StoreError> {
        let free = sqlx::query(FREE).bind(page.as_str()).bind(former.as_str());
        Ok(!self.write(&self.aside, 0, vec![free]).await?.is_empty())
    }
}
