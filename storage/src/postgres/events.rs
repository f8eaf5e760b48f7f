//! What PostgreSQL is told and asked about rooms without a document.

use std::{collections::BTreeSet, time::SystemTime};

use async_trait::async_trait;

use super::PostgresStore;
use crate::{
    EventBatch, EventId, EventStore, KeptQuery, MAX_FORGOTTEN_AT_ONCE, ReadEvent, StoreError,
    batch::number,
    rows::{self, milliseconds},
};

pub(super) const EPOCH: &str = "SELECT epoch FROM event_epoch";

const LAST: &str = "SELECT coalesce(max(event_offset), 0)::bigint FROM kept_events";

const KEEP: &str = "
    INSERT INTO kept_events (room, event_offset, event, payload, at, keep_until)
    SELECT room, event_offset, event, payload, to_timestamp(at / 1000.0), to_timestamp(keep_until / 1000.0)
    FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::bigint[])
        AS entry (room, event_offset, event, payload, at, keep_until)
    ON CONFLICT (room, event_offset) DO NOTHING";

const TRIM: &str = "
    DELETE FROM kept_events WHERE (room, event_offset) IN (
        SELECT old.room, old.event_offset
        FROM unnest($1::text[], $2::text[], $3::bigint[]) AS name (room, event, keep)
        CROSS JOIN LATERAL (
            SELECT k.room, k.event_offset FROM kept_events k
            WHERE k.room = name.room AND k.event = name.event
            ORDER BY k.event_offset DESC OFFSET name.keep LIMIT $4) AS old)";

const KEEP_IDS: &str = "
    INSERT INTO event_ids (id, digest, delivered, keep_until)
    SELECT id, digest, delivered, to_timestamp(keep_until / 1000.0)
    FROM unnest($1::text[], $2::bytea[], $3::bigint[], $4::bigint[]) AS entry (id, digest, delivered, keep_until)
    ON CONFLICT (id) DO UPDATE SET
        digest = excluded.digest, delivered = excluded.delivered, keep_until = excluded.keep_until";

const KEEP_STATE: &str = "
    INSERT INTO event_states (room, state) VALUES ($1, $2)
    ON CONFLICT (room) DO UPDATE SET state = excluded.state";

const KEPT: &str = "
    SELECT room, event_offset, event, payload, (extract(epoch FROM at) * 1000)::bigint FROM (
        SELECT room, event_offset, event, payload, at,
            coalesce(sum(octet_length(payload)) OVER (ORDER BY event_offset, room
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS bytes
        FROM kept_events
        WHERE room = ANY($1::text[]) AND event_offset > $2 AND event_offset <= $3
        ORDER BY event_offset, room LIMIT $4) AS found
    WHERE bytes < $5 ORDER BY event_offset, room";

const ID: &str = "
    SELECT id, digest, delivered, (extract(epoch FROM keep_until) * 1000)::bigint FROM event_ids WHERE id = $1";

const STATE: &str = "SELECT state FROM event_states WHERE room = $1";

const FORGET: &str = "
    DELETE FROM kept_events WHERE (room, event_offset) IN (
        SELECT room, event_offset FROM kept_events
        WHERE keep_until <= to_timestamp($1::bigint / 1000.0) LIMIT $2) RETURNING 1";

const FORGET_IDS: &str = "
    DELETE FROM event_ids WHERE id IN (
        SELECT id FROM event_ids WHERE keep_until <= to_timestamp($1::bigint / 1000.0) LIMIT $2) RETURNING 1";

#[async_trait]
impl EventStore for PostgresStore {
    async fn event_epoch(&self) -> Result<String, StoreError> {
        let epochs: Vec<(String,)> = self.read(|| sqlx::query_as(EPOCH)).await?;
        Ok(epochs
            .into_iter()
            .next()
            .map_or_else(String::new, |(epoch,)| epoch))
    }

    async fn last_event(&self) -> Result<u64, StoreError> {
        let last: Vec<(i64,)> = self.read(|| sqlx::query_as(LAST)).await?;
        Ok(last.first().map_or(0, |(last,)| rows::count(*last)))
    }

    async fn keep_events(&self, batch: &EventBatch) -> Result<(), StoreError> {
        let EventBatch { events, ids, states } = batch;
        let mut statements = Vec::new();
        if !events.is_empty() {
            let keep = sqlx::query(KEEP)
                .bind(events.iter().map(|event| event.room.as_str()).collect::<Vec<_>>())
                .bind(
                    events
                        .iter()
                        .map(|event| number(event.offset))
                        .collect::<Vec<_>>(),
                )
                .bind(
                    events
                        .iter()
                        .map(|event| event.event.as_str())
                        .collect::<Vec<_>>(),
                )
                .bind(
                    events
                        .iter()
                        .map(|event| event.payload.as_str())
                        .collect::<Vec<_>>(),
                )
                .bind(
                    events
                        .iter()
                        .map(|event| milliseconds(event.at))
                        .collect::<Vec<_>>(),
                )
                .bind(
                    events
                        .iter()
                        .map(|event| milliseconds(event.until))
                        .collect::<Vec<_>>(),
                );
            statements.push(keep);
            let names: BTreeSet<_> = events.iter().map(|e| (&*e.room, &*e.event, e.count)).collect();
            let trim = sqlx::query(TRIM)
                .bind(names.iter().map(|(room, _, _)| *room).collect::<Vec<_>>())
                .bind(names.iter().map(|(_, event, _)| *event).collect::<Vec<_>>())
                .bind(
                    names
                        .iter()
                        .map(|(_, _, count)| number(*count))
                        .collect::<Vec<_>>(),
                )
                .bind(number(MAX_FORGOTTEN_AT_ONCE));
            statements.push(trim);
        }
        if !ids.is_empty() {
            let keep = sqlx::query(KEEP_IDS)
                .bind(ids.iter().map(|id| id.id.as_str()).collect::<Vec<_>>())
                .bind(ids.iter().map(|id| id.digest.to_vec()).collect::<Vec<_>>())
                .bind(ids.iter().map(|id| number(id.delivered)).collect::<Vec<_>>())
                .bind(ids.iter().map(|id| milliseconds(id.until)).collect::<Vec<_>>());
            statements.push(keep);
        }
        for (room, state) in states {
            statements.push(sqlx::query(KEEP_STATE).bind(room).bind(state));
        }
        if statements.is_empty() {
            return Ok(());
        }
        let bytes = events.iter().map(|event| event.payload.len()).sum();
        self.write_large(&self.aside, bytes, statements).await.map(drop)
    }

    async fn kept_events(&self, query: &KeptQuery) -> Result<Vec<ReadEvent>, StoreError> {
        let asked = || {
            sqlx::query_as(KEPT)
                .bind(&query.rooms)
                .bind(number(query.after))
                .bind(number(query.up_to))
                .bind(number(query.limit))
                .bind(number(query.max_bytes))
        };
        Ok(rows::events(self.read(asked).await?))
    }

    async fn event_id(&self, id: &str) -> Result<Option<EventId>, StoreError> {
        Ok(rows::event_id(self.read(|| sqlx::query_as(ID).bind(id)).await?))
    }

    async fn event_state(&self, room: &str) -> Result<Option<String>, StoreError> {
        let states: Vec<(String,)> = self.read(|| sqlx::query_as(STATE).bind(room)).await?;
        Ok(states.into_iter().next().map(|(state,)| state))
    }

    async fn forget_events(&self, now: SystemTime) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        for statement in [FORGET, FORGET_IDS] {
            let forget = sqlx::query(statement)
                .bind(milliseconds(now))
                .bind(number(MAX_FORGOTTEN_AT_ONCE));
            forgotten += self.write(vec![forget]).await?.len() as u64;
        }
        Ok(forgotten)
    }
}
