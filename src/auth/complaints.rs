//! What whoever runs the server should know about refusals, each cause once a minute.
//!
//! Clients are told no more than a code; why it was, and what would change it, stands in the log. A cause is told again after a
//! minute, so that neither one broken client nor a thousand of them fill the log.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A cause is told at most this often.
const PAUSE: Duration = Duration::from_secs(60);
/// Causes that are remembered. Whoever makes up more of them is not told of.
const MAX_CAUSES: usize = 1000;
/// Longest text of a stranger that is repeated, in letters.
const MAX_SHOWN: usize = 200;

/// One log is written by the whole process.
static TOLD: LazyLock<Mutex<Complaints>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Complaints(HashMap<String, Instant>);

impl Complaints {
    fn is_due(&mut self, now: Instant, cause: &str) -> bool {
        let is_fresh = |at: &Instant| now.saturating_duration_since(*at) < PAUSE;
        if self.0.get(cause).is_some_and(is_fresh) {
            return false;
        }
        if self.0.len() >= MAX_CAUSES {
            self.0.retain(|_, at| is_fresh(at));
        }
        let has_place = self.0.len() < MAX_CAUSES;
        if has_place {
            self.0.insert(cause.to_owned(), now);
        }
        has_place
    }
}

/// Whether a cause should be told now.
pub fn is_due(cause: &str) -> bool {
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    told.is_due(now(), cause)
}

/// As much of a stranger's text as is repeated.
pub fn shown(text: &str) -> String {
    text.chars()
        .take(MAX_SHOWN)
        .map(|letter| if letter.is_control() { '\u{fffd}' } else { letter })
        .collect()
}

fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once_a_minute_and_others_beside_it() {
        let (mut complaints, start) = (Complaints::default(), now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(complaints.is_due(start, "origin"));
        assert!(!complaints.is_due(after(59), "origin"));
        assert!(complaints.is_due(after(59), "token"));
        assert!(complaints.is_due(after(60), "origin"));
        let told = (0..5000).filter(|n| complaints.is_due(after(61), &n.to_string()));
        assert_eq!(told.count(), MAX_CAUSES - 2, "memory is bounded");
        assert!(complaints.is_due(after(200), "origin"));
    }
}
