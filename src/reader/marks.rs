//! The pages that could not be read: in which state, how often, and when they may be tried again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How many pages are remembered.
const MAX_MARKS: usize = 10_000;

/// A page that fails in one state after the other is tried after pauses that double.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

struct Mark {
    /// The digest of the state that failed last.
    version: Arc<str>,
    reason: Arc<str>,
    tries: u32,
    retry_at: Instant,
}

/// The pages that are unreadable. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Marks(Arc<Mutex<BTreeMap<Arc<str>, Mark>>>);

impl Marks {
    /// Why a page is not even tried in this state now.
    pub(super) fn forbids(&self, page: &str, version: &str, now: Instant) -> Option<Arc<str>> {
        let marks = self.marks();
        let mark = marks.get(page)?;
        (&*mark.version == version || now < mark.retry_at).then(|| mark.reason.clone())
    }

    pub(super) fn is_marked(&self, page: &str) -> bool {
        self.marks().contains_key(page)
    }

    pub(super) fn failed(&self, page: Arc<str>, version: Arc<str>, reason: Arc<str>, now: Instant) {
        let mut marks = self.marks();
        let tries = marks.get(&page).map_or(0, |mark| mark.tries).saturating_add(1);
        let pause = FIRST_PAUSE
            .saturating_mul(1 << (tries - 1).min(16))
            .min(LONGEST_PAUSE);
        if marks.len() >= MAX_MARKS && !marks.contains_key(&page) {
            let next = marks.iter().min_by_key(|(_, mark)| mark.retry_at);
            if let Some(next) = next.map(|(page, _)| page.clone()) {
                marks.remove(&next);
            }
        }
        let retry_at = now + pause;
        marks.insert(
            page,
            Mark {
                version,
                reason,
                tries,
                retry_at,
            },
        );
    }

    pub(super) fn succeeded(&self, page: &str) {
        self.marks().remove(page);
    }

    fn marks(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Mark>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, Instant, MAX_MARKS, Marks};

    #[tokio::test]
    async fn a_page_is_tried_again_when_it_has_changed_and_after_longer_and_longer_pauses() {
        let (marks, mut now) = (Marks::default(), Instant::now());
        for (version, pause) in [("1", 1), ("2", 2), ("3", 4)] {
            marks.failed("page".into(), version.into(), "because".into(), now);
            let almost = now + Duration::from_millis(pause * 1000 - 1);
            assert!(marks.forbids("page", "another", almost).is_some());
            now += Duration::from_secs(pause);
            assert!(marks.forbids("page", "another", now).is_none());
            assert!(marks.forbids("page", version, now).is_some());
        }
        assert!(marks.is_marked("page") && marks.forbids("neighbour", "3", now).is_none());
        marks.succeeded("page");
        assert!(!marks.is_marked("page"));
    }

    #[tokio::test]
    async fn only_so_many_pages_are_remembered() {
        let (marks, now) = (Marks::default(), Instant::now());
        for page in 0..=MAX_MARKS as u64 {
            let at = now + Duration::from_secs(page);
            marks.failed(page.to_string().into(), "1".into(), "because".into(), at);
        }
        assert_eq!(marks.marks().len(), MAX_MARKS);
        assert!(!marks.is_marked("0") && marks.is_marked("1"));
    }
}
