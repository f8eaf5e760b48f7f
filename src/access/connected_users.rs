//! Where users are: the seats and sockets that they hold, user by user (pure).

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    auth::Identity,
    rooms::{Role, RoomName},
};

/// Something that a user holds: who it is, in which room, and what it may do there. A socket is in none.
type Held<'a> = (&'a Identity, Option<&'a RoomName>, Role);

/// Where a user is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectedUser {
    /// The user.
    pub user: Arc<str>,
    /// The user's name, where a token says it.
    pub name: Option<String>,
    /// Sockets that hear events, whether they are in a room or not.
    pub sockets: usize,
    /// The rooms, with how many seats the user has there and the most that these allow.
    pub rooms: BTreeMap<RoomName, (usize, Role)>,
}

impl ConnectedUser {
    fn new(user: &Arc<str>) -> Self {
        Self {
            user: user.clone(),
            name: None,
            sockets: 0,
            rooms: BTreeMap::new(),
        }
    }

    fn add(&mut self, (identity, room, role): Held<'_>) {
        if self.name.is_none() {
            self.name.clone_from(&identity.profile.name);
        }
        let Some(room) = room else {
            self.sockets += 1;
            return;
        };
        match self.rooms.get_mut(room) {
            Some((seats, most)) => (*seats, *most) = (*seats + 1, (*most).max(role)),
            None => {
                self.rooms.insert(room.clone(), (1, role));
            }
        }
    }

    /// Users in the order of their ids, those behind `after`, at most so many. O(held), whoever is asked for.
    pub(super) fn list<'a>(
        held: impl Iterator<Item = Held<'a>>,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<Self> {
        let mut found = BTreeMap::<&Arc<str>, Self>::new();
        for held in held {
            let Some(user) = &held.0.user else { continue };
            let is_wanted = after.is_none_or(|after| user.as_ref() > after);
            let is_early =
                found.len() < limit || found.last_key_value().is_some_and(|(last, _)| user <= *last);
            if is_wanted && is_early {
                found.entry(user).or_insert_with(|| Self::new(user)).add(held);
                if found.len() > limit {
                    found.pop_last();
                }
            }
        }
        found.into_values().collect()
    }

    /// One user, if it is connected. O(held).
    pub(super) fn find<'a>(held: impl Iterator<Item = Held<'a>>, user: &str) -> Option<Self> {
        let mut found = None;
        for held in held {
            if let Some(of) = held.0.user.as_ref().filter(|of| of.as_ref() == user) {
                found.get_or_insert_with(|| Self::new(of)).add(held);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn users_are_found_in_order_with_all_their_places_and_guests_are_nobody() {
        let identity = |user: &str| Identity::user(user, SystemTime::UNIX_EPOCH).expect("a user");
        let [ada, bob, eve, zoe] = ["ada", "bob", "eve", "zoe"].map(identity);
        let guest = Identity::guest(SystemTime::UNIX_EPOCH);
        let room = |page: &str| RoomName::page(page).expect("a room");
        let (a, b) = (room("a"), room("b"));
        let held = [
            (&eve, Some(&a), Role::View),
            (&eve, Some(&a), Role::Edit),
            (&eve, None, Role::View),
            (&guest, Some(&a), Role::Edit),
            (&bob, Some(&b), Role::View),
            (&ada, Some(&a), Role::View),
            (&zoe, Some(&a), Role::View),
            (&ada, Some(&b), Role::View),
        ];
        let names = |after, limit| -> Vec<String> {
            let found = ConnectedUser::list(held.into_iter(), after, limit).into_iter();
            found.map(|found| found.user.to_string()).collect()
        };
        assert_eq!(names(None, 2), ["ada", "bob"]);
        assert_eq!(names(Some("bob"), 2), ["eve", "zoe"]);
        assert_eq!(names(Some("zoe"), 2), [""; 0]);
        assert_eq!(names(None, 0), [""; 0]);
        let eve = ConnectedUser::find(held.into_iter(), "eve").expect("a user who is here");
        assert_eq!((eve.sockets, eve.rooms.len()), (1, 1));
        assert_eq!(eve.rooms.get(&a), Some(&(2, Role::Edit)));
        assert_eq!(ConnectedUser::list(held.into_iter(), Some("bob"), 1), [eve]);
        let ada = ConnectedUser::find(held.into_iter(), "ada").expect("a user who is here");
        assert_eq!(ada.rooms.len(), 2, "also of one that was found before others");
        assert_eq!(ConnectedUser::find(held.into_iter(), "nobody"), None);
    }
}
