//! A store in PostgreSQL 15 or newer: a connection for batches of edits, two for single pages, one for snapshots, one for all else
//! that writes, and a few that read.
//!
//! A batch of any size travels as arrays, so its text is fixed, and it is a single statement: one round
//! trip, and a transaction of its own. Whoever writes to pages first updates their heads, in the order of their ids, and
//! holds those row locks until the commit: so processes that share a database take turns on a page, and cannot deadlock.
//! Through a pooler that lends a session for a transaction it takes three round trips more (see `lane`).

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use sqlx::{
    Connection, FromRow, Postgres, Row,
    postgres::{PgArguments, PgConnectOptions, PgRow},
    query::{Query, QueryAs},
};
use tokio::time::timeout;

use crate::{
    Committed, Compaction, Generation, LoggedUpdate, PageCommit, PageId, PageRecord, Seq, Snapshot, Store,
    StoreError, StoreOptions, StoredPage,
    batch::{self, number},
    connections::time_for,
    gathered::Gathered,
    open::address,
    readable,
    rows::{self, HeadRow, SnapshotRow},
    search::{MAX_SEARCHES, words},
};

mod access;
mod append;
mod events;
mod failure;
mod heads;
mod history;
mod lane;
mod policies;
mod rebuilding;
mod renaming;
mod rooms;
mod search;
mod session;
mod statements;
mod trash;
mod webhooks;

use append::{answers, append};
use failure::failure;
pub(crate) use lane::Lane;
pub(crate) use session::{Target, check_address, describe, session_settings, unused_parameters};
use session::{bring_up_to_date, check_server, check_session, lock_timeout, opening, pooled, targets};

/// Pages that are stored alone at once.
const MAX_LONE_PAGES: u32 = 2;
/// A batch waits for a page that another process holds for this long: a commit of the other takes less.
const LOCK_PATIENCE: Duration = Duration::from_millis(40);
/// A page that is stored alone waits for whoever holds it for this long: others wait for their turn on the same connections, so a page
/// that somebody holds for longer is asked for again later.
const LONE_PATIENCE: Duration = Duration::from_secs(1);

/// A connection on which a statement that reads is not answered for so long may be half open.
const SILENCE: Duration = Duration::from_secs(2);

/// See the module.
pub(crate) struct PostgresStore {
    timeout: Duration,
    /// Rows that a snapshot covers are kept.
    keeps_history: bool,
    /// How rows are appended.
    append: &'static str,
    /// Straight to PostgreSQL, without the limits on the time of a statement: for a connection that waits.
    direct: Vec<PgConnectOptions>,
    /// For batches of edits.
    writer: Lane,
    /// For the edits of pages that are large, or held by somebody.
    lone: Lane,
    /// For snapshots.
    compactor: Lane,
    /// For all else that writes.
    aside: Lane,
    readers: Lane,
    /// For searches, which may take long: nobody who opens a page waits for one.
    searchers: Lane,
    heads: Gathered,
}

impl PostgresStore {
    /// Opens the database that `url` names, creating its tables as the options say.
    pub(crate) async fn open(url: &str, options: &StoreOptions) -> Result<Self, StoreError> {
        let (target, direct) = targets(url, options.direct.as_ref())?;
        let settings = || session_settings(options.timeout);
        let waiting = |patience| {
            let mut settings = settings();
            settings.push(lock_timeout(patience));
            settings
        };
        let store = Self {
            timeout: options.timeout,
            keeps_history: options.history,
            append: match options.notifies {
                true => statements::APPEND_AND_NOTIFY,
                false => statements::APPEND,
            },
            direct: direct.plain(),
            writer: Lane::new(1, &target, waiting(LOCK_PATIENCE)),
            lone: Lane::new(MAX_LONE_PAGES, &target, waiting(LONE_PATIENCE)),
            compactor: Lane::new(1, &target, settings()),
            aside: Lane::new(1, &target, settings()),
            readers: Lane::new(options.readers.max(1), &target, settings()),
            searchers: Lane::new(MAX_SEARCHES as u32, &target, settings()),
            heads: Gathered::default(),
        };
        let named = |error: StoreError| match options.direct {
            Some(_) => error.directly(),
            None => error,
        };
        store.check_direct(&direct).await.map_err(named)?;
        // Migrations may take longer than any statement later.
        let unlimited = Lane::new(1, &direct, Vec::new());
        let connection = store.starting(unlimited.open()).await;
        let mut connection = connection.map_err(named)?;
        bring_up_to_date(&mut connection, options.migrate).await?;
        // A connection that cannot say goodbye is gone anyway.
        let _ = connection.close().await;
        if target.is_pooled() {
            store.check_pooler(&unlimited).await?;
        }
        unlimited.close().await;
        Ok(store)
    }

    /// Whether this leads to a server that will do, whose sessions keep what they set.
    async fn check_direct(&self, direct: &Target) -> Result<(), StoreError> {
        let limited = Lane::new(1, direct, session_settings(self.timeout));
        let mut connection = self.starting(limited.open()).await?;
        if !self.starting(check_session(&mut connection)).await? {
            return Err(pooled());
        }
        self.starting(check_server(&mut connection)).await??;
        // A connection that cannot say goodbye is gone anyway.
        let _ = connection.close().await;
        Ok(())
    }

    /// Whether a pooler lends whole transactions, and leads to the database that is there directly.
    async fn check_pooler(&self, direct: &Lane) -> Result<(), StoreError> {
        let epoch = async |lane: &Lane| {
            let mut work = lane.begin().await?;
            let found: Vec<(String,)> = work.fetch_all_as(sqlx::query_as(events::EPOCH)).await?;
            work.end().await?;
            Ok(found)
        };
        let behind = self.starting(epoch(&self.readers)).await;
        let known = self.starting(epoch(direct)).await?;
        match behind {
            Ok(behind) if behind == known => Ok(()),
            // Without our tables, or with those of others.
            Ok(_) | Err(StoreError::Statement { .. }) => {
                Err(address("leads to another database than DATABASE_URL").directly())
            }
            Err(error) => Err(error),
        }
    }

    /// Makes a step of the start.
    async fn starting<T>(&self, step: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreError> {
        match timeout(self.timeout, step).await {
            Ok(done) => done.map_err(opening),
            Err(_) => Err(StoreError::Unavailable {
                reason: format!("no answer within {:?}", self.timeout),
            }),
        }
    }

    /// Runs a statement that reads. On a connection that is gone or says nothing it is run once more on a new one: servers, firewalls and
    /// fail-overs end connections without a word, and reading twice harms nobody.
    async fn read<'q, R>(
        &self,
        query: impl Fn() -> QueryAs<'q, Postgres, R, PgArguments>,
    ) -> Result<Vec<R>, StoreError>
    where
        R: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        self.read_on(&self.readers, query).await
    }

    async fn read_on<'q, R>(
        &self,
        lane: &Lane,
        query: impl Fn() -> QueryAs<'q, Postgres, R, PgArguments>,
    ) -> Result<Vec<R>, StoreError>
    where
        R: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let attempt = async |query: QueryAs<'q, Postgres, R, PgArguments>| {
            let mut work = lane.begin().await?;
            let rows = work.fetch_all_as(query).await?;
            work.end().await?;
            Ok(rows)
        };
        let patience = SILENCE.min(self.timeout / 2);
        match self.in_time(patience, attempt(query())).await {
            // A page that is large takes longer, and gets all of its time.
            Err(StoreError::Unavailable { .. }) => self.in_time(self.timeout, attempt(query())).await,
            read => read,
        }
    }

    /// Runs statements that write in one transaction, and returns the rows that they answer with. A single statement is a
    /// transaction of its own.
    async fn write(
        &self,
        statements: Vec<Query<'_, Postgres, PgArguments>>,
    ) -> Result<Vec<PgRow>, StoreError> {
        self.in_time(self.timeout, self.aside.run(None, statements)).await
    }

    /// Runs statements that write so many bytes on a connection of `lane` within the time that these may take.
    async fn write_large(
        &self,
        lane: &Lane,
        bytes: usize,
        statements: Vec<Query<'_, Postgres, PgArguments>>,
    ) -> Result<Vec<PgRow>, StoreError> {
        let time = time_for(self.timeout, bytes);
        self.in_time(time, lane.run(Some(time), statements)).await
    }

    async fn in_time<T>(
        &self,
        time: Duration,
        call: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        let error = match timeout(time, call).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => failure(error),
            Err(_) => StoreError::Unavailable {
                reason: format!("no answer within {time:?}"),
            },
        };
        // What became read-only has been overtaken by another server: the next connections ask where they are.
        if matches!(
            error,
            StoreError::Unavailable { .. } | StoreError::ReadOnly { .. }
        ) {
            for lane in self.lanes() {
                lane.forget_idle();
            }
        }
        Err(error)
    }

    fn lanes(&self) -> [&Lane; 6] {
        [
            &self.readers,
            &self.searchers,
            &self.aside,
            &self.compactor,
            &self.lone,
            &self.writer,
        ]
    }

    /// Finds out which pages of a batch somebody holds, for which it had to give up.
    async fn held(&self, batch: &[PageCommit]) -> StoreError {
        let pages = || batch.iter().map(|entry| entry.page.as_str()).collect::<Vec<_>>();
        let asked = self
            .in_time(self.timeout, async {
                let mut work = self.writer.begin().await?;
                let known = sqlx::query_as(statements::KNOWN).bind(pages());
                let known: Vec<(String,)> = work.fetch_all_as(known).await?;
                let free = sqlx::query_as(statements::FREE).bind(pages());
                let free: Vec<(String,)> = work.fetch_all_as(free).await?;
                work.end().await?;
                Ok((known, free))
            })
            .await;
        asked.map_or_else(|error| error, |(known, free)| failure::busy(batch, &known, &free))
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn load(&self, page: &PageId) -> Result<Option<StoredPage>, StoreError> {
        rows::page(
            page,
            self.read(|| sqlx::query_as(statements::LOAD).bind(page.as_str()))
                .await?,
        )
    }

    async fn log(
        &self,
        page: &PageId,
        after: Seq,
        limit: usize,
    ) -> Result<Option<Vec<LoggedUpdate>>, StoreError> {
        let query = || {
            sqlx::query_as(statements::LOG)
                .bind(page.as_str())
                .bind(number(after))
                .bind(number(limit))
        };
        Ok(rows::log(self.read(query).await?, after))
    }

    async fn commit(&self, batch: &[PageCommit]) -> Result<Vec<Committed>, StoreError> {
        let entries = batch::in_page_order(batch)?;
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = batch.iter().map(PageCommit::bytes).sum();
        let call = self.writer.run(None, append(self.append, &entries));
        match self.in_time(time_for(self.timeout, bytes), call).await {
            Ok(heads) => answers(batch, &heads),
            Err(StoreError::Busy { .. }) => Err(self.held(batch).await),
            Err(error) => Err(error),
        }
    }

    async fn commit_alone(&self, entry: &PageCommit) -> Result<Committed, StoreError> {
        let written = self
            .write_large(&self.lone, entry.bytes(), append(self.append, &[entry]))
            .await;
        if let Err(StoreError::Busy { .. }) = &written {
            let pages = vec![entry.page.clone()];
            return Err(StoreError::Busy { pages });
        }
        let heads = written?;
        let answers = answers(std::slice::from_ref(entry), &heads)?;
        Ok(answers.into_iter().next().unwrap_or_else(Committed::nothing))
    }

    async fn compact(
        &self,
        page: &PageId,
        generation: Option<&Generation>,
        snapshot: &Snapshot,
    ) -> Result<Compaction, StoreError> {
        let keeps_history = self.keeps_history_of(page).await?;
        let (content, text) = (readable::json(&snapshot.content), readable::text(&snapshot.text));
        let bytes = snapshot.state.len() + content.as_ref().map_or(0, String::len) + text.len();
        let turn = sqlx::query(statements::TURN_OF_MANY).bind(page.as_str());
        let compact = sqlx::query(statements::COMPACT)
            .bind(page.as_str())
            .bind(number(snapshot.seq))
            .bind(&*snapshot.state)
            .bind(&*snapshot.state_vector)
            .bind(content)
            .bind(text)
            .bind(keeps_history)
            .bind(words(&snapshot.text))
            .bind(generation.map(|generation| &*generation.0));
        let written = self
            .write_large(&self.compactor, bytes, vec![turn, compact])
            .await?;
        // Only the last one answers with a number.
        let mut numbers = written.iter().map(|row| row.try_get::<Option<i32>, _>(0));
        let is_written = numbers.try_fold(false, |is_written, row| Ok(is_written || row?.is_some()));
        Ok(match is_written.map_err(failure)? {
            true => Compaction::Compacted,
            false => Compaction::Passed,
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
            .read(|| {
                sqlx::query_as(statements::PAGES)
                    .bind(&first)
                    .bind(&last)
                    .bind(number(limit))
            })
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
            .read(|| sqlx::query_as(statements::SNAPSHOT).bind(page.as_str()))
            .await?;
        rows.into_iter()
            .next()
            .map(|row| row.into_snapshot(page))
            .transpose()
    }

    async fn check(&self) -> Result<(), StoreError> {
        for (read_only, lacking) in self
            .read::<(bool, Option<String>)>(|| sqlx::query_as(statements::CHECK))
            .await?
        {
            if read_only {
                for lane in self.lanes() {
                    lane.forget_idle();
                }
                return Err(StoreError::ReadOnly {
                    reason: "transactions are read-only here".to_owned(),
                });
            }
            if let Some(lacking) = lacking {
                return Err(StoreError::ReadOnly {
                    reason: format!("the role lacks {lacking}: the owner of the tables has to grant it"),
                });
            }
        }
        Ok(())
    }

    async fn close(&self) {
        for lane in self.lanes() {
            lane.close().await;
        }
    }
}
