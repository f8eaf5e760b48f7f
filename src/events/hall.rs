//! The rooms without a document, shared by all connections and the bridge of backends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::Serialize;

use super::{EventOutlet, RoomError, RoomLimits, Rooms, SocketId, Way};
use crate::rooms::RoomName;

/// The rooms without a document. Clones share them.
///
/// One lock guards all of them, and nothing waits while it is held: telling an event costs a push into the queue of each member.
#[derive(Clone)]
pub struct EventRooms(Arc<Mutex<Rooms>>);

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

impl EventRooms {
    /// Rooms with these limits.
    pub fn new(limits: RoomLimits) -> Self {
        Self(Arc::new(Mutex::new(Rooms::new(limits))))
    }

    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        // Nothing panics while the lock is held, so what a poisoned lock guards is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A socket has connected.
    pub fn connect(&self, outlet: Arc<dyn EventOutlet>) -> SocketId {
        self.rooms().connect(outlet)
    }

    /// A socket has gone.
    pub fn disconnect(&self, id: SocketId) {
        self.rooms().disconnect(id);
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

    /// Whether a socket is in a room.
    pub fn is_in(&self, id: SocketId, room: &RoomName) -> bool {
        self.rooms().is_in(id, room)
    }

    /// Tells an event in some rooms, to each socket once, except to one. Gives how many sockets are told.
    pub fn tell(
        &self,
        rooms: &[RoomName],
        except: Option<SocketId>,
        name: &str,
        payload: &impl Serialize,
    ) -> usize {
        let text = event_text(name, payload);
        self.rooms().tell(rooms, except, &text)
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
