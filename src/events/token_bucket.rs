//! A rate with a burst (pure; time is an argument).

use std::time::{Duration, Instant};

/// What may still be spent at a rate, as a single instant: when the bucket was full, or will be.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    /// What one costs; zero for no limit.
    each: Duration,
    /// What a full bucket is worth.
    capacity: Duration,
    full_at: Instant,
}

impl TokenBucket {
    /// A full bucket of `burst` that comes back at `per_second`; zero for no limit.
    pub fn new(now: Instant, per_second: u32, burst: u32) -> Self {
        let each = match per_second {
            0 => Duration::ZERO,
            rate => Duration::from_secs(1) / rate,
        };
        Self {
            each,
            capacity: each * burst.max(1),
            full_at: now,
        }
    }

    /// Spends, even what is not there: the bucket is in debt until [`Self::free_at`].
    pub fn spend(&mut self, now: Instant, count: usize) {
        let cost = self.each.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
        self.full_at = self.full_at.max(now) + cost;
    }

    /// Until when it is in debt; in the past if it is not. `None` for no limit.
    pub fn free_at(&self) -> Option<Instant> {
        match self.each {
            Duration::ZERO => None,
            _ => self.full_at.checked_sub(self.capacity),
        }
    }

    /// Whether nothing of what was spent is missing any more.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }

    /// Spends one if it is there, or says after which time it will be.
    pub fn try_spend(&mut self, now: Instant) -> Result<(), Duration> {
        let spent = self.full_at.max(now) + self.each;
        let debt = spent.saturating_duration_since(now + self.capacity);
        if debt.is_zero() {
            self.full_at = spent;
            Ok(())
        } else {
            Err(debt)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "tests begin at some instant")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_burst_is_there_at_once_and_the_rest_comes_at_the_rate() {
        let start = start();
        let mut budget = TokenBucket::new(start, 10, 3);
        for _ in 0..3 {
            assert_eq!(budget.try_spend(start), Ok(()));
        }
        assert_eq!(budget.try_spend(start), Err(Duration::from_millis(100)));
        let later = start + Duration::from_millis(100);
        assert_eq!(budget.try_spend(later), Ok(()));
        assert_eq!(budget.try_spend(later), Err(Duration::from_millis(100)));
        let rested = start + Duration::from_secs(100);
        for _ in 0..3 {
            assert_eq!(budget.try_spend(rested), Ok(()));
        }
        assert!(budget.try_spend(rested).is_err(), "no more than a burst is saved");
    }

    #[test]
    fn without_a_rate_there_is_no_limit() {
        let start = start();
        let mut budget = TokenBucket::new(start, 0, 0);
        for _ in 0..1000 {
            assert_eq!(budget.try_spend(start), Ok(()));
        }
        budget.spend(start, 1000);
        assert_eq!(budget.free_at(), None);
    }
}
