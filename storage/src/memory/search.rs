//! Search in memory: every snapshot is gone through.

use async_trait::async_trait;

use super::{MemoryStore, PageTable, Tables};
use crate::{
    Found, IdRange, PageId, Search, SearchStore, Seq, StoreError,
    search::{MAX_SEARCHED_CHARS, Term, words},
};

impl Tables {
    /// See [`SearchStore::search`].
    pub fn search(&self, search: &Search, ranges: &[IdRange], skip: usize, limit: usize) -> Vec<Found> {
        let is_in_range = |id: &str| {
            let mut ranges = ranges.iter();
            ranges.any(|(first, last)| (first.as_str()..=last.as_str()).contains(&id))
        };
        let pages = self.pages.iter();
        let pages =
            pages.filter(|(page, stored)| is_in_range(page.as_str()) && stored.record.deleted_at.is_none());
        let mut found: Vec<Found> = pages
            .filter_map(|(page, stored)| {
                let score = stored.score(search)?;
                let page = page.clone();
                Some(Found { page, score })
            })
            .collect();
        found.sort_by(|one, other| other.score.total_cmp(&one.score).then(one.page.cmp(&other.page)));
        found.into_iter().skip(skip).take(limit).collect()
    }

    /// See [`SearchStore::searched_text`].
    pub fn searched_text(&self, page: &PageId) -> Option<(Seq, String)> {
        let snapshot = self.pages.get(page)?.snapshot.as_ref()?;
        Some((
            snapshot.seq,
            snapshot.text.chars().take(MAX_SEARCHED_CHARS).collect(),
        ))
    }
}

impl PageTable {
    /// How much of its text are the words that are looked for; `None` when it does not have them all, or one that must not be there.
    fn score(&self, search: &Search) -> Option<f64> {
        let text = words(&self.snapshot.as_ref()?.text);
        let words: Vec<&str> = text.split(' ').collect();
        if search.excluded.iter().any(|term| count(&words, term) > 0) {
            return None;
        }
        let counts = search.wanted.iter().map(|term| count(&words, term));
        let counts: Option<Vec<usize>> = counts.map(|count| (count > 0).then_some(count)).collect();
        let count: usize = counts?.into_iter().sum();
        Some(count as f64 / (words.len() as f64).ln_1p())
    }
}

/// How often words are there in a row.
fn count(words: &[&str], term: &Term) -> usize {
    let is = |(written, wanted): (&&str, (usize, &String))| match wanted {
        (n, wanted) if term.is_prefix && n + 1 == term.words.len() => written.starts_with(wanted.as_str()),
        (_, wanted) => *written == wanted,
    };
    let rows = words.windows(term.words.len());
    rows.filter(|row| row.iter().zip(term.words.iter().enumerate()).all(is))
        .count()
}

#[async_trait]
impl SearchStore for MemoryStore {
    async fn search(
        &self,
        search: &Search,
        ranges: &[IdRange],
        skip: usize,
        limit: usize,
    ) -> Result<Vec<Found>, StoreError> {
        Ok(self.tables().search(search, ranges, skip, limit))
    }

    async fn searched_text(&self, page: &PageId) -> Result<Option<(Seq, String)>, StoreError> {
        Ok(self.tables().searched_text(page))
    }
}
