//! The seats that are taken, and the sockets of users that may be in no page, with what [`Enforcement`] says of them carried out.
//!
//! This is the only clock for tokens: it ends seats and sockets, and says when to ask for a fresh token.

mod attendance;
mod watch;

use std::{
    ops::Deref,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use storage::PageId;
use tokio::sync::{Notify, oneshot};

pub use self::attendance::{Attendance, Viewer};
use super::{
    Access, ConnectedUser, Membership,
    enforcement::{Decision, Enforcement, HolderId, Newcomer},
    seats::SeatPermit,
};
use crate::{
    auth::{Identity, now},
    rooms::{Departure, Outbox, Refusal, RefusalCode, Role, RoomName, Seat, SeatHandle},
};

/// The seats that are taken, and the sockets.
#[derive(Default)]
pub(super) struct Live {
    enforcement: Mutex<Enforcement<Arc<Holding>>>,
    /// Orders are carried out in the order in which they are given.
    turn: Mutex<()>,
    /// Something has to be done earlier than it had.
    earlier: Notify,
}

impl Live {
    /// Looks at what is held, or changes it.
    fn with<T>(&self, change: impl FnOnce(&mut Enforcement<Arc<Holding>>) -> T) -> T {
        let mut enforcement = self.enforcement.lock().unwrap_or_else(PoisonError::into_inner);
        let before = enforcement.next_deadline();
        let changed = change(&mut enforcement);
        let next = enforcement.next_deadline();
        if next.is_some_and(|next| before.is_none_or(|before| next < before)) {
            self.earlier.notify_one();
        }
        changed
    }
}

/// Where orders about a seat or a socket go.
struct Holding {
    place: Place,
    /// It is time to ask for a fresh token.
    asks: AtomicBool,
    asker: AtomicWaker,
}

/// What somebody holds.
enum Place {
    /// A seat in the room of a page.
    Seat(PageId, SeatHandle),
    /// A place in a room without a document.
    Room {
        /// The way to it.
        control: Arc<dyn RoomControl>,
        /// Why it has been sent away.
        removed: Mutex<Option<Refusal>>,
    },
    /// A socket, until it is told why it ends.
    Socket(Mutex<Option<oneshot::Sender<Refusal>>>),
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
        let id = self.registration.id;
        let live = &self.registration.access.0.live;
        live.with(|enforcement| {
            enforcement
                .standing(id)
                .and_then(|(_, identity)| identity.user.clone())
        })
    }

    /// Ends it with the token, and asks for a fresh one so long before.
    pub fn end_with_token(&self, ahead: Duration) {
        let Registration { id, access, .. } = &self.registration;
        access.0.live.with(|enforcement| {
            enforcement.end_with_token(*id);
            enforcement.ask_ahead(now(), *id, ahead);
        });
    }

    /// Says once, when it is time to ask for a fresh token, how long the old one still lasts.
    pub fn poll_ask(&self, context: &mut Context<'_>) -> Poll<Duration> {
        self.registration.poll_ask(context)
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
        self.0.role()
    }

    /// Why its holder was sent away, if that is so.
    pub fn removed(&self) -> Option<Refusal> {
        match &self.0.holding.place {
            Place::Room { removed, .. } => removed.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            Place::Seat(..) | Place::Socket(_) => None,
        }
    }

    /// Its holder has shown a fresh token of the same user: what it may do follows that one from now on.
    pub async fn renew(&self, identity: Arc<Identity>) -> Result<(), Refusal> {
        self.0.renew(identity).await
    }
}

/// Being among the seats that are taken, or the sockets.
struct Registration {
    id: HolderId,
    holding: Arc<Holding>,
    access: Access,
}

impl Registration {
    /// Says once, when it is time to ask for a fresh token, how long the old one still lasts.
    fn poll_ask(&self, context: &mut Context<'_>) -> Poll<Duration> {
        self.holding.asker.register(context.waker());
        if !self.holding.asks.swap(false, Ordering::Acquire) {
            return Poll::Pending;
        }
        let expires = self.access.0.live.with(|enforcement| {
            let (_, identity) = enforcement.standing(self.id)?;
            identity.expires_at
        });
        let left = expires.and_then(|at| at.duration_since(now()).ok());
        Poll::Ready(left.unwrap_or_default())
    }

    fn role(&self) -> Role {
        let live = &self.access.0.live;
        let role = live.with(|enforcement| Some(enforcement.standing(self.id)?.0));
        role.unwrap_or(Role::View)
    }

    async fn renew(&self, identity: Arc<Identity>) -> Result<(), Refusal> {
        let live = &self.access.0.live;
        let question = live.with(|enforcement| enforcement.renew(now(), self.id, identity))?;
        self.holding.asks.store(false, Ordering::Release);
        self.access.decide_all(question).await;
        Ok(())
    }
}

impl LiveSeat {
    /// Gives the seat back.
    pub async fn leave(self, departure: Departure) {
        self.registration.went(departure);
        drop(self.registration);
        self.seat.leave(departure).await;
    }

    /// The page: of one that was renamed, under the id that it has now.
    pub fn page(&self) -> Option<&PageId> {
        match &self.registration.holding.place {
            Place::Seat(page, _) => Some(page),
            Place::Room { .. } | Place::Socket(_) => None,
        }
    }

    /// What the member may do now.
    pub fn role(&self) -> Role {
        self.registration.role()
    }

    /// Wants its member asked for a fresh token so long before the one it has shown ends.
    pub fn ask_ahead(&self, ahead: Duration) {
        let Registration { id, access, .. } = &self.registration;
        access
            .0
            .live
            .with(|enforcement| enforcement.ask_ahead(now(), *id, ahead));
    }

    /// Says once, when it is time to ask for a fresh token, how long the old one still lasts.
    pub fn poll_ask(&self, context: &mut Context<'_>) -> Poll<Duration> {
        self.registration.poll_ask(context)
    }

    /// The member has shown a fresh token of the same user: what it may do follows that one from now on.
    pub async fn renew(&self, membership: Membership) -> Result<(), Refusal> {
        self.registration.renew(membership.identity).await
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
        if let Place::Seat(page, seat) = &self.holding.place {
            self.access.0.attendance.went(page, seat.member().0, departure);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // A seat that was not given back belongs to a connection that was cut short.
        self.went(Departure::Lost);
        self.access.0.live.with(|enforcement| enforcement.leave(self.id));
    }
}

impl Access {
    /// Takes a seat in the room of the page that a membership is for, and notes that. Until it is given back, its role follows every
    /// change.
    pub async fn join(&self, membership: Membership, outbox: &Arc<Outbox>) -> Result<LiveSeat, Refusal> {
        let page = &membership.asked.clone();
        let (user, caller) = (membership.user.clone(), membership.caller.clone());
        let viewer = Viewer::new(&membership.identity, membership.socket.clone());
        let joined = self.take_seat(page, membership, outbox).await;
        // A room that does not take somebody in hangs up at once.
        let refused = joined
            .as_ref()
            .map_or_else(|refusal| Some(refusal.clone()), |_| outbox.closing());
        if let (Ok(seat), None) = (&joined, &refused) {
            let number = seat.member().0;
            self.0.attendance.came(page, number, viewer);
            if outbox.closing().is_some() {
                // It was sent away in between.
                self.0.attendance.went(page, number, Departure::Clean);
            }
        }
        if refused
            .as_ref()
            .is_some_and(|refusal| refusal.code == RefusalCode::PageRenamed)
        {
            // Another process has renamed it, and what is remembered is of before.
            self.forget(None);
        }
        let came = refused.as_ref().map_or(Ok(()), Err);
        self.note_connect(user.as_deref(), Some(page), caller.as_ref(), came);
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
        let presence_stamp = self.0.stamps_presence.then(|| identity.stamp()).flatten();
        let permit = self.0.seats.take(page, user.as_ref(), role)?;
        let joining = self
            .0
            .registry
            .join(page, role, user.clone(), presence_stamp.map(Arc::new), outbox);
        let seat = joining.await?;
        let place = Place::Seat(page.clone(), seat.handle());
        let decision = Decision { role, until };
        let of = Some((RoomName::of_page(page), page.clone()));
        let registration = self.register(place, of, identity, decision);
        // Whatever changes from here on finds the seat; what has changed since the decision is looked for now.
        if self.stamp(user.as_deref()) != stamp {
            self.decide_again(&registration).await;
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
        let place = Place::Room {
            control,
            removed: Mutex::default(),
        };
        let of = Some((room.clone(), asked));
        let registration = self.register(place, of, identity, Decision { role, until });
        // Whatever changes from here on finds it; what has changed since the decision is looked for now.
        if self.stamp(user.as_deref()) != stamp {
            self.decide_again(&registration).await;
        }
        RoomSeat(registration)
    }

    /// Keeps an eye on the socket of somebody who may enter: it is told when that ends, whether it is in a page or not.
    pub async fn watch_socket(&self, identity: Arc<Identity>) -> LiveSocket {
        let (end, ended) = oneshot::channel();
        let place = Place::Socket(Mutex::new(Some(end)));
        let registration = self.register(place, None, identity, may_enter());
        // What has changed since it was identified is looked for now.
        self.decide_again(&registration).await;
        LiveSocket { ended, registration }
    }

    /// Users who are connected, in the order of their ids, those behind `after`, at most so many; and where each is.
    pub fn connected_users(&self, after: Option<&str>, limit: usize) -> Vec<ConnectedUser> {
        let live = &self.0.live;
        live.with(|enforcement| ConnectedUser::list(enforcement.users(), after, limit))
    }

    /// Where a user is, if it is connected.
    pub fn connected_user(&self, user: &str) -> Option<ConnectedUser> {
        let live = &self.0.live;
        live.with(|enforcement| ConnectedUser::find(enforcement.users(), user))
    }

    /// How often somebody has come or gone.
    pub fn comings_and_goings(&self) -> u64 {
        self.0.live.with(|enforcement| enforcement.comings_and_goings())
    }

    fn register(
        &self,
        place: Place,
        of: Option<(RoomName, PageId)>,
        identity: Arc<Identity>,
        decision: Decision,
    ) -> Registration {
        let (room, page) = of.unzip();
        let holding = Arc::new(Holding {
            place,
            asks: AtomicBool::new(false),
            asker: AtomicWaker::new(),
        });
        let newcomer = Newcomer {
            handle: holding.clone(),
            room,
            page,
            identity,
            decision,
        };
        Registration {
            id: self.0.live.with(|enforcement| enforcement.enter(newcomer)),
            holding,
            access: self.clone(),
        }
    }

    async fn decide_again(&self, registration: &Registration) {
        let live = &self.0.live;
        let question = live.with(|enforcement| enforcement.decide_again(now(), registration.id));
        self.decide_all(question).await;
    }
}

/// What is decided of a socket: that its user may enter.
fn may_enter() -> Decision {
    Decision {
        role: Role::View,
        until: None,
    }
}
