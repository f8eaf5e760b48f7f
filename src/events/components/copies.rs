//! What the members of a component may have of it. Pure: time is an argument.
//!
//! A change says nothing of the copy that it was made in. Its author had one of the versions of the component, and of the properties that
//! it has changed itself what it wrote last. Of these copies the one is taken that is nearest to what it writes now. Every member is told
//! every change, so a copy is never older than the last change of a property by its author.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use crdt::{nearest_object, thing_in};
use serde_json::{Map, Value as Json, value::RawValue};
use storage::Seq;

use crate::{
    events::{SocketId, VersionLimits},
    protocols::events::Content,
};

/// What was told longer ago is not still on its way to a client that answers.
const ON_ITS_WAY: Duration = Duration::from_secs(60);
/// What was told longer ago has arrived at a client that is connected as clients are.
const ARRIVED: Duration = Duration::from_secs(5);
/// Properties of one component for which it is known what their authors wrote last, at most.
const MAX_WRITTEN: usize = 1000;

/// A thing in a component, by the ids from the outside; empty for the component itself.
pub(super) type Path = Vec<String>;
type Properties = Map<String, Json>;

/// A property of a thing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Property {
    path: Path,
    key: String,
}

#[derive(Clone, Debug)]
struct Version {
    number: u64,
    /// The sequence numbers of the page between which it had this content.
    first: Seq,
    last: Seq,
    /// Since when.
    at: Instant,
    content: Content,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    /// The latest version when it came.
    came_at: u64,
    /// Whether it has had nothing of the component that is not known here.
    is_certain: bool,
}

/// What an author wrote last of a property.
#[derive(Clone, Debug)]
struct Written {
    /// The version that came of it.
    number: u64,
    value: Json,
    bytes: usize,
    /// Until then the author is told what comes of what it writes: it may not have heard yet of what it has crossed before.
    told_until: Option<Instant>,
}

/// The versions of a component, and what its members may have of them.
#[derive(Debug)]
pub(super) struct Copies {
    limits: VersionLimits,
    latest: u64,
    kept: VecDeque<Version>,
    /// Of the versions, and of what members have written.
    bytes: usize,
    members: BTreeMap<SocketId, Member>,
    written: BTreeMap<(SocketId, Property), Written>,
}

/// The copies that the author of a change may have made it in.
#[derive(Debug)]
pub(super) struct Possible {
    /// The latest first.
    versions: Vec<Version>,
    written: BTreeMap<String, Written>,
    came_at: u64,
    is_certain: bool,
}

/// The copy that a change was made in, as far as can be said.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Base {
    /// What was in it of the properties that were changed; `None` when nothing is known.
    pub(super) properties: Option<Properties>,
    /// Whether what is in it and not in the change was taken out by the author.
    pub(super) is_certain: bool,
    /// Others have changed one of the properties, and the author may not have heard of it when it wrote this.
    pub(super) has_crossed: bool,
}

impl Copies {
    pub(super) fn new(limits: VersionLimits) -> Self {
        Self {
            limits,
            latest: 0,
            kept: VecDeque::new(),
            bytes: 0,
            members: BTreeMap::new(),
            written: BTreeMap::new(),
        }
    }

    /// A member has come, and was sent the latest version. Who comes to nothing may have what the application has of the component.
    pub(super) fn came(&mut self, member: SocketId) {
        let is_certain = self
            .kept
            .back()
            .is_some_and(|latest| latest.content.get() != "{}");
        self.members.entry(member).or_insert(Member {
            came_at: self.latest,
            is_certain,
        });
    }

    pub(super) fn went(&mut self, member: SocketId) {
        self.members.remove(&member);
        let bytes = &mut self.bytes;
        self.written.retain(|(author, _), written| {
            let stays = *author != member;
            *bytes -= if stays { 0 } else { written.bytes };
            stays
        });
    }

    /// The component has this content now. Gives what it had before if that was another one.
    pub(super) fn learn(&mut self, now: Instant, seq: Seq, content: &Content) -> Option<Content> {
        if let Some(last) = self.kept.back_mut()
            && last.content.get() == content.get()
        {
            last.last = last.last.max(seq);
            return None;
        }
        let before = self.kept.back().map(|version| version.content.clone());
        self.latest += 1;
        self.bytes += content.get().len();
        self.kept.push_back(Version {
            number: self.latest,
            first: seq,
            last: seq,
            at: now,
            content: content.clone(),
        });
        self.keep_within_limits();
        before
    }

    /// The latest content, and its sequence number.
    pub(super) fn latest(&self) -> Option<(Seq, &Content)> {
        self.kept.back().map(|version| (version.last, &version.content))
    }

    /// What a change of properties may have been made in: where the author says so, what the page had at a sequence number. `None` when it says so
    /// and that is not known any more.
    pub(super) fn possible(
        &self,
        author: Option<SocketId>,
        base: Option<Seq>,
        path: &Path,
    ) -> Option<Possible> {
        let mut possible = Possible {
            versions: Vec::new(),
            written: BTreeMap::new(),
            came_at: self.latest,
            is_certain: true,
        };
        if let Some(seq) = base {
            let mut versions = self.kept.iter().rev();
            let version = versions.find(|version| (version.first..=version.last).contains(&seq))?;
            possible.versions.push(version.clone());
        }
        let Some((author, member)) = author.and_then(|id| Some((id, *self.members.get(&id)?))) else {
            return Some(possible);
        };
        possible.came_at = member.came_at;
        if base.is_none() {
            possible.is_certain = member.is_certain;
            possible.versions = self.kept.iter().rev().cloned().collect();
            let written = self.written.iter();
            let own = written.filter(|((id, property), _)| *id == author && property.path == *path);
            possible.written = own
                .map(|((_, property), written)| (property.key.clone(), written.clone()))
                .collect();
        }
        Some(possible)
    }

    /// A member has changed some properties, of which this came.
    pub(super) fn wrote(
        &mut self,
        now: Instant,
        author: Option<SocketId>,
        (path, updates): (&Path, &Properties),
        has_crossed: bool,
        (seq, outcome): (Seq, &Content),
    ) {
        self.learn(now, seq, outcome);
        let Some(author) = author.filter(|author| self.members.contains_key(author)) else {
            return;
        };
        for (key, value) in updates {
            let property = Property {
                path: path.clone(),
                key: key.clone(),
            };
            let bytes = value.to_string().len();
            let before = self.written.get(&(author, property.clone()));
            let told_until = match has_crossed {
                true => Some(now + ARRIVED),
                false => before.and_then(|before| before.told_until),
            };
            let written = Written {
                number: self.latest,
                value: value.clone(),
                bytes,
                told_until,
            };
            let before = self.written.insert((author, property), written);
            self.bytes = self.bytes + bytes - before.map_or(0, |before| before.bytes);
        }
        self.keep_within_limits();
    }

    /// Whether the author of a change of these properties is to be told what came of it although it is what it has written.
    pub(super) fn still_tells(
        &self,
        now: Instant,
        author: SocketId,
        path: &Path,
        updates: &Properties,
    ) -> bool {
        updates.keys().any(|key| {
            let property = Property {
                path: path.clone(),
                key: key.clone(),
            };
            let written = self.written.get(&(author, property));
            written.is_some_and(|written| written.told_until.is_some_and(|until| now < until))
        })
    }

    /// Forgets the oldest contents, of the page and then of its authors, until the rest is within the limits. The latest one is kept.
    fn keep_within_limits(&mut self) {
        let VersionLimits { count, bytes } = self.limits;
        while self.kept.len() > 1
            && (self.kept.len() > count || self.bytes > bytes)
            && let Some(oldest) = self.kept.pop_front()
        {
            self.bytes -= oldest.content.get().len();
        }
        if self.bytes <= bytes && self.written.len() <= MAX_WRITTEN {
            return;
        }
        let written = self.written.iter();
        let mut by_age: Vec<_> = written
            .map(|(key, written)| (written.number, key.clone()))
            .collect();
        by_age.sort_unstable();
        for (_, key) in by_age {
            if self.bytes <= bytes && self.written.len() <= MAX_WRITTEN {
                return;
            }
            if let Some(forgotten) = self.written.remove(&key) {
                self.bytes -= forgotten.bytes;
            }
            // What its author has of the property is not known here any more.
            if let Some(member) = self.members.get_mut(&key.0) {
                member.is_certain = false;
            }
        }
    }
}

impl Possible {
    /// Bytes that are to be read for finding the base.
    pub(super) fn bytes(&self) -> usize {
        self.versions
            .iter()
            .map(|version| version.content.get().len())
            .sum()
    }

    /// The copy that the properties of a thing were changed in. O(size of the versions).
    pub(super) fn base(&self, now: Instant, path: &Path, updates: &Properties) -> Base {
        let parts: Vec<(&Version, Properties)> = (self.versions.iter())
            .filter_map(|version| Some((version, part(&version.content, path, updates)?)))
            .collect();
        let copies = self.copies(&parts, updates);
        let nearest = {
            // An author that writes what it had before has gone back to it, unless it cannot have heard of the rest.
            let has_gone_back = |(copy, until): &&(Properties, Option<Instant>)| {
                copy == updates && until.is_some_and(|until| until + ARRIVED <= now)
            };
            let likely: Vec<&Properties> = (copies.iter())
                .filter(|copy| !has_gone_back(copy))
                .map(|(copy, _)| copy)
                .collect();
            let nearest = nearest_object(likely.iter().copied(), updates);
            nearest.and_then(|index| likely.get(index).copied().cloned())
        };
        Base {
            is_certain: nearest.is_some()
                && (self.is_certain || updates.keys().all(|key| self.written.contains_key(key))),
            properties: nearest,
            has_crossed: updates.keys().any(|key| self.has_crossed(now, &parts, key)),
        }
    }

    /// The different copies that the author may have had, the latest first, and since when there are later ones.
    fn copies(
        &self,
        parts: &[(&Version, Properties)],
        updates: &Properties,
    ) -> Vec<(Properties, Option<Instant>)> {
        let mut copies: Vec<(Properties, Option<Instant>)> = Vec::new();
        let mut until = None;
        // Behind the oldest version: with all that the author has written itself.
        let oldest = parts.last().map(|(version, part)| (0, version.at, part));
        let all = parts
            .iter()
            .map(|(version, part)| (version.number, version.at, part));
        for (number, at, part) in all.chain(oldest) {
            let mut copy = Properties::new();
            for key in updates.keys() {
                let written = self.written.get(key).filter(|written| number < written.number);
                let value = written.map(|written| &written.value).or_else(|| part.get(key));
                copy.extend(value.map(|value| (key.clone(), value.clone())));
            }
            if copies.iter().all(|(known, _)| *known != copy) {
                copies.push((copy, until));
            }
            until = Some(at);
        }
        copies
    }

    /// Whether others have changed a property since the author has, or has come, and it may not have heard of that.
    fn has_crossed(&self, now: Instant, parts: &[(&Version, Properties)], key: &str) -> bool {
        let since = self
            .written
            .get(key)
            .map_or(self.came_at, |written| written.number);
        let before = parts.iter().skip(1).map(Some).chain([None]);
        let mut steps = parts.iter().zip(before);
        steps.any(|((version, part), before)| {
            version.number > since
                && version.at + ON_ITS_WAY > now
                && before.is_none_or(|(_, before)| before.get(key) != part.get(key))
        })
    }
}

/// Of a thing the properties that are changed; `None` when it is not there.
fn part(content: &Content, path: &Path, updates: &Properties) -> Option<Properties> {
    if path.is_empty() {
        // Only what is needed is taken apart.
        let all: BTreeMap<String, &RawValue> = serde_json::from_str(content.get()).ok()?;
        let needed = all.into_iter().filter(|(key, _)| updates.contains_key(key));
        return needed
            .map(|(key, value)| Some((key, serde_json::from_str(value.get()).ok()?)))
            .collect();
    }
    let component: Json = serde_json::from_str(content.get()).ok()?;
    let thing = thing_in(&component, path)?;
    let needed = thing.iter().filter(|(key, _)| updates.contains_key(*key));
    Some(needed.map(|(key, value)| (key.clone(), value.clone())).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::events::ticker::now;

    const ADA: SocketId = SocketId(1);
    const BEN: SocketId = SocketId(2);

    struct Stage {
        copies: Copies,
        now: Instant,
        seq: Seq,
    }

    fn content(value: &Json) -> Content {
        RawValue::from_string(value.to_string()).expect("JSON").into()
    }

    fn properties(value: Json) -> Properties {
        value.as_object().expect("an object").clone()
    }

    /// A component with two members.
    fn stage(begin: &Json) -> Stage {
        let limits = VersionLimits {
            count: 8,
            bytes: 10_000,
        };
        let mut stage = Stage {
            copies: Copies::new(limits),
            now: now(),
            seq: 0,
        };
        stage.learns(begin);
        stage.copies.came(ADA);
        stage.copies.came(BEN);
        stage
    }

    impl Stage {
        fn learns(&mut self, value: &Json) {
            self.seq += 1;
            self.copies.learn(self.now, self.seq, &content(value));
        }

        /// What a change of the component itself was made in.
        fn base(&self, author: SocketId, updates: Json) -> Base {
            self.base_at(author, &Path::new(), updates)
        }

        fn base_at(&self, author: SocketId, path: &Path, updates: Json) -> Base {
            let possible = self.copies.possible(Some(author), None, path).expect("something");
            possible.base(self.now, path, &properties(updates))
        }

        fn wrote(&mut self, author: SocketId, updates: Json, outcome: &Json) {
            self.seq += 1;
            let (updates, outcome) = (properties(updates), content(outcome));
            self.copies.wrote(
                self.now,
                Some(author),
                (&Path::new(), &updates),
                false,
                (self.seq, &outcome),
            );
        }

        fn passes(&mut self, time: Duration) {
            self.now += time;
        }
    }

    fn rows(ids: &str) -> Json {
        ids.split(' ').map(|id| json!({ "id": id })).collect()
    }

    #[test]
    fn a_row_of_another_author_is_not_taken_out_by_one_who_has_not_heard_of_it() {
        let mut stage = stage(&json!({ "rows": rows("a"), "title": "x" }));
        // Ben has put a row in, and Ada writes two properties one after the other before she hears of it.
        stage.wrote(
            BEN,
            json!({ "rows": rows("a b") }),
            &json!({ "rows": rows("a b"), "title": "x" }),
        );
        stage.wrote(
            ADA,
            json!({ "title": "y" }),
            &json!({ "rows": rows("a b"), "title": "y" }),
        );
        let base = stage.base(ADA, json!({ "rows": rows("a c") }));
        assert_eq!(base.properties, Some(properties(json!({ "rows": rows("a") }))));
        assert!(base.is_certain && base.has_crossed);
        // When she has heard of it she has the row and may take it out.
        stage.passes(ARRIVED);
        let base = stage.base(ADA, json!({ "rows": rows("a") }));
        assert_eq!(base.properties, Some(properties(json!({ "rows": rows("a b") }))));
    }

    #[test]
    fn what_an_author_wrote_last_is_its_copy_until_others_change_it() {
        let mut stage = stage(&json!({ "text": "a b" }));
        stage.wrote(ADA, json!({ "text": "a b c" }), &json!({ "text": "a b c" }));
        // She goes back to what she had.
        let base = stage.base(ADA, json!({ "text": "a b" }));
        assert_eq!(base.properties, Some(properties(json!({ "text": "a b c" }))));
        assert!(!base.has_crossed, "nobody else has written");
        // Ben has written meanwhile; her next word was written in her own copy.
        stage.wrote(
            BEN,
            json!({ "text": "a b c ben" }),
            &json!({ "text": "a b c ben" }),
        );
        let base = stage.base(ADA, json!({ "text": "a b c d" }));
        assert_eq!(base.properties, Some(properties(json!({ "text": "a b c" }))));
        assert!(base.has_crossed);
        let base = stage.base(ADA, json!({ "text": "a b c ben d" }));
        assert_eq!(base.properties, Some(properties(json!({ "text": "a b c ben" }))));
    }

    #[test]
    fn a_change_has_crossed_another_one_of_the_same_property_alone_and_not_for_ever() {
        let mut stage = stage(&json!({ "a": 1, "b": 1 }));
        stage.wrote(BEN, json!({ "a": 2 }), &json!({ "a": 2, "b": 1 }));
        assert!(stage.base(ADA, json!({ "a": 3 })).has_crossed);
        assert!(!stage.base(ADA, json!({ "b": 3 })).has_crossed);
        assert!(!stage.base(BEN, json!({ "a": 3 })).has_crossed, "it was its own");
        stage.passes(ON_ITS_WAY);
        assert!(!stage.base(ADA, json!({ "a": 3 })).has_crossed);
    }

    #[test]
    fn who_has_crossed_is_told_for_a_while_what_comes_of_what_it_writes() {
        let mut stage = stage(&json!({ "a": 1 }));
        let updates = properties(json!({ "a": 2 }));
        let outcome = content(&json!({ "a": 2 }));
        let path = Path::new();
        stage
            .copies
            .wrote(stage.now, Some(ADA), (&path, &updates), true, (2, &outcome));
        stage.wrote(ADA, json!({ "a": 3 }), &json!({ "a": 3 }));
        assert!(stage.copies.still_tells(stage.now, ADA, &path, &updates));
        assert!(!stage.copies.still_tells(stage.now, BEN, &path, &updates));
        stage.passes(ARRIVED);
        assert!(!stage.copies.still_tells(stage.now, ADA, &path, &updates));
    }

    #[test]
    fn things_have_copies_of_their_own() {
        let page = |text: &str| json!({ "rows": [{ "id": "r", "components": [{ "id": "c", "text": text, "n": 1 }] }] });
        let mut stage = stage(&page("one"));
        stage.learns(&page("two"));
        let path = vec!["r".to_owned(), "c".to_owned()];
        let base = stage.base_at(ADA, &path, json!({ "text": "two three" }));
        assert_eq!(base.properties, Some(properties(json!({ "text": "two" }))));
        assert!(base.has_crossed, "somebody has changed it otherwise");
        let nowhere = stage.base_at(ADA, &vec!["none".to_owned()], json!({ "text": "x" }));
        assert_eq!(nowhere, Base::default());
    }

    #[test]
    fn of_strangers_and_of_who_came_to_nothing_no_copy_is_certain() {
        let mut stage = stage(&json!({}));
        stage.learns(&json!({ "o": { "theirs": 1 } }));
        assert!(!stage.base(ADA, json!({ "o": {} })).is_certain);
        stage.wrote(BEN, json!({ "o": 1 }), &json!({ "o": { "theirs": 1 } }));
        assert!(
            stage.base(BEN, json!({ "o": {} })).is_certain,
            "it has written it itself"
        );
        let stranger = stage.base(SocketId(9), json!({ "o": {} }));
        assert_eq!(stranger, Base::default());
        // Who says what it was made from is believed, if that is known.
        let path = Path::new();
        let said = stage.copies.possible(None, Some(2), &path).expect("a version");
        let said = said.base(stage.now, &path, &properties(json!({ "o": {} })));
        assert_eq!(said.properties, Some(properties(json!({ "o": { "theirs": 1 } }))));
        assert!(said.is_certain && !said.has_crossed);
        assert!(stage.copies.possible(None, Some(7), &path).is_none());
    }

    #[test]
    fn versions_and_what_was_written_are_kept_within_limits() {
        let mut stage = stage(&json!({ "n": -1 }));
        for n in 0..20 {
            stage.learns(&json!({ "n": n }));
        }
        assert_eq!(stage.copies.kept.len(), 8);
        let large = "x".repeat(6_000);
        stage.wrote(ADA, json!({ "a": large }), &json!({ "n": 1 }));
        stage.wrote(ADA, json!({ "b": large }), &json!({ "n": 2 }));
        assert!(stage.copies.bytes <= 10_000, "{}", stage.copies.bytes);
        assert!(
            !stage.base(ADA, json!({ "a": 1 })).is_certain,
            "it is not known any more"
        );
        assert!(stage.base(BEN, json!({ "a": 1 })).is_certain);
        for n in 0..MAX_WRITTEN + 5 {
            stage.wrote(BEN, json!({ (format!("k{n}")): n }), &json!({ "n": n }));
        }
        assert_eq!(stage.copies.written.len(), MAX_WRITTEN);
        // One change of very many properties takes no longer than its size.
        let many: Properties = (0..20_000).map(|n| (format!("m{n}"), json!(n))).collect();
        stage.wrote(BEN, Json::Object(many), &json!({ "n": 0 }));
        assert!(stage.copies.written.len() <= MAX_WRITTEN);
        stage.copies.went(ADA);
        stage.copies.went(BEN);
        let kept: usize = stage
            .copies
            .kept
            .iter()
            .map(|version| version.content.get().len())
            .sum();
        assert_eq!(stage.copies.bytes, kept, "what is gone leaves nothing behind");
    }
}
