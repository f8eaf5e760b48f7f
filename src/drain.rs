//! Draining: newcomers are refused for so long, and then the server stops as on a signal, unless that is called off.
//!
//! While the time runs, whoever is connected goes on as before. Readiness is red, so that load balancers lead nobody here any more before
//! members are asked to come back elsewhere.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// Whether newcomers are let in, and until when it can be called off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Everybody is let in.
    Serving,
    /// Nobody new is let in; at this moment the server stops.
    Counting {
        /// The end of the time.
        ends: Instant,
    },
    /// The server stops. That cannot be called off.
    Stopping,
}

/// Why a drain could not be begun or called off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DrainError {
    /// It is too late.
    #[error("the server is stopping already")]
    Stopping,
    /// There is nothing to call off.
    #[error("the server is not being drained")]
    NotDraining,
}

/// The drain of a server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Drain(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    phase: watch::Sender<Phase>,
    /// The same for whoever asks at every connection.
    refuses: AtomicBool,
}

impl Default for Drain {
    fn default() -> Self {
        Self(Arc::new(Shared {
            phase: watch::Sender::new(Phase::Serving),
            refuses: AtomicBool::new(false),
        }))
    }
}

impl Drain {
    /// Whether newcomers are refused.
    pub fn refuses(&self) -> bool {
        self.0.refuses.load(Ordering::Relaxed)
    }

    /// How far it is.
    pub fn phase(&self) -> Phase {
        *self.0.phase.borrow()
    }

    /// Refuses newcomers from now on, and lets the server stop when so much time is over. While the time runs, another time may take its
    /// place.
    ///
    /// # Errors
    /// When the server stops already.
    pub fn begin(&self, time: Duration) -> Result<(), DrainError> {
        let ends = Instant::now() + time;
        self.turn(|phase| match phase {
            Phase::Serving | Phase::Counting { .. } => Ok(Phase::Counting { ends }),
            Phase::Stopping => Err(DrainError::Stopping),
        })
    }

    /// Lets newcomers in again.
    ///
    /// # Errors
    /// When nothing was begun, or the server stops already.
    pub fn call_off(&self) -> Result<(), DrainError> {
        self.turn(|phase| match phase {
            Phase::Serving => Err(DrainError::NotDraining),
            Phase::Counting { .. } => Ok(Phase::Serving),
            Phase::Stopping => Err(DrainError::Stopping),
        })
    }

    /// The server stops, whatever was begun.
    pub fn stop(&self) {
        let _ = self.turn(|_| Ok(Phase::Stopping));
    }

    /// Waits until the time is over that was begun and not called off. From then on it cannot be.
    pub async fn over(&self) {
        let mut phases = self.0.phase.subscribe();
        loop {
            let phase = *phases.borrow_and_update();
            match phase {
                Phase::Serving => {}
                Phase::Counting { ends } if ends > Instant::now() => {
                    tokio::select! {
                        () = sleep_until(ends) => {}
                        _ = phases.changed() => {}
                    }
                    continue;
                }
                // Whoever calls it off at this moment does so before or after, and not in between.
                Phase::Counting { .. } => {
                    let now = Instant::now();
                    let stopped = self.turn(|phase| match phase {
                        Phase::Counting { ends } if ends <= now => Ok(Phase::Stopping),
                        Phase::Counting { .. } | Phase::Serving => Err(DrainError::NotDraining),
                        Phase::Stopping => Ok(Phase::Stopping),
                    });
                    if stopped.is_ok() {
                        return;
                    }
                    continue;
                }
                Phase::Stopping => return,
            }
            // The sender is here as long as this is.
            let _ = phases.changed().await;
        }
    }

    /// Changes the phase, one change after the other.
    fn turn(&self, next: impl FnOnce(Phase) -> Result<Phase, DrainError>) -> Result<(), DrainError> {
        let mut turned = Ok(());
        self.0.phase.send_if_modified(|phase| match next(*phase) {
            Ok(next) => {
                *phase = next;
                self.0.refuses.store(next != Phase::Serving, Ordering::Relaxed);
                true
            }
            Err(error) => {
                turned = Err(error);
                false
            }
        });
        turned
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(3600);

    /// Whether its time is not over, some time after it would be.
    async fn goes_on(drain: &Drain) -> bool {
        timeout(SHORT * 3, drain.over()).await.is_err()
    }

    #[tokio::test]
    async fn when_its_time_is_over_the_server_stops_for_good() {
        let drain = Drain::default();
        assert!(!drain.refuses());
        drain.begin(SHORT).expect("a beginning");
        assert!(drain.refuses());
        let began = Instant::now();
        drain.over().await;
        assert!(began.elapsed() >= SHORT / 2, "{:?}", began.elapsed());
        assert_eq!(drain.phase(), Phase::Stopping);
        assert_eq!(drain.call_off(), Err(DrainError::Stopping));
        assert_eq!(drain.begin(SHORT), Err(DrainError::Stopping));
        assert!(drain.refuses());
    }

    #[tokio::test]
    async fn one_that_is_called_off_lets_everybody_in_and_stops_nothing() {
        let drain = Drain::default();
        assert_eq!(drain.call_off(), Err(DrainError::NotDraining));
        drain.begin(SHORT).expect("a beginning");
        // Its time is over only once somebody has seen to it.
        tokio::time::sleep(SHORT * 2).await;
        drain.call_off().expect("the end of it");
        assert!(!drain.refuses());
        assert_eq!(drain.phase(), Phase::Serving);
        assert!(goes_on(&drain).await);
        let waiting = tokio::spawn({
            let drain = drain.clone();
            async move { drain.over().await }
        });
        // It may begin anew, also while somebody waits for its end.
        drain.begin(LONG).expect("a beginning");
        drain.call_off().expect("the end of it");
        drain.begin(SHORT).expect("a beginning");
        waiting.await.expect("an end");
    }

    #[tokio::test]
    async fn another_time_takes_the_place_of_the_first() {
        let drain = Drain::default();
        drain.begin(SHORT).expect("a beginning");
        drain.begin(LONG).expect("a longer time");
        assert!(goes_on(&drain).await);
        let waiting = tokio::spawn({
            let drain = drain.clone();
            async move { drain.over().await }
        });
        tokio::task::yield_now().await;
        drain.begin(SHORT).expect("a shorter time");
        waiting.await.expect("an end");
    }

    #[tokio::test]
    async fn a_stop_ends_whatever_was_begun() {
        let drain = Drain::default();
        drain.begin(LONG).expect("a beginning");
        drain.stop();
        drain.over().await;
        assert!(drain.refuses());
    }
}
