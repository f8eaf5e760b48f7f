//! What SQLite is asked about the words of pages.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::types::Json;

use super::SqliteStore;
use crate::{
    Found, IdRange, PageId, Search, SearchStore, Seq, StoreError,
    batch::number,
    rows,
    search::{MAX_RANKED, MAX_SEARCHED_CHARS, Term},
};

/// Pages with the words `$1` in the ranges `[first, last]` of `$2`. What answers best has the least rank.
const SEARCH: &str = "
    WITH found AS MATERIALIZED (
        SELECT h.page_id, w.rank AS rank FROM page_words w CROSS JOIN page_heads h ON h.id = w.rowid
        WHERE page_words MATCH $1 AND h.deleted_at IS NULL
            AND EXISTS (SELECT 1 FROM json_each($2) WHERE h.page_id BETWEEN value ->> 0 AND value ->> 1)
        LIMIT $5
    )
    SELECT page_id, -rank AS score FROM found ORDER BY rank, page_id LIMIT $3 OFFSET $4";

/// Steps of SQLite's between two looks whether a search is still wanted.
const STEPS: i32 = 1000;

const TEXT: &str = "SELECT seq, substr(text, 1, $2) FROM page_snapshots WHERE page_id = $1";

#[async_trait]
impl SearchStore for SqliteStore {
    async fn search(
        &self,
        search: &Search,
        ranges: &[IdRange],
        skip: usize,
        limit: usize,
    ) -> Result<Vec<Found>, StoreError> {
        let query = sqlx::query_as(SEARCH)
            .bind(query(search))
            .bind(Json(ranges))
            .bind(number(limit))
            .bind(number(skip))
            .bind(number(MAX_RANKED));
        let asked = Arc::new(());
        let asked_still = Arc::downgrade(&asked);
        let found = self.in_time(self.timeout, async {
            let closed = |_| sqlx::Error::PoolClosed;
            let permit = self.searching.clone().acquire_owned().await.map_err(closed)?;
            let mut lease = self.searchers.lease().await?;
            // SQLite knows nothing of who gives a call up. What it works on until it looks is one of so many searches all the same.
            let is_wanted = move || {
                let _permit = &permit;
                asked_still.strong_count() > 0
            };
            lease
                .connection
                .lock_handle()
                .await?
                .set_progress_handler(STEPS, is_wanted);
            let found = query.fetch_all(&mut lease.connection).await?;
            lease.connection.lock_handle().await?.remove_progress_handler();
            lease.give_back();
            Ok(found)
        });
        let found = found.await;
        drop(asked);
        rows::found(found?)
    }

    async fn searched_text(&self, page: &PageId) -> Result<Option<(Seq, String)>, StoreError> {
        let query = sqlx::query_as(TEXT)
            .bind(page.as_str())
            .bind(number(MAX_SEARCHED_CHARS));
        Ok(rows::searched_text(self.read(query).await?))
    }
}

/// What is looked for as FTS5 reads it. Words are letters and digits, which need no escape.
fn query(search: &Search) -> String {
    let term = |term: &Term| {
        format!(
            "\"{}\"{}",
            term.words.join(" "),
            if term.is_prefix { " *" } else { "" }
        )
    };
    let all = |terms: &[Term], between: &str| terms.iter().map(term).collect::<Vec<_>>().join(between);
    let wanted = all(&search.wanted, " AND ");
    match search.excluded.is_empty() {
        true => wanted,
        false => format!("({wanted}) NOT ({})", all(&search.excluded, " OR ")),
    }
}
