//! What SQLite is told and asked about people.

use std::time::SystemTime;

use async_trait::async_trait;
use serde_json::json;
use sqlx::{Row, types::Json};

use super::SqliteStore;
use crate::{
    AccessStore, AuditEntry, AuditQuery, LastSeen, MAX_FORGOTTEN_AT_ONCE, PageId, Permission, StoreError,
    UserRecord,
    access::matching_patterns,
    batch::number,
    readable,
    rows::{self, milliseconds},
};

const PERMISSIONS_FOR: &str = "SELECT page_id, user_id, role, expires_at FROM page_permissions
    WHERE user_id IN ($1, '*') AND page_id IN (SELECT value FROM json_each($2))";

const PERMITTED: &str =
    "SELECT DISTINCT page_id FROM page_permissions WHERE user_id IN ($1, '*') ORDER BY page_id LIMIT $2";

const PERMISSIONS_ON: &str = "SELECT page_id, user_id, role, expires_at FROM page_permissions
    WHERE page_id = $1 AND user_id > coalesce($2, '') ORDER BY user_id LIMIT $3";

const GRANT: &str =
    "INSERT INTO page_permissions (page_id, user_id, role, expires_at) VALUES ($1, $2, $3, $4)
    ON CONFLICT (page_id, user_id) DO UPDATE SET
        role = excluded.role, expires_at = excluded.expires_at, updated_at = excluded.updated_at";

const REVOKE: &str = "DELETE FROM page_permissions WHERE page_id = $1 AND user_id = $2 RETURNING 1";

const USER: &str = "SELECT token_version, signed_out_at, blocked FROM page_users WHERE user_id = $1";

const SIGN_OUT: &str = "INSERT INTO page_users (user_id, token_version, signed_out_at) VALUES ($1, 1, $2)
    ON CONFLICT (user_id) DO UPDATE SET
        token_version = coalesce(token_version, 0) + 1,
        signed_out_at = max(coalesce(signed_out_at, 0), excluded.signed_out_at)
    RETURNING token_version";

const BLOCK: &str = "INSERT INTO page_users (user_id, blocked) VALUES ($1, $2)
    ON CONFLICT (user_id) DO UPDATE SET blocked = excluded.blocked";

const AUDIT: &str = "INSERT INTO access_audit (at, action, outcome, user_id, page_id, address, detail)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6
    FROM json_each($1) ORDER BY key";

const AUDITED: &str = "SELECT id, at, action, outcome, user_id, page_id, address, detail FROM access_audit
    WHERE ($1 IS NULL OR user_id = $1) AND ($2 IS NULL OR action = $2) AND ($3 IS NULL OR outcome = $3)
        AND ($4 IS NULL OR at >= $4) AND ($5 IS NULL OR at < $5) AND ($6 IS NULL OR id < $6)
        AND ($8 IS NULL OR page_id = $8)
    ORDER BY id DESC LIMIT $7";

const FORGET_AUDIT: &str = "DELETE FROM access_audit
    WHERE id IN (SELECT id FROM access_audit WHERE at < $1 ORDER BY at LIMIT $2) RETURNING 1";

const SEE: &str = "INSERT INTO last_seen (room, user_id, at)
    SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each($1) WHERE true
    ON CONFLICT (room, user_id) DO UPDATE SET at = max(at, excluded.at)";

const SEEN: &str = "SELECT room, user_id, at FROM last_seen
    WHERE room = $1 ORDER BY at DESC, user_id LIMIT $2";

const FORGET_SEEN: &str = "DELETE FROM last_seen WHERE room = $1 AND user_id = $2";

#[async_trait]
impl AccessStore for SqliteStore {
    async fn permissions_for(&self, user: &str, page: &PageId) -> Result<Vec<Permission>, StoreError> {
        let query = sqlx::query_as(PERMISSIONS_FOR)
            .bind(readable::text(user))
            .bind(Json(matching_patterns(page)));
        Ok(rows::permissions(self.read(query).await?))
    }

    async fn permitted(&self, user: &str, limit: usize) -> Result<Vec<String>, StoreError> {
        let query = sqlx::query_as(PERMITTED)
            .bind(readable::text(user))
            .bind(number(limit));
        let rows: Vec<(String,)> = self.read(query).await?;
        Ok(rows.into_iter().map(|(name,)| name).collect())
    }

    async fn permissions_on(
        &self,
        page: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Permission>, StoreError> {
        let query = sqlx::query_as(PERMISSIONS_ON)
            .bind(readable::text(page))
            .bind(after.map(readable::text))
            .bind(number(limit));
        Ok(rows::permissions(self.read(query).await?))
    }

    async fn grant(&self, permission: &Permission) -> Result<(), StoreError> {
        let grant = sqlx::query(GRANT)
            .bind(readable::text(&permission.page))
            .bind(readable::text(&permission.user))
            .bind(readable::text(&permission.role))
            .bind(permission.expires_at.map(milliseconds));
        self.write(&self.aside, 0, vec![grant]).await.map(drop)
    }

    async fn revoke(&self, page: &str, user: &str) -> Result<bool, StoreError> {
        let revoke = sqlx::query(REVOKE)
            .bind(readable::text(page))
            .bind(readable::text(user));
        Ok(!self.write(&self.aside, 0, vec![revoke]).await?.is_empty())
    }

    async fn user(&self, user: &str) -> Result<UserRecord, StoreError> {
        let query = sqlx::query_as(USER).bind(readable::text(user));
        Ok(rows::user(self.read(query).await?))
    }

    async fn sign_out(&self, user: &str, at: SystemTime) -> Result<u64, StoreError> {
        let sign_out = sqlx::query(SIGN_OUT)
            .bind(readable::text(user))
            .bind(milliseconds(at));
        let rows = self.write(&self.aside, 0, vec![sign_out]).await?;
        let version = rows.first().map_or(Ok(0), |row| row.try_get::<i64, _>(0));
        version.map(rows::count).map_err(|error| self.failure(error))
    }

    async fn block(&self, user: &str, blocked: bool) -> Result<(), StoreError> {
        let block = sqlx::query(BLOCK).bind(readable::text(user)).bind(blocked);
        self.write(&self.aside, 0, vec![block]).await.map(drop)
    }

    async fn audit(&self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        let rows = entries.iter().map(|entry| {
            json!([
                milliseconds(entry.at),
                readable::text(&entry.action),
                readable::text(&entry.outcome),
                entry.user.as_deref().map(readable::text),
                entry.page.as_deref().map(readable::text),
                entry.address.as_deref().map(readable::text),
                readable::text(&entry.detail)
            ])
        });
        let rows: Vec<_> = rows.collect();
        self.write(&self.aside, 0, vec![sqlx::query(AUDIT).bind(Json(rows))])
            .await
            .map(drop)
    }

    async fn audited(&self, query: &AuditQuery) -> Result<Vec<(u64, AuditEntry)>, StoreError> {
        let asked = sqlx::query_as(AUDITED)
            .bind(query.user.as_deref().map(readable::text))
            .bind(query.action.as_deref().map(readable::text))
            .bind(query.outcome.as_deref().map(readable::text))
            .bind(query.from.map(milliseconds))
            .bind(query.to.map(milliseconds))
            .bind(query.before.map(number))
            .bind(number(query.limit))
            .bind(query.page.as_deref().map(readable::text));
        Ok(rows::audit(self.read(asked).await?))
    }

    async fn forget_audit(&self, before: SystemTime) -> Result<u64, StoreError> {
        let forget = sqlx::query(FORGET_AUDIT)
            .bind(milliseconds(before))
            .bind(number(MAX_FORGOTTEN_AT_ONCE));
        Ok(self.write(&self.aside, 0, vec![forget]).await?.len() as u64)
    }

    async fn see(&self, seen: &[LastSeen]) -> Result<(), StoreError> {
        let rows = seen.iter().map(|LastSeen { room, user, at }| {
            json!([readable::text(room), readable::text(user), milliseconds(*at)])
        });
        let rows: Vec<_> = rows.collect();
        self.write(&self.aside, 0, vec![sqlx::query(SEE).bind(Json(rows))])
            .await
            .map(drop)
    }

    async fn seen(&self, room: &str, limit: usize) -> Result<Vec<LastSeen>, StoreError> {
        let query = sqlx::query_as(SEEN)
            .bind(readable::text(room))
            .bind(number(limit));
        Ok(rows::seen(self.read(query).await?))
    }

    async fn forget_seen(&self, room: &str, user: &str) -> Result<(), StoreError> {
        let forget = sqlx::query(FORGET_SEEN)
            .bind(readable::text(room))
            .bind(readable::text(user));
        self.write(&self.aside, 0, vec![forget]).await.map(drop)
    }
}
