//! Who is at a page: users, counted by their connections. Pure: time is an argument.
//!
//! A user is there for as long as one of its connections is, and [`GRACE`] longer when the last of them broke, because it probably comes
//! back. Guests have no identity to come back with, so each of their connections is a person of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::SocketId;
use crate::{access::Viewer, rooms::Departure};

/// How long a user counts as present whose connection broke.
pub const GRACE: Duration = Duration::from_secs(3);

/// A connection that makes its user present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A seat in the room of the page's document, by its number.
    Seat(u64),
    /// A socket in the namespace of events.
    Socket(SocketId),
}

/// A user as others see it, over one of its connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Person {
    /// The user's id, or what stands for one.
    pub user_id: Arc<str>,
    /// What the client calls the connection.
    pub socket_id: Arc<str>,
    /// The user's name.
    pub name: Option<Arc<str>>,
    /// Address of a picture of the user.
    pub avatar_url: Option<Arc<str>>,
    /// Whether it has no account.
    #[serde(skip)]
    pub is_guest: bool,
}

impl Person {
    /// A user as others see it, over a connection that is called so if the client calls it nothing.
    pub fn new(viewer: Viewer, connection: &str) -> Self {
        let Viewer {
            user,
            name,
            avatar_url,
            socket,
        } = viewer;
        let socket_id = socket.unwrap_or_else(|| connection.into());
        let is_guest = user.is_none();
        Self {
            user_id: user.unwrap_or_else(|| format!("guest:{socket_id}").into()),
            socket_id,
            name,
            avatar_url,
            is_guest,
        }
    }
}

/// What has changed since that was last asked.
#[derive(Debug, Default)]
pub struct Changes {
    /// Who has come, with the connection that came last.
    pub joined: Vec<Arc<Person>>,
    /// The ids of those who have gone.
    pub left: Vec<Arc<str>>,
}

/// The users at one page.
#[derive(Debug, Default)]
pub struct People {
    users: BTreeMap<Arc<str>, Present>,
    places: BTreeMap<Place, Arc<str>>,
    graces: BTreeSet<(Instant, Arc<str>)>,
    /// Users that have come or gone since the last [`Self::take_changes`], and whether they were there then.
    changed: BTreeMap<Arc<str>, bool>,
    arrivals: u64,
    version: u64,
}

#[derive(Debug)]
struct Present {
    /// Its connections, the one that came last behind the others. Never empty: the last one stays during the grace.
    over: Vec<(Place, Arc<Person>)>,
    arrival: u64,
    since: Instant,
    until: Option<Instant>,
}

/// A user who is there.
#[derive(Clone, Debug)]
pub struct Here {
    /// The user, over the connection that came last.
    pub person: Arc<Person>,
    /// Since when, also over other connections.
    pub since: Instant,
    /// The connections; none during the grace.
    pub places: Vec<Place>,
}

impl People {
    /// A connection has come. O(connections of its user).
    pub fn came(&mut self, now: Instant, place: Place, person: Person) {
        self.forget(place);
        let (user, person) = (person.user_id.clone(), Arc::new(person));
        self.places.insert(place, user.clone());
        self.version += 1;
        if let Some(present) = self.users.get_mut(&user) {
            if let Some(until) = present.until.take() {
                self.graces.remove(&(until, user));
                present.over.clear();
            }
            present.over.push((place, person));
            return;
        }
        self.arrivals += 1;
        let present = Present {
            over: vec![(place, person)],
            arrival: self.arrivals,
            since: now,
            until: None,
        };
        self.users.insert(user.clone(), present);
        self.changed.entry(user).or_insert(false);
    }

    /// A connection has gone. O(connections of its user).
    pub fn went(&mut self, now: Instant, place: Place, departure: Departure) {
        let Some(user) = self.places.get(&place).cloned() else {
            return;
        };
        if let Some(present) = self.users.get_mut(&user)
            && departure == Departure::Lost
            && let [(_, person)] = &*present.over
            && !person.is_guest
        {
            let until = now + GRACE;
            present.until = Some(until);
            self.places.remove(&place);
            self.graces.insert((until, user));
            return;
        }
        self.forget(place);
    }

    fn forget(&mut self, place: Place) {
        let Some(user) = self.places.remove(&place) else {
            return;
        };
        self.version += 1;
        if let Some(present) = self.users.get_mut(&user) {
            present.over.retain(|(other, _)| *other != place);
            if present.over.is_empty() {
                self.remove(&user);
            }
        }
    }

    fn remove(&mut self, user: &Arc<str>) {
        if self.users.remove(user).is_some() {
            self.version += 1;
            self.changed.entry(user.clone()).or_insert(true);
        }
    }

    /// Those whose grace is over have gone.
    pub fn expire(&mut self, now: Instant) {
        while let Some((until, user)) = self.graces.first().cloned()
            && until <= now
        {
            self.graces.pop_first();
            self.remove(&user);
        }
    }

    /// When the next grace is over.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.graces.first().map(|(until, _)| *until)
    }

    /// Everybody once, with the connection that came last, the earliest first. O(users · log).
    pub fn list(&self) -> Vec<&Person> {
        let mut present: Vec<_> = self.users.values().collect();
        present.sort_unstable_by_key(|present| present.arrival);
        let shown = present.into_iter().filter_map(Present::shown);
        shown.map(|person| &**person).collect()
    }

    /// Everybody once, the earliest first. O(connections · log).
    pub fn here(&self) -> Vec<Here> {
        let mut present: Vec<_> = self.users.values().collect();
        present.sort_unstable_by_key(|present| present.arrival);
        let here = present.into_iter().filter_map(|present| {
            let is_open = |(place, _): &&(Place, Arc<Person>)| self.places.contains_key(place);
            Some(Here {
                person: present.shown()?.clone(),
                since: present.since,
                places: present
                    .over
                    .iter()
                    .filter(is_open)
                    .map(|(place, _)| *place)
                    .collect(),
            })
        });
        here.collect()
    }

    /// Who has come and gone since this was last asked; whoever has done both is not among them. O(changes).
    pub fn take_changes(&mut self) -> Changes {
        let mut changes = Changes::default();
        for (user, was_there) in std::mem::take(&mut self.changed) {
            match (was_there, self.users.get(&user).and_then(Present::shown)) {
                (false, Some(person)) => changes.joined.push(person.clone()),
                (true, None) => changes.left.push(user),
                (false, None) | (true, Some(_)) => {}
            }
        }
        changes
    }

    /// Whether somebody has come or gone since the changes were last taken.
    pub fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Grows with whatever changes the list.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Who is there over a connection. O(connections of its user).
    pub fn at(&self, place: Place) -> Option<&Arc<Person>> {
        let present = self.users.get(self.places.get(&place)?)?;
        let found = present.over.iter().find(|(over, _)| *over == place);
        found.map(|(_, person)| person)
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether nobody is there.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }
}

impl Present {
    fn shown(&self) -> Option<&Arc<Person>> {
        self.over.last().map(|(_, person)| person)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::events) fn person(user: &str, socket: &str) -> Person {
        Person {
            user_id: user.into(),
            socket_id: socket.into(),
            name: None,
            avatar_url: None,
            is_guest: user.starts_with("guest:"),
        }
    }

    fn ids(people: &People) -> Vec<(&str, &str)> {
        let list = people.list().into_iter();
        list.map(|person| (&*person.user_id, &*person.socket_id))
            .collect()
    }

    fn taken(people: &mut People) -> (Vec<String>, Vec<String>) {
        let Changes { joined, left } = people.take_changes();
        let joined = joined.iter().map(|person| person.user_id.to_string());
        (joined.collect(), left.iter().map(ToString::to_string).collect())
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_user_is_there_for_as_long_as_one_of_its_connections_is() {
        let (mut people, now) = (People::default(), crate::events::ticker::now());
        people.came(now, Place::Seat(1), person("ada", "s1"));
        people.came(now, Place::Seat(2), person("ben", "s2"));
        people.came(now, Place::Socket(SocketId(1)), person("ada", "s3"));
        assert_eq!(
            ids(&people),
            [("ada", "s3"), ("ben", "s2")],
            "the connection that came last, in the order of the users"
        );
        assert_eq!(taken(&mut people), (names(&["ada", "ben"]), vec![]));
        people.went(now, Place::Socket(SocketId(1)), Departure::Lost);
        assert_eq!(ids(&people), [("ada", "s1"), ("ben", "s2")]);
        people.went(now, Place::Seat(1), Departure::Clean);
        people.went(now, Place::Seat(1), Departure::Clean);
        assert_eq!(ids(&people), [("ben", "s2")], "who leaves is gone at once");
        assert_eq!(taken(&mut people), (vec![], names(&["ada"])));
        assert_eq!(people.next_deadline(), None);
    }

    #[test]
    fn whoever_loses_a_connection_has_a_moment_to_come_back() {
        let (mut people, now) = (People::default(), crate::events::ticker::now());
        people.came(now, Place::Seat(1), person("ada", "s1"));
        people.came(now, Place::Seat(2), person("ben", "s2"));
        people.came(now, Place::Seat(3), person("guest:s3", "s3"));
        taken(&mut people);
        for place in 1..=3 {
            people.went(now, Place::Seat(place), Departure::Lost);
        }
        assert_eq!(
            ids(&people),
            [("ada", "s1"), ("ben", "s2")],
            "guests do not come back"
        );
        assert_eq!(people.next_deadline(), Some(now + GRACE));
        people.came(now, Place::Seat(4), person("ada", "s4"));
        people.expire(now + GRACE);
        assert_eq!(ids(&people), [("ada", "s4")]);
        assert_eq!(taken(&mut people), (vec![], names(&["ben", "guest:s3"])));
        people.expire(now + GRACE * 2);
        people.went(now, Place::Seat(4), Departure::Clean);
        assert!(people.is_empty() && people.places.is_empty() && people.graces.is_empty());
    }

    #[test]
    fn whoever_has_come_and_gone_meanwhile_is_no_change() {
        let (mut people, now) = (People::default(), crate::events::ticker::now());
        people.came(now, Place::Seat(1), person("ada", "s1"));
        people.went(now, Place::Seat(1), Departure::Clean);
        assert!(people.has_changes());
        assert_eq!(taken(&mut people), (vec![], vec![]));
        people.came(now, Place::Seat(1), person("ada", "s1"));
        taken(&mut people);
        people.went(now, Place::Seat(1), Departure::Clean);
        people.came(now, Place::Seat(2), person("ada", "s2"));
        assert_eq!(taken(&mut people), (vec![], vec![]));
    }
}
