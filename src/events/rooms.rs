//! The rooms without a document: which sockets are in which room, and what is told in a room. Pure: time is an argument.
//!
//! A room is there for as long as it has members. What is told in one is one text for all of its members, and each
//! socket gets it once, however many of the rooms that it is told in the socket is in. All rooms are in one structure, so that
//! all members of a room are told everything in one order.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;

use crate::rooms::RoomName;

/// A connection to the namespace of events, unique in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u64);

/// How a socket has entered a room. It is in the room for as long as one of its ways holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// It asked for the room.
    Room,
    /// It has the room's page open.
    Page,
    /// It is shown among those who look at the room's page.
    Presence,
    /// It is in the room without asking.
    Own,
}

/// Where what a socket is told goes.
pub trait EventOutlet: Send + Sync {
    /// Queues the text of an event, as a frame of the transport.
    fn push(&self, event: &Bytes);
}

/// Limits of rooms; 0 for none.
#[derive(Clone, Copy, Debug)]
pub struct RoomLimits {
    /// Rooms of one socket that it has asked for.
    pub per_socket: usize,
    /// Sockets of one room.
    pub members: usize,
}

/// Why a socket cannot enter a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoomError {
    /// The socket is in as many rooms as one may be.
    #[error("this connection is in {0} rooms, which is the limit")]
    TooManyRooms(usize),
    /// The room has as many members as it may have.
    #[error("the room has {0} members, which is the limit")]
    Full(usize),
    /// The socket has gone.
    #[error("the connection has ended")]
    Gone,
}

/// All rooms that have members.
pub struct Rooms {
    limits: RoomLimits,
    rooms: BTreeMap<RoomName, BTreeSet<SocketId>>,
    sockets: BTreeMap<SocketId, Socket>,
    next: u64,
}

struct Socket {
    outlet: Arc<dyn EventOutlet>,
    rooms: BTreeMap<RoomName, BTreeSet<Way>>,
    /// Rooms that it has asked for.
    asked: usize,
}

impl Rooms {
    /// No rooms yet.
    pub fn new(limits: RoomLimits) -> Self {
        Self {
            limits,
            rooms: BTreeMap::new(),
            sockets: BTreeMap::new(),
            next: 0,
        }
    }

    /// A socket has connected.
    pub fn connect(&mut self, outlet: Arc<dyn EventOutlet>) -> SocketId {
        let id = SocketId(self.next);
        self.next += 1;
        let socket = Socket {
            outlet,
            rooms: BTreeMap::new(),
            asked: 0,
        };
        self.sockets.insert(id, socket);
        id
    }

    /// A socket has gone. O(its rooms · log).
    pub fn disconnect(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.remove(&id) else {
            return;
        };
        for room in socket.rooms.keys() {
            remove(&mut self.rooms, room, id);
        }
    }

    /// Whether the socket could enter a room now.
    ///
    /// # Errors
    /// When it or the room has reached a limit.
    pub fn check(&self, id: SocketId, room: &RoomName, way: Way) -> Result<(), RoomError> {
        let socket = self.sockets.get(&id).ok_or(RoomError::Gone)?;
        if way == Way::Own || socket.rooms.contains_key(room) {
            return Ok(());
        }
        let RoomLimits { per_socket, members } = self.limits;
        if per_socket != 0 && socket.asked >= per_socket {
            return Err(RoomError::TooManyRooms(per_socket));
        }
        let count = self.rooms.get(room).map_or(0, BTreeSet::len);
        match members != 0 && count >= members {
            true => Err(RoomError::Full(members)),
            false => Ok(()),
        }
    }

    /// A socket enters a room, or has one more way in which it is there.
    ///
    /// # Errors
    /// When it or the room has reached a limit.
    pub fn enter(&mut self, id: SocketId, room: &RoomName, way: Way) -> Result<(), RoomError> {
        self.check(id, room, way)?;
        let socket = self.sockets.get_mut(&id).ok_or(RoomError::Gone)?;
        let ways = socket.rooms.entry(room.clone()).or_default();
        if ways.is_empty() && way != Way::Own {
            socket.asked += 1;
        }
        ways.insert(way);
        self.rooms.entry(room.clone()).or_default().insert(id);
        Ok(())
    }

    /// A socket gives up a way in which it is in a room. Gives whether it has left the room with that.
    pub fn leave(&mut self, id: SocketId, room: &RoomName, way: Way) -> bool {
        let Some(socket) = self.sockets.get_mut(&id) else {
            return false;
        };
        let Some(ways) = socket.rooms.get_mut(room) else {
            return false;
        };
        if !ways.remove(&way) || !ways.is_empty() {
            return false;
        }
        socket.rooms.remove(room);
        socket.asked -= usize::from(way != Way::Own);
        remove(&mut self.rooms, room, id);
        true
    }

    /// Whether a socket is in a room.
    pub fn is_in(&self, id: SocketId, room: &RoomName) -> bool {
        self.rooms.get(room).is_some_and(|members| members.contains(&id))
    }

    /// The sockets that are in a room.
    pub fn members(&self, room: &RoomName) -> impl Iterator<Item = SocketId> {
        self.rooms.get(room).into_iter().flatten().copied()
    }

    /// Tells an event in some rooms, to each socket once, except to one. Gives how many sockets are told. O(members).
    pub fn tell(&self, rooms: &[RoomName], except: Option<SocketId>, event: &Bytes) -> usize {
        let told = |id: &SocketId| Some(*id) != except;
        let members = |room| self.rooms.get(room).into_iter().flatten().filter(|id| told(id));
        match rooms {
            [room] => members(room).map(|id| self.push(*id, event)).sum(),
            rooms => {
                let all: BTreeSet<SocketId> = rooms.iter().flat_map(members).copied().collect();
                all.into_iter().map(|id| self.push(id, event)).sum()
            }
        }
    }

    /// Tells one socket an event. Gives how many are told.
    pub fn push(&self, id: SocketId, event: &Bytes) -> usize {
        let socket = self.sockets.get(&id);
        socket.map_or(0, |socket| {
            socket.outlet.push(event);
            1
        })
    }

    /// How many sockets there are.
    pub fn sockets(&self) -> usize {
        self.sockets.len()
    }

    /// How many rooms have members.
    pub fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Whether no room has members.
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }
}

fn remove(rooms: &mut BTreeMap<RoomName, BTreeSet<SocketId>>, room: &RoomName, id: SocketId) {
    if let Some(members) = rooms.get_mut(room) {
        members.remove(&id);
        if members.is_empty() {
            rooms.remove(room);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<Bytes>>);

    impl EventOutlet for Heard {
        fn push(&self, event: &Bytes) {
            self.0.lock().expect("not poisoned").push(event.clone());
        }
    }

    impl Heard {
        fn take(&self) -> Vec<Bytes> {
            std::mem::take(&mut *self.0.lock().expect("not poisoned"))
        }
    }

    fn room(name: &str) -> RoomName {
        RoomName::parse(name).expect("a room")
    }

    fn rooms(per_socket: usize, members: usize) -> Rooms {
        Rooms::new(RoomLimits { per_socket, members })
    }

    #[test]
    fn a_socket_is_told_once_in_by_however_many_rooms_and_names() {
        let mut rooms = rooms(0, 0);
        let (ada, ben) = (Arc::new(Heard::default()), Arc::new(Heard::default()));
        let (a, b) = (rooms.connect(ada.clone()), rooms.connect(ben.clone()));
        for name in ["page", "page:page", "component:c", "entity:page:c"] {
            rooms.enter(a, &room(name), Way::Room).expect("place");
        }
        rooms.enter(b, &room("component:c"), Way::Room).expect("place");
        let event = Bytes::from_static(b"42[\"x\"]");
        let union = [room("component:c"), room("entity:page:c")];
        assert_eq!(rooms.tell(&union, None, &event), 2);
        assert_eq!(rooms.tell(&[room("page")], None, &event), 1);
        assert_eq!(
            rooms.tell(&union, Some(a), &event),
            1,
            "the sender does not hear itself"
        );
        assert_eq!(rooms.tell(&[room("dm:x")], None, &event), 0, "nobody is there");
        assert_eq!((ada.take().len(), ben.take().len()), (2, 2));
    }

    #[test]
    fn a_socket_is_in_a_room_for_as_long_as_one_of_its_ways_holds_and_nothing_is_left_of_it() {
        let mut rooms = rooms(0, 0);
        let id = rooms.connect(Arc::new(Heard::default()));
        let page = room("page");
        rooms.enter(id, &page, Way::Room).expect("place");
        rooms.enter(id, &page, Way::Page).expect("place");
        assert!(!rooms.leave(id, &page, Way::Room));
        assert!(rooms.is_in(id, &page));
        assert!(
            !rooms.leave(id, &page, Way::Presence),
            "it was not there in this way"
        );
        assert!(rooms.leave(id, &page, Way::Page));
        assert!(rooms.is_empty());
        rooms.enter(id, &page, Way::Room).expect("place");
        rooms.disconnect(id);
        assert!(rooms.is_empty() && rooms.sockets() == 0);
        assert_eq!(rooms.enter(id, &page, Way::Room), Err(RoomError::Gone));
    }

    #[test]
    fn rooms_and_sockets_have_limits_that_own_rooms_do_not_count_for() {
        let mut rooms = rooms(2, 1);
        let (a, b) = (
            rooms.connect(Arc::new(Heard::default())),
            rooms.connect(Arc::new(Heard::default())),
        );
        for own in RoomName::personal("u") {
            rooms.enter(a, &own, Way::Own).expect("own rooms are open");
            rooms.enter(b, &own, Way::Own).expect("own rooms are open");
        }
        rooms.enter(a, &room("drive:1"), Way::Room).expect("place");
        assert_eq!(
            rooms.enter(b, &room("drive:1"), Way::Room),
            Err(RoomError::Full(1))
        );
        rooms.enter(a, &room("drive:2"), Way::Room).expect("place");
        assert_eq!(
            rooms.enter(a, &room("drive:3"), Way::Room),
            Err(RoomError::TooManyRooms(2))
        );
        rooms
            .enter(a, &room("drive:1"), Way::Page)
            .expect("it is there already");
        assert!(!rooms.leave(a, &room("drive:1"), Way::Room));
        assert!(rooms.leave(a, &room("drive:1"), Way::Page));
        rooms.enter(a, &room("drive:3"), Way::Room).expect("one was left");
    }
}
