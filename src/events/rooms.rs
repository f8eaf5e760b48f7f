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

use super::recent::{Own, Recent, RecoveryLimits, SessionName, Stay};
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
    /// It had the room's page open before its connection was lost.
    Restored,
}

/// The rooms that a socket was in, and in which ways.
pub(super) type Stays = Vec<(RoomName, BTreeSet<Way>)>;

/// Where what a socket is told goes.
pub trait EventOutlet: Send + Sync {
    /// Queues the text of an event, as a frame of the transport.
    fn push(&self, event: &Bytes);

    /// Another connection goes on with its session.
    fn supersede(&self) {}
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
    recent: Recent,
}

struct Socket {
    outlet: Arc<dyn EventOutlet>,
    rooms: BTreeMap<RoomName, BTreeSet<Way>>,
    /// Since which offset it has been in them.
    since: BTreeMap<RoomName, u64>,
    /// Rooms that it has asked for.
    asked: usize,
    /// The first socket of its session.
    first: SocketId,
    /// What its client proves with that a session is its own.
    secret: Option<Arc<str>>,
}

impl Rooms {
    /// No rooms yet. Offsets come behind `last`.
    pub fn new(limits: RoomLimits, recovery: RecoveryLimits, last: u64) -> Self {
        Self {
            recent: Recent::new(recovery, last),
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
            since: BTreeMap::new(),
            asked: 0,
            first: id,
            secret: None,
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
            self.remove(room, id);
        }
        if let Some(secret) = socket.secret {
            self.end_session(&secret);
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
        if ways.is_empty() {
            socket.asked += usize::from(way != Way::Own);
            socket.since.insert(room.clone(), self.recent.last());
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
        socket.since.remove(room);
        socket.asked = socket.asked.saturating_sub(usize::from(way != Way::Own));
        self.remove(room, id);
        true
    }

    /// Whether a socket is in a room in one of these ways.
    pub fn is_in_by(&self, id: SocketId, room: &RoomName, ways: &[Way]) -> bool {
        let has = self.sockets.get(&id).and_then(|socket| socket.rooms.get(room));
        has.is_some_and(|has| ways.iter().any(|way| has.contains(way)))
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

    /// The sockets that are in a room in one way, whether or not in another one too.
    pub fn members_by(&self, room: &RoomName, way: Way) -> Vec<SocketId> {
        let is_by = |id: &SocketId| self.is_in_by(*id, room, &[way]);
        self.members(room).filter(is_by).collect()
    }

    /// The offset of an event that is told now.
    pub fn next_offset(&mut self, now: u64) -> u64 {
        self.recent.next(now)
    }

    /// The offset since which a socket is in a room.
    pub fn entered_at(&self, id: SocketId, room: &RoomName) -> Option<u64> {
        self.sockets.get(&id)?.since.get(room).copied()
    }

    /// The offset of the last event.
    pub fn last_offset(&self) -> u64 {
        self.recent.last()
    }

    /// Tells an event with its offset, which connections that are lost now may miss and hear later.
    pub fn tell_in_order(
        &mut self,
        offset: u64,
        rooms: &[RoomName],
        except: Option<SocketId>,
        event: &Bytes,
    ) -> usize {
        for gone in self.recent.forget(offset) {
            self.forget_if_empty(&gone);
        }
        let session = except.and_then(|id| Some(self.sockets.get(&id)?.first));
        for (index, room) in rooms.iter().enumerate() {
            let is_again = rooms.iter().take(index).any(|before| before == room);
            if !is_again {
                let has_members = self.rooms.contains_key(room);
                self.recent.note(offset, room, has_members, session, event);
            }
        }
        self.tell(rooms, except, event)
    }

    /// Tells some sockets in a room an event with its offset, which sessions that were lost in the room hear later.
    pub fn tell_among(&mut self, offset: u64, room: &RoomName, sockets: &[SocketId], event: &Bytes) {
        for gone in self.recent.forget(offset) {
            self.forget_if_empty(&gone);
        }
        let has_members = self.rooms.contains_key(room);
        self.recent.note(offset, room, has_members, None, event);
        for socket in sockets {
            self.push(*socket, event);
        }
    }

    /// Tells one socket an event with its offset, which it hears later if its connection is lost now.
    pub fn tell_one(&mut self, offset: u64, id: SocketId, event: &Bytes) {
        if let Some(socket) = self.sockets.get(&id) {
            socket.outlet.push(event);
            if let Some(secret) = &socket.secret {
                self.recent.note_own(offset, secret, event);
            }
        }
    }

    /// A socket begins a session that may go on over another one.
    pub fn begin_session(&mut self, id: SocketId, name: SessionName) {
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.secret = Some(name.secret.clone());
            self.recent.begin(name, (socket.first, Own::default()), id);
        }
    }

    /// A socket has gone without a goodbye: its session may go on over another one.
    pub fn lose(&mut self, now: u64, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(&id) else {
            return;
        };
        if let Some(secret) = socket.secret.take() {
            let rooms = std::mem::take(&mut socket.rooms);
            let stays: BTreeMap<_, Stay> = rooms
                .into_iter()
                .map(|(room, ways)| {
                    let since = socket.since.get(&room).copied().unwrap_or_default();
                    (room, (ways, since))
                })
                .collect();
            let names: Vec<RoomName> = stays.keys().cloned().collect();
            for room in self.recent.lose(now, &secret, stays) {
                self.forget_if_empty(&room);
            }
            for room in names {
                self.remove(&room, id);
            }
        }
        self.disconnect(id);
    }

    /// What the client calls a session of a user that may go on, and its rooms. If the server believes its connection alive, it ends.
    pub fn returning(
        &mut self,
        now: u64,
        secret: &str,
        user: Option<&Arc<str>>,
    ) -> Option<(Arc<str>, Stays)> {
        for gone in self.recent.forget(now) {
            self.forget_if_empty(&gone);
        }
        if let Some(id) = self.recent.live(secret, user) {
            if let Some(socket) = self.sockets.get(&id) {
                socket.outlet.supersede();
            }
            self.lose(now, id);
        }
        let back = self.recent.returning(secret, user)?;
        let rooms = back.rooms.into_iter().map(|(room, (ways, _))| (room, ways));
        Some((back.name, rooms.collect()))
    }

    /// A session goes on over a socket that is in no room yet: it enters those of its rooms that it may enter, and hears what it has
    /// missed there behind an offset, or since it entered. `false` when that is not known any more, or the session has ended.
    pub fn resume(
        &mut self,
        id: SocketId,
        name: SessionName,
        after: Option<u64>,
        may_enter: impl Fn(&RoomName) -> bool,
    ) -> bool {
        let Some(back) = self.recent.returning(&name.secret, name.user.as_ref()) else {
            return false;
        };
        let stays: Vec<_> = back.rooms.iter().filter(|(room, _)| may_enter(room)).collect();
        let has_place = |(room, _): &(&RoomName, &Stay)| self.check(id, room, Way::Restored).is_ok();
        let rooms = stays.iter().map(|(room, (_, since))| (*room, *since));
        let missed = self
            .recent
            .missed((back.first, &back.own), after.unwrap_or(0), rooms);
        let (Some(missed), true) = (missed, stays.iter().all(has_place)) else {
            return false;
        };
        for (room, (ways, since)) in stays {
            for way in ways {
                // A page is opened again by the client itself.
                let way = if *way == Way::Page { Way::Restored } else { *way };
                if self.enter(id, room, way).is_err() {
                    return false;
                }
            }
            if let Some(socket) = self.sockets.get_mut(&id) {
                socket.since.insert(room.clone(), *since);
            }
        }
        self.end_session(&name.secret);
        if let Some(socket) = self.sockets.get_mut(&id) {
            (socket.first, socket.secret) = (back.first, Some(name.secret.clone()));
            for event in &missed {
                socket.outlet.push(event);
            }
            self.recent.begin(name, (back.first, back.own), id);
        }
        true
    }

    fn end_session(&mut self, secret: &Arc<str>) {
        for room in self.recent.end(secret) {
            self.forget_if_empty(&room);
        }
    }

    fn remove(&mut self, room: &RoomName, id: SocketId) {
        if let Some(members) = self.rooms.get_mut(room) {
            members.remove(&id);
            if members.is_empty() {
                self.rooms.remove(room);
                self.recent.emptied(room);
            }
        }
    }

    fn forget_if_empty(&mut self, room: &RoomName) {
        if !self.rooms.contains_key(room) {
            self.recent.emptied(room);
        }
    }

    /// Gives a socket a text. Gives how many sockets have got it.
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

#[cfg(test)]
mod tests {
    use std::{sync::Mutex, time::Duration};

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
        let recovery = RecoveryLimits {
            window: Duration::from_secs(120),
            max_bytes: 1 << 20,
        };
        Rooms::new(RoomLimits { per_socket, members }, recovery, 0)
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
