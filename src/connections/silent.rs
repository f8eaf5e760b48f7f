//! HTTP connections on which nothing has been asked yet. Where there are too many connections, the one that has been silent for longest
//! gives way: connections that ask, such as those of a probe, are answered however many others are held open for nothing.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::admission::HttpPermit;

/// How long a client may take to send its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// All that are silent. There are no more of them than connections are admitted.
#[derive(Debug, Clone, Default)]
pub(super) struct SilentConnections(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    oldest_first: BTreeMap<u64, (HttpPermit, CancellationToken)>,
}

/// An admitted connection, silent at first.
#[derive(Debug)]
pub struct Silent {
    number: u64,
    all: SilentConnections,
    gives_way: CancellationToken,
    /// Counts it from its first request on; `None` where it has given way.
    permit: OnceLock<Option<HttpPermit>>,
}

impl SilentConnections {
    /// Keeps a connection's permit until something is asked on it.
    pub(super) fn add(&self, permit: HttpPermit) -> Silent {
        let gives_way = CancellationToken::new();
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = waiting.next;
        waiting.next += 1;
        waiting.oldest_first.insert(number, (permit, gives_way.clone()));
        Silent {
            number,
            all: self.clone(),
            gives_way,
            permit: OnceLock::new(),
        }
    }

    /// Ends the one that has been silent for longest, which is no longer counted. Says whether there was one.
    pub(super) fn end_oldest(&self) -> bool {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = waiting.oldest_first.pop_first();
        drop(waiting);
        let Some((_, (_permit, gives_way))) = oldest else {
            return false;
        };
        gives_way.cancel();
        true
    }

    fn remove(&self, number: u64) -> Option<HttpPermit> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (permit, _) = waiting.oldest_first.remove(&number)?;
        Some(permit)
    }
}

impl Silent {
    /// Something is asked on it. From now on it does not give way.
    pub fn ask(&self) {
        self.permit.get_or_init(|| self.all.remove(self.number));
    }

    fn has_asked(&self) -> bool {
        self.permit.get().is_some()
    }

    /// Waits until it gives way, or has been silent for too long; for ever where something has been asked.
    pub async fn is_given_up(&self) {
        let is_late = async {
            sleep(FIRST_REQUEST).await;
            if self.has_asked() {
                std::future::pending().await
            }
        };
        tokio::select! {
            () = self.gives_way.cancelled() => {}
            () = is_late => {}
        }
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.ask();
    }
}

#[cfg(test)]
mod tests {
    use crate::connections::{Admissions, ConnectionLimits};

    const LIMITS: ConnectionLimits = ConnectionLimits {
        total: 0,
        per_user: 0,
        per_ip: 0,
    };

    #[test]
    fn the_one_that_is_silent_for_longest_gives_way_and_no_other() {
        let admissions = Admissions::new(LIMITS);
        let mut silent: Vec<_> = (0..4)
            .map(|_| admissions.accept(None).expect("a place"))
            .collect();
        assert_eq!(admissions.connected().http, 4);
        silent[0].ask();
        drop(silent.remove(1));
        assert_eq!(admissions.connected().http, 3);
        assert!(admissions.end_silent());
        let ended: Vec<_> = silent.iter().map(|one| one.gives_way.is_cancelled()).collect();
        assert_eq!(
            ended,
            [false, true, false],
            "neither one that asked nor one that is gone"
        );
        assert_eq!(admissions.connected().http, 2);
        // What comes too late changes nothing.
        silent[1].ask();
        assert!(admissions.end_silent());
        assert!(!admissions.end_silent(), "the one that is left has asked");
        drop(silent);
        assert_eq!(admissions.connected().http, 0);
    }
}
