//! Values of many megabytes: written in parts, each in a transaction of its own, so that nobody who writes waits for a whole one.
//!
//! A column of bytes has the number of such a value in their place. Statements that move the column move the number; those that read it ask
//! for [`whole`], those that weigh it for [`size`]. Triggers note whether a row has a value. One that no row has is first marked as
//! going, in the same transaction in which nobody has it, and no row can get it any more: so whatever becomes of a write whose end nobody
//! waited for, a row never has a value that is deleted.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Mutex, PoisonError},
};

use sqlx::{Row, Sqlite, query::Query, sqlite::SqliteArguments, types::Json};

use super::SqliteStore;
use crate::{
    StoreError,
    batch::{Chunk, number},
    rows::count,
};

/// Longest value that is written in one piece, and the length of the parts of others, in bytes.
const PART_BYTES: usize = 1 << 20;

/// What has to be left of the disk when a large value has been written, in bytes: for the write-ahead log, and for the small edits of all.
const LEFT_BYTES: u64 = 32 << 20;

/// The bytes of a column. Of a value whose parts are not all there it stays a number, which cannot be read as bytes.
macro_rules! whole {
    ($column:literal) => {
        concat!(
            "iif(typeof(",
            $column,
            ") = 'integer', coalesce((SELECT CAST(group_concat(bytes, '') AS BLOB)
                FROM (SELECT bytes FROM large_value_parts WHERE value_id = ",
            $column,
            " ORDER BY part)
                HAVING sum(length(bytes)) = (SELECT v.size FROM large_values v WHERE v.id = ",
            $column,
            ")), ",
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

/// Those that no row has now, without what another process writes: `$1` is this one, `$2` whether it has the file alone, and `$3` its
/// writers that go on.
const WITHOUT_ROW: &str = "SELECT id FROM large_values
    WHERE status <> 'kept' AND (status <> 'writing'
        OR (($2 OR instr(writer, $1 || '/') = 1) AND writer NOT IN (SELECT value FROM json_each($3))))
    LIMIT 100";

/// Marks those of `$1` as going that no row has, and that none of the writers `$2` writes. One statement, and so one transaction: what has
/// got a row before it is kept, and what would get one after it is refused.
const MARK: &str = "UPDATE large_values SET status = 'going', writer = NULL
    WHERE id IN (SELECT value FROM json_each($1)) AND status <> 'kept'
        AND (status <> 'writing' OR writer NOT IN (SELECT value FROM json_each($2)))
    RETURNING id";

/// What the file has that nothing is in.
const UNUSED_BYTES: &str = "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size";

/// Answers with a row as long as there are more.
const DELETE_PART: &str = "DELETE FROM large_value_parts
    WHERE value_id = $1 AND part = (SELECT max(part) FROM large_value_parts WHERE value_id = $1) RETURNING 1";

const DELETE_VALUE: &str = "DELETE FROM large_values WHERE id = $1 AND status = 'going'";

/// Who writes large values in this process now.
#[derive(Debug, Default)]
pub(super) struct Writers(Mutex<(BTreeSet<String>, u64)>);

impl Writers {
    fn locked(&self) -> std::sync::MutexGuard<'_, (BTreeSet<String>, u64)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, process: &str) -> Writing<'_> {
        let mut locked = self.locked();
        locked.1 += 1;
        let name = format!("{process}/{}", locked.1);
        locked.0.insert(name.clone());
        Writing { writers: self, name }
    }

    fn names(&self) -> BTreeSet<String> {
        self.locked().0.clone()
    }
}

/// As long as there is one, what it writes is not taken for something that nobody needs.
#[derive(Debug)]
pub(super) struct Writing<'a> {
    writers: &'a Writers,
    name: String,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.writers.locked().0.remove(&self.name);
    }
}

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
        let writer = &writing.get_or_insert_with(|| self.writers.begin(&self.name)).name;
        let id = self.write_parts(writer, bytes).await;
        if id.is_err() {
            *writing = None;
            self.sweep_after(&id).await;
        }
        id.map(Written::Large)
    }

    async fn write_parts(&self, writer: &str, bytes: &[u8]) -> Result<i64, StoreError> {
        let unused: Vec<(i64,)> = self.read(sqlx::query_as(UNUSED_BYTES)).await?;
        let unused = unused.first().map_or(0, |(bytes,)| count(*bytes));
        has_room(self.options.get_filename(), unused, bytes.len())?;
        let begin = sqlx::query(BEGIN_VALUE).bind(number(bytes.len())).bind(writer);
        let id = self.number_of(0, begin).await?.unwrap_or_default();
        for (part, piece) in bytes.chunks(PART_BYTES).enumerate() {
            let add = sqlx::query(ADD_PART).bind(id).bind(number(part)).bind(piece);
            self.write(&self.aside, piece.len(), vec![add]).await?;
        }
        Ok(id)
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

    /// Deletes what no row has after this call, unless the file does not answer: whoever waits for that has waited long enough.
    pub(super) async fn sweep_after<T>(&self, call: &Result<T, StoreError>) {
        if !matches!(call, Err(StoreError::Unavailable { .. })) {
            self.sweep().await;
        }
    }

    /// Deletes what no row has. What cannot be deleted now is tried again next time.
    pub(super) async fn sweep(&self) {
        if let Err(error) = self.delete_unneeded().await {
            tracing::warn!(%error, "the file keeps values that no page has any more: they are deleted later");
        }
    }

    async fn delete_unneeded(&self) -> Result<(), StoreError> {
        let without_row = sqlx::query_as(WITHOUT_ROW)
            .bind(&*self.name)
            .bind(self.alone.is_some())
            .bind(Json(self.writers.names()));
        let without_row: Vec<(i64,)> = self.read(without_row).await?;
        if without_row.is_empty() {
            return Ok(());
        }
        let without_row: Vec<i64> = without_row.into_iter().map(|(id,)| id).collect();
        // Asked for again: whoever writes one of these had begun before they were read.
        let mark = sqlx::query(MARK)
            .bind(Json(without_row))
            .bind(Json(self.writers.names()));
        let going = self.write(&self.aside, 0, vec![mark]).await?;
        for row in going {
            let id: i64 = row.try_get(0).map_err(|error| self.failure(error))?;
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
}

/// Whether a large value leaves room on the disk: one that filled it would leave none for the small edits of others either. Of the file, so
/// many bytes are `unused`.
fn has_room(file: &Path, unused: u64, bytes: usize) -> Result<(), StoreError> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    // Where the system does not say, the write itself does.
    let Ok(disk) = rustix::fs::statvfs(folder.unwrap_or(Path::new("."))) else {
        return Ok(());
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let more = (bytes as u64).saturating_sub(unused);
    match free.saturating_sub(more) >= LEFT_BYTES {
        true => Ok(()),
        false => Err(StoreError::Full {
            reason: format!(
                "{bytes} bytes are to be stored and the disk has {free}, of which {LEFT_BYTES} are kept for small edits"
            ),
        }),
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
        store.sweep().await;
        assert_eq!(kept(&store).await, (1, 2));
        drop(writing);
        store.sweep().await;
        assert_eq!(kept(&store).await, (0, 0));
    }

    /// A write may end well after nobody waits for it any more.
    #[tokio::test]
    async fn a_row_never_has_what_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder).await;
        store.commit(&[append("p", ["1"])]).await.unwrap();
        let give = async |id: i64| {
            let row = sqlx::query("UPDATE page_updates SET data = $1 WHERE seq = 1").bind(id);
            store.write(&store.writer, 0, vec![row]).await.map(drop)
        };
        let written = async || match store.write_value(&mut None, &[7; 2 << 20]).await.unwrap() {
            Written::Large(id) => id,
            Written::Here(_) => panic!("it is large"),
        };
        // Its row comes before it is deleted.
        let early = written().await;
        give(early).await.unwrap();
        store.sweep().await;
        assert_eq!(kept(&store).await, (1, 2));
        // And after.
        let late = written().await;
        store.sweep().await;
        assert_eq!(kept(&store).await, (1, 2));
        let refused = give(late).await.unwrap_err().to_string();
        assert!(
            refused.contains("deleted before its row was written"),
            "{refused}"
        );
        // And while.
        let marked = written().await;
        let mark = sqlx::query("UPDATE large_values SET status = 'going' WHERE id = $1").bind(marked);
        store.write(&store.aside, 0, vec![mark]).await.unwrap();
        assert!(give(marked).await.is_err());
        // Nor do parts come late.
        for id in [marked, late, early] {
            let part = sqlx::query(ADD_PART).bind(id).bind(9).bind("x");
            let refused = store.write(&store.aside, 0, vec![part]).await.map(drop);
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains("before all of it was written"), "{refused}");
        }
        store.sweep().await;
        assert_eq!(kept(&store).await, (1, 2));
        let stored = store.load(&page("p")).await.unwrap().unwrap();
        assert_eq!(stored.log[0].data, vec![7; 2 << 20]);
    }

    #[tokio::test]
    async fn what_is_not_whole_is_not_read_as_less() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder).await;
        let large = [vec![1; 3 << 20]];
        store.commit(&[append("p", &large)]).await.unwrap();
        let part = sqlx::query("DELETE FROM large_value_parts WHERE part = 1");
        store.write(&store.aside, 0, vec![part]).await.unwrap();
        assert!(store.load(&page("p")).await.is_err());
        assert!(store.log(&page("p"), 0, 10).await.is_err());
        let rest = sqlx::query("DELETE FROM large_value_parts");
        store.write(&store.aside, 0, vec![rest]).await.unwrap();
        assert!(store.load(&page("p")).await.is_err());
    }

    #[test]
    fn what_would_fill_the_disk_is_not_begun() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pages.db");
        let much = usize::MAX / 2;
        assert!(has_room(&file, 0, 2 << 20).is_ok());
        assert!(matches!(has_room(&file, 0, much), Err(StoreError::Full { .. })));
        assert!(
            has_room(&file, much as u64, much).is_ok(),
            "the file has room for it"
        );
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
