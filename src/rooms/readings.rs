//! Readers that wait for a moment at which all that a room holds is stored.

use std::time::Instant;

use super::mailbox::Reading;

/// Readers that wait at most. One more reads at once.
const MAX_READINGS: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Readings(Vec<(Instant, Reading)>);

impl Readings {
    /// Lets a reader wait until a time; gives it back when too many do.
    pub(super) fn wait(&mut self, until: Instant, reading: Reading) -> Option<Reading> {
        if self.0.len() >= MAX_READINGS {
            return Some(reading);
        }
        self.0.push((until, reading));
        None
    }

    /// When the first of them waits no longer.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.0.iter().map(|(until, _)| *until).min()
    }

    /// Those who may read now: all of them if everything is stored, else those who have waited for too long.
    pub(super) fn due(&mut self, now: Instant, is_stored: bool) -> Vec<Reading> {
        let due = self.0.extract_if(.., |(until, _)| is_stored || now >= *until);
        due.map(|(_, reading)| reading).collect()
    }
}
