//! Connections to PostgreSQL for one kind of work, straight or through a pooler that lends one for a transaction.
//!
//! A session of PostgreSQL's own keeps its settings and its prepared statements. Through such a pooler each transaction may run in another
//! session, and a statement that is parsed there may be somebody else's when it is run: so all work is done in transactions that begin
//! with their settings, and statements have no names.

use std::time::Duration;

use futures_util::Stream;
use sqlx::{AssertSqlSafe, Connection, Executor, FromRow, PgConnection, Postgres, Row, postgres::*};

use crate::connections::{Connections, Lease, standby};

use super::{session::Target, statements};

type Query<'q> = sqlx::query::Query<'q, Postgres, PgArguments>;
type QueryAs<'q, R> = sqlx::query::QueryAs<'q, Postgres, R, PgArguments>;

/// See the module.
pub(crate) struct Lane {
    connections: Connections<PgConnection>,
    /// Through a pooler: what each transaction sets for itself.
    settings: Option<Vec<(String, String)>>,
}

/// A borrowed connection, in a transaction where there is a pooler.
pub(crate) struct Work<'a> {
    lease: Lease<'a, PgConnection>,
    is_pooled: bool,
    /// Whether it has to be told when its transaction ends.
    is_begun: bool,
}

impl Lane {
    /// Up to `limit` connections to where `target` leads, each with these settings.
    pub(crate) fn new(limit: u32, target: &Target, settings: Vec<(String, String)>) -> Self {
        Self {
            connections: Connections::new(limit, target.sessions(&settings)),
            settings: target.is_pooled().then(|| target.transaction(settings)),
        }
    }

    /// Takes a server that is only read, too.
    #[must_use]
    pub(crate) fn also_read_only(self) -> Self {
        Self {
            connections: self.connections.also_read_only(),
            ..self
        }
    }

    /// Waits until a connection is free.
    pub(crate) async fn begin(&self) -> Result<Work<'_>, sqlx::Error> {
        self.begin_within(None).await
    }

    /// Waits until a connection is free; statements on it may take this long.
    async fn begin_within(&self, limit: Option<Duration>) -> Result<Work<'_>, sqlx::Error> {
        let mut lease = self.connections.lease().await?;
        let limit = limit.map(|limit| format!("{}ms", limit.as_millis().max(1)));
        match &self.settings {
            Some(settings) => {
                let limit = limit.map(|limit| ("statement_timeout".to_owned(), limit));
                let begin = transaction(settings.iter().chain(&limit));
                let rows = sqlx::raw_sql(AssertSqlSafe(begin))
                    .fetch_all(&mut lease.connection)
                    .await?;
                let is_standby = rows.first().map_or(Ok(true), |row| row.try_get(0))?;
                if is_standby && self.connections.are_written() {
                    return Err(standby());
                }
            }
            None => {
                if let Some(limit) = limit {
                    let set = sqlx::query(statements::LIMIT_TIME).bind(limit);
                    set.execute(&mut lease.connection).await?;
                }
            }
        }
        Ok(Work {
            lease,
            is_pooled: self.settings.is_some(),
            is_begun: self.settings.is_some(),
        })
    }

    /// Waits until a connection is free, and begins a transaction on it, whose end is [`Work::end`]. It is undone when that does not come.
    pub(crate) async fn begin_transaction(&self) -> Result<Work<'_>, sqlx::Error> {
        let mut work = self.begin().await?;
        if !work.is_begun {
            work.lease.connection.execute(BEGIN).await?;
            work.is_begun = true;
        }
        Ok(work)
    }

    /// Runs statements in one transaction and returns the rows that they answer with. A single statement is a transaction of its
    /// own.
    pub(crate) async fn run(
        &self,
        limit: Option<Duration>,
        statements: Vec<Query<'_>>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let mut work = self.begin_within(limit).await?;
        let mut rows = Vec::new();
        if statements.len() == 1 || work.is_pooled {
            for statement in statements {
                rows.append(&mut work.fetch_all(statement).await?);
            }
        } else {
            let mut transaction = work.lease.connection.begin().await?;
            for statement in statements {
                rows.append(&mut statement.fetch_all(&mut *transaction).await?);
            }
            transaction.commit().await?;
        }
        work.end().await?;
        Ok(rows)
    }

    /// Opens a connection and asks for nothing on it.
    pub(crate) async fn open(&self) -> Result<PgConnection, sqlx::Error> {
        self.connections.open().await
    }

    /// Drops the connections that nobody is using.
    pub(crate) fn forget_idle(&self) {
        self.connections.forget_idle();
    }

    /// Waits until all connections have come back, and closes them.
    pub(crate) async fn close(&self) {
        self.connections.close().await;
    }
}

impl Work<'_> {
    /// Runs a statement.
    pub(crate) async fn fetch_all(&mut self, statement: Query<'_>) -> Result<Vec<PgRow>, sqlx::Error> {
        let statement = statement.persistent(!self.is_pooled);
        statement.fetch_all(&mut self.lease.connection).await
    }

    /// Runs a statement, and gives its rows as they come.
    pub(crate) fn fetch<'w>(
        &'w mut self,
        statement: Query<'w>,
    ) -> impl Stream<Item = Result<PgRow, sqlx::Error>> + Send + 'w {
        let statement = statement.persistent(!self.is_pooled);
        statement.fetch(&mut self.lease.connection)
    }

    /// Runs a statement that answers with rows of one form.
    pub(crate) async fn fetch_all_as<R>(&mut self, statement: QueryAs<'_, R>) -> Result<Vec<R>, sqlx::Error>
    where
        R: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let statement = statement.persistent(!self.is_pooled);
        statement.fetch_all(&mut self.lease.connection).await
    }

    /// The same for a table that grows from nothing to a million rows: the statement is planned for how the table is now, and not as it was when
    /// the connection was new.
    pub(crate) async fn fetch_all_planned<R>(
        &mut self,
        statement: QueryAs<'_, R>,
    ) -> Result<Vec<R>, sqlx::Error>
    where
        R: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let statement = statement.persistent(false);
        statement.fetch_all(&mut self.lease.connection).await
    }

    /// Returns the connection when all went well. What was done in a transaction counts from here on.
    pub(crate) async fn end(mut self) -> Result<(), sqlx::Error> {
        if self.is_begun {
            self.lease.connection.execute("COMMIT").await?;
        }
        self.lease.give_back();
        Ok(())
    }
}

/// Statements count on seeing what was committed before the locks they waited for.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// What begins a transaction with settings, in one round trip, and answers first whether a standby would run it.
fn transaction<'a>(settings: impl Iterator<Item = &'a (String, String)>) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let settings: String = settings
        .map(|(name, value)| format!(", set_config({}, {}, true)", quoted(name), quoted(value)))
        .collect();
    format!("{BEGIN}; SELECT pg_is_in_recovery(){settings}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_values_and_nothing_else() {
        let settings = [("a".to_owned(), "x'; DROP TABLE pages; --".to_owned())];
        assert_eq!(
            transaction(settings.iter()),
            "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_is_in_recovery(), set_config('a', 'x''; DROP TABLE pages; --', true)"
        );
    }
}
