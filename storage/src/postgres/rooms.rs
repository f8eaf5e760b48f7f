//! What PostgreSQL is told and asked about shared rooms.

use async_trait::async_trait;

use super::PostgresStore;
use crate::{
    RoomStore, SharedRoom, StoreError, readable,
    rows::{self, milliseconds},
};

const ROOM: &str = "SELECT room, name, max_members, (extract(epoch FROM expires_at) * 1000)::bigint
    FROM shared_rooms WHERE room = $1";

const KEEP: &str = "INSERT INTO shared_rooms (room, name, max_members, expires_at)
    VALUES ($1, $2, $3, to_timestamp($4::bigint / 1000.0))
    ON CONFLICT (room) DO UPDATE SET
        name = excluded.name, max_members = excluded.max_members, expires_at = excluded.expires_at";

const FORGET: &str = "DELETE FROM shared_rooms WHERE room = $1 RETURNING 1";

const FORGET_REMOVALS: &str = "DELETE FROM room_removals WHERE room = $1";

const REMOVE: &str = "INSERT INTO room_removals (room, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING";

const IS_REMOVED: &str = "SELECT user_id FROM room_removals WHERE room = $1 AND user_id = $2";

#[async_trait]
impl RoomStore for PostgresStore {
    async fn shared_room(&self, room: &str) -> Result<Option<SharedRoom>, StoreError> {
        let query = || sqlx::query_as(ROOM).bind(readable::text(room));
        Ok(rows::shared_room(self.read(query).await?))
    }

    async fn keep_room(&self, room: &SharedRoom) -> Result<(), StoreError> {
        let keep = sqlx::query(KEEP)
            .bind(readable::text(&room.room))
            .bind(room.name.as_deref().map(readable::text))
            .bind(room.max_members.map(i64::from))
            .bind(room.expires_at.map(milliseconds));
        self.write(vec![keep]).await.map(drop)
    }

    async fn forget_room(&self, room: &str) -> Result<bool, StoreError> {
        let statements =
            [FORGET, FORGET_REMOVALS].map(|statement| sqlx::query(statement).bind(readable::text(room)));
        Ok(!self.write(statements.into()).await?.is_empty())
    }

    async fn remove_from_room(&self, room: &str, user: &str) -> Result<(), StoreError> {
        let remove = sqlx::query(REMOVE)
            .bind(readable::text(room))
            .bind(readable::text(user));
        self.write(vec![remove]).await.map(drop)
    }

    async fn is_removed(&self, room: &str, user: &str) -> Result<bool, StoreError> {
        let query = || {
            sqlx::query_as(IS_REMOVED)
                .bind(readable::text(room))
                .bind(readable::text(user))
        };
        let found: Vec<(String,)> = self.read(query).await?;
        Ok(!found.is_empty())
    }
}
