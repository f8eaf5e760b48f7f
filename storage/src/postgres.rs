//! A store in PostgreSQL 15 or newer: one connection that writes, a few that read.
//!
//! A batch of any size travels as arrays, so its text is fixed, and without snapshots it is a single statement: one round
//! trip, and a transaction of its own. Whoever writes to pages first updates their heads, in the order of their ids, and
//! holds those row locks until the commit: so processes that share a database take turns on a page, and cannot deadlock.

use std::{borrow::Cow, str::FromStr, time::Duration};

use async_trait::async_trait;
use sqlx::{
    ConnectOptions, Connection, FromRow, PgConnection, Postgres, Row,
    migrate::Migrator,
    postgres::{PgArguments, PgConnectOptions, PgRow},
    query::{Query, QueryAs},
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

/// Oldest supported server, as `server_version_num` counts.
const OLDEST_SERVER: i32 = 150_000;

/// Moves the heads of pages `$1` on by `$2` rows each and sets their sizes to `$3`, then appends rows: pages `$4`, distances
/// from the page's last row `$5`, data `$6`, users `$7`. Answers with the heads.
const APPEND: &str = r#"
    WITH head AS (
        INSERT INTO page_heads AS h (page_id, seq, size_bytes)
        SELECT page_id, added, size_bytes
        FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS entry (page_id, added, size_bytes)
        WHERE added > 0 OR EXISTS (SELECT 1 FROM page_heads known WHERE known.page_id = entry.page_id)
        ORDER BY page_id COLLATE "C"
        ON CONFLICT (page_id) DO UPDATE SET
            seq = h.seq + excluded.seq,
            size_bytes = coalesce(excluded.size_bytes, h.size_bytes),
            updated_at = CASE WHEN excluded.seq > 0 THEN excluded.updated_at ELSE h.updated_at END
        RETURNING page_id, generation, seq
    ), appended AS (
        INSERT INTO page_updates (page_id, seq, data, user_id)
        SELECT head.page_id, head.seq - r.from_last, r.data, r.user_id
        FROM unnest($4::text[], $5::bigint[], $6::bytea[], $7::text[]) AS r (page_id, from_last, data, user_id)
        JOIN head ON head.page_id = r.page_id
    )
    SELECT page_id, generation, seq FROM head"#;

/// Appends rows of pages whose heads have been moved in this transaction. Parameters as `$4` to `$7` of [`APPEND`].
const APPEND_MORE: &str = "
    INSERT INTO page_updates (page_id, seq, data, user_id)
    SELECT head.page_id, head.seq - r.from_last, r.data, r.user_id
    FROM unnest($1::text[], $2::bigint[], $3::bytea[], $4::text[]) AS r (page_id, from_last, data, user_id)
    JOIN page_heads head ON head.page_id = r.page_id";

/// Writes the snapshots that cover more than the stored ones and no more than there is, and deletes the rows that they cover.
/// The heads of their pages have been locked in this transaction, so nobody else writes rows or snapshots of these pages.
const COMPACT: &str = "
    WITH stored AS (
        INSERT INTO page_snapshots AS s (page_id, seq, state, state_vector, content, text)
        SELECT o.page_id, o.seq, o.state, o.state_vector, o.content::jsonb, o.text
        FROM unnest($1::text[], $2::bigint[], $3::bytea[], $4::bytea[], $5::text[], $6::text[])
            AS o (page_id, seq, state, state_vector, content, text)
        JOIN page_heads head ON head.page_id = o.page_id AND o.seq BETWEEN 1 AND head.seq
        ON CONFLICT (page_id) DO UPDATE SET
            seq = excluded.seq, state = excluded.state, state_vector = excluded.state_vector,
            content = excluded.content, text = excluded.text, updated_at = excluded.updated_at
        WHERE excluded.seq > s.seq
        RETURNING page_id, seq
    )
    DELETE FROM page_updates u USING stored WHERE u.page_id = stored.page_id AND u.seq <= stored.seq";

const LOAD: &str = "
    SELECT h.seq, s.state AS data, h.generation AS label, h.size_bytes,
        (extract(epoch FROM h.created_at) * 1000)::bigint AS created_ms,
        (extract(epoch FROM h.updated_at) * 1000)::bigint AS updated_ms, s.seq AS covered, s.state_vector
    FROM page_heads h LEFT JOIN page_snapshots s ON s.page_id = h.page_id WHERE h.page_id = $1
    UNION ALL
    SELECT seq, data, user_id, NULL, NULL, NULL, NULL, NULL FROM page_updates WHERE page_id = $1";

const LOG: &str = "
    SELECT coalesce((SELECT seq FROM page_snapshots WHERE page_id = $1), 0) AS seq, NULL::bytea AS data, NULL AS label
    UNION ALL
    (SELECT seq, data, user_id FROM page_updates WHERE page_id = $1 AND seq > $2 ORDER BY seq LIMIT $3)";

const PAGE: &str = "
    SELECT page_id, generation, seq, size_bytes, (extract(epoch FROM created_at) * 1000)::bigint AS created_ms,
        (extract(epoch FROM updated_at) * 1000)::bigint AS updated_ms
    FROM page_heads WHERE page_id = $1";

const PAGES: &str = "
    SELECT page_id, generation, seq, size_bytes, (extract(epoch FROM created_at) * 1000)::bigint AS created_ms,
        (extract(epoch FROM updated_at) * 1000)::bigint AS updated_ms
    FROM page_heads WHERE page_id BETWEEN $1 AND $2 ORDER BY page_id LIMIT $3";

const SNAPSHOT: &str =
    "SELECT seq, state, state_vector, content::text AS content, text FROM page_snapshots WHERE page_id = $1";

/// Only one writer at a time, so that the newest can be counted.
const QUARANTINE_LOCK: &str = "LOCK TABLE page_quarantine IN SHARE ROW EXCLUSIVE MODE";

const QUARANTINE: &str =
    "INSERT INTO page_quarantine (page_id, data, user_id, reason) VALUES ($1, $2, $3, $4)";

const QUARANTINE_FORGET: &str =
    "DELETE FROM page_quarantine WHERE id NOT IN (SELECT id FROM page_quarantine ORDER BY id DESC LIMIT $1)";

/// Asks for what a commit needs. A standby, and a server with its disk protected, say that transactions are read-only.
const CHECK: &str = "SELECT current_setting('transaction_read_only')::bool,
    has_table_privilege('page_heads', 'INSERT') AND has_table_privilege('page_heads', 'UPDATE')
        AND has_table_privilege('page_updates', 'INSERT')";

/// See the module.
pub(crate) struct PostgresStore {
    timeout: Duration,
    writer: Connections<PgConnection>,
    readers: Connections<PgConnection>,
}

impl PostgresStore {
    /// Opens the database that `url` names, creating its tables as the options say.
    pub(crate) async fn open(url: &str, options: &StoreOptions) -> Result<Self, StoreError> {
        let connect = connect_options(url)?;
        let limited = session_options(connect.clone(), options.timeout);
        let store = Self {
            timeout: options.timeout,
            writer: Connections::new(1, limited.clone()),
            readers: Connections::new(options.readers.max(1), limited),
        };
        let mut connection = store.in_time(connect.connect()).await?;
        store.in_time(check_server(&mut connection)).await??;
        bring_up_to_date(&mut connection, options.migrate).await?;
        // A connection that cannot say goodbye is gone anyway.
        let _ = connection.close().await;
        Ok(store)
    }

    /// Runs a statement that reads.
    async fn read<R>(&self, query: QueryAs<'_, Postgres, R, PgArguments>) -> Result<Vec<R>, StoreError>
    where
        R: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        self.in_time(async {
            let mut lease = self.readers.lease().await?;
            let rows = query.fetch_all(&mut lease.connection).await?;
            lease.give_back();
            Ok(rows)
        })
        .await
    }

    /// Runs statements that write in one transaction, and returns the rows that they answer with. A single statement is a
    /// transaction of its own.
    async fn write(
        &self,
        statements: Vec<Query<'_, Postgres, PgArguments>>,
    ) -> Result<Vec<PgRow>, StoreError> {
        self.in_time(async {
            let mut lease = self.writer.lease().await?;
            let mut rows = Vec::new();
            if statements.len() == 1 {
                for statement in statements {
                    rows = statement.fetch_all(&mut lease.connection).await?;
                }
            } else {
                let mut transaction = lease.connection.begin().await?;
                for statement in statements {
                    rows.append(&mut statement.fetch_all(&mut *transaction).await?);
                }
                transaction.commit().await?;
            }
            lease.give_back();
            Ok(rows)
        })
        .await
    }

    async fn in_time<T>(&self, call: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreError> {
        let error = match timeout(self.timeout, call).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => failure(error),
            Err(_) => StoreError::Unavailable {
                reason: format!("no answer within {:?}", self.timeout),
            },
        };
        if matches!(error, StoreError::Unavailable { .. }) {
            self.writer.forget_idle();
            self.readers.forget_idle();
        }
        Err(error)
    }
}

#[async_trait]
impl Store for PostgresStore {
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
        let chunks = batch::chunks(&entries);
        let mut statements = Vec::new();
        for (n, chunk) in chunks.iter().enumerate() {
            if n == 0 {
                statements.push(bind_rows(bind_heads(&entries), chunk));
            } else if !chunk.rows.is_empty() {
                statements.push(bind_rows(sqlx::query(APPEND_MORE), chunk));
            }
            if !chunk.snapshots.is_empty() {
                statements.push(compact(chunk));
            }
        }
        let heads = self
            .write(statements)
            .await?
            .iter()
            .map(head)
            .collect::<Result<_, _>>();
        Ok(batch::answers(batch, &heads.map_err(failure)?))
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
            .bind(readable::text(reason));
        let forget = sqlx::query(QUARANTINE_FORGET).bind(number(QUARANTINE_ROWS));
        self.write(vec![sqlx::query(QUARANTINE_LOCK), insert, forget])
            .await
            .map(drop)
    }

    async fn check(&self) -> Result<(), StoreError> {
        for (read_only, permitted) in self.read::<(bool, bool)>(sqlx::query_as(CHECK)).await? {
            if read_only {
                return Err(StoreError::ReadOnly {
                    reason: "transactions are read-only here".to_owned(),
                });
            }
            if !permitted {
                return Err(StoreError::ReadOnly {
                    reason: "the role may not write the tables".to_owned(),
                });
            }
        }
        Ok(())
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

fn bind_heads<'q>(entries: &[&PageCommit]) -> Query<'q, Postgres, PgArguments> {
    sqlx::query(APPEND)
        .bind(
            entries
                .iter()
                .map(|entry| entry.page.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(
            entries
                .iter()
                .map(|entry| number(entry.updates.len()))
                .collect::<Vec<_>>(),
        )
        .bind(
            entries
                .iter()
                .map(|entry| entry.size_bytes.map(number))
                .collect::<Vec<_>>(),
        )
}

fn bind_rows<'q>(
    query: Query<'q, Postgres, PgArguments>,
    chunk: &Chunk<'_>,
) -> Query<'q, Postgres, PgArguments> {
    let users = chunk
        .rows
        .iter()
        .map(|row| row.update.user.as_deref().map(readable::text));
    query
        .bind(chunk.rows.iter().map(|row| row.page.as_str()).collect::<Vec<_>>())
        .bind(chunk.rows.iter().map(|row| row.from_last).collect::<Vec<_>>())
        .bind(chunk.rows.iter().map(|row| &*row.update.data).collect::<Vec<_>>())
        .bind(users.collect::<Vec<Option<Cow<'_, str>>>>())
}

fn compact<'q>(chunk: &Chunk<'_>) -> Query<'q, Postgres, PgArguments> {
    let snapshots = || chunk.snapshots.iter().map(|(_, snapshot)| snapshot);
    sqlx::query(COMPACT)
        .bind(
            chunk
                .snapshots
                .iter()
                .map(|(page, _)| page.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(
            snapshots()
                .map(|snapshot| number(snapshot.seq))
                .collect::<Vec<_>>(),
        )
        .bind(snapshots().map(|snapshot| &*snapshot.state).collect::<Vec<_>>())
        .bind(
            snapshots()
                .map(|snapshot| &*snapshot.state_vector)
                .collect::<Vec<_>>(),
        )
        .bind(
            snapshots()
                .map(|snapshot| readable::json(&snapshot.content))
                .collect::<Vec<_>>(),
        )
        .bind(
            snapshots()
                .map(|snapshot| readable::text(&snapshot.text))
                .collect::<Vec<_>>(),
        )
}

/// The generation and the number of a page's last row, as [`APPEND`] answers.
fn head(row: &PgRow) -> Result<(String, (Generation, Seq)), sqlx::Error> {
    let generation: String = row.try_get(1)?;
    Ok((
        row.try_get(0)?,
        (Generation(generation.into()), rows::count(row.try_get(2)?)),
    ))
}

/// Whether `url` can be the address of a database.
pub(crate) fn check_address(url: &str) -> Result<(), StoreError> {
    connect_options(url).map(drop)
}

fn connect_options(url: &str) -> Result<PgConnectOptions, StoreError> {
    let connect =
        PgConnectOptions::from_str(url).map_err(|error| address(format!("is not usable: {error}")))?;
    let connect = if connect.get_application_name().is_some() {
        connect
    } else {
        connect.application_name("pageroom")
    };
    Ok(connect.disable_statement_logging())
}

/// What every connection sets for itself, whatever the defaults of its server, database and role are.
fn session_options(connect: PgConnectOptions, timeout: Duration) -> PgConnectOptions {
    let timeout = format!("{}ms", timeout.as_millis().max(1));
    connect.options([
        // Committed means synced.
        ("synchronous_commit", "on"),
        // The statements count on seeing what was committed before the locks they waited for.
        ("default_transaction_isolation", "read committed"),
        // A statement that nobody waits for any more must not go on, nor hold the locks of its transaction.
        ("statement_timeout", &timeout),
        ("idle_in_transaction_session_timeout", &timeout),
    ])
}

async fn check_server(connection: &mut PgConnection) -> Result<Result<(), StoreError>, sqlx::Error> {
    let (version, encoding): (i32, String) = sqlx::query_as(
        "SELECT current_setting('server_version_num')::int, current_setting('server_encoding')",
    )
    .fetch_one(connection)
    .await?;
    Ok(if version < OLDEST_SERVER {
        Err(address(format!(
            "leads to PostgreSQL {}: 15 or newer is needed",
            version / 10_000
        )))
    } else if encoding != "UTF8" {
        Err(address(format!(
            "leads to a database in {encoding}: create one with ENCODING 'UTF8'"
        )))
    } else {
        Ok(())
    })
}

async fn bring_up_to_date(connection: &mut PgConnection, migrate: bool) -> Result<(), StoreError> {
    let mut migrator: Migrator = sqlx::migrate!("migrations/postgres");
    migrator.dangerous_set_table_name(schema::TABLE);
    let exists: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(schema::TABLE)
        .fetch_one(&mut *connection)
        .await
        .map_err(failure)?;
    let state = schema::compare(connection, &migrator, exists).await;
    match state.map_err(|error| schema::failure(error, failure))? {
        schema::State::Current => Ok(()),
        schema::State::Outdated if !migrate => Err(schema::outdated()),
        // Takes a lock of its own: another process may be starting on the same database.
        schema::State::Outdated => migrator
            .run_direct(None, connection, false)
            .await
            .map_err(|error| schema::failure(error, failure)),
    }
}

/// What an error of PostgreSQL means for a caller. Codes: <https://www.postgresql.org/docs/15/errcodes-appendix.html>.
fn failure(error: sqlx::Error) -> StoreError {
    let reason = error.to_string();
    let Some(database) = error.as_database_error() else {
        return error::without_code(&error);
    };
    let code = database.code().unwrap_or_default();
    match &*code {
        "53100" => StoreError::Full { reason },
        "25006" | "42501" => StoreError::ReadOnly { reason },
        // No such database (yet); lock not available; a statement or a transaction took too long.
        "3D000" | "55P03" | "57014" | "25P03" | "25P04" => StoreError::Unavailable { reason },
        // By class: connection, authorization, transaction rollback, resources, operator intervention, system.
        code => match code.get(..2) {
            Some("08" | "28" | "40" | "53" | "57" | "58") => StoreError::Unavailable { reason },
            _ => StoreError::Statement { reason },
        },
    }
}
