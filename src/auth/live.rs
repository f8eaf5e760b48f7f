//! The seats that are taken, and the sockets of users that may be in no page, and what changes do to them.

use std::{
    collections::HashMap,
    ops::Deref,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use futures_util::{FutureExt, StreamExt, stream};
use storage::{AccessChange, AccessListener, EVERYBODY, PageId};
use tokio::sync::{Notify, Semaphore, oneshot};

use super::{Access, Identity, Membership, Note, identity::revoked, now, seats::SeatPermit};
use crate::rooms::{Departure, Outbox, Refusal, RefusalCode, Role, Seat, SeatHandle, Viewer};

/// Decisions that are made again at once.
const AT_ONCE: usize = 64;
/// A decision that cannot be made, because a source fails, is tried again for this long; then its member has to go.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest sleep of the watch: clocks are set.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Announcements that are carried out one by one; more at once mean that everything may have changed.
const MAX_ANNOUNCED: usize = 100;

/// The seats that are taken, and the sockets.
#[derive(Default)]
pub(super) struct Live {
    entries: Mutex<HashMap<u64, Arc<Entry>>>,
    next: AtomicU64,
    /// Somebody took a seat, or kept one, for a limited time.
    limited: Notify,
}

/// A seat that is taken, or a socket.
struct Entry {
    place: Held,
    standing: Mutex<Standing>,
    /// One decision at a time, so that the last one stands.
    turn: tokio::sync::Mutex<()>,
}

/// What somebody holds.
enum Held {
    /// A seat in the room of a page.
    Seat(PageId, SeatHandle),
    /// A socket, until it is told why it ends.
    Socket(Mutex<Option<oneshot::Sender<Refusal>>>),
}

/// What its member is and may do.
#[derive(Clone)]
struct Standing {
    identity: Arc<Identity>,
    role: Role,
    /// When the decision must be made again.
    until: Option<SystemTime>,
}

impl Entry {
    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The page in which it is a seat.
    fn page(&self) -> Option<&PageId> {
        match &self.place {
            Held::Seat(page, _) => Some(page),
            Held::Socket(_) => None,
        }
    }

    fn is_due(&self, now: SystemTime) -> bool {
        self.standing().until.is_some_and(|until| until <= now)
    }
}

impl Live {
    fn entries(&self) -> MutexGuard<'_, HashMap<u64, Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn those(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<Arc<Entry>> {
        let entries = self.entries();
        entries.values().filter(|entry| wanted(entry)).cloned().collect()
    }

    fn next_deadline(&self) -> Option<SystemTime> {
        self.entries()
            .values()
            .filter_map(|entry| entry.standing().until)
            .min()
    }
}

/// A seat whose role follows every change.
pub struct LiveSeat {
    seat: Seat,
    registration: Registration,
    _permit: SeatPermit,
}

/// A socket of a user, which is to end when the user may not enter any more.
pub struct LiveSocket {
    ended: oneshot::Receiver<Refusal>,
    registration: Registration,
}

impl LiveSocket {
    /// Whose it is.
    pub fn user(&self) -> Option<Arc<str>> {
        self.registration.entry.standing().identity.user.clone()
    }

    /// Why it is to end. Must not be asked again then.
    pub fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<Refusal> {
        let gone = |_| Refusal::unavailable("the server does not know you any more, connect again");
        Pin::new(&mut self.ended)
            .poll(context)
            .map(|ended| ended.unwrap_or_else(gone))
    }
}

/// Being among the seats that are taken, or the sockets.
struct Registration {
    id: u64,
    entry: Arc<Entry>,
    access: Access,
}

impl LiveSeat {
    /// Gives the seat back.
    pub async fn leave(self, departure: Departure) {
        drop(self.registration);
        self.seat.leave(departure).await;
    }

    /// What the member may do now.
    pub fn role(&self) -> Role {
        self.registration.entry.standing().role
    }

    /// The member has shown a fresh token of the same user: what it may do follows that one from now on.
    pub async fn renew(&self, membership: Membership) -> Result<(), Refusal> {
        let Registration { entry, access, .. } = &self.registration;
        {
            let mut standing = entry.standing();
            if standing.identity.user != membership.user {
                return Err(Refusal::new(
                    RefusalCode::Forbidden,
                    "a connection stays with the user who opened it",
                ));
            }
            standing.identity = membership.identity;
        }
        access.decide_again(entry).await;
        Ok(())
    }
}

impl Deref for LiveSeat {
    type Target = Seat;

    fn deref(&self) -> &Seat {
        &self.seat
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.access.0.live.entries().remove(&self.id);
    }
}

fn earlier(one: Option<SystemTime>, other: Option<SystemTime>) -> Option<SystemTime> {
    [one, other].into_iter().flatten().min()
}

/// Whether a page is meant by an id or a pattern.
fn covers(pattern: &str, page: &PageId) -> bool {
    pattern == page.as_str()
        || pattern
            .strip_suffix('*')
            .is_some_and(|prefix| page.as_str().starts_with(prefix))
}

impl Access {
    /// Takes a seat in the room of a page, and notes that. Until it is given back, its role follows every change.
    pub async fn join(
        &self,
        page: &PageId,
        membership: Membership,
        outbox: &Arc<Outbox>,
    ) -> Result<LiveSeat, Refusal> {
        let (user, address) = (membership.user.clone(), membership.address);
        let joined = self.take_seat(page, membership, outbox).await;
        // A room that does not take somebody in hangs up at once.
        let refused = joined
            .as_ref()
            .map_or_else(|refusal| Some(refusal.clone()), |_| outbox.closing());
        let came = refused.as_ref().map_or(Ok(()), Err);
        self.note_connect(user.as_deref(), Some(page), address, came);
        joined
    }

    async fn take_seat(
        &self,
        page: &PageId,
        membership: Membership,
        outbox: &Arc<Outbox>,
    ) -> Result<LiveSeat, Refusal> {
        let Membership {
            role,
            user,
            identity,
            until,
            stamp,
            socket,
            ..
        } = membership;
        let shown = |text: &Option<String>| text.as_deref().map(Arc::from);
        let viewer = Viewer {
            user: user.clone(),
            name: shown(&identity.profile.name),
            avatar_url: shown(&identity.profile.avatar_url),
            socket,
        };
        let badge = self.0.stamps_presence.then(|| identity.badge()).flatten();
        let permit = self.0.seats.take(page, user.as_ref(), role)?;
        let joining = self
            .0
            .registry
            .join(page, role, viewer, badge.map(Arc::new), outbox);
        let seat = joining.await?;
        let standing = Standing {
            until: earlier(until, identity.expires_at),
            identity,
            role,
        };
        let is_limited = standing.until.is_some();
        let registration = self.register(Held::Seat(page.clone(), seat.handle()), standing);
        // Whatever changes from here on finds the seat; what has changed since the decision is looked for now.
        if self.stamp(user.as_deref()) != stamp {
            self.decide_again(&registration.entry).await;
        } else if is_limited {
            self.0.live.limited.notify_one();
        }
        Ok(LiveSeat {
            seat,
            registration,
            _permit: permit,
        })
    }

    /// Keeps an eye on the socket of somebody who may enter: it is told when that ends, whether it is in a page or not.
    pub async fn watch_socket(&self, identity: Arc<Identity>) -> LiveSocket {
        let (end, ended) = oneshot::channel();
        let standing = Standing {
            identity,
            role: Role::View,
            until: None,
        };
        let registration = self.register(Held::Socket(Mutex::new(Some(end))), standing);
        // What has changed since it was identified is looked for now.
        self.decide_again(&registration.entry).await;
        LiveSocket { ended, registration }
    }

    fn register(&self, place: Held, standing: Standing) -> Registration {
        let entry = Arc::new(Entry {
            place,
            standing: Mutex::new(standing),
            turn: tokio::sync::Mutex::default(),
        });
        let live = &self.0.live;
        let id = live.next.fetch_add(1, Ordering::Relaxed);
        live.entries().insert(id, entry.clone());
        Registration {
            id,
            entry,
            access: self.clone(),
        }
    }

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

    /// Sends members away, of a user or of all but one, from a page, or from all and with their sockets; returns the pages and how many
    /// it were. Whether they may come back is asked anew.
    pub fn send_away(
        &self,
        user: Option<&str>,
        page: Option<&str>,
        except: Option<&str>,
        refusal: &Refusal,
    ) -> Vec<PageId> {
        self.forget(user);
        let concerned = self.0.live.those(|entry| {
            let standing = entry.standing();
            let of = standing.identity.user.as_deref();
            user.is_none_or(|user| of == Some(user))
                && (except.is_none() || of != except)
                && page.is_none_or(|page| entry.page().is_some_and(|one| one.as_str() == page))
        });
        let pages = concerned
            .iter()
            .filter_map(|entry| entry.page().cloned())
            .collect();
        for entry in &concerned {
            self.remove(entry, refusal.clone());
        }
        pages
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
        let carrying_out = Arc::new(Semaphore::new(AT_ONCE));
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
        let deciding = stream::iter(entries).for_each_concurrent(AT_ONCE, async |entry| {
            self.decide_again(&entry).await;
        });
        deciding.await;
    }

    /// Decides again what a member may do, and tells its room. When a source fails, this is tried for a while, out of the way of
    /// others.
    async fn decide_again(&self, entry: &Arc<Entry>) {
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
        let (page, seat) = match &entry.place {
            Held::Seat(page, seat) => (page, seat),
            Held::Socket(_) => return self.check_standing(&identity, now()).await,
        };
        let decision = self.decide(&identity, page, now()).await?;
        let before = {
            let mut standing = entry.standing();
            standing.until = earlier(decision.until, identity.expires_at);
            std::mem::replace(&mut standing.role, decision.role)
        };
        self.0.live.limited.notify_one();
        if before != decision.role {
            seat.change_role(decision.role);
            self.note_on(entry, "change_role", "ok", decision.role.as_str());
        }
        Ok(())
    }

    /// Sends somebody away, which waits for nobody.
    fn remove(&self, entry: &Entry, refusal: Refusal) {
        entry.standing().until = None;
        match &entry.place {
            Held::Seat(_, seat) => {
                self.note_on(entry, "remove", refusal.code.as_str(), "");
                seat.remove(refusal);
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
