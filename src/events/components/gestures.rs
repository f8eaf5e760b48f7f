//! Who types at a component and where the cursors are. Pure: time is an argument.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value as Json, json};

use super::members::{Telling, body};
use crate::{
    events::{SocketId, pace::Pace, people::Person},
    rooms::RoomName,
};

/// How long typing and a cursor last without being renewed.
const LASTS: Duration = Duration::from_secs(5);
/// Shortest time between two tellings that somebody types.
const TYPING_PAUSE: Duration = Duration::from_secs(2);
/// What a newcomer hears of the cursors that are there, in bytes.
const MAX_INTRODUCTION_BYTES: usize = 16 * 1024;

/// What happens by itself to somebody in a room.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Typing(Arc<str>),
    Cursor(SocketId),
}

/// Typing and cursors in one room.
#[derive(Debug, Default)]
pub(super) struct Gestures {
    typing: BTreeMap<Arc<str>, Typist>,
    cursors: BTreeMap<SocketId, Cursor>,
    /// Cursors that have moved or gone, the one that waits longest first. Each is there once.
    queue: VecDeque<SocketId>,
    pace: Pace,
    ends: BTreeSet<(Instant, End)>,
}

/// What somebody types or points at, and who hears of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spot {
    pub(super) at: Vec<RoomName>,
    pub(super) rooms: Vec<RoomName>,
}

#[derive(Debug)]
struct Typist {
    /// Where it typed last.
    socket: SocketId,
    person: Arc<Person>,
    spot: Spot,
    told_at: Instant,
    until: Instant,
}

#[derive(Debug)]
struct Cursor {
    person: Arc<Person>,
    spot: Spot,
    /// `None` when it has gone.
    position: Option<Json>,
    until: Instant,
    is_queued: bool,
    is_told: bool,
}

impl Gestures {
    /// A socket types.
    pub(super) fn types(
        &mut self,
        now: Instant,
        socket: SocketId,
        person: &Arc<Person>,
        spot: Spot,
    ) -> Option<Telling> {
        let (user, until) = (person.user_id.clone(), now + LASTS);
        let before = self.typing.get(&user);
        let told_at = before
            .map(|typist| typist.told_at)
            .filter(|told| now < *told + TYPING_PAUSE);
        if let Some(typist) = before {
            self.ends.remove(&(typist.until, End::Typing(user.clone())));
        }
        self.ends.insert((until, End::Typing(user.clone())));
        let typist = Typist {
            socket,
            person: person.clone(),
            spot,
            told_at: told_at.unwrap_or(now),
            until,
        };
        let telling = told_at.is_none().then(|| typist.telling());
        self.typing.insert(user, typist);
        telling
    }

    /// A socket's cursor is at a position, or nowhere.
    pub(super) fn points(
        &mut self,
        now: Instant,
        socket: SocketId,
        person: &Arc<Person>,
        (spot, position): (Spot, Option<Json>),
    ) -> Vec<Telling> {
        let until = now + LASTS;
        let cursor = self.cursors.entry(socket).or_insert_with(|| Cursor {
            person: person.clone(),
            spot: spot.clone(),
            position: None,
            until,
            is_queued: false,
            is_told: false,
        });
        self.ends.remove(&(cursor.until, End::Cursor(socket)));
        self.ends.insert((until, End::Cursor(socket)));
        let has_changed = cursor.position != position || cursor.spot != spot;
        (cursor.position, cursor.spot, cursor.until) = (position, spot, until);
        if has_changed && !std::mem::replace(&mut cursor.is_queued, true) {
            self.queue.push_back(socket);
        }
        self.frame(now)
    }

    /// When there will be something to tell.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let frame = self.queue.front().and_then(|_| self.pace.next());
        let ends = self.ends.first().map(|(until, _)| *until);
        [frame, ends].into_iter().flatten().min()
    }

    /// Whether there is nothing.
    pub(super) fn is_idle(&self) -> bool {
        self.typing.is_empty() && self.cursors.is_empty()
    }

    /// What is due.
    pub(super) fn tell(&mut self, now: Instant) -> Vec<Telling> {
        let mut told = self.end(now);
        told.extend(self.frame(now));
        told
    }

    /// Ends what a socket does here.
    pub(super) fn stop(&mut self, socket: SocketId) -> Vec<Telling> {
        let typists = self.typing.iter().filter(|(_, typist)| typist.socket == socket);
        let typists: Vec<_> = typists.map(|(user, _)| user.clone()).collect();
        let mut told: Vec<_> = typists.iter().filter_map(|user| self.stop_typing(user)).collect();
        told.extend(self.stop_pointing(socket));
        told
    }

    fn stop_typing(&mut self, user: &Arc<str>) -> Option<Telling> {
        let Typist {
            socket, spot, until, ..
        } = self.typing.remove(user)?;
        self.ends.remove(&(until, End::Typing(user.clone())));
        Some(spot.telling(socket, "component:typing-ended", json!({ "userId": user })))
    }

    fn stop_pointing(&mut self, socket: SocketId) -> Option<Telling> {
        let cursor = self.cursors.remove(&socket)?;
        self.ends.remove(&(cursor.until, End::Cursor(socket)));
        self.queue.retain(|queued| *queued != socket);
        cursor.is_told.then(|| cursor.gone(socket))
    }

    /// Ends what was not renewed.
    fn end(&mut self, now: Instant) -> Vec<Telling> {
        let mut told = Vec::new();
        while let Some((until, end)) = self.ends.first().cloned()
            && until <= now
        {
            self.ends.pop_first();
            told.extend(match end {
                End::Typing(user) => self.stop_typing(&user),
                End::Cursor(socket) => self.stop_pointing(socket),
            });
        }
        told
    }

    /// The cursors that have moved, as far as may be told now.
    fn frame(&mut self, now: Instant) -> Vec<Telling> {
        let mut told = Vec::new();
        if self.queue.is_empty() || !self.pace.is_time(now) {
            return told;
        }
        while self.pace.has_room()
            && let Some(socket) = self.queue.pop_front()
        {
            let Some(cursor) = self.cursors.get_mut(&socket) else {
                continue;
            };
            cursor.is_queued = false;
            let telling = match (cursor.telling(socket), cursor.is_told) {
                (Some(moved), _) => {
                    cursor.is_told = true;
                    Some(moved)
                }
                (None, _) => self.stop_pointing(socket),
            };
            if let Some(telling) = telling {
                self.pace.spend(telling.body.to_string().len());
                told.push(telling);
            }
        }
        if !told.is_empty() {
            self.pace.told(now);
        }
        told
    }

    /// What somebody hears who has just come.
    pub(super) fn introduction(&self, user: &Arc<str>) -> Vec<Telling> {
        let typists = self.typing.iter().filter(|(typist, _)| *typist != user);
        let shown = self.cursors.iter().filter(|(_, cursor)| cursor.is_told);
        let shown = shown.filter_map(|(socket, cursor)| cursor.telling(*socket));
        let mut size = 0;
        // The rest of a crowd is not even written.
        typists
            .map(|(_, typist)| typist.telling())
            .chain(shown)
            .take_while(|telling| {
                size += telling.body.to_string().len();
                size <= MAX_INTRODUCTION_BYTES
            })
            .collect()
    }
}

impl Spot {
    fn telling(&self, except: SocketId, event: &'static str, rest: Json) -> Telling {
        Telling {
            body: body(&self.at, rest),
            rooms: self.rooms.clone(),
            except: Some(except),
            event,
        }
    }
}

impl Typist {
    fn telling(&self) -> Telling {
        let Person { user_id, name, .. } = &*self.person;
        let rest = json!({ "userId": user_id, "name": name });
        self.spot.telling(self.socket, "component:typing", rest)
    }
}

impl Cursor {
    fn telling(&self, socket: SocketId) -> Option<Telling> {
        let Person {
            user_id,
            name,
            socket_id,
            ..
        } = &*self.person;
        let moved = json!({
            "userId": user_id,
            "name": name,
            "position": self.position.as_ref()?,
            "connectionId": socket_id,
        });
        Some(self.spot.telling(socket, "component:cursor", moved))
    }

    fn gone(&self, socket: SocketId) -> Telling {
        let gone = json!({ "userId": self.person.user_id, "connectionId": self.person.socket_id });
        self.spot.telling(socket, "component:cursor-left", gone)
    }
}
