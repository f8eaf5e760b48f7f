//! What a member's document messages have come to, in the order in which they came, for protocols that count them.

use std::collections::VecDeque;

use super::persistence::Ticket;

/// What one document message has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is durable, or will be, as soon as this ticket is stored.
    Stored(Ticket),
    /// It was refused.
    Refused,
}

/// Runs of like outcomes that may wait. What is stored together is one run, so only who mixes good messages with refused ones while
/// the store is away gets here.
const MAX_RUNS: usize = 4096;

/// More has been said than can be accounted for while the store is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

#[derive(Clone, Copy, Debug)]
struct Run {
    outcome: Outcome,
    count: u32,
}

/// The messages of one member that it has not been told about, oldest first.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    runs: VecDeque<Run>,
}

impl Receipts {
    /// Whether there is nothing to be told.
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Notes what a message has come to. `together` says which tickets are stored by the same commit.
    ///
    /// # Errors
    /// When too much waits already; the message was not noted.
    pub(super) fn note(
        &mut self,
        outcome: Outcome,
        together: impl Fn(Ticket, Ticket) -> bool,
    ) -> Result<(), TooMany> {
        // What became alike since it was noted leaves together, so that this grows with commits and not with messages.
        while let [.., before, last] = self.runs.make_contiguous()
            && let Some(both) = joined(*before, *last, &together)
        {
            *before = both;
            self.runs.pop_back();
        }
        let run = Run { outcome, count: 1 };
        if let Some(last) = self.runs.back_mut()
            && let Some(both) = joined(*last, run, &together)
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

    /// Whatever waits for a ticket above `flushed` waits for ever, and with it what came later.
    pub(super) fn give_up_unflushed(&mut self, flushed: Ticket) {
        let lost = |run: &Run| matches!(run.outcome, Outcome::Stored(ticket) if ticket > flushed);
        if let Some(first) = self.runs.iter().position(lost) {
            self.runs.truncate(first);
        }
    }

    /// Takes the next ones of which it is known what they came to: whether they are stored, and how many.
    pub(super) fn take(&mut self, is_stored: impl Fn(Ticket) -> bool) -> Option<(bool, u32)> {
        let Run { outcome, count } = *self.runs.front()?;
        let accepted = match outcome {
            Outcome::Stored(ticket) if is_stored(ticket) => true,
            Outcome::Refused => false,
            Outcome::Stored(_) => return None,
        };
        self.runs.pop_front();
        Some((accepted, count))
    }
}

fn joined(one: Run, other: Run, together: impl Fn(Ticket, Ticket) -> bool) -> Option<Run> {
    let outcome = match (one.outcome, other.outcome) {
        (Outcome::Stored(first), Outcome::Stored(second)) if together(first, second) => {
            Outcome::Stored(first.max(second))
        }
        (Outcome::Refused, Outcome::Refused) => Outcome::Refused,
        _ => return None,
    };
    let count = one.count.checked_add(other.count)?;
    Some(Run { outcome, count })
}
