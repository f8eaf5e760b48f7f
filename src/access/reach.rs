//! Where the pages lie that a user may see, so that a listing does not ask for every page that there is.

use std::collections::BTreeSet;

use storage::{IdRange, PageId, PageRecord, SharedStore, StoreError, prefix_range};

use super::{Access, Source};
use crate::auth::Identity;

/// Pages and patterns that a user may have permissions on before a listing asks for every page.
const MAX_PATTERNS: usize = 1000;

/// Where all pages lie that somebody may see.
#[derive(Debug, PartialEq, Eq)]
pub enum Reach {
    /// Anywhere: only an answer for each page says which they are.
    Everywhere,
    /// Within these ranges, in the order of ids, none within another.
    Within(Vec<Range>),
}

/// Some ids, all of which follow each other in the order of ids.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Range {
    /// All that start so.
    Prefix(String),
    /// One.
    Page(String),
}

impl Range {
    /// What a pattern of a permission covers.
    fn of(pattern: String) -> Self {
        match pattern.strip_suffix('*') {
            Some(prefix) => Self::Prefix(prefix.to_owned()),
            None => Self::Page(pattern),
        }
    }

    /// The pages there after `after`, in the order of ids, at most `limit`.
    pub async fn pages(
        &self,
        store: &SharedStore,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<PageRecord>, StoreError> {
        match self {
            Self::Prefix(prefix) => store.pages(prefix, after, limit).await,
            Self::Page(id) if after.is_some_and(|after| id.as_str() <= after) => Ok(Vec::new()),
            Self::Page(id) => match PageId::new(id) {
                Ok(page) => Ok(store.page(&page).await?.into_iter().collect()),
                // The name of a room without a document.
                Err(_) => Ok(Vec::new()),
            },
        }
    }

    /// The first and the last id there; `None` when no page has such an id.
    pub fn ids(&self) -> Option<IdRange> {
        match self {
            Self::Prefix(prefix) => prefix_range(prefix),
            Self::Page(id) => PageId::new(id).is_ok().then(|| (id.clone(), id.clone())),
        }
    }

    /// What all ids there start with.
    fn start(&self) -> &str {
        match self {
            Self::Prefix(start) | Self::Page(start) => start,
        }
    }

    fn is_before(&self, after: &str) -> bool {
        match self {
            Self::Prefix(prefix) => prefix.as_str() <= after && !after.starts_with(prefix),
            Self::Page(id) => id.as_str() <= after,
        }
    }
}

impl Reach {
    /// Within patterns as permissions have them: an id, or a prefix followed by `*`.
    fn within(patterns: impl IntoIterator<Item = String>) -> Self {
        let ranges: BTreeSet<_> = patterns.into_iter().map(Range::of).collect();
        let mut ranges: Vec<_> = ranges.into_iter().collect();
        // A prefix comes before the page of the same name.
        ranges.sort_by(|one, other| one.start().cmp(other.start()));
        let mut last: Option<String> = None;
        ranges.retain(|range| {
            let is_within = last
                .as_ref()
                .is_some_and(|prefix| range.start().starts_with(prefix));
            if let (false, Range::Prefix(prefix)) = (is_within, range) {
                last = Some(prefix.clone());
            }
            !is_within
        });
        Self::Within(ranges)
    }

    /// What of it remains for a listing of ids that start with `prefix`, behind `after`.
    pub fn remaining(self, prefix: &str, after: Option<&str>) -> Vec<Range> {
        let ranges = match self {
            Self::Everywhere => vec![Range::Prefix(prefix.to_owned())],
            Self::Within(ranges) => ranges,
        };
        let narrowed = ranges.into_iter().filter_map(|range| match &range {
            _ if range.start().starts_with(prefix) => Some(range),
            Range::Prefix(wider) if prefix.starts_with(wider) => Some(Range::Prefix(prefix.to_owned())),
            Range::Prefix(_) | Range::Page(_) => None,
        });
        narrowed
            .filter(|range| after.is_none_or(|after| !range.is_before(after)))
            .collect()
    }
}

impl Access {
    /// Where all pages lie that somebody may see. Two reads of an index at most, unless the application is asked for each page.
    pub async fn reach(&self, identity: &Identity) -> Result<Reach, StoreError> {
        if identity.fixed_role().is_some() {
            return Ok(Reach::Everywhere);
        }
        let Some(user) = &identity.user else {
            return Ok(Reach::Within(Vec::new()));
        };
        let mut patterns: Vec<String> = match self.0.token_at {
            Some(_) => identity.patterns().map(str::to_owned).collect(),
            None => Vec::new(),
        };
        for source in &self.0.sources {
            let Source::Store(store) = source else {
                return Ok(Reach::Everywhere);
            };
            let found = store.permitted(user, MAX_PATTERNS + 1).await?;
            if found.len() > MAX_PATTERNS {
                return Ok(Reach::Everywhere);
            }
            patterns.extend(found);
        }
        Ok(Reach::within(patterns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(patterns: &[&str]) -> Reach {
        Reach::within(patterns.iter().map(|pattern| (*pattern).to_owned()))
    }

    fn prefix(prefix: &str) -> Range {
        Range::Prefix(prefix.to_owned())
    }

    fn page(id: &str) -> Range {
        Range::Page(id.to_owned())
    }

    #[test]
    fn no_range_lies_within_another() {
        let table: &[(&[&str], &[Range])] = &[
            (&[], &[]),
            (&["b", "a", "b"], &[page("a"), page("b")]),
            (&["a", "*", "b/*"], &[prefix("")]),
            (
                &["team", "team/*", "team/a", "team/a*"],
                &[page("team"), prefix("team/")],
            ),
            (&["team*", "team", "tea"], &[page("tea"), prefix("team")]),
            (&["team**", "team*"], &[prefix("team")]),
            (&["team**"], &[prefix("team*")]),
            (&["aa", "a*", "b", "ab*"], &[prefix("a"), page("b")]),
        ];
        for (patterns, ranges) in table {
            assert_eq!(within(patterns), Reach::Within(ranges.to_vec()), "{patterns:?}");
        }
    }

    #[test]
    fn a_listing_goes_on_where_it_was() {
        let all = || within(&["a", "b/*", "b-1", "c/x"]);
        let table: &[(&str, Option<&str>, &[Range])] = &[
            ("", None, &[page("a"), page("b-1"), prefix("b/"), page("c/x")]),
            ("", Some("a"), &[page("b-1"), prefix("b/"), page("c/x")]),
            ("", Some("b/7"), &[prefix("b/"), page("c/x")]),
            ("", Some("b/"), &[prefix("b/"), page("c/x")]),
            ("", Some("b0"), &[page("c/x")]),
            ("", Some("c/x"), &[]),
            ("b", None, &[page("b-1"), prefix("b/")]),
            ("b/7", None, &[prefix("b/7")]),
            ("b/7", Some("b/8"), &[]),
            ("d", None, &[]),
        ];
        for (prefix, after, ranges) in table {
            assert_eq!(
                all().remaining(prefix, *after),
                *ranges,
                "{prefix} after {after:?}"
            );
        }
        assert_eq!(Reach::Everywhere.remaining("b", Some("b1")), [prefix("b")]);
    }
}
