//! Decides what goes wrong with a store, by switches and by seed: plain data, the same calls give the same decisions.

use crate::StoreError;

/// What is asked of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Anything that changes nothing.
    Read,
    /// A batch.
    Write,
    /// A snapshot. The dice and the switch for the next calls leave it alone: it is nobody's edit.
    Compact,
    /// The question whether it works.
    Check,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// [`StoreError::Unavailable`]
    Unavailable,
    /// [`StoreError::Full`]
    Full,
    /// [`StoreError::ReadOnly`]
    ReadOnly,
    /// [`StoreError::Statement`]
    Statement,
}

/// When a write fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nothing of it is stored.
    Before,
    /// All of it is stored; only the answer is lost, as when a connection breaks during `COMMIT`.
    After,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is carried out.
    Proceed,
    /// It has to wait, and to be decided again later.
    Wait,
    /// It fails. A read that fails after it was carried out is like one that fails before.
    Fail(Fault, Moment),
}

/// How often calls fail by themselves, in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Calls that fail as [`Fault::Unavailable`] without an effect.
    pub before_per_mille: u16,
    /// Of the others, writes that fail as [`Fault::Unavailable`] after they were stored.
    pub after_per_mille: u16,
}

/// What has been decided so far. Waiting is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that were carried out and answered.
    pub succeeded: u64,
    /// Calls that failed without an effect.
    pub failed: u64,
    /// Calls that were carried out and failed all the same.
    pub answers_lost: u64,
}

/// The switches and the dice.
#[derive(Clone, Debug)]
pub struct Faults {
    paused: bool,
    broken: Option<Fault>,
    next: Option<(u32, Fault, Moment)>,
    rates: Rates,
    dice: u64,
    counts: Counts,
}

impl Faults {
    /// Nothing goes wrong until a switch is turned.
    pub fn none() -> Self {
        Self::seeded(0, Rates::default())
    }

    /// Calls fail by themselves as often as `rates` says; the same seed gives the same failures.
    pub fn seeded(seed: u64, rates: Rates) -> Self {
        Self {
            paused: false,
            broken: None,
            next: None,
            rates,
            dice: seed,
            counts: Counts::default(),
        }
    }

    /// Calls wait from now on.
    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// Calls no longer wait.
    pub fn resume(&mut self) {
        self.paused = false;
    }

    /// The next `calls` that read or write fail.
    pub fn fail_next(&mut self, calls: u32, fault: Fault, moment: Moment) {
        self.next = Some((calls, fault, moment));
    }

    /// Every call fails until [`heal`](Self::heal), checks too.
    pub fn fail_until_healed(&mut self, fault: Fault) {
        self.broken = Some(fault);
    }

    /// Turns all switches off. The dice go on.
    pub fn heal(&mut self) {
        (self.paused, self.broken, self.next) = (false, None, None);
    }

    /// Stops or changes the failures by seed.
    pub fn set_rates(&mut self, rates: Rates) {
        self.rates = rates;
    }

    /// What has been decided so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Decides a call.
    pub fn decide(&mut self, operation: Operation) -> Verdict {
        if self.paused {
            return Verdict::Wait;
        }
        let verdict = match (self.failure(operation), operation) {
            (Some((fault, _)), Operation::Read | Operation::Check) => Verdict::Fail(fault, Moment::Before),
            (Some((fault, moment)), Operation::Write | Operation::Compact) => Verdict::Fail(fault, moment),
            (None, _) => Verdict::Proceed,
        };
        match verdict {
            Verdict::Proceed => self.counts.succeeded += 1,
            Verdict::Fail(_, Moment::Before) => self.counts.failed += 1,
            Verdict::Fail(_, Moment::After) => self.counts.answers_lost += 1,
            Verdict::Wait => {}
        }
        verdict
    }

    fn failure(&mut self, operation: Operation) -> Option<(Fault, Moment)> {
        if let Some(fault) = self.broken {
            return Some((fault, Moment::Before));
        }
        if matches!(operation, Operation::Check | Operation::Compact) {
            return None;
        }
        if let Some((calls, fault, moment)) = self.next {
            self.next = (calls > 1).then(|| (calls - 1, fault, moment));
            return (calls > 0).then_some((fault, moment));
        }
        if self.strikes(self.rates.before_per_mille) {
            Some((Fault::Unavailable, Moment::Before))
        } else if operation == Operation::Write && self.strikes(self.rates.after_per_mille) {
            Some((Fault::Unavailable, Moment::After))
        } else {
            None
        }
    }

    fn strikes(&mut self, per_mille: u16) -> bool {
        // SplitMix64 (Steele, Lea, Flood 2014): small, and good enough for dice.
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.dice;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % 1000 < u64::from(per_mille)
    }
}

impl Fault {
    /// The error that a caller gets.
    pub fn error(self) -> StoreError {
        let reason = "a fault on demand".to_owned();
        match self {
            Self::Unavailable => StoreError::Unavailable { reason },
            Self::Full => StoreError::Full { reason },
            Self::ReadOnly => StoreError::ReadOnly { reason },
            Self::Statement => StoreError::Statement { reason },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_failures_at_about_the_rates() {
        let rates = Rates {
            before_per_mille: 100,
            after_per_mille: 200,
        };
        let run = |seed| {
            let mut faults = Faults::seeded(seed, rates);
            let verdicts: Vec<Verdict> = (0..10_000).map(|_| faults.decide(Operation::Write)).collect();
            (verdicts, faults.counts())
        };
        let (verdicts, counts) = run(7);
        assert_eq!(run(7), (verdicts.clone(), counts));
        assert_ne!(run(8).0, verdicts);
        assert!((900..1_100).contains(&counts.failed), "{counts:?}");
        assert!((1_600..2_000).contains(&counts.answers_lost), "{counts:?}");
    }

    #[test]
    fn switches_override_each_other_in_order() {
        let mut faults = Faults::none();
        faults.fail_next(2, Fault::Full, Moment::After);
        assert_eq!(faults.decide(Operation::Check), Verdict::Proceed);
        assert_eq!(
            faults.decide(Operation::Read),
            Verdict::Fail(Fault::Full, Moment::Before)
        );
        faults.fail_until_healed(Fault::ReadOnly);
        assert_eq!(
            faults.decide(Operation::Check),
            Verdict::Fail(Fault::ReadOnly, Moment::Before)
        );
        faults.pause();
        assert_eq!(faults.decide(Operation::Write), Verdict::Wait);
        faults.resume();
        assert_eq!(
            faults.decide(Operation::Write),
            Verdict::Fail(Fault::ReadOnly, Moment::Before)
        );
        faults.heal();
        assert_eq!(faults.decide(Operation::Write), Verdict::Proceed);
        faults.fail_next(1, Fault::Full, Moment::After);
        assert_eq!(
            faults.decide(Operation::Write),
            Verdict::Fail(Fault::Full, Moment::After)
        );
        assert_eq!(faults.decide(Operation::Write), Verdict::Proceed);
        assert_eq!(
            faults.counts(),
            Counts {
                succeeded: 3,
                failed: 3,
                answers_lost: 1
            }
        );
    }
}
