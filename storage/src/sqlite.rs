//! A store in one SQLite file: one connection that writes, a few that read.
//!
//! The file is in WAL mode with `synchronous=FULL`, so a commit has been synced when it returns. SQLite runs on a thread of
//! its own, and every statement sent to it costs two thread switches: so a commit is one script with one fixed text, which
//! is parsed once. Everything of variable length travels in four parameters: three JSON lists and one blob into which their
//! items point.

use std::{borrow::Cow, path::Path, str::FromStr, time::Duration};

use async_trait::async_trait;
use serde::Serialize;
use sqlx::{
    ConnectOptions, Connection, FromRow, Row, Sqlite, SqliteConnection,
    migrate::Migrator,
    query::{Query, QueryAs},
    sqlite::{SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous},
    types::Json,
};
use tokio::time::timeout;

use crate::{
    Committed, Generation, LoggedUpdate, NewUpdate, PageCommit, PageId, PageRecord, QUARANTINE_ROWS, Seq,
    Snapshot, Store, StoreError, StoreOptions, StoredPage,
    batch::{self, Chunk, number},
    connections::Connections,
    error,
    open::address,
    readable,
    rows::{self, HeadRow, SnapshotRow},
    schema,
};

/// Stores a chunk inside a transaction. (Parameters are `$1`, not `?1`: a statement of a script that leaves out a number would
/// get its parameters shifted.) Parameters: `$1` pages `[id, rows, size]`, `$2` rows `[id, from_last, offset, length,
/// user]`, `$3` snapshots `[id, seq, offset, lengths of state, state vector, content (null: none), text]`, `$4` the bytes that
/// the offsets point into. Answers with the heads of the pages.
macro_rules! store_chunk {
    () => {
        "INSERT INTO page_heads (page_id, seq, size_bytes)
         SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each($1)
         WHERE value ->> 1 > 0 OR EXISTS (SELECT 1 FROM page_heads WHERE page_id = value ->> 0)
         ON CONFLICT (page_id) DO UPDATE SET
             seq = seq + excluded.seq,
             size_bytes = coalesce(excluded.size_bytes, size_bytes),
             updated_at = iif(excluded.seq > 0, excluded.updated_at, updated_at)
         RETURNING page_id, generation, seq;

         INSERT INTO page_updates (head_id, seq, data, user_id)
         SELECT h.id, seq - (value ->> 1), substr($4, value ->> 2, value ->> 3), value ->> 4
         FROM json_each($2) CROSS JOIN page_heads h ON page_id = value ->> 0;

         INSERT INTO page_snapshots (page_id, seq, state, state_vector, content, text)
         SELECT page_id, value ->> 1,
             substr($4, value ->> 2, value ->> 3),
             substr($4, (value ->> 2) + (value ->> 3), value ->> 4),
             CAST(substr($4, (value ->> 2) + (value ->> 3) + (value ->> 4), value ->> 5) AS TEXT),
             CAST(substr($4, (value ->> 2) + (value ->> 3) + (value ->> 4) + coalesce(value ->> 5, 0), value ->> 6) AS TEXT)
         FROM json_each($3) CROSS JOIN page_heads ON page_id = value ->> 0 AND value ->> 1 BETWEEN 1 AND seq
         WHERE true
         ON CONFLICT (page_id) DO UPDATE SET
             seq = excluded.seq, state = excluded.state, state_vector = excluded.state_vector,
             content = excluded.content, text = excluded.text, updated_at = excluded.updated_at
         WHERE excluded.seq > page_snapshots.seq;

         DELETE FROM page_updates WHERE id IN (
             SELECT u.id
             FROM json_each($3) CROSS JOIN page_snapshots s ON s.page_id = value ->> 0
             CROSS JOIN page_heads h ON h.page_id = s.page_id
             CROSS JOIN page_updates u ON u.head_id = h.id AND u.seq <= s.seq
         );"
    };
}

const STORE_CHUNK: &str = store_chunk!();

/// A batch that fits one chunk, in one go.
const STORE_BATCH: &str = concat!("BEGIN IMMEDIATE;", store_chunk!(), "COMMIT;");

const LOAD: &str =
    "SELECT h.seq, s.state AS data, h.generation AS label, h.size_bytes, h.created_at AS created_ms,
        h.updated_at AS updated_ms, s.seq AS covered, s.state_vector
    FROM page_heads h LEFT JOIN page_snapshots s ON s.page_id = h.page_id WHERE h.page_id = $1
    UNION ALL
    SELECT seq, data, user_id, NULL, NULL, NULL, NULL, NULL FROM page_updates
    WHERE head_id = (SELECT id FROM page_heads WHERE page_id = $1)";

const LOG: &str = "SELECT coalesce((SELECT seq FROM page_snapshots WHERE page_id = $1), 0) AS seq, NULL AS data, NULL AS label
    UNION ALL
    SELECT * FROM (SELECT seq, data, user_id FROM page_updates
        WHERE head_id = (SELECT id FROM page_heads WHERE page_id = $1) AND seq > $2 ORDER BY seq LIMIT $3)";

const PAGE: &str =
    "SELECT page_id, generation, seq, size_bytes, created_at AS created_ms, updated_at AS updated_ms
    FROM page_heads WHERE page_id = $1";

const PAGES: &str =
    "SELECT page_id, generation, seq, size_bytes, created_at AS created_ms, updated_at AS updated_ms
    FROM page_heads WHERE page_id BETWEEN $1 AND $2 ORDER BY page_id LIMIT $3";

const SNAPSHOT: &str =
    "SELECT seq, state, state_vector, content, text FROM page_snapshots WHERE page_id = $1";

const QUARANTINE: &str = "BEGIN IMMEDIATE;
    INSERT INTO page_quarantine (page_id, data, user_id, reason) VALUES ($1, $2, $3, $4);
    DELETE FROM page_quarantine WHERE id NOT IN (SELECT id FROM page_quarantine ORDER BY id DESC LIMIT $5);
    COMMIT;";

const CHECK: &str = "INSERT INTO store_health (id, checked_at) VALUES (1, unixepoch())
    ON CONFLICT (id) DO UPDATE SET checked_at = excluded.checked_at";

/// See the module.
pub(crate) struct SqliteStore {
    options: SqliteConnectOptions,
    timeout: Duration,
    writer: Connections<SqliteConnection>,
    readers: Connections<SqliteConnection>,
}

impl SqliteStore {
    /// Opens the file that `url` names, creating it and its tables as the options say.
    pub(crate) async fn open(url: &str, options: &StoreOptions) -> Result<Self, StoreError> {
        let connect = connect_options(url, options)?;
        let store = Self {
            writer: Connections::new(1, connect.clone()),
            readers: Connections::new(options.readers.max(1), connect.clone().pragma("query_only", "ON")),
            timeout: options.timeout,
            options: connect,
        };
        store.bring_up_to_date(options.migrate).await?;
        Ok(store)
    }

    async fn bring_up_to_date(&self, migrate: bool) -> Result<(), StoreError> {
        let mut migrator: Migrator = sqlx::migrate!("migrations/sqlite");
        migrator.dangerous_set_table_name(schema::TABLE);
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
        self.in_time(async {
            let mut lease = self.readers.lease().await?;
            let rows = query.fetch_all(&mut lease.connection).await?;
            lease.give_back();
            Ok(rows)
        })
        .await
    }

    /// Runs scripts that write, one after the other on one connection, and returns the rows that they answer with. They must
    /// end every transaction that they begin.
    async fn write(
        &self,
        scripts: Vec<Query<'_, Sqlite, SqliteArguments>>,
    ) -> Result<Vec<SqliteRow>, StoreError> {
        self.in_time(async {
            let mut lease = self.writer.lease().await?;
            let mut rows = Vec::new();
            for script in scripts {
                rows.append(&mut script.fetch_all(&mut lease.connection).await?);
            }
            lease.give_back();
            Ok(rows)
        })
        .await
    }

    async fn in_time<T>(&self, call: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreError> {
        match timeout(self.timeout, call).await {
            Ok(result) => result.map_err(|error| self.failure(error)),
            Err(_) => Err(StoreError::Unavailable {
                reason: format!("no answer within {:?}", self.timeout),
            }),
        }
    }

    fn failure(&self, error: sqlx::Error) -> StoreError {
        failure(error, self.options.get_filename())
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn load(&self, page: &PageId) -> Result<Option<StoredPage>, StoreError> {
        rows::page(page, self.read(sqlx::query_as(LOAD).bind(page.as_str())).await?)
    }

    async fn log(
        &self,
        page: &PageId,
        after: Seq,
        limit: usize,
    ) -> Result<Option<Vec<LoggedUpdate>>, StoreError> {
        let query = sqlx::query_as(LOG)
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
        let mut chunks = batch::chunks(&entries);
        let scripts = match chunks.pop() {
            Some(only) if chunks.is_empty() => vec![Parcel::new(&entries, &only).bind(STORE_BATCH)],
            last => {
                let mut scripts = vec![sqlx::query("BEGIN IMMEDIATE")];
                // The first one moves the heads, which the others only look at.
                let mut heads = entries.as_slice();
                for chunk in chunks.iter().chain(&last) {
                    scripts.push(Parcel::new(heads, chunk).bind(STORE_CHUNK));
                    heads = &[];
                }
                scripts.push(sqlx::query("COMMIT"));
                scripts
            }
        };
        let heads = self
            .write(scripts)
            .await?
            .iter()
            .map(head)
            .collect::<Result<_, _>>();
        Ok(batch::answers(
            batch,
            &heads.map_err(|error| self.failure(error))?,
        ))
    }

    async fn page(&self, page: &PageId) -> Result<Option<PageRecord>, StoreError> {
        let rows: Vec<HeadRow> = self.read(sqlx::query_as(PAGE).bind(page.as_str())).await?;
        rows.into_iter().next().map(HeadRow::into_record).transpose()
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
            .read(sqlx::query_as(PAGES).bind(first).bind(last).bind(number(limit)))
            .await?;
        rows.into_iter().map(HeadRow::into_record).collect()
    }

    async fn snapshot(&self, page: &PageId) -> Result<Option<Snapshot>, StoreError> {
        let rows: Vec<SnapshotRow> = self.read(sqlx::query_as(SNAPSHOT).bind(page.as_str())).await?;
        rows.into_iter()
            .next()
            .map(|row| row.into_snapshot(page))
            .transpose()
    }

    async fn quarantine(&self, page: &PageId, update: &NewUpdate, reason: &str) -> Result<(), StoreError> {
        let insert = sqlx::query(QUARANTINE)
            .bind(page.as_str())
            .bind(&*update.data)
            .bind(update.user.as_deref().map(readable::text))
            .bind(readable::text(reason))
            .bind(number(QUARANTINE_ROWS));
        self.write(vec![insert]).await.map(drop)
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.write(vec![sqlx::query(CHECK)]).await.map(drop)
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// The parameters of [`STORE_CHUNK`].
struct Parcel<'a> {
    heads: Vec<HeadItem<'a>>,
    rows: Vec<RowItem<'a>>,
    snapshots: Vec<SnapshotItem<'a>>,
    bytes: Vec<u8>,
}

/// Page, number of its rows, size.
#[derive(Serialize)]
struct HeadItem<'a>(&'a str, usize, Option<u64>);

/// Page, distance from its last row, offset and length of the data, user.
#[derive(Serialize)]
struct RowItem<'a>(&'a str, i64, usize, usize, Option<Cow<'a, str>>);

/// Page, number, offset, and the lengths of what is there: state, state vector, content, text.
#[derive(Serialize)]
struct SnapshotItem<'a>(&'a str, Seq, usize, usize, usize, Option<usize>, usize);

impl<'a> Parcel<'a> {
    fn new(entries: &[&'a PageCommit], chunk: &Chunk<'a>) -> Self {
        let mut parcel = Self {
            heads: entries
                .iter()
                .map(|e| HeadItem(e.page.as_str(), e.updates.len(), e.size_bytes))
                .collect(),
            rows: Vec::with_capacity(chunk.rows.len()),
            snapshots: Vec::with_capacity(chunk.snapshots.len()),
            // SQLite takes an empty blob for NULL here, so there is always a byte. That also makes offsets start at 1, as it
            // counts them.
            bytes: vec![0],
        };
        for row in &chunk.rows {
            let offset = parcel.add(&row.update.data);
            let user = row.update.user.as_deref().map(readable::text);
            parcel.rows.push(RowItem(
                row.page.as_str(),
                row.from_last,
                offset,
                row.update.data.len(),
                user,
            ));
        }
        for (page, snapshot) in &chunk.snapshots {
            let content = readable::json(&snapshot.content);
            let text = readable::text(&snapshot.text);
            let offset = parcel.add(&snapshot.state);
            parcel.add(&snapshot.state_vector);
            parcel.add(content.as_deref().unwrap_or_default().as_bytes());
            parcel.add(text.as_bytes());
            parcel.snapshots.push(SnapshotItem(
                page.as_str(),
                snapshot.seq,
                offset,
                snapshot.state.len(),
                snapshot.state_vector.len(),
                content.map(|content| content.len()),
                text.len(),
            ));
        }
        parcel
    }

    /// Adds bytes and says where they are, counted from 1.
    fn add(&mut self, bytes: &[u8]) -> usize {
        let offset = self.bytes.len() + 1;
        self.bytes.extend_from_slice(bytes);
        offset
    }

    fn bind<'q>(self, script: &'static str) -> Query<'q, Sqlite, SqliteArguments> {
        sqlx::query(script)
            .bind(Json(self.heads))
            .bind(Json(self.rows))
            .bind(Json(self.snapshots))
            .bind(self.bytes)
    }
}

/// The generation and the number of a page's last row, as [`STORE_CHUNK`] answers.
fn head(row: &SqliteRow) -> Result<(String, (Generation, Seq)), sqlx::Error> {
    let generation: String = row.try_get(1)?;
    Ok((
        row.try_get(0)?,
        (Generation(generation.into()), rows::count(row.try_get(2)?)),
    ))
}

/// Whether `url` can be the address of a file.
pub(crate) fn check_address(url: &str) -> Result<(), StoreError> {
    connect_options(url, &StoreOptions::default()).map(drop)
}

fn connect_options(url: &str, options: &StoreOptions) -> Result<SqliteConnectOptions, StoreError> {
    let location = url.strip_prefix("sqlite://").unwrap_or(url);
    let (file, parameters) = location.split_once('?').unwrap_or((location, ""));
    if file.is_empty() {
        return Err(address(
            "names no file: write sqlite://FILE, or sqlite:///FOLDER/FILE for an absolute path",
        ));
    }
    if file == ":memory:" || parameters.contains("mode=memory") {
        return Err(address(
            "asks SQLite to keep pages in memory: write memory: for a store that forgets",
        ));
    }
    let connect =
        SqliteConnectOptions::from_str(url).map_err(|error| address(format!("is not usable: {error}")))?;
    let connect = if parameters.contains("mode=") {
        connect
    } else {
        connect.create_if_missing(true)
    };
    Ok(connect
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        // On Apple systems an ordinary sync leaves data in the disk's cache.
        .pragma("fullfsync", "ON")
        // Lets go of the disk space that one large transaction needed.
        .pragma("journal_size_limit", "67108864")
        // Another process's transactions are short; within the time of a call this one can wait for several.
        .busy_timeout(options.timeout / 2)
        // Rows that wait to be fetched: each time this is full, two threads are switched.
        .row_buffer_size(1024)
        .disable_statement_logging())
}

/// What an error of SQLite means for a caller. Result codes: <https://sqlite.org/rescode.html>.
fn failure(error: sqlx::Error, file: &Path) -> StoreError {
    let reason = error.to_string();
    let Some(error) = error.as_database_error() else {
        return error::without_code(&error);
    };
    let code: i32 = error
        .code()
        .and_then(|code| code.parse().ok())
        .unwrap_or_default();
    // The low byte is the kind of the result.
    match (code & 0xff, code) {
        (13, _) | (_, IOERR_SHMSIZE) => StoreError::Full { reason },
        (3 | 8, _) => StoreError::ReadOnly { reason },
        (14, _) => cannot_open(reason, file),
        // INTERNAL, BUSY, LOCKED, NOMEM, INTERRUPT, IOERR, PROTOCOL
        (2 | 5 | 6 | 7 | 9 | 10 | 15, _) => StoreError::Unavailable { reason },
        // CORRUPT, NOTADB
        (11 | 26, _) => StoreError::Statement {
            reason: format!("{reason}: the file is damaged, or is no SQLite file"),
        },
        _ => StoreError::Statement { reason },
    }
}

/// The shared-memory file beside the database could not grow.
const IOERR_SHMSIZE: i32 = 4874;

/// SQLite says only that it cannot open the file; the folder tells more.
fn cannot_open(reason: String, file: &Path) -> StoreError {
    let folder = match file.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => file,
    };
    if folder.is_dir() {
        StoreError::ReadOnly { reason }
    } else {
        StoreError::Unavailable {
            reason: format!("{reason}: there is no folder {}", folder.display()),
        }
    }
}
