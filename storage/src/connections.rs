//! A few connections to a database that are lent one at a time, opened when first needed and thrown away after a failure.
//!
//! A connection comes back only when its borrower says that all went well ([`Lease::give_back`]). After an error, a
//! timeout or a cancelled call it may be in the middle of anything, so it is dropped, which rolls back what it had begun, and
//! the next borrower gets a new one: a store mends itself when its database is back. Unlike a general pool this asks
//! nothing of the database between uses, which would cost as much as a small commit.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sqlx::{ConnectOptions, Connection};
use tokio::sync::{Semaphore, SemaphorePermit};

/// The time that bytes may take beside the time of a call: a slow disk or network carries this much a second.
const BYTES_PER_SECOND: u64 = 4 << 20;

/// The time that a call with so many bytes may take.
pub(crate) fn time_for(timeout: Duration, bytes: usize) -> Duration {
    timeout.saturating_add(Duration::from_millis(
        (bytes as u64).saturating_mul(1000) / BYTES_PER_SECOND,
    ))
}

/// At most a fixed number of connections of one kind.
pub(crate) struct Connections<C: Connection> {
    options: C::Options,
    permits: Semaphore,
    limit: u32,
    idle: Mutex<Vec<C>>,
}

/// A borrowed connection.
pub(crate) struct Lease<'a, C: Connection> {
    pub(crate) connection: C,
    lender: &'a Connections<C>,
    _permit: SemaphorePermit<'a>,
}

impl<C> Connections<C>
where
    C: Connection,
    C::Options: ConnectOptions<Connection = C>,
{
    /// Up to `limit` connections, none of them open yet.
    pub(crate) fn new(limit: u32, options: C::Options) -> Self {
        Self {
            options,
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
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        Ok(Lease {
            connection,
            lender: self,
            _permit: permit,
        })
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
        for connection in idle {
            // A connection that cannot say goodbye is gone anyway.
            let _ = connection.close().await;
        }
    }
}

impl<C: Connection> Lease<'_, C> {
    /// Returns the connection in working order. Without this it is closed.
    pub(crate) fn give_back(self) {
        self.lender
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(self.connection);
    }

    /// Closes the connection and waits until it is closed.
    pub(crate) async fn close(self) {
        // A connection that cannot say goodbye is gone anyway.
        let _ = self.connection.close().await;
    }
}
