//! Which events of clients are relayed, and which events are kept: the file that `PAGEROOM_EVENTS_FILE` names.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use super::broadcast::is_reserved;
use crate::rooms::{RoomKind, RoomName, is_id};

/// Rules of one file.
const MAX_RULES: usize = 1000;
/// Largest payload of a relayed event, in bytes.
const MAX_RELAY_BYTES: usize = 64 * 1024;
/// Events of one rule that may be kept of one room.
const MAX_KEPT: u64 = 100_000;
/// What is kept without a file.
const KEPT: [&str; 3] = ["new_message", "notification:new", "room-message-created"];

/// How much is kept of an event in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Keep {
    /// The newest so many.
    pub count: u64,
    /// For so long.
    pub time: Duration,
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            count: 1000,
            time: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }
}

/// An event that clients may tell each other.
#[derive(Clone, Debug)]
pub struct RelayRule {
    /// The event.
    pub event: String,
    /// The room, with places for fields of the payload: `page:{pageId}`.
    room: Vec<Part>,
    /// What its author must be in the room: `view`, `comment`, `edit` or `admin`.
    pub role: crate::rooms::Role,
    /// Largest payload, in bytes.
    pub max_bytes: usize,
    /// Events a second of one connection; 0 for no limit but that of all its events.
    pub per_second: u32,
    /// Events that may come at once.
    pub burst: u32,
    /// Whether its author is told as well.
    pub to_sender: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(String),
}

#[derive(Clone, Debug)]
struct KeepRule {
    /// A room, or the beginning of its name before `*`.
    room: String,
    keep: Keep,
}

/// The rules.
#[derive(Clone, Debug)]
pub struct EventRules {
    relay: BTreeMap<String, RelayRule>,
    /// By the name of the event; the first that fits a room counts.
    keep: BTreeMap<String, Vec<KeepRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    relay: Vec<RelayLine>,
    #[serde(default)]
    keep: Vec<KeepLine>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RelayLine {
    event: String,
    room: String,
    role: String,
    #[serde(default = "most_bytes")]
    max_bytes: usize,
    #[serde(default)]
    per_second: u32,
    #[serde(default)]
    burst: u32,
    #[serde(default)]
    to_sender: bool,
    #[serde(default)]
    keep: Option<KeepField>,
}

fn most_bytes() -> usize {
    MAX_RELAY_BYTES
}

#[derive(Deserialize)]
#[serde(untagged)]
enum KeepField {
    Usually(bool),
    SoMuch(KeepSize),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeepSize {
    count: u64,
    seconds: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeepLine {
    room: String,
    event: String,
    count: u64,
    seconds: u64,
}

impl Default for EventRules {
    fn default() -> Self {
        let all = || {
            vec![KeepRule {
                room: "*".to_owned(),
                keep: Keep::default(),
            }]
        };
        Self {
            relay: BTreeMap::new(),
            keep: KEPT.map(|event| (event.to_owned(), all())).into(),
        }
    }
}

impl EventRules {
    /// Reads a file. `is_spoken` says whether an event is one of the server's own or of an application's vocabulary.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(text: &str, is_spoken: impl Fn(&str) -> bool) -> Result<Self, Vec<String>> {
        let file: File = serde_json::from_str(text).map_err(|error| vec![error.to_string()])?;
        let mut problems = Vec::new();
        let mut rules = Self {
            relay: BTreeMap::new(),
            keep: BTreeMap::new(),
        };
        if file.relay.len() + file.keep.len() > MAX_RULES {
            return Err(vec![format!("there are more than {MAX_RULES} rules")]);
        }
        for line in file.keep {
            let keep = KeepSize {
                count: line.count,
                seconds: line.seconds,
            };
            if let Err(problem) = rules.add_keep(&line.event, line.room, &keep) {
                problems.push(format!("keep `{}`: {problem}", line.event));
            }
        }
        for line in file.relay {
            let event = line.event.clone();
            if is_reserved(&event) || is_spoken(&event) {
                problems.push(format!("relay `{event}`: this name is taken by the server"));
            } else if let Err(problem) = rules.add_relay(line) {
                problems.push(format!("relay `{event}`: {problem}"));
            }
        }
        match problems.is_empty() {
            true => Ok(rules),
            false => Err(problems),
        }
    }

    fn add_keep(&mut self, event: &str, room: String, size: &KeepSize) -> Result<(), String> {
        if !is_id(event) {
            return Err("no event can have this name".to_owned());
        }
        let pattern = room.strip_suffix('*').unwrap_or(&room);
        if pattern.contains('*') || (pattern == room && RoomName::parse(&room).is_none()) {
            return Err("`room` names a room, or the beginning of names before `*`".to_owned());
        }
        if size.count == 0 || size.count > MAX_KEPT || size.seconds == 0 || size.seconds > u64::from(u32::MAX)
        {
            return Err(format!("`count` is 1 to {MAX_KEPT}, and `seconds` at least 1"));
        }
        // A page is told by its id alone as well.
        let room = match RoomName::parse(&room).filter(|_| pattern == room) {
            Some(name) => name.as_str().to_owned(),
            None => room,
        };
        let keep = Keep {
            count: size.count,
            time: Duration::from_secs(size.seconds),
        };
        self.keep
            .entry(event.to_owned())
            .or_default()
            .push(KeepRule { room, keep });
        Ok(())
    }

    fn add_relay(&mut self, line: RelayLine) -> Result<(), String> {
        if !is_id(&line.event) {
            return Err("no event can have this name".to_owned());
        }
        let role = crate::rooms::Role::from_name(&line.role);
        let role = role.ok_or("`role` is view, comment, edit or admin")?;
        if line.max_bytes == 0 || line.max_bytes > MAX_RELAY_BYTES {
            return Err(format!("`maxBytes` is 1 to {MAX_RELAY_BYTES}"));
        }
        let room = parts(&line.room).ok_or("`room` has fields in braces: page:{pageId}")?;
        let example = fill(&room, |_| Some("x"));
        let kind = example
            .and_then(|name| RoomName::parse(&name))
            .map(|room| room.kind());
        match kind {
            None => return Err("`room` names no room".to_owned()),
            Some(RoomKind::Personal | RoomKind::Global) => {
                return Err("clients tell nothing in the rooms of users".to_owned());
            }
            Some(_) => {}
        }
        let size = match line.keep {
            None | Some(KeepField::Usually(false)) => None,
            Some(KeepField::Usually(true)) => Some(KeepSize {
                count: Keep::default().count,
                seconds: Keep::default().time.as_secs(),
            }),
            Some(KeepField::SoMuch(size)) => Some(size),
        };
        if let Some(size) = size {
            let beginning = match room.first() {
                Some(Part::Text(text)) if room.len() > 1 => format!("{text}*"),
                Some(Part::Text(text)) => text.clone(),
                Some(Part::Field(_)) | None => "*".to_owned(),
            };
            self.add_keep(&line.event, beginning, &size)?;
        }
        let rule = RelayRule {
            event: line.event.clone(),
            room,
            role,
            max_bytes: line.max_bytes,
            per_second: line.per_second,
            burst: line.burst.max(1),
            to_sender: line.to_sender,
        };
        match self.relay.insert(line.event, rule) {
            None => Ok(()),
            Some(_) => Err("there are two rules for this event".to_owned()),
        }
    }

    /// The rule by which an event is relayed.
    pub fn relay(&self, event: &str) -> Option<&RelayRule> {
        self.relay.get(event)
    }

    /// How much is kept of an event in a room; `None` for nothing.
    pub fn keep(&self, room: &RoomName, event: &str) -> Option<Keep> {
        let rules = self.keep.get(event)?;
        rules.iter().find(|rule| rule.fits(room)).map(|rule| rule.keep)
    }

    /// The events that are kept of a room, and how much of each.
    pub fn kept_in(&self, room: &RoomName) -> Vec<(&str, Keep)> {
        let events = self.keep.iter();
        let kept = events.filter_map(|(event, rules)| {
            let rule = rules.iter().find(|rule| rule.fits(room))?;
            Some((event.as_str(), rule.keep))
        });
        kept.collect()
    }
}

impl KeepRule {
    fn fits(&self, room: &RoomName) -> bool {
        match self.room.strip_suffix('*') {
            Some(beginning) => room.as_str().starts_with(beginning),
            None => room.as_str() == self.room,
        }
    }
}

impl RelayRule {
    /// The room of an event with these fields.
    pub fn room<'a>(&self, field: impl Fn(&str) -> Option<&'a str>) -> Option<RoomName> {
        RoomName::parse(&fill(&self.room, field)?)
    }
}

/// Takes a pattern apart.
fn parts(pattern: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = pattern;
    while let Some((text, behind)) = rest.split_once('{') {
        let (field, behind) = behind.split_once('}')?;
        if text.contains('}') || field.is_empty() || field.contains('{') {
            return None;
        }
        if !text.is_empty() {
            parts.push(Part::Text(text.to_owned()));
        }
        parts.push(Part::Field(field.to_owned()));
        rest = behind;
    }
    if rest.contains('}') {
        return None;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    Some(parts)
}

fn fill<'a>(parts: &[Part], field: impl Fn(&str) -> Option<&'a str>) -> Option<String> {
    let mut name = String::new();
    for part in parts {
        match part {
            Part::Text(text) => name.push_str(text),
            Part::Field(wanted) => name.push_str(field(wanted).filter(|value| is_id(value))?),
        }
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str) -> RoomName {
        RoomName::parse(name).expect("a room")
    }

    fn read(text: &str) -> Result<EventRules, Vec<String>> {
        EventRules::read(text, |event| event == "join_channel")
    }

    #[test]
    fn without_a_file_some_events_are_kept_and_none_is_relayed() {
        let rules = EventRules::default();
        for event in KEPT {
            let week = Keep {
                count: 1000,
                time: Duration::from_secs(7 * 24 * 3600),
            };
            assert_eq!(rules.keep(&room("dm:x"), event), Some(week));
        }
        assert_eq!(rules.keep(&room("dm:x"), "typing"), None);
        assert!(rules.relay("new_message").is_none());
        assert_eq!(rules.kept_in(&room("page:x")).len(), KEPT.len());
    }

    #[test]
    fn a_file_says_what_is_relayed_and_kept() {
        let rules = read(
            r#"{
                "relay": [
                    { "event": "poll:vote", "room": "page:{pageId}", "role": "comment", "maxBytes": 100,
                      "perSecond": 2, "burst": 3, "toSender": true, "keep": { "count": 5, "seconds": 60 } },
                    { "event": "deal:moved", "room": "entity:{kind}:{id}", "role": "edit" }
                ],
                "keep": [
                    { "room": "special", "event": "e", "count": 7, "seconds": 60 },
                    { "room": "page:*", "event": "e", "count": 9, "seconds": 60 }
                ]
            }"#,
        )
        .expect("rules");
        let vote = rules.relay("poll:vote").expect("a rule");
        assert_eq!(
            (vote.max_bytes, vote.per_second, vote.burst, vote.to_sender),
            (100, 2, 3, true)
        );
        let fields = |name: &str| match name {
            "pageId" | "id" => Some("7"),
            "kind" => Some("deal"),
            _ => None,
        };
        assert_eq!(vote.room(fields), Some(room("page:7")));
        assert_eq!(vote.room(|_| None), None);
        assert_eq!(vote.room(|_| Some("../x")), None);
        let moved = rules.relay("deal:moved").expect("a rule");
        assert_eq!(moved.room(fields), Some(room("entity:deal:7")));
        assert_eq!(
            (moved.max_bytes, moved.burst, moved.to_sender),
            (MAX_RELAY_BYTES, 1, false)
        );
        let count = |name: &str, event: &str| rules.keep(&room(name), event).map(|keep| keep.count);
        assert_eq!(count("page:special", "e"), Some(7), "the first that fits");
        assert_eq!(count("page:other", "e"), Some(9));
        assert_eq!(count("dm:x", "e"), None);
        assert_eq!(count("page:x", "poll:vote"), Some(5));
        assert_eq!(count("dm:x", "new_message"), None, "the file says all");
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        for (text, expected) in [
            ("7", "invalid type"),
            (r#"{"realy":[]}"#, "unknown field"),
            (
                r#"{"relay":[{"event":"access_revoked","room":"page:{p}","role":"view"}]}"#,
                "taken by the server",
            ),
            (
                r#"{"relay":[{"event":"join_channel","room":"page:{p}","role":"view"}]}"#,
                "taken by the server",
            ),
            (
                r#"{"relay":[{"event":"e","room":"page:{p","role":"view"}]}"#,
                "braces",
            ),
            (
                r#"{"relay":[{"event":"e","room":"pge:{p}","role":"view"}]}"#,
                "no room",
            ),
            (
                r#"{"relay":[{"event":"e","room":"user:{u}","role":"view"}]}"#,
                "rooms of users",
            ),
            (
                r#"{"relay":[{"event":"e","room":"page:{p}","role":"owner"}]}"#,
                "`role`",
            ),
            (
                r#"{"relay":[{"event":"e","room":"page:{p}","role":"view","maxBytes":65537}]}"#,
                "`maxBytes`",
            ),
            (
                r#"{"relay":[{"event":"e","room":"page:{p}","role":"view"},{"event":"e","room":"dm:{p}","role":"view"}]}"#,
                "two rules",
            ),
            (
                r#"{"keep":[{"event":"e","room":"page:*:x","count":1,"seconds":1}]}"#,
                "`room`",
            ),
            (
                r#"{"keep":[{"event":"e","room":"*","count":0,"seconds":1}]}"#,
                "`count`",
            ),
        ] {
            let problems = read(text).expect_err(text).join("\n");
            assert!(problems.contains(expected), "{text}: {problems}");
        }
    }
}
