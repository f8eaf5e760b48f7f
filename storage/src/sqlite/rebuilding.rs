//! What SQLite is told of documents that are rebuilt.

use async_trait::async_trait;
use sqlx::Row;

use super::{SqliteStore, large_values::size};
use crate::{Generation, RebuildStore, Rebuilding, StoreError, batch::number};

/// The page `$1`, if it has the generation `$2`, the number `$3`, and a snapshot that covers all of it.
macro_rules! head {
    () => {
        "(SELECT h.id FROM page_heads h CROSS JOIN page_snapshots s ON s.page_id = h.page_id
            WHERE h.page_id = $1 AND h.generation = $2 AND h.seq = $3 AND s.seq = $3 AND h.deleted_at IS NULL)"
    };
}

/// Puts the state `$4` with the state vector `$5` in the place of what the page says, and the clients `$6` to those of former generations;
/// with `$7` what it said becomes a base. `$8` is the length of the state. The head goes last: the others ask for it as it was.
const REBUILD: &str = concat!(
    "BEGIN IMMEDIATE;
    INSERT INTO page_histories (head_id, last_seq, bytes, since_base, first_at)
    SELECT h.id, 0, ",
    size!("s.state"),
    ", 0, NULL
    FROM page_heads h CROSS JOIN page_snapshots s ON s.page_id = h.page_id
    WHERE $7 AND h.id = ",
    head!(),
    " AND NOT EXISTS (SELECT 1 FROM page_bases b WHERE b.head_id = h.id AND b.seq = s.seq)
    ON CONFLICT (head_id) DO UPDATE SET bytes = bytes + excluded.bytes, since_base = 0;
    INSERT INTO page_bases (head_id, seq, state)
    SELECT h.id, s.seq, s.state FROM page_heads h CROSS JOIN page_snapshots s ON s.page_id = h.page_id
    WHERE $7 AND h.id = ",
    head!(),
    " ON CONFLICT DO NOTHING;
    INSERT OR REPLACE INTO page_ended_clients (head_id, clients) SELECT h.id, $6 FROM page_heads h WHERE h.id = ",
    head!(),
    ";
    UPDATE page_heads SET generation = lower(hex(randomblob(16))), seq = seq + 1, size_bytes = $8,
        updated_at = CAST(unixepoch('subsec') * 1000 AS INTEGER)
    WHERE id = ",
    head!(),
    " RETURNING generation;
    UPDATE page_snapshots SET seq = seq + 1, state = $4, state_vector = $5,
        updated_at = CAST(unixepoch('subsec') * 1000 AS INTEGER)
    WHERE page_id = $1 AND seq = $3
        AND EXISTS (SELECT 1 FROM page_heads h WHERE h.page_id = $1 AND h.generation <> $2 AND h.seq = $3 + 1);
    UPDATE webhook_marks SET generation = (SELECT generation FROM page_heads WHERE page_id = $1)
    WHERE page_id = $1 AND generation = $2
        AND EXISTS (SELECT 1 FROM page_heads h WHERE h.page_id = $1 AND h.generation <> $2);
    COMMIT;"
);

#[async_trait]
impl RebuildStore for SqliteStore {
    async fn rebuild(&self, rebuilding: &Rebuilding) -> Result<Option<Generation>, StoreError> {
        let keeps_history = self.keeps_history_of(&rebuilding.page).await?;
        let mut writing = None;
        let state = self.write_value(&mut writing, &rebuilding.state).await?;
        let rebuild = sqlx::query(REBUILD)
            .bind(rebuilding.page.as_str())
            .bind(&*rebuilding.generation.0)
            .bind(number(rebuilding.seq));
        let rebuild = state
            .bind(rebuild)
            .bind(&*rebuilding.state_vector)
            .bind(&*rebuilding.ended_clients)
            .bind(keeps_history)
            .bind(number(rebuilding.state.len()));
        let bytes = state.bytes() + rebuilding.ended_clients.len();
        let rows = self.write(&self.compactor, bytes, vec![rebuild]).await;
        drop(writing);
        self.sweep_after(&rows).await;
        let rows = rows?;
        let generation = rows.first().map(|row| row.try_get::<String, _>(0)).transpose();
        let generation = generation.map_err(|error| self.failure(error))?;
        Ok(generation.map(|generation| Generation(generation.into())))
    }
}
