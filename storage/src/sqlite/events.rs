//! What SQLite is told and asked about rooms without a document.

use std::{collections::BTreeSet, time::SystemTime};

use async_trait::async_trait;
use serde_json::json;
use sqlx::types::Json;

use super::{SqliteStore, statements};
use crate::{
    EventBatch, EventId, EventStore, KeptQuery, MAX_FORGOTTEN_AT_ONCE, ReadEvent, StoreError,
    batch::number,
    rows::{self, milliseconds},
};

const EPOCH: &str = "SELECT epoch FROM event_epoch";

const LAST: &str = "SELECT coalesce(max(event_offset), 0) FROM kept_events";

const KEEP: &str = "INSERT INTO kept_events (room, event_offset, event, payload, at, keep_until)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5
    FROM json_each($1) WHERE true ON CONFLICT (room, event_offset) DO NOTHING";

const TRIM: &str = "DELETE FROM kept_events WHERE room = $1 AND event_offset IN (
    SELECT event_offset FROM kept_events WHERE room = $1 AND event = $2
    ORDER BY event_offset DESC LIMIT $4 OFFSET $3)";

const KEEP_ID: &str = "INSERT INTO event_ids (id, digest, delivered, keep_until) VALUES ($1, $2, $3, $4)
    ON CONFLICT (id) DO UPDATE SET
        digest = excluded.digest, delivered = excluded.delivered, keep_until = excluded.keep_until";

const KEEP_STATE: &str = "INSERT INTO event_states (room, state) VALUES ($1, $2)
    ON CONFLICT (room) DO UPDATE SET state = excluded.state";

const KEPT: &str = "SELECT room, event_offset, event, payload, at FROM (
        SELECT room, event_offset, event, payload, at,
            coalesce(sum(length(CAST(payload AS BLOB))) OVER (ORDER BY event_offset, room
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS bytes
        FROM kept_events
        WHERE room IN (SELECT value FROM json_each($1)) AND event_offset > $2 AND event_offset <= $3
        ORDER BY event_offset, room LIMIT $4)
    WHERE bytes < $5 ORDER BY event_offset, room";

const ID: &str = "SELECT id, digest, delivered, keep_until FROM event_ids WHERE id = $1";

const STATE: &str = "SELECT state FROM event_states WHERE room = $1";

const FORGET: &str = "DELETE FROM kept_events WHERE (room, event_offset) IN (
    SELECT room, event_offset FROM kept_events WHERE keep_until <= $1 LIMIT $2) RETURNING 1";

const FORGET_IDS: &str = "DELETE FROM event_ids WHERE id IN (
    SELECT id FROM event_ids WHERE keep_until <= $1 LIMIT $2) RETURNING 1";

#[async_trait]
impl EventStore for SqliteStore {
    async fn event_epoch(&self) -> Result<String, StoreError> {
        let epochs: Vec<(String,)> = self.read(sqlx::query_as(EPOCH)).await?;
        Ok(epochs
            .into_iter()
            .next()
            .map_or_else(String::new, |(epoch,)| epoch))
    }

    async fn last_event(&self) -> Result<u64, StoreError> {
        let last: Vec<(i64,)> = self.read(sqlx::query_as(LAST)).await?;
        Ok(last.first().map_or(0, |(last,)| rows::count(*last)))
    }

    async fn keep_events(&self, batch: &EventBatch) -> Result<(), StoreError> {
        let bytes = batch.events.iter().map(|event| event.payload.len()).sum();
        let kept = batch.events.iter().map(|event| {
            json!([
                event.room,
                event.offset,
                event.event,
                event.payload,
                milliseconds(event.at),
                milliseconds(event.until)
            ])
        });
        let kept: Vec<_> = kept.collect();
        let mut scripts = vec![sqlx::query(statements::BEGIN)];
        if !kept.is_empty() {
            scripts.push(sqlx::query(KEEP).bind(Json(kept)));
        }
        let names: BTreeSet<_> = batch
            .events
            .iter()
            .map(|e| (&e.room, &e.event, e.count))
            .collect();
        for (room, event, count) in names {
            let trim = sqlx::query(TRIM).bind(room).bind(event).bind(number(count));
            scripts.push(trim.bind(number(MAX_FORGOTTEN_AT_ONCE)));
        }
        for id in &batch.ids {
            let keep = sqlx::query(KEEP_ID).bind(&id.id).bind(id.digest.to_vec());
            scripts.push(keep.bind(number(id.delivered)).bind(milliseconds(id.until)));
        }
        for (room, state) in &batch.states {
            scripts.push(sqlx::query(KEEP_STATE).bind(room).bind(state));
        }
        scripts.push(sqlx::query(statements::COMMIT));
        self.write(&self.aside, bytes, scripts).await.map(drop)
    }

    async fn kept_events(&self, query: &KeptQuery) -> Result<Vec<ReadEvent>, StoreError> {
        let asked = sqlx::query_as(KEPT)
            .bind(Json(&query.rooms))
            .bind(number(query.after))
            .bind(number(query.up_to))
            .bind(number(query.limit))
            .bind(number(query.max_bytes));
        Ok(rows::events(self.read(asked).await?))
    }

    async fn event_id(&self, id: &str) -> Result<Option<EventId>, StoreError> {
        Ok(rows::event_id(self.read(sqlx::query_as(ID).bind(id)).await?))
    }

    async fn event_state(&self, room: &str) -> Result<Option<String>, StoreError> {
        let states: Vec<(String,)> = self.read(sqlx::query_as(STATE).bind(room)).await?;
        Ok(states.into_iter().next().map(|(state,)| state))
    }

    async fn forget_events(&self, now: SystemTime) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        for statement in [FORGET, FORGET_IDS] {
            let forget = sqlx::query(statement)
                .bind(milliseconds(now))
                .bind(number(MAX_FORGOTTEN_AT_ONCE));
            forgotten += self.write(&self.aside, 0, vec![forget]).await?.len() as u64;
        }
        Ok(forgotten)
    }
}
