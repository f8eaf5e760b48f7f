//! How the edits of many pages are gathered into transactions, and what becomes of one that fails (pure; time is an argument).
//!
//! A batch that fails although the store is there is never repeated whole. Pages that somebody else holds leave it, and otherwise
//! it is cut in halves. What is left over is one page; it is stored alone, apart from the batches, and so is what is large
//! from the beginning. So what one page brings, or whoever holds it, delays only itself.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use storage::{PageCommit, PageId};

/// First pause after a failed try.
pub(super) const FIRST_BACKOFF: Duration = Duration::from_millis(50);
/// From this many bytes on, the edits of a page are stored alone: others would wait for them.
const LARGE_BYTES: usize = 1 << 20;

/// How edits are gathered.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    /// After a commit the next one waits until this much time has passed since the last began, so that it can gather more. The first
    /// after a pause goes at once.
    pub commit_interval: Duration,
    /// Longest pause between two tries while the store fails.
    pub max_backoff: Duration,
    /// Most pages in one transaction.
    pub max_pages: usize,
    /// Most bytes in one transaction; one larger page alone passes.
    pub max_bytes: usize,
}

/// Why a transaction has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Somebody else holds these pages.
    Held(Vec<PageId>),
    /// The store is there, so it is about what was to be stored.
    OfTheBatch,
    /// The store is away.
    OfTheStore,
}

/// Something to be stored.
pub trait Storing {
    /// What is to be stored of which page.
    fn commit(&self) -> &PageCommit;
}

/// The requests that wait for a transaction, and the one that is under way.
#[derive(Debug)]
pub struct Batching<R> {
    limits: BatchLimits,
    waiting: VecDeque<R>,
    /// Parts of a batch that have to be tried first, the last one next.
    pieces: Vec<Vec<R>>,
    under_way: Vec<R>,
    /// To be stored alone.
    alone: VecDeque<R>,
    next_commit: Option<Instant>,
    backoff: Duration,
    retry_at: Option<Instant>,
}

impl<R: Storing> Batching<R> {
    /// Nothing waits.
    pub fn new(limits: BatchLimits) -> Self {
        Self {
            limits,
            waiting: VecDeque::new(),
            pieces: Vec::new(),
            under_way: Vec::new(),
            alone: VecDeque::new(),
            next_commit: None,
            backoff: FIRST_BACKOFF,
            retry_at: None,
        }
    }

    /// Takes a request.
    pub fn push(&mut self, request: R) {
        if request.commit().bytes() >= LARGE_BYTES {
            self.alone.push_back(request);
        } else {
            self.waiting.push_back(request);
        }
    }

    /// The next request that is to be stored alone, apart from the batches.
    pub fn next_alone(&mut self) -> Option<R> {
        self.alone.pop_front()
    }

    /// Whether nothing waits and nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
            && self.pieces.is_empty()
            && self.under_way.is_empty()
            && self.alone.is_empty()
    }

    /// How many more requests the next transaction has place for.
    pub fn place(&self) -> usize {
        self.limits.max_pages.saturating_sub(self.waiting.len())
    }

    /// When a transaction can begin, if there is anything to store and none is under way.
    pub fn begins_at(&self) -> Option<Instant> {
        if !self.under_way.is_empty() {
            None
        } else if !self.pieces.is_empty() {
            self.retry_at
        } else if !self.waiting.is_empty() {
            self.next_commit
        } else {
            None
        }
    }

    /// Begins a transaction if there is anything to store, none is under way, and it is time.
    pub fn begin(&mut self, now: Instant) -> bool {
        if !self.under_way.is_empty() || self.begins_at().is_some_and(|at| now < at) {
            return false;
        }
        if self.pieces.is_empty() && !self.waiting.is_empty() {
            self.next_commit = Some(now + self.limits.commit_interval);
            let batch = self.gather();
            self.pieces.push(batch);
        }
        self.under_way = self.pieces.pop().unwrap_or_default();
        !self.under_way.is_empty()
    }

    fn gather(&mut self) -> Vec<R> {
        let mut bytes = 0usize;
        let fits = |request: &R| {
            let size = request.commit().bytes();
            let fits = bytes == 0 || bytes.saturating_add(size) <= self.limits.max_bytes;
            bytes = bytes.saturating_add(size);
            fits
        };
        let most = self.waiting.len().min(self.limits.max_pages);
        let count = self.waiting.iter().take(most).map(fits).take_while(|fits| *fits);
        let count = count.count();
        self.waiting.drain(..count).collect()
    }

    /// The requests that are under way.
    pub fn under_way(&self) -> &[R] {
        &self.under_way
    }

    /// What is under way.
    pub fn batch(&self) -> Vec<PageCommit> {
        self.under_way
            .iter()
            .map(|request| request.commit().clone())
            .collect()
    }

    /// What was under way is stored: the requests in the order of the batch.
    pub fn committed(&mut self) -> Vec<R> {
        self.backoff = FIRST_BACKOFF;
        self.retry_at = None;
        std::mem::take(&mut self.under_way)
    }

    /// What was under way is not stored.
    pub fn failed(&mut self, now: Instant, failure: Failure) {
        let mut piece = std::mem::take(&mut self.under_way);
        match failure {
            Failure::Held(pages) if piece.iter().any(|request| pages.contains(&request.commit().page)) => {
                let held = piece.extract_if(.., |request| pages.contains(&request.commit().page));
                self.alone.extend(held);
                self.put_back(piece);
            }
            // That pages are held and nobody knows which is about the batch as well.
            Failure::Held(_) | Failure::OfTheBatch => {
                let half = piece.split_off(piece.len() / 2);
                match <[R; 1]>::try_from(half) {
                    Ok([only]) => self.alone.push_back(only),
                    Err(half) => self.put_back(half),
                }
                self.put_back(piece);
            }
            Failure::OfTheStore => {
                self.retry_at = Some(now + self.backoff);
                self.backoff = (self.backoff * 2).min(self.limits.max_backoff);
                self.put_back(piece);
            }
        }
    }

    fn put_back(&mut self, piece: Vec<R>) {
        if !piece.is_empty() {
            self.pieces.push(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Storing for PageCommit {
        fn commit(&self) -> &PageCommit {
            self
        }
    }

    fn page(number: usize) -> PageId {
        PageId::new(&format!("page {number}")).unwrap()
    }

    fn waiting(pages: usize) -> Batching<PageCommit> {
        let mut batching = Batching::new(BatchLimits {
            commit_interval: Duration::ZERO,
            max_backoff: Duration::from_secs(1),
            max_pages: 1000,
            max_bytes: usize::MAX,
        });
        for number in 0..pages {
            batching.push(PageCommit {
                page: page(number),
                updates: Vec::new(),
                size_bytes: None,
                generation: None,
            });
        }
        batching
    }

    fn tried(batching: &mut Batching<PageCommit>, now: Instant) -> Vec<PageId> {
        assert!(batching.begin(now));
        batching.batch().into_iter().map(|commit| commit.page).collect()
    }

    #[expect(clippy::disallowed_methods, reason = "stories begin at some instant")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_batch_that_fails_for_its_own_sake_is_never_repeated_whole() {
        // The last names a page that is in no batch.
        for failure in [
            Failure::OfTheBatch,
            Failure::Held(Vec::new()),
            Failure::Held(vec![page(99)]),
        ] {
            let (mut batching, now) = (waiting(5), start());
            let (mut last, mut alone) = (Vec::new(), Vec::new());
            while alone.len() < 5 {
                let batch = tried(&mut batching, now);
                assert_ne!(batch, last);
                last = batch;
                batching.failed(now, failure.clone());
                alone.extend(std::iter::from_fn(|| batching.next_alone()));
            }
            assert!(batching.is_idle());
        }
    }

    #[test]
    fn pages_that_are_held_leave_and_the_others_are_tried_again_at_once() {
        let (mut batching, now) = (waiting(4), start());
        tried(&mut batching, now);
        batching.failed(now, Failure::Held(vec![page(1), page(3)]));
        assert_eq!(batching.next_alone().map(|commit| commit.page), Some(page(1)));
        assert_eq!(batching.next_alone().map(|commit| commit.page), Some(page(3)));
        assert_eq!(tried(&mut batching, now), [page(0), page(2)]);
        assert_eq!(batching.committed().len(), 2);
        assert!(batching.is_idle());
    }

    #[test]
    fn while_the_store_is_away_the_same_batch_is_tried_with_growing_pauses() {
        let (mut batching, mut now) = (waiting(2), start());
        let first = tried(&mut batching, now);
        for pause in [50, 100, 200, 400, 800, 1000, 1000] {
            batching.failed(now, Failure::OfTheStore);
            assert!(!batching.begin(now));
            let again = batching.begins_at().unwrap();
            assert_eq!(again - now, Duration::from_millis(pause));
            now = again;
            assert_eq!(tried(&mut batching, now), first);
        }
    }
}
