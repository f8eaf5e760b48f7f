//! What a member's document messages have come to, in the order in which they came, for protocols that count them.

use std::collections::VecDeque;

use super::log::CommitNumber;

/// What one document message has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is durable when this commit has ended.
    DurableWith(CommitNumber),
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
    runs: VecDeque<(Outcome, u32)>,
}

impl Statuses {
    /// Whether there is nothing to be told.
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Notes what a message has come to.
    ///
    /// # Errors
    /// When too much waits already; the message was not noted.
    pub(super) fn note(&mut self, outcome: Outcome) -> Result<(), TooMany> {
        if let Some((last, count)) = self.runs.back_mut()
            && *last == outcome
            && let Some(more) = count.checked_add(1)
        {
            *count = more;
            return Ok(());
        }
        if self.runs.len() >= MAX_RUNS {
            return Err(TooMany);
        }
        self.runs.push_back((outcome, 1));
        Ok(())
    }

    /// Takes the next ones of which it is known what they came to: whether they are stored, and how many.
    pub(super) fn take(&mut self, stored: CommitNumber) -> Option<(bool, u32)> {
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
