//! A client's connection to the namespace of events, as the profiles see it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value as Json, json};

mod attendance;
mod missed;
mod returning;

pub use returning::LostSession;

use super::{
    Alarm, BroadcastIds, Components, Desks, DriveViewers, Drives, EventOutbox, EventOutlet, EventRooms,
    History, Jobs, Patio, Presence, Profiles, RoomError, SocketId, TokenBucket, Way, event_text,
};
use crate::{
    access::{Access, Caller, RoomControl, RoomSeat},
    auth::Identity,
    rooms::{Departure, Refusal, RefusalCode, Role, RoomKind, RoomName},
    telemetry::Metrics,
};

/// What profiles need of the server.
#[derive(Clone)]
pub struct EventServices {
    /// Who may do what.
    pub access: Access,
    /// The rooms.
    pub rooms: EventRooms,
    /// The vocabularies that are spoken.
    pub profiles: Profiles,
    /// What backends have told lately.
    pub broadcasts: BroadcastIds,
    /// The numbers.
    pub metrics: Metrics,
    /// Where whole contents of pages are merged.
    pub desks: Arc<Desks>,
    /// Wakes the clock of the parts below.
    pub alarm: Alarm,
    /// What PatioAI's rooms remember.
    pub patio: Arc<Patio>,
    /// The components that have members.
    pub components: Arc<Components>,
    /// The events that are kept.
    pub history: History,
    /// What workers have said of workspaces.
    pub jobs: Jobs,
    /// Connections that were lost may go on.
    pub can_recover: bool,
    /// Who is at the pages, types there and points where.
    pub presence: Arc<Presence>,
    /// Who is there in drives and workspaces.
    pub drives: Arc<Drives>,
    /// Who looks at the pages of drives.
    pub drive_viewers: Arc<DriveViewers>,
}

/// A client's connection to the namespace of events.
pub struct EventSocket {
    id: SocketId,
    /// What the client calls its connection.
    name: Arc<str>,
    caller: Caller,
    /// The client had a connection before and has lost it: what it shows may be of then.
    has_returned: bool,
    identity: Mutex<Arc<Identity>>,
    outbox: Arc<EventOutbox>,
    services: Arc<EventServices>,
    seats: Mutex<BTreeMap<RoomName, Arc<RoomSeat>>>,
    /// Rooms of which it knows already that they are closed to it.
    revoked: Mutex<BTreeSet<RoomName>>,
    /// The rooms that it enters by the event that is being done.
    entered: Mutex<BTreeSet<RoomName>>,
    /// What it has told is kept when everything up to this number is stored.
    kept: AtomicU64,
    /// How fast it may go on with events that are relayed.
    relayed: Mutex<BTreeMap<String, TokenBucket>>,
    /// When its last event was noted.
    touched: Mutex<Option<Instant>>,
}

/// Events of a socket are noted this often.
const TOUCHED_EVERY: Duration = Duration::from_secs(1);
/// Rooms that are remembered to be closed to a socket, at most.
const MAX_REVOKED: usize = 1000;
/// The ways of being in a room for which its right is followed.
const SEATED: [Way; 3] = [Way::Room, Way::Presence, Way::Restored];

impl EventSocket {
    /// A connection of somebody who is known. It is in its own rooms at once. `has_returned` says that the client has lost another one.
    pub fn connect(
        identity: Arc<Identity>,
        (name, caller): (Arc<str>, Caller),
        has_returned: bool,
        max_outbox_bytes: usize,
        services: Arc<EventServices>,
    ) -> Arc<Self> {
        let own: Vec<_> = identity
            .user
            .iter()
            .flat_map(|user| RoomName::personal(user))
            .collect();
        let socket = Self::outside(identity, (name, caller), has_returned, max_outbox_bytes, services);
        for room in own {
            // Own rooms have no limit.
            let _ = socket.services.rooms.enter(socket.id, &room, Way::Own);
        }
        socket
    }

    /// One that is in no room yet.
    fn outside(
        identity: Arc<Identity>,
        (name, caller): (Arc<str>, Caller),
        has_returned: bool,
        max_outbox_bytes: usize,
        services: Arc<EventServices>,
    ) -> Arc<Self> {
        let outbox = Arc::new(EventOutbox::new(max_outbox_bytes));
        let id = services.rooms.connect(outbox.clone());
        Arc::new(Self {
            id,
            name,
            caller,
            has_returned,
            identity: Mutex::new(identity),
            outbox,
            services,
            seats: Mutex::default(),
            revoked: Mutex::default(),
            entered: Mutex::default(),
            kept: AtomicU64::new(0),
            relayed: Mutex::default(),
            touched: Mutex::default(),
        })
    }

    /// Whether the client has lost another connection before.
    pub fn has_returned(&self) -> bool {
        self.has_returned
    }

    /// Its seat in a room that it has asked for, by which its right there is followed.
    pub(in crate::events) fn seat(&self, room: &RoomName) -> Option<Arc<RoomSeat>> {
        lock(&self.seats).get(room).cloned()
    }

    /// Its number.
    pub fn id(&self) -> SocketId {
        self.id
    }

    /// What the client calls its connection.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Where it comes from.
    pub fn address(&self) -> IpAddr {
        self.caller.address
    }

    /// Whose it is.
    pub fn identity(&self) -> Arc<Identity> {
        lock(&self.identity).clone()
    }

    /// The user has shown a fresh token.
    pub fn renew(&self, identity: Arc<Identity>) {
        *lock(&self.identity) = identity;
    }

    /// How others know its user: the id, or what stands for one.
    pub fn user_id(&self) -> String {
        match &self.identity().user {
            Some(user) => (**user).to_owned(),
            None => format!("guest:{}", self.name),
        }
    }

    /// What profiles need of the server.
    pub fn services(&self) -> &EventServices {
        &self.services
    }

    /// The queue of what it is told.
    pub fn outbox(&self) -> &Arc<EventOutbox> {
        &self.outbox
    }

    /// Tells the client an event, behind all that it was told before.
    pub fn tell(&self, name: &str, payload: &impl Serialize) {
        self.outbox.push(&event_text(name, payload));
    }

    /// Gives the client something that is encoded already.
    pub fn push(&self, text: &Bytes) {
        self.outbox.push(text);
    }

    /// Tells the others in some rooms an event, each socket once. Gives how many are told.
    ///
    /// # Errors
    /// When it is to be kept and cannot be now; nobody is told.
    pub fn tell_others(
        &self,
        rooms: &[RoomName],
        name: &str,
        payload: &impl Serialize,
    ) -> Result<usize, Refusal> {
        self.tell_from(rooms, Some(self.id), name, payload)
    }

    /// Tells everybody in some rooms an event, each socket once. Gives how many are told.
    ///
    /// # Errors
    /// When it is to be kept and cannot be now; nobody is told.
    pub fn tell_all(
        &self,
        rooms: &[RoomName],
        name: &str,
        payload: &impl Serialize,
    ) -> Result<usize, Refusal> {
        self.tell_from(rooms, None, name, payload)
    }

    fn tell_from(
        &self,
        rooms: &[RoomName],
        except: Option<SocketId>,
        name: &str,
        payload: &impl Serialize,
    ) -> Result<usize, Refusal> {
        let told = self
            .services
            .rooms
            .tell_kept(rooms, except, name, payload, None)?;
        self.kept
            .fetch_max(told.stored_at.unwrap_or(0), Ordering::Relaxed);
        Ok(told.count)
    }

    /// What it may do in a room that it has asked for and is in.
    pub fn role(&self, room: &RoomName) -> Option<Role> {
        // Not while the lock is held: who sends a socket away comes from the other side.
        self.seat(room).map(|seat| seat.role())
    }

    /// Enters a room, if the sources of access let its user in. From then on its role follows every change, and it is sent away when
    /// it may not be there any more.
    ///
    /// # Errors
    /// When there is no such room, its user may not enter it, or a limit is reached.
    pub async fn enter(self: &Arc<Self>, room: &RoomName, way: Way) -> Result<Role, Refusal> {
        let rooms = &self.services.rooms;
        // Limits first: who is refused anyway asks no source.
        rooms.check(self.id, room, way).map_err(refusal)?;
        let (seat, is_new) = match self.seat(room) {
            Some(seat) => (seat, false),
            None => (self.take_seat(room).await?, true),
        };
        if let Err(error) = rooms.enter(self.id, room, way) {
            self.give_up_unneeded_seat(room);
            return Err(refusal(error));
        }
        self.appear(room, way);
        if is_new {
            lock(&self.revoked).remove(room);
            self.join(room).await;
        }
        self.stay(room, &seat)?;
        lock(&self.entered).insert(room.clone());
        Ok(seat.role())
    }

    /// Asks whether it may enter a room, and follows its right there from now on.
    async fn take_seat(self: &Arc<Self>, room: &RoomName) -> Result<Arc<RoomSeat>, Refusal> {
        let (access, identity) = (&self.services.access, self.identity());
        let membership = access.room_membership(identity.clone(), room).await;
        let membership = membership.inspect_err(|refusal| {
            let (user, asked) = (identity.user.as_deref(), room.asked());
            access.note_refused(user, asked.as_ref(), Some(&self.caller), refusal);
        })?;
        let control = Arc::new(Control {
            socket: Arc::downgrade(self),
            room: room.clone(),
        });
        let seat = Arc::new(access.watch_room(room, membership, control).await);
        let before = lock(&self.seats).insert(room.clone(), seat.clone());
        drop(before);
        let renewed = self.identity();
        if !Arc::ptr_eq(&identity, &renewed)
            && let Err(refusal) = seat.renew(renewed).await
        {
            self.give_up_seat(room);
            return Err(refusal);
        }
        Ok(seat)
    }

    /// Whether it may still be in a room that it has entered, by its seat there. Comes behind all that being there means: who sends it away
    /// before finds it everywhere, and who does meanwhile has left this mark.
    fn stay(&self, room: &RoomName, seat: &RoomSeat) -> Result<(), Refusal> {
        match seat.removed() {
            None => Ok(()),
            Some(refusal) => {
                self.give_up_seat(room);
                self.forget(room);
                self.expel(room, &refusal);
                Err(refusal)
            }
        }
    }

    /// The rooms that it has asked for, for a fresh token to be shown in each.
    pub fn seats(&self) -> Vec<(RoomName, Arc<RoomSeat>)> {
        let seats = lock(&self.seats);
        seats
            .iter()
            .map(|(room, seat)| (room.clone(), seat.clone()))
            .collect()
    }

    /// Gives up a way in which it is in a room. Gives whether it has left the room with that.
    pub fn leave(&self, room: &RoomName, way: Way) -> bool {
        let left = self.services.rooms.leave(self.id, room, way);
        self.give_up_unneeded_seat(room);
        self.disappear(room, way, left);
        left
    }

    /// Gives its seat up unless a way needs it in which it is in the room: an open page has a seat of its own.
    fn give_up_unneeded_seat(&self, room: &RoomName) {
        if !self.services.rooms.is_in_by(self.id, room, &SEATED) {
            self.give_up_seat(room);
        }
    }

    /// Gives its seat up, behind the lock: who sends a socket away comes from the other side.
    fn give_up_seat(&self, room: &RoomName) {
        let seat = lock(&self.seats).remove(room);
        drop(seat);
    }

    /// Takes it out of a room in every way that it had asked for.
    fn forget(&self, room: &RoomName) {
        for way in SEATED {
            let left = self.services.rooms.leave(self.id, room, way);
            self.disappear(room, way, left);
        }
    }

    /// Takes it out of a room in which it may not be any more, and tells the client. One that is being entered is taken out by who enters it.
    fn send_away(&self, room: &RoomName, refusal: &Refusal) {
        let seat = lock(&self.seats).remove(room);
        if seat.is_some() {
            self.forget(room);
            self.expel(room, refusal);
            self.services.profiles.removed(self, room, refusal);
            self.tell_revoked(room, refusal);
        }
    }

    /// Takes it out of all rooms that it has asked for, because its user may not be here any more. The client has been told of all of them
    /// then, also of those from which somebody else is sending it away.
    pub fn send_away_everywhere(&self, refusal: &Refusal) {
        for (room, _) in self.seats() {
            self.send_away(&room, refusal);
        }
        self.services.access.finish_orders();
    }

    /// Tells the client that a room is closed to it from now on, with what a backend has to say of it: once until it enters again. A token
    /// that is over closes nothing: the client comes back with a fresh one, and enters again.
    pub fn tell_revoked(&self, room: &RoomName, refusal: &Refusal) {
        if refusal.code == RefusalCode::TokenExpired {
            return;
        }
        {
            let mut revoked = lock(&self.revoked);
            if revoked.len() >= MAX_REVOKED {
                revoked.clear();
            }
            if !revoked.insert(room.clone()) {
                return;
            }
        }
        let mut body = json!({
            "room": room.told(),
            "reason": refusal.code.as_str(),
            "message": refusal.message,
        });
        if room.kind() == RoomKind::Page {
            body["pageId"] = room.id().into();
            body["metadata"] = json!({ "pageId": room.id() });
        }
        if let Some(notice) = &refusal.notice {
            (body["room"], body["reason"]) = (notice.room.clone().into(), notice.reason.clone().into());
            if let Some(metadata) = &notice.metadata {
                body["metadata"] = Json::clone(metadata);
            }
        }
        // Who has lost its connection without the server having noticed hears it when it comes back.
        self.services.rooms.tell_one(self.id, "access_revoked", &body);
    }

    /// The socket has entered the page of a room, or has left it.
    pub fn set_page(&self, room: &RoomName, is_open: bool) {
        if !is_open {
            let left = self.services.rooms.leave(self.id, room, Way::Page);
            self.disappear(room, Way::Page, left);
            self.leave(room, Way::Restored);
            return;
        }
        lock(&self.revoked).remove(room);
        if let Err(error) = self.services.rooms.enter(self.id, room, Way::Page) {
            // The page's own limit has let it in.
            tracing::debug!(%error, "a page is open to a socket that hears no events of it");
            return;
        }
        self.leave(room, Way::Restored);
        self.appear(room, Way::Page);
    }

    /// The connection has ended without a goodbye.
    pub fn lose(&self) {
        self.vanish(Departure::Lost);
        self.services.rooms.lose(self.id);
        let seats = std::mem::take(&mut *lock(&self.seats));
        drop(seats);
    }

    /// The connection has ended.
    pub fn disconnect(&self, departure: Departure) {
        self.vanish(departure);
        self.services.rooms.disconnect(self.id);
        let seats = std::mem::take(&mut *lock(&self.seats));
        drop(seats);
    }
}

impl Drop for EventSocket {
    fn drop(&mut self) {
        self.vanish(Departure::Lost);
        self.services.rooms.disconnect(self.id);
    }
}

/// The way to a socket in one room, for who decides what it may do there.
struct Control {
    socket: Weak<EventSocket>,
    room: RoomName,
}

impl RoomControl for Control {
    fn remove(&self, refusal: &Refusal) {
        if let Some(socket) = self.socket.upgrade() {
            socket.send_away(&self.room, refusal);
        }
    }
}

fn refusal(error: RoomError) -> Refusal {
    let code = match error {
        RoomError::Full(_) => RefusalCode::RoomFull,
        RoomError::TooManyRooms(_) => RefusalCode::RateLimited,
        RoomError::Gone => RefusalCode::Unavailable,
    };
    Refusal::new(code, error.to_string())
}

fn lock<T>(guarded: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while the lock is held, so what a poisoned lock guards is whole.
    guarded.lock().unwrap_or_else(PoisonError::into_inner)
}
