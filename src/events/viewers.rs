//! Who looks at a page, as those at the page hear of it. Pure: time is an argument.
//!
//! Programs that name pages by their id alone hear whole lists: `viewers_updated {pageId, viewers:[userId]}` and
//! `presence:page_viewers {pageId, viewers:[{userId, socketId, name, avatarUrl}]}`, the less often the longer the lists are. Programs that
//! name pages in an object hear `viewers_changed {pageId, joined:[…], left:[userId], count}`, at first with those who are there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_json::json;

use super::{
    SocketId, event_text,
    people::{People, Person},
};

/// Shortest time between two lists. The first one after a quiet time leaves at once.
pub(super) const MIN_LIST_WINDOW: Duration = Duration::from_millis(50);
/// Bytes a second that lists take of what one listener hears, at most.
const LIST_BYTES_PER_SECOND: usize = 40 * 1024;
/// Shortest time between two changes.
const CHANGE_WINDOW: Duration = Duration::from_millis(100);
/// Those who are named to a newcomer that hears changes, at most: the answer to its coming has the ids of all.
const MAX_INTRODUCED: usize = 100;

/// What a socket hears of the viewers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listening {
    /// The list of ids.
    pub ids: bool,
    /// The list of people.
    pub people: bool,
    /// Who comes and goes.
    pub changes: bool,
}

impl Listening {
    /// Nothing.
    pub const NOTHING: Self = Self {
        ids: false,
        people: false,
        changes: false,
    };

    fn hears_lists(self) -> bool {
        self.ids || self.people
    }
}

/// The viewers of one page.
pub struct Viewers {
    page: Arc<str>,
    people: People,
    listeners: BTreeMap<SocketId, Listening>,
    /// Listeners to lists that have heard none, and listeners to changes that do not know who is there.
    new_to_lists: BTreeSet<SocketId>,
    new_to_changes: BTreeSet<SocketId>,
    lists: Option<Lists>,
    /// When the next lists and the next changes may be told.
    lists_from: Option<Instant>,
    changes_from: Option<Instant>,
}

/// The lists as they were last told.
struct Lists {
    version: u64,
    ids: Bytes,
    people: Bytes,
}

/// The event that tells a list of people.
fn people_text(page: &str, people: &[&Person]) -> Bytes {
    event_text(
        "presence:page_viewers",
        &json!({ "pageId": page, "viewers": people }),
    )
}

/// How long nothing may be told behind lists of so many bytes.
pub(super) fn list_window(bytes: usize) -> Duration {
    let millis = (bytes * 1000).div_ceil(LIST_BYTES_PER_SECOND);
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// Events on their way to sockets.
pub type Letters = Vec<(SocketId, Bytes)>;

impl Viewers {
    /// Nobody yet.
    pub fn new(page: &str) -> Self {
        Self {
            page: page.into(),
            people: People::default(),
            listeners: BTreeMap::new(),
            new_to_lists: BTreeSet::new(),
            new_to_changes: BTreeSet::new(),
            lists: None,
            lists_from: None,
            changes_from: None,
        }
    }

    /// The people, to note who comes and goes.
    pub fn people(&mut self) -> &mut People {
        &mut self.people
    }

    /// Says what a socket hears from now on.
    pub fn listen(&mut self, socket: SocketId, listening: Listening) {
        let before = match listening {
            Listening::NOTHING => self.listeners.remove(&socket),
            listening => self.listeners.insert(socket, listening),
        };
        let before = before.unwrap_or_default();
        let is_more = (listening.ids && !before.ids) || (listening.people && !before.people);
        set(&mut self.new_to_lists, socket, listening.hears_lists(), is_more);
        let is_more = listening.changes && !before.changes;
        set(&mut self.new_to_changes, socket, listening.changes, is_more);
    }

    /// Grows with whatever changes the lists.
    pub(super) fn version(&self) -> u64 {
        self.people.version()
    }

    /// The list of people as it is now, and the sockets that hear it here.
    pub(super) fn people_list(&self) -> (Bytes, BTreeSet<SocketId>) {
        let hear = self.listeners.iter().filter(|(_, listening)| listening.people);
        let text = people_text(&self.page, &self.people.list());
        (text, hear.map(|(socket, _)| *socket).collect())
    }

    /// Whether nobody is there and nobody listens.
    pub fn is_idle(&self) -> bool {
        self.people.is_empty() && self.listeners.is_empty()
    }

    /// When there will be something to tell, or somebody's grace is over. O(1).
    pub fn next_deadline(&self) -> Option<Instant> {
        let lists = self.wants_lists().then_some(self.lists_from).flatten();
        let changes = self.people.has_changes().then_some(self.changes_from).flatten();
        let grace = self.people.next_deadline();
        [lists, changes, grace].into_iter().flatten().min()
    }

    fn wants_lists(&self) -> bool {
        let told = self.lists.as_ref().map(|lists| lists.version);
        !self.new_to_lists.is_empty() || (told.is_some() && told != Some(self.people.version()))
    }

    /// Tells what is due. O(listeners + viewers) when a list is, O(listeners + changes) when changes are.
    pub fn tell(&mut self, now: Instant, told: &mut Letters) {
        self.people.expire(now);
        self.tell_newcomers(told);
        if self.people.has_changes() && self.changes_from.is_none_or(|from| from <= now) {
            self.tell_changes(now, told);
        }
        if self.wants_lists() && self.lists_from.is_none_or(|from| from <= now) {
            self.tell_lists(now, told);
        }
    }

    fn tell_newcomers(&mut self, told: &mut Letters) {
        if self.new_to_changes.is_empty() {
            return;
        }
        let list = self.people.list();
        let joined: Vec<_> = list.iter().take(MAX_INTRODUCED).collect();
        let left: [&str; 0] = [];
        let body = json!({ "pageId": self.page, "joined": joined, "left": left, "count": list.len() });
        let text = event_text("viewers_changed", &body);
        for socket in std::mem::take(&mut self.new_to_changes) {
            told.push((socket, text.clone()));
        }
    }

    fn tell_changes(&mut self, now: Instant, told: &mut Letters) {
        let changes = self.people.take_changes();
        let is_heard = self.listeners.values().any(|listening| listening.changes);
        if !is_heard || (changes.joined.is_empty() && changes.left.is_empty()) {
            return;
        }
        self.changes_from = Some(now + CHANGE_WINDOW);
        let joined: Vec<_> = changes.joined.iter().map(|person| &**person).collect();
        let body = json!({
            "pageId": self.page,
            "joined": joined,
            "left": changes.left,
            "count": self.people.len(),
        });
        let text = event_text("viewers_changed", &body);
        for (socket, _) in self.listeners.iter().filter(|(_, listening)| listening.changes) {
            told.push((*socket, text.clone()));
        }
    }

    fn tell_lists(&mut self, now: Instant, told: &mut Letters) {
        if !self.listeners.values().any(|listening| listening.hears_lists()) {
            self.lists = None;
            return;
        }
        let version = self.people.version();
        let people = self.people.list();
        let ids: Vec<_> = people.iter().map(|person| &*person.user_id).collect();
        let lists = Lists {
            version,
            ids: event_text("viewers_updated", &json!({ "pageId": self.page, "viewers": ids })),
            people: people_text(&self.page, &people),
        };
        let before = self.lists.as_ref();
        let has_changed = before.is_none_or(|before| before.people != lists.people);
        let newcomers = std::mem::take(&mut self.new_to_lists);
        let mut size = 0;
        for (socket, listening) in &self.listeners {
            if !has_changed && !newcomers.contains(socket) {
                continue;
            }
            for (hears, text) in [(listening.ids, &lists.ids), (listening.people, &lists.people)] {
                if hears {
                    size = lists.ids.len() + lists.people.len();
                    told.push((*socket, text.clone()));
                }
            }
        }
        self.lists = Some(lists);
        if size > 0 {
            self.lists_from = Some(now + list_window(size).max(MIN_LIST_WINDOW));
        }
    }
}

/// Keeps a socket in a set for as long as it listens, and puts it there when it listens to more than before.
fn set(sockets: &mut BTreeSet<SocketId>, socket: SocketId, listens: bool, is_more: bool) {
    if is_more {
        sockets.insert(socket);
    } else if !listens {
        sockets.remove(&socket);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;
    use crate::{
        events::people::{GRACE, Place, tests::person},
        rooms::Departure,
    };

    const LISTS: Listening = Listening {
        ids: true,
        people: true,
        changes: false,
    };
    const CHANGES: Listening = Listening {
        ids: false,
        people: false,
        changes: true,
    };

    struct Stage {
        viewers: Viewers,
        now: Instant,
    }

    impl Stage {
        fn new() -> Self {
            Self {
                viewers: Viewers::new("p"),
                now: crate::events::ticker::now(),
            }
        }

        fn comes(&mut self, number: u64, user: &str) {
            let socket = format!("s{number}");
            self.viewers
                .people()
                .came(self.now, Place::Seat(number), person(user, &socket));
        }

        fn goes(&mut self, number: u64, departure: Departure) {
            self.viewers
                .people()
                .went(self.now, Place::Seat(number), departure);
        }

        fn told(&mut self) -> Letters {
            let mut told = Letters::new();
            self.viewers.tell(self.now, &mut told);
            told
        }

        /// What one socket is told now, without the name of the page.
        fn hears(&mut self, socket: u64) -> Vec<(String, Json)> {
            let told = self.told().into_iter().filter(|(to, _)| *to == SocketId(socket));
            told.map(|(_, text)| {
                let event: (String, Json) = serde_json::from_slice(&text[2..]).expect("an event");
                assert_eq!(event.1["pageId"], "p");
                event
            })
            .collect()
        }

        fn passes(&mut self, millis: u64) {
            self.now += Duration::from_millis(millis);
        }
    }

    fn joined(event: &(String, Json)) -> Vec<&str> {
        assert_eq!(event.0, "viewers_changed");
        let joined = event.1["joined"].as_array().expect("a list").iter();
        joined
            .map(|person| person["userId"].as_str().expect("an id"))
            .collect()
    }

    #[test]
    fn lists_are_told_at_once_while_they_are_short_and_not_without_a_change() {
        let mut stage = Stage::new();
        stage.comes(1, "ada");
        stage.viewers.listen(SocketId(1), LISTS);
        let heard = stage.hears(1);
        assert_eq!(
            (heard[0].0.as_str(), &heard[0].1["viewers"]),
            ("viewers_updated", &json!(["ada"]))
        );
        assert_eq!(
            (heard[1].0.as_str(), &heard[1].1["viewers"]),
            (
                "presence:page_viewers",
                &json!([{ "userId": "ada", "socketId": "s1", "name": null, "avatarUrl": null }])
            )
        );
        assert_eq!(heard.len(), 2);
        stage.comes(2, "ben");
        assert_eq!(stage.hears(1), [], "others have just come");
        assert_eq!(stage.viewers.next_deadline(), Some(stage.now + MIN_LIST_WINDOW));
        stage.passes(50);
        assert_eq!(stage.hears(1)[0].1["viewers"], json!(["ada", "ben"]));
        stage.passes(1000);
        stage.comes(3, "cleo");
        stage.goes(3, Departure::Clean);
        assert_eq!(stage.hears(1), [], "nothing has changed");
        assert_eq!(stage.viewers.next_deadline(), None);
        stage.viewers.listen(
            SocketId(2),
            Listening {
                people: true,
                ..Listening::NOTHING
            },
        );
        let told = stage.told();
        assert_eq!(told.len(), 1, "a newcomer alone is told, of the people alone");
        assert_eq!(told[0].0, SocketId(2));
    }

    #[test]
    fn a_lost_connection_is_told_after_its_grace_and_a_leave_at_once() {
        let mut stage = Stage::new();
        stage.viewers.listen(SocketId(9), LISTS);
        stage.viewers.listen(SocketId(8), CHANGES);
        stage.comes(1, "ada");
        stage.comes(2, "ben");
        stage.told();
        stage.passes(1000);
        stage.goes(1, Departure::Lost);
        stage.goes(2, Departure::Clean);
        let told = stage.told();
        assert!(told.iter().all(|(_, text)| !text.is_empty()) && told.len() == 3);
        let left: Vec<_> = told.iter().filter(|(to, _)| *to == SocketId(8)).collect();
        assert!(String::from_utf8_lossy(&left[0].1).contains(r#""left":["ben"]"#));
        assert_eq!(stage.viewers.next_deadline(), Some(stage.now + GRACE));
        stage.passes(2999);
        assert_eq!(stage.told(), []);
        stage.passes(1);
        assert_eq!(stage.hears(9)[0].1["viewers"], json!([]));
        stage.viewers.listen(SocketId(9), Listening::NOTHING);
        stage.viewers.listen(SocketId(8), Listening::NOTHING);
        assert!(stage.viewers.is_idle());
    }

    #[test]
    fn changes_name_who_is_there_to_a_newcomer_and_who_comes_to_the_others() {
        let mut stage = Stage::new();
        stage.comes(1, "ada");
        stage.viewers.listen(SocketId(1), CHANGES);
        assert_eq!(joined(&stage.hears(1)[0]), ["ada"]);
        stage.passes(100);
        stage.hears(1);
        stage.comes(2, "ben");
        stage.viewers.listen(SocketId(2), CHANGES);
        let told = stage.told();
        let text = |socket| {
            let told = told
                .iter()
                .find(|(to, _)| *to == SocketId(socket))
                .expect("it is told");
            serde_json::from_slice::<(String, Json)>(&told.1[2..]).expect("an event")
        };
        assert_eq!(joined(&text(1)), ["ben"]);
        assert_eq!(text(1).1["count"], 2);
        assert_eq!(joined(&text(2)), ["ada", "ben"]);
        stage.comes(3, "ben");
        stage.passes(100);
        assert_eq!(stage.told(), [], "a second window of a user that is there");
    }

    /// A thousand users come within ten seconds, and each hears all the others: what one listener hears a second stays under 48 KiB in
    /// lists, and at ten events a second and 200 bytes for each user in changes.
    #[test]
    fn a_thousand_cost_each_listener_so_much_and_no_more() {
        let mut stage = Stage::new();
        stage.viewers.listen(SocketId(0), LISTS);
        stage.viewers.listen(SocketId(1), CHANGES);
        stage.told();
        let (mut lists, mut changes, mut events) = (vec![0; 60], 0, vec![0; 60]);
        for millis in 0..60_000_u64 {
            if millis % 10 == 0 && millis < 10_000 {
                stage.comes(millis, &format!("cl{millis:022}"));
            }
            for (to, text) in stage.told() {
                let second = usize::try_from(millis / 1000).expect("a small number");
                if to == SocketId(0) {
                    lists[second] += text.len();
                } else {
                    changes += text.len();
                    events[second] += 1;
                }
            }
            stage.passes(1);
        }
        assert!(changes <= 200 * 1000, "{changes} bytes of changes");
        assert!(events.iter().all(|count| *count <= 10), "{events:?}");
        // A list that is longer than what may be told in a second is followed by a pause that makes up for it.
        for first in 0..lists.len() {
            for last in first..lists.len() {
                let told: usize = lists[first..=last].iter().sum();
                let one = 130 * 1024 + 40 * 1024;
                let most = 48 * 1024 * (last - first + 1) + one;
                assert!(told < most, "{told} bytes in seconds {first} to {last}");
            }
        }
        let all: usize = lists.iter().sum();
        assert!(all < 48 * 1024 * 20, "{all} bytes in all");
        assert_eq!(stage.viewers.people.len(), 1000);
        assert_eq!(stage.viewers.next_deadline(), None, "everybody knows everything");
    }
}
