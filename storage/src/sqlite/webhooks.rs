//! What SQLite keeps for webhooks.

use std::time::SystemTime;

use async_trait::async_trait;
use sqlx::{Executor, Sqlite, SqliteConnection};

use super::{SqliteStore, statements as sqlite};
use crate::{
    DeliveryClaim, DeliveryState, FinishedDelivery, OutboxDepth, OutboxLimits, StoreError, Telling,
    UntoldPages, WebhookDelivery, WebhookStore,
    rows::milliseconds,
    webhooks::{Decode, Statements, Transaction, Value, statements, transactions},
};

const SQL: Statements = statements!(
    "json_each($1) AS list",
    "",
    "",
    heads: "
        SELECT h.page_id, h.generation, h.seq, h.created_at AS created_ms, h.updated_at AS updated_ms,
            h.deleted_at AS deleted_ms, m.generation AS told_generation, m.created_at AS told_created,
            m.seq AS told_seq, m.deleted_at AS told_deleted
        FROM page_heads h LEFT JOIN webhook_marks m ON m.page_id = h.page_id
        WHERE h.page_id IN (SELECT list.value ->> 0 FROM json_each($1) AS list)",
    versions: "
        UPDATE page_versions SET told_at = $2 WHERE told_at IS NULL AND head_id IN (
            SELECT h.id FROM page_heads h WHERE h.page_id IN (SELECT list.value ->> 0 FROM json_each($1) AS list))
        RETURNING (SELECT h.page_id FROM page_heads h WHERE h.id = head_id) AS page_id, id, seq, kind, name, user_id,
            reason, created_at AS created_ms",
    untold: "
        WITH stretch AS (
            SELECT id, page_id, generation, seq, deleted_at, updated_at
            FROM page_heads WHERE page_id > $1 ORDER BY page_id LIMIT $2
        ), looked_at AS (
            SELECT s.page_id, CASE WHEN CASE
                    WHEN m.page_id IS NULL THEN s.updated_at >= $3 OR coalesce(s.deleted_at, -1) >= $3
                    ELSE m.generation <> s.generation OR m.seq < s.seq
                        OR (m.deleted_at IS NULL) <> (s.deleted_at IS NULL)
                END OR EXISTS (SELECT 1 FROM page_versions v WHERE v.head_id = s.id AND v.told_at IS NULL)
                THEN 1 ELSE 0 END AS is_untold
            FROM stretch s LEFT JOIN webhook_marks m ON m.page_id = s.page_id
        )
        SELECT page_id, is_untold FROM looked_at
        WHERE is_untold = 1 OR page_id = (SELECT max(page_id) FROM stretch)"
);

impl Transaction for SqliteConnection {
    async fn ask<R: Decode>(
        &mut self,
        statement: &'static str,
        values: Vec<Value>,
    ) -> Result<Vec<R>, sqlx::Error> {
        let query = sqlx::query_as::<Sqlite, R>(statement);
        let query = values.into_iter().fold(query, |query, value| match value {
            Value::Text(text) => query.bind(text),
            Value::Number(number) => query.bind(number),
        });
        query.fetch_all(self).await
    }
}

/// Does something in a transaction that writes.
macro_rules! transact {
    ($store:expr, $work:ident, $step:expr) => {{
        $store.file.check()?;
        let written = $store.in_time($store.timeout, async {
            let mut lease = $store.aside.lease().await?;
            let _turn = $store.turn.lock().await;
            let $work = &mut lease.connection;
            let answer = async {
                $work.execute(sqlite::BEGIN).await?;
                let answer = $step.await?;
                $work.execute(sqlite::COMMIT).await?;
                Ok(answer)
            };
            let answer = answer.await;
            $store.take_back(lease, answer.is_ok()).await;
            answer
        });
        let written = written.await;
        $store.check_file_after().await?;
        written
    }};
}

/// Does something that reads.
macro_rules! look {
    ($store:expr, $work:ident, $step:expr) => {
        $store
            .in_time($store.timeout, async {
                let mut lease = $store.readers.lease().await?;
                let $work = &mut lease.connection;
                let answer = $step.await?;
                lease.give_back();
                Ok(answer)
            })
            .await
    };
}

#[async_trait]
impl WebhookStore for SqliteStore {
    async fn begin_webhooks(&self, now: SystemTime) -> Result<(), StoreError> {
        transact!(self, work, transactions::begin(work, &SQL, milliseconds(now)))
    }

    async fn tell_webhooks(&self, telling: &Telling) -> Result<u64, StoreError> {
        transact!(self, work, transactions::tell(work, &SQL, telling))
    }

    async fn untold_pages(&self, after: Option<&str>, limit: usize) -> Result<UntoldPages, StoreError> {
        look!(self, work, transactions::untold(work, &SQL, after, limit))
    }

    async fn claim_webhooks(&self, claim: &DeliveryClaim) -> Result<Vec<WebhookDelivery>, StoreError> {
        // Edits do not wait where nothing is due.
        if !look!(self, work, transactions::is_due(work, &SQL, claim))? {
            return Ok(Vec::new());
        }
        transact!(self, work, transactions::claim(work, &SQL, claim))
    }

    async fn finish_webhooks(
        &self,
        owner: &str,
        now: SystemTime,
        finished: &[FinishedDelivery],
    ) -> Result<(), StoreError> {
        let by = (owner, milliseconds(now));
        transact!(self, work, transactions::finish(work, &SQL, by, finished))
    }

    async fn webhooks(
        &self,
        state: DeliveryState,
        after: u64,
        limit: usize,
    ) -> Result<Vec<WebhookDelivery>, StoreError> {
        look!(self, work, transactions::listed(work, &SQL, state, after, limit))
    }

    async fn webhook(&self, id: &str) -> Result<Option<WebhookDelivery>, StoreError> {
        look!(self, work, transactions::find(work, &SQL, id))
    }

    async fn replay_webhooks(&self, now: SystemTime, numbers: &[u64]) -> Result<u64, StoreError> {
        let now = milliseconds(now);
        transact!(self, work, transactions::replay(work, &SQL, now, numbers))
    }

    async fn outbox_depth(&self) -> Result<OutboxDepth, StoreError> {
        look!(self, work, transactions::depth(work, &SQL))
    }

    async fn forget_webhooks(&self, limits: &OutboxLimits) -> Result<u64, StoreError> {
        transact!(self, work, transactions::forget(work, &SQL, limits))
    }
}
