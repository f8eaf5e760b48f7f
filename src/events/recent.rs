//! What was told in rooms lately, so that a connection that comes back hears what it missed. Pure: time is an argument.
//!
//! Every event that is told in a room gets an **offset**: microseconds since 1970, made larger where two events fall into one, so that offsets
//! grow in the order in which events are told, and go on growing after a restart. A room's log is there for as long as somebody could
//! want it: a member, or a session that was lost a moment ago. What a log no longer has is noted, so that a gap is never taken for nothing.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

use super::{SocketId, Way};
use crate::rooms::RoomName;

/// Beside its bytes, an event takes about this much of a log.
const OVERHEAD: usize = 128;
/// Sessions that are remembered after their connections were lost.
const MAX_LOST_SESSIONS: usize = 10_000;
/// Events for one session alone that are remembered.
const MAX_OWN_EVENTS: usize = 100;
/// Events that are remembered of one room.
const MAX_ROOM_EVENTS: usize = 1000;

/// How much is remembered.
#[derive(Clone, Copy, Debug)]
pub struct RecoveryLimits {
    /// For how long; zero for not at all.
    pub window: Duration,
    /// Bytes of events of all rooms.
    pub max_bytes: usize,
}

/// Whose a session is, and how the client knows it.
#[derive(Clone, Debug)]
pub struct SessionName {
    /// What only the client knows.
    pub secret: Arc<str>,
    /// What the client calls its connection.
    pub name: Arc<str>,
    /// Its user.
    pub user: Option<Arc<str>>,
}

/// A room that a session is in: in which ways, and since which offset.
pub(super) type Stay = (BTreeSet<Way>, u64);

/// The logs of rooms, and the sessions that may come back.
pub(super) struct Recent {
    window: u64,
    max_bytes: usize,
    last: u64,
    rooms: BTreeMap<RoomName, Log>,
    /// All that is in the logs, by offset.
    order: VecDeque<(u64, RoomName)>,
    bytes: usize,
    sessions: BTreeMap<Arc<str>, Session>,
    /// Those that are lost, by when.
    lost: BTreeSet<(u64, Arc<str>)>,
}

#[derive(Default)]
struct Log {
    entries: VecDeque<Entry>,
    /// The largest offset that is in the log no longer.
    forgotten: u64,
    /// Lost sessions that were in the room.
    lost: usize,
}

struct Entry {
    offset: u64,
    event: Bytes,
    /// The session that is not told.
    except: Option<SocketId>,
}

struct Session {
    name: SessionName,
    /// The first of its sockets, by which what it has told itself is known.
    first: SocketId,
    state: State,
    /// What it alone was told.
    own: Own,
}

/// What one session alone was told.
#[derive(Clone, Default)]
pub(super) struct Own {
    events: VecDeque<(u64, Bytes)>,
    /// The largest offset that is there no longer.
    forgotten: u64,
}

enum State {
    Live(SocketId),
    Lost(u64, BTreeMap<RoomName, Stay>),
}

/// A session that comes back.
pub(super) struct Returning {
    pub(super) name: Arc<str>,
    pub(super) first: SocketId,
    pub(super) rooms: BTreeMap<RoomName, Stay>,
    pub(super) own: Own,
}

impl Recent {
    pub(super) fn new(limits: RecoveryLimits, last: u64) -> Self {
        Self {
            window: micros(limits.window),
            max_bytes: limits.max_bytes,
            last,
            rooms: BTreeMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            sessions: BTreeMap::new(),
            lost: BTreeSet::new(),
        }
    }

    /// The offset of the last event.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// The offset of an event that is told now.
    pub(super) fn next(&mut self, now: u64) -> u64 {
        self.last = now.max(self.last.saturating_add(1));
        self.last
    }

    /// Notes an event that is told in a room with members.
    pub(super) fn note(
        &mut self,
        offset: u64,
        room: &RoomName,
        has_members: bool,
        except: Option<SocketId>,
        event: &Bytes,
    ) {
        if self.window == 0 || !(has_members || self.rooms.contains_key(room)) {
            return;
        }
        let log = self.rooms.entry(room.clone()).or_default();
        log.entries.push_back(Entry {
            offset,
            event: event.clone(),
            except,
        });
        self.bytes += event.len() + OVERHEAD;
        self.order.push_back((offset, room.clone()));
        if log.entries.len() > MAX_ROOM_EVENTS {
            self.bytes -= log.forget_first();
        }
        while self.bytes > self.max_bytes && self.forget_oldest() {}
    }

    /// Forgets what is too old, and gives the rooms that lost sessions were in. O(what is forgotten · log).
    pub(super) fn forget(&mut self, now: u64) -> Vec<RoomName> {
        let before = now.saturating_sub(self.window);
        while self.order.front().is_some_and(|(offset, _)| *offset < before) && self.forget_oldest() {}
        let mut rooms = Vec::new();
        while let Some((at, secret)) = self.lost.first().cloned()
            && (at < before || self.lost.len() > MAX_LOST_SESSIONS)
        {
            rooms.append(&mut self.end(&secret));
        }
        rooms
    }

    fn forget_oldest(&mut self) -> bool {
        let Some((offset, room)) = self.order.pop_front() else {
            return false;
        };
        self.bytes -= OVERHEAD;
        if let Some(log) = self.rooms.get_mut(&room)
            && log.entries.front().is_some_and(|entry| entry.offset <= offset)
        {
            self.bytes -= log.forget_first();
        }
        true
    }

    /// The last member of a room has left.
    pub(super) fn emptied(&mut self, room: &RoomName) {
        if self.rooms.get(room).is_some_and(|log| log.lost == 0)
            && let Some(log) = self.rooms.remove(room)
        {
            self.bytes -= log.bytes();
        }
    }

    /// A session begins, or goes on, over a socket.
    pub(super) fn begin(&mut self, name: SessionName, (first, own): (SocketId, Own), socket: SocketId) {
        if self.window > 0 {
            let state = State::Live(socket);
            let session = Session {
                name,
                first,
                state,
                own,
            };
            self.sessions.insert(session.name.secret.clone(), session);
        }
    }

    /// A session has ended, and does not come back. Gives the rooms that it would have come back to.
    pub(super) fn end(&mut self, secret: &Arc<str>) -> Vec<RoomName> {
        let Some(session) = self.sessions.remove(secret) else {
            return Vec::new();
        };
        let State::Lost(at, rooms) = session.state else {
            return Vec::new();
        };
        self.lost.remove(&(at, secret.clone()));
        for room in rooms.keys() {
            if let Some(log) = self.rooms.get_mut(room) {
                log.lost -= 1;
            }
        }
        rooms.into_keys().collect()
    }

    /// Notes an event that a session alone is told.
    pub(super) fn note_own(&mut self, offset: u64, secret: &Arc<str>, event: &Bytes) {
        let Some(session) = self.sessions.get_mut(secret) else {
            return;
        };
        let own = &mut session.own;
        own.events.push_back((offset, event.clone()));
        if own.events.len() > MAX_OWN_EVENTS
            && let Some((forgotten, _)) = own.events.pop_front()
        {
            own.forgotten = forgotten;
        }
    }

    /// The socket of a session was lost, which may come back. Others are given up where too many are lost: gives the rooms that they were in.
    pub(super) fn lose(
        &mut self,
        now: u64,
        secret: &Arc<str>,
        rooms: BTreeMap<RoomName, Stay>,
    ) -> Vec<RoomName> {
        let Some(session) = self.sessions.get_mut(secret) else {
            return Vec::new();
        };
        for room in rooms.keys() {
            self.rooms.entry(room.clone()).or_default().lost += 1;
        }
        session.state = State::Lost(now, rooms);
        self.lost.insert((now, secret.clone()));
        self.forget(now)
    }

    /// The socket of a session, as far as anybody knows.
    pub(super) fn live(&self, secret: &str, user: Option<&Arc<str>>) -> Option<SocketId> {
        let session = self.sessions.get(secret)?;
        match session.state {
            State::Live(socket) if session.name.user.as_ref() == user => Some(socket),
            State::Live(_) | State::Lost(..) => None,
        }
    }

    /// A session that was lost, of a user.
    pub(super) fn returning(&self, secret: &str, user: Option<&Arc<str>>) -> Option<Returning> {
        let session = self.sessions.get(secret)?;
        match &session.state {
            State::Lost(_, rooms) if session.name.user.as_ref() == user => Some(Returning {
                name: session.name.name.clone(),
                first: session.first,
                rooms: rooms.clone(),
                own: session.own.clone(),
            }),
            State::Live(_) | State::Lost(..) => None,
        }
    }

    /// What a session has missed in these rooms behind an offset, in order; `None` where something is forgotten.
    pub(super) fn missed<'a>(
        &self,
        (session, own): (SocketId, &Own),
        after: u64,
        rooms: impl Iterator<Item = (&'a RoomName, u64)>,
    ) -> Option<Vec<Bytes>> {
        if after > self.last || own.forgotten > after {
            return None;
        }
        let alone = own.events.iter().filter(|(offset, _)| *offset > after);
        let mut missed: BTreeMap<u64, Bytes> = alone.cloned().collect();
        for (room, since) in rooms {
            let Some(log) = self.rooms.get(room) else {
                continue;
            };
            let after = after.max(since);
            if log.forgotten > after {
                return None;
            }
            let behind = log.entries.iter().rev().take_while(|entry| entry.offset > after);
            for entry in behind.filter(|entry| entry.except != Some(session)) {
                missed.insert(entry.offset, entry.event.clone());
            }
        }
        Some(missed.into_values().collect())
    }

    /// How many logs and sessions there are.
    #[cfg(test)]
    fn sizes(&self) -> (usize, usize, usize) {
        (self.rooms.len(), self.sessions.len(), self.bytes)
    }
}

impl Log {
    /// Gives how many bytes that were.
    fn forget_first(&mut self) -> usize {
        let Some(first) = self.entries.pop_front() else {
            return 0;
        };
        self.forgotten = first.offset;
        first.event.len()
    }

    fn bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.event.len()).sum()
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    duration.as_micros().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000_000;

    fn recent(max_bytes: usize) -> Recent {
        let limits = RecoveryLimits {
            window: Duration::from_secs(120),
            max_bytes,
        };
        Recent::new(limits, 0)
    }

    fn room(name: &str) -> RoomName {
        RoomName::parse(name).expect("a room")
    }

    fn session(recent: &mut Recent, secret: &str, socket: u64) {
        let name = SessionName {
            secret: secret.into(),
            name: "n".into(),
            user: Some("ada".into()),
        };
        recent.begin(name, (SocketId(socket), Own::default()), SocketId(socket));
    }

    fn stays(rooms: &[&str], since: u64) -> BTreeMap<RoomName, Stay> {
        let stays = rooms
            .iter()
            .map(|name| (room(name), (BTreeSet::from([Way::Room]), since)));
        stays.collect()
    }

    fn tell(recent: &mut Recent, now: u64, name: &str, text: &'static str) -> u64 {
        let offset = recent.next(now);
        recent.note(
            offset,
            &room(name),
            true,
            None,
            &Bytes::from_static(text.as_bytes()),
        );
        recent.forget(now);
        offset
    }

    fn missed(recent: &Recent, after: u64, rooms: &[&str], since: u64) -> Option<Vec<Bytes>> {
        let rooms: Vec<_> = rooms.iter().map(|name| room(name)).collect();
        let of = (SocketId(1), &Own::default());
        recent.missed(of, after, rooms.iter().map(|room| (room, since)))
    }

    #[test]
    fn offsets_grow_also_when_the_clock_does_not() {
        let mut recent = Recent::new(
            RecoveryLimits {
                window: Duration::ZERO,
                max_bytes: 0,
            },
            100,
        );
        assert_eq!(recent.next(50), 101);
        assert_eq!(recent.next(500), 500);
        assert_eq!(recent.next(500), 501);
        assert_eq!(recent.next(499), 502);
    }

    #[test]
    fn what_was_missed_comes_once_in_order_from_where_the_session_entered() {
        let mut recent = recent(1 << 20);
        session(&mut recent, "s", 1);
        let first = tell(&mut recent, MINUTE, "a", "1");
        let second = tell(&mut recent, MINUTE, "b", "2");
        // One event in two rooms is one.
        let both = recent.next(MINUTE);
        for name in ["a", "b"] {
            recent.note(both, &room(name), true, None, &Bytes::from_static(b"3"));
        }
        let own = recent.next(MINUTE);
        recent.note(
            own,
            &room("a"),
            true,
            Some(SocketId(1)),
            &Bytes::from_static(b"own"),
        );
        let texts = |found: Option<Vec<Bytes>>| found.expect("no gap").concat();
        assert_eq!(texts(missed(&recent, 0, &["a", "b"], 0)), b"123");
        assert_eq!(texts(missed(&recent, first, &["a", "b"], 0)), b"23");
        assert_eq!(texts(missed(&recent, 0, &["a", "b"], second)), b"3");
        assert_eq!(texts(missed(&recent, 0, &["b"], 0)), b"23");
        assert_eq!(texts(missed(&recent, own, &["a", "b"], 0)), b"");
        assert_eq!(
            missed(&recent, own + 1, &["a"], 0),
            None,
            "nobody has been told that"
        );
    }

    #[test]
    fn a_gap_is_never_taken_for_nothing() {
        let mut recent = recent(4 * (OVERHEAD + 1));
        let first = tell(&mut recent, MINUTE, "a", "1");
        for text in ["2", "3", "4"] {
            tell(&mut recent, MINUTE, "b", text);
        }
        assert!(missed(&recent, 0, &["a"], 0).is_some());
        tell(&mut recent, MINUTE, "b", "5");
        assert_eq!(missed(&recent, 0, &["a"], 0), None, "beyond the bytes");
        assert_eq!(missed(&recent, first, &["a"], 0), Some(Vec::new()));
        tell(&mut recent, 4 * MINUTE, "c", "6");
        assert_eq!(missed(&recent, first, &["b"], 0), None, "beyond the time");
        assert_eq!(recent.sizes().2, OVERHEAD + 1);
        for _ in 0..=MAX_ROOM_EVENTS {
            tell(&mut recent, 4 * MINUTE, "d", "7");
        }
        assert_eq!(missed(&recent, first, &["d"], 0), None, "beyond the count");
    }

    #[test]
    fn a_log_lives_as_long_as_a_lost_session_may_come_back_and_nothing_is_left_of_it() {
        let mut recent = recent(1 << 20);
        session(&mut recent, "s", 1);
        recent.lose(MINUTE, &"s".into(), stays(&["a"], 0));
        recent.emptied(&room("a"));
        let offset = recent.next(MINUTE);
        recent.note(offset, &room("a"), false, None, &Bytes::from_static(b"1"));
        let offset = recent.next(MINUTE);
        recent.note(offset, &room("b"), false, None, &Bytes::from_static(b"2"));
        assert_eq!(
            recent.sizes(),
            (1, 1, OVERHEAD + 1),
            "nobody can miss what is told in b"
        );
        let ada: Arc<str> = "ada".into();
        let bob: Arc<str> = "bob".into();
        assert!(
            recent.returning("s", Some(&bob)).is_none(),
            "a session is its user's"
        );
        let back = recent.returning("s", Some(&ada)).expect("it may come back");
        assert_eq!(missed(&recent, 0, &["a"], 0).expect("no gap").concat(), b"1");
        assert_eq!(back.first, SocketId(1));
        for room in recent.end(&"s".into()) {
            recent.emptied(&room);
        }
        assert_eq!(recent.sizes(), (0, 0, OVERHEAD));
        session(&mut recent, "t", 2);
        recent.lose(MINUTE, &"t".into(), stays(&["a"], 0));
        for room in recent.forget(4 * MINUTE) {
            recent.emptied(&room);
        }
        assert_eq!(recent.sizes(), (0, 0, 0));
        assert!(recent.returning("t", Some(&ada)).is_none(), "it came too late");
    }

    #[test]
    fn what_a_session_alone_was_told_comes_again_in_its_place() {
        let mut recent = recent(1 << 20);
        session(&mut recent, "s", 1);
        let first = tell(&mut recent, MINUTE, "a", "1");
        let alone = recent.next(MINUTE);
        recent.note_own(alone, &"s".into(), &Bytes::from_static(b"2"));
        tell(&mut recent, MINUTE, "a", "3");
        recent.lose(MINUTE, &"s".into(), stays(&["a"], 0));
        let heard = |recent: &Recent, after| {
            let back = recent
                .returning("s", Some(&"ada".into()))
                .expect("it may come back");
            let rooms = back.rooms.iter().map(|(room, (_, since))| (room, *since));
            recent.missed((back.first, &back.own), after, rooms)
        };
        assert_eq!(heard(&recent, first).expect("no gap").concat(), b"23");
        assert_eq!(heard(&recent, alone).expect("no gap").concat(), b"3");
        for _ in 0..MAX_OWN_EVENTS {
            let offset = recent.next(MINUTE);
            recent.note_own(offset, &"s".into(), &Bytes::from_static(b"4"));
        }
        assert_eq!(heard(&recent, first), None, "beyond the count");
    }

    #[test]
    fn so_many_lost_sessions_are_remembered() {
        let mut recent = recent(1 << 20);
        for number in 0..=MAX_LOST_SESSIONS as u64 {
            let secret: Arc<str> = number.to_string().into();
            session(&mut recent, &secret, number);
            recent.lose(MINUTE + number, &secret, BTreeMap::new());
        }
        recent.forget(MINUTE);
        assert!(recent.returning("0", Some(&"ada".into())).is_none());
        assert!(recent.returning("1", Some(&"ada".into())).is_some());
    }
}
