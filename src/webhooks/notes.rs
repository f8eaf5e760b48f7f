//! Which pages webhooks may have to be told of, and when (pure; time is an argument).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use storage::{Look, PageId, Seq, WebhookEvent};
use tokio::sync::Notify;

use crate::{
    auth::now,
    rooms::{AttendanceListener, StoreListener},
};

/// Pages that are noted at once. Of what comes beyond that, nothing is noted: all pages are looked through instead.
const MAX_PAGES: usize = 100_000;

/// Where is said what has happened. Cheap to clone.
#[derive(Clone, Debug)]
pub struct WebhookNotes(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    pending: Mutex<Pending>,
    noted: Notify,
    wants_changes: bool,
    wants_attendance: bool,
    wants_pages: bool,
}

/// Somebody came to a page where nobody was, or the last one left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attendance {
    pub(super) page: PageId,
    pub(super) is_attended: bool,
    pub(super) at: SystemTime,
}

/// What is to be done now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) looks: Vec<Look>,
    pub(super) attendance: Vec<Attendance>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.looks.is_empty() && self.attendance.is_empty()
    }
}

/// What has been noted.
#[derive(Debug)]
pub(super) struct Pending {
    interval: Duration,
    /// When it is told that a page has changed.
    changed: BTreeMap<PageId, Instant>,
    by_time: BTreeSet<(Instant, PageId)>,
    /// Pages to be looked at now, and whether their changes are told, too.
    prompt: BTreeMap<PageId, bool>,
    attendance: BTreeMap<PageId, Vec<(bool, SystemTime)>>,
    /// Something was not noted.
    is_incomplete: bool,
    /// Comings and goings that were not noted.
    pub(super) missed: u64,
}

impl Pending {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            changed: BTreeMap::new(),
            by_time: BTreeSet::new(),
            prompt: BTreeMap::new(),
            attendance: BTreeMap::new(),
            is_incomplete: false,
            missed: 0,
        }
    }

    /// A page has changed. It is told when an interval has passed since the first change that was not told.
    /// Whether somebody has to wake up for that.
    fn changed(&mut self, now: Instant, page: &PageId) -> bool {
        if self.changed.contains_key(page) {
            return false;
        }
        if self.changed.len() >= MAX_PAGES {
            return !std::mem::replace(&mut self.is_incomplete, true);
        }
        let at = now + self.interval;
        self.changed.insert(page.clone(), at);
        self.by_time.insert((at, page.clone()));
        // The others are not told before this one.
        self.by_time.first().is_some_and(|(first, _)| *first >= at)
    }

    /// Something else of a page is new.
    fn look(&mut self, page: &PageId, with_changes: bool) {
        if let Some(known) = self.prompt.get_mut(page) {
            *known |= with_changes;
        } else if self.prompt.len() >= MAX_PAGES {
            self.is_incomplete = true;
        } else {
            self.prompt.insert(page.clone(), with_changes);
        }
    }

    fn attended(&mut self, page: &PageId, is_attended: bool, at: SystemTime) {
        if let Some(known) = self.attendance.get_mut(page) {
            // Coming and going again while nobody could be told says nothing.
            match known.len() {
                0 | 1 => known.push((is_attended, at)),
                _ => drop(known.pop()),
            }
        } else if self.attendance.len() >= MAX_PAGES {
            self.missed += 1;
        } else {
            self.attendance.insert(page.clone(), vec![(is_attended, at)]);
        }
    }

    /// When there is something to do.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        match self.prompt.is_empty() && self.attendance.is_empty() {
            true => self.by_time.first().map(|(at, _)| *at),
            false => Some(now),
        }
    }

    /// Whether a page's change is told later, here.
    pub(super) fn is_waiting(&self, page: &PageId) -> bool {
        self.changed.contains_key(page)
    }

    /// Whether something was not noted since this was asked last.
    pub(super) fn take_incomplete(&mut self) -> bool {
        std::mem::take(&mut self.is_incomplete)
    }

    /// Takes what is to be done by `until`, of `limit` pages at most.
    pub(super) fn take(&mut self, until: Option<Instant>, limit: usize) -> Batch {
        let mut looks = BTreeMap::new();
        while looks.len() < limit
            && let Some((page, with_changes)) = self.prompt.pop_first()
        {
            if with_changes && let Some(at) = self.changed.remove(&page) {
                self.by_time.remove(&(at, page.clone()));
            }
            looks.insert(page, with_changes);
        }
        while looks.len() < limit
            && let Some((at, _)) = self.by_time.first()
            && until.is_none_or(|until| *at <= until)
            && let Some((_, page)) = self.by_time.pop_first()
        {
            self.changed.remove(&page);
            looks.insert(page, true);
        }
        let mut attendance = Vec::new();
        while attendance.len() < limit
            && let Some((page, noted)) = self.attendance.pop_first()
        {
            attendance.extend(noted.into_iter().map(|(is_attended, at)| Attendance {
                page: page.clone(),
                is_attended,
                at,
            }));
        }
        let looks = looks.into_iter();
        Batch {
            looks: looks
                .map(|(page, with_changes)| Look { page, with_changes })
                .collect(),
            attendance,
        }
    }
}

impl WebhookNotes {
    /// Notes that nobody reads.
    pub fn off() -> Self {
        Self(None)
    }

    /// Notes of what is wanted.
    pub(super) fn new(events: BTreeSet<WebhookEvent>, interval: Duration) -> Self {
        let wants = |events_of: &[WebhookEvent]| events_of.iter().any(|event| events.contains(event));
        Self(Some(Arc::new(Shared {
            pending: Mutex::new(Pending::new(interval)),
            noted: Notify::new(),
            wants_changes: wants(&[WebhookEvent::PageChanged]),
            wants_attendance: wants(&[WebhookEvent::FirstJoined, WebhookEvent::LastLeft]),
            wants_pages: wants(&[
                WebhookEvent::PageCreated,
                WebhookEvent::PageDeleted,
                WebhookEvent::PageRestored,
                WebhookEvent::VersionCreated,
            ]),
        })))
    }

    /// A page went to the trash, or came back.
    pub fn moved(&self, page: &PageId) {
        self.note(|wants, pending| {
            if wants.wants_pages {
                // What was written before is told before.
                pending.look(page, true);
            }
            wants.wants_pages
        });
    }

    /// A page has got a version.
    pub fn has_version(&self, page: &PageId) {
        self.note(|wants, pending| {
            if wants.wants_pages {
                pending.look(page, false);
            }
            wants.wants_pages
        });
    }

    /// Whether more is told than who comes and goes, which is found in what is stored.
    pub(super) fn wants_stored(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|shared| shared.wants_changes || shared.wants_pages)
    }

    /// Looks at what has been noted.
    pub(super) fn pending<T>(&self, look: impl FnOnce(&mut Pending) -> T) -> Option<T> {
        Some(look(&mut self.0.as_ref()?.pending()))
    }

    /// Waits until something has been noted.
    pub(super) async fn noted(&self) {
        match &self.0 {
            Some(shared) => shared.noted.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Notes something, and wakes whoever has to know of it at once.
    fn note(&self, note: impl FnOnce(&Shared, &mut Pending) -> bool) {
        if let Some(shared) = &self.0
            && note(shared, &mut shared.pending())
        {
            shared.noted.notify_one();
        }
    }
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AttendanceListener for WebhookNotes {
    fn attended(&self, page: &PageId, is_attended: bool) {
        self.note(|wants, pending| {
            if wants.wants_attendance {
                pending.attended(page, is_attended, now());
            }
            wants.wants_attendance
        });
    }
}

impl StoreListener for WebhookNotes {
    fn stored(&self, now: Instant, page: &PageId, seq: Seq) {
        self.note(|wants, pending| {
            let wakes = wants.wants_changes && pending.changed(now, page);
            // A page that has few rows may have come into being with them.
            let is_young = wants.wants_pages && seq <= FEW_ROWS;
            if is_young {
                pending.look(page, false);
            }
            wakes || is_young
        });
    }
}

/// A first commit mostly has one row, and hardly ever more than this.
const FEW_ROWS: Seq = 4;

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn page(id: &str) -> PageId {
        PageId::new(id).expect("an id")
    }

    fn start() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn pages(batch: &Batch) -> Vec<(&str, bool)> {
        let looks = batch.looks.iter();
        looks
            .map(|look| (look.page.as_str(), look.with_changes))
            .collect()
    }

    #[test]
    fn a_page_that_changes_all_the_time_is_told_of_once_an_interval() {
        let (start, second) = (start(), Duration::from_secs(1));
        let mut pending = Pending::new(5 * second);
        let mut told = Vec::new();
        for n in 0..20 {
            let now = start + n * second;
            let batch = pending.take(Some(now), 10);
            if !batch.is_empty() {
                assert_eq!(pages(&batch), [("p", true)]);
                told.push(n);
            }
            pending.changed(now, &page("p"));
        }
        assert_eq!(told, [5, 10, 15]);
        assert_eq!(pending.next(start), Some(start + 20 * second));
        assert_eq!(pages(&pending.take(None, 10)), [("p", true)], "at the end");
        assert_eq!(pending.next(start), None);
        assert!(pending.by_time.is_empty() && pending.changed.is_empty());
    }

    #[test]
    fn what_is_prompt_does_not_wait_and_takes_a_change_along_only_where_it_has_to() {
        let start = start();
        let mut pending = Pending::new(Duration::from_secs(5));
        for id in ["a", "b"] {
            pending.changed(start, &page(id));
        }
        pending.look(&page("a"), true);
        pending.look(&page("a"), false);
        pending.look(&page("b"), false);
        assert_eq!(pending.next(start), Some(start));
        assert_eq!(pages(&pending.take(Some(start), 10)), [("a", true), ("b", false)]);
        assert!(!pending.is_waiting(&page("a")) && pending.is_waiting(&page("b")));
        let later = start + Duration::from_secs(5);
        assert_eq!(pending.next(start), Some(later));
        assert_eq!(pages(&pending.take(Some(later), 10)), [("b", true)]);
    }

    #[test]
    fn who_comes_and_goes_at_once_is_told_in_few_words() {
        let mut pending = Pending::new(Duration::from_secs(5));
        let at = |n| UNIX_EPOCH + Duration::from_secs(n);
        // Odd and even numbers of them, ending with somebody there and with nobody.
        for (id, times, expected) in [("a", 5, vec![true]), ("b", 6, vec![true, false])] {
            for n in 0..times {
                pending.attended(&page(id), n % 2 == 0, at(n));
            }
            let batch = pending.take(None, 10);
            let noted: Vec<_> = batch.attendance.iter().map(|noted| noted.is_attended).collect();
            assert_eq!(noted, expected, "{id}");
        }
    }

    #[test]
    fn what_does_not_fit_is_looked_for_later() {
        let start = start();
        let mut pending = Pending::new(Duration::ZERO);
        for n in 0..=MAX_PAGES {
            let page = page(&n.to_string());
            pending.changed(start, &page);
            pending.attended(&page, true, UNIX_EPOCH);
        }
        assert!(pending.take_incomplete() && !pending.take_incomplete());
        assert_eq!(pending.missed, 1);
        let batch = pending.take(Some(start), 200);
        assert_eq!((batch.looks.len(), batch.attendance.len()), (200, 200));
    }
}
