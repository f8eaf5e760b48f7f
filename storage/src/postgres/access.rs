//! What PostgreSQL is told and asked about people.

use std::time::SystemTime;

use async_trait::async_trait;
use sqlx::Row;

use super::{PostgresStore, failure};
use crate::{
    AccessListener, AccessStore, AuditEntry, AuditQuery, LastSeen, MAX_FORGOTTEN_AT_ONCE, PageId, Permission,
    StoreError, UserRecord,
    access::matching_patterns,
    batch::number,
    readable,
    rows::{self, milliseconds},
};

const PERMISSIONS_FOR: &str = "
    SELECT page_id, user_id, role, (extract(epoch FROM expires_at) * 1000)::bigint FROM page_permissions
    WHERE user_id IN ($1, '*') AND page_id = ANY($2::text[])";

const PERMITTED: &str =
    "SELECT DISTINCT page_id FROM page_permissions WHERE user_id IN ($1, '*') ORDER BY page_id LIMIT $2";

const PERMISSIONS_ON: &str = "
    SELECT page_id, user_id, role, (extract(epoch FROM expires_at) * 1000)::bigint FROM page_permissions
    WHERE page_id = $1 AND user_id > coalesce($2::text, '') ORDER BY user_id LIMIT $3";

const GRANT: &str = "
    INSERT INTO page_permissions (page_id, user_id, role, expires_at)
    VALUES ($1, $2, $3, to_timestamp($4::bigint / 1000.0))
    ON CONFLICT (page_id, user_id) DO UPDATE SET
        role = excluded.role, expires_at = excluded.expires_at, updated_at = excluded.updated_at";

const REVOKE: &str = "DELETE FROM page_permissions WHERE page_id = $1 AND user_id = $2 RETURNING 1";

const USER: &str = "
    SELECT token_version, (extract(epoch FROM signed_out_at) * 1000)::bigint, blocked FROM page_users
    WHERE user_id = $1";

const SIGN_OUT: &str = "
    INSERT INTO page_users AS u (user_id, token_version, signed_out_at)
    VALUES ($1, 1, to_timestamp($2::bigint / 1000.0))
    ON CONFLICT (user_id) DO UPDATE SET
        token_version = coalesce(u.token_version, 0) + 1,
        signed_out_at = greatest(u.signed_out_at, excluded.signed_out_at)
    RETURNING token_version";

const BLOCK: &str = "
    INSERT INTO page_users (user_id, blocked) VALUES ($1, $2)
    ON CONFLICT (user_id) DO UPDATE SET blocked = excluded.blocked";

const AUDIT: &str = "
    INSERT INTO access_audit (at, action, outcome, user_id, page_id, address, detail)
    SELECT to_timestamp(at / 1000.0), action, outcome, user_id, page_id, address, detail
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
        AS entry (at, action, outcome, user_id, page_id, address, detail)";

const AUDITED: &str = "
    SELECT id, (extract(epoch FROM at) * 1000)::bigint, action, outcome, user_id, page_id, address, detail
    FROM access_audit
    WHERE ($1::text IS NULL OR user_id = $1) AND ($2::text IS NULL OR action = $2)
        AND ($3::text IS NULL OR outcome = $3)
        AND ($4::bigint IS NULL OR at >= to_timestamp($4 / 1000.0))
        AND ($5::bigint IS NULL OR at < to_timestamp($5 / 1000.0))
        AND ($6::bigint IS NULL OR id < $6)
        AND ($8::text IS NULL OR page_id = $8)
    ORDER BY id DESC LIMIT $7";

const FORGET_AUDIT: &str = "DELETE FROM access_audit
    WHERE id IN (SELECT id FROM access_audit WHERE at < to_timestamp($1::bigint / 1000.0) ORDER BY at LIMIT $2) RETURNING 1";

const SEE: &str = "
    INSERT INTO last_seen AS l (room, user_id, at)
    SELECT room, user_id, to_timestamp(at / 1000.0)
    FROM unnest($1::text[], $2::text[], $3::bigint[]) AS seen (room, user_id, at)
    ON CONFLICT (room, user_id) DO UPDATE SET at = greatest(l.at, excluded.at)";

const SEEN: &str = "
    SELECT room, user_id, (extract(epoch FROM at) * 1000)::bigint FROM last_seen
    WHERE room = $1 ORDER BY at DESC, user_id LIMIT $2";

const FORGET_SEEN: &str = "DELETE FROM last_seen WHERE room = $1 AND user_id = $2";

#[async_trait]
impl AccessStore for PostgresStore {
    async fn permissions_for(&self, user: &str, page: &PageId) -> Result<Vec<Permission>, StoreError> {
        let query = || {
            sqlx::query_as(PERMISSIONS_FOR)
                .bind(readable::text(user))
                .bind(matching_patterns(page))
        };
        Ok(rows::permissions(self.read(query).await?))
    }

    async fn permitted(&self, user: &str, limit: usize) -> Result<Vec<String>, StoreError> {
        let query = || {
            sqlx::query_as(PERMITTED)
                .bind(readable::text(user))
                .bind(number(limit))
        };
        let rows: Vec<(String,)> = self.read(query).await?;
        Ok(rows.into_iter().map(|(name,)| name).collect())
    }

    async fn permissions_on(
        &self,
        page: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Permission>, StoreError> {
        let query = || {
            sqlx::query_as(PERMISSIONS_ON)
                .bind(readable::text(page))
                .bind(after.map(readable::text))
                .bind(number(limit))
        };
        Ok(rows::permissions(self.read(query).await?))
    }

    async fn grant(&self, permission: &Permission) -> Result<(), StoreError> {
        let grant = sqlx::query(GRANT)
            .bind(readable::text(&permission.page))
            .bind(readable::text(&permission.user))
            .bind(readable::text(&permission.role))
            .bind(permission.expires_at.map(milliseconds));
        self.write(vec![grant]).await.map(drop)
    }

    async fn revoke(&self, page: &str, user: &str) -> Result<bool, StoreError> {
        let revoke = sqlx::query(REVOKE)
            .bind(readable::text(page))
            .bind(readable::text(user));
        Ok(!self.write(vec![revoke]).await?.is_empty())
    }

    async fn user(&self, user: &str) -> Result<UserRecord, StoreError> {
        let query = || sqlx::query_as(USER).bind(readable::text(user));
        Ok(rows::user(self.read(query).await?))
    }

    async fn sign_out(&self, user: &str, at: SystemTime) -> Result<u64, StoreError> {
        let sign_out = sqlx::query(SIGN_OUT)
            .bind(readable::text(user))
            .bind(milliseconds(at));
        let rows = self.write(vec![sign_out]).await?;
        let version = rows.first().map_or(Ok(0), |row| row.try_get::<i64, _>(0));
        version.map(rows::count).map_err(failure)
    }

    async fn block(&self, user: &str, blocked: bool) -> Result<(), StoreError> {
        let block = sqlx::query(BLOCK).bind(readable::text(user)).bind(blocked);
        self.write(vec![block]).await.map(drop)
    }

    async fn audit(&self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        let optional = |field: fn(&AuditEntry) -> Option<&str>| {
            let texts = entries.iter().map(|entry| field(entry).map(readable::text));
            texts.collect::<Vec<_>>()
        };
        let texts = |field: fn(&AuditEntry) -> &str| {
            let texts = entries.iter().map(|entry| readable::text(field(entry)));
            texts.collect::<Vec<_>>()
        };
        let insert = sqlx::query(AUDIT)
            .bind(
                entries
                    .iter()
                    .map(|entry| milliseconds(entry.at))
                    .collect::<Vec<_>>(),
            )
            .bind(texts(|entry| &entry.action))
            .bind(texts(|entry| &entry.outcome))
            .bind(optional(|entry| entry.user.as_deref()))
            .bind(optional(|entry| entry.page.as_deref()))
            .bind(optional(|entry| entry.address.as_deref()))
            .bind(texts(|entry| &entry.detail));
        self.write(vec![insert]).await.map(drop)
    }

    async fn audited(&self, query: &AuditQuery) -> Result<Vec<(u64, AuditEntry)>, StoreError> {
        let asked = || {
            sqlx::query_as(AUDITED)
                .bind(query.user.as_deref().map(readable::text))
                .bind(query.action.as_deref().map(readable::text))
                .bind(query.outcome.as_deref().map(readable::text))
                .bind(query.from.map(milliseconds))
                .bind(query.to.map(milliseconds))
                .bind(query.before.map(number))
                .bind(number(query.limit))
                .bind(query.page.as_deref().map(readable::text))
        };
        Ok(rows::audit(self.read(asked).await?))
    }

    async fn forget_audit(&self, before: SystemTime) -> Result<u64, StoreError> {
        let forget = sqlx::query(FORGET_AUDIT)
            .bind(milliseconds(before))
            .bind(number(MAX_FORGOTTEN_AT_ONCE));
        Ok(self.write(vec![forget]).await?.len() as u64)
    }

    async fn see(&self, seen: &[LastSeen]) -> Result<(), StoreError> {
        let texts = |field: fn(&LastSeen) -> &str| {
            let texts = seen.iter().map(|seen| readable::text(field(seen)));
            texts.collect::<Vec<_>>()
        };
        let see = sqlx::query(SEE)
            .bind(texts(|seen| &seen.room))
            .bind(texts(|seen| &seen.user))
            .bind(seen.iter().map(|seen| milliseconds(seen.at)).collect::<Vec<_>>());
        self.write(vec![see]).await.map(drop)
    }

    async fn seen(&self, room: &str, limit: usize) -> Result<Vec<LastSeen>, StoreError> {
        let query = || {
            sqlx::query_as(SEEN)
                .bind(readable::text(room))
                .bind(number(limit))
        };
        Ok(rows::seen(self.read(query).await?))
    }

    async fn forget_seen(&self, room: &str, user: &str) -> Result<(), StoreError> {
        let forget = sqlx::query(FORGET_SEEN)
            .bind(readable::text(room))
            .bind(readable::text(user));
        self.write(vec![forget]).await.map(drop)
    }

    fn access_listener(&self) -> Option<AccessListener> {
        Some(AccessListener::new(self.direct.clone()))
    }
}
