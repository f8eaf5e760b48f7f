//! Who is at components and at what these belong to, who types there and where the cursors are. Pure: time is an argument.
//!
//! Users are told of, and not tabs: `component:user-joined` when the first is there, `component:user-left` when the last has gone. Typing
//! and cursors last for five seconds unless they are renewed and end with the connection. Typing is told when it begins and every two
//! seconds while it goes on; of a cursor the last place counts, and the same place is not told again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use serde_json::{Map, Value as Json, json};

use super::{
    fields::Named,
    gestures::{Gestures, Spot},
};
use crate::{
    events::{
        SocketId,
        people::{Changes, People, Person, Place},
    },
    rooms::{Departure, RoomKind, RoomName},
};

/// Something that is to be told.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Telling {
    pub(super) rooms: Vec<RoomName>,
    pub(super) except: Option<SocketId>,
    pub(super) event: &'static str,
    pub(super) body: Json,
}

#[derive(Debug, Default)]
struct Room {
    people: People,
    /// What the component belongs to, as its users have named it.
    entities: BTreeMap<Arc<str>, RoomName>,
    gestures: Gestures,
}

/// All rooms of components, and of what they belong to, that have members.
#[derive(Debug, Default)]
pub(super) struct Members {
    rooms: BTreeMap<RoomName, Room>,
    sockets: BTreeMap<SocketId, Socket>,
    due: BTreeMap<RoomName, Instant>,
    deadlines: BTreeSet<(Instant, RoomName)>,
}

#[derive(Debug)]
struct Socket {
    person: Arc<Person>,
    rooms: BTreeSet<RoomName>,
}

/// Which component and which entity rooms are of, as fields of an event.
pub(super) fn named(rooms: &[RoomName]) -> Map<String, Json> {
    let mut fields = Map::new();
    for room in rooms {
        match (room.kind(), room.id().split_once(':')) {
            (RoomKind::Component, _) => drop(fields.insert("componentId".to_owned(), room.id().into())),
            (RoomKind::Entity, Some((kind, id))) => {
                fields.insert("entityType".to_owned(), kind.into());
                fields.insert("entityId".to_owned(), id.into());
            }
            _ => {}
        }
    }
    fields
}

pub(super) fn body(rooms: &[RoomName], rest: Json) -> Json {
    let mut fields = named(rooms);
    if let Json::Object(rest) = rest {
        fields.extend(rest);
    }
    Json::Object(fields)
}

impl Members {
    /// A socket is in these rooms. Gives what the others hear, and what it hears itself.
    pub(super) fn came(
        &mut self,
        now: Instant,
        (socket, person): (SocketId, Person),
        rooms: &[RoomName],
    ) -> (Vec<Telling>, Vec<Telling>) {
        let person = Arc::new(person);
        let entry = self.sockets.entry(socket).or_insert_with(|| Socket {
            person: person.clone(),
            rooms: BTreeSet::new(),
        });
        entry.person = person.clone();
        let entity = rooms.iter().find(|room| room.kind() == RoomKind::Entity);
        let (mut new, mut own) = (Vec::new(), Vec::new());
        for name in rooms {
            let room = self.rooms.entry(name.clone()).or_default();
            if entry.rooms.insert(name.clone()) {
                room.people.came(now, Place::Socket(socket), (*person).clone());
                own.extend(room.gestures.introduction(&person.user_id));
            }
            if let (RoomKind::Component, Some(entity)) = (name.kind(), entity) {
                room.entities.insert(person.user_id.clone(), entity.clone());
            }
            if !room.people.take_changes().joined.is_empty() {
                new.push(name.clone());
            }
        }
        let joined = |rooms: &[RoomName]| Telling {
            rooms: rooms.to_vec(),
            except: Some(socket),
            event: "component:user-joined",
            body: body(rooms, json!({ "userId": person.user_id, "name": person.name })),
        };
        own.insert(0, joined(rooms));
        let others = (!new.is_empty()).then(|| joined(&new));
        self.note(rooms);
        (others.into_iter().collect(), own)
    }

    /// A socket is not in these rooms any more. Gives what the others hear.
    pub(super) fn went(
        &mut self,
        now: Instant,
        socket: SocketId,
        rooms: &[RoomName],
        departure: Departure,
    ) -> Vec<Telling> {
        let mut told = Vec::new();
        if let Some(entry) = self.sockets.get_mut(&socket) {
            for room in rooms {
                entry.rooms.remove(room);
            }
            if entry.rooms.is_empty() {
                self.sockets.remove(&socket);
            }
        }
        for name in rooms {
            if let Some(room) = self.rooms.get_mut(name) {
                room.people.went(now, Place::Socket(socket), departure);
                told.extend(room.gestures.stop(socket));
            }
        }
        told.extend(self.tell_left(rooms));
        self.note(rooms);
        told
    }

    /// The rooms that a socket is in.
    pub(super) fn rooms_of(&self, socket: SocketId) -> Vec<RoomName> {
        let socket = self.sockets.get(&socket);
        socket
            .map(|socket| socket.rooms.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// Of a component and what it is said to belong to, the rooms that a socket is in; where nothing is said, what it has named before.
    pub(super) fn audience(&self, socket: SocketId, at: &Named) -> Vec<RoomName> {
        let Some(Socket { person, rooms }) = self.sockets.get(&socket) else {
            return Vec::new();
        };
        let component = at.component.as_ref();
        let named_before = || self.rooms.get(component?)?.entities.get(&person.user_id);
        let named = component
            .into_iter()
            .chain(at.entity.as_ref().or_else(named_before));
        named.filter(|room| rooms.contains(*room)).cloned().collect()
    }

    /// A socket types in the first of these rooms, and the others hear it in all of them.
    pub(super) fn types(
        &mut self,
        now: Instant,
        socket: SocketId,
        at: &Named,
        rooms: Vec<RoomName>,
    ) -> Option<Telling> {
        let (name, entry) = (rooms.first()?.clone(), self.sockets.get(&socket)?);
        let (room, spot) = (
            self.rooms.get_mut(&name)?,
            Spot {
                at: at.rooms(),
                rooms,
            },
        );
        let told = room.gestures.types(now, socket, &entry.person, spot);
        self.note(&[name]);
        told
    }

    /// A socket's cursor is at a position in the first of these rooms, or nowhere, and the others hear it in all of them.
    pub(super) fn points(
        &mut self,
        now: Instant,
        socket: SocketId,
        at: &Named,
        rooms: Vec<RoomName>,
        position: Option<Json>,
    ) -> Vec<Telling> {
        let (Some(name), Some(entry)) = (rooms.first().cloned(), self.sockets.get(&socket)) else {
            return Vec::new();
        };
        let Some(room) = self.rooms.get_mut(&name) else {
            return Vec::new();
        };
        let spot = Spot {
            at: at.rooms(),
            rooms,
        };
        let told = room.gestures.points(now, socket, &entry.person, (spot, position));
        self.note(&[name]);
        told
    }

    /// When there will be something to tell.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// What is due.
    pub(super) fn tell(&mut self, now: Instant) -> Vec<Telling> {
        let due = self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now);
        let due: Vec<RoomName> = due.map(|(_, room)| room.clone()).collect();
        let mut told = Vec::new();
        for name in &due {
            if let Some(room) = self.rooms.get_mut(name) {
                told.extend(room.gestures.tell(now));
                room.people.expire(now);
            }
        }
        told.extend(self.tell_left(&due));
        self.note(&due);
        told
    }

    /// Who has left these rooms. What a component belongs to is told with the component to those who have left both.
    fn tell_left(&mut self, rooms: &[RoomName]) -> Vec<Telling> {
        let mut left: BTreeSet<(Arc<str>, RoomName)> = BTreeSet::new();
        let mut entities = BTreeMap::new();
        for name in rooms {
            let Some(room) = self.rooms.get_mut(name) else {
                continue;
            };
            let Changes { left: gone, .. } = room.people.take_changes();
            for user in gone {
                if let Some(entity) = room.entities.remove(&user) {
                    entities.insert((user.clone(), name.clone()), entity);
                }
                left.insert((user, name.clone()));
            }
        }
        let mut told = Vec::new();
        let mut covered = BTreeSet::new();
        // Components come before entities in the order of their names.
        for (user, name) in &left {
            if covered.contains(&(user.clone(), name.clone())) {
                continue;
            }
            let mut both = vec![name.clone()];
            let entity = entities.get(&(user.clone(), name.clone()));
            if let Some(entity) = entity.filter(|entity| left.contains(&(user.clone(), (*entity).clone()))) {
                covered.insert((user.clone(), entity.clone()));
                both.push(entity.clone());
            }
            told.push(Telling {
                body: body(&both, json!({ "userId": user })),
                rooms: both,
                except: None,
                event: "component:user-left",
            });
        }
        told
    }

    /// Notes when these rooms have something to tell, and forgets those without anybody.
    fn note(&mut self, rooms: &[RoomName]) {
        for name in rooms {
            let deadline = self.rooms.get(name).and_then(Room::next_deadline);
            if self.rooms.get(name).is_some_and(Room::is_idle) {
                self.rooms.remove(name);
            }
            let before = match deadline {
                Some(deadline) => self.due.insert(name.clone(), deadline),
                None => self.due.remove(name),
            };
            if before != deadline {
                if let Some(before) = before {
                    self.deadlines.remove(&(before, name.clone()));
                }
                self.deadlines
                    .extend(deadline.map(|deadline| (deadline, name.clone())));
            }
        }
    }
}

impl Room {
    fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [self.gestures.next_deadline(), self.people.next_deadline()];
        deadlines.into_iter().flatten().min()
    }

    fn is_idle(&self) -> bool {
        self.people.is_empty() && self.gestures.is_idle()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::events::{people::tests::person, ticker::now};

    const ADA: SocketId = SocketId(1);
    const BEN: SocketId = SocketId(2);

    struct Stage {
        members: Members,
        now: Instant,
    }

    fn stage() -> Stage {
        Stage {
            members: Members::default(),
            now: now(),
        }
    }

    fn room(name: &str) -> RoomName {
        RoomName::parse(name).expect("a room")
    }

    fn both() -> Named {
        Named {
            component: Some(room("component:c")),
            entity: Some(room("entity:page:p")),
        }
    }

    fn component() -> Named {
        Named {
            component: Some(room("component:c")),
            entity: None,
        }
    }

    /// What was told, in short.
    fn said(told: &[Telling]) -> Vec<(&'static str, usize, &str)> {
        let mut said = Vec::new();
        for telling in told {
            let user = telling.body["userId"].as_str().unwrap_or_default();
            said.push((telling.event, telling.rooms.len(), user));
        }
        said
    }

    impl Stage {
        fn comes(&mut self, socket: SocketId, user: &str, at: &Named) -> (Vec<Telling>, Vec<Telling>) {
            self.members
                .came(self.now, (socket, person(user, "s")), &at.rooms())
        }

        fn goes(&mut self, socket: SocketId, departure: Departure) -> Vec<Telling> {
            let rooms = self.members.rooms_of(socket);
            self.members.went(self.now, socket, &rooms, departure)
        }

        fn types(&mut self, socket: SocketId, at: &Named) -> Vec<Telling> {
            let rooms = self.members.audience(socket, at);
            let told = self.members.types(self.now, socket, at, rooms);
            told.into_iter().collect()
        }

        fn points(&mut self, socket: SocketId, position: Option<Json>) -> Vec<Telling> {
            let rooms = self.members.audience(socket, &component());
            self.members
                .points(self.now, socket, &component(), rooms, position)
        }

        /// Time passes, and what is due is told when it is.
        fn passes(&mut self, time: Duration) -> Vec<Telling> {
            let end = self.now + time;
            let mut told = Vec::new();
            while let Some(due) = self.members.next_deadline().filter(|due| *due <= end) {
                self.now = due;
                told.extend(self.members.tell(due));
            }
            self.now = end;
            told
        }

        fn is_empty(&self) -> bool {
            let Members {
                rooms,
                sockets,
                due,
                deadlines,
            } = &self.members;
            rooms.is_empty() && sockets.is_empty() && due.is_empty() && deadlines.is_empty()
        }
    }

    #[test]
    fn users_are_told_of_once_in_both_rooms_and_nothing_is_left_behind() {
        let mut stage = stage();
        let (others, own) = stage.comes(ADA, "ada", &both());
        assert_eq!(said(&others), [("component:user-joined", 2, "ada")]);
        assert_eq!(said(&own), said(&others), "and itself");
        let names = json!({ "componentId": "c", "entityType": "page", "entityId": "p", "userId": "ada", "name": null });
        assert_eq!(others[0].body, names);
        // Another tab, and the same one again: its own program alone hears of it.
        let (others, own) = stage.comes(BEN, "ada", &component());
        assert!(others.is_empty() && own.len() == 1);
        assert!(stage.comes(BEN, "ada", &component()).0.is_empty());
        assert!(said(&stage.goes(BEN, Departure::Clean)).is_empty());
        // Lost: gone after a grace, unless it comes back.
        assert!(stage.goes(ADA, Departure::Lost).is_empty());
        assert!(stage.comes(BEN, "ada", &both()).0.is_empty());
        assert!(stage.goes(BEN, Departure::Lost).is_empty());
        assert_eq!(
            said(&stage.passes(Duration::from_secs(3))),
            [("component:user-left", 2, "ada")]
        );
        assert!(stage.is_empty());
    }

    #[test]
    fn typing_is_told_every_two_seconds_and_ends_after_five() {
        let mut stage = stage();
        stage.comes(ADA, "ada", &both());
        assert!(stage.types(BEN, &component()).is_empty(), "it is not there");
        assert_eq!(
            said(&stage.types(ADA, &component())),
            [("component:typing", 2, "ada")]
        );
        assert!(stage.passes(Duration::from_millis(1999)).is_empty());
        assert!(stage.types(ADA, &component()).is_empty());
        stage.passes(Duration::from_millis(1));
        assert_eq!(
            said(&stage.types(ADA, &component())),
            [("component:typing", 2, "ada")]
        );
        let (_, own) = stage.comes(BEN, "ben", &component());
        assert_eq!(
            said(&own),
            [
                ("component:user-joined", 1, "ben"),
                ("component:typing", 2, "ada")
            ],
            "a newcomer hears of it"
        );
        assert!(stage.passes(Duration::from_millis(4999)).is_empty());
        let told = stage.passes(Duration::from_millis(1));
        assert_eq!(said(&told), [("component:typing-ended", 2, "ada")]);
        stage.types(ADA, &component());
        let told = stage.goes(ADA, Departure::Lost);
        assert_eq!(said(&told), [("component:typing-ended", 2, "ada")], "at once");
    }

    #[test]
    fn of_a_cursor_the_last_place_counts_and_the_same_is_not_told_again() {
        let mut stage = stage();
        stage.comes(ADA, "ada", &component());
        assert_eq!(
            said(&stage.points(ADA, Some(json!(1)))),
            [("component:cursor", 1, "ada")]
        );
        for position in [json!(2), json!(3), json!(4)] {
            assert!(stage.points(ADA, Some(position)).is_empty(), "not so soon");
        }
        let told = stage.passes(Duration::from_millis(50));
        assert_eq!((told.len(), &told[0].body["position"]), (1, &json!(4)));
        stage.passes(Duration::from_secs(3));
        assert!(stage.points(ADA, Some(json!(4))).is_empty(), "it is renewed");
        assert!(stage.passes(Duration::from_millis(4999)).is_empty());
        assert_eq!(
            said(&stage.passes(Duration::from_millis(1))),
            [("component:cursor-left", 1, "ada")]
        );
        // One that nobody has heard of goes without a word.
        stage.points(ADA, Some(json!(5)));
        assert_eq!(said(&stage.points(ADA, None)), []);
        assert_eq!(
            said(&stage.passes(Duration::from_millis(50))),
            [("component:cursor-left", 1, "ada")]
        );
        assert!(stage.points(ADA, None).is_empty());
        assert!(stage.passes(Duration::from_secs(10)).is_empty());
        stage.points(ADA, Some(json!(6)));
        assert_eq!(
            said(&stage.goes(ADA, Departure::Clean)),
            [
                ("component:cursor-left", 1, "ada"),
                ("component:user-left", 1, "ada")
            ]
        );
        assert!(stage.is_empty());
    }

    #[test]
    fn a_crowd_of_cursors_is_told_within_a_budget_and_nobody_is_forgotten() {
        let mut stage = stage();
        let large = |number: u64| Some(json!({ "x": number, "filler": "x".repeat(3_000) }));
        let mut told = Vec::new();
        for number in 0..100 {
            stage.comes(SocketId(number), &format!("u{number}"), &component());
            told.extend(stage.points(SocketId(number), large(number)));
        }
        let bytes =
            |told: &[Telling]| -> usize { told.iter().map(|telling| telling.body.to_string().len()).sum() };
        assert!(told.len() < 4, "{}", told.len());
        told.extend(stage.passes(Duration::from_secs(1)));
        assert!(bytes(&told) < 70_000, "{}", bytes(&told));
        for _ in 0..10 {
            for number in 0..100 {
                stage.points(SocketId(number), large(number));
            }
            told.extend(stage.passes(Duration::from_secs(1)));
        }
        assert_eq!(told.len(), 100);
        for number in 0..100 {
            stage.goes(SocketId(number), Departure::Clean);
        }
        stage.passes(Duration::from_secs(10));
        assert!(stage.is_empty());
    }
}
