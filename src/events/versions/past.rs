//! What a page was like before its first author came: an author that had another connection before may have a copy of then.

use storage::Seq;

use super::{Content, Kind, PAST, SocketId, Version, VersionLimits, Versions};

/// What a page was like before its first author came.
#[derive(Debug, Default)]
pub struct Older {
    /// Its contents, each with the number of the row after which the page had it, the latest first.
    pub contents: Vec<(Seq, Content)>,
    /// There are still older ones.
    pub are_more: bool,
}

impl Versions {
    /// An author that has come had another connection before.
    pub fn returned(&mut self, author: SocketId) {
        if let Some(author) = self.authors.get_mut(&author) {
            author.has_returned = true;
            author.lacks_some |= self.lacks_past && author.came_at.is_some();
        }
    }

    /// The row before which the page's past is to be learnt before a content can be saved: its author may have had something of then. `None`
    /// when it has not, or that is known.
    pub fn unread_past(&self, author: SocketId, saved: &Content) -> Option<Seq> {
        let before = self.unread_before?;
        let author = self.authors.get(&author)?;
        let is_known = self.kept.iter().any(|known| known.content.get() == saved.get());
        (author.may_have_had(PAST) && !is_known).then_some(before)
    }

    /// What the page was like before this author came cannot be learnt now.
    pub fn lacks_past(&mut self, author: SocketId) {
        if let Some(author) = self.authors.get_mut(&author) {
            author.lacks_some = true;
        }
    }

    /// The page was like this before the first author came. As much of it is kept as there is place for.
    pub fn learn_past(&mut self, older: Older) {
        self.unread_before = None;
        let VersionLimits { count, bytes } = self.limits;
        for (seq, content) in older.contents {
            if let Some(first) = self.kept.front_mut()
                && first.content.get() == content.get()
                && let Kind::Page(at) = &mut first.kind
            {
                *at = seq..=*at.end();
                continue;
            }
            let size = content.get().len();
            if self.kept.len() >= count || self.bytes + size > bytes {
                self.lacks_past = true;
                break;
            }
            self.bytes += size;
            self.kept.push_front(Version {
                number: PAST,
                kind: Kind::Page(seq..=seq),
                content,
            });
        }
        self.lacks_past |= older.are_more;
        for author in self
            .authors
            .values_mut()
            .filter(|author| author.may_have_had(PAST))
        {
            author.lacks_some |= self.lacks_past;
        }
    }
}
