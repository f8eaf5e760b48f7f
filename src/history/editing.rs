//! When a page gets a version by itself: it has become quiet, or has been edited for long enough (pure; time is an argument).

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use storage::{PageId, Seq};

/// Pages that are noted as being edited. Of what comes beyond that, the page with the first id gets its version early.
const MAX_PAGES: usize = 100_000;

/// Edits of one page since its last version.
#[derive(Debug)]
struct Burst {
    since: Instant,
    last: Instant,
    seq: Seq,
}

/// The pages that have been edited since their last version.
#[derive(Debug)]
pub struct Editing {
    interval: Option<Duration>,
    quiet: Option<Duration>,
    pages: BTreeMap<PageId, Burst>,
    /// Those whose place others took.
    early: Vec<(PageId, Seq)>,
}

impl Editing {
    /// Pages get a version after being edited for `interval`, and after having been `quiet`.
    pub fn new(interval: Option<Duration>, quiet: Option<Duration>) -> Self {
        Self {
            interval,
            quiet,
            pages: BTreeMap::new(),
            early: Vec::new(),
        }
    }

    /// A page was stored up to row `seq`.
    pub fn stored(&mut self, now: Instant, page: &PageId, seq: Seq) {
        if self.interval.is_none() && self.quiet.is_none() {
            return;
        }
        if let Some(burst) = self.pages.get_mut(page) {
            burst.last = now;
            burst.seq = burst.seq.max(seq);
            return;
        }
        if self.pages.len() >= MAX_PAGES
            && let Some((page, burst)) = self.pages.pop_first()
            && self.early.len() < MAX_PAGES
        {
            self.early.push((page, burst.seq));
        }
        let burst = Burst {
            since: now,
            last: now,
            seq,
        };
        self.pages.insert(page.clone(), burst);
    }

    /// Takes out the pages that are to get a version now.
    pub fn due(&mut self, now: Instant) -> Vec<(PageId, Seq)> {
        let (interval, quiet) = (self.interval, self.quiet);
        let is_over = |time: Option<Duration>, since| time.is_some_and(|time| now >= since + time);
        let is_due =
            |_: &PageId, burst: &mut Burst| is_over(quiet, burst.last) || is_over(interval, burst.since);
        let due = self.pages.extract_if(.., is_due);
        let due = due.map(|(page, burst)| (page, burst.seq));
        std::mem::take(&mut self.early).into_iter().chain(due).collect()
    }

    /// Takes out all pages: no more edits will come.
    pub fn finish(&mut self) -> Vec<(PageId, Seq)> {
        let rest = std::mem::take(&mut self.pages).into_iter();
        let rest = rest.map(|(page, burst)| (page, burst.seq));
        std::mem::take(&mut self.early).into_iter().chain(rest).collect()
    }

    /// How often it is to be looked.
    pub fn pace(&self) -> Duration {
        let shortest = self.interval.into_iter().chain(self.quiet).min();
        let pace = shortest.map_or(Duration::MAX, |shortest| shortest / 4);
        pace.clamp(Duration::from_millis(100), Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(id: &str) -> PageId {
        PageId::new(id).expect("a page id")
    }

    #[test]
    fn a_page_gets_a_version_when_it_is_quiet_and_while_it_is_edited_for_long() {
        let second = Duration::from_secs(1);
        let mut editing = Editing::new(Some(10 * second), Some(3 * second));
        let start = tokio::time::Instant::now().into_std();
        editing.stored(start, &page("quiet"), 4);
        for n in 0..10 {
            editing.stored(start + n * second, &page("busy"), 1 + u64::from(n));
            let due = editing.due(start + n * second);
            let expected = if n == 3 { vec![(page("quiet"), 4)] } else { vec![] };
            assert_eq!(due, expected, "after {n} seconds");
        }
        assert_eq!(editing.due(start + 10 * second), [(page("busy"), 10)]);
        assert_eq!(editing.due(start + 100 * second), [], "nothing has changed since");
        editing.stored(start + 100 * second, &page("busy"), 11);
        assert_eq!(editing.finish(), [(page("busy"), 11)]);
        assert_eq!(editing.finish(), []);
    }

    #[test]
    fn only_so_many_pages_are_noted_and_those_beyond_get_theirs_early() {
        let mut editing = Editing::new(None, Some(Duration::from_secs(1000)));
        let now = tokio::time::Instant::now().into_std();
        for n in 0..=MAX_PAGES {
            editing.stored(now, &page(&format!("{n:09}")), 1);
        }
        assert_eq!(editing.due(now), [(page("000000000"), 1)]);
    }

    #[test]
    fn without_times_nothing_is_noted() {
        let mut editing = Editing::new(None, None);
        editing.stored(tokio::time::Instant::now().into_std(), &page("p"), 1);
        assert_eq!(editing.finish(), []);
    }
}
