//! Who is at the pages, who types there and where the cursors are, shared by all connections of all protocols.
//!
//! Connections of every protocol are noted when they take a seat in a page's room; sockets in the namespace of events besides when they
//! look at a page without opening it. What is told goes to the sockets that are in the page's room.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::RandomState,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_json::value::RawValue;
use storage::PageId;

use super::{
    Alarm, EventRooms, SocketId, Timed,
    awareness::{AwarenessLink, Seen},
    color,
    cursors::Owner,
    drive_viewers::DriveViewers,
    mirror::{Cost, Question},
    page_presence::Page,
    people::{Here, Person, Place},
    states,
    ticker::now,
    viewers::{Letters, Listening, Viewers},
    watchers::{Form, Source, Watcher},
};
use crate::{
    access::{Attendance, Viewer},
    rooms::{Departure, RoomName},
};

/// Presence at all pages.
pub struct Presence {
    rooms: EventRooms,
    alarm: Alarm,
    /// Those who type that are named at a time.
    max_named: usize,
    /// What awareness is reached by, once there are rooms.
    awareness: OnceLock<AwarenessLink>,
    /// What tells the members of drives who looks at pages, where the application knows the drives.
    drives: OnceLock<Arc<DriveViewers>>,
    /// Makes client ids of the numbers of sockets.
    keys: RandomState,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// In boxes: a node of the map has place for eleven.
    pages: BTreeMap<RoomName, Box<Page>>,
    /// The pages at which each socket is.
    sockets: BTreeMap<SocketId, BTreeSet<RoomName>>,
    due: BTreeSet<(Instant, RoomName)>,
}

/// A user at a page and what is seen of it.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The user.
    pub here: Here,
    /// For how long it has been there.
    pub present_for: Duration,
    /// Where its cursor is.
    pub cursor: Option<Arc<RawValue>>,
    /// Whether it types.
    pub types: bool,
}

impl Presence {
    /// Nobody yet. Of those who type, so many are named at a time.
    pub fn new(rooms: EventRooms, max_named: usize) -> Self {
        Self {
            rooms,
            alarm: Alarm::default(),
            max_named,
            awareness: OnceLock::new(),
            drives: OnceLock::new(),
            keys: RandomState::new(),
            state: Mutex::default(),
        }
    }

    /// From now on, programs with awareness and those without see each other.
    pub(super) fn link(&self, link: AwarenessLink) {
        let _ = self.awareness.set(link);
    }

    /// From now on, members of drives hear who looks at the pages there.
    pub(super) fn show_to_drives(&self, drives: Arc<DriveViewers>) {
        let _ = self.drives.set(drives);
    }

    /// The list of those who look at a page, and the sockets that hear it there.
    pub(super) fn people_list(&self, room: &RoomName) -> (Bytes, BTreeSet<SocketId>) {
        let state = self.state();
        match state.pages.get(room) {
            Some(page) => page.viewers.people_list(),
            None => Viewers::new(room.id()).people_list(),
        }
    }

    /// The rooms in which it is told.
    pub fn rooms(&self) -> &EventRooms {
        &self.rooms
    }

    /// Wakes its clock.
    pub fn alarm(&self) -> &Alarm {
        &self.alarm
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held, so what a poisoned lock guards is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something at a page and tells what is due.
    fn at<T>(&self, room: &RoomName, change: impl FnOnce(&mut Page, Instant, &mut Letters) -> T) -> T {
        let (mut state, now) = (self.state(), now());
        let entry = state.pages.entry(room.clone());
        let page = entry.or_insert_with(|| Box::new(Page::new(room, self.keys.clone())));
        let mut told = Letters::new();
        let changed = change(page, now, &mut told);
        self.settle(&mut state, now, room, told);
        changed
    }

    /// Tells what is due at a page, and notes when more will be.
    fn settle(&self, state: &mut State, now: Instant, room: &RoomName, mut told: Letters) {
        let Some(page) = state.pages.get_mut(room) else {
            return;
        };
        if let Some(awareness) = self.awareness.get() {
            let has_both = page.has_both_kinds();
            if page.mirror.link(has_both, (&mut page.cursors, &mut page.typing)) {
                awareness.watch(room, has_both);
            }
        }
        page.tell(now, room, self.max_named, &mut told);
        if let Some(awareness) = self.awareness.get() {
            awareness.take(room, page.mirror.turn(now));
        }
        // Under the lock, so that what is told at a page comes in its order.
        self.rooms.tell_each(&told);
        let version = page.viewers.version();
        if std::mem::replace(&mut page.shown, version) != version
            && let Some(drives) = self.drives.get()
        {
            drives.changed(room);
        }
        let deadline = page.next_deadline();
        let before = std::mem::replace(&mut page.deadline, deadline);
        if page.is_idle() {
            state.pages.remove(room);
        }
        if before == deadline {
            return;
        }
        if let Some(before) = before {
            state.due.remove(&(before, room.clone()));
        }
        if let Some(deadline) = deadline {
            let is_earliest = state.due.first().is_none_or(|(first, _)| deadline < *first);
            state.due.insert((deadline, room.clone()));
            if is_earliest {
                self.alarm.set_off();
            }
        }
    }

    /// The ids of those at a page, the earliest first.
    pub fn users(&self, room: &RoomName) -> Vec<Arc<str>> {
        let mut state = self.state();
        let page = state.pages.get_mut(room);
        let people = page.map(|page| page.viewers.people().list()).unwrap_or_default();
        people.into_iter().map(|person| person.user_id.clone()).collect()
    }

    /// How many are at a page, and the earliest of them, at most so many.
    pub fn first(&self, room: &RoomName, most: usize) -> (usize, Vec<Person>) {
        let mut state = self.state();
        let page = state.pages.get_mut(room);
        let people = page.map(|page| page.viewers.people().list()).unwrap_or_default();
        let first = people.iter().take(most).map(|person| (*person).clone());
        (people.len(), first.collect())
    }

    /// Those at a page, the earliest first, with what their sockets show.
    pub fn here(&self, room: &RoomName) -> Vec<Shown> {
        let mut state = self.state();
        let Some(page) = state.pages.get_mut(room) else {
            return Vec::new();
        };
        let here = page.viewers.people().here().into_iter();
        here.map(|here| Shown {
            present_for: now().saturating_duration_since(here.since),
            cursor: page.cursors.of(&here.person.user_id),
            types: page.typing.types(&here.person.user_id),
            here,
        })
        .collect()
    }

    /// A socket is in the room of a page, and hears what is told there.
    pub fn enter(&self, room: &RoomName, socket: SocketId, person: Person) {
        let mut state = self.state();
        state.sockets.entry(socket).or_default().insert(room.clone());
        drop(state);
        self.change(room, socket, Some(person), |_| {});
    }

    /// A socket looks at a page, or does not any more.
    pub fn look(&self, room: &RoomName, socket: SocketId, person: Option<Person>) {
        let looks = person.is_some();
        if let Some(person) = person.clone() {
            self.at(room, |page, now, _| {
                page.viewers.people().came(now, Place::Socket(socket), person)
            });
        } else {
            self.at(room, |page, now, _| {
                page.viewers
                    .people()
                    .went(now, Place::Socket(socket), Departure::Clean);
            });
        }
        self.change(room, socket, person, |watcher| watcher.looks = looks);
    }

    /// A socket has opened a page in this form and knows it, or has closed it; and whether it takes part in the document.
    pub fn open(&self, room: &RoomName, socket: SocketId, form: Option<Form>, syncs: bool) {
        self.change(room, socket, None, |watcher| {
            (watcher.opened, watcher.syncs) = (form, syncs);
        });
    }

    /// Changes how a socket is at a page: one that is there, or one that comes as a person.
    fn change(
        &self,
        room: &RoomName,
        socket: SocketId,
        person: Option<Person>,
        change: impl FnOnce(&mut Watcher),
    ) {
        self.at(room, |page, _, told| {
            let watcher = page.watchers.get(socket).cloned();
            let Some(mut watcher) = watcher.or_else(|| Some(Watcher::new(Arc::new(person?)))) else {
                return;
            };
            change(&mut watcher);
            page.set(room, socket, watcher, told);
        });
    }

    /// A socket is not in the room of a page any more.
    pub fn leave(&self, room: &RoomName, socket: SocketId, departure: Departure) {
        if let Some(rooms) = self.state().sockets.get_mut(&socket) {
            rooms.remove(room);
        }
        self.at(room, |page, now, _| {
            page.watchers.remove(socket);
            page.viewers.listen(socket, Listening::NOTHING);
            page.viewers.people().went(now, Place::Socket(socket), departure);
            page.stop(socket);
        });
    }

    /// A socket has gone.
    pub fn disconnect(&self, socket: SocketId, departure: Departure) {
        let rooms = self.state().sockets.remove(&socket);
        for room in rooms.into_iter().flatten() {
            self.leave(&room, socket, departure);
        }
    }

    /// A socket types at a page, or does not any more. Gives whether it is there.
    pub fn type_at(&self, room: &RoomName, socket: SocketId, types: bool) -> bool {
        self.at(room, |page, now, _| {
            let Some(watcher) = page.watchers.get(socket) else {
                return false;
            };
            match types {
                true => page.typing.start(now, Source::Socket(socket), &watcher.person),
                false => page.typing.stop(Source::Socket(socket)),
            }
            true
        })
    }

    /// A socket's cursor is somewhere else now, or nowhere. Gives whether the socket is there.
    pub fn point_at(&self, room: &RoomName, socket: SocketId, cursor: Option<Arc<RawValue>>) -> bool {
        let pointer = cursor.as_ref().map(states::pointer);
        self.at(room, |page, _, _| {
            let Some(watcher) = page.watchers.get(socket) else {
                return false;
            };
            let (source, person) = (Source::Socket(socket), watcher.person.clone());
            page.mirror.point(socket, &person, pointer);
            let owner = Owner {
                connection: person.socket_id.clone(),
                color: color(&person.user_id).into(),
                socket: Some(socket),
                person,
            };
            match cursor {
                Some(cursor) => page.cursors.moved(source, owner, cursor),
                None => page.cursors.left(source),
            }
            true
        })
    }

    /// Something has changed in the awareness of a page.
    pub(super) fn see(&self, room: &RoomName, sight: Seen) {
        self.at_known(room, |page, now| page.see(now, sight));
    }

    /// What a page's awareness and its text were asked is answered, or not.
    pub(super) fn answered(
        &self,
        room: &RoomName,
        question: Question,
        answer: Option<(Vec<Option<crdt::Place>>, Cost)>,
    ) {
        self.at_known(room, |page, now| {
            page.mirror.answered(now, question, answer, &mut page.cursors);
        });
    }

    /// Changes something at a page at which somebody is.
    fn at_known(&self, room: &RoomName, change: impl FnOnce(&mut Page, Instant)) {
        let (mut state, now) = (self.state(), now());
        if let Some(page) = state.pages.get_mut(room) {
            change(page, now);
            self.settle(&mut state, now, room, Letters::new());
        }
    }
}

impl Timed for Presence {
    fn next_deadline(&self) -> Option<Instant> {
        self.state().due.first().map(|(deadline, _)| *deadline)
    }

    fn tick(&self, now: Instant) {
        let mut state = self.state();
        let later = state.due.iter().find(|(deadline, _)| *deadline > now).cloned();
        let due = match later {
            Some(later) => {
                let later = state.due.split_off(&later);
                std::mem::replace(&mut state.due, later)
            }
            None => std::mem::take(&mut state.due),
        };
        for (_, room) in due {
            if let Some(page) = state.pages.get_mut(&room) {
                page.deadline = None;
            }
            self.settle(&mut state, now, &room, Letters::new());
        }
    }
}

impl Attendance for Presence {
    fn came(&self, page: &PageId, seat: u64, viewer: Viewer) {
        // Sockets in the namespace of events give their seats their names.
        let is_aware = viewer.socket.is_none();
        let person = Person::new(viewer, &seat.to_string());
        let room = RoomName::of_page(page);
        let was_linked = self.at(&room, |page, now, _| {
            page.viewers.people().came(now, Place::Seat(seat), person);
            if is_aware {
                page.aware.insert(seat);
            }
            page.mirror.is_linked()
        });
        // It may be the first one in a new room.
        if let Some(awareness) = self.awareness.get().filter(|_| was_linked) {
            awareness.watch(&room, true);
        }
    }

    fn went(&self, page: &PageId, seat: u64, departure: Departure) {
        self.at(&RoomName::of_page(page), |page, now, _| {
            page.viewers.people().went(now, Place::Seat(seat), departure);
            page.aware.remove(&seat);
        });
    }
}
