//! The contents of a page that the authors of whole contents may have: what each of them was sent, saved, or may have had before it came.
//!
//! A save of a whole content says nothing of the copy that it was made from. Its author had one of: what it saved last; a
//! version that it was sent; any version of before it came. Of these the one that is nearest to the save is taken for its base. Versions are
//! kept for this up to a count and a size for each page, the latest ones.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use storage::Seq;

use super::SocketId;
use crate::protocols::events::Content;

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
    content: Content,
}

/// An author of whole contents.
#[derive(Debug)]
struct Author {
    /// The latest version when it came: it may have had that or any earlier one.
    came_at: u64,
    /// The page was empty then, so its first save may be of a content that is known to the application alone.
    came_to_nothing: bool,
    /// It is being asked for a sign of life, and whether it was sent a version before.
    pinged: Option<bool>,
    /// What it may have had when it went on in this form, the latest first.
    carried: Vec<Content>,
    /// Versions that it was sent, and that it can still have made its next save from.
    sent: BTreeSet<u64>,
    /// It has saved, so what it came to says nothing any more.
    has_saved: bool,
    /// What it saved last, and the latest version then; unless that was forgotten for its size.
    saved: Option<(u64, Content)>,
    /// The version that it shows, if it shows one.
    has: Option<u64>,
}

/// The contents of a page that authors may have.
#[derive(Debug)]
pub struct Versions {
    limits: VersionLimits,
    latest: u64,
    kept: VecDeque<Version>,
    /// Of the kept ones, and of what authors have saved.
    bytes: usize,
    authors: BTreeMap<SocketId, Author>,
}

/// What the base of a save may be.
#[derive(Clone, Debug)]
pub struct Bases {
    /// The contents that its author may have had, the latest first.
    pub contents: Vec<Content>,
    /// Whether it is certain that the author had one of them. If not, nothing is deleted.
    pub are_certain: bool,
}

/// What an author takes along that goes on in another form.
#[derive(Clone, Debug)]
pub struct Carried {
    /// What it may have had.
    pub bases: Bases,
    /// It shows the latest content.
    pub has_latest: bool,
}

impl Carried {
    /// Nothing that is known here.
    pub fn nothing() -> Self {
        Self {
            bases: Bases {
                contents: Vec::new(),
                are_certain: false,
            },
            has_latest: false,
        }
    }
}

/// A save that was merged and stored.
#[derive(Clone, Copy, Debug)]
pub struct SavedContent<'a> {
    /// What was saved.
    pub content: &'a Content,
    /// What it was made from, if that is known.
    pub base: Option<&'a Content>,
    /// What came of it, when the page had this sequence number.
    pub outcome: (Seq, &'a Content),
    /// Whether that is another content.
    pub differs: bool,
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
            pinged: None,
            carried: Vec::new(),
            sent: BTreeSet::new(),
            has_saved: false,
            saved: None,
            has: None,
        });
    }

    /// An author goes on in this form that has saved in another one: with what it may have had there, where both forms show the page alike,
    /// and else with nothing.
    pub fn went_on(&mut self, author: SocketId, carried: Carried) {
        let has = self.latest;
        let Carried { bases, has_latest } = carried;
        let author = self.authors.entry(author).or_insert(Author {
            came_at: 0,
            came_to_nothing: !bases.are_certain,
            pinged: None,
            carried: bases.contents,
            sent: BTreeSet::new(),
            has_saved: false,
            saved: None,
            has: has_latest.then_some(has),
        });
        self.bytes += author.bytes();
        self.keep_within_limits();
    }

    /// What an author takes along that goes on in another form.
    pub fn carried(&self, author: SocketId) -> Carried {
        let has = self.authors.get(&author).and_then(|author| author.has);
        Carried {
            bases: self.bases(author),
            has_latest: has.is_some_and(|has| has == self.latest),
        }
    }

    /// An author is asked for a sign of life, behind all that it was sent. Answers come in the order of the questions, so the first
    /// question counts until it is answered.
    pub fn pinged(&mut self, author: SocketId) {
        if let Some(author) = self.authors.get_mut(&author) {
            author.pinged.get_or_insert(!author.sent.is_empty());
        }
    }

    /// An author has answered: what it was sent before has arrived, so it has this copy of the page and no other.
    pub fn answered(&mut self, author: SocketId) {
        if let Some(author) = self.authors.get_mut(&author)
            && author.pinged.take() == Some(true)
        {
            author.came_to_nothing = false;
        }
    }

    /// An author has gone. Gives whether another one is left.
    pub fn went(&mut self, author: SocketId) -> bool {
        let gone = self.authors.remove(&author);
        self.bytes -= gone.map_or(0, |author| author.bytes());
        !self.authors.is_empty()
    }

    /// The page has a content now. Nothing changes when it is the latest one.
    pub fn learn(&mut self, seq: Seq, content: &Content) {
        if let Some(last) = self.kept.back_mut()
            && last.content.get() == content.get()
        {
            last.last = last.last.max(seq);
            return;
        }
        self.latest += 1;
        self.bytes += content.get().len();
        self.kept.push_back(Version {
            number: self.latest,
            first: seq,
            last: seq,
            content: content.clone(),
        });
        self.keep_within_limits();
    }

    /// Forgets the oldest contents, of the page and then of its authors, until the rest is within the limits. The latest one is kept.
    fn keep_within_limits(&mut self) {
        let VersionLimits { count, bytes } = self.limits;
        while self.kept.len() > 1
            && (self.kept.len() > count || self.bytes > bytes)
            && let Some(oldest) = self.kept.pop_front()
        {
            self.bytes -= oldest.content.get().len();
            for author in self.authors.values_mut() {
                author.sent.remove(&oldest.number);
            }
        }
        while self.bytes > bytes
            && let Some(author) = self
                .authors
                .values_mut()
                .find(|author| !author.carried.is_empty())
        {
            // What it may have had is not all known any more.
            self.bytes -= author.bytes();
            author.carried.clear();
            author.came_to_nothing = true;
            self.bytes += author.bytes();
        }
        while self.bytes > bytes {
            let saved = self.authors.values_mut().filter(|author| author.saved.is_some());
            let oldest = saved.min_by_key(|author| author.saved.as_ref().map(|(number, _)| *number));
            let Some(author) = oldest else {
                return;
            };
            self.bytes -= author.bytes();
            // It may have had what came of it, or anything of then.
            author.came_at = author.saved.take().map_or(0, |(number, _)| number + 1);
        }
    }

    /// The latest content, and its sequence number.
    pub fn latest(&self) -> Option<(Seq, &Content)> {
        self.kept.back().map(|version| (version.last, &version.content))
    }

    /// Those who show something else than the latest content. They are to be sent it, and count as having been.
    pub fn send_latest(&mut self) -> Vec<SocketId> {
        let number = match self.kept.back() {
            Some(latest) => latest.number,
            None => return Vec::new(),
        };
        let mut behind = Vec::new();
        for (id, author) in &mut self.authors {
            if author.has != Some(number) {
                author.has = Some(number);
                author.sent.insert(number);
                behind.push(*id);
            }
        }
        behind
    }

    /// An author has saved a content. It has had nothing since that is older: no version of before it came, and none that it was sent
    /// before the base. What it was sent later may have been on its way while it saved.
    pub fn saved(&mut self, author: SocketId, saved: SavedContent<'_>) {
        let base = saved.base.and_then(|base| {
            let mut versions = self.kept.iter().rev();
            let version = versions.find(|version| version.content.get() == base.get())?;
            Some(version.number)
        });
        let latest = self.latest;
        if let Some(author) = self.authors.get_mut(&author) {
            self.bytes -= author.bytes();
            if let Some(base) = base {
                author.sent.retain(|sent| *sent > base);
            }
            let carried = author.carried.iter();
            let at = saved.base.and_then(|base| {
                let mut carried = carried.clone();
                carried.position(|content| content.get() == base.get())
            });
            // Unless it was made from one of them, it was made from something later.
            author.carried.truncate(at.unwrap_or(0));
            author.came_at = 0;
            author.has_saved = true;
            author.saved = Some((latest, saved.content.clone()));
            author.has = None;
            self.bytes += author.bytes();
        }
        let (seq, outcome) = saved.outcome;
        self.learn(seq, outcome);
        if let Some(author) = self.authors.get_mut(&author).filter(|_| !saved.differs) {
            author.has = Some(self.latest);
        }
        self.keep_within_limits();
    }

    /// What the base of a save may be. O(versions).
    pub fn bases(&self, author: SocketId) -> Bases {
        let Some(author) = self.authors.get(&author) else {
            return Bases {
                contents: Vec::new(),
                are_certain: false,
            };
        };
        let may_have =
            |version: &&Version| version.number <= author.came_at || author.sent.contains(&version.number);
        let mut versions: Vec<(u64, &Content)> = (self.kept.iter().rev())
            .filter(may_have)
            .map(|version| (version.number, &version.content))
            .collect();
        if let Some((number, saved)) = &author.saved {
            let is_later = |(version, _): &&(u64, &Content)| version > number;
            let later = versions.iter().take_while(is_later).count();
            versions.insert(later, (*number, saved));
        }
        let mut contents: Vec<Content> = Vec::new();
        let versions = versions.into_iter().map(|(_, content)| content);
        for content in versions.chain(&author.carried) {
            if contents.iter().all(|known| known.get() != content.get()) {
                contents.push(content.clone());
            }
        }
        Bases {
            contents,
            // Who came to an empty page may have had the application's own copy of it, which was never seen here.
            are_certain: !author.came_to_nothing || author.has_saved,
        }
    }

    /// The content that the page had at a sequence number, for a client that knows the base of its save.
    pub fn at(&self, seq: Seq) -> Option<&Content> {
        let mut versions = self.kept.iter().rev();
        let version = versions.find(|version| (version.first..=version.last).contains(&seq))?;
        Some(&version.content)
    }
}

impl Author {
    /// Bytes of what it has saved, and of what it has carried along.
    fn bytes(&self) -> usize {
        let saved = self.saved.iter().map(|(_, content)| content);
        saved
            .chain(&self.carried)
            .map(|content| content.get().len())
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    const ADA: SocketId = SocketId(1);
    const BEN: SocketId = SocketId(2);

    fn versions() -> Versions {
        Versions::new(VersionLimits {
            count: 3,
            bytes: 10_000,
        })
    }

    fn text(text: &str) -> Content {
        let json = serde_json::Value::from(text).to_string();
        RawValue::from_string(json).expect("JSON").into()
    }

    fn contents(bases: &Bases) -> Vec<String> {
        let contents = bases.contents.iter();
        let text = |content: &Content| serde_json::from_str(content.get()).expect("a text");
        contents.map(text).collect()
    }

    /// A save of `content`, made from `base`, of which `outcome` came.
    fn save(
        versions: &mut Versions,
        author: SocketId,
        content: &str,
        base: Option<&str>,
        outcome: (Seq, &str),
    ) {
        let (content, base, merged) = (text(content), base.map(text), text(outcome.1));
        versions.saved(
            author,
            SavedContent {
                content: &content,
                base: base.as_ref(),
                outcome: (outcome.0, &merged),
                differs: content.get() != merged.get(),
            },
        );
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
        save(&mut versions, ADA, "mine", Some("2"), (4, "3 and mine"));
        assert_eq!(
            contents(&versions.bases(ADA)),
            ["mine", "3"],
            "the third was on its way"
        );
        assert_eq!(versions.send_latest(), [ADA], "it came out otherwise");
        assert_eq!(contents(&versions.bases(ADA)), ["3 and mine", "mine", "3"]);
        let more = "3 and mine and more";
        save(&mut versions, ADA, more, Some("3 and mine"), (5, more));
        assert_eq!(
            contents(&versions.bases(ADA)),
            [more],
            "what it takes away again is gone"
        );
        assert_eq!(versions.send_latest(), [], "it came out as it was saved");
        assert_eq!(versions.latest().map(|(seq, _)| seq), Some(5));
        assert!(versions.bases(BEN).contents.is_empty());
    }

    #[test]
    fn who_has_heard_what_it_was_sent_is_certain_to_have_had_that() {
        let mut versions = versions();
        versions.came(ADA, true);
        versions.pinged(ADA);
        versions.learn(1, &text("1"));
        assert_eq!(versions.send_latest(), [ADA]);
        versions.pinged(ADA);
        versions.answered(ADA);
        assert!(
            !versions.bases(ADA).are_certain,
            "it was asked before it was sent anything"
        );
        versions.answered(ADA);
        assert!(!versions.bases(ADA).are_certain, "nobody has asked");
        versions.pinged(ADA);
        versions.answered(ADA);
        let bases = versions.bases(ADA);
        assert!(bases.are_certain);
        assert_eq!(contents(&bases), ["1"]);
    }

    #[test]
    fn who_goes_on_in_another_form_takes_along_what_it_may_have_had() {
        let (mut before, mut after) = (versions(), versions());
        before.learn(1, &text("1"));
        before.came(ADA, false);
        assert_eq!(before.send_latest(), [ADA]);
        before.learn(2, &text("2"));
        let carried = before.carried(ADA);
        assert!(!carried.has_latest);
        after.learn(2, &text("2"));
        after.went_on(ADA, carried);
        let bases = after.bases(ADA);
        assert!(bases.are_certain);
        assert_eq!(contents(&bases), ["1"], "it has not been sent the second");
        assert_eq!(after.send_latest(), [ADA]);
        assert_eq!(contents(&after.bases(ADA)), ["2", "1"]);
        save(&mut after, ADA, "1 more", Some("1"), (3, "2 more"));
        assert_eq!(contents(&after.bases(ADA)), ["1 more", "2"], "nothing older");
        after.went_on(BEN, Carried::nothing());
        assert!(!after.bases(BEN).are_certain && after.bases(BEN).contents.is_empty());
        let huge = text(&"x".repeat(20_000));
        after.went(BEN);
        let carried = Carried {
            bases: Bases {
                contents: vec![huge],
                are_certain: true,
            },
            has_latest: true,
        };
        after.went_on(BEN, carried);
        assert!(!after.bases(BEN).are_certain, "it is too much to be kept");
        assert!(after.bytes <= 10_000);
    }

    #[test]
    fn who_came_to_an_empty_page_is_not_certain_to_have_had_anything_before_its_first_save() {
        let mut versions = versions();
        versions.came(ADA, true);
        versions.came(BEN, true);
        let begun = "from the application, by Ada";
        save(&mut versions, ADA, begun, None, (1, begun));
        assert!(versions.bases(ADA).are_certain);
        let bases = versions.bases(BEN);
        assert!(bases.contents.is_empty() && !bases.are_certain);
        assert_eq!(versions.send_latest(), [BEN]);
        let bases = versions.bases(BEN);
        assert_eq!(contents(&bases), ["from the application, by Ada"]);
        assert!(!bases.are_certain, "it may have crossed the save");
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
        versions.learn(6, &text(&"x".repeat(9_999)));
        versions.send_latest();
        assert_eq!(versions.bases(ADA).contents.len(), 1, "the latest is always kept");
        assert!(!versions.went(ADA));
    }

    #[test]
    fn what_authors_save_counts_as_kept() {
        let mut versions = versions();
        let authors: Vec<SocketId> = (10..20).map(SocketId).collect();
        for (seq, author) in (1..).zip(&authors) {
            versions.came(*author, false);
            save(
                &mut versions,
                *author,
                &"x".repeat(3_000),
                None,
                (seq, &seq.to_string()),
            );
        }
        assert!(versions.bytes <= 10_000, "{} bytes are kept", versions.bytes);
        let kept = authors
            .iter()
            .filter(|author| versions.authors[author].saved.is_some());
        assert_eq!(kept.count(), 3, "the latest");
        for author in &authors {
            versions.went(*author);
        }
        let left: usize = (versions.kept.iter())
            .map(|version| version.content.get().len())
            .sum();
        assert_eq!(versions.bytes, left);
    }

    #[test]
    fn a_version_is_found_by_its_sequence_number() {
        let mut versions = versions();
        versions.learn(3, &text("a"));
        versions.learn(5, &text("a"));
        versions.learn(7, &text("b"));
        for seq in 3..=5 {
            assert_eq!(
                versions.at(seq).map(|content| content.get()),
                Some("\"a\""),
                "{seq}"
            );
        }
        assert_eq!(versions.at(7).map(|content| content.get()), Some("\"b\""));
        assert_eq!(versions.at(2).map(|content| content.get()), None);
        assert_eq!(
            versions.at(6).map(|content| content.get()),
            None,
            "nobody was sent that"
        );
    }
}
