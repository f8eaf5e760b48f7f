//! A few connections to a database that are lent one at a time, opened when first needed and thrown away after a failure.
//!
//! A connection comes back only when its borrower says that all went well ([`Lease::give_back`]). After an error, a
//! timeout or a cancelled call it may be in the middle of anything, so it is dropped, which rolls back what it had begun, and
//! the next borrower gets a new one: a store mends itself when its database is back. Unlike a general pool this asks
//! nothing of the database between uses in quick succession, which would cost as much as a small commit. A connection that has rested is
//! asked whether it is still there: servers, firewalls and poolers cut those in silence.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sqlx::{ConnectOptions, Connection, PgConnection, Row, SqliteConnection};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};

/// The time that bytes may take beside the time of a call: a slow disk or network carries this much a second.
const BYTES_PER_SECOND: u64 = 4 << 20;

/// The time that a call with so many bytes may take.
pub(crate) fn time_for(timeout: Duration, bytes: usize) -> Duration {
    timeout.saturating_add(Duration::from_millis(
        (bytes as u64).saturating_mul(1000) / BYTES_PER_SECOND,
    ))
}

/// A connection that has rested for longer is asked whether it is there.
const RESTED: Duration = Duration::from_secs(1);
/// It is gone if it does not answer within this time.
const PING_PATIENCE: Duration = Duration::from_secs(1);
/// No connection is used for longer, so that none stays where an address no longer leads.
const MAX_AGE: Duration = Duration::from_secs(30 * 60);
/// Another host is tried after this time.
const HOST_PATIENCE: Duration = Duration::from_secs(3);

/// Looks at a connection that has just been opened.
pub(crate) trait Opened: Connection {
    /// Whether it leads to where pages can be written.
    fn is_right(&mut self) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

impl Opened for SqliteConnection {
    async fn is_right(&mut self) -> Result<(), sqlx::Error> {
        Ok(())
    }
}

impl Opened for PgConnection {
    async fn is_right(&mut self) -> Result<(), sqlx::Error> {
        // In one message: a pooler may send a second one elsewhere.
        let asked = sqlx::raw_sql("SELECT pg_is_in_recovery()")
            .fetch_one(self)
            .await?;
        match asked.try_get(0)? {
            true => Err(standby()),
            false => Ok(()),
        }
    }
}

/// The refusal to work where nothing can be written.
pub(crate) fn standby() -> sqlx::Error {
    sqlx::Error::Protocol(
        "the address leads to a standby, which cannot be written: waiting for a primary".to_owned(),
    )
}

/// A connection between two uses.
struct Resting<C> {
    connection: C,
    opened: Instant,
    since: Instant,
}

/// At most a fixed number of connections of one kind.
pub(crate) struct Connections<C: Connection> {
    /// Where to connect to, in the order in which it is tried.
    options: Vec<C::Options>,
    /// Whether only a server that can be written will do.
    written: bool,
    /// How long a connection is used.
    max_age: Duration,
    permits: Semaphore,
    limit: u32,
    idle: Mutex<Vec<Resting<C>>>,
}

/// A borrowed connection.
pub(crate) struct Lease<'a, C: Connection> {
    pub(crate) connection: C,
    opened: Instant,
    lender: &'a Connections<C>,
    _permit: SemaphorePermit<'a>,
}

impl<C> Connections<C>
where
    C: Opened,
    C::Options: ConnectOptions<Connection = C>,
{
    /// Up to `limit` connections, none of them open yet.
    pub(crate) fn new(limit: u32, options: impl IntoIterator<Item = C::Options>) -> Self {
        Self {
            options: options.into_iter().collect(),
            written: true,
            max_age: MAX_AGE,
            permits: Semaphore::new(limit as usize),
            limit,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Waits until a connection is free, and opens it when it is not open.
    pub(crate) async fn lease(&self) -> Result<Lease<'_, C>, sqlx::Error> {
        let permit = self
            .permits
            .acquire()
            .await
            .map_err(|_| sqlx::Error::PoolClosed)?;
        let (connection, opened) = match self.rested().await {
            Some(rested) => rested,
            None => (self.open().await?, now()),
        };
        Ok(Lease {
            connection,
            opened,
            lender: self,
            _permit: permit,
        })
    }

    /// A connection that was used before and can be used again.
    async fn rested(&self) -> Option<(C, Instant)> {
        loop {
            let resting = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            let Resting {
                mut connection,
                opened,
                since,
            } = resting;
            let now = now();
            if now.saturating_duration_since(opened) > self.max_age {
                continue;
            }
            if now.saturating_duration_since(since) <= RESTED {
                return Some((connection, opened));
            }
            if let Ok(Ok(())) = timeout(PING_PATIENCE, connection.ping()).await {
                return Some((connection, opened));
            }
            // Those that have rested beside it have met the same end.
            self.forget_idle();
        }
    }

    /// Opens a connection to the first of the hosts that will do.
    pub(crate) async fn open(&self) -> Result<C, sqlx::Error> {
        let opened = open_first(&self.options, self.written).await;
        opened.map(|(_, connection)| connection)
    }

    /// Takes a server that is only read, too.
    #[must_use]
    pub(crate) fn also_read_only(mut self) -> Self {
        self.written = false;
        self
    }

    /// Whether only a server that can be written will do.
    pub(crate) fn are_written(&self) -> bool {
        self.written
    }

    /// Drops the connections that nobody is using: one has just failed, and so may they.
    pub(crate) fn forget_idle(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Waits until all connections have come back, closes them, and lends none any more.
    pub(crate) async fn close(&self) {
        // Fails when the store has been closed already.
        let _all = self.permits.acquire_many(self.limit).await;
        self.permits.close();
        self.close_idle().await;
    }

    /// Like [`forget_idle`](Self::forget_idle), and waits until they are closed.
    pub(crate) async fn close_idle(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        for Resting { connection, .. } in idle {
            // A connection that cannot say goodbye is gone anyway.
            let _ = connection.close().await;
        }
    }
}

/// Tries hosts in turn, and opens a connection to the first that is there and, if it is to be `written`, can be. Gives its place in the
/// list, too. While another is left, a host has only so much time.
pub(crate) async fn open_first<C>(hosts: &[C::Options], written: bool) -> Result<(usize, C), sqlx::Error>
where
    C: Opened,
    C::Options: ConnectOptions<Connection = C>,
{
    let mut last = None;
    for (n, options) in hosts.iter().enumerate() {
        let opening = async {
            let mut connection = options.connect().await?;
            if written {
                connection.is_right().await?;
            }
            Ok(connection)
        };
        let opened = if n + 1 < hosts.len() {
            let late = |_| Err(sqlx::Error::PoolTimedOut);
            timeout(HOST_PATIENCE, opening).await.unwrap_or_else(late)
        } else {
            opening.await
        };
        match opened {
            Ok(connection) => return Ok((n, connection)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or(sqlx::Error::PoolClosed))
}

impl<C: Connection> Lease<'_, C> {
    /// Returns the connection in working order. Without this it is closed.
    pub(crate) fn give_back(self) {
        self.lender
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Resting {
                connection: self.connection,
                opened: self.opened,
                since: now(),
            });
    }

    /// Closes the connection and waits until it is closed.
    pub(crate) async fn close(self) {
        // A connection that cannot say goodbye is gone anyway.
        let _ = self.connection.close().await;
    }
}

fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use sqlx::{Executor, sqlite::SqliteConnectOptions};

    use super::*;

    fn one(max_age: Duration) -> Connections<SqliteConnection> {
        let options = SqliteConnectOptions::from_str("sqlite::memory:").expect("an address");
        Connections {
            max_age,
            ..Connections::new(1, [options])
        }
    }

    /// Whether what is lent is the connection that was lent before: a database in memory is one connection's.
    async fn is_the_same(connections: &Connections<SqliteConnection>) -> bool {
        let mut lease = connections.lease().await.expect("a connection");
        let found = lease.connection.execute("CREATE TABLE seen (n)").await.is_err();
        lease.give_back();
        found
    }

    #[tokio::test]
    async fn a_connection_that_is_old_is_replaced_and_one_that_is_not_is_used_again() {
        let connections = one(MAX_AGE);
        assert!(!is_the_same(&connections).await);
        assert!(is_the_same(&connections).await);
        // Also one that has rested, and so is asked.
        tokio::time::sleep(RESTED + Duration::from_millis(100)).await;
        assert!(is_the_same(&connections).await);

        let limit = Duration::from_millis(200);
        let connections = one(limit);
        assert!(!is_the_same(&connections).await);
        // Its age counts from its opening, however often it is used.
        let opened = now();
        let mut used = 0;
        while is_the_same(&connections).await {
            used += 1;
            assert!(opened.elapsed() < limit * 50, "it is never replaced");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(opened.elapsed() > limit / 2, "replaced after {used} uses");
    }
}
