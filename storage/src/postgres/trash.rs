//! What PostgreSQL is told and asked about the trash.

use std::time::SystemTime;

use async_trait::async_trait;
use sqlx::Row;

use super::{PostgresStore, failure, statements};
use crate::{
    PageId, StoreError, TrashStore,
    batch::number,
    rows::{self, milliseconds},
    trash::MAX_PURGED_ROWS_AT_ONCE,
};

const TRASHED: &str = "
    SELECT page_id FROM page_heads WHERE deleted_at < to_timestamp($1::bigint / 1000.0)
    ORDER BY deleted_at, page_id LIMIT $2";

const PURGE_HISTORY: &str = "
    WITH gone AS (
        DELETE FROM page_history r USING page_heads h
        WHERE h.page_id = $1 AND h.deleted_at IS NOT NULL AND r.page_id = h.page_id AND r.seq IN
            (SELECT seq FROM page_history WHERE page_id = $1 ORDER BY seq LIMIT $2)
        RETURNING 1
    )
    SELECT count(*) FROM gone";

/// Waits for whoever appends to the page. What was appended is seen by the next statement, and not by this one.
const HOLD: &str =
    "SELECT NULL::int FROM page_heads WHERE page_id = $1 AND deleted_at IS NOT NULL FOR UPDATE";

const PURGE: &str = "
    WITH gone AS (DELETE FROM page_heads WHERE page_id = $1 AND deleted_at IS NOT NULL RETURNING page_id),
    updates AS (DELETE FROM page_updates x USING gone WHERE x.page_id = gone.page_id),
    snapshots AS (DELETE FROM page_snapshots x USING gone WHERE x.page_id = gone.page_id),
    words AS (DELETE FROM page_words x USING gone WHERE x.page_id = gone.page_id),
    history AS (DELETE FROM page_history x USING gone WHERE x.page_id = gone.page_id),
    bases AS (DELETE FROM page_bases x USING gone WHERE x.page_id = gone.page_id),
    histories AS (DELETE FROM page_histories x USING gone WHERE x.page_id = gone.page_id),
    versions AS (DELETE FROM page_versions x USING gone WHERE x.page_id = gone.page_id),
    permissions AS (DELETE FROM page_permissions x USING gone
        WHERE x.page_id = gone.page_id AND right(gone.page_id, 1) <> '*'),
    policy AS (DELETE FROM history_policies x USING gone WHERE x.pages = gone.page_id AND right(gone.page_id, 1) <> '*'),
    kept AS (DELETE FROM kept_events x USING gone WHERE x.room IN ($2, $3)),
    states AS (DELETE FROM event_states x USING gone WHERE x.room IN ($2, $3)),
    marks AS (DELETE FROM webhook_marks x USING gone WHERE x.page_id = gone.page_id),
    aliases AS (DELETE FROM page_aliases x USING gone WHERE x.page_id = gone.page_id),
    ended AS (DELETE FROM page_ended_clients x USING gone WHERE x.page_id = gone.page_id),
    quarantine AS (DELETE FROM page_quarantine x USING gone WHERE x.page_id = gone.page_id)
    SELECT 1 FROM gone, LATERAL pg_notify('pageroom_access', json_build_object('pageId', page_id)::text)";

#[async_trait]
impl TrashStore for PostgresStore {
    async fn trashed(&self, before: SystemTime, limit: usize) -> Result<Vec<PageId>, StoreError> {
        let query = || {
            sqlx::query_as(TRASHED)
                .bind(milliseconds(before))
                .bind(number(limit))
        };
        rows::page_ids(self.read(query).await?)
    }

    async fn purge(&self, page: &PageId, rooms: &[String; 2]) -> Result<bool, StoreError> {
        loop {
            let history = sqlx::query(PURGE_HISTORY)
                .bind(page.as_str())
                .bind(number(MAX_PURGED_ROWS_AT_ONCE));
            let gone = self.write(vec![history]).await?;
            let gone = gone.first().map(|row| row.try_get::<i64, _>(0)).transpose();
            if gone.map_err(failure)?.unwrap_or_default() < number(MAX_PURGED_ROWS_AT_ONCE) {
                break;
            }
        }
        let turn = sqlx::query(statements::TURN).bind(page.as_str());
        let hold = sqlx::query(HOLD).bind(page.as_str());
        let [room, other] = rooms;
        let purge = sqlx::query(PURGE).bind(page.as_str()).bind(room).bind(other);
        let answers = self.write(vec![turn, hold, purge]).await?;
        // Only the last one answers with a number.
        let mut gone = answers.iter().map(|row| row.try_get::<Option<i32>, _>(0));
        gone.try_fold(false, |is_gone, row| Ok(is_gone || row?.is_some()))
            .map_err(failure)
    }
}
