//! A client's connection to the namespace of events, as the profiles see it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use serde::Serialize;
use serde_json::json;

mod missed;
mod returning;

pub use returning::LostSession;

use super::{
    Alarm, BroadcastIds, Desks, EventOutbox, EventOutlet, EventRooms, History, Jobs, Profiles, RoomError,
    SocketId, TokenBucket, Way, event_text, not_found,
};
use crate::{
    access::{Access, RoomControl, RoomSeat},
    auth::Identity,
    rooms::{Refusal, RefusalCode, Role, RoomKind, RoomName},
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
    /// The events that are kept.
    pub history: History,
    /// What workers have said of workspaces.
    pub jobs: Jobs,
    /// Connections that were lost may go on.
    pub can_recover: bool,
}

/// A client's connection to the namespace of events.
pub struct EventSocket {
    id: SocketId,
    /// What the client calls its connection.
    name: Arc<str>,
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
}

/// Rooms that are remembered to be closed to a socket, at most.
const MAX_REVOKED: usize = 1000;

impl EventSocket {
    /// A connection of somebody who is known. It is in its own rooms at once.
    pub fn connect(
        identity: Arc<Identity>,
        name: Arc<str>,
        max_outbox_bytes: usize,
        services: Arc<EventServices>,
    ) -> Arc<Self> {
        let own: Vec<_> = identity
            .user
            .iter()
            .flat_map(|user| RoomName::personal(user))
            .collect();
        let socket = Self::outside(identity, name, max_outbox_bytes, services);
        for room in own {
            // Own rooms have no limit.
            let _ = socket.services.rooms.enter(socket.id, &room, Way::Own);
        }
        socket
    }

    /// One that is in no room yet.
    fn outside(
        identity: Arc<Identity>,
        name: Arc<str>,
        max_outbox_bytes: usize,
        services: Arc<EventServices>,
    ) -> Arc<Self> {
        let outbox = Arc::new(EventOutbox::new(max_outbox_bytes));
        let id = services.rooms.connect(outbox.clone());
        Arc::new(Self {
            id,
            name,
            identity: Mutex::new(identity),
            outbox,
            services,
            seats: Mutex::default(),
            revoked: Mutex::default(),
            entered: Mutex::default(),
            kept: AtomicU64::new(0),
            relayed: Mutex::default(),
        })
    }

    /// Its number.
    pub fn id(&self) -> SocketId {
        self.id
    }

    /// What the client calls its connection.
    pub fn name(&self) -> &Arc<str> {
        &self.name
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
    pub fn tell_others(&self, rooms: &[RoomName], name: &str, payload: &impl Serialize) -> usize {
        self.tell_from(rooms, Some(self.id), name, payload)
    }

    /// Tells everybody in some rooms an event, each socket once. Gives how many are told.
    pub fn tell_all(&self, rooms: &[RoomName], name: &str, payload: &impl Serialize) -> usize {
        self.tell_from(rooms, None, name, payload)
    }

    fn tell_from(
        &self,
        rooms: &[RoomName],
        except: Option<SocketId>,
        name: &str,
        payload: &impl Serialize,
    ) -> usize {
        let told = self.services.rooms.tell_kept(rooms, except, name, payload, None);
        self.kept
            .fetch_max(told.stored_at.unwrap_or(0), Ordering::Relaxed);
        told.count
    }

    /// What it may do in a room that it has asked for and is in.
    pub fn role(&self, room: &RoomName) -> Option<Role> {
        lock(&self.seats).get(room).map(|seat| seat.role())
    }

    /// Enters a room, if the sources of access let its user in. From then on its role follows every change, and it is sent away when
    /// it may not be there any more.
    ///
    /// # Errors
    /// When there is no such room, its user may not enter it, or a limit is reached.
    pub async fn enter(self: &Arc<Self>, room: &RoomName, way: Way) -> Result<Role, Refusal> {
        let rooms = &self.services.rooms;
        if let Some(role) = self.role(room) {
            rooms.enter(self.id, room, way).map_err(refusal)?;
            lock(&self.entered).insert(room.clone());
            return Ok(role);
        }
        let asked = room.asked().ok_or_else(|| not_found("there is no such room"))?;
        // Limits first: who is refused anyway asks no source.
        rooms.check(self.id, room, way).map_err(refusal)?;
        let access = &self.services.access;
        let membership = access.membership_of(self.identity(), &asked).await?;
        let control = Arc::new(Control {
            socket: Arc::downgrade(self),
            room: room.clone(),
        });
        rooms.enter(self.id, room, way).map_err(refusal)?;
        lock(&self.revoked).remove(room);
        let seat = access.watch_room(room, membership, control).await;
        let role = seat.role();
        lock(&self.seats).insert(room.clone(), Arc::new(seat));
        match self.take_if_removed(room) {
            // It was sent away between the decision and now.
            Some(refusal) => Err(refusal),
            None => {
                lock(&self.entered).insert(room.clone());
                Ok(role)
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

    fn take_if_removed(&self, room: &RoomName) -> Option<Refusal> {
        let mut seats = lock(&self.seats);
        let removed = seats.get(room)?.removed()?;
        seats.remove(room);
        drop(seats);
        self.forget(room);
        Some(removed)
    }

    /// Gives up a way in which it is in a room. Gives whether it has left the room with that.
    pub fn leave(&self, room: &RoomName, way: Way) -> bool {
        let left = self.services.rooms.leave(self.id, room, way);
        if left {
            lock(&self.seats).remove(room);
        }
        left
    }

    /// Takes it out of a room in every way that it had asked for.
    fn forget(&self, room: &RoomName) {
        for way in [Way::Room, Way::Presence, Way::Restored] {
            self.services.rooms.leave(self.id, room, way);
        }
    }

    /// Tells the client that a room is closed to it from now on, with what a backend has to say of it: once until it enters again.
    pub fn tell_revoked(&self, room: &RoomName, refusal: &Refusal) {
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
                body["metadata"] = metadata.clone();
            }
        }
        // Who has lost its connection without the server having noticed hears it when it comes back.
        self.services.rooms.tell_one(self.id, "access_revoked", &body);
    }

    /// The socket has entered the page of a room, or has left it.
    pub fn set_page(&self, room: &RoomName, is_open: bool) {
        if !is_open {
            self.services.rooms.leave(self.id, room, Way::Page);
            self.leave(room, Way::Restored);
            return;
        }
        lock(&self.revoked).remove(room);
        if let Err(error) = self.services.rooms.enter(self.id, room, Way::Page) {
            // The page's own limit has let it in.
            tracing::debug!(%error, "a page is open to a socket that hears no events of it");
        }
        self.leave(room, Way::Restored);
    }

    /// The connection has ended without a goodbye.
    pub fn lose(&self) {
        self.services.rooms.lose(self.id);
        lock(&self.seats).clear();
    }

    /// The connection has ended.
    pub fn disconnect(&self) {
        self.services.rooms.disconnect(self.id);
        lock(&self.seats).clear();
    }
}

impl Drop for EventSocket {
    fn drop(&mut self) {
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
        let Some(socket) = self.socket.upgrade() else {
            return;
        };
        // One that is being entered is taken out by who enters it.
        let seat = lock(&socket.seats).remove(&self.room);
        if seat.is_some() {
            socket.forget(&self.room);
            socket.tell_revoked(&self.room, refusal);
        }
        // The seat, and the socket if this is the last that is left of it, are given up when all that are being sent away have been.
        tokio::spawn(async move { drop((seat, socket)) });
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
