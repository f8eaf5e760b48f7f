//! Where the cursors of a page are. Pure: time is an argument.
//!
//! Of a cursor the last place counts: what has moved is told in frames, at most twenty a second, each user once in a frame, and those that
//! wait longest first. Programs that name pages by their id hear `cursor_moved {pageId, userId, name, avatarUrl, color, cursor,
//! connectionId}` for each cursor, the others `cursors_moved {pageId, cursors:[{userId, name, color, cursor, connectionId}]}`; both hear
//! `cursor_left {pageId, userId, connectionId}`. What is told a second has a limit in bytes, so a crowd's cursors move in longer steps.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use serde::Serialize;
use serde_json::{json, value::RawValue};

use super::{
    SocketId, event_text,
    pace::Pace,
    people::Person,
    viewers::Letters,
    waiting::Waiting,
    watchers::{Form, Source, Watchers},
};

/// Largest cursor, in bytes of its JSON.
pub const MAX_CURSOR_BYTES: usize = 4 * 1024;
/// Cursors of one page, at most.
const MAX_CURSORS: usize = 5000;
/// What a newcomer hears of the cursors that are there: bytes, at most.
const MAX_INTRODUCTION_BYTES: usize = 16 * 1024;
/// Colours that can be told apart, on white and on black.
const COLORS: [&str; 12] = [
    "#d94f4f", "#d9822b", "#b08d00", "#6d9c2a", "#2e9e5b", "#1f9c95", "#2b8fd9", "#4f6bd9", "#7d5bd9",
    "#b04fc4", "#d94f96", "#9c6b4a",
];

/// The colour in which a user is shown, the same everywhere.
pub fn color(user: &str) -> &'static str {
    // FNV-1a.
    let hash = user.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let index = usize::try_from(hash % COLORS.len() as u64).unwrap_or_default();
    COLORS.get(index).copied().unwrap_or("#4f6bd9")
}

/// The cursors of one page.
#[derive(Debug, Default)]
pub struct Cursors {
    cursors: BTreeMap<Source, Cursor>,
    /// Those that have moved or gone.
    queue: Waiting<Source>,
    /// What one listener hears of them.
    pace: Pace,
}

/// Whose a cursor is.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The user.
    pub person: Arc<Person>,
    /// What the connection is called.
    pub connection: Arc<str>,
    /// The colour in which others see it.
    pub color: Arc<str>,
    /// The socket whose program knows it: it is told nothing of it.
    pub socket: Option<SocketId>,
}

#[derive(Debug)]
struct Cursor {
    owner: Owner,
    /// `None` when it has gone.
    place: Option<Arc<RawValue>>,
    /// Others have been told of it.
    is_told: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Moved<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    page_id: Option<&'a str>,
    user_id: &'a str,
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    avatar_url: Option<Option<&'a str>>,
    color: &'a str,
    cursor: &'a RawValue,
    connection_id: &'a str,
}

/// What a frame tells of one cursor.
enum Words {
    /// The event for each, and the entry of the set.
    Moved(Option<Bytes>, Option<Box<RawValue>>),
    Left(Bytes),
}

impl Cursors {
    /// A cursor is at a place now; the last one counts. O(log).
    pub fn moved(&mut self, source: Source, owner: Owner, place: Arc<RawValue>) {
        if self.cursors.len() >= MAX_CURSORS && !self.cursors.contains_key(&source) {
            return;
        }
        let cursor = self.cursors.entry(source).or_insert_with(|| Cursor {
            owner: owner.clone(),
            place: None,
            is_told: false,
        });
        let is_same = cursor
            .place
            .as_ref()
            .is_some_and(|before| before.get() == place.get());
        (cursor.owner, cursor.place) = (owner, Some(place));
        if !is_same {
            self.queue.add(source);
        }
    }

    /// A cursor has gone. O(log).
    pub fn left(&mut self, source: Source) {
        if let Some(cursor) = self.cursors.get_mut(&source) {
            cursor.place = None;
            if cursor.is_told {
                self.queue.add(source);
            } else {
                self.cursors.remove(&source);
                self.queue.remove(source);
            }
        }
    }

    /// Where the cursor of a user is, on the last of its connections. O(cursors).
    pub fn of(&self, user: &str) -> Option<Arc<RawValue>> {
        let mut own = (self.cursors.values()).filter(|cursor| &*cursor.owner.person.user_id == user);
        own.rfind(|cursor| cursor.place.is_some())?.place.clone()
    }

    /// When the next frame may be told, if something is to be. O(1).
    pub fn next_deadline(&self) -> Option<Instant> {
        self.pace.next().filter(|_| !self.queue.is_empty())
    }

    /// Whether there are none and everybody knows.
    pub fn is_idle(&self) -> bool {
        self.cursors.is_empty()
    }

    /// Tells a frame, if it is time for one. O(watchers · what is told).
    pub fn tell(&mut self, now: Instant, page: &str, watchers: &Watchers, told: &mut Letters) {
        if self.queue.is_empty() || !self.pace.is_time(now) {
            return;
        }
        let forms = (watchers.any(Form::Each), watchers.any(Form::Sets));
        let mut users: BTreeSet<Arc<str>> = BTreeSet::new();
        let (mut frame, mut last) = (Vec::new(), 0);
        while self.pace.has_room()
            && let Some((number, source)) = self.queue.after(last)
        {
            last = number;
            let Some(cursor) = self.cursors.get_mut(&source) else {
                continue;
            };
            let user = &cursor.owner.person.user_id;
            if cursor.place.is_some() && !users.insert(user.clone()) {
                // It goes on waiting where it does.
                continue;
            }
            self.queue.remove(source);
            let words = cursor.words(page, forms);
            let (size, own) = (words.as_ref().map_or(0, Words::size), cursor.owner.socket);
            if cursor.place.is_none() {
                self.cursors.remove(&source);
            }
            self.pace.spend(size);
            frame.extend(words.map(|words| (own, words)));
        }
        if !frame.is_empty() {
            self.pace.told(now);
            tell_frame(page, &frame, watchers, told);
        }
    }

    /// What somebody has to hear who has just come.
    pub fn introduction(&self, page: &str, form: Form) -> Vec<Bytes> {
        let shown = self.cursors.values().filter(|cursor| cursor.is_told);
        let forms = (form == Form::Each, form == Form::Sets);
        let (mut each, mut entries, mut size) = (Vec::new(), Vec::new(), 0);
        for cursor in shown {
            let Some(Words::Moved(event, entry)) = cursor.told_as(page, forms) else {
                continue;
            };
            size +=
                event.as_ref().map_or(0, Bytes::len) + entry.as_ref().map_or(0, |entry| entry.get().len());
            if size > MAX_INTRODUCTION_BYTES {
                break;
            }
            each.extend(event);
            entries.extend(entry);
        }
        if !entries.is_empty() {
            each.push(set(
                page,
                &entries.iter().map(|entry| &**entry).collect::<Vec<_>>(),
            ));
        }
        each
    }
}

impl Cursor {
    /// What is to be told of it; nothing when nobody has heard of one that has gone.
    fn words(&mut self, page: &str, forms: (bool, bool)) -> Option<Words> {
        if let Some(moved) = self.told_as(page, forms) {
            self.is_told = true;
            return Some(moved);
        }
        self.is_told.then(|| {
            let body = json!({
                "pageId": page,
                "userId": self.owner.person.user_id,
                "connectionId": self.owner.connection,
            });
            Words::Left(event_text("cursor_left", &body))
        })
    }

    fn told_as(&self, page: &str, (each, sets): (bool, bool)) -> Option<Words> {
        let Owner {
            person,
            connection,
            color,
            ..
        } = &self.owner;
        let moved = Moved {
            page_id: None,
            user_id: &person.user_id,
            name: person.name.as_deref(),
            avatar_url: None,
            color,
            cursor: self.place.as_deref()?,
            connection_id: connection,
        };
        let entry = sets
            .then(|| serde_json::value::to_raw_value(&moved).ok())
            .flatten();
        let event = each.then(|| {
            let moved = Moved {
                page_id: Some(page),
                avatar_url: Some(person.avatar_url.as_deref()),
                ..moved
            };
            event_text("cursor_moved", &moved)
        });
        Some(Words::Moved(event, entry))
    }
}

impl Words {
    fn size(&self) -> usize {
        match self {
            Self::Left(text) => text.len(),
            Self::Moved(event, entry) => {
                let entry = entry.as_ref().map_or(0, |entry| entry.get().len() + 1);
                event.as_ref().map_or(0, Bytes::len).max(entry)
            }
        }
    }
}

fn set(page: &str, entries: &[&RawValue]) -> Bytes {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Set<'a> {
        page_id: &'a str,
        cursors: &'a [&'a RawValue],
    }
    let set = Set {
        page_id: page,
        cursors: entries,
    };
    event_text("cursors_moved", &set)
}

fn tell_frame(page: &str, frame: &[(Option<SocketId>, Words)], watchers: &Watchers, told: &mut Letters) {
    let entries = frame.iter().filter_map(|(own, words)| match words {
        Words::Moved(_, entry) => Some((*own, &**entry.as_ref()?)),
        Words::Left(_) => None,
    });
    let (owns, entries): (Vec<_>, Vec<_>) = entries.unzip();
    let moved = (!entries.is_empty()).then(|| set(page, &entries));
    for (socket, watcher) in watchers.iter() {
        let its_own = Some(socket);
        // The entries are one text for all, with each program's own among them; of its own alone it is told nothing.
        if watcher.form() == Form::Sets && owns.iter().any(|own| *own != its_own) {
            told.extend(moved.clone().map(|text| (socket, text)));
        }
        for (own, words) in frame {
            match words {
                Words::Moved(Some(event), _) if watcher.form() == Form::Each && *own != its_own => {
                    told.push((socket, event.clone()));
                }
                Words::Left(text) if *own != its_own => told.push((socket, text.clone())),
                Words::Moved(..) | Words::Left(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use std::time::Duration;

    use super::*;
    use crate::events::{SocketId, people::tests::person, watchers::tests::both};

    struct Stage {
        cursors: Cursors,
        watchers: Watchers,
        now: Instant,
    }

    /// Watcher 0 hears each, watcher 1 sets.
    fn stage() -> Stage {
        Stage {
            cursors: Cursors::default(),
            watchers: both(),
            now: crate::events::ticker::now(),
        }
    }

    impl Stage {
        fn moves(&mut self, number: u64, user: &str, place: &Json) {
            let place = serde_json::value::to_raw_value(place).expect("JSON");
            let owner = Owner {
                person: Arc::new(person(user, "s")),
                connection: format!("s{number}").into(),
                color: color(user).into(),
                socket: Some(SocketId(number)),
            };
            let source = Source::Socket(SocketId(number));
            self.cursors.moved(source, owner, place.into());
        }

        fn leaves(&mut self, number: u64) {
            self.cursors.left(Source::Socket(SocketId(number)));
        }

        fn told(&mut self) -> Letters {
            let mut told = Letters::new();
            self.cursors.tell(self.now, "p", &self.watchers, &mut told);
            told
        }

        fn hears(&mut self) -> Vec<(u64, String, Json)> {
            let told = self.told().into_iter().map(|(to, text)| {
                let (name, body): (String, Json) = serde_json::from_slice(&text[2..]).expect("an event");
                (to.0, name, body)
            });
            told.collect()
        }

        fn passes(&mut self, millis: u64) {
            self.now += Duration::from_millis(millis);
        }
    }

    #[test]
    fn the_last_place_counts_and_is_told_in_both_forms() {
        let mut stage = stage();
        stage.moves(7, "ada", &json!({ "x": 1 }));
        let heard = stage.hears();
        assert_eq!(
            heard,
            [
                (
                    0,
                    "cursor_moved".to_owned(),
                    json!({
                        "pageId": "p", "userId": "ada", "name": null, "avatarUrl": null,
                        "color": color("ada"), "cursor": { "x": 1 }, "connectionId": "s7",
                    })
                ),
                (
                    1,
                    "cursors_moved".to_owned(),
                    json!({ "pageId": "p", "cursors": [{
                        "userId": "ada", "name": null, "color": color("ada"),
                        "cursor": { "x": 1 }, "connectionId": "s7",
                    }] })
                ),
            ]
        );
        for x in 2..40 {
            stage.passes(1);
            stage.moves(7, "ada", &json!({ "x": x }));
            assert_eq!(stage.hears(), []);
        }
        stage.passes(12);
        let heard = stage.hears();
        assert_eq!((heard.len(), &heard[0].2["cursor"]["x"]), (2, &json!(39)));
        stage.passes(1000);
        stage.moves(7, "ada", &json!({ "x": 39 }));
        assert_eq!(stage.hears(), [], "it has not moved");
        assert_eq!(stage.cursors.next_deadline(), None);
        for form in [Form::Each, Form::Sets] {
            assert_eq!(stage.cursors.introduction("p", form).len(), 1);
        }
        stage.leaves(7);
        let left = json!({ "pageId": "p", "userId": "ada", "connectionId": "s7" });
        let left = |to| (to, "cursor_left".to_owned(), left.clone());
        assert_eq!(stage.hears(), [left(0), left(1)]);
        assert!(stage.cursors.is_idle() && stage.cursors.queue.is_empty());
    }

    #[test]
    fn nobody_hears_of_its_own_cursor_nor_of_one_that_has_gone_before_it_was_told() {
        let mut stage = stage();
        stage.moves(0, "one", &json!(1));
        assert_eq!(stage.hears().iter().map(|(to, ..)| *to).collect::<Vec<_>>(), [1]);
        stage.passes(50);
        stage.moves(1, "two", &json!(1));
        assert_eq!(stage.hears().iter().map(|(to, ..)| *to).collect::<Vec<_>>(), [0]);
        stage.moves(7, "ada", &json!(1));
        stage.leaves(7);
        stage.passes(50);
        assert_eq!(stage.hears(), []);
        stage.moves(7, "ada", &json!(1));
        stage.hears();
        stage.leaves(7);
        stage.moves(7, "ada", &json!(2));
        stage.passes(50);
        assert_eq!(stage.hears().len(), 2, "it has come back meanwhile");
    }

    #[test]
    fn a_user_moves_once_in_a_frame_over_however_many_connections() {
        let mut stage = stage();
        let (mut moved, seconds) = (0, 10);
        for step in 0..seconds * 1000 {
            stage.moves(7, "ada", &json!(step));
            stage.moves(8, "ada", &json!(step));
            let heard = stage.hears();
            moved += heard.iter().filter(|(to, ..)| *to == 0).count();
            stage.passes(1);
        }
        assert!(moved <= 20 * seconds && moved > 19 * seconds, "{moved}");
    }

    /// Two hundred cursors that move all the time, then rest: bytes and frames of any second, and the last place of each within one.
    #[test]
    fn a_crowd_costs_each_listener_so_much_and_the_last_place_comes_within_a_second() {
        let mut stage = stage();
        let mut heard = [vec![(0, 0); 5000], vec![(0, 0); 5000]];
        let mut places = [BTreeMap::new(), BTreeMap::new()];
        let mut millis = 0;
        while millis < 5000 {
            if millis < 4000 && millis % 33 == 0 {
                for number in 10..210 {
                    stage.moves(
                        number,
                        &format!("cl{number:022}"),
                        &json!({ "anchor": millis, "head": millis }),
                    );
                }
            }
            for (to, text) in stage.told() {
                let of = usize::try_from(to.0).expect("a small number");
                let (count, bytes) = heard[of][millis];
                heard[of][millis] = (count + 1, bytes + text.len());
                let (_, body): (String, Json) = serde_json::from_slice(&text[2..]).expect("an event");
                let moved = body["cursors"].as_array().cloned().unwrap_or_else(|| vec![body]);
                for moved in moved {
                    let user = moved["userId"].as_str().expect("an id").to_owned();
                    places[of].insert(user, moved["cursor"]["head"].clone());
                }
            }
            stage.passes(1);
            millis += 1;
        }
        for (form, heard) in heard.iter().enumerate() {
            for second in heard.windows(1000) {
                let (count, bytes) = second
                    .iter()
                    .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
                assert!(bytes < 64 * 1024, "{bytes} bytes");
                assert!(form == 0 || count <= 20, "{count} frames");
            }
        }
        for places in places {
            assert_eq!(places.len(), 200);
            assert!(places.values().all(|place| *place == json!(3993)));
        }
    }

    #[test]
    fn colours_are_of_users() {
        assert_eq!(color("ada"), color("ada"));
        let colors: BTreeSet<_> = (0..1000).map(|user| color(&user.to_string())).collect();
        assert_eq!(colors.len(), COLORS.len());
    }
}
