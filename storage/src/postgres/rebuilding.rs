//! What PostgreSQL is told of documents that are rebuilt.

use async_trait::async_trait;
use sqlx::Row;

use super::{PostgresStore, failure, statements};
use crate::{Generation, RebuildStore, Rebuilding, StoreError, batch::number};

/// Waits for whoever appends to the page. What was appended is seen by the next statement, and not by this one.
const HOLD: &str = "SELECT NULL::text FROM page_heads WHERE page_id = $1 FOR UPDATE";

/// Puts the state `$4` with the state vector `$5` in the place of what page `$1` says, if it has the generation `$2`, the number `$3` and a
/// snapshot that covers all of it, and the clients `$6` to those of former generations; with `$7` what it said becomes a base.
const REBUILD: &str = "
    WITH rebuilt AS (
        UPDATE page_heads h SET generation = replace(gen_random_uuid()::text, '-', ''), seq = h.seq + 1,
            size_bytes = octet_length($4::bytea), updated_at = now()
        WHERE h.page_id = $1 AND h.generation = $2 AND h.seq = $3::bigint AND h.deleted_at IS NULL
            AND (SELECT s.seq FROM page_snapshots s WHERE s.page_id = $1) = $3::bigint
        RETURNING h.page_id, h.generation
    ), replaced AS (
        INSERT INTO page_bases (page_id, seq, state)
        SELECT s.page_id, s.seq, s.state FROM page_snapshots s JOIN rebuilt USING (page_id) WHERE $7
        ON CONFLICT DO NOTHING
        RETURNING page_id, octet_length(state) AS bytes
    ), noted AS (
        INSERT INTO page_histories AS k (page_id, last_seq, bytes, since_base, first_at)
        SELECT page_id, 0, bytes, 0, NULL FROM replaced
        ON CONFLICT (page_id) DO UPDATE SET bytes = k.bytes + excluded.bytes, since_base = 0
    ), snapshot AS (
        UPDATE page_snapshots s SET seq = s.seq + 1, state = $4, state_vector = $5::bytea, updated_at = now()
        FROM rebuilt WHERE s.page_id = rebuilt.page_id
    ), ended AS (
        INSERT INTO page_ended_clients (page_id, clients) SELECT page_id, $6::bytea FROM rebuilt
        ON CONFLICT (page_id) DO UPDATE SET clients = excluded.clients
    ), marks AS (
        UPDATE webhook_marks m SET generation = rebuilt.generation FROM rebuilt
        WHERE m.page_id = rebuilt.page_id AND m.generation = $2
    )
    SELECT generation FROM rebuilt, LATERAL pg_notify('pageroom_access', json_build_object('pageId', page_id)::text)";

#[async_trait]
impl RebuildStore for PostgresStore {
    async fn rebuild(&self, rebuilding: &Rebuilding) -> Result<Option<Generation>, StoreError> {
        let keeps_history = self.keeps_history_of(&rebuilding.page).await?;
        let turn = sqlx::query(statements::TURN).bind(rebuilding.page.as_str());
        let hold = sqlx::query(HOLD).bind(rebuilding.page.as_str());
        let rebuild = sqlx::query(REBUILD)
            .bind(rebuilding.page.as_str())
            .bind(&*rebuilding.generation.0)
            .bind(number(rebuilding.seq))
            .bind(&*rebuilding.state)
            .bind(&*rebuilding.state_vector)
            .bind(&*rebuilding.ended_clients)
            .bind(keeps_history);
        let bytes = rebuilding.state.len() + rebuilding.ended_clients.len();
        let rows = self
            .write_large(&self.compactor, bytes, vec![turn, hold, rebuild])
            .await?;
        // Only the last one answers with a text.
        let mut generations = rows.iter().map(|row| row.try_get::<Option<String>, _>(0));
        let generation = generations
            .try_fold(None, |found, row| Ok(row?.or(found)))
            .map_err(failure)?;
        Ok(generation.map(|generation: String| Generation(generation.into())))
    }
}
