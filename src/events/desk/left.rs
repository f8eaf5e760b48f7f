//! What the pages that have no author now were like: a program comes back with an old copy after a while, and the others may have gone
//! meanwhile.

use std::collections::BTreeMap;

use storage::{Generation, PageId};

use super::{Shape, Versions};

/// Pages without authors of which it is remembered what they were like.
const MAX_LEFT_PAGES: usize = 1_000;
/// The bytes of all these contents.
const MAX_LEFT_BYTES: usize = 64 * 1024 * 1024;

/// The contents of one page, in each form in which it had authors.
pub(super) type Forms = BTreeMap<Shape, Versions>;

/// What a page was like in forms in which it has no author now.
#[derive(Debug, Default)]
pub(super) struct Past {
    pub(super) forms: Forms,
    /// Of which generation of the page that is: another one was not made from it.
    pub(super) generation: Option<Generation>,
}

impl Past {
    /// The page is read, and has this generation, if it is there.
    pub(super) fn is_read(&mut self, generation: Option<Generation>) {
        if self.generation != generation {
            self.forms.clear();
            self.generation = generation;
        }
    }

    fn bytes(&self) -> usize {
        self.forms.values().map(Versions::bytes).sum()
    }
}

/// What pages without authors were like, the latest ones.
#[derive(Debug, Default)]
pub(super) struct Left {
    pages: BTreeMap<PageId, (u64, Past)>,
    /// Which page was left when.
    order: BTreeMap<u64, PageId>,
    count: u64,
    bytes: usize,
}

impl Left {
    /// The last author of a page has gone. Those that were left longest ago are forgotten beyond the limits.
    pub(super) fn keep(&mut self, page: &PageId, past: Past) {
        drop(self.take(page));
        if past.forms.is_empty() {
            return;
        }
        self.count += 1;
        self.bytes += past.bytes();
        self.order.insert(self.count, page.clone());
        self.pages.insert(page.clone(), (self.count, past));
        while (self.bytes > MAX_LEFT_BYTES || self.pages.len() > MAX_LEFT_PAGES)
            && let Some((_, oldest)) = self.order.pop_first()
        {
            drop(self.take(&oldest));
        }
    }

    /// A page has an author again.
    pub(super) fn take(&mut self, page: &PageId) -> Past {
        let Some((number, past)) = self.pages.remove(page) else {
            return Past::default();
        };
        self.order.remove(&number);
        self.bytes -= past.bytes();
        past
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::events::{VersionLimits, desk::Content};

    fn page(number: usize) -> PageId {
        PageId::new(&format!("p{number}")).expect("a name")
    }

    fn past(bytes: usize) -> Past {
        let mut versions = Versions::new(VersionLimits {
            count: 8,
            bytes: usize::MAX,
        });
        let text = format!("\"{}\"", "x".repeat(bytes - 2));
        let content: Content = RawValue::from_string(text).expect("JSON").into();
        versions.learn(1, &content);
        Past {
            forms: Forms::from([(Shape::default(), versions)]),
            generation: Some(Generation("g".into())),
        }
    }

    #[test]
    fn what_was_left_longest_ago_is_forgotten_first() {
        let mut left = Left::default();
        for number in 0..=MAX_LEFT_PAGES {
            left.keep(&page(number), past(10));
        }
        assert!(left.take(&page(0)).forms.is_empty());
        assert_eq!(left.take(&page(1)).forms.len(), 1);
        assert!(left.take(&page(1)).forms.is_empty(), "it is given back once");
        assert_eq!(left.bytes, 10 * (MAX_LEFT_PAGES - 1));
        left.keep(&page(2), past(20));
        assert_eq!(left.bytes, 10 * MAX_LEFT_PAGES, "instead of what there was");
        left.keep(&page(3), past(MAX_LEFT_BYTES - 20));
        assert_eq!(
            (left.pages.len(), left.order.len()),
            (2, 2),
            "the large one and the last before it"
        );
        left.keep(&page(4), past(MAX_LEFT_BYTES + 1));
        assert_eq!((left.pages.len(), left.order.len(), left.bytes), (0, 0, 0));
    }

    #[test]
    fn another_generation_has_no_past() {
        let mut past = past(10);
        past.is_read(Some(Generation("g".into())));
        assert_eq!(past.forms.len(), 1);
        past.is_read(Some(Generation("another".into())));
        assert!(past.forms.is_empty());
    }
}
