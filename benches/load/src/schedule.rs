//! When whose turn it is: everybody acts at the same rate, each at a moment of its own.

use std::time::Duration;

use super::measures::Nanos;

/// An endless list of turns.
#[derive(Debug)]
pub(super) struct Schedule {
    period: Nanos,
    /// When in each period whose turn it is, in this order.
    turns: Vec<(Nanos, usize)>,
    next: usize,
    round: Nanos,
}

impl Schedule {
    /// Turns for `count` actors, each once a `period`, from `start` on. The moments within a period are spread at random,
    /// the same way in each run.
    pub(super) fn new(count: usize, period: Duration, start: Nanos) -> Self {
        let period = u64::try_from(period.as_nanos()).unwrap_or(Nanos::MAX).max(1);
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut turns: Vec<_> = (0..count)
            .map(|actor| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                ((state >> 11) % period, actor)
            })
            .collect();
        turns.sort_unstable();
        Self {
            period,
            turns,
            next: 0,
            round: start,
        }
    }

    /// When the next turn is; `None` when there are no actors.
    pub(super) fn due(&self) -> Option<Nanos> {
        self.turns.get(self.next).map(|(phase, _)| self.round + phase)
    }

    /// Whose turn it is at `now`, if it is anybody's, and how late that is.
    pub(super) fn take(&mut self, now: Nanos) -> Option<(usize, Nanos)> {
        let late = now.checked_sub(self.due()?)?;
        let (_, actor) = *self.turns.get(self.next)?;
        self.next += 1;
        if self.next == self.turns.len() {
            self.next = 0;
            self.round += self.period;
        }
        Some((actor, late))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_acts_once_a_period() {
        let mut schedule = Schedule::new(3, Duration::from_nanos(100), 1_000);
        let mut acted = Vec::new();
        while let Some((actor, _)) = schedule.take(1_199) {
            acted.push(actor);
        }
        assert_eq!(acted.len(), 6);
        assert_eq!(acted.first_chunk::<3>(), acted.last_chunk::<3>());
        assert!(schedule.due().is_some_and(|due| (1_200..1_300).contains(&due)));
    }

    #[test]
    fn nobody_acts_too_soon() {
        let mut schedule = Schedule::new(1, Duration::from_millis(1), 0);
        let due = schedule.due().expect("one actor");
        assert_eq!(schedule.take(due.saturating_sub(1)), None);
        assert_eq!(schedule.take(due + 5), Some((0, 5)));
    }
}
