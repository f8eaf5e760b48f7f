//! What SQLite is told and asked about the past of pages.

use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    SqliteStore,
    large_values::{size, whole},
};
use crate::{
    AddedVersion, HistoryCursor, HistoryRecord, HistoryStore, MAX_HISTORY_ROWS_AT_ONCE, MAX_NAMED_VERSIONS,
    NewVersion, OldHistory, PageChanges, PageId, Past, Seq, StoreError, Version,
    batch::number,
    readable,
    rows::{self, milliseconds},
};

/// The head of page `$1`.
macro_rules! head {
    () => {
        "(SELECT id FROM page_heads WHERE page_id = $1)"
    };
}

/// The base at row `$2` or before is looked for by number first: states are long.
const PAST: &str = concat!(
    "WITH best AS (SELECT max(seq) AS seq FROM (
        SELECT max(seq) AS seq FROM page_bases WHERE head_id = ",
    head!(),
    " AND seq <= $2
        UNION ALL SELECT seq FROM page_snapshots WHERE page_id = $1 AND seq <= $2))
    SELECT coalesce(best.seq, 0) AS seq, coalesce(",
    whole!("b.state"),
    ", ",
    whole!("s.state"),
    ") AS data, h.generation AS label, h.seq AS last
    FROM page_heads h CROSS JOIN best
        LEFT JOIN page_bases b ON b.head_id = h.id AND b.seq = best.seq
        LEFT JOIN page_snapshots s ON s.page_id = $1 AND s.seq = best.seq AND b.seq IS NULL
    WHERE h.page_id = $1
    UNION ALL
    SELECT seq, ",
    whole!("data"),
    ", user_id, NULL FROM page_history WHERE head_id = ",
    head!(),
    " AND seq > coalesce((SELECT seq FROM best), 0) AND seq <= $3
    UNION ALL
    SELECT seq, ",
    whole!("data"),
    ", user_id, NULL FROM page_updates WHERE head_id = ",
    head!(),
    " AND seq > coalesce((SELECT seq FROM best), 0) AND seq <= $3"
);

const CHANGES: &str = concat!(
    "SELECT seq, NULL AS user_id, NULL AS at, 0 AS bytes FROM page_heads WHERE page_id = $1
    UNION ALL
    SELECT * FROM (SELECT seq, user_id, created_at, ",
    size!("data"),
    " FROM page_history WHERE head_id = ",
    head!(),
    " AND seq > $2 ORDER BY seq LIMIT $3)
    UNION ALL
    SELECT * FROM (SELECT seq, user_id, created_at, ",
    size!("data"),
    " FROM page_updates WHERE head_id = ",
    head!(),
    " AND seq > $2 ORDER BY seq LIMIT $3)"
);

/// Answers with the number, with 0 when there are too many, and with nothing when there is no such row.
const ADD_VERSION: &str = "BEGIN IMMEDIATE;
    INSERT INTO page_versions (head_id, seq, kind, name, user_id, reason)
    SELECT h.id, $2, $3, $4, $5, $6 FROM page_heads h WHERE h.page_id = $1 AND h.seq >= $2 AND ($3 = 'automatic'
        OR (SELECT count(*) FROM page_versions WHERE head_id = h.id AND kind <> 'automatic') < $7);
    SELECT iif(changes() > 0, last_insert_rowid(), 0) FROM page_heads WHERE page_id = $1 AND seq >= $2;
    COMMIT;";

const VERSIONS: &str = concat!(
    "SELECT id, seq, kind, name, user_id, reason, created_at FROM page_versions WHERE head_id = ",
    head!(),
    " AND id < $2 ORDER BY id DESC LIMIT $3"
);

const VERSION: &str = concat!(
    "SELECT id, seq, kind, name, user_id, reason, created_at FROM page_versions WHERE head_id = ",
    head!(),
    " AND id = $2"
);

const RECORD: &str = concat!(
    "SELECT coalesce((SELECT bytes FROM page_histories WHERE head_id = ",
    head!(),
    "), 0), coalesce((SELECT min(seq) - 1 FROM page_history WHERE head_id = ",
    head!(),
    "), (SELECT seq FROM page_snapshots WHERE page_id = $1), 0)"
);

const FROM_NEWEST: &str = concat!(
    "SELECT seq FROM page_versions WHERE head_id = ",
    head!(),
    " ORDER BY id DESC LIMIT 1 OFFSET $2"
);

/// Goes on behind the head `$3`, whose history begins at `$2`, in milliseconds.
const OLD: &str = "SELECT h.page_id, k.first_at, k.first_at, CAST(k.head_id AS TEXT)
    FROM page_histories k CROSS JOIN page_heads h ON h.id = k.head_id
    WHERE k.first_at < $1 AND ($2 IS NULL OR (k.first_at, k.head_id) > ($2, CAST($3 AS INTEGER)))
    ORDER BY k.first_at, k.head_id LIMIT $4";

const LAST_BEFORE: &str = concat!(
    "SELECT coalesce((SELECT min(seq) - 1 FROM page_history WHERE head_id = ",
    head!(),
    " AND created_at >= $2), (SELECT max(seq) FROM page_history WHERE head_id = ",
    head!(),
    "))"
);

/// Up to the base in the middle, or one before it, or else all of it.
const LARGE: &str = "WITH large AS (SELECT head_id, last_seq, bytes,
        (SELECT min(seq) FROM page_history WHERE head_id = k.head_id) AS first
        FROM page_histories k WHERE bytes > $1 AND first_at IS NOT NULL ORDER BY bytes DESC LIMIT $2)
    SELECT h.page_id, coalesce(
        (SELECT min(seq) FROM page_bases WHERE head_id = k.head_id AND seq >= (first + last_seq) / 2),
        (SELECT max(seq) FROM page_bases WHERE head_id = k.head_id AND seq >= first), last_seq)
    FROM large k JOIN page_heads h ON h.id = k.head_id";

const KEEP_BASE: &str = concat!(
    "BEGIN IMMEDIATE;
    INSERT INTO page_bases (head_id, seq, state) SELECT id, $2, coalesce($3, x'') FROM page_heads
        WHERE page_id = $1 ON CONFLICT DO NOTHING;
    UPDATE page_histories SET bytes = bytes + changes() * $4 WHERE head_id = ",
    head!(),
    ";
    COMMIT;"
);

/// Rows up to `$2` go only where what comes behind them can be read without them.
macro_rules! may_go {
    () => {
        concat!(
            "(EXISTS (SELECT 1 FROM page_bases WHERE head_id = ",
            head!(),
            " AND seq = $2) OR NOT EXISTS (SELECT 1 FROM page_snapshots WHERE page_id = $1 AND seq > $2))"
        )
    };
}

/// The rows that go now.
macro_rules! going {
    ($columns:literal) => {
        concat!(
            "(SELECT ",
            $columns,
            " FROM page_history WHERE head_id = ",
            head!(),
            " AND seq <= $2 AND ",
            may_go!(),
            " ORDER BY seq LIMIT $3)"
        )
    };
}

/// The bases that go now.
macro_rules! bases_going {
    () => {
        concat!(
            "FROM page_bases WHERE head_id = ",
            head!(),
            " AND seq < $2 AND ",
            may_go!(),
            " AND seq NOT IN (SELECT seq FROM page_versions WHERE kind <> 'automatic' AND head_id = ",
            head!(),
            ")"
        )
    };
}

const FORGET: &str = concat!(
    "BEGIN IMMEDIATE;
    SELECT count(*) FROM ",
    going!("seq"),
    ";
    UPDATE page_histories SET bytes = max(0, bytes - coalesce((SELECT sum(",
    size!("data"),
    " + 64) FROM ",
    going!("data"),
    "), 0) - coalesce((SELECT sum(",
    size!("state"),
    ") ",
    bases_going!(),
    "), 0)) WHERE head_id = ",
    head!(),
    ";
    DELETE FROM page_history WHERE head_id = ",
    head!(),
    " AND seq IN ",
    going!("seq"),
    ";
    DELETE ",
    bases_going!(),
    ";
    DELETE FROM page_versions WHERE head_id = ",
    head!(),
    " AND seq < $2 AND kind = 'automatic' AND ",
    may_go!(),
    ";
    UPDATE page_histories SET
        last_seq = iif(EXISTS (SELECT 1 FROM page_bases WHERE head_id = ",
    head!(),
    " AND seq = $2), last_seq, 0),
        first_at = (SELECT created_at FROM page_history WHERE head_id = ",
    head!(),
    " ORDER BY seq LIMIT 1)
        WHERE head_id = ",
    head!(),
    " AND ",
    may_go!(),
    ";
    COMMIT;"
);

impl SqliteStore {
    /// Runs a script that answers with at most one number.
    pub(super) async fn number_of(
        &self,
        bytes: usize,
        script: sqlx::query::Query<'_, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>,
    ) -> Result<Option<i64>, StoreError> {
        use sqlx::Row;
        let answer = self.write(&self.aside, bytes, vec![script]).await?;
        let number = answer.first().map(|row| row.try_get::<i64, _>(0)).transpose();
        number.map_err(|error| self.failure(error))
    }
}

#[async_trait]
impl HistoryStore for SqliteStore {
    async fn past(&self, page: &PageId, from: Seq, to: Seq) -> Result<Option<Past>, StoreError> {
        let query = sqlx::query_as(PAST)
            .bind(page.as_str())
            .bind(number(from))
            .bind(number(to));
        Ok(rows::past(self.read(query).await?, to))
    }

    async fn changes(
        &self,
        page: &PageId,
        after: Seq,
        limit: usize,
    ) -> Result<Option<PageChanges>, StoreError> {
        let query = sqlx::query_as(CHANGES)
            .bind(page.as_str())
            .bind(number(after))
            .bind(number(limit));
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
        let query = sqlx::query_as(VERSIONS)
            .bind(page.as_str())
            .bind(before.map_or(i64::MAX, number))
            .bind(number(limit));
        Ok(rows::versions(self.read(query).await?))
    }

    async fn version(&self, page: &PageId, id: u64) -> Result<Option<Version>, StoreError> {
        let query = sqlx::query_as(VERSION).bind(page.as_str()).bind(number(id));
        Ok(rows::versions(self.read(query).await?).pop())
    }

    async fn history(&self, page: &PageId) -> Result<HistoryRecord, StoreError> {
        let query = sqlx::query_as(RECORD).bind(page.as_str());
        Ok(rows::history(self.read(query).await?))
    }

    async fn version_from_newest(&self, page: &PageId, count: u32) -> Result<Option<Seq>, StoreError> {
        let query = sqlx::query_as(FROM_NEWEST)
            .bind(page.as_str())
            .bind(i64::from(count.saturating_sub(1)));
        Ok(rows::number(self.read(query).await?))
    }

    async fn old_histories(
        &self,
        before: SystemTime,
        after: Option<&HistoryCursor>,
        limit: usize,
    ) -> Result<Vec<OldHistory>, StoreError> {
        let query = sqlx::query_as(OLD)
            .bind(milliseconds(before))
            .bind(after.map(|after| after.at))
            .bind(after.map(|after| after.key.as_str()))
            .bind(number(limit));
        rows::old_histories(self.read(query).await?)
    }

    async fn last_before(&self, page: &PageId, before: SystemTime) -> Result<Option<Seq>, StoreError> {
        let query = sqlx::query_as(LAST_BEFORE)
            .bind(page.as_str())
            .bind(milliseconds(before));
        Ok(rows::number(self.read(query).await?))
    }

    async fn large_histories(&self, bytes: u64, limit: usize) -> Result<Vec<(PageId, Seq)>, StoreError> {
        let query = sqlx::query_as(LARGE).bind(number(bytes)).bind(number(limit));
        Ok(rows::long(self.read(query).await?))
    }

    async fn keep_base(&self, page: &PageId, seq: Seq, state: &Bytes) -> Result<(), StoreError> {
        let mut writing = None;
        let written = self.write_value(&mut writing, state).await?;
        let keep = sqlx::query(KEEP_BASE).bind(page.as_str()).bind(number(seq));
        let keep = written.bind(keep).bind(number(state.len()));
        let kept = self.number_of(written.bytes(), keep).await;
        if writing.take().is_some() {
            self.sweep_after(&kept).await;
        }
        kept.map(drop)
    }

    async fn forget_history(&self, page: &PageId, upto: Seq) -> Result<u64, StoreError> {
        let forget = sqlx::query(FORGET)
            .bind(page.as_str())
            .bind(number(upto))
            .bind(number(MAX_HISTORY_ROWS_AT_ONCE));
        let forgotten = self.number_of(0, forget).await?;
        self.sweep().await;
        Ok(forgotten.map_or(0, rows::count))
    }
}
