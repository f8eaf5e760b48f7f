//! What changes, and the end of a token, do to seats and sockets: the sources are asked, and orders carried out.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, stream};
use storage::{AccessChange, AccessListener, PageId};
use tokio::sync::Semaphore;

use super::{Holding, Place, may_enter};
use crate::{
    access::{
        Access, Note,
        enforcement::{Enforcement, Held, Order, PAUSE, Question},
    },
    auth::{now, revoked},
    rooms::{Departure, Refusal, Room, RoomName},
};

/// Decisions that are made again at once.
const MAX_AT_ONCE: usize = 64;
/// Longest sleep of the watch: clocks are set.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Announcements that are carried out one by one; more at once mean that everything may have changed.
const MAX_ANNOUNCED: usize = 100;

impl Access {
    /// Something has changed: forgets what was answered, and decides again for every seat and socket concerned. Returns how many seats
    /// there were when all of them have been told.
    pub async fn changed(&self, change: &AccessChange) -> usize {
        let (user, page) = (change.user.as_deref(), change.page.as_deref());
        self.forget(user);
        let live = &self.0.live;
        let questions = live.with(|enforcement| enforcement.changed(now(), user, page));
        let count = questions
            .iter()
            .filter(|question| question.page.is_some())
            .count();
        self.decide_all(questions).await;
        if let (None, Some(page)) = (user, page) {
            self.end_former_room(page).await;
        }
        count
    }

    /// Ends the room of a page that was purged, renamed or rebuilt by another process: nothing of it is stored any more. And one that was
    /// opened where no page was, when another page has been given that id.
    async fn end_former_room(&self, page: &str) {
        // Patterns of pages have no room.
        let Some(page) = PageId::new(page)
            .ok()
            .filter(|page| self.0.registry.is_open(page))
        else {
            return;
        };
        let look = async || {
            let look = |room: &mut Room| (room.generation().cloned(), room.is_stored());
            self.0.registry.look(&page, look).await
        };
        let Some((known, _)) = look().await else { return };
        match self.0.store.page(&page).await {
            Ok(record) if record.as_ref().map(|record| &record.generation) != known.as_ref() => {
                // What it has is on its way to the store, or has come there just now: it is the page.
                if known.is_none() && look().await != Some((None, true)) {
                    return;
                }
                let registry = self.0.registry.clone();
                tokio::spawn(async move { registry.end(&page).await });
            }
            Ok(_) => {}
            // What it writes is not stored either.
            Err(error) => tracing::warn!(%error, "whether a page is still the same cannot be found out"),
        }
    }

    /// Signs a user out everywhere: raises the version that tokens must have, and sends all connections away.
    pub async fn sign_out(&self, user: &str) -> Result<u64, storage::StoreError> {
        let version = self.0.store.sign_out(user, now()).await?;
        self.forget(Some(user));
        self.send_away(Some(user), None, |_| Some(revoked()));
        Ok(version)
    }

    /// Sends members away, of a user or of all but one, from the rooms for which there is a refusal; sockets are in no room. Returns
    /// the rooms, one for each member. Whether they may come back is asked anew.
    pub fn send_away(
        &self,
        user: Option<&str>,
        except: Option<&str>,
        refusal_in: impl Fn(Option<&RoomName>) -> Option<Refusal>,
    ) -> Vec<RoomName> {
        self.forget(user);
        let mut rooms = Vec::new();
        self.enforce(|enforcement| {
            let orders = enforcement.send_away(user, except, refusal_in);
            rooms.extend(orders.iter().filter_map(|order| match order {
                Order::Remove(held, _) => held.room.clone(),
                Order::Decide(_) | Order::ChangeRole(..) | Order::AskForToken(_) => None,
            }));
            orders
        });
        rooms
    }

    /// Watches the times that seats are limited to, hears what the database announces, and keeps the keys of tokens fresh. Runs until
    /// the server stops.
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
            () = self.authenticator().keys.keep_fresh() => {}
        }
    }

    async fn watch_times(&self) {
        loop {
            let next = self.0.live.with(|enforcement| enforcement.next_deadline());
            let wait = next.map_or(LONGEST_SLEEP, |deadline| {
                let left: Duration = deadline.duration_since(now()).unwrap_or_default();
                left.min(LONGEST_SLEEP)
            });
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.0.live.earlier.notified() => continue,
            }
            let questions = self.enforce(|enforcement| enforcement.tick(now()));
            if !questions.is_empty() {
                // A source that is slow for one must not hold up the next ones.
                let access = self.clone();
                tokio::spawn(async move { access.decide_all(questions).await });
            }
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

    /// Asks the sources, and does what follows. Returns when everything has been asked once.
    pub(super) async fn decide_all(&self, questions: impl IntoIterator<Item = Question>) {
        let deciding = stream::iter(questions).for_each_concurrent(MAX_AT_ONCE, async |question| {
            let answer = match (&question.page, &question.room) {
                (Some(page), Some(room)) => self.decide_room(&question.identity, room, page, now()).await,
                (Some(page), None) => self.decide(&question.identity, page, now()).await,
                (None, _) => self
                    .check_standing(&question.identity, now())
                    .await
                    .map(|()| may_enter()),
            };
            self.enforce(|enforcement| enforcement.decided(now(), &question, answer));
        });
        deciding.await;
    }

    /// Does what is ordered and needs no waiting, and gives back what the sources have to be asked. What is held may be given back
    /// meanwhile, by whoever is sent away too.
    fn enforce<O>(&self, order: impl FnOnce(&mut Enforcement<Arc<Holding>>) -> O) -> Vec<Question>
    where
        O: IntoIterator<Item = Order<Arc<Holding>>>,
    {
        let live = &self.0.live;
        let _turn = live.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut questions = Vec::new();
        for order in live.with(order) {
            match order {
                Order::Decide(question) => questions.push(question),
                Order::ChangeRole(held, role) => {
                    if let Place::Seat(_, seat) = &held.handle.place {
                        seat.change_role(role);
                    }
                    self.note_on(&held, "change_role", "ok", role.as_str());
                }
                Order::Remove(held, refusal) => self.remove(&held, refusal),
                Order::AskForToken(held) => {
                    held.handle.asks.store(true, Ordering::Release);
                    held.handle.asker.wake();
                }
            }
        }
        questions
    }

    /// Waits until the orders that are being carried out have been. Not while anything is held that one of them may need.
    pub fn finish_orders(&self) {
        drop(self.0.live.turn.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn remove(&self, held: &Held<Arc<Holding>>, refusal: Refusal) {
        match &held.handle.place {
            Place::Seat(page, seat) => {
                self.note_on(held, "remove", refusal.code.as_str(), "");
                seat.remove(refusal);
                // Whatever its connection is doing now.
                self.0.attendance.went(page, seat.member().0, Departure::Clean);
            }
            Place::Room { control, removed } => {
                self.note_on(held, "remove", refusal.code.as_str(), "");
                *removed.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal.clone());
                control.remove(&refusal);
            }
            Place::Socket(end) => {
                let end = end.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(end) = end {
                    // It may have ended by itself.
                    let _ = end.send(refusal);
                }
            }
        }
    }

    fn note_on(&self, held: &Held<Arc<Holding>>, action: &str, outcome: &str, detail: &str) {
        self.note(Note {
            action,
            outcome,
            user: held.user.as_deref(),
            page: held.page.as_ref().map(PageId::as_str),
            detail,
            ..Note::default()
        });
    }
}
