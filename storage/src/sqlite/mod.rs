//! A store in one SQLite file: a connection for edits, one for snapshots and one for all else that writes, and a few that read.
//!
//! SQLite lets one connection write at a time, and makes others ask again and again. So the connections of this process take
//! turns by a fair lock of their own, and an edit waits for at most the one transaction that is under way.
//!
//! The file is in WAL mode with `synchronous=FULL`, so a commit has been synced when it returns. SQLite runs on a thread of
//! its own, and every statement sent to it costs two thread switches: so a commit is one script with one fixed text, which
//! is parsed once. Everything of variable length travels in three parameters: two JSON lists and one blob into which their
//! items point.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use sqlx::{
    ConnectOptions, Connection, FromRow, Row, Sqlite, SqliteConnection,
    query::{Query, QueryAs},
    sqlite::{SqliteArguments, SqliteConnectOptions, SqliteRow},
    types::Json,
};
use tokio::{
    sync::{Mutex, Semaphore},
    time::timeout,
};

use crate::{
    Committed, Compaction, Generation, LoggedUpdate, PageCommit, PageId, PageRecord, Seq, Snapshot, Store,
    StoreError, StoreOptions, StoredPage,
    batch::{self, number},
    connections::{Connections, Lease, time_for},
    gathered::{Gathered, ReadHeads},
    migrations,
    open::address,
    rows::{self, HeadRow, SnapshotRow},
    schema,
    search::{MAX_SEARCHES, words},
};

mod access;
mod backup;
mod batch_params;
mod events;
mod failure;
mod file;
mod history;
mod large_values;
mod location;
mod policies;
mod rebuilding;
mod renaming;
mod rooms;
mod search;
mod shortened;
mod statements;
#[cfg(test)]
mod tests;
mod trash;
mod webhooks;
mod write_ahead_log;

pub(crate) use backup::backup;
use batch_params::BatchParams;
use failure::failure;
pub(crate) use file::missing_file;
use file::{DatabaseFile, lock_alone, put_in_wal_mode};
use large_values::Writers;
pub(crate) use location::check_address;
use location::connect_options;
use shortened::shortened;
use write_ahead_log::WriteAheadLog;

/// See the module.
pub(crate) struct SqliteStore {
    options: SqliteConnectOptions,
    /// The file that was opened, whatever is at its path now.
    file: DatabaseFile,
    /// Keeps other servers out for as long as this is open.
    alone: Option<std::fs::File>,
    timeout: Duration,
    /// Rows that a snapshot covers are kept.
    keeps_history: bool,
    /// For edits.
    writer: Connections<SqliteConnection>,
    /// For snapshots.
    compactor: Connections<SqliteConnection>,
    /// For all else that writes.
    aside: Connections<SqliteConnection>,
    /// Held by whoever of them writes.
    turn: Mutex<()>,
    log: WriteAheadLog,
    /// For copying the log into the file.
    checkpointer: Connections<SqliteConnection>,
    /// Its name among the processes that write into the file.
    name: String,
    writers: Writers,
    readers: Connections<SqliteConnection>,
    /// For searches, which may take long: nobody who opens a page waits for one.
    searchers: Connections<SqliteConnection>,
    searching: Arc<Semaphore>,
    heads: Gathered,
}

impl SqliteStore {
    /// Opens the file that `url` names, creating it and its tables as the options say.
    pub(crate) async fn open(url: &str, options: &StoreOptions) -> Result<Self, StoreError> {
        Self::open_with(connect_options(url, options)?, options).await
    }

    async fn open_with(connect: SqliteConnectOptions, options: &StoreOptions) -> Result<Self, StoreError> {
        let path = connect.get_filename().to_owned();
        file::check_folder(&path)?;
        if !options.create && !path.exists() {
            return Err(address(format!("names no file: there is no {}", path.display())));
        }
        let alone = match options.alone {
            true => lock_alone(&path)?,
            false => None,
        };
        put_in_wal_mode(&connect)
            .await
            .map_err(|error| failure(error, &path))?;
        // From now on the file is there. One that is made later would be another.
        let connect = connect.create_if_missing(false);
        let mut store = Self {
            file: DatabaseFile::at(&path)?,
            alone,
            writer: Connections::new(1, [connect.clone()]),
            compactor: Connections::new(1, [connect.clone()]),
            aside: Connections::new(1, [connect.clone()]),
            checkpointer: Connections::new(1, [connect.clone()]),
            turn: Mutex::new(()),
            log: WriteAheadLog::default(),
            name: String::new(),
            writers: Writers::default(),
            readers: Connections::new(
                options.readers.max(1),
                [connect.clone().pragma("query_only", "ON")],
            ),
            searchers: Connections::new(MAX_SEARCHES as u32, [connect.clone().pragma("query_only", "ON")]),
            searching: Arc::new(Semaphore::new(MAX_SEARCHES)),
            heads: Gathered::default(),
            timeout: options.timeout,
            keeps_history: options.history,
            options: connect,
        };
        store.bring_up_to_date(options.migrate).await?;
        store.name = store.random_name().await?;
        if store.alone.is_some() {
            // What a process that died was writing.
            store.sweep().await;
        }
        // Commits work without it, at a higher price, and say themselves what is wrong with a file that cannot be written.
        let _ = store
            .write(&store.writer, 0, vec![sqlx::query(statements::LENGTHEN_LOG)])
            .await;
        Ok(store)
    }

    async fn bring_up_to_date(&self, migrate: bool) -> Result<(), StoreError> {
        let migrator = migrations::sqlite();
        let failure = |error| schema::failure(error, |error| self.failure(error));
        let mut connection = self
            .options
            .connect()
            .await
            .map_err(|error| self.failure(error))?;
        let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = $1)")
            .bind(schema::TABLE)
            .fetch_one(&mut connection)
            .await
            .map_err(|error| self.failure(error))?;
        if schema::compare(&mut connection, &migrator, exists)
            .await
            .map_err(failure)?
            == schema::State::Outdated
        {
            if !migrate {
                return Err(schema::outdated());
            }
            // One transaction around everything: another process may be starting on the same file.
            let mut transaction = connection
                .begin_with("BEGIN IMMEDIATE")
                .await
                .map_err(|error| self.failure(error))?;
            migrator
                .run_direct(None, &mut *transaction, false)
                .await
                .map_err(failure)?;
            transaction.commit().await.map_err(|error| self.failure(error))?;
        }
        connection.close().await.map_err(|error| self.failure(error))
    }

    /// Runs a statement that reads.
    async fn read<R>(&self, query: QueryAs<'_, Sqlite, R, SqliteArguments>) -> Result<Vec<R>, StoreError>
    where
        R: for<'r> FromRow<'r, SqliteRow> + Send + Unpin,
    {
        self.in_time(self.timeout, async {
            let mut lease = self.readers.lease().await?;
            let rows = query.fetch_all(&mut lease.connection).await?;
            lease.give_back();
            Ok(rows)
        })
        .await
    }

    /// Runs scripts that write so many bytes, one after the other on a connection of `lane`, and returns the rows that they answer
    /// with. They must end every transaction that they begin.
    async fn write(
        &self,
        lane: &Connections<SqliteConnection>,
        bytes: usize,
        scripts: Vec<Query<'_, Sqlite, SqliteArguments>>,
    ) -> Result<Vec<SqliteRow>, StoreError> {
        self.file.check()?;
        let written = self.in_time(time_for(self.timeout, bytes), async {
            let mut lease = lane.lease().await?;
            // Until the connection is given back or closed: a transaction that failed ends with it.
            let _turn = self.turn.lock().await;
            let answer = run(&mut lease.connection, scripts).await;
            self.take_back(lease, answer.is_ok()).await;
            answer
        });
        let written = written.await;
        if written.is_ok() && self.log.is_long_after(bytes) {
            self.checkpoint().await;
        }
        self.check_file_after().await?;
        written
    }

    /// Takes a connection back on which all went well, or not.
    async fn take_back(&self, lease: Lease<'_, SqliteConnection>, is_well: bool) {
        if is_well {
            lease.give_back();
        } else {
            // The connections of a process share what they know of a file, such as that it is read-only: until all of
            // them are closed, a new one knows the same.
            lease.close().await;
            self.close_idle().await;
        }
    }

    /// What went into a file that is no longer there is not stored.
    async fn check_file_after(&self) -> Result<(), StoreError> {
        let checked = self.file.check();
        if checked.is_err() {
            self.close_idle().await;
        }
        checked
    }

    fn lanes(&self) -> [&Connections<SqliteConnection>; 6] {
        [
            &self.checkpointer,
            &self.searchers,
            &self.readers,
            &self.aside,
            &self.compactor,
            &self.writer,
        ]
    }

    async fn close_idle(&self) {
        for lane in self.lanes() {
            lane.close_idle().await;
        }
    }

    async fn in_time<T>(
        &self,
        time: Duration,
        call: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        match timeout(time, call).await {
            Ok(result) => result.map_err(|error| self.failure(error)),
            Err(_) => Err(StoreError::Unavailable {
                reason: format!("no answer within {time:?}"),
            }),
        }
    }

    fn failure(&self, error: sqlx::Error) -> StoreError {
        failure(error, self.options.get_filename())
    }
}

impl ReadHeads for SqliteStore {
    async fn read_heads(&self, pages: &[&str]) -> Result<Vec<PageRecord>, StoreError> {
        let query = sqlx::query_as(statements::HEADS).bind(Json(pages));
        let rows: Vec<HeadRow> = self.read(query).await?;
        rows.into_iter().map(HeadRow::into_record).collect()
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn load(&self, page: &PageId) -> Result<Option<StoredPage>, StoreError> {
        rows::page(
            page,
            self.read(sqlx::query_as(statements::LOAD).bind(page.as_str()))
                .await?,
        )
    }

    async fn log(
        &self,
        page: &PageId,
        after: Seq,
        limit: usize,
    ) -> Result<Option<Vec<LoggedUpdate>>, StoreError> {
        let query = sqlx::query_as(statements::LOG)
            .bind(page.as_str())
            .bind(number(after))
            .bind(number(limit));
        Ok(rows::log(self.read(query).await?, after))
    }

    async fn commit(&self, batch: &[PageCommit]) -> Result<Vec<Committed>, StoreError> {
        let entries = batch::in_page_order(batch)?;
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let chunks = batch::chunks(&entries);
        let mut writing = None;
        let mut written = Vec::with_capacity(chunks.len());
        for chunk in &chunks {
            written.push(self.write_rows(&mut writing, chunk).await?);
        }
        let scripts = if let ([only], [written]) = (chunks.as_slice(), written.as_slice()) {
            vec![BatchParams::new(&entries, only, written).bind(statements::STORE_ROWS)]
        } else {
            let mut scripts = vec![sqlx::query(statements::BEGIN)];
            // The first one moves the heads, which the others only look at.
            let mut heads = entries.as_slice();
            for (chunk, written) in chunks.iter().zip(&written) {
                scripts.push(BatchParams::new(heads, chunk, written).bind(statements::STORE_CHUNK));
                heads = &[];
            }
            scripts.push(sqlx::query(statements::COMMIT));
            scripts
        };
        let bytes = written.iter().flatten().map(|written| written.bytes()).sum();
        let answers = self.write(&self.writer, bytes, scripts).await;
        let heads = answers.and_then(|answers| heads(&answers).map_err(|error| self.failure(error)));
        // It failed, or a page has another generation, or another id.
        let is_vain = heads.as_ref().map_or(true, |heads| heads.len() < batch.len());
        if writing.take().is_some() && is_vain {
            self.sweep_after(&heads).await;
        }
        Ok(batch::answers(batch, &heads?))
    }

    async fn compact(
        &self,
        page: &PageId,
        generation: Option<&Generation>,
        snapshot: &Snapshot,
    ) -> Result<Compaction, StoreError> {
        let keeps_history = self.keeps_history_of(page).await?;
        let (content, text) = shortened(snapshot);
        let mut writing = None;
        let state = self.write_value(&mut writing, &snapshot.state).await?;
        let bytes = state.bytes() + content.as_ref().map_or(0, String::len) + text.len();
        let compact = sqlx::query(statements::COMPACT)
            .bind(page.as_str())
            .bind(number(snapshot.seq));
        let compact = state
            .bind(compact)
            .bind(&*snapshot.state_vector)
            .bind(content)
            .bind(text)
            .bind(keeps_history)
            .bind(words(&snapshot.text))
            .bind(generation.map(|generation| &*generation.0));
        let written = self.write(&self.compactor, bytes, vec![compact]).await;
        drop(writing);
        self.sweep_after(&written).await;
        Ok(match written?.is_empty() {
            true => Compaction::Passed,
            false => Compaction::Compacted,
        })
    }

    async fn page(&self, page: &PageId) -> Result<Option<PageRecord>, StoreError> {
        self.heads.ask(page, self).await
    }

    async fn pages(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<PageRecord>, StoreError> {
        let Some((first, last)) = rows::id_range(prefix, after) else {
            return Ok(Vec::new());
        };
        let rows: Vec<HeadRow> = self
            .read(
                sqlx::query_as(statements::PAGES)
                    .bind(first)
                    .bind(last)
                    .bind(number(limit)),
            )
            .await?;
        rows.into_iter().map(HeadRow::into_record).collect()
    }

    async fn set_deleted(&self, page: &PageId, at: Option<SystemTime>) -> Result<bool, StoreError> {
        let set = sqlx::query(statements::SET_DELETED)
            .bind(page.as_str())
            .bind(at.map(rows::milliseconds));
        Ok(!self.write(&self.aside, 0, vec![set]).await?.is_empty())
    }

    async fn snapshot(&self, page: &PageId) -> Result<Option<Snapshot>, StoreError> {
        let rows: Vec<SnapshotRow> = self
            .read(sqlx::query_as(statements::SNAPSHOT).bind(page.as_str()))
            .await?;
        rows.into_iter()
            .next()
            .map(|row| row.into_snapshot(page))
            .transpose()
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.write(&self.aside, 0, vec![sqlx::query(statements::CHECK)])
            .await
            .map(drop)
    }

    async fn close(&self) {
        for lane in self.lanes() {
            lane.close().await;
        }
    }
}

async fn run(
    connection: &mut SqliteConnection,
    scripts: Vec<Query<'_, Sqlite, SqliteArguments>>,
) -> Result<Vec<SqliteRow>, sqlx::Error> {
    let mut rows = Vec::new();
    for script in scripts {
        rows.append(&mut script.fetch_all(&mut *connection).await?);
    }
    Ok(rows)
}

/// The generations and the numbers of the pages' last rows, as the statement that stores a batch answers.
fn heads(answers: &[SqliteRow]) -> Result<HashMap<String, (Generation, Seq)>, sqlx::Error> {
    let mut heads = HashMap::new();
    for answer in answers {
        let Json(list): Json<Vec<(String, String, Seq)>> = answer.try_get(0)?;
        heads.extend(
            list.into_iter()
                .map(|(page, generation, seq)| (page, (Generation(generation.into()), seq))),
        );
    }
    Ok(heads)
}
