//! HTTP connections on which nothing has been asked yet. Where there are too many connections, those that have been silent for longest
//! give way: connections that ask, such as those of a probe, are answered however many others are held open for nothing.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::admission::HttpPermit;

/// How long a client may take to send its first request. A proxy that is trusted opens connections in advance.
pub const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// Connections that have given way and are not closed yet. Until then they hold their files.
const MAX_ENDING: usize = 32;

/// All that are silent. There are no more of them than connections are admitted.
#[derive(Debug, Clone, Default)]
pub(super) struct SilentConnections(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    oldest_first: BTreeMap<u64, CancellationToken>,
    ending: usize,
}

/// Where a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Silent,
    Asked,
    GaveWay,
}

/// An admitted connection, silent at first. It is counted until this is dropped.
#[derive(Debug)]
pub struct Silent {
    number: u64,
    all: SilentConnections,
    gives_way: CancellationToken,
    state: Mutex<State>,
    permit: HttpPermit,
}

impl SilentConnections {
    /// Keeps a connection's permit. It may give way until something is asked on it.
    pub(super) fn add(&self, permit: HttpPermit) -> Silent {
        let gives_way = CancellationToken::new();
        let mut waiting = self.locked();
        let number = waiting.next;
        waiting.next += 1;
        waiting.oldest_first.insert(number, gives_way.clone());
        Silent {
            number,
            all: self.clone(),
            gives_way,
            state: Mutex::new(State::Silent),
            permit,
        }
    }

    /// How many have given way and are not closed yet.
    pub(super) fn ending(&self) -> usize {
        self.locked().ending
    }

    /// Ends so many that have been silent for longest, or none where there are not so many, or too many are ending already. Says whether
    /// it did.
    pub(super) fn end_oldest(&self, count: usize) -> bool {
        let mut waiting = self.locked();
        if waiting.oldest_first.len() < count || waiting.ending + count > MAX_ENDING {
            return false;
        }
        let give_way: Vec<_> = std::iter::from_fn(|| waiting.oldest_first.pop_first())
            .take(count)
            .collect();
        waiting.ending += give_way.len();
        drop(waiting);
        give_way.iter().for_each(|(_, gives_way)| gives_way.cancel());
        true
    }

    fn locked(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Silent {
    /// Something is asked on it. From now on it does not give way; says whether it had not already.
    pub fn ask(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if *state == State::Silent {
            *state = match self.all.locked().oldest_first.remove(&self.number) {
                Some(_) => State::Asked,
                None => State::GaveWay,
            };
        }
        *state == State::Asked
    }

    /// Whether there are more connections now than there may be: then it is to end with its answer.
    pub fn is_spare(&self) -> bool {
        self.permit.is_spare()
    }

    fn has_asked(&self) -> bool {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) == State::Asked
    }

    /// Waits until it gives way, or has been silent for longer than this; for ever where something has been asked.
    pub async fn is_given_up(&self, first_request: Duration) {
        let is_late = async {
            sleep(first_request).await;
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
        if !self.ask() {
            self.all.locked().ending -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connections::{Admissions, ConnectionLimits, Spoken};

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
        assert_eq!(admissions.connected().http, 3, "its file is not free yet");
        assert!(!silent[1].ask(), "too late");
        assert!(silent[0].ask(), "it had asked before");
        drop(silent.remove(1));
        assert_eq!(admissions.connected().http, 2);
        assert!(admissions.end_silent());
        assert!(!admissions.end_silent(), "the one that is left has asked");
        drop(silent);
        assert_eq!(admissions.connected().http, 0);
        assert!(admissions.accept(None).is_some());
    }

    const FAR: Option<std::net::IpAddr> = Some(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));

    #[test]
    fn nobody_gives_way_to_one_that_is_refused_all_the_same() {
        let limits = |total, per_ip| ConnectionLimits {
            total,
            per_user: 0,
            per_ip,
        };
        let is_over = |silent: &[Silent]| silent.iter().filter(|one| one.gives_way.is_cancelled()).count();
        // An address that has as many as it may have.
        let admissions = Admissions::new(limits(1, 1));
        let mut silent: Vec<_> = (0..64).filter_map(|_| admissions.accept(None)).collect();
        silent.extend(admissions.accept(FAR));
        assert_eq!(silent.len(), 65);
        assert!(admissions.accept(FAR).is_none());
        assert_eq!(is_over(&silent), 0);
        assert!(silent[0].is_spare());
        let one = admissions.accept(None).expect("a place");
        assert_eq!(is_over(&silent), 1);
        silent.clear();
        assert!(!one.is_spare(), "there is room again");
        // Connections that stay open have taken more than there are: two have to go for one to come, and one is left.
        drop((silent, one));
        let admissions = Admissions::new(limits(2, 0));
        let silent: Vec<_> = (0..66).filter_map(|_| admissions.accept(None)).collect();
        silent[1..].iter().for_each(|one| assert!(one.ask()));
        let ip = [127, 0, 0, 1].into();
        let stays = admissions
            .admit(Spoken::SocketIo, None, ip)
            .map_err(|refusal| refusal.code);
        assert!(stays.is_ok());
        assert!(admissions.accept(None).is_none());
        assert_eq!(is_over(&silent), 0);
    }

    #[test]
    fn what_is_ending_is_bounded() {
        let admissions = Admissions::new(LIMITS);
        let silent: Vec<_> = (0..100).filter_map(|_| admissions.accept(None)).collect();
        let ended = (0..100).filter(|_| admissions.end_silent()).count();
        assert_eq!(ended, MAX_ENDING);
        drop(silent);
        assert_eq!(admissions.silent().ending(), 0);
    }
}
