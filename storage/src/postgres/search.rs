//! What PostgreSQL is asked about the words of pages.

use async_trait::async_trait;

use super::PostgresStore;
use crate::{
    Found, IdRange, PageId, Search, SearchStore, Seq, StoreError,
    batch::number,
    rows,
    search::{MAX_RANKED, MAX_SEARCHED_CHARS, Term},
};

/// Pages with the words `$1` in the ranges from `$2` to `$3`. The longer a page, the less a word of it counts. Any of the words (`$7`) counts by
/// itself: how near they are to each other takes time with the square of how many there are, and of how often each is there.
const SEARCH: &str = "
    WITH found AS (
        SELECT w.page_id, w.words FROM page_words w JOIN page_heads h ON h.page_id = w.page_id
        WHERE w.words @@ to_tsquery('simple', $1) AND h.deleted_at IS NULL
            AND EXISTS (SELECT 1 FROM unnest($2::text[], $3::text[]) AS r (first, last)
                WHERE w.page_id BETWEEN (r.first COLLATE \"C\") AND (r.last COLLATE \"C\"))
        LIMIT $6
    )
    SELECT page_id, ts_rank(words, to_tsquery('simple', $7), 1)::float8 AS score FROM found
    ORDER BY score DESC, page_id LIMIT $4 OFFSET $5";

const TEXT: &str = "SELECT seq, left(text, $2) FROM page_snapshots WHERE page_id = $1";

#[async_trait]
impl SearchStore for PostgresStore {
    async fn search(
        &self,
        search: &Search,
        ranges: &[IdRange],
        skip: usize,
        limit: usize,
    ) -> Result<Vec<Found>, StoreError> {
        let (asked, ranked) = (query(search), any(&search.wanted));
        let (first, last): (Vec<&str>, Vec<&str>) =
            ranges.iter().map(|(first, last)| (&**first, &**last)).unzip();
        let query = || {
            sqlx::query_as(SEARCH)
                .bind(&asked)
                .bind(&first)
                .bind(&last)
                .bind(number(limit))
                .bind(number(skip))
                .bind(number(MAX_RANKED))
                .bind(&ranked)
        };
        rows::found(self.read_on(&self.searchers, query).await?)
    }

    async fn searched_text(&self, page: &PageId) -> Result<Option<(Seq, String)>, StoreError> {
        let query = || {
            let chars = i32::try_from(MAX_SEARCHED_CHARS).unwrap_or(i32::MAX);
            sqlx::query_as(TEXT).bind(page.as_str()).bind(chars)
        };
        Ok(rows::searched_text(self.read(query).await?))
    }
}

/// What is looked for as `to_tsquery` reads it.
fn query(search: &Search) -> String {
    let wanted = search.wanted.iter().map(written);
    let excluded = search
        .excluded
        .iter()
        .map(|excluded| format!("!{}", written(excluded)));
    wanted.chain(excluded).collect::<Vec<_>>().join(" & ")
}

/// Any of some words.
fn any(terms: &[Term]) -> String {
    terms.iter().map(written).collect::<Vec<_>>().join(" | ")
}

/// Words are letters and digits, which need no escape.
fn written(term: &Term) -> String {
    let words: Vec<_> = term.words.iter().map(|word| format!("'{word}'")).collect();
    format!(
        "({}{})",
        words.join(" <-> "),
        if term.is_prefix { ":*" } else { "" }
    )
}
