//! Full-text search over the text of snapshots: what is looked for, what is found, and the part of a store that finds it.
//!
//! Every store looks for the same words (see `words`), so that a page is found by the same question wherever it is kept. How well a page
//! answers, its store says in its own measure.

use async_trait::async_trait;

use crate::{PageId, Seq, StoreError};

mod words;

pub(crate) use words::{MAX_SEARCHED_CHARS, words};

/// Most words that a search may have.
const MAX_WORDS: usize = 64;

/// Searches that run at once. A page with very many of the words takes a processor for a second.
pub(crate) const MAX_SEARCHES: usize = 2;

/// Of more pages than these that have what is looked for, these are compared and the others are left out.
pub(crate) const MAX_RANKED: usize = 2000;

/// What is looked for in the text of pages: words that all must be there, and words that must not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// At least one.
    pub(crate) wanted: Vec<Term>,
    pub(crate) excluded: Vec<Term>,
}

/// Words that follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    /// At least one, each of one form and without anything but letters and digits.
    pub(crate) words: Vec<String>,
    /// The last word is the beginning of one.
    pub(crate) is_prefix: bool,
}

/// Why nothing can be looked for. The asker's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SearchError {
    /// No word that should be there.
    #[error("a search needs a word that pages have")]
    Nothing,
    /// Too many.
    #[error("a search has at most {MAX_WORDS} words")]
    TooMany,
}

impl Search {
    /// Reads a search as people write them: `words` that all must be there, `"words in a row"`, `begin*` for words that begin so, and a
    /// `-` before what must not be there. Upper and lower case are alike. Anything else stands between words.
    ///
    /// # Errors
    /// When there is nothing to look for, or too much.
    pub fn parse(text: &str) -> Result<Self, SearchError> {
        let mut search = Self {
            wanted: Vec::new(),
            excluded: Vec::new(),
        };
        let mut said = 0;
        for piece in pieces(text) {
            let (is_excluded, piece) = match piece.strip_prefix('-') {
                Some(rest) => (true, rest),
                None => (false, piece),
            };
            let is_prefix = piece.ends_with('*');
            let words: Vec<String> = words(piece).split(' ').map(str::to_owned).collect();
            if words.iter().all(String::is_empty) {
                continue;
            }
            let terms = match is_excluded {
                true => &mut search.excluded,
                false => &mut search.wanted,
            };
            said += words.len();
            let term = Term { words, is_prefix };
            // To say a word twice finds nothing else, and costs twice as much.
            if !terms.contains(&term) {
                terms.push(term);
            }
        }
        match said {
            _ if search.wanted.is_empty() => Err(SearchError::Nothing),
            count if count > MAX_WORDS => Err(SearchError::TooMany),
            _ => Ok(search),
        }
    }

    /// Where a text has what is looked for first, in bytes, for showing it. Words are compared by themselves and not in a row; in a form
    /// that is longer or shorter than what is written they are not found here.
    pub fn place_in(&self, text: &str) -> Option<std::ops::Range<usize>> {
        let wanted = self.wanted.iter().flat_map(|term| {
            let last = term.words.len() - 1;
            let words = term.words.iter().enumerate();
            words.map(move |(n, word)| (word.as_str(), term.is_prefix && n == last))
        });
        let wanted: Vec<_> = wanted.collect();
        let mut places = written_words(text);
        places.find(|place| {
            let written = text.get(place.clone()).map(words).unwrap_or_default();
            let mut written = written.split(' ');
            let is = |written: &str| {
                let mut wanted = wanted.iter();
                wanted.any(|(word, is_prefix)| written == *word || (*is_prefix && written.starts_with(word)))
            };
            written.any(is)
        })
    }
}

/// The pieces of a search, between spaces or quotation marks. A mark that is not closed goes to the end.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        let first = rest.chars().next()?;
        let sign = usize::from(first == '-');
        let quoted = rest.get(sign..).and_then(|after| after.strip_prefix('"'));
        let length = match quoted.and_then(|quoted| quoted.find('"')) {
            // With both marks, and a star behind the second one.
            Some(end) => {
                let end = sign + end + 2;
                end + usize::from(rest.get(end..).is_some_and(|after| after.starts_with('*')))
            }
            None if quoted.is_some() => rest.len(),
            None => {
                let ends = |letter: char| letter.is_whitespace() || letter == '"';
                rest.get(sign..)
                    .and_then(|after| after.find(ends))
                    .map_or(rest.len(), |end| (sign + end).max(1))
            }
        };
        let (piece, behind) = rest.split_at_checked(length)?;
        rest = behind;
        Some(piece)
    })
}

/// The runs of a text without white space, as byte ranges, as far as it is searched.
fn written_words(text: &str) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = text.get(at..)?;
        let start = at + rest.find(|letter: char| !letter.is_whitespace())?;
        let run = text.get(start..)?;
        let length = run.find(char::is_whitespace).unwrap_or(run.len());
        at = start + length;
        Some(start..at)
    })
}

/// A page that has what is looked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The page.
    pub page: PageId,
    /// How well it answers, in the measure of its store: the more, the better.
    pub score: f64,
}

/// Ids from the first to the last one, both included.
pub type IdRange = (String, String);

/// The part of a store that finds pages by their text.
#[async_trait]
pub trait SearchStore: Send + Sync + 'static {
    /// Pages whose snapshot has what is looked for, of those whose ids are in one of the ranges and which are not in the trash, the best
    /// first: after the first `skip` of them, at most `limit`. Of very many only some are compared.
    async fn search(
        &self,
        search: &Search,
        ranges: &[IdRange],
        skip: usize,
        limit: usize,
    ) -> Result<Vec<Found>, StoreError>;

    /// The beginning of the text of a page's snapshot, in which it is found, and the row up to which it is that. `None` when there is no
    /// snapshot.
    async fn searched_text(&self, page: &PageId) -> Result<Option<(Seq, String)>, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(search: &str) -> Result<(Vec<String>, Vec<String>), SearchError> {
        let written = |terms: &[Term]| {
            let term = |term: &Term| {
                format!(
                    "{}{}",
                    term.words.join("+"),
                    if term.is_prefix { "*" } else { "" }
                )
            };
            terms.iter().map(term).collect::<Vec<_>>()
        };
        let search = Search::parse(search)?;
        Ok((written(&search.wanted), written(&search.excluded)))
    }

    #[test]
    fn a_search_is_read_as_people_write_it() {
        let table: &[(&str, &[&str], &[&str])] = &[
            ("Hello world", &["hello", "world"], &[]),
            ("\"Hello world\" -draft", &["hello+world"], &["draft"]),
            ("begin* -\"not this\"", &["begin*"], &["not+this"]),
            ("\"in a ro\"*", &["in+a+ro*"], &[]),
            ("bob@example.com", &["bob+example+com"], &[]),
            ("東京", &["東+京"], &[]),
            ("a\"b c\"d", &["a", "b+c", "d"], &[]),
            ("\"never closed -x", &["never+closed+x"], &[]),
            ("' OR 1=1 -- :* & | ! <-> \\", &["or", "1+1"], &[]),
            ("a -- b - c", &["a", "b", "c"], &[]),
            ("NEAR(x y) content:z", &["near+x", "y", "content+z"], &[]),
        ];
        for (search, wanted, excluded) in table {
            let owned = |terms: &[&str]| terms.iter().map(|term| (*term).to_owned()).collect::<Vec<_>>();
            assert_eq!(said(search), Ok((owned(wanted), owned(excluded))), "{search}");
        }
        for nothing in ["", "  ", "-not", "*", "\"\"", "-", "--", "\"", "-\"", "!&|"] {
            assert_eq!(said(nothing), Err(SearchError::Nothing), "{nothing:?}");
        }
        assert_eq!(said(&"a ".repeat(MAX_WORDS + 1)), Err(SearchError::TooMany));
        assert!(said(&"a ".repeat(MAX_WORDS)).is_ok());
        assert_eq!(
            said(&"a A a* -b ".repeat(MAX_WORDS / 4)),
            Ok((vec!["a".to_owned(), "a*".to_owned()], vec!["b".to_owned()])),
        );
    }

    #[test]
    fn a_place_is_where_the_first_word_is() {
        let place = |search: &str, text: &'static str| {
            let search = Search::parse(search).expect("a search");
            search.place_in(text).map(|place| &text[place])
        };
        assert_eq!(place("world", "Hello, (World)! world"), Some("(World)!"));
        assert_eq!(place("wor*", "Hello worlds"), Some("worlds"));
        assert_eq!(place("wor", "Hello worlds"), None);
        assert_eq!(place("京", "x 東京 y"), Some("東京"));
        assert_eq!(place("x", ""), None);
    }
}
