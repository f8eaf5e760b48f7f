//! How long the past of pages is kept: as a setting, and as policies on pages and prefixes of their ids.

use std::{collections::BTreeMap, fmt, str::FromStr};

use async_trait::async_trait;

use crate::{PageId, StoreError, access::matching_patterns};

/// Most policies of a store. A policy on a prefix covers any number of pages.
pub const MAX_HISTORY_POLICIES: usize = 100_000;

/// How long the past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Not at all.
    Nothing,
    /// For ever.
    Everything,
    /// For so many days.
    Days(u32),
    /// From the oldest of so many versions on.
    Versions(u32),
}

/// It is none of the words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write `off`, `all`, or a number from 1 on with a unit, such as `30 days` or `100 versions`")]
pub struct KeepError;

impl FromStr for Keep {
    type Err = KeepError;

    fn from_str(text: &str) -> Result<Self, KeepError> {
        let text = text.trim();
        let (number, unit) = text.split_at(
            text.find(|letter: char| !letter.is_ascii_digit())
                .unwrap_or(text.len()),
        );
        match (number, unit.trim()) {
            ("", "off") => Ok(Self::Nothing),
            ("", "all") => Ok(Self::Everything),
            (number, unit) => {
                let number = number
                    .parse()
                    .ok()
                    .filter(|number| *number > 0)
                    .ok_or(KeepError)?;
                match unit {
                    "d" | "day" | "days" => Ok(Self::Days(number)),
                    "version" | "versions" => Ok(Self::Versions(number)),
                    _ => Err(KeepError),
                }
            }
        }
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => formatter.write_str("off"),
            Self::Everything => formatter.write_str("all"),
            Self::Days(1) => formatter.write_str("1 day"),
            Self::Days(days) => write!(formatter, "{days} days"),
            Self::Versions(1) => formatter.write_str("1 version"),
            Self::Versions(versions) => write!(formatter, "{versions} versions"),
        }
    }
}

/// How long the past of a page, or of many, is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryPolicy {
    /// A page, or a prefix of ids followed by `*`.
    pub pages: PageId,
    /// How long.
    pub keep: Keep,
}

impl HistoryPolicy {
    /// What is stored. A word that this program does not know is an error: nothing is forgotten by a guess.
    pub(crate) fn stored(pages: &str, keep: &str) -> Result<Self, StoreError> {
        let statement = |reason| StoreError::Statement { reason };
        Ok(Self {
            pages: PageId::new(pages)
                .map_err(|problem| statement(format!("a history policy has no valid id: {problem}")))?,
            keep: keep.parse().map_err(|_| {
                statement(format!(
                    "the history policy of {pages:?} is none that this program knows"
                ))
            })?,
        })
    }
}

/// Policies in memory, by the pages that they name.
#[derive(Clone, Debug, Default)]
pub struct HistoryPolicies(pub(crate) BTreeMap<PageId, Keep>);

impl HistoryPolicies {
    /// The one that counts for a page: its own, or else that on the longest prefix. Takes time in proportion to the id's length.
    pub fn nearest(&self, page: &PageId) -> Option<(&PageId, Keep)> {
        let names = matching_patterns(page);
        let (own, prefixes) = names.split_first()?;
        let mut nearest = std::iter::once(own).chain(prefixes.iter().rev());
        let (pages, keep) = nearest.find_map(|name| self.0.get_key_value(name.as_str()))?;
        Some((pages, *keep))
    }

    /// How long they keep what they concern.
    pub fn keeps(&self) -> impl Iterator<Item = Keep> {
        self.0.values().copied()
    }

    /// Takes one, in the place of another one on the same pages.
    pub fn insert(&mut self, policy: HistoryPolicy) {
        self.0.insert(policy.pages, policy.keep);
    }
}

/// Policies as databases have them: the pages, and for how long.
pub(crate) fn stored(rows: Vec<(String, String)>) -> Result<Vec<HistoryPolicy>, StoreError> {
    let policies = rows
        .iter()
        .map(|(pages, keep)| HistoryPolicy::stored(pages, keep));
    policies.collect()
}

/// The part of a store that knows how long the past of which pages is kept.
#[async_trait]
pub trait HistoryPolicyStore: Send + Sync + 'static {
    /// The policy that counts for a page: its own, or else that on the longest prefix of its id. `None` where the setting counts.
    async fn history_policy(&self, page: &PageId) -> Result<Option<HistoryPolicy>, StoreError>;

    /// The policies in the order of the pages that they name (bytewise), after `after`, at most `limit`.
    async fn history_policies(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<HistoryPolicy>, StoreError>;

    /// Stores a policy in the place of the one on the same pages. `false`, and nothing is stored, where there are
    /// [`MAX_HISTORY_POLICIES`] others.
    async fn set_history_policy(&self, policy: &HistoryPolicy) -> Result<bool, StoreError>;

    /// Removes the policy on exactly these pages. `false` when there is none.
    async fn remove_history_policy(&self, pages: &PageId) -> Result<bool, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_a_unit_and_the_words_stand_alone() {
        for (text, keep) in [
            ("off", Keep::Nothing),
            (" all ", Keep::Everything),
            ("30 days", Keep::Days(30)),
            ("1day", Keep::Days(1)),
            ("7d", Keep::Days(7)),
            ("100 versions", Keep::Versions(100)),
            ("1 version", Keep::Versions(1)),
        ] {
            assert_eq!(text.parse(), Ok(keep), "{text}");
            assert_eq!(keep.to_string().parse(), Ok(keep), "{keep}");
        }
        for text in [
            "",
            "30",
            "0 days",
            "-1 days",
            "days",
            "99999999999 days",
            "30 weeks",
            "3 off",
            "alle",
        ] {
            assert_eq!(text.parse::<Keep>(), Err(KeepError), "{text}");
        }
    }

    #[test]
    fn the_nearest_policy_is_the_own_one_and_then_the_longest_prefix() {
        let mut policies = HistoryPolicies::default();
        let id = |id: &str| PageId::new(id).expect("an id");
        assert_eq!(policies.nearest(&id("team/")), None);
        for (pages, days) in [
            ("*", 1),
            ("team/*", 2),
            ("team/a*", 3),
            ("team/", 4),
            ("team/ab", 5),
        ] {
            policies.insert(HistoryPolicy {
                pages: id(pages),
                keep: Keep::Days(days),
            });
        }
        for (page, days) in [
            ("other", 1),
            ("team", 1),
            ("team/", 4),
            ("team/b", 2),
            ("team/a", 3),
            ("team/ab", 5),
            ("team/abc", 3),
        ] {
            let (_, keep) = policies.nearest(&id(page)).expect("one on all pages");
            assert_eq!(keep, Keep::Days(days), "{page}");
        }
    }
}
