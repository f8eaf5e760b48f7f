//! Who is typing at a page. Pure: time is an argument.
//!
//! Typing ends with `typing_stop`, with the connection, and by itself when it is not renewed. What has changed is told at most once in a
//! window: to programs that name pages by their id `user_typing` and `user_stopped_typing {pageId, userId}` for each, to the others
//! `typing_updated {pageId, users:[{userId, name}], count}`. No more than some are named at a time, those who began first; the others take
//! the places that become free.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_json::json;

use super::{
    event_text,
    people::Person,
    viewers::Letters,
    watchers::{Form, Source, Watchers},
};

/// How long somebody is typing who does not say so again.
pub const TYPING_TIME: Duration = Duration::from_secs(5);
/// Shortest time between two tellings.
const WINDOW: Duration = Duration::from_millis(250);
/// Connections that type at one page, at most.
const MAX_SOURCES: usize = 5000;

/// Who is typing at one page.
#[derive(Debug, Default)]
pub struct Typing {
    users: BTreeMap<Arc<str>, Typist>,
    /// The users in the order in which they began.
    order: BTreeMap<u64, Arc<str>>,
    sources: BTreeMap<Source, (Arc<str>, Instant)>,
    ends: BTreeSet<(Instant, Source)>,
    /// Sources that have begun or ended since that was last asked.
    changed: BTreeSet<Source>,
    begun: u64,
    /// Those who are named, as last told, and how many there were.
    named: Vec<Arc<str>>,
    count: usize,
    has_changed: bool,
    from: Option<Instant>,
}

#[derive(Debug)]
struct Typist {
    person: Arc<Person>,
    began: u64,
    sources: usize,
}

impl Typing {
    /// Somebody types, or goes on typing. O(log).
    pub fn start(&mut self, now: Instant, source: Source, person: &Arc<Person>) {
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&source) {
            return;
        }
        let until = now + TYPING_TIME;
        let before = self.sources.insert(source, (person.user_id.clone(), until));
        self.ends.insert((until, source));
        if before.is_none() {
            self.changed.insert(source);
        }
        if let Some((user, until)) = before {
            if until != now + TYPING_TIME {
                self.ends.remove(&(until, source));
            }
            if user == person.user_id {
                return;
            }
            self.release(&user);
        }
        let begun = self.begun;
        let typist = self
            .users
            .entry(person.user_id.clone())
            .or_insert_with(|| Typist {
                person: person.clone(),
                began: begun,
                sources: 0,
            });
        typist.sources += 1;
        if typist.sources == 1 {
            self.order.insert(begun, person.user_id.clone());
            self.begun += 1;
            self.has_changed = true;
        }
    }

    /// Somebody does not type any more. O(log).
    pub fn stop(&mut self, source: Source) {
        if let Some((user, until)) = self.sources.remove(&source) {
            self.ends.remove(&(until, source));
            self.changed.insert(source);
            self.release(&user);
        }
    }

    /// The sources that have begun or ended, with whether they type now.
    pub fn take_changed(&mut self) -> Vec<(Source, bool)> {
        let changed = std::mem::take(&mut self.changed);
        let changed = changed.into_iter();
        changed
            .map(|source| (source, self.sources.contains_key(&source)))
            .collect()
    }

    fn release(&mut self, user: &Arc<str>) {
        if let Some(typist) = self.users.get_mut(user) {
            typist.sources -= 1;
            if typist.sources == 0 {
                self.order.remove(&typist.began);
                self.users.remove(user);
                self.has_changed = true;
            }
        }
    }

    /// Whether a user types.
    pub fn types(&self, user: &str) -> bool {
        self.users.contains_key(user)
    }

    /// When there will be something to tell, or somebody has not renewed it. O(1).
    pub fn next_deadline(&self) -> Option<Instant> {
        let told = self.has_changed.then_some(self.from).flatten();
        let ends = self.ends.first().map(|(until, _)| *until);
        [told, ends].into_iter().flatten().min()
    }

    /// Whether nobody types and everybody knows.
    pub fn is_idle(&self) -> bool {
        self.users.is_empty() && !self.has_changed
    }

    /// Tells what has changed, if it is time to. O(watchers · changes among the named).
    pub fn tell(
        &mut self,
        now: Instant,
        page: &str,
        max_named: usize,
        watchers: &Watchers,
        told: &mut Letters,
    ) {
        while let Some((until, source)) = self.ends.first().copied()
            && until <= now
        {
            self.stop(source);
        }
        if !self.has_changed || self.from.is_some_and(|from| now < from) {
            return;
        }
        self.has_changed = false;
        let named: Vec<_> = self.order.values().take(max_named).cloned().collect();
        if named == self.named && self.count == self.users.len() {
            return;
        }
        let before = std::mem::replace(&mut self.named, named);
        self.count = self.users.len();
        self.from = Some(now + WINDOW);
        let stopped = before.iter().filter(|user| !self.named.contains(user));
        let began = self.named.iter().filter(|user| !before.contains(user));
        let stopped = stopped.map(|user| (user, event(page, "user_stopped_typing", user)));
        let began = began.map(|user| (user, event(page, "user_typing", user)));
        let each: Vec<_> = stopped.chain(began).collect();
        let all = self.all(page);
        for (socket, watcher) in watchers.iter() {
            match watcher.form() {
                Form::Sets => told.push((socket, all.clone())),
                // A program that is told of its own user would show it to that user.
                Form::Each => {
                    let others = each.iter().filter(|(user, _)| **user != watcher.person.user_id);
                    told.extend(others.map(|(_, text)| (socket, text.clone())));
                }
            }
        }
    }

    /// What somebody has to hear who has just come.
    pub fn introduction(&self, page: &str, form: Form) -> Vec<Bytes> {
        match form {
            _ if self.named.is_empty() => Vec::new(),
            Form::Sets => vec![self.all(page)],
            Form::Each => self
                .named
                .iter()
                .map(|user| event(page, "user_typing", user))
                .collect(),
        }
    }

    fn all(&self, page: &str) -> Bytes {
        let named = self.named.iter().filter_map(|user| self.users.get(user));
        let users: Vec<_> = named
            .map(|typist| json!({ "userId": typist.person.user_id, "name": typist.person.name }))
            .collect();
        let body = json!({ "pageId": page, "users": users, "count": self.count });
        event_text("typing_updated", &body)
    }
}

fn event(page: &str, name: &str, user: &str) -> Bytes {
    event_text(name, &json!({ "pageId": page, "userId": user }))
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;
    use crate::events::{SocketId, people::tests::person, watchers::tests::both};

    struct Stage {
        typing: Typing,
        watchers: Watchers,
        now: Instant,
    }

    /// Watcher 0 hears each, watcher 1 sets; both are users that do not type.
    fn stage() -> Stage {
        Stage {
            typing: Typing::default(),
            watchers: both(),
            now: crate::events::ticker::now(),
        }
    }

    fn socket(number: u64) -> Source {
        Source::Socket(SocketId(number))
    }

    impl Stage {
        fn types(&mut self, number: u64, user: &str) {
            let person = Arc::new(person(user, &number.to_string()));
            self.typing.start(self.now, socket(number), &person);
        }

        fn told(&mut self) -> Vec<(u64, String, Json)> {
            let mut told = Letters::new();
            self.typing.tell(self.now, "p", 20, &self.watchers, &mut told);
            let told = told.into_iter().map(|(to, text)| {
                let (name, body): (String, Json) = serde_json::from_slice(&text[2..]).expect("an event");
                assert_eq!(body["pageId"], "p");
                (to.0, name, body)
            });
            told.collect()
        }

        /// What is told now: the events for each, and the ids and the count of the sets.
        fn hears(&mut self) -> (Vec<(String, String)>, Named) {
            let text = |value: &Json| value.as_str().expect("a text").to_owned();
            let (mut each, mut set) = (Vec::new(), None);
            for (to, name, body) in self.told() {
                if to == 0 {
                    each.push((name, text(&body["userId"])));
                } else {
                    let users = body["users"].as_array().expect("a list").iter();
                    let users = users.map(|user| text(&user["userId"])).collect();
                    set = Some((users, body["count"].as_u64().expect("a count")));
                }
            }
            (each, set)
        }

        fn passes(&mut self, millis: u64) {
            self.now += Duration::from_millis(millis);
        }
    }

    /// The users that are named, and how many there are.
    type Named = Option<(Vec<String>, u64)>;

    fn each(events: &[(&str, &str)]) -> Vec<(String, String)> {
        events
            .iter()
            .map(|(name, user)| ((*name).to_owned(), (*user).to_owned()))
            .collect()
    }

    fn set(users: &[&str], count: u64) -> Named {
        Some((users.iter().map(|user| (*user).to_owned()).collect(), count))
    }

    #[test]
    fn beginnings_and_ends_are_told_at_once_after_a_quiet_time_and_then_so_often() {
        let mut stage = stage();
        stage.types(7, "ada");
        assert_eq!(stage.hears(), (each(&[("user_typing", "ada")]), set(&["ada"], 1)));
        stage.passes(100);
        stage.types(7, "ada");
        assert_eq!(stage.told(), [], "it goes on");
        stage.types(8, "ben");
        assert_eq!(stage.told(), []);
        assert_eq!(
            stage.typing.next_deadline(),
            Some(stage.now + Duration::from_millis(150))
        );
        stage.typing.stop(socket(7));
        stage.passes(150);
        assert_eq!(
            stage.hears(),
            (
                each(&[("user_stopped_typing", "ada"), ("user_typing", "ben")]),
                set(&["ben"], 1)
            )
        );
        stage.passes(50);
        stage.typing.stop(socket(8));
        stage.types(8, "ben");
        stage.passes(1000);
        assert_eq!(stage.told(), [], "nothing has changed");
    }

    #[test]
    fn typing_ends_by_itself_and_only_with_the_last_connection() {
        let mut stage = stage();
        stage.types(7, "ada");
        stage.types(8, "ada");
        stage.hears();
        stage.typing.stop(socket(7));
        stage.passes(4000);
        assert_eq!(stage.told(), []);
        stage.types(8, "ada");
        stage.passes(4999);
        assert_eq!(stage.told(), [], "it was renewed");
        assert_eq!(
            stage.typing.next_deadline(),
            Some(stage.now + Duration::from_millis(1))
        );
        stage.passes(1);
        assert_eq!(
            stage.hears(),
            (each(&[("user_stopped_typing", "ada")]), set(&[], 0))
        );
        assert!(stage.typing.is_idle() && stage.typing.sources.is_empty() && stage.typing.ends.is_empty());
        assert_eq!(stage.typing.next_deadline(), None);
    }

    #[test]
    fn so_many_are_named_and_the_next_takes_the_place_of_one_who_ends() {
        let mut stage = stage();
        for number in 10..40 {
            stage.types(number, &format!("u{number}"));
        }
        let (heard, named) = stage.hears();
        assert_eq!(heard.len(), 20);
        let (named, count) = named.expect("a set");
        assert_eq!(
            (named.len(), named.last().map(String::as_str), count),
            (20, Some("u29"), 30)
        );
        stage.passes(250);
        stage.typing.stop(socket(11));
        stage.typing.stop(socket(39));
        assert_eq!(
            stage.hears().0,
            each(&[("user_stopped_typing", "u11"), ("user_typing", "u30")])
        );
        stage.passes(250);
        stage.typing.stop(socket(38));
        let (heard, named) = stage.hears();
        assert_eq!((heard, named.map(|(_, count)| count)), (vec![], Some(27)));
    }

    #[test]
    fn nobody_hears_of_itself_and_newcomers_hear_who_types() {
        let mut stage = stage();
        stage.types(0, "one");
        let told = stage.told();
        assert_eq!(told.iter().map(|(to, ..)| *to).collect::<Vec<_>>(), [1]);
        for form in [Form::Each, Form::Sets] {
            let introduction = stage.typing.introduction("p", form);
            assert_eq!(introduction.len(), 1);
            assert!(String::from_utf8_lossy(&introduction[0]).contains("one"));
        }
    }

    /// A thousand users type for ten seconds, each renewing it twice a second and stopping now and then.
    #[test]
    fn what_a_listener_hears_does_not_grow_with_the_crowd() {
        let mut stage = stage();
        let (mut each, mut sets) = ((0, 0), (0, 0));
        for step in 0..1000_u64 {
            for number in 10..1010 {
                if (number + step) % 50 == 0 {
                    stage.types(number, &format!("cl{number:022}"));
                } else if (number * 7 + step) % 211 == 0 {
                    stage.typing.stop(socket(number));
                }
            }
            let mut told = Letters::new();
            stage.typing.tell(stage.now, "p", 20, &stage.watchers, &mut told);
            for (to, text) in told {
                let heard = if to == SocketId(0) { &mut each } else { &mut sets };
                *heard = (heard.0 + 1, heard.1 + text.len());
            }
            stage.passes(10);
        }
        assert!(sets.0 <= 41, "{sets:?}");
        assert!(sets.1 <= 41 * 2048, "{sets:?}");
        assert!(each.0 <= 41 * 40 && each.1 < 16 * 1024 * 10, "{each:?}");
    }
}
