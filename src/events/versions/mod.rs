//! The contents of a page that the authors of whole contents may have: what each of them was sent, saved, or may have had before it came.
//!
//! A save of a whole content says nothing of the copy that it was made from. Its author had one of: what it saved last, over this
//! connection or, before it came, over another one; a version that it was sent; any version of before it came. Of these the one that is
//! nearest to the save is taken for its base. Versions are kept for this up to a count and a size for each page, the latest ones.

mod past;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::RangeInclusive,
};

use storage::Seq;

pub use self::past::Older;
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

/// The number of all versions of before the first author came. Later ones have larger numbers.
const PAST: u64 = 0;

/// A content of a page, or one that somebody has saved and that came out otherwise.
#[derive(Clone, Debug)]
struct Version {
    /// Of what was saved the number of what came of it.
    number: u64,
    kind: Kind,
    content: Content,
}

#[derive(Clone, Debug)]
enum Kind {
    /// The page had it from one sequence number to another one.
    Page(RangeInclusive<Seq>),
    /// It is what this author saved last, whose program may come back with it over another connection.
    Copy(SocketId),
}

impl Version {
    fn is_of_page(&self) -> bool {
        matches!(self.kind, Kind::Page(_))
    }
}

/// An author of whole contents.
#[derive(Debug)]
struct Author {
    /// The latest version when it came: it may have had that or any earlier one. `None` if it has had none of then.
    came_at: Option<u64>,
    /// It had another connection before, so it may also have had something of before anybody came.
    has_returned: bool,
    /// The page was empty then, and that may be what it shows until it has saved.
    came_to_nothing: bool,
    /// Its next save may be of a content that is not known here: of an empty page the application may have had a copy.
    is_uncertain: bool,
    /// The first question for a sign of life that it was asked behind a version, while that is not answered.
    pinged: Option<u64>,
    /// What it may have had when it went on in this form, the latest first.
    carried: Vec<Content>,
    /// Versions that it was sent, and that it can still have made its next save from.
    sent: BTreeSet<u64>,
    /// It may have had a version that was forgotten.
    lacks_some: bool,
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
    /// The oldest first. The last one is of the page.
    kept: VecDeque<Version>,
    /// Of the kept ones, and of what authors have saved.
    bytes: usize,
    authors: BTreeMap<SocketId, Author>,
    /// The oldest ones are not kept any more.
    has_forgotten: bool,
    /// What the page was like before this row has not been learnt: it was so before the first author came.
    unread_before: Option<Seq>,
    /// What it was like then is not all kept.
    lacks_past: bool,
}

/// What the base of a save may be.
#[derive(Clone, Debug)]
pub struct Bases {
    /// The contents that its author may have had, the latest first.
    pub contents: Vec<Content>,
    /// Whether it may have had nothing, as the page was when it came.
    pub has_nothing: bool,
    /// Whether it is certain that the author had one of them. If not, nothing is deleted.
    pub are_certain: bool,
    /// Whether it may have had an older one that is not kept any more.
    pub lacks_some: bool,
}

impl Bases {
    /// Nothing that is known here.
    pub fn none() -> Self {
        Self {
            contents: Vec::new(),
            has_nothing: false,
            are_certain: false,
            lacks_some: false,
        }
    }
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
            bases: Bases::none(),
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
    /// Whether it is certain that it was made from that.
    pub is_certain: bool,
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
            has_forgotten: false,
            unread_before: None,
            lacks_past: false,
        }
    }

    /// An author has come, when the page had the latest version, or nothing.
    pub fn came(&mut self, author: SocketId, to_nothing: bool) {
        let came_at = Some(self.latest);
        self.authors.entry(author).or_insert(Author {
            came_at,
            has_returned: false,
            came_to_nothing: to_nothing,
            is_uncertain: to_nothing,
            pinged: None,
            carried: Vec::new(),
            sent: BTreeSet::new(),
            lacks_some: self.has_forgotten,
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
            came_at: None,
            has_returned: false,
            came_to_nothing: bases.has_nothing,
            is_uncertain: !bases.are_certain,
            pinged: None,
            carried: bases.contents,
            sent: BTreeSet::new(),
            lacks_some: bases.lacks_some,
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

    /// An author is asked for a sign of life, behind all that it was sent. Its questions are numbered, the later the higher: answers come
    /// in their order, and several may be open.
    pub fn pinged(&mut self, author: SocketId, number: u64) {
        if let Some(author) = self.authors.get_mut(&author)
            && !author.sent.is_empty()
        {
            author.pinged.get_or_insert(number);
        }
    }

    /// An author has answered a question: what it was sent before has arrived, so it has this copy of the page and no other.
    pub fn answered(&mut self, author: SocketId, number: u64) {
        if let Some(author) = self.authors.get_mut(&author)
            && author.pinged.is_some_and(|pinged| pinged <= number)
        {
            author.pinged = None;
            author.is_uncertain = false;
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
        if self.kept.is_empty() && self.authors.is_empty() {
            self.unread_before = Some(seq);
        }
        if let Some(last) = self.kept.back_mut()
            && last.content.get() == content.get()
            && let Kind::Page(at) = &mut last.kind
        {
            *at = *at.start()..=seq.max(*at.end());
            return;
        }
        self.latest += 1;
        self.bytes += content.get().len();
        self.kept.push_back(Version {
            number: self.latest,
            kind: Kind::Page(seq..=seq),
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
            match oldest.number {
                PAST => self.lacks_past = true,
                _ => self.has_forgotten = true,
            }
            for author in self.authors.values_mut().filter(|_| oldest.is_of_page()) {
                author.lacks_some |= author.sent.remove(&oldest.number) || author.may_have_had(oldest.number);
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
            author.is_uncertain = true;
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
            author.came_at = author.saved.take().map(|(number, _)| number + 1);
        }
    }

    /// The latest content, and its sequence number.
    pub fn latest(&self) -> Option<(Seq, &Content)> {
        let latest = self.kept.back()?;
        match &latest.kind {
            Kind::Page(at) => Some((*at.end(), &latest.content)),
            Kind::Copy(_) => None,
        }
    }

    /// Those who show something else than the latest content, but for one. They are to be sent it, and count as having been.
    pub fn send_latest(&mut self, except: Option<SocketId>) -> Vec<SocketId> {
        let number = match self.kept.back() {
            Some(latest) => latest.number,
            None => return Vec::new(),
        };
        let mut behind = Vec::new();
        for (id, author) in &mut self.authors {
            if author.has != Some(number) && except != Some(*id) {
                author.has = Some(number);
                author.sent.insert(number);
                behind.push(*id);
            }
        }
        behind
    }

    /// An author has saved a content. It has had nothing since that is older: no version of before it came, and none that it was sent
    /// before the base. What it was sent later may have been on its way while it saved.
    pub fn saved(&mut self, id: SocketId, saved: SavedContent<'_>) {
        let base = saved.base.and_then(|base| {
            let mut versions = self.kept.iter().rev().filter(|version| version.is_of_page());
            let version = versions.find(|version| version.content.get() == base.get())?;
            Some(version.number)
        });
        let latest = self.latest;
        if let Some(author) = self.authors.get_mut(&id) {
            self.bytes -= author.bytes();
            // Who may have had something else may not have been reached by that either.
            if let Some(base) = base.filter(|_| saved.is_certain) {
                author.sent.retain(|sent| *sent > base);
            }
            let carried = author.carried.iter();
            let at = saved.base.and_then(|base| {
                let mut carried = carried.clone();
                carried.position(|content| content.get() == base.get())
            });
            // Unless it was made from one of them, it was made from something later.
            author.carried.truncate(at.unwrap_or(0));
            author.came_at = None;
            author.lacks_some = false;
            author.has_saved = true;
            author.saved = Some((latest, saved.content.clone()));
            author.has = None;
            self.bytes += author.bytes();
        }
        let (seq, outcome) = saved.outcome;
        self.learn(seq, outcome);
        if let Some(author) = self.authors.get_mut(&id).filter(|_| !saved.differs) {
            author.has = Some(self.latest);
        }
        self.keep_copy(id, saved.content, saved.differs);
        self.keep_within_limits();
    }

    /// Keeps what an author has saved instead of what it had saved before, if that is not what the page has now.
    fn keep_copy(&mut self, author: SocketId, content: &Content, differs: bool) {
        let is_own = |version: &Version| matches!(version.kind, Kind::Copy(of) if of == author);
        if let Some(at) = self.kept.iter().position(is_own)
            && let Some(before) = self.kept.remove(at)
        {
            self.bytes -= before.content.get().len();
        }
        if differs && self.kept.iter().all(|known| known.content.get() != content.get()) {
            self.bytes += content.get().len();
            let copy = Version {
                number: self.latest,
                kind: Kind::Copy(author),
                content: content.clone(),
            };
            self.kept.insert(self.kept.len().saturating_sub(1), copy);
        }
    }

    /// What the base of a save may be. O(versions).
    pub fn bases(&self, author: SocketId) -> Bases {
        let Some(author) = self.authors.get(&author) else {
            return Bases::none();
        };
        let may_have = |version: &&Version| {
            author.may_have_had(version.number)
                || version.is_of_page() && author.sent.contains(&version.number)
        };
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
            has_nothing: author.came_to_nothing && !author.has_saved,
            // Who came to an empty page may have had the application's own copy of it, which was never seen here.
            are_certain: !author.is_uncertain || author.has_saved,
            lacks_some: author.lacks_some,
        }
    }

    /// Bytes of the contents that are kept.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The content that the page had at a sequence number, for a client that knows the base of its save.
    pub fn at(&self, seq: Seq) -> Option<&Content> {
        let mut versions = self.kept.iter().rev();
        let version =
            versions.find(|version| matches!(&version.kind, Kind::Page(at) if at.contains(&seq)))?;
        Some(&version.content)
    }
}

impl Author {
    /// Whether it may have had a version when it came.
    fn may_have_had(&self, version: u64) -> bool {
        let is_of_then = version != PAST || self.has_returned;
        is_of_then && self.came_at.is_some_and(|came_at| version <= came_at)
    }

    /// Bytes of what it has saved, and of what it has carried along.
    fn bytes(&self) -> usize {
        let saved = self.saved.iter().map(|(_, content)| content);
        saved
            .chain(&self.carried)
            .map(|content| content.get().len())
            .sum()
    }
}
