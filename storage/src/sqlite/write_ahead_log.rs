//! When the write-ahead log goes into the file: after the write that made it long, while others write.
//!
//! SQLite by itself does this before it answers that write, so everybody else would wait for what one large page has written.

use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::{Executor, SqliteConnection};
use tokio::sync::Mutex;

use super::SqliteStore;
use crate::connections::time_for;

/// A log of so many bytes is long, as it is for SQLite.
const LONG: usize = 4 << 20;

/// About what a small transaction adds: a few blocks.
const SMALLEST: usize = 16 << 10;

/// How long the log has become.
#[derive(Debug, Default)]
pub(super) struct WriteAheadLog(AtomicUsize);

impl WriteAheadLog {
    /// Whether the log is long now that so many bytes were written. From then on it counts as short.
    pub(super) fn is_long_after(&self, bytes: usize) -> bool {
        let added = bytes.saturating_add(SMALLEST);
        let before = self.0.fetch_add(added, Ordering::Relaxed);
        let is_long = before.saturating_add(added) >= LONG;
        if is_long {
            self.0.store(0, Ordering::Relaxed);
        }
        is_long
    }
}

impl SqliteStore {
    /// Copies the log into the file. What was written is stored in any case.
    pub(super) async fn checkpoint(&self) {
        let copied = self.in_time(time_for(self.timeout, LONG), async {
            let mut lease = self.checkpointer.lease().await?;
            let copied = copy(&mut lease.connection, &self.turn).await;
            self.take_back(lease, copied.is_ok()).await;
            copied
        });
        if let Err(error) = copied.await {
            tracing::warn!(%error, "the write-ahead log could not be copied into the file: it grows until it can be");
        }
    }
}

/// Copies most of the log while others take their `turn`, and the rest in a turn of its own: only what nobody adds to can begin anew.
async fn copy(connection: &mut SqliteConnection, turn: &Mutex<()>) -> Result<(), sqlx::Error> {
    const COPY: &str = "PRAGMA wal_checkpoint(PASSIVE)";
    connection.execute(COPY).await?;
    let _turn = turn.lock().await;
    connection.execute(COPY).await?;
    Ok(())
}
