//! A store in PostgreSQL 15 or newer: one connection that writes, a few that read.
//!
//! A batch of any size travels as arrays, so its text is fixed, and without snapshots it is a single statement: one round
//! trip, and a transaction of its own. Whoever writes to pages first updates their heads, in the order of their ids, and
//! holds those row locks until the commit: so processes that share a database take turns on a page, and cannot deadlock.

use std::{
    borrow::Cow,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use sqlx::{
    ConnectOptions, Connection, FromRow, PgConnection, Postgres, Row,
    postgres::{PgArguments, PgConnectOptions, PgRow},
    query::{Query, QueryAs},
};
use tokio::time::timeout;

use crate::{
    Committed, Generation, LoggedUpdate, NewUpdate, PageCommit, PageId, PageRecord, QUARANTINE_ROWS, Seq,
    Snapshot, Store, StoreError, StoreOptions, StoredPage,
    batch::{self, Chunk, number},
    connections::Connections,
    readable,
    rows::{self, HeadRow, SnapshotRow},
};

mod access;
mod failure;
mod session;
mod statements;

use failure::failure;
pub(crate) use session::check_address;
use session::{bring_up_to_date, check_server};
pub(crate) use session::{connect_options, session_options};

/// See the module.
pub(crate) struct PostgresStore {
    timeout: Duration,
    /// As the address says, without the limits on the time of a statement: for a connection that waits.
    connect: PgConnectOptions,
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
            connect: connect.clone(),
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
        let mut statements = Vec::new();
        for (n, chunk) in chunks.iter().enumerate() {
            if n == 0 {
                statements.push(bind_rows(bind_heads(&entries), chunk));
            } else if !chunk.rows.is_empty() {
                statements.push(bind_rows(sqlx::query(statements::APPEND_MORE), chunk));
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
        let rows: Vec<HeadRow> = self
            .read(sqlx::query_as(statements::PAGE).bind(page.as_str()))
            .await?;
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
        Ok(!self.write(vec![set]).await?.is_empty())
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

    async fn quarantine(&self, page: &PageId, update: &NewUpdate, reason: &str) -> Result<(), StoreError> {
        let insert = sqlx::query(statements::QUARANTINE)
            .bind(page.as_str())
            .bind(&*update.data)
            .bind(update.user.as_deref().map(readable::text))
            .bind(readable::text(reason));
        let forget = sqlx::query(statements::QUARANTINE_FORGET).bind(number(QUARANTINE_ROWS));
        self.write(vec![sqlx::query(statements::QUARANTINE_LOCK), insert, forget])
            .await
            .map(drop)
    }

    async fn check(&self) -> Result<(), StoreError> {
        for (read_only, permitted) in self
            .read::<(bool, bool)>(sqlx::query_as(statements::CHECK))
            .await?
        {
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
    sqlx::query(statements::APPEND)
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
    sqlx::query(statements::COMPACT)
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

/// The generation and the number of a page's last row, as [`statements::APPEND`] answers.
fn head(row: &PgRow) -> Result<(String, (Generation, Seq)), sqlx::Error> {
    let generation: String = row.try_get(1)?;
    Ok((
        row.try_get(0)?,
        (Generation(generation.into()), rows::count(row.try_get(2)?)),
    ))
}
