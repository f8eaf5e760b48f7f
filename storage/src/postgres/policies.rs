//! What PostgreSQL is told and asked about how long the past of pages is kept.

use async_trait::async_trait;

use super::PostgresStore;
use crate::{
    HistoryPolicy, HistoryPolicyStore, Keep, MAX_HISTORY_POLICIES, PageId, StoreError,
    access::matching_patterns, batch::number, policies, readable,
};

/// The policy of page `$1`, whose id and prefixes are `$2`.
const NEAREST: &str = "
    SELECT pages, keep FROM history_policies WHERE pages = ANY($2::text[])
    ORDER BY pages <> $1, length(pages) DESC LIMIT 1";

const POLICIES: &str = "
    SELECT pages, keep FROM history_policies WHERE pages > coalesce($1::text, '') ORDER BY pages LIMIT $2";

const SET: &str = "
    INSERT INTO history_policies (pages, keep) SELECT $1, $2
    WHERE EXISTS (SELECT 1 FROM history_policies WHERE pages = $1) OR (SELECT count(*) FROM history_policies) < $3
    ON CONFLICT (pages) DO UPDATE SET keep = excluded.keep
    RETURNING 1";

const REMOVE: &str = "DELETE FROM history_policies WHERE pages = $1 RETURNING 1";

impl PostgresStore {
    /// Whether what a snapshot of the page covers is kept.
    pub(super) async fn keeps_history_of(&self, page: &PageId) -> Result<bool, StoreError> {
        let policy = self.history_policy(page).await?;
        Ok(policy.map_or(self.keeps_history, |policy| policy.keep != Keep::Nothing))
    }
}

#[async_trait]
impl HistoryPolicyStore for PostgresStore {
    async fn history_policy(&self, page: &PageId) -> Result<Option<HistoryPolicy>, StoreError> {
        let query = || {
            sqlx::query_as(NEAREST)
                .bind(page.as_str())
                .bind(matching_patterns(page))
        };
        Ok(policies::stored(self.read(query).await?)?.pop())
    }

    async fn history_policies(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<HistoryPolicy>, StoreError> {
        let query = || {
            sqlx::query_as(POLICIES)
                .bind(after.map(readable::text))
                .bind(number(limit))
        };
        policies::stored(self.read(query).await?)
    }

    async fn set_history_policy(&self, policy: &HistoryPolicy) -> Result<bool, StoreError> {
        let set = sqlx::query(SET)
            .bind(policy.pages.as_str())
            .bind(policy.keep.to_string())
            .bind(number(MAX_HISTORY_POLICIES));
        Ok(!self.write(vec![set]).await?.is_empty())
    }

    async fn remove_history_policy(&self, pages: &PageId) -> Result<bool, StoreError> {
        let remove = sqlx::query(REMOVE).bind(pages.as_str());
        Ok(!self.write(vec![remove]).await?.is_empty())
    }
}
