//! The clock of the rooms without a document: what changes there by itself changes when it is due.
//!
//! A part that changes with time (typing that ends, a grace that is over) is a plain struct with the time as an argument, behind a lock of its
//! own. It says when it wants to be looked at next, and sets off the [`Alarm`] when that has become earlier. One task looks at all parts.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Pause between two looks: what becomes due meanwhile is done together.
const PAUSE: Duration = Duration::from_millis(10);

/// A part that changes with time.
pub trait Timed: Send + Sync {
    /// When it wants to be looked at next. Asked often: O(log) at most.
    fn next_deadline(&self) -> Option<Instant>;

    /// Does all that is due, without waiting for anything.
    fn tick(&self, now: Instant);
}

/// Wakes the clock. Clones wake the same one.
#[derive(Clone, Debug, Default)]
pub struct Alarm(Arc<Notify>);

impl Alarm {
    /// A part has something to do earlier than it had said.
    pub fn set_off(&self) {
        self.0.notify_one();
    }
}

/// The time that parts are told.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Looks at parts when they want to be looked at, until the server stops.
pub async fn run_clock(parts: Vec<Arc<dyn Timed>>, alarm: Alarm, stop: CancellationToken) {
    loop {
        let deadline = parts.iter().filter_map(|part| part.next_deadline()).min();
        let wait = async {
            match deadline {
                // A deadline that has come to stay would otherwise keep a processor busy.
                Some(deadline) => tokio::time::sleep_until(deadline.max(now() + PAUSE).into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = alarm.0.notified() => continue,
            () = wait => {}
        }
        let now = now();
        for part in &parts {
            if part.next_deadline().is_some_and(|deadline| deadline <= now) {
                part.tick(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::mpsc;

    use super::*;

    /// Says when it was looked at, and is due again after as long as it is told to be.
    struct Part {
        due: Mutex<Option<Instant>>,
        again: Option<Duration>,
        looks: mpsc::Sender<Instant>,
    }

    impl Timed for Part {
        fn next_deadline(&self) -> Option<Instant> {
            *self.due.lock().expect("not poisoned")
        }

        fn tick(&self, now: Instant) {
            *self.due.lock().expect("not poisoned") = self.again.map(|after| now + after);
            let _ = self.looks.try_send(now);
        }
    }

    fn part(due: Option<Instant>, again: Option<Duration>) -> (Arc<Part>, mpsc::Receiver<Instant>) {
        let (looks, looked) = mpsc::channel(100);
        let due = Mutex::new(due);
        (Arc::new(Part { due, again, looks }), looked)
    }

    #[tokio::test]
    async fn parts_are_looked_at_when_they_are_due_and_an_earlier_deadline_counts() {
        let (late, mut late_looked) = part(Some(now() + Duration::from_secs(3600)), None);
        let (early, mut early_looked) = part(None, None);
        let (alarm, stop) = (Alarm::default(), CancellationToken::new());
        let clock = tokio::spawn(run_clock(vec![late, early.clone()], alarm.clone(), stop.clone()));
        for _ in 0..2 {
            let due = now() + Duration::from_millis(20);
            *early.due.lock().expect("not poisoned") = Some(due);
            alarm.set_off();
            let looked = early_looked.recv().await.expect("it is looked at");
            assert!(looked >= due, "and not before it is due");
        }
        assert!(late_looked.try_recv().is_err(), "what is not due is left alone");
        stop.cancel();
        clock.await.expect("it ends when the server does");
    }

    #[tokio::test]
    async fn a_part_that_is_due_all_the_time_is_looked_at_so_often_and_no_oftener() {
        let begin = now();
        let (part, mut looked) = part(Some(begin), Some(Duration::ZERO));
        let stop = CancellationToken::new();
        let clock = tokio::spawn(run_clock(vec![part], Alarm::default(), stop.clone()));
        for count in 1..=5 {
            let at = looked.recv().await.expect("it is looked at");
            assert!(at >= begin + PAUSE * count, "{count}");
        }
        stop.cancel();
        clock.await.expect("it ends when the server does");
    }
}
