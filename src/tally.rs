//! Counters of `/metrics` that the server itself can read, too.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use metrics::{Counter, CounterFn};

/// A counter, and what it has counted so far. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tally(Arc<AtomicU64>);

struct Both {
    total: Tally,
    shown: Counter,
}

impl CounterFn for Both {
    fn increment(&self, value: u64) {
        self.total.add(value);
        self.shown.increment(value);
    }

    fn absolute(&self, value: u64) {
        self.total.0.fetch_max(value, Ordering::Relaxed);
        self.shown.absolute(value);
    }
}

impl Tally {
    /// What has been counted.
    pub fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts.
    pub fn add(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    /// A counter that counts here and in another one.
    pub fn over(&self, shown: Counter) -> Counter {
        Counter::from_arc(Arc::new(Both {
            total: self.clone(),
            shown,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_count() {
        let (inner, outer) = (Tally::default(), Tally::default());
        let counter = outer.over(inner.over(Counter::noop()));
        counter.increment(3);
        counter.increment(4);
        assert_eq!((inner.total(), outer.total()), (7, 7));
    }
}
