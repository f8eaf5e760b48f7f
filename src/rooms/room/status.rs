//! What a member's document messages have come to, in the order in which they came, for protocols that count them.

use std::{collections::VecDeque, ops::RangeInclusive};

use super::log::FlushNumber;

/// What one document message has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is durable when this flush is.
    DurableWith(FlushNumber),
    /// It was refused.
    Refused,
}

/// Runs of like outcomes that may wait. What is stored together is one run, so only a client that mixes good messages with refused
/// ones while the store is away gets here.
const MAX_RUNS: usize = 4096;

/// More has been said than can be accounted for while the store is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

/// The messages of one member that it has not been told about, as runs of like outcomes, oldest first.
#[derive(Debug, Default)]
pub(super) struct Statuses {
    runs: VecDeque<Run>,
}

impl Statuses {
    /// Whether there is nothing to be told.
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Notes what a message has come to. The flushes that are `unsent` become durable together.
    ///
    /// # Errors
    /// When too much waits already; the message was not noted.
    pub(super) fn note(
        &mut self,
        outcome: Outcome,
        unsent: &RangeInclusive<FlushNumber>,
    ) -> Result<(), TooMany> {
        // What became alike since it was noted leaves together, so that this grows with commits and not with messages.
        while let [.., before, last] = self.runs.make_contiguous()
            && let Some(both) = joined(*before, *last, unsent)
        {
            *before = both;
            self.runs.pop_back();
        }
        let run = (outcome, 1);
        if let Some(last) = self.runs.back_mut()
            && let Some(both) = joined(*last, run, unsent)
        {
            *last = both;
            return Ok(());
        }
        if self.runs.len() >= MAX_RUNS {
            return Err(TooMany);
        }
        self.runs.push_back(run);
        Ok(())
    }

    /// Takes the next ones of which it is known what they came to: whether they are stored, and how many.
    pub(super) fn take(&mut self, stored: FlushNumber) -> Option<(bool, u32)> {
        let (outcome, count) = *self.runs.front()?;
        let accepted = match outcome {
            Outcome::DurableWith(commit) if commit <= stored => true,
            Outcome::Refused => false,
            Outcome::DurableWith(_) => return None,
        };
        self.runs.pop_front();
        Some((accepted, count))
    }
}

type Run = (Outcome, u32);

fn joined((one, count): Run, (other, more): Run, unsent: &RangeInclusive<FlushNumber>) -> Option<Run> {
    let outcome = match (one, other) {
        (Outcome::Refused, Outcome::Refused) => Outcome::Refused,
        (Outcome::DurableWith(first), Outcome::DurableWith(second))
            if first == second || (unsent.contains(&first) && unsent.contains(&second)) =>
        {
            Outcome::DurableWith(first.max(second))
        }
        _ => return None,
    };
    Some((outcome, count.checked_add(more)?))
}
