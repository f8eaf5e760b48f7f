//! The contents of a page that the authors of whole contents may have: what each of them was sent, saved, or may have had before it came.
//!
//! A save of a whole content says nothing of the copy that it was made from. Its author had one of: what it saved last; a
//! version that it was sent; any version of before it came. Of these the one that is nearest to the save is taken for its base. Versions are
//! kept for this up to a count and a size for each page, the latest ones.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use crdt::Candidate;
use serde_json::Value as Json;
use storage::Seq;

use super::SocketId;

/// How many versions of a page are kept, and how large they may be together, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct VersionLimits {
    /// Versions.
    pub count: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// A content of a page.
#[derive(Clone, Debug)]
struct Version {
    number: u64,
    /// The sequence numbers of the page between which it had this content.
    first: Seq,
    last: Seq,
    content: Arc<Json>,
    bytes: usize,
}

/// An author of whole contents.
#[derive(Debug)]
struct Author {
    /// The latest version when it came: it may have had that or any earlier one.
    came_at: u64,
    /// The page was empty then, so its first save may be of a content that is known to the application alone.
    came_to_nothing: bool,
    /// Versions that it was sent, and that it can still have made its next save from.
    sent: BTreeSet<u64>,
    /// What it saved last, and the latest version then.
    saved: Option<(u64, Arc<Json>)>,
    /// What it shows, as far as is known.
    has: Option<Arc<Json>>,
}

/// The contents of a page that authors may have.
#[derive(Debug)]
pub struct Versions {
    limits: VersionLimits,
    latest: u64,
    kept: VecDeque<Version>,
    bytes: usize,
    authors: BTreeMap<SocketId, Author>,
}

/// What the base of a save may be.
#[derive(Clone, Debug, PartialEq)]
pub struct Bases {
    /// The contents that its author may have had, the latest first.
    pub candidates: Vec<Candidate>,
    /// Whether it is certain that the author had one of them. If not, nothing is deleted.
    pub are_certain: bool,
}

impl Versions {
    /// No contents yet.
    pub fn new(limits: VersionLimits) -> Self {
        Self {
            limits,
            latest: 0,
            kept: VecDeque::new(),
            bytes: 0,
            authors: BTreeMap::new(),
        }
    }

    /// An author has come, when the page had the latest version, or nothing.
    pub fn came(&mut self, author: SocketId, to_nothing: bool) {
        let came_at = self.latest;
        self.authors.entry(author).or_insert(Author {
            came_at,
            came_to_nothing: to_nothing,
            sent: BTreeSet::new(),
            saved: None,
            has: None,
        });
    }

    /// An author has gone. Gives whether another one is left.
    pub fn went(&mut self, author: SocketId) -> bool {
        self.authors.remove(&author);
        !self.authors.is_empty()
    }

    /// Whether this author is known.
    pub fn knows(&self, author: SocketId) -> bool {
        self.authors.contains_key(&author)
    }

    /// The page has a content now. Nothing changes when it is the latest one.
    pub fn learn(&mut self, seq: Seq, content: &Arc<Json>) {
        if let Some(last) = self.kept.back_mut()
            && last.content == *content
        {
            last.last = last.last.max(seq);
            return;
        }
        self.latest += 1;
        let bytes = size(content);
        self.bytes += bytes;
        self.kept.push_back(Version {
            number: self.latest,
            first: seq,
            last: seq,
            content: content.clone(),
            bytes,
        });
        while self.kept.len() > 1 && (self.kept.len() > self.limits.count || self.bytes > self.limits.bytes) {
            if let Some(oldest) = self.kept.pop_front() {
                self.bytes -= oldest.bytes;
                for author in self.authors.values_mut() {
                    author.sent.remove(&oldest.number);
                }
            }
        }
    }

    /// The latest content, and its sequence number.
    pub fn latest(&self) -> Option<(Seq, &Arc<Json>)> {
        self.kept.back().map(|version| (version.last, &version.content))
    }

    /// Those who show something else than the latest content. They are to be sent it, and count as having been.
    pub fn send_latest(&mut self) -> Vec<SocketId> {
        let Some(Version { number, content, .. }) = self.kept.back() else {
            return Vec::new();
        };
        let mut behind = Vec::new();
        for (id, author) in &mut self.authors {
            if author.has.as_ref() != Some(content) {
                author.has = Some(content.clone());
                author.sent.insert(*number);
                behind.push(*id);
            }
        }
        behind
    }

    /// An author has saved a content, made from a base if that is known. It has had nothing since that is older: no version of before it
    /// came, and none that it was sent before its base. What it was sent later may have been on its way while it saved.
    pub fn saved(&mut self, author: SocketId, content: &Arc<Json>, base: Option<&Json>) {
        let number = base.and_then(|base| {
            let mut versions = self.kept.iter().rev();
            versions
                .find(|version| *version.content == *base)
                .map(|version| version.number)
        });
        let latest = self.latest;
        if let Some(author) = self.authors.get_mut(&author) {
            if let Some(number) = number {
                author.sent.retain(|sent| *sent > number);
            }
            author.came_at = 0;
            author.saved = Some((latest, content.clone()));
            author.has = Some(content.clone());
        }
    }

    /// What the base of a save may be. O(versions).
    pub fn bases(&self, author: SocketId) -> Bases {
        let Some(author) = self.authors.get(&author) else {
            return Bases {
                candidates: Vec::new(),
                are_certain: false,
            };
        };
        let may_have =
            |version: &&Version| version.number <= author.came_at || author.sent.contains(&version.number);
        let mut versions: Vec<(u64, &Arc<Json>)> = (self.kept.iter().rev())
            .filter(may_have)
            .map(|version| (version.number, &version.content))
            .collect();
        if let Some((number, saved)) = &author.saved {
            let later = versions
                .iter()
                .take_while(|(version, _)| version > number)
                .count();
            versions.insert(later, (*number, saved));
        }
        let contents = versions.into_iter().map(|(_, content)| content);
        // Who came to an empty page may have had the application's own copy of it, which was never seen here.
        let are_certain = !author.came_to_nothing || author.saved.is_some();
        let mut candidates: Vec<Candidate> = Vec::new();
        for content in contents {
            if candidates.iter().all(|known| known.content != **content) {
                candidates.push(Candidate {
                    content: Json::clone(content),
                    is_certain: are_certain,
                });
            }
        }
        Bases {
            candidates,
            are_certain,
        }
    }

    /// The content that the page had at a sequence number, for a client that knows the base of its save.
    pub fn at(&self, seq: Seq) -> Option<&Arc<Json>> {
        let mut versions = self.kept.iter().rev();
        let version = versions.find(|version| (version.first..=version.last).contains(&seq))?;
        Some(&version.content)
    }
}

/// About how many bytes a content takes.
fn size(content: &Json) -> usize {
    const NODE: usize = 32;
    match content {
        Json::Null | Json::Bool(_) | Json::Number(_) => NODE,
        Json::String(text) => NODE + text.len(),
        Json::Array(values) => NODE + values.iter().map(size).sum::<usize>(),
        Json::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| name.len() + size(value));
            NODE + fields.sum::<usize>()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: SocketId = SocketId(1);
    const BEN: SocketId = SocketId(2);

    fn versions() -> Versions {
        Versions::new(VersionLimits {
            count: 3,
            bytes: 10_000,
        })
    }

    fn text(text: &str) -> Arc<Json> {
        Arc::new(text.into())
    }

    fn contents(bases: &Bases) -> Vec<&str> {
        let contents = bases.candidates.iter();
        contents
            .map(|candidate| candidate.content.as_str().unwrap_or_default())
            .collect()
    }

    #[test]
    fn an_author_had_what_it_saved_what_it_was_sent_or_something_of_before_it_came() {
        let mut versions = versions();
        versions.learn(1, &text("1"));
        versions.learn(2, &text("2"));
        versions.came(ADA, false);
        assert_eq!(contents(&versions.bases(ADA)), ["2", "1"]);
        versions.learn(3, &text("3"));
        assert_eq!(contents(&versions.bases(ADA)), ["2", "1"], "it was not sent this");
        assert_eq!(versions.send_latest(), [ADA]);
        assert_eq!(versions.send_latest(), [], "it has it now");
        assert_eq!(contents(&versions.bases(ADA)), ["3", "2", "1"]);
        versions.saved(ADA, &text("mine"), Some(&text("2")));
        assert_eq!(
            contents(&versions.bases(ADA)),
            ["mine", "3"],
            "the third was on its way"
        );
        versions.learn(4, &text("3 and mine"));
        assert_eq!(versions.send_latest(), [ADA], "it came out otherwise");
        assert_eq!(contents(&versions.bases(ADA)), ["3 and mine", "mine", "3"]);
        versions.saved(ADA, &text("3 and mine and more"), Some(&text("3 and mine")));
        assert_eq!(
            contents(&versions.bases(ADA)),
            ["3 and mine and more"],
            "what it takes away again is gone"
        );
        versions.learn(5, &text("3 and mine and more"));
        assert_eq!(versions.send_latest(), [], "it came out as it was saved");
        assert_eq!(versions.latest().map(|(seq, _)| seq), Some(5));
        assert!(versions.bases(BEN).candidates.is_empty());
    }

    #[test]
    fn who_came_to_an_empty_page_is_not_certain_to_have_had_anything_before_its_first_save() {
        let mut versions = versions();
        versions.came(ADA, true);
        versions.came(BEN, true);
        versions.saved(ADA, &text("from the application, by Ada"), None);
        versions.learn(1, &text("from the application, by Ada"));
        assert!(versions.bases(ADA).are_certain);
        let bases = versions.bases(BEN);
        assert!(bases.candidates.is_empty() && !bases.are_certain);
        assert_eq!(versions.send_latest(), [BEN]);
        let bases = versions.bases(BEN);
        assert_eq!(contents(&bases), ["from the application, by Ada"]);
        assert!(!bases.candidates[0].is_certain, "it may have crossed the save");
    }

    #[test]
    fn versions_are_bounded_by_count_and_size() {
        let mut versions = versions();
        versions.came(ADA, false);
        for number in 1..=5 {
            versions.learn(number, &text(&number.to_string()));
            versions.send_latest();
        }
        assert_eq!(contents(&versions.bases(ADA)), ["5", "4", "3"]);
        versions.learn(6, &text(&"x".repeat(9_950)));
        versions.send_latest();
        assert_eq!(
            versions.bases(ADA).candidates.len(),
            1,
            "the latest is always kept"
        );
        assert!(!versions.went(ADA));
    }

    #[test]
    fn a_version_is_found_by_its_sequence_number() {
        let mut versions = versions();
        versions.learn(3, &text("a"));
        versions.learn(5, &text("a"));
        versions.learn(7, &text("b"));
        for seq in 3..=5 {
            assert_eq!(versions.at(seq), Some(&text("a")), "{seq}");
        }
        assert_eq!(versions.at(7), Some(&text("b")));
        assert_eq!(versions.at(2), None);
        assert_eq!(versions.at(6), None, "nobody was sent that");
    }
}
