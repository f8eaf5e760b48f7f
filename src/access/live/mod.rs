//! The seats that are taken, and the sockets of users that may be in no page, with the tokens that were shown for them.
//!
//! This is the only clock for tokens: it ends seats and sockets, and says when to ask for a fresh token.

mod attendance;
mod enforcement;

use std::{
    collections::HashMap,
    ops::Deref,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use futures_util::task::AtomicWaker;
use storage::PageId;
use tokio::sync::{Notify, oneshot};

pub use self::attendance::{Attendance, Viewer};
use super::{Access, Membership, seats::SeatPermit};
use crate::{
    auth::{Identity, now},
    rooms::{Departure, Outbox, Refusal, RefusalCode, Role, RoomName, Seat, SeatHandle},
};

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
    id: u64,
    place: Held,
    standing: Mutex<Standing>,
    /// One decision at a time, so that the last one stands.
    turn: tokio::sync::Mutex<()>,
    /// It is time to ask for a fresh token.
    asks: AtomicBool,
    asker: AtomicWaker,
}

/// What somebody holds.
enum Held {
    /// A seat in the room of a page.
    Seat(PageId, SeatHandle),
    /// A place in a room without a document.
    Room {
        /// What the sources are asked for it.
        asked: PageId,
        /// The room.
        room: RoomName,
        /// The way to it.
        control: Arc<dyn RoomControl>,
        /// Why it has been sent away.
        removed: Mutex<Option<Refusal>>,
    },
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
    /// How long before the token ends its member wants to be asked for a fresh one.
    ask_ahead: Option<Duration>,
    /// When that is.
    ask_at: Option<SystemTime>,
}

impl Standing {
    fn new(identity: Arc<Identity>, role: Role, until: Option<SystemTime>) -> Self {
        Self {
            identity,
            role,
            until,
            ask_ahead: None,
            ask_at: None,
        }
    }

    /// Sets when to ask for a fresh token; of one that does not last that long, when half of its time is over.
    fn set_asking(&mut self, now: SystemTime) {
        self.ask_at = self.ask_ahead.and_then(|ahead| {
            let left = self.identity.expires_at?.duration_since(now).unwrap_or_default();
            Some(now + left.saturating_sub(ahead).max(left / 2))
        });
    }
}

impl Entry {
    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the sources are asked for it, if it is in a room.
    fn page(&self) -> Option<&PageId> {
        match &self.place {
            Held::Seat(page, _) | Held::Room { asked: page, .. } => Some(page),
            Held::Socket(_) => None,
        }
    }

    /// The room that it is in.
    fn room(&self) -> Option<RoomName> {
        match &self.place {
            Held::Seat(page, _) => Some(RoomName::of_page(page)),
            Held::Room { room, .. } => Some(room.clone()),
            Held::Socket(_) => None,
        }
    }

    fn is_due(&self, now: SystemTime) -> bool {
        self.standing().until.is_some_and(|until| until <= now)
    }

    /// Tells its member that it is time to ask for a fresh token, if it is.
    fn ask_if_due(&self, now: SystemTime) {
        if self.standing().ask_at.take_if(|at| *at <= now).is_some() {
            self.asks.store(true, Ordering::Release);
            self.asker.wake();
        }
    }

    /// Says once, when it is time to ask for a fresh token, how long the old one still lasts.
    fn poll_ask(&self, context: &mut Context<'_>) -> Poll<Duration> {
        self.asker.register(context.waker());
        if !self.asks.swap(false, Ordering::Acquire) {
            return Poll::Pending;
        }
        let expires = self.standing().identity.expires_at;
        let left = expires.and_then(|at| at.duration_since(now()).ok());
        Poll::Ready(left.unwrap_or_default())
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
            .filter_map(|entry| {
                let standing = entry.standing();
                earlier(standing.until, standing.ask_at)
            })
            .min()
    }

    fn ask_those_due(&self, now: SystemTime) {
        for entry in self.entries().values() {
            entry.ask_if_due(now);
        }
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

    /// Ends it with the token, and asks for a fresh one so long before.
    pub fn end_with_token(&self, ahead: Duration) {
        let Registration { entry, access, .. } = &self.registration;
        {
            let mut standing = entry.standing();
            standing.until = standing.identity.expires_at;
            standing.ask_ahead = Some(ahead);
            standing.set_asking(now());
        }
        access.0.live.limited.notify_one();
    }

    /// Says once, when it is time to ask for a fresh token, how long the old one still lasts.
    pub fn poll_ask(&self, context: &mut Context<'_>) -> Poll<Duration> {
        self.registration.entry.poll_ask(context)
    }

    /// Why it is to end. Must not be asked again then.
    pub fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<Refusal> {
        let gone = |_| Refusal::unavailable("the server does not know you any more, connect again");
        Pin::new(&mut self.ended)
            .poll(context)
            .map(|ended| ended.unwrap_or_else(gone))
    }
}

/// The way to somebody in a room without a document.
pub trait RoomControl: Send + Sync {
    /// It may not be there any more.
    fn remove(&self, refusal: &Refusal);
}

/// A place in a room without a document, whose role follows every change.
pub struct RoomSeat(Registration);

impl RoomSeat {
    /// What its holder may do now.
    pub fn role(&self) -> Role {
        self.0.entry.standing().role
    }

    /// Why its holder was sent away, if that is so.
    pub fn removed(&self) -> Option<Refusal> {
        match &self.0.entry.place {
            Held::Room { removed, .. } => removed.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            Held::Seat(..) | Held::Socket(_) => None,
        }
    }

    /// Its holder has shown a fresh token of the same user: what it may do follows that one from now on.
    pub async fn renew(&self, identity: Arc<Identity>) {
        let Registration { entry, access, .. } = &self.0;
        entry.standing().identity = identity;
        access.decide_again(entry).await;
    }
}

/// Being among the seats that are taken, or the sockets.
struct Registration {
    entry: Arc<Entry>,
    access: Access,
}

impl LiveSeat {
    /// Gives the seat back.
    pub async fn leave(self, departure: Departure) {
        self.registration.went(departure);
        drop(self.registration);
        self.seat.leave(departure).await;
    }

    /// What the member may do now.
    pub fn role(&self) -> Role {
        self.registration.entry.standing().role
    }

    /// Wants its member asked for a fresh token so long before the one it has shown ends.
    pub fn ask_ahead(&self, ahead: Duration) {
        let Registration { entry, access, .. } = &self.registration;
        {
            let mut standing = entry.standing();
            standing.ask_ahead = Some(ahead);
            standing.set_asking(now());
        }
        access.0.live.limited.notify_one();
    }

    /// Says once, when it is time to ask for a fresh token, how long the old one still lasts.
    pub fn poll_ask(&self, context: &mut Context<'_>) -> Poll<Duration> {
        self.registration.entry.poll_ask(context)
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
            standing.set_asking(now());
        }
        entry.asks.store(false, Ordering::Release);
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

impl Registration {
    /// Says that a seat was given back.
    fn went(&self, departure: Departure) {
        if let Held::Seat(page, _) = &self.entry.place {
            self.access.0.attendance.went(page, self.entry.id, departure);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // A seat that was not given back belongs to a connection that was cut short.
        self.went(Departure::Lost);
        self.access.0.live.entries().remove(&self.entry.id);
    }
}

fn earlier(one: Option<SystemTime>, other: Option<SystemTime>) -> Option<SystemTime> {
    [one, other].into_iter().flatten().min()
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
        let viewer = Viewer::new(&membership.identity, membership.socket.clone());
        let joined = self.take_seat(page, membership, outbox).await;
        // A room that does not take somebody in hangs up at once.
        let refused = joined
            .as_ref()
            .map_or_else(|refusal| Some(refusal.clone()), |_| outbox.closing());
        if let (Ok(seat), None) = (&joined, &refused) {
            let number = seat.registration.entry.id;
            self.0.attendance.came(page, number, viewer);
            if outbox.closing().is_some() {
                // It was sent away in between.
                self.0.attendance.went(page, number, Departure::Clean);
            }
        }
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
            ..
        } = membership;
        let badge = self.0.stamps_presence.then(|| identity.badge()).flatten();
        let permit = self.0.seats.take(page, user.as_ref(), role)?;
        let joining = self
            .0
            .registry
            .join(page, role, user.clone(), badge.map(Arc::new), outbox);
        let seat = joining.await?;
        let until = earlier(until, identity.expires_at);
        let standing = Standing::new(identity, role, until);
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

    /// Notes that somebody has entered a room without a document. Until that is given back, its role follows every change.
    pub async fn watch_room(
        &self,
        room: &RoomName,
        membership: Membership,
        control: Arc<dyn RoomControl>,
    ) -> RoomSeat {
        let Membership {
            role,
            user,
            identity,
            until,
            stamp,
            asked,
            ..
        } = membership;
        let until = earlier(until, identity.expires_at);
        let standing = Standing::new(identity, role, until);
        let is_limited = standing.until.is_some();
        let place = Held::Room {
            asked,
            room: room.clone(),
            control,
            removed: Mutex::default(),
        };
        let registration = self.register(place, standing);
        // Whatever changes from here on finds it; what has changed since the decision is looked for now.
        if self.stamp(user.as_deref()) != stamp {
            self.decide_again(&registration.entry).await;
        } else if is_limited {
            self.0.live.limited.notify_one();
        }
        RoomSeat(registration)
    }

    /// Keeps an eye on the socket of somebody who may enter: it is told when that ends, whether it is in a page or not.
    pub async fn watch_socket(&self, identity: Arc<Identity>) -> LiveSocket {
        let (end, ended) = oneshot::channel();
        let standing = Standing::new(identity, Role::View, None);
        let registration = self.register(Held::Socket(Mutex::new(Some(end))), standing);
        // What has changed since it was identified is looked for now.
        self.decide_again(&registration.entry).await;
        LiveSocket { ended, registration }
    }

    fn register(&self, place: Held, standing: Standing) -> Registration {
        let live = &self.0.live;
        let id = live.next.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Entry {
            id,
            place,
            standing: Mutex::new(standing),
            turn: tokio::sync::Mutex::default(),
            asks: AtomicBool::new(false),
            asker: AtomicWaker::new(),
        });
        live.entries().insert(id, entry.clone());
        Registration {
            entry,
            access: self.clone(),
        }
    }
}
