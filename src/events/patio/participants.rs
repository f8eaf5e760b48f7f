//! Who takes part in shared rooms: users and not their tabs. Pure: time is an argument.
//!
//! A user takes part over one or more sockets. When the last of them is lost the user stays for a moment, since most come back, and holds
//! the place meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::{events::SocketId, rooms::RoomName};

/// How long a user whose connection is lost still takes part.
pub(super) const GRACE: Duration = Duration::from_secs(3);

/// A user as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) user: String,
    pub(super) name: String,
}

/// What a room is called, and how many users may be in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct About {
    pub(super) name: String,
    pub(super) max_members: Option<u32>,
}

/// The room has as many users as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// How a socket has come into a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Joined {
    /// Its user did not take part before.
    pub(super) is_new_user: bool,
    /// The socket did not.
    pub(super) is_new_socket: bool,
    /// Users that take part now.
    pub(super) count: usize,
}

/// A user who takes part no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) room: RoomName,
    /// What the room is called.
    pub(super) room_name: String,
    pub(super) user: String,
}

/// One who takes part, as others are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Participant {
    pub(super) person: Person,
    /// When it came, as text.
    pub(super) joined_at: String,
    sockets: BTreeSet<SocketId>,
    /// Until when it is waited for.
    until: Option<Instant>,
}

struct Room {
    about: About,
    users: BTreeMap<String, Participant>,
}

/// All who take part.
#[derive(Default)]
pub(super) struct Participants {
    rooms: BTreeMap<RoomName, Room>,
    /// Whose a socket is, and where it takes part.
    sockets: BTreeMap<SocketId, (String, BTreeSet<RoomName>)>,
    /// Those who are waited for, the first to give up on first.
    lost: BTreeSet<(Instant, RoomName, String)>,
}

impl Participants {
    /// Whether a user could come in now. Administrators have a place in every room.
    fn check(&self, room: &RoomName, about: &About, user: &str, is_admin: bool) -> Result<(), Full> {
        let users = self.rooms.get(room).map(|room| &room.users);
        let is_there = users.is_some_and(|users| users.contains_key(user));
        let count = users.map_or(0, BTreeMap::len);
        let is_full = about.max_members.is_some_and(|max| count >= max as usize);
        match is_full && !is_there && !is_admin {
            true => Err(Full),
            false => Ok(()),
        }
    }

    /// A socket of a user comes in, or says again that it is there.
    pub(super) fn join(
        &mut self,
        room: &RoomName,
        about: About,
        (person, socket): (Person, SocketId),
        joined_at: String,
        is_admin: bool,
    ) -> Result<Joined, Full> {
        self.check(room, &about, &person.user, is_admin)?;
        let place = self.rooms.entry(room.clone()).or_insert_with(|| Room {
            about: about.clone(),
            users: BTreeMap::new(),
        });
        place.about = about;
        let is_new_user = !place.users.contains_key(&person.user);
        let user = person.user.clone();
        let participant = place.users.entry(user.clone()).or_insert_with(|| Participant {
            person: person.clone(),
            joined_at,
            sockets: BTreeSet::new(),
            until: None,
        });
        participant.person = person;
        if let Some(until) = participant.until.take() {
            self.lost.remove(&(until, room.clone(), user.clone()));
        }
        let is_new_socket = participant.sockets.insert(socket);
        let count = place.users.len();
        let (_, rooms) = self.sockets.entry(socket).or_insert((user, BTreeSet::new()));
        rooms.insert(room.clone());
        Ok(Joined {
            is_new_user,
            is_new_socket,
            count,
        })
    }

    /// A socket leaves a room. Gives its user when that takes part no longer.
    pub(super) fn leave(&mut self, room: &RoomName, socket: SocketId) -> Option<Gone> {
        let (user, rooms) = self.sockets.get_mut(&socket)?;
        if !rooms.remove(room) {
            return None;
        }
        let user = user.clone();
        if rooms.is_empty() {
            self.sockets.remove(&socket);
        }
        let participant = self.rooms.get_mut(room)?.users.get_mut(&user)?;
        participant.sockets.remove(&socket);
        match participant.sockets.is_empty() {
            true => self.forget(room, &user),
            false => None,
        }
    }

    /// The connection of a socket is lost: its user is waited for where it was the last one. Gives the rooms that it was in.
    pub(super) fn lose(&mut self, now: Instant, socket: SocketId) -> Vec<RoomName> {
        let Some((user, rooms)) = self.sockets.remove(&socket) else {
            return Vec::new();
        };
        for room in &rooms {
            let place = self.rooms.get_mut(room);
            let Some(participant) = place.and_then(|place| place.users.get_mut(&user)) else {
                continue;
            };
            participant.sockets.remove(&socket);
            if participant.sockets.is_empty() {
                let until = now + GRACE;
                participant.until = Some(until);
                self.lost.insert((until, room.clone(), user.clone()));
            }
        }
        rooms.into_iter().collect()
    }

    /// A user takes part no longer, whatever its sockets do.
    pub(super) fn forget(&mut self, room: &RoomName, user: &str) -> Option<Gone> {
        let place = self.rooms.get_mut(room)?;
        let participant = place.users.remove(user)?;
        let room_name = place.about.name.clone();
        if place.users.is_empty() {
            self.rooms.remove(room);
        }
        if let Some(until) = participant.until {
            self.lost.remove(&(until, room.clone(), user.to_owned()));
        }
        for socket in participant.sockets {
            if let Some((_, rooms)) = self.sockets.get_mut(&socket) {
                rooms.remove(room);
                if rooms.is_empty() {
                    self.sockets.remove(&socket);
                }
            }
        }
        Some(Gone {
            room: room.clone(),
            room_name,
            user: user.to_owned(),
        })
    }

    /// When the next one is given up on.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.lost.first().map(|(until, ..)| *until)
    }

    /// Gives up on those who have been waited for long enough.
    pub(super) fn given_up(&mut self, now: Instant) -> Vec<Gone> {
        let mut gone = Vec::new();
        while let Some((_, room, user)) = self.lost.first().filter(|(until, ..)| *until <= now).cloned() {
            self.lost.pop_first();
            gone.extend(self.forget(&room, &user));
        }
        gone
    }

    /// The rooms that a socket takes part in.
    pub(super) fn rooms_of(&self, socket: SocketId) -> impl Iterator<Item = &RoomName> {
        self.sockets.get(&socket).into_iter().flat_map(|(_, rooms)| rooms)
    }

    /// Whether a socket takes part in a room.
    pub(super) fn is_in(&self, room: &RoomName, socket: SocketId) -> bool {
        self.sockets
            .get(&socket)
            .is_some_and(|(_, rooms)| rooms.contains(room))
    }

    /// What a room is called and how many take part, where somebody does.
    pub(super) fn about(&self, room: &RoomName) -> Option<(&About, usize)> {
        let room = self.rooms.get(room)?;
        Some((&room.about, room.users.len()))
    }

    /// Those who take part, in the order of their ids.
    pub(super) fn list(&self, room: &RoomName) -> impl Iterator<Item = &Participant> {
        self.rooms
            .get(room)
            .into_iter()
            .flat_map(|room| room.users.values())
    }

    /// The sockets over which users take part.
    pub(super) fn sockets(&self, room: &RoomName) -> impl Iterator<Item = SocketId> {
        self.list(room)
            .flat_map(|participant| participant.sockets.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(code: &str) -> RoomName {
        RoomName::with_prefix("room:", code).expect("a room")
    }

    fn about(max_members: Option<u32>) -> About {
        About {
            name: "Room".to_owned(),
            max_members,
        }
    }

    fn join(
        participants: &mut Participants,
        code: &str,
        user: &str,
        socket: u64,
        max: Option<u32>,
    ) -> Result<Joined, Full> {
        let person = Person {
            user: user.to_owned(),
            name: user.to_uppercase(),
        };
        let is_admin = user == "admin";
        let socket = SocketId(socket);
        participants.join(
            &room(code),
            about(max),
            (person, socket),
            "then".to_owned(),
            is_admin,
        )
    }

    fn joined(is_new_user: bool, is_new_socket: bool, count: usize) -> Result<Joined, Full> {
        Ok(Joined {
            is_new_user,
            is_new_socket,
            count,
        })
    }

    #[test]
    fn users_are_counted_and_not_their_tabs_and_a_full_room_takes_only_administrators() {
        let mut all = Participants::default();
        let max = Some(2);
        assert_eq!(join(&mut all, "a", "ada", 1, max), joined(true, true, 1));
        assert_eq!(
            join(&mut all, "a", "ada", 1, max),
            joined(false, false, 1),
            "again"
        );
        assert_eq!(
            join(&mut all, "a", "ada", 2, max),
            joined(false, true, 1),
            "another tab"
        );
        assert_eq!(join(&mut all, "a", "bob", 3, max), joined(true, true, 2));
        assert_eq!(
            join(&mut all, "a", "ada", 4, max),
            joined(false, true, 2),
            "is there already"
        );
        assert_eq!(join(&mut all, "a", "eve", 5, max), Err(Full));
        assert_eq!(join(&mut all, "a", "admin", 6, max), joined(true, true, 3));
        assert_eq!(join(&mut all, "b", "eve", 5, max), joined(true, true, 1));
        assert_eq!(all.leave(&room("a"), SocketId(1)), None, "two tabs are left");
        assert_eq!(all.leave(&room("a"), SocketId(2)), None);
        let gone = all.leave(&room("a"), SocketId(4)).expect("the last tab");
        assert_eq!((gone.user.as_str(), gone.room_name.as_str()), ("ada", "Room"));
        assert_eq!(all.leave(&room("a"), SocketId(4)), None, "once");
    }

    #[test]
    fn who_is_lost_is_waited_for_and_given_up_on_once() {
        let now = crate::events::ticker::now();
        let mut all = Participants::default();
        for code in ["a", "b"] {
            assert!(join(&mut all, code, "ada", 1, Some(1)).is_ok());
        }
        assert_eq!(all.lose(now, SocketId(1)), [room("a"), room("b")]);
        assert_eq!(all.next_deadline(), Some(now + GRACE));
        assert_eq!(
            join(&mut all, "a", "bob", 2, Some(1)),
            Err(Full),
            "the place is held"
        );
        assert_eq!(
            join(&mut all, "a", "ada", 3, Some(1)),
            joined(false, true, 1),
            "it is back"
        );
        let almost = now + GRACE - Duration::from_millis(1);
        assert_eq!(all.given_up(almost), []);
        let gone = all.given_up(now + GRACE);
        assert_eq!(gone.len(), 1, "{gone:?}");
        assert_eq!(gone.first().map(|gone| gone.room.clone()), Some(room("b")));
        assert_eq!(
            (all.next_deadline(), all.given_up(now + GRACE * 2)),
            (None, vec![])
        );
    }

    #[test]
    fn nothing_is_left_of_who_has_gone_in_whatever_way() {
        let now = crate::events::ticker::now();
        let mut all = Participants::default();
        for socket in 1..=3 {
            assert!(join(&mut all, "a", "ada", socket, None).is_ok());
        }
        all.lose(now, SocketId(1));
        assert_eq!(all.next_deadline(), None, "two tabs are left");
        assert!(all.forget(&room("a"), "ada").is_some());
        assert!(all.rooms.is_empty() && all.sockets.is_empty() && all.lost.is_empty());
        assert!(join(&mut all, "a", "ada", 4, None).is_ok());
        all.lose(now, SocketId(4));
        assert!(all.forget(&room("a"), "ada").is_some());
        assert!(all.rooms.is_empty() && all.sockets.is_empty() && all.lost.is_empty());
    }
}
