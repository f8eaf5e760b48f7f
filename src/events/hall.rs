//! The rooms without a document, shared by all connections and the bridge of backends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::Serialize;

use super::{
    EventOutlet, GivenId, History, RecoveryLimits, RoomError, RoomLimits, Rooms, SessionName, SocketId, Way,
    history::micros_of, is_momentary, rooms::Stays,
};
use crate::{
    auth::now,
    rooms::{Refusal, RoomName},
};

/// The rooms without a document. Clones share them.
///
/// One lock guards all of them, and nothing waits while it is held: telling an event costs a push into the queue of each member.
#[derive(Clone)]
pub struct EventRooms(Arc<Shared>);

struct Shared {
    rooms: Mutex<Rooms>,
    history: History,
}

/// What became of an event that was told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    /// How many sockets are told.
    pub count: usize,
    /// It is kept when everything up to this number is stored.
    pub stored_at: Option<u64>,
}

/// The text of an event without attachments, as a frame of the transport.
pub fn event_text(name: &str, payload: &impl Serialize) -> Bytes {
    // A Socket.IO event of the namespace `/`, within a message of Engine.IO.
    let mut text = b"42".to_vec();
    match serde_json::to_writer(&mut text, &(name, payload)) {
        Ok(()) => text.into(),
        // Values of ours and of JSON can always be written.
        Err(error) => {
            tracing::error!(%error, event = name, "an event cannot be written");
            Bytes::new()
        }
    }
}

/// The same with the event's offset behind its payload, which is JSON. Clients that know offsets take the last argument for one.
pub(super) fn text_with_offset(name: &str, payload: &str, offset: &str) -> Bytes {
    format!("42[{},{payload},\"{offset}\"]", serde_json::Value::from(name)).into()
}

impl EventRooms {
    /// Rooms with these limits, of which events are kept in a history; offsets come behind `last`.
    pub fn new(limits: RoomLimits, recovery: RecoveryLimits, history: History, last: u64) -> Self {
        Self(Arc::new(Shared {
            // Offsets are times, also where nothing was told yet.
            rooms: Mutex::new(Rooms::new(limits, recovery, last.max(micros_of(now())))),
            history,
        }))
    }

    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        // Nothing panics while the lock is held, so what a poisoned lock guards is whole.
        self.0.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A socket has connected.
    pub fn connect(&self, outlet: Arc<dyn EventOutlet>) -> SocketId {
        self.rooms().connect(outlet)
    }

    /// A socket has gone.
    pub fn disconnect(&self, id: SocketId) {
        self.rooms().disconnect(id);
    }

    /// A socket begins a session that may go on over another one.
    pub fn begin_session(&self, id: SocketId, name: SessionName) {
        self.rooms().begin_session(id, name);
    }

    /// A socket has gone without a goodbye.
    pub fn lose(&self, id: SocketId) {
        self.rooms().lose(micros_of(now()), id);
    }

    /// What the client calls a session of a user that may go on, and its rooms. If the server believes its connection alive, it ends.
    pub fn returning(&self, secret: &str, user: Option<&Arc<str>>) -> Option<(Arc<str>, Stays)> {
        self.rooms().returning(micros_of(now()), secret, user)
    }

    /// A session goes on over another socket: see [`Rooms::resume`].
    pub fn resume(
        &self,
        id: SocketId,
        name: SessionName,
        after: Option<u64>,
        may_enter: impl Fn(&RoomName) -> bool,
    ) -> bool {
        self.rooms().resume(id, name, after, may_enter)
    }

    /// The offset since which a socket is in a room.
    pub fn entered_at(&self, id: SocketId, room: &RoomName) -> Option<u64> {
        self.rooms().entered_at(id, room)
    }

    /// An offset of now: behind all that was told, and before all that is told from now on.
    pub fn mark(&self) -> u64 {
        self.rooms().next_offset(micros_of(now()))
    }

    /// The offset of the last event.
    pub fn last_offset(&self) -> u64 {
        self.rooms().last_offset()
    }

    /// Whether the socket could enter a room now.
    ///
    /// # Errors
    /// When it or the room has reached a limit.
    pub fn check(&self, id: SocketId, room: &RoomName, way: Way) -> Result<(), RoomError> {
        self.rooms().check(id, room, way)
    }

    /// A socket enters a room, or has one more way in which it is there.
    ///
    /// # Errors
    /// When it or the room has reached a limit.
    pub fn enter(&self, id: SocketId, room: &RoomName, way: Way) -> Result<(), RoomError> {
        self.rooms().enter(id, room, way)
    }

    /// A socket gives up a way in which it is in a room. Gives whether it has left the room with that.
    pub fn leave(&self, id: SocketId, room: &RoomName, way: Way) -> bool {
        self.rooms().leave(id, room, way)
    }

    /// How many sockets are in a room.
    pub fn count(&self, room: &RoomName) -> usize {
        self.rooms().members(room).count()
    }

    /// Whether a socket is in a room in one of these ways.
    pub fn is_in_by(&self, id: SocketId, room: &RoomName, ways: &[Way]) -> bool {
        self.rooms().is_in_by(id, room, ways)
    }

    /// Whether a socket is in a room.
    pub fn is_in(&self, id: SocketId, room: &RoomName) -> bool {
        self.rooms().is_in(id, room)
    }

    /// Tells an event that no rule keeps in some rooms, to each socket once, except to one. Gives how many sockets are told.
    pub fn tell(
        &self,
        rooms: &[RoomName],
        except: Option<SocketId>,
        name: &str,
        payload: &impl Serialize,
    ) -> usize {
        self.tell_noted(rooms, except, name, payload, |_, _| {})
    }

    /// The same for an event that may be kept, with what a backend calls it.
    ///
    /// # Errors
    /// When it is to be kept and cannot be now; nobody is told.
    pub fn tell_kept(
        &self,
        rooms: &[RoomName],
        except: Option<SocketId>,
        name: &str,
        payload: &impl Serialize,
        id: Option<GivenId>,
    ) -> Result<Told, Refusal> {
        let history = &self.0.history;
        for room in rooms {
            history.check(room, name)?;
        }
        let mut stored_at = None;
        let count = self.tell_noted(rooms, except, name, payload, |offset, payload| {
            // Under the lock, so that events are stored in the order in which they are told.
            let kept = rooms
                .iter()
                .filter_map(|room| history.keep(offset, room, name, payload));
            stored_at = kept.max();
        });
        if let (Some(id), Some(number)) = (id, stored_at) {
            stored_at = Some(number.max(history.keep_id(id, count, now())));
        }
        Ok(Told { count, stored_at })
    }

    /// Tells an event, and lets it be noted before anything else is told.
    fn tell_noted(
        &self,
        rooms: &[RoomName],
        except: Option<SocketId>,
        name: &str,
        payload: &impl Serialize,
        note: impl FnOnce(u64, &str),
    ) -> usize {
        if is_momentary(name) {
            let text = event_text(name, payload);
            return self.rooms().tell(rooms, except, &text);
        }
        let payload = match serde_json::to_string(payload) {
            Ok(payload) => payload,
            // Values of ours and of JSON can always be written.
            Err(error) => {
                tracing::error!(%error, event = name, "an event cannot be written");
                return 0;
            }
        };
        let mut all = self.rooms();
        let offset = all.next_offset(micros_of(now()));
        let text = text_with_offset(name, &payload, &self.0.history.epoch().write(offset));
        let count = all.tell_in_order(offset, rooms, except, &text);
        note(offset, &payload);
        count
    }

    /// The sockets that are in a room.
    pub fn member_ids(&self, room: &RoomName) -> Vec<SocketId> {
        self.rooms().members(room).collect()
    }

    /// The sockets that are in a room in one way, whether or not in another one too.
    pub fn members_by(&self, room: &RoomName, way: Way) -> Vec<SocketId> {
        self.rooms().members_by(room, way)
    }

    /// Gives some sockets a text that is encoded already.
    pub fn push(&self, sockets: &[SocketId], text: &Bytes) {
        let rooms = self.rooms();
        for socket in sockets {
            rooms.push(*socket, text);
        }
    }

    /// Tells some sockets in a room an event that may be kept, with this payload, which is JSON. Whoever has lost its connection there
    /// hears it later.
    ///
    /// # Errors
    /// When it is to be kept and cannot be now; nobody is told.
    pub(super) fn tell_among(
        &self,
        room: &RoomName,
        sockets: &[SocketId],
        (name, payload): (&str, &str),
        id: Option<GivenId>,
    ) -> Result<Told, Refusal> {
        let (history, count) = (&self.0.history, sockets.len());
        history.check(room, name)?;
        let mut all = self.rooms();
        let offset = all.next_offset(micros_of(now()));
        let text = text_with_offset(name, payload, &history.epoch().write(offset));
        all.tell_among(offset, room, sockets, &text);
        // Under the lock, so that events are stored in the order in which they are told.
        let mut stored_at = history.keep(offset, room, name, payload);
        drop(all);
        if let (Some(id), Some(number)) = (id, stored_at) {
            stored_at = Some(number.max(history.keep_id(id, count, now())));
        }
        Ok(Told { count, stored_at })
    }

    /// Tells one socket an event that it hears later if its connection is lost now.
    pub fn tell_one(&self, id: SocketId, name: &str, payload: &impl Serialize) {
        let payload = match serde_json::to_string(payload) {
            Ok(payload) => payload,
            // Values of ours and of JSON can always be written.
            Err(error) => return tracing::error!(%error, event = name, "an event cannot be written"),
        };
        let mut all = self.rooms();
        let offset = all.next_offset(micros_of(now()));
        let text = text_with_offset(name, &payload, &self.0.history.epoch().write(offset));
        all.tell_one(offset, id, &text);
    }

    /// Tells sockets what is encoded already, in this order.
    pub(super) fn tell_each(&self, told: &[(SocketId, Bytes)]) {
        if told.is_empty() {
            return;
        }
        let rooms = self.rooms();
        for (socket, event) in told {
            rooms.push(*socket, event);
        }
    }

    /// How many sockets there are, and how many rooms have members.
    pub fn counts(&self) -> (usize, usize) {
        let rooms = self.rooms();
        (rooms.sockets(), rooms.len())
    }
}
