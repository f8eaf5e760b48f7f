//! What users do in the threads of shared rooms: who is in which, and who types there. Pure: time is an argument.
//!
//! A socket types in one thread at a time, and no longer than it says so again. What has changed in a room is told at once, then together
//! with what else changes within [`WINDOW`]; what is as it was told before is not told again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::participants::Person;
use crate::{events::SocketId, rooms::RoomName};

/// Least time between two tellings in a room.
pub(super) const WINDOW: Duration = Duration::from_millis(250);
/// Typing ends after this time unless it is renewed.
pub(super) const TYPING: Duration = Duration::from_secs(5);

/// The thread of a room; `None` for its main one.
pub(super) type Thread = Option<String>;

/// What happens in a thread, as users are told: names in the order of their users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Activity {
    pub(super) thread: Thread,
    pub(super) active: Vec<String>,
    pub(super) typing: Vec<String>,
}

/// Something to tell in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Telling {
    /// Who types in a thread.
    Typing(RoomName, Thread, Vec<String>),
    /// What happens in all threads.
    Activity(RoomName, Vec<Activity>),
}

struct Typist {
    person: Person,
    thread: Thread,
    until: Instant,
}

#[derive(Default)]
struct Room {
    /// By user: the name, and the thread that it has gone to.
    places: BTreeMap<String, (String, Thread)>,
    typists: BTreeMap<SocketId, Typist>,
    told_typing: BTreeMap<Thread, Vec<String>>,
    told_activity: Vec<Activity>,
    /// Something may be other than it was told.
    has_changed: bool,
    not_before: Option<Instant>,
    /// Where it stands among those that are due.
    due: Option<Instant>,
}

impl Room {
    fn deadline(&self, now: Instant) -> Option<Instant> {
        let ends = self.typists.values().map(|typist| typist.until).min();
        let tells = self.has_changed.then(|| self.not_before.unwrap_or(now));
        // Forgotten sooner, it would be told of too often.
        let is_quiet = self.typists.is_empty() && self.places.is_empty();
        let rests = self.not_before.filter(|at| is_quiet && *at > now);
        [ends, tells, rests].into_iter().flatten().min()
    }

    fn typing(&self) -> BTreeMap<Thread, BTreeMap<&str, &str>> {
        let mut typing: BTreeMap<Thread, BTreeMap<&str, &str>> = BTreeMap::new();
        for Typist { person, thread, .. } in self.typists.values() {
            let users = typing.entry(thread.clone()).or_default();
            users.insert(&person.user, &person.name);
        }
        typing
    }

    fn activity(&self) -> Vec<Activity> {
        let mut active: BTreeMap<Thread, Vec<String>> = BTreeMap::new();
        for (name, thread) in self.places.values() {
            active.entry(thread.clone()).or_default().push(name.clone());
        }
        let mut typing = names(self.typing());
        let threads: BTreeSet<Thread> = active.keys().chain(typing.keys()).cloned().collect();
        threads
            .into_iter()
            .map(|thread| Activity {
                active: active.remove(&thread).unwrap_or_default(),
                typing: typing.remove(&thread).unwrap_or_default(),
                thread,
            })
            .collect()
    }

    /// What has changed since it was told last.
    fn changes(&mut self, name: &RoomName) -> Vec<Telling> {
        let typing = names(self.typing());
        let threads: BTreeSet<Thread> = typing.keys().chain(self.told_typing.keys()).cloned().collect();
        let mut tellings = Vec::new();
        for thread in threads {
            let users = typing.get(&thread).cloned().unwrap_or_default();
            if self.told_typing.get(&thread).is_none_or(|told| *told != users) {
                tellings.push(Telling::Typing(name.clone(), thread, users));
            }
        }
        self.told_typing = typing;
        let activity = self.activity();
        if activity != self.told_activity {
            tellings.push(Telling::Activity(name.clone(), activity.clone()));
            self.told_activity = activity;
        }
        self.has_changed = false;
        tellings
    }
}

fn names(users: BTreeMap<Thread, BTreeMap<&str, &str>>) -> BTreeMap<Thread, Vec<String>> {
    let names = |users: BTreeMap<&str, &str>| users.into_values().map(str::to_owned).collect();
    users
        .into_iter()
        .map(|(thread, users)| (thread, names(users)))
        .collect()
}

/// The threads of all rooms in which something happens.
#[derive(Default)]
pub(super) struct Threads {
    rooms: BTreeMap<RoomName, Room>,
    due: BTreeSet<(Instant, RoomName)>,
}

impl Threads {
    /// A user goes to a thread. Gives the one that it was in.
    pub(super) fn switch(&mut self, now: Instant, room: &RoomName, person: Person, thread: Thread) -> Thread {
        self.change(now, room, |room| {
            let before = room.places.insert(person.user, (person.name, thread));
            room.has_changed = true;
            before.and_then(|(_, thread)| thread)
        })
    }

    /// A socket types in a thread, or still does.
    pub(super) fn start(
        &mut self,
        now: Instant,
        room: &RoomName,
        (person, socket): (Person, SocketId),
        thread: Thread,
    ) {
        self.change(now, room, |room| {
            let until = now + TYPING;
            let before = room.typists.insert(
                socket,
                Typist {
                    person: person.clone(),
                    thread: thread.clone(),
                    until,
                },
            );
            let is_renewal = before.is_some_and(|before| before.thread == thread && before.person == person);
            room.has_changed |= !is_renewal;
        });
    }

    /// A socket types no more.
    pub(super) fn stop(&mut self, now: Instant, room: &RoomName, socket: SocketId) {
        if self.rooms.contains_key(room) {
            self.change(now, room, |room| {
                room.has_changed |= room.typists.remove(&socket).is_some();
            });
        }
    }

    /// A user is in the room no longer.
    pub(super) fn leave(&mut self, now: Instant, room: &RoomName, user: &str) {
        if self.rooms.contains_key(room) {
            self.change(now, room, |room| {
                room.has_changed |= room.places.remove(user).is_some();
                let before = room.typists.len();
                room.typists.retain(|_, typist| typist.person.user != user);
                room.has_changed |= before != room.typists.len();
            });
        }
    }

    /// What happens in a room, for those who come.
    pub(super) fn activity(&self, room: &RoomName) -> Vec<Activity> {
        self.rooms.get(room).map(Room::activity).unwrap_or_default()
    }

    fn change<T>(&mut self, now: Instant, name: &RoomName, change: impl FnOnce(&mut Room) -> T) -> T {
        let room = self.rooms.entry(name.clone()).or_default();
        let answer = change(room);
        self.settle(now, name);
        answer
    }

    /// Notes when a room is looked at next, and forgets one in which nothing happens.
    fn settle(&mut self, now: Instant, name: &RoomName) {
        let Some(room) = self.rooms.get_mut(name) else {
            return;
        };
        if let Some(due) = room.due.take() {
            self.due.remove(&(due, name.clone()));
        }
        room.due = room.deadline(now);
        match room.due {
            Some(due) => {
                self.due.insert((due, name.clone()));
            }
            None if room.places.is_empty() => {
                self.rooms.remove(name);
            }
            None => {}
        }
    }

    /// When something is to be told, or ends.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Ends what is over, and gives what is to be told now.
    pub(super) fn tellings(&mut self, now: Instant) -> Vec<Telling> {
        let mut tellings = Vec::new();
        while let Some((_, name)) = self.due.first().filter(|(due, _)| *due <= now).cloned() {
            let Some(room) = self.rooms.get_mut(&name) else {
                self.due.pop_first();
                continue;
            };
            let before = room.typists.len();
            room.typists.retain(|_, typist| typist.until > now);
            room.has_changed |= before != room.typists.len();
            if room.has_changed && room.not_before.is_none_or(|at| at <= now) {
                let changes = room.changes(&name);
                if !changes.is_empty() {
                    room.not_before = Some(now + WINDOW);
                }
                tellings.extend(changes);
            }
            self.settle(now, &name);
        }
        tellings
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn room() -> RoomName {
        RoomName::parse("room:a").expect("a room")
    }

    fn person(user: &str) -> Person {
        Person {
            user: user.to_owned(),
            name: user.to_uppercase(),
        }
    }

    fn typing(thread: &str, names: &[&str]) -> Telling {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Telling::Typing(room(), Some(thread.to_owned()), names)
    }

    fn only_typing(tellings: Vec<Telling>) -> Vec<Telling> {
        let is_typing = |telling: &Telling| matches!(telling, Telling::Typing(..));
        tellings.into_iter().filter(is_typing).collect()
    }

    fn start(threads: &mut Threads, now: Instant, user: &str, socket: u64, thread: &str) {
        threads.start(
            now,
            &room(),
            (person(user), SocketId(socket)),
            Some(thread.to_owned()),
        );
    }

    #[test]
    fn the_whole_set_is_told_at_once_then_together_and_never_twice_the_same() {
        let now = crate::events::ticker::now();
        let at = |milliseconds| now + Duration::from_millis(milliseconds);
        let mut threads = Threads::default();
        start(&mut threads, now, "ada", 1, "t");
        assert_eq!(only_typing(threads.tellings(now)), [typing("t", &["ADA"])]);
        start(&mut threads, at(10), "bob", 2, "t");
        start(&mut threads, at(20), "eve", 3, "t");
        start(&mut threads, at(20), "ada", 4, "t");
        assert_eq!(threads.tellings(at(249)), []);
        assert_eq!(threads.next_deadline(), Some(at(250)));
        assert_eq!(
            only_typing(threads.tellings(at(250))),
            [typing("t", &["ADA", "BOB", "EVE"])]
        );
        // Renewed, and stopped and begun again between two tellings: nothing has changed.
        start(&mut threads, at(300), "bob", 2, "t");
        threads.stop(at(310), &room(), SocketId(3));
        start(&mut threads, at(320), "eve", 3, "t");
        assert_eq!(threads.tellings(at(1000)), []);
        // One of two tabs stops: its user still types.
        threads.stop(at(1010), &room(), SocketId(1));
        assert_eq!(threads.tellings(at(1020)), []);
        threads.stop(at(1030), &room(), SocketId(4));
        assert_eq!(
            only_typing(threads.tellings(at(1030))),
            [typing("t", &["BOB", "EVE"])]
        );
    }

    #[test]
    fn typing_ends_by_itself_with_the_socket_and_in_another_thread() {
        let now = crate::events::ticker::now();
        let mut threads = Threads::default();
        start(&mut threads, now, "ada", 1, "t");
        threads.tellings(now);
        assert_eq!(threads.next_deadline(), Some(now + TYPING));
        assert_eq!(only_typing(threads.tellings(now + TYPING)), [typing("t", &[])]);
        assert_eq!(threads.tellings(now + TYPING + WINDOW), []);
        assert!(
            threads.rooms.is_empty() && threads.due.is_empty(),
            "nothing is kept"
        );
        let later = now + TYPING * 2;
        start(&mut threads, later, "ada", 1, "t");
        threads.tellings(later);
        start(&mut threads, later + WINDOW, "ada", 1, "u");
        assert_eq!(
            only_typing(threads.tellings(later + WINDOW)),
            [typing("t", &[]), typing("u", &["ADA"])]
        );
        threads.leave(later + WINDOW * 2, &room(), "ada");
        assert_eq!(
            only_typing(threads.tellings(later + WINDOW * 2)),
            [typing("u", &[])]
        );
        assert_eq!(threads.tellings(later + WINDOW * 3), []);
        assert!(
            threads.rooms.is_empty() && threads.due.is_empty(),
            "nothing is kept"
        );
    }

    #[test]
    fn activity_says_who_is_in_which_thread_and_who_types_there() {
        let now = crate::events::ticker::now();
        let mut threads = Threads::default();
        let thread = |name: &str| Some(name.to_owned());
        assert_eq!(threads.switch(now, &room(), person("ada"), thread("t")), None);
        start(&mut threads, now, "bob", 2, "t");
        let active = |thread: &str, active: &[&str], typing: &[&str]| Activity {
            thread: Some(thread.to_owned()),
            active: active.iter().map(|name| (*name).to_owned()).collect(),
            typing: typing.iter().map(|name| (*name).to_owned()).collect(),
        };
        let told = threads.tellings(now);
        let expected = Telling::Activity(room(), vec![active("t", &["ADA"], &["BOB"])]);
        assert!(told.contains(&expected), "{told:?}");
        let later = now + WINDOW;
        assert_eq!(
            threads.switch(later, &room(), person("ada"), thread("u")),
            thread("t")
        );
        let both = vec![active("t", &[], &["BOB"]), active("u", &["ADA"], &[])];
        assert_eq!(threads.tellings(later), [Telling::Activity(room(), both.clone())]);
        assert_eq!(threads.activity(&room()), both);
    }

    proptest! {
        #[test]
        fn what_was_told_last_is_what_is_so_and_no_oftener_than_it_may(
            steps in proptest::collection::vec((0_u64..400, 0_u64..4, 0_u8..3, 0_u8..3), 1..60)
        ) {
            let mut now = crate::events::ticker::now();
            let mut threads = Threads::default();
            let mut told: BTreeMap<Thread, (Instant, Vec<String>)> = BTreeMap::new();
            let mut hear = |now: Instant, tellings: Vec<Telling>| {
                for telling in tellings {
                    let Telling::Typing(_, thread, users) = telling else { continue };
                    let before = told.insert(thread, (now, users.clone()));
                    if let Some((at, before)) = before {
                        assert!(now >= at + WINDOW, "told too often");
                        assert_ne!(before, users, "told the same twice");
                    }
                }
            };
            for (wait, socket, action, thread) in steps {
                let until = now + Duration::from_millis(wait);
                while let Some(due) = threads.next_deadline().filter(|due| *due <= until) {
                    hear(due.max(now), threads.tellings(due.max(now)));
                }
                now = until;
                let user = ["ada", "bob"][usize::try_from(socket % 2).unwrap_or(0)];
                match action {
                    0 => start(&mut threads, now, user, socket, &thread.to_string()),
                    1 => threads.stop(now, &room(), SocketId(socket)),
                    _ => threads.leave(now, &room(), user),
                }
                hear(now, threads.tellings(now));
            }
            while let Some(due) = threads.next_deadline() {
                now = due.max(now);
                hear(now, threads.tellings(now));
            }
            prop_assert!(threads.rooms.is_empty(), "all typing ends");
            prop_assert!(told.values().all(|(_, users)| users.is_empty()), "{told:?}");
        }
    }
}
