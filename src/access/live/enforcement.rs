//! What changes, and the end of a token, do to seats and sockets.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, stream};
use storage::{AccessChange, AccessListener, EVERYBODY, PageId};
use tokio::sync::Semaphore;

use super::{Entry, Held, earlier};
use crate::{
    access::{Access, Note},
    auth::{now, revoked},
    rooms::{Departure, Refusal, RoomName},
};

/// Decisions that are made again at once.
const MAX_AT_ONCE: usize = 64;
/// A decision that cannot be made, because a source fails, is tried again for this long; then its member has to go.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest sleep of the watch: clocks are set.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Announcements that are carried out one by one; more at once mean that everything may have changed.
const MAX_ANNOUNCED: usize = 100;

/// Whether a page is meant by an id or a pattern.
fn covers(pattern: &str, page: &PageId) -> bool {
    pattern == page.as_str()
        || pattern
            .strip_suffix('*')
            .is_some_and(|prefix| page.as_str().starts_with(prefix))
}

impl Access {
    /// Something has changed: forgets what was answered, and decides again for every seat and socket concerned. Returns how many seats
    /// there were when all of them have been told.
    pub async fn changed(&self, change: &AccessChange) -> usize {
        self.forget(change.user.as_deref());
        let user = change.user.as_deref().filter(|user| *user != EVERYBODY);
        let concerned = self.0.live.those(|entry| {
            let is_theirs = user.is_none_or(|user| entry.standing().identity.user.as_deref() == Some(user));
            is_theirs
                && change.page.as_deref().is_none_or(|pattern| {
                    let page = entry.page();
                    page.is_some_and(|page| covers(pattern, page))
                })
        });
        let count = concerned.iter().filter(|entry| entry.page().is_some()).count();
        self.decide_all_again(concerned).await;
        count
    }

    /// Signs a user out everywhere: raises the version that tokens must have, and sends all connections away.
    pub async fn sign_out(&self, user: &str) -> Result<u64, storage::StoreError> {
        let version = self.0.store.sign_out(user, now()).await?;
        self.forget(Some(user));
        self.send_away(Some(user), None, None, &revoked());
        Ok(version)
    }

    /// Sends members away, of a user or of all but one, from a room, or from all and with their sockets; returns the rooms, one for each
    /// member. Whether they may come back is asked anew.
    pub fn send_away(
        &self,
        user: Option<&str>,
        room: Option<&RoomName>,
        except: Option<&str>,
        refusal: &Refusal,
    ) -> Vec<RoomName> {
        self.forget(user);
        let concerned = self.0.live.those(|entry| {
            let standing = entry.standing();
            let of = standing.identity.user.as_deref();
            user.is_none_or(|user| of == Some(user))
                && (except.is_none() || of != except)
                && room.is_none_or(|room| entry.room().as_ref() == Some(room))
        });
        let rooms = concerned.iter().filter_map(|entry| entry.room()).collect();
        for entry in &concerned {
            self.remove(entry, refusal.clone());
        }
        rooms
    }

    /// Watches the times that seats are limited to, and hears what the database announces. Runs until the server stops.
    pub async fn watch(self) {
        let stop = self.0.stop.clone();
        let listening = async {
            match self.0.store.access_listener() {
                Some(listener) => self.listen(listener).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.watch_times() => {}
            () = listening => {}
        }
    }

    async fn watch_times(&self) {
        loop {
            let wait = self.0.live.next_deadline().map_or(LONGEST_SLEEP, |deadline| {
                deadline
                    .duration_since(now())
                    .unwrap_or_default()
                    .min(LONGEST_SLEEP)
            });
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.0.live.limited.notified() => continue,
            }
            let now = now();
            self.0.live.ask_those_due(now);
            let due = self.0.live.those(|entry| entry.is_due(now));
            for entry in &due {
                // The decision sets it anew. A source that is slow for one must not hold up the next ones.
                entry.standing().until = None;
            }
            let access = self.clone();
            tokio::spawn(async move { access.decide_all_again(due).await });
        }
    }

    async fn listen(&self, mut listener: AccessListener) {
        let mut is_silent = false;
        let carrying_out = Arc::new(Semaphore::new(MAX_AT_ONCE));
        loop {
            let mut changes = match listener.next().await {
                Ok(change) => vec![change],
                Err(error) => {
                    if !std::mem::replace(&mut is_silent, true) {
                        tracing::warn!(%error, "changes of permissions that others make are not heard now");
                    }
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            is_silent = false;
            // What has been announced meanwhile is carried out together, and once.
            while changes.len() <= MAX_ANNOUNCED
                && let Some(Ok(change)) = listener.next().now_or_never()
            {
                if !changes.contains(&change) {
                    changes.push(change);
                }
            }
            if changes.len() > MAX_ANNOUNCED {
                changes = vec![AccessChange::default()];
            }
            for change in changes {
                // A source that is slow for one must not hold up the next ones.
                self.forget(change.user.as_deref());
                let Ok(place) = carrying_out.clone().acquire_owned().await else {
                    return;
                };
                let access = self.clone();
                tokio::spawn(async move {
                    access.changed(&change).await;
                    drop(place);
                });
            }
        }
    }

    async fn decide_all_again(&self, entries: Vec<Arc<Entry>>) {
        let deciding = stream::iter(entries).for_each_concurrent(MAX_AT_ONCE, async |entry| {
            self.decide_again(&entry).await;
        });
        deciding.await;
    }

    /// Decides again what a member may do, and tells its room. When a source fails, this is tried for a while, out of the way of
    /// others.
    pub(super) async fn decide_again(&self, entry: &Arc<Entry>) {
        let Err(refusal) = self.try_to_decide_again(entry).await else {
            return;
        };
        if !refusal.code.is_retryable() {
            return self.remove(entry, refusal);
        }
        let (access, entry) = (self.clone(), entry.clone());
        tokio::spawn(async move {
            for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
                tokio::time::sleep(PAUSE).await;
                match access.try_to_decide_again(&entry).await {
                    Ok(()) => return,
                    Err(refusal) if refusal.code.is_retryable() => {}
                    Err(refusal) => return access.remove(&entry, refusal),
                }
            }
            access.remove(&entry, refusal);
        });
    }

    async fn try_to_decide_again(&self, entry: &Arc<Entry>) -> Result<(), Refusal> {
        let _turn = entry.turn.lock().await;
        let identity = entry.standing().identity.clone();
        let page = match &entry.place {
            Held::Seat(page, _) | Held::Room { asked: page, .. } => page,
            Held::Socket(_) => return self.check_standing(&identity, now()).await,
        };
        let decision = match self.decide(&identity, page, now()).await {
            // A better token has been shown meanwhile, and is decided about next.
            Err(_) if !Arc::ptr_eq(&identity, &entry.standing().identity) => return Ok(()),
            decision => decision?,
        };
        let before = {
            let mut standing = entry.standing();
            standing.until = earlier(decision.until, identity.expires_at);
            std::mem::replace(&mut standing.role, decision.role)
        };
        self.0.live.limited.notify_one();
        if before != decision.role {
            if let Held::Seat(_, seat) = &entry.place {
                seat.change_role(decision.role);
            }
            self.note_on(entry, "change_role", "ok", decision.role.as_str());
        }
        Ok(())
    }

    /// Sends somebody away, which waits for nobody.
    fn remove(&self, entry: &Entry, refusal: Refusal) {
        {
            let mut standing = entry.standing();
            (standing.until, standing.ask_at) = (None, None);
        }
        match &entry.place {
            Held::Seat(page, seat) => {
                self.note_on(entry, "remove", refusal.code.as_str(), "");
                seat.remove(refusal);
                // Whatever its connection is doing now.
                self.0.attendance.went(page, entry.id, Departure::Clean);
            }
            Held::Room { control, removed, .. } => {
                self.note_on(entry, "remove", refusal.code.as_str(), "");
                *removed.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal.clone());
                control.remove(&refusal);
            }
            Held::Socket(end) => {
                let end = end.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(end) = end {
                    // It may have ended by itself.
                    let _ = end.send(refusal);
                }
            }
        }
    }

    fn note_on(&self, entry: &Entry, action: &str, outcome: &str, detail: &str) {
        let user = entry.standing().identity.user.clone();
        self.note(Note {
            action,
            outcome,
            user: user.as_deref(),
            page: entry.page().map(PageId::as_str),
            detail,
            ..Note::default()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_covers_a_page_by_id_or_pattern() {
        let page = PageId::new("team/a").expect("a page id");
        for (pattern, expected) in [
            ("team/a", true),
            ("team/*", true),
            ("*", true),
            ("team/ab*", false),
            ("team", false),
        ] {
            assert_eq!(covers(pattern, &page), expected, "{pattern}");
        }
    }
}
