//! What PostgreSQL is told and asked about the ids of pages.

use async_trait::async_trait;
use sqlx::Row;

use super::{PostgresStore, failure, statements};
use crate::{
    HistoryStore, PageId, RenameStore, Renaming, StoreError, batch::number, connections::time_for,
    renaming::MAX_FORMER_IDS, rows,
};

/// Waits for whoever appends to the page. What was appended is seen by the next statement, and not by this one.
const HOLD: &str = "SELECT NULL::int FROM page_heads WHERE page_id = $1 AND deleted_at IS NULL FOR UPDATE";

/// Gives page `$1` the id `$2`, if it has at most `$3` former ids by then; rooms `$4` and `$6` become `$5` and `$7`. Answers with a row if
/// it was done.
const RENAME: &str = "
    WITH moved AS (
        UPDATE page_heads h SET page_id = $2
        WHERE h.page_id = $1 AND h.deleted_at IS NULL
            AND NOT EXISTS (SELECT 1 FROM page_heads WHERE page_id = $2)
            AND NOT EXISTS (SELECT 1 FROM page_aliases WHERE alias = $2 AND page_id <> $1)
            AND (SELECT count(*) FROM page_aliases WHERE page_id = $1 AND alias <> $2) < $3
        RETURNING 1
    ), freed AS (DELETE FROM page_aliases x USING moved WHERE x.alias = $2),
    led AS (UPDATE page_aliases x SET page_id = $2 FROM moved WHERE x.page_id = $1 AND x.alias <> $2),
    leads AS (INSERT INTO page_aliases (alias, page_id) SELECT $1, $2 FROM moved),
    updates AS (UPDATE page_updates x SET page_id = $2 FROM moved WHERE x.page_id = $1),
    snapshots AS (UPDATE page_snapshots x SET page_id = $2 FROM moved WHERE x.page_id = $1),
    words AS (UPDATE page_words x SET page_id = $2 FROM moved WHERE x.page_id = $1),
    history AS (UPDATE page_history x SET page_id = $2 FROM moved WHERE x.page_id = $1),
    bases AS (UPDATE page_bases x SET page_id = $2 FROM moved WHERE x.page_id = $1),
    histories AS (UPDATE page_histories x SET page_id = $2 FROM moved WHERE x.page_id = $1),
    versions AS (UPDATE page_versions x SET page_id = $2 FROM moved WHERE x.page_id = $1),
    marks AS (UPDATE webhook_marks x SET page_id = $2 FROM moved WHERE x.page_id = $1),
    ended AS (UPDATE page_ended_clients x SET page_id = $2 FROM moved WHERE x.page_id = $1),
    quarantine AS (UPDATE page_quarantine x SET page_id = $2 FROM moved WHERE x.page_id = $1),
    permissions AS (
        UPDATE page_permissions x SET page_id = $2 FROM moved WHERE x.page_id = $1
            AND NOT EXISTS (SELECT 1 FROM page_permissions y WHERE y.page_id = $2 AND y.user_id = x.user_id)
    ), replaced AS (
        DELETE FROM page_permissions x USING moved WHERE x.page_id = $1
            AND EXISTS (SELECT 1 FROM page_permissions y WHERE y.page_id = $2 AND y.user_id = x.user_id)
    ), policy AS (
        INSERT INTO history_policies (pages, keep)
        SELECT $2, x.keep FROM history_policies x, moved WHERE x.pages = $1 ON CONFLICT DO NOTHING
    ), unnamed AS (DELETE FROM history_policies x USING moved WHERE x.pages = $1),
    rooms AS (SELECT * FROM (VALUES ($4::text, $5::text), ($6::text, $7::text)) AS pair (was, is_now), moved),
    kept AS (
        UPDATE kept_events x SET room = rooms.is_now FROM rooms WHERE x.room = rooms.was AND NOT EXISTS
            (SELECT 1 FROM kept_events y WHERE y.room = rooms.is_now AND y.event_offset = x.event_offset)
    ), states AS (
        UPDATE event_states x SET room = rooms.is_now FROM rooms WHERE x.room = rooms.was
            AND NOT EXISTS (SELECT 1 FROM event_states y WHERE y.room = rooms.is_now)
    ), superseded AS (
        DELETE FROM event_states x USING rooms WHERE x.room = rooms.was
            AND EXISTS (SELECT 1 FROM event_states y WHERE y.room = rooms.is_now)
    )
    SELECT 1 FROM moved, LATERAL pg_notify('pageroom_access', json_build_object('pageId', $1)::text) AS was,
        LATERAL pg_notify('pageroom_access', json_build_object('pageId', $2)::text) AS is_now";

const RENAMED: &str = "SELECT page_id FROM page_aliases WHERE alias = $1";

const FORMER_IDS: &str = "SELECT alias FROM page_aliases WHERE page_id = $1 ORDER BY alias";

const FREE: &str = "DELETE FROM page_aliases WHERE alias = $2 AND page_id = $1 RETURNING 1";

#[async_trait]
impl RenameStore for PostgresStore {
    async fn rename(&self, renaming: &Renaming) -> Result<bool, StoreError> {
        if renaming.is_of_pattern() {
            return Ok(false);
        }
        let history = self.history(&renaming.from).await?;
        // In this order, in which nobody waits for somebody who waits.
        let mut ids = [renaming.from.as_str(), renaming.to.as_str()];
        ids.sort_unstable();
        let turns = ids.into_iter().map(|id| sqlx::query(statements::TURN).bind(id));
        let hold = sqlx::query(HOLD).bind(renaming.from.as_str());
        let mut rename = sqlx::query(RENAME)
            .bind(renaming.from.as_str())
            .bind(renaming.to.as_str())
            .bind(number(MAX_FORMER_IDS));
        for (from, to) in &renaming.rooms {
            rename = rename.bind(from).bind(to);
        }
        let statements = turns.chain([hold, rename]).collect();
        let bytes = usize::try_from(history.bytes).unwrap_or(usize::MAX);
        let time = time_for(self.timeout, bytes);
        let running = async {
            match self.aside.run(Some(time), statements).await {
                // Somebody has made a page with the new id at this moment.
                Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(Vec::new()),
                answers => answers,
            }
        };
        let answers = self.in_time(time, running).await?;
        // Only the last one answers with a number.
        let mut moved = answers.iter().map(|row| row.try_get::<Option<i32>, _>(0));
        moved
            .try_fold(false, |is_moved, row| Ok(is_moved || row?.is_some()))
            .map_err(failure)
    }

    async fn renamed(&self, former: &PageId) -> Result<Option<PageId>, StoreError> {
        let query = || sqlx::query_as(RENAMED).bind(former.as_str());
        Ok(rows::page_ids(self.read(query).await?)?.pop())
    }

    async fn former_ids(&self, page: &PageId) -> Result<Vec<PageId>, StoreError> {
        let query = || sqlx::query_as(FORMER_IDS).bind(page.as_str());
        rows::page_ids(self.read(query).await?)
    }

    async fn free_former_id(&self, page: &PageId, former: &PageId) -> Result<bool, StoreError> {
        let free = sqlx::query(FREE).bind(page.as_str()).bind(former.as_str());
        Ok(!self.write(vec![free]).await?.is_empty())
    }
}
