//! The pages that could not be read, or not in one form: in which state, how often, and when they may be tried again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{ReadError, protocol::Kind};

/// How many pages are remembered.
const MAX_MARKED: usize = 10_000;

/// A page that fails in one state after the other is tried after pauses that double.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// What cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The page, whatever is asked.
    Page,
    /// The page can be read, and questions of one kind cannot be answered.
    Question(Kind),
}

impl Scope {
    /// How it is told to who asks.
    pub(super) fn error(self, reason: &Arc<str>) -> ReadError {
        match self {
            Self::Page => ReadError::Unreadable {
                reason: reason.clone(),
            },
            Self::Question(_) => ReadError::Unshown {
                reason: reason.to_string(),
            },
        }
    }
}

struct Mark {
    scope: Scope,
    /// The digest of the state that failed last.
    version: Arc<str>,
    reason: Arc<str>,
    tries: u32,
    retry_at: Instant,
}

/// The pages that are unreadable, or not in every form. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Marks(Arc<Mutex<BTreeMap<Arc<str>, Vec<Mark>>>>);

impl Marks {
    /// Why a question is not even tried with a page in this state now.
    pub(super) fn forbids(
        &self,
        page: &str,
        kind: Option<Kind>,
        version: &str,
        now: Instant,
    ) -> Option<ReadError> {
        let marks = self.marks();
        let mut marks = marks.get(page)?.iter();
        let mark = marks.find(|mark| {
            (mark.scope == Scope::Page || Some(mark.scope) == kind.map(Scope::Question))
                && (&*mark.version == version || now < mark.retry_at)
        })?;
        Some(mark.scope.error(&mark.reason))
    }

    /// Whether nothing could be read of a page when that was tried last.
    pub(super) fn is_unreadable(&self, page: &str) -> bool {
        let marks = self.marks();
        let mut marks = marks.get(page).into_iter().flatten();
        marks.any(|mark| mark.scope == Scope::Page)
    }

    pub(super) fn failed(
        &self,
        page: Arc<str>,
        scope: Scope,
        version: Arc<str>,
        reason: Arc<str>,
        now: Instant,
    ) {
        let mut all = self.marks();
        if all.len() >= MAX_MARKED && !all.contains_key(&page) {
            let last_try = |marks: &[Mark]| marks.iter().map(|mark| mark.retry_at).max();
            let next = all.iter().min_by_key(|(_, marks)| last_try(marks));
            if let Some(next) = next.map(|(page, _)| page.clone()) {
                all.remove(&next);
            }
        }
        let marks = all.entry(page).or_default();
        let before = marks.iter().position(|mark| mark.scope == scope);
        let before = before.map(|index| marks.swap_remove(index).tries);
        let tries = before.unwrap_or(0).saturating_add(1);
        let pause = FIRST_PAUSE
            .saturating_mul(1 << (tries - 1).min(16))
            .min(LONGEST_PAUSE);
        marks.push(Mark {
            scope,
            version,
            reason,
            tries,
            retry_at: now + pause,
        });
    }

    /// A question has been answered: the page can be read, and whatever else cannot be asked of it.
    pub(super) fn succeeded(&self, page: &str, kind: Option<Kind>) {
        let mut all = self.marks();
        if let Some(marks) = all.get_mut(page) {
            let kind = kind.map(Scope::Question);
            marks.retain(|mark| mark.scope != Scope::Page && Some(mark.scope) != kind);
            if marks.is_empty() {
                all.remove(page);
            }
        }
    }

    fn marks(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Vec<Mark>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use crdt::Form;

    use super::{Duration, Instant, Kind, MAX_MARKED, Marks, ReadError, Scope};

    const HTML: Option<Kind> = Some(Kind::Content(Form::Html));
    const TEXT: Option<Kind> = Some(Kind::Content(Form::Text));

    #[tokio::test]
    async fn a_page_is_tried_again_when_it_has_changed_and_after_longer_and_longer_pauses() {
        for scope in [Scope::Page, Scope::Question(Kind::Content(Form::Html))] {
            let (marks, mut now) = (Marks::default(), Instant::now());
            for (version, pause) in [("1", 1), ("2", 2), ("3", 4)] {
                marks.failed("page".into(), scope, version.into(), "because".into(), now);
                let almost = now + Duration::from_millis(pause * 1000 - 1);
                assert!(marks.forbids("page", HTML, "another", almost).is_some());
                now += Duration::from_secs(pause);
                assert!(marks.forbids("page", HTML, "another", now).is_none());
                assert!(marks.forbids("page", HTML, version, now).is_some());
            }
            assert!(marks.forbids("neighbour", HTML, "3", now).is_none());
            marks.succeeded("page", HTML);
            assert!(marks.forbids("page", HTML, "3", now).is_none());
        }
    }

    #[tokio::test]
    async fn a_form_that_cannot_be_shown_forbids_no_other_question() {
        let (marks, now) = (Marks::default(), Instant::now());
        let html = Scope::Question(Kind::Content(Form::Html));
        marks.failed("page".into(), html, "1".into(), "because".into(), now);
        let error = marks.forbids("page", HTML, "1", now);
        assert!(matches!(error, Some(ReadError::Unshown { .. })), "{error:?}");
        for kind in [TEXT, Some(Kind::Fields), None] {
            assert_eq!(marks.forbids("page", kind, "1", now), None);
        }
        assert!(!marks.is_unreadable("page"));
        marks.succeeded("page", TEXT);
        assert!(marks.forbids("page", HTML, "1", now).is_some());
        // Of a page that cannot be read nothing is asked, until something was answered.
        marks.failed("page".into(), Scope::Page, "1".into(), "because".into(), now);
        for kind in [TEXT, Some(Kind::Fields), None] {
            let error = marks.forbids("page", kind, "1", now);
            assert!(matches!(error, Some(ReadError::Unreadable { .. })), "{error:?}");
        }
        assert!(marks.is_unreadable("page"));
        marks.succeeded("page", None);
        assert!(!marks.is_unreadable("page") && marks.forbids("page", TEXT, "1", now).is_none());
        assert!(marks.forbids("page", HTML, "1", now).is_some());
    }

    #[tokio::test]
    async fn only_so_many_pages_are_remembered() {
        let (marks, now) = (Marks::default(), Instant::now());
        for page in 0..=MAX_MARKED as u64 {
            let at = now + Duration::from_secs(page);
            let page = page.to_string().into();
            marks.failed(page, Scope::Page, "1".into(), "because".into(), at);
        }
        assert_eq!(marks.marks().len(), MAX_MARKED);
        assert!(!marks.is_unreadable("0") && marks.is_unreadable("1"));
    }
}
