//! What PostgreSQL keeps for webhooks.

use std::time::SystemTime;

use async_trait::async_trait;
use sqlx::Postgres;

use super::{PostgresStore, lane::Work};
use crate::{
    DeliveryClaim, DeliveryState, FinishedDelivery, OutboxDepth, OutboxLimits, StoreError, Telling,
    UntoldPages, WebhookDelivery, WebhookStore,
    rows::milliseconds,
    webhooks::{Decode, Statements, Transaction, Value, statements, transactions},
};

const SQL: Statements = statements!(
    "json_array_elements(CAST($1 AS json)) AS list(value)",
    " FOR UPDATE OF q",
    " FOR UPDATE SKIP LOCKED",
    heads: "
        SELECT h.page_id, h.generation, h.seq, (extract(epoch FROM h.created_at) * 1000)::bigint AS created_ms,
            (extract(epoch FROM h.updated_at) * 1000)::bigint AS updated_ms,
            (extract(epoch FROM h.deleted_at) * 1000)::bigint AS deleted_ms,
            m.generation AS told_generation, m.created_at AS told_created, m.seq AS told_seq, m.deleted_at AS told_deleted
        FROM page_heads h LEFT JOIN webhook_marks m ON m.page_id = h.page_id
        WHERE h.page_id IN (
            SELECT CAST(list.value ->> 0 AS text) FROM json_array_elements(CAST($1 AS json)) AS list(value))",
    versions: "
        UPDATE page_versions SET told_at = $2 WHERE told_at IS NULL AND page_id IN (
            SELECT CAST(list.value ->> 0 AS text) FROM json_array_elements(CAST($1 AS json)) AS list(value))
        RETURNING page_id, id, seq, kind, name, user_id, reason,
            (extract(epoch FROM created_at) * 1000)::bigint AS created_ms",
    untold: "
        WITH stretch AS (
            SELECT page_id, generation, seq, deleted_at, (extract(epoch FROM updated_at) * 1000)::bigint AS updated_ms,
                (extract(epoch FROM deleted_at) * 1000)::bigint AS deleted_ms
            FROM page_heads WHERE page_id > $1 ORDER BY page_id LIMIT $2
        ), looked_at AS (
            SELECT s.page_id, CASE WHEN CASE
                    WHEN m.page_id IS NULL THEN s.updated_ms >= $3 OR coalesce(s.deleted_ms, -1) >= $3
                    ELSE m.generation <> s.generation OR m.seq < s.seq
                        OR (m.deleted_at IS NULL) <> (s.deleted_at IS NULL)
                END OR EXISTS (SELECT 1 FROM page_versions v WHERE v.page_id = s.page_id AND v.told_at IS NULL)
                THEN 1 ELSE 0 END::bigint AS is_untold
            FROM stretch s LEFT JOIN webhook_marks m ON m.page_id = s.page_id
        )
        SELECT page_id, is_untold FROM looked_at
        WHERE is_untold = 1 OR page_id = (SELECT max(page_id) FROM stretch)"
);

impl Transaction for Work<'_> {
    async fn ask<R: Decode>(
        &mut self,
        statement: &'static str,
        values: Vec<Value>,
    ) -> Result<Vec<R>, sqlx::Error> {
        let query = sqlx::query_as::<Postgres, R>(statement);
        let query = values.into_iter().fold(query, |query, value| match value {
            Value::Text(text) => query.bind(text),
            Value::Number(number) => query.bind(number),
        });
        self.fetch_all_planned(query).await
    }
}

/// Does something in a transaction of a lane.
macro_rules! transact {
    ($store:expr, $lane:ident, $work:ident, $step:expr) => {
        $store
            .in_time($store.timeout, async {
                let mut lent = $store.$lane.begin_transaction().await?;
                let $work = &mut lent;
                let answer = $step.await?;
                lent.end().await?;
                Ok(answer)
            })
            .await
    };
}

#[async_trait]
impl WebhookStore for PostgresStore {
    async fn begin_webhooks(&self, now: SystemTime) -> Result<(), StoreError> {
        transact!(
            self,
            aside,
            work,
            transactions::begin(work, &SQL, milliseconds(now))
        )
    }

    async fn tell_webhooks(&self, telling: &Telling) -> Result<u64, StoreError> {
        transact!(self, aside, work, transactions::tell(work, &SQL, telling))
    }

    async fn untold_pages(&self, after: Option<&str>, limit: usize) -> Result<UntoldPages, StoreError> {
        transact!(
            self,
            readers,
            work,
            transactions::untold(work, &SQL, after, limit)
        )
    }

    async fn claim_webhooks(&self, claim: &DeliveryClaim) -> Result<Vec<WebhookDelivery>, StoreError> {
        // Others write meanwhile where nothing is due.
        if !transact!(self, readers, work, transactions::is_due(work, &SQL, claim))? {
            return Ok(Vec::new());
        }
        transact!(self, aside, work, transactions::claim(work, &SQL, claim))
    }

    async fn finish_webhooks(
        &self,
        owner: &str,
        now: SystemTime,
        finished: &[FinishedDelivery],
    ) -> Result<(), StoreError> {
        let by = (owner, milliseconds(now));
        transact!(self, aside, work, transactions::finish(work, &SQL, by, finished))
    }

    async fn webhooks(
        &self,
        state: DeliveryState,
        after: u64,
        limit: usize,
    ) -> Result<Vec<WebhookDelivery>, StoreError> {
        transact!(
            self,
            readers,
            work,
            transactions::listed(work, &SQL, state, after, limit)
        )
    }

    async fn webhook(&self, id: &str) -> Result<Option<WebhookDelivery>, StoreError> {
        // PostgreSQL does not compare with U+0000, which is in no id.
        if id.contains('\0') {
            return Ok(None);
        }
        transact!(self, readers, work, transactions::find(work, &SQL, id))
    }

    async fn replay_webhooks(&self, now: SystemTime, numbers: &[u64]) -> Result<u64, StoreError> {
        let now = milliseconds(now);
        transact!(self, aside, work, transactions::replay(work, &SQL, now, numbers))
    }

    async fn outbox_depth(&self) -> Result<OutboxDepth, StoreError> {
        transact!(self, readers, work, transactions::depth(work, &SQL))
    }

    async fn forget_webhooks(&self, limits: &OutboxLimits) -> Result<u64, StoreError> {
        transact!(self, aside, work, transactions::forget(work, &SQL, limits))
    }
}
