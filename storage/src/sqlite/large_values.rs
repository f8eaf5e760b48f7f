//! Values of many megabytes: written in parts, each in a transaction of its own, so that nobody who writes waits for more than one of them.
//!
//! A column of bytes has the number of such a value in their place. Statements that move the column move the number; those that read it ask
//! for [`whole`], those that weigh it for [`size`]. What no row has any more is deleted, in parts as well.

use sqlx::{Sqlite, query::Query, sqlite::SqliteArguments};
use tokio::sync::RwLockReadGuard;

use super::SqliteStore;
use crate::{
    StoreError,
    batch::{Chunk, number},
};

/// Longest value that is written in one piece, and the length of the parts of others, in bytes.
const PART_BYTES: usize = 1 << 20;

/// The bytes of a column.
macro_rules! whole {
    ($column:literal) => {
        concat!(
            "iif(typeof(",
            $column,
            ") = 'integer', (SELECT CAST(group_concat(bytes, '' ORDER BY part) AS BLOB) FROM large_value_parts WHERE value_id = ",
            $column,
            "), ",
            $column,
            ")"
        )
    };
}

/// How many bytes a column has.
macro_rules! size {
    ($column:literal) => {
        concat!(
            "iif(typeof(",
            $column,
            ") = 'integer', (SELECT v.size FROM large_values v WHERE v.id = ",
            $column,
            "), length(",
            $column,
            "))"
        )
    };
}

pub(super) use {size, whole};

const BEGIN_VALUE: &str = "INSERT INTO large_values (size, writer) VALUES ($1, $2) RETURNING id";

const ADD_PART: &str = "INSERT INTO large_value_parts (value_id, part, bytes) VALUES ($1, $2, $3)";

/// The loose values that no row has, or those that a row has. With `$1` as the writer of those that are being written.
macro_rules! loose {
    ($exist:literal) => {
        concat!(
            "SELECT v.id FROM large_values v WHERE v.is_loose AND (v.writer IS NULL OR v.writer = $1 OR $2) AND ",
            $exist,
            " (SELECT 1 FROM page_updates WHERE data = v.id AND typeof(data) = 'integer'
                UNION ALL SELECT 1 FROM page_history WHERE data = v.id AND typeof(data) = 'integer'
                UNION ALL SELECT 1 FROM page_snapshots WHERE state = v.id AND typeof(state) = 'integer'
                UNION ALL SELECT 1 FROM page_bases WHERE state = v.id AND typeof(state) = 'integer')"
        )
    };
}

const ANY_LOOSE: &str =
    "SELECT 1 FROM large_values WHERE is_loose AND (writer IS NULL OR writer = $1 OR $2) LIMIT 1";

const UNUSED: &str = concat!(loose!("NOT EXISTS"), " LIMIT 100");

const SETTLE: &str = concat!(
    "UPDATE large_values SET is_loose = 0, writer = NULL WHERE id IN (",
    loose!("EXISTS"),
    ")"
);

/// Answers with a row as long as there are more.
const DELETE_PART: &str = "DELETE FROM large_value_parts
    WHERE value_id = $1 AND part = (SELECT max(part) FROM large_value_parts WHERE value_id = $1) RETURNING 1";

const DELETE_VALUE: &str = "DELETE FROM large_values WHERE id = $1";

/// While there is one, nothing that is being written is taken for something that nobody needs.
pub(super) struct Writing<'a>(#[expect(dead_code, reason = "it is held")] RwLockReadGuard<'a, ()>);

/// What stands in a column for a value.
#[derive(Clone, Copy)]
pub(super) enum Written<'a> {
    /// The bytes themselves.
    Here(&'a [u8]),
    /// The number of a large value.
    Large(i64),
}

impl<'a> Written<'a> {
    /// How many bytes are written where it is bound.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Here(bytes) => bytes.len(),
            Self::Large(_) => 0,
        }
    }

    pub(super) fn bind<'q>(
        self,
        query: Query<'q, Sqlite, SqliteArguments>,
    ) -> Query<'q, Sqlite, SqliteArguments>
    where
        'a: 'q,
    {
        match self {
            Self::Here(bytes) => query.bind(bytes),
            Self::Large(id) => query.bind(id),
        }
    }
}

impl SqliteStore {
    /// Writes a value, where it is large; the others are written where they are bound. `writing` is to be kept until the transaction has
    /// ended in which a row gets the value.
    pub(super) async fn write_value<'a, 's>(
        &'s self,
        writing: &mut Option<Writing<'s>>,
        bytes: &'a [u8],
    ) -> Result<Written<'a>, StoreError> {
        if bytes.len() <= PART_BYTES {
            return Ok(Written::Here(bytes));
        }
        // Nobody waits for this who writes nothing large. One is enough: a second would wait for whoever waits for the first to end.
        if writing.is_none() {
            *writing = Some(Writing(self.loose.read().await));
        }
        let begin = sqlx::query(BEGIN_VALUE)
            .bind(number(bytes.len()))
            .bind(&*self.name);
        let id = self.number_of(0, begin).await?.unwrap_or_default();
        for (part, piece) in bytes.chunks(PART_BYTES).enumerate() {
            let add = sqlx::query(ADD_PART).bind(id).bind(number(part)).bind(piece);
            self.write(&self.aside, piece.len(), vec![add]).await?;
        }
        Ok(Written::Large(id))
    }

    /// Writes the large ones among the rows of a chunk.
    pub(super) async fn write_rows<'a, 's>(
        &'s self,
        writing: &mut Option<Writing<'s>>,
        chunk: &Chunk<'a>,
    ) -> Result<Vec<Written<'a>>, StoreError> {
        let mut written = Vec::with_capacity(chunk.rows.len());
        for row in &chunk.rows {
            written.push(self.write_value(writing, &row.update.data).await?);
        }
        Ok(written)
    }

    /// Another name for each process.
    pub(super) async fn random_name(&self) -> Result<String, StoreError> {
        let query = sqlx::query_as("SELECT lower(hex(randomblob(8)))");
        let rows: Vec<(String,)> = self.read(query).await?;
        Ok(rows.into_iter().map(|(name,)| name).collect())
    }

    /// Deletes what no row has. What cannot be deleted now is tried again next time.
    pub(super) async fn sweep(&self) {
        if let Err(error) = self.delete_unused().await {
            tracing::warn!(%error, "the file keeps values that no page has any more: they are deleted later");
        }
    }

    async fn delete_unused(&self) -> Result<(), StoreError> {
        if self.numbers(ANY_LOOSE).await?.is_empty() {
            return Ok(());
        }
        let nothing_is_written = self.loose.write().await;
        let unused = self.numbers(UNUSED).await?;
        let settle = sqlx::query(SETTLE).bind(&*self.name).bind(self.alone.is_some());
        self.write(&self.aside, 0, vec![settle]).await?;
        drop(nothing_is_written);
        for id in unused {
            loop {
                let part = sqlx::query(DELETE_PART).bind(id);
                if self.write(&self.aside, 0, vec![part]).await?.is_empty() {
                    break;
                }
            }
            let value = sqlx::query(DELETE_VALUE).bind(id);
            self.write(&self.aside, 0, vec![value]).await?;
        }
        Ok(())
    }

    async fn numbers(&self, query: &'static str) -> Result<Vec<i64>, StoreError> {
        let query = sqlx::query_as(query).bind(&*self.name).bind(self.alone.is_some());
        let rows: Vec<(i64,)> = self.read(query).await?;
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::{
        Compaction, Generation, PageCommit, Store, StoreOptions, TrashStore,
        testing::contract::{append, page, rooms_of, snapshot},
    };

    async fn open(folder: &tempfile::TempDir) -> SqliteStore {
        let url = format!("sqlite://{}/pages.db", folder.path().display());
        let options = StoreOptions {
            alone: true,
            ..StoreOptions::default()
        };
        SqliteStore::open(&url, &options).await.unwrap()
    }

    /// How many large values there are, and how many parts.
    async fn kept(store: &SqliteStore) -> (i64, i64) {
        let query = "SELECT (SELECT count(*) FROM large_values), (SELECT count(*) FROM large_value_parts)";
        let counts: Vec<(i64, i64)> = store.read(sqlx::query_as(query)).await.unwrap();
        counts[0]
    }

    async fn compact(store: &SqliteStore, id: &str, seq: u64, megabytes: usize) {
        let state = vec![7; megabytes << 20];
        let compacted = store.compact(&page(id), None, &snapshot(seq, state)).await;
        assert_eq!(compacted.unwrap(), Compaction::Compacted);
    }

    #[tokio::test]
    async fn what_no_row_has_any_more_goes() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder).await;
        let large = [vec![1; 3 << 20]];
        store.commit(&[append("p", &large)]).await.unwrap();
        assert_eq!(kept(&store).await, (1, 3));
        // The row is in the history now.
        compact(&store, "p", 1, 2).await;
        assert_eq!(kept(&store).await, (2, 5));
        // So is the state, as one to begin from.
        store.commit(&[append("p", ["2"])]).await.unwrap();
        compact(&store, "p", 2, 4).await;
        assert_eq!(kept(&store).await, (3, 9));
        // This one is not: too little has happened since.
        store.commit(&[append("p", ["3"])]).await.unwrap();
        compact(&store, "p", 3, 5).await;
        assert_eq!(kept(&store).await, (3, 10));
        // A short state takes the place of a long one.
        store.commit(&[append("p", ["4"])]).await.unwrap();
        compact(&store, "p", 4, 0).await;
        assert_eq!(kept(&store).await, (2, 5));
        let now = Some(std::time::SystemTime::UNIX_EPOCH);
        assert!(store.set_deleted(&page("p"), now).await.unwrap());
        assert!(store.purge(&page("p"), &rooms_of("p")).await.unwrap());
        assert_eq!(kept(&store).await, (0, 0));
    }

    #[tokio::test]
    async fn what_was_not_stored_after_all_goes() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder).await;
        store.commit(&[append("p", ["1"])]).await.unwrap();
        let of_another = PageCommit {
            generation: Some(Generation("another".into())),
            ..append("p", [vec![1; 3 << 20]])
        };
        store.commit(&[of_another]).await.unwrap();
        assert_eq!(kept(&store).await, (0, 0));
        // Beyond the log.
        let state = vec![7; 2 << 20];
        let passed = store.compact(&page("p"), None, &snapshot(9, state)).await;
        assert_eq!(passed.unwrap(), Compaction::Passed);
        assert_eq!(kept(&store).await, (0, 0));
        // A process that ended while it wrote.
        store.write_value(&mut None, &[7; 2 << 20]).await.unwrap();
        assert_eq!(kept(&store).await, (1, 2));
        store.close().await;
        drop(store);
        let store = open(&folder).await;
        compact(&store, "p", 1, 0).await;
        assert_eq!(kept(&store).await, (0, 0));
    }

    #[tokio::test]
    async fn what_is_being_written_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder).await;
        store.commit(&[append("p", ["1"])]).await.unwrap();
        let mut writing = None;
        store.write_value(&mut writing, &[7; 2 << 20]).await.unwrap();
        let mut sweeping = std::pin::pin!(store.sweep());
        let swept = tokio::time::timeout(std::time::Duration::from_millis(100), &mut sweeping).await;
        assert!(swept.is_err(), "it waits");
        assert_eq!(kept(&store).await, (1, 2));
        // Who writes nothing large does not.
        store.commit(&[append("p", ["2"])]).await.unwrap();
        drop(writing);
        sweeping.await;
        assert_eq!(kept(&store).await, (0, 0));
    }

    #[tokio::test]
    async fn others_write_between_the_parts() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder).await;
        store.commit(&[append("large", ["1"])]).await.unwrap();
        let is_done = AtomicUsize::new(0);
        let writes = async {
            compact(&store, "large", 1, 40).await;
            is_done.store(1, Ordering::Relaxed);
        };
        let others = async {
            let mut written = 0;
            while is_done.load(Ordering::Relaxed) == 0 {
                store.commit(&[append("small", ["x"])]).await.unwrap();
                written += 1;
            }
            written
        };
        let ((), written) = tokio::join!(writes, others);
        assert!(written > 20, "{written}");
    }
}
