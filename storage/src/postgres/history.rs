//! What PostgreSQL is told and asked about the past of pages.

use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::{Postgres, Row, postgres::PgArguments, query::Query};

use super::{PostgresStore, failure};
use crate::{
    AddedVersion, HistoryCursor, HistoryRecord, HistoryStore, MAX_HISTORY_ROWS_AT_ONCE, MAX_NAMED_VERSIONS,
    NewVersion, OldHistory, PageChanges, PageId, Past, Seq, StoreError, Version,
    batch::number,
    readable,
    rows::{self, milliseconds},
};

/// The base at row `$2` or before is looked for by number first: states are long.
const PAST: &str = "
    WITH best AS (SELECT max(seq) AS seq FROM (
        SELECT max(seq) AS seq FROM page_bases WHERE page_id = $1 AND seq <= $2
        UNION ALL SELECT seq FROM page_snapshots WHERE page_id = $1 AND seq <= $2) found)
    SELECT coalesce(best.seq, 0) AS seq, coalesce(b.state, s.state) AS data, h.generation AS label, h.seq AS last
    FROM page_heads h CROSS JOIN best
        LEFT JOIN page_bases b ON b.page_id = $1 AND b.seq = best.seq
        LEFT JOIN page_snapshots s ON s.page_id = $1 AND s.seq = best.seq AND b.seq IS NULL
    WHERE h.page_id = $1
    UNION ALL
    SELECT seq, data, user_id, NULL FROM page_history
    WHERE page_id = $1 AND seq > coalesce((SELECT seq FROM best), 0) AND seq <= $3
    UNION ALL
    SELECT seq, data, user_id, NULL FROM page_updates
    WHERE page_id = $1 AND seq > coalesce((SELECT seq FROM best), 0) AND seq <= $3";

const CHANGES: &str = "
    SELECT seq, NULL AS user_id, NULL::bigint AS at, 0::bigint AS bytes FROM page_heads WHERE page_id = $1
    UNION ALL
    (SELECT seq, user_id, (extract(epoch FROM created_at) * 1000)::bigint, octet_length(data)::bigint
        FROM page_history WHERE page_id = $1 AND seq > $2 ORDER BY seq LIMIT $3)
    UNION ALL
    (SELECT seq, user_id, (extract(epoch FROM created_at) * 1000)::bigint, octet_length(data)::bigint
        FROM page_updates WHERE page_id = $1 AND seq > $2 ORDER BY seq LIMIT $3)";

/// Answers with the number, with 0 when there are too many, and with nothing when there is no such row.
const ADD_VERSION: &str = "
    WITH head AS (SELECT page_id FROM page_heads WHERE page_id = $1 AND seq >= $2), added AS (
        INSERT INTO page_versions (page_id, seq, kind, name, user_id, reason)
        SELECT page_id, $2, $3, $4, $5, $6 FROM head WHERE $3 = 'automatic'
            OR (SELECT count(*) FROM page_versions WHERE page_id = $1 AND kind <> 'automatic') < $7
        RETURNING id
    )
    SELECT coalesce((SELECT id FROM added), 0) FROM head";

const VERSIONS: &str = "
    SELECT id, seq, kind, name, user_id, reason, (extract(epoch FROM created_at) * 1000)::bigint
    FROM page_versions WHERE page_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3";

const VERSION: &str = "
    SELECT id, seq, kind, name, user_id, reason, (extract(epoch FROM created_at) * 1000)::bigint
    FROM page_versions WHERE page_id = $1 AND id = $2";

const RECORD: &str = "
    SELECT coalesce((SELECT bytes FROM page_histories WHERE page_id = $1), 0),
        coalesce((SELECT min(seq) - 1 FROM page_history WHERE page_id = $1),
            (SELECT seq FROM page_snapshots WHERE page_id = $1), 0)";

const FROM_NEWEST: &str =
    "SELECT seq FROM page_versions WHERE page_id = $1 ORDER BY id DESC LIMIT 1 OFFSET $2";

/// Goes on behind the page `$3`, whose history begins at `$2`, in microseconds.
const OLD: &str = "
    SELECT page_id, (extract(epoch FROM first_at) * 1000)::bigint, (extract(epoch FROM first_at) * 1000000)::bigint, page_id
    FROM page_histories
    WHERE first_at < to_timestamp($1::bigint / 1000.0)
        AND ($2::bigint IS NULL OR (first_at, page_id) > (to_timestamp($2::bigint / 1000000.0), $3::text))
    ORDER BY first_at, page_id LIMIT $4";

const LAST_BEFORE: &str = "
    SELECT coalesce(
        (SELECT min(seq) - 1 FROM page_history WHERE page_id = $1 AND created_at >= to_timestamp($2::bigint / 1000.0)),
        (SELECT max(seq) FROM page_history WHERE page_id = $1))";

/// Up to the base in the middle, or one before it, or else all of it.
const LARGE: &str = "
    WITH large AS (
        SELECT page_id, last_seq, (SELECT min(seq) FROM page_history r WHERE r.page_id = k.page_id) AS first
        FROM page_histories k WHERE bytes > $1 AND first_at IS NOT NULL ORDER BY bytes DESC LIMIT $2
    )
    SELECT page_id, coalesce(
        (SELECT min(seq) FROM page_bases b WHERE b.page_id = k.page_id AND seq >= (first + last_seq) / 2),
        (SELECT max(seq) FROM page_bases b WHERE b.page_id = k.page_id AND seq >= first), last_seq)
    FROM large k";

const KEEP_BASE: &str = "
    WITH kept AS (
        INSERT INTO page_bases (page_id, seq, state) SELECT page_id, $2, $3 FROM page_heads WHERE page_id = $1
        ON CONFLICT DO NOTHING RETURNING octet_length(state) AS bytes
    )
    UPDATE page_histories k SET bytes = k.bytes + kept.bytes FROM kept WHERE k.page_id = $1";

/// Rows up to `$2` go only where what comes behind them can be read without them. The snapshot is locked first, as by who writes one.
const FORGET: &str = "
    WITH snapshot AS (SELECT seq FROM page_snapshots WHERE page_id = $1 FOR UPDATE),
    base AS (SELECT seq FROM page_bases WHERE page_id = $1 AND seq = $2),
    allowed AS (SELECT 1 WHERE EXISTS (SELECT 1 FROM base) OR NOT EXISTS (SELECT 1 FROM snapshot WHERE seq > $2)),
    gone AS (
        DELETE FROM page_history WHERE page_id = $1 AND EXISTS (SELECT 1 FROM allowed) AND seq IN
            (SELECT seq FROM page_history WHERE page_id = $1 AND seq <= $2 ORDER BY seq LIMIT $3)
        RETURNING seq, octet_length(data) + 64 AS bytes
    ), bases AS (
        DELETE FROM page_bases WHERE page_id = $1 AND seq < $2 AND EXISTS (SELECT 1 FROM allowed) AND seq NOT IN
            (SELECT seq FROM page_versions WHERE page_id = $1 AND kind <> 'automatic')
        RETURNING octet_length(state) AS bytes
    ), versions AS (
        DELETE FROM page_versions
        WHERE page_id = $1 AND seq < $2 AND kind = 'automatic' AND EXISTS (SELECT 1 FROM allowed)
    ), noted AS (
        UPDATE page_histories k SET
            bytes = greatest(0, k.bytes - (SELECT coalesce(sum(bytes), 0) FROM gone)
                - (SELECT coalesce(sum(bytes), 0) FROM bases)),
            last_seq = CASE WHEN EXISTS (SELECT 1 FROM base) THEN k.last_seq ELSE 0 END,
            first_at = (SELECT created_at FROM page_history r WHERE r.page_id = $1
                AND r.seq > coalesce((SELECT max(seq) FROM gone), 0) ORDER BY r.seq LIMIT 1)
        WHERE k.page_id = $1 AND EXISTS (SELECT 1 FROM allowed)
    )
    SELECT count(*) FROM gone";

impl PostgresStore {
    /// Runs a statement that answers with at most one number.
    async fn number_of(
        &self,
        bytes: usize,
        statement: Query<'_, Postgres, PgArguments>,
    ) -> Result<Option<i64>, StoreError> {
        let answer = self.write_large(&self.aside, bytes, vec![statement]).await?;
        let number = answer.first().map(|row| row.try_get::<i64, _>(0)).transpose();
        number.map_err(failure)
    }
}

#[async_trait]
impl HistoryStore for PostgresStore {
    async fn past(&self, page: &PageId, from: Seq, to: Seq) -> Result<Option<Past>, StoreError> {
        let query = || {
            sqlx::query_as(PAST)
                .bind(page.as_str())
                .bind(number(from))
                .bind(number(to))
        };
        Ok(rows::past(self.read(query).await?, to))
    }

    async fn changes(
        &self,
        page: &PageId,
        after: Seq,
        limit: usize,
    ) -> Result<Option<PageChanges>, StoreError> {
        let query = || {
            sqlx::query_as(CHANGES)
                .bind(page.as_str())
                .bind(number(after))
                .bind(number(limit))
        };
        Ok(rows::changes(self.read(query).await?, limit))
    }

    async fn add_version(&self, page: &PageId, version: &NewVersion) -> Result<AddedVersion, StoreError> {
        let add = sqlx::query(ADD_VERSION)
            .bind(page.as_str())
            .bind(number(version.seq))
            .bind(version.kind.as_str())
            .bind(version.name.as_deref().map(readable::text))
            .bind(version.user.as_deref().map(readable::text))
            .bind(version.reason.as_deref().map(readable::text))
            .bind(number(MAX_NAMED_VERSIONS));
        Ok(rows::added(self.number_of(0, add).await?))
    }

    async fn versions(
        &self,
        page: &PageId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Version>, StoreError> {
        let query = || {
            sqlx::query_as(VERSIONS)
                .bind(page.as_str())
                .bind(before.map_or(i64::MAX, number))
                .bind(number(limit))
        };
        Ok(rows::versions(self.read(query).await?))
    }

    async fn version(&self, page: &PageId, id: u64) -> Result<Option<Version>, StoreError> {
        let query = || sqlx::query_as(VERSION).bind(page.as_str()).bind(number(id));
        Ok(rows::versions(self.read(query).await?).pop())
    }

    async fn history(&self, page: &PageId) -> Result<HistoryRecord, StoreError> {
        let query = || sqlx::query_as(RECORD).bind(page.as_str());
        Ok(rows::history(self.read(query).await?))
    }

    async fn version_from_newest(&self, page: &PageId, count: u32) -> Result<Option<Seq>, StoreError> {
        let query = || {
            sqlx::query_as(FROM_NEWEST)
                .bind(page.as_str())
                .bind(i64::from(count.saturating_sub(1)))
        };
        Ok(rows::number(self.read(query).await?))
    }

    async fn old_histories(
        &self,
        before: SystemTime,
        after: Option<&HistoryCursor>,
        limit: usize,
    ) -> Result<Vec<OldHistory>, StoreError> {
        let query = || {
            sqlx::query_as(OLD)
                .bind(milliseconds(before))
                .bind(after.map(|after| after.at))
                .bind(after.map(|after| after.key.as_str()))
                .bind(number(limit))
        };
        rows::old_histories(self.read(query).await?)
    }

    async fn last_before(&self, page: &PageId, before: SystemTime) -> Result<Option<Seq>, StoreError> {
        let query = || {
            sqlx::query_as(LAST_BEFORE)
                .bind(page.as_str())
                .bind(milliseconds(before))
        };
        Ok(rows::number(self.read(query).await?))
    }

    async fn large_histories(&self, bytes: u64, limit: usize) -> Result<Vec<(PageId, Seq)>, StoreError> {
        let query = || sqlx::query_as(LARGE).bind(number(bytes)).bind(number(limit));
        Ok(rows::long(self.read(query).await?))
    }

    async fn keep_base(&self, page: &PageId, seq: Seq, state: &Bytes) -> Result<(), StoreError> {
        let keep = sqlx::query(KEEP_BASE)
            .bind(page.as_str())
            .bind(number(seq))
            .bind(&**state);
        self.number_of(state.len(), keep).await.map(drop)
    }

    async fn forget_history(&self, page: &PageId, upto: Seq) -> Result<u64, StoreError> {
        let forget = sqlx::query(FORGET)
            .bind(page.as_str())
            .bind(number(upto))
            .bind(number(MAX_HISTORY_ROWS_AT_ONCE));
        Ok(self.number_of(0, forget).await?.map_or(0, rows::count))
    }
}
