//! Awareness states, as programs with Yjs write and read them: who it is, where its cursor is, and whether it types.
//!
//! ```json
//! { "user": { "id": …, "name": …, "avatarUrl": …, "color": … },
//!   "cursor": { "anchor": …, "head": … },
//!   "typing": true }
//! ```
//!
//! Editors for CodeMirror, ProseMirror and Quill show a selection in `cursor`, one for Monaco in `selection`; its ends are relative
//! positions. What else a program shows as its cursor, others take as it is.

use std::{collections::BTreeMap, sync::Arc};

use crdt::{Offset, Place, RelativePosition};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{color, cursors::MAX_CURSOR_BYTES, people::Person};

/// Longest address of a picture that is shown: more of it comes with every movement.
const MAX_AVATAR_URL_BYTES: usize = 512;

/// Members of an object, unread.
type Members = BTreeMap<String, Box<RawValue>>;

/// A cursor as it was said.
#[derive(Clone, Debug)]
pub(super) enum Pointer {
    /// Something that everybody understands as it is.
    Plain(Arc<RawValue>),
    /// A selection in the page's text.
    Range(Range),
}

/// A selection in the page's text, in one of the two forms.
#[derive(Clone, Debug)]
pub(super) struct Range {
    anchor: Place,
    head: Place,
    /// What is said beside it.
    others: Members,
}

impl Range {
    /// Its ends.
    pub(super) fn places(&self) -> [Place; 2] {
        [self.anchor.clone(), self.head.clone()]
    }

    fn of(mut members: Members, read: impl Fn(&Members, &str) -> Option<Place>) -> Option<Self> {
        let (anchor, head) = (read(&members, "anchor")?, read(&members, "head")?);
        for name in ["anchor", "head"] {
            members.remove(name);
        }
        Some(Self {
            anchor,
            head,
            others: members,
        })
    }

    /// The cursor with other ends. `None` for ends that are no selection.
    pub(super) fn with(&self, anchor: &Place, head: &Place) -> Option<Arc<RawValue>> {
        let mut members = self.others.clone();
        let (anchor, head) = match (anchor, head) {
            (Place::Position(anchor), Place::Position(head)) => (to_raw_value(anchor), to_raw_value(head)),
            (Place::Offset(anchor), Place::Offset(head)) if anchor.field == head.field => {
                if let Some(field) = &anchor.field {
                    members.insert("field".to_owned(), to_raw_value(field).ok()?);
                }
                (to_raw_value(&anchor.at), to_raw_value(&head.at))
            }
            _ => return None,
        };
        members.insert("anchor".to_owned(), anchor.ok()?);
        members.insert("head".to_owned(), head.ok()?);
        Some(to_raw_value(&members).ok()?.into())
    }
}

/// Reads the cursor of a program without Yjs.
pub(super) fn pointer(cursor: &Arc<RawValue>) -> Pointer {
    let members: Option<Members> = serde_json::from_str(cursor.get()).ok();
    let range = members.and_then(|mut members| {
        let field = members
            .get("field")
            .map(|field| serde_json::from_str(field.get()));
        let field: Option<String> = field.transpose().ok()?;
        members.remove("field");
        Range::of(members, |members, name| {
            let at = serde_json::from_str(members.get(name)?.get()).ok()?;
            let field = field.clone();
            Some(Place::Offset(Offset { field, at }))
        })
    });
    range.map_or_else(|| Pointer::Plain(cursor.clone()), Pointer::Range)
}

/// What a client shows.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Its cursor.
    pub(super) pointer: Option<Pointer>,
    /// Its program shows it as programs with Monaco do.
    pub(super) is_selection: bool,
    pub(super) is_typing: bool,
    /// The colour that it has chosen.
    pub(super) color: Option<Arc<str>>,
}

/// Reads a state.
pub(super) fn read(state: &str) -> Seen {
    let Ok(members) = serde_json::from_str::<BTreeMap<String, &RawValue>>(state) else {
        return Seen::default();
    };
    let cursor = members.get("cursor").copied().and_then(shown);
    let selection = || {
        let selection = members.get("selection")?.get();
        let range = range(selection).filter(|_| selection.len() <= MAX_CURSOR_BYTES)?;
        Some(Pointer::Range(range))
    };
    let (pointer, is_selection) = match cursor {
        Some(pointer) => (Some(pointer), false),
        None => (selection(), true),
    };
    Seen {
        is_selection: is_selection && pointer.is_some(),
        pointer,
        is_typing: members.get("typing").is_some_and(|typing| typing.get() == "true"),
        color: members.get("user").and_then(|user| chosen_color(user.get())),
    }
}

fn shown(cursor: &RawValue) -> Option<Pointer> {
    let size = cursor.get().len();
    if cursor.get() == "null" || size > MAX_CURSOR_BYTES {
        return None;
    }
    let range = range(cursor.get()).map(Pointer::Range);
    range.or_else(|| Some(Pointer::Plain(cursor.to_owned().into())))
}

/// A selection between relative positions.
fn range(cursor: &str) -> Option<Range> {
    let members: Members = serde_json::from_str(cursor).ok()?;
    Range::of(members, |members, name| {
        // A list would be taken for its members in their order.
        let text = members.get(name)?.get();
        let position: RelativePosition = serde_json::from_str(text)
            .ok()
            .filter(|_| text.starts_with('{'))?;
        position.is_somewhere().then_some(Place::Position(position))
    })
}

/// A colour in hex: programs write it into style sheets.
fn chosen_color(user: &str) -> Option<Arc<str>> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(user).ok()?;
    let color: String = serde_json::from_str(members.get("color")?.get()).ok()?;
    let digits = color.strip_prefix('#')?;
    let is_color =
        matches!(digits.len(), 3 | 4 | 6 | 8) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_color.then(|| color.into())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct User<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    avatar_url: Option<&'a str>,
    color: &'a str,
}

#[derive(Serialize)]
struct State<'a> {
    user: User<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    selection: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    typing: bool,
}

/// The state of somebody whose program knows no awareness. Who it is comes from its token alone. `None` when there is nothing to show.
pub(super) fn write(
    person: &Person,
    cursor: Option<&RawValue>,
    is_typing: bool,
    in_selection: bool,
) -> Option<Arc<str>> {
    if cursor.is_none() && !is_typing {
        return None;
    }
    let user = User {
        // Guests have none.
        id: (!person.is_guest).then_some(&person.user_id),
        name: person.name.as_deref(),
        avatar_url: (person.avatar_url.as_deref()).filter(|url| url.len() <= MAX_AVATAR_URL_BYTES),
        color: color(&person.user_id),
    };
    let state = State {
        user,
        cursor,
        selection: cursor.filter(|_| in_selection),
        typing: is_typing,
    };
    serde_json::to_string(&state).ok().map(Arc::from)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::events::people::tests::person;

    fn raw(value: &Value) -> Arc<RawValue> {
        to_raw_value(value).expect("JSON").into()
    }

    fn value(raw: Option<Arc<RawValue>>) -> Option<Value> {
        raw.map(|raw| serde_json::from_str(raw.get()).expect("JSON"))
    }

    fn at(field: Option<&str>, at: u32) -> Place {
        let field = field.map(str::to_owned);
        Place::Offset(Offset { field, at })
    }

    fn before(client: u64, clock: u32) -> (Value, Place) {
        let json = json!({
            "type": null, "tname": "content", "item": { "client": client, "clock": clock }, "assoc": 0,
        });
        let position = serde_json::from_value(json.clone()).expect("a position");
        (json, Place::Position(position))
    }

    #[test]
    fn numbers_are_a_selection_and_everything_else_is_passed_on() {
        for (cursor, anchor, head) in [
            (
                json!({ "anchor": 0, "head": 4294967295_u32 }),
                at(None, 0),
                at(None, u32::MAX),
            ),
            (
                json!({ "anchor": 3, "head": 1, "field": "title", "mode": "x" }),
                at(Some("title"), 3),
                at(Some("title"), 1),
            ),
        ] {
            let Pointer::Range(range) = pointer(&raw(&cursor)) else {
                panic!("{cursor} is a selection");
            };
            assert_eq!(range.places(), [anchor.clone(), head.clone()]);
            assert_eq!(
                value(range.with(&anchor, &head)),
                Some(cursor),
                "and becomes the same again"
            );
        }
        for cursor in [
            json!(7),
            json!([1, 2]),
            json!({ "x": 1, "y": 2 }),
            json!({ "anchor": 1 }),
            json!({ "anchor": 1, "head": -1 }),
            json!({ "anchor": 1.5, "head": 2 }),
            json!({ "anchor": 1, "head": 4294967296_u64 }),
            json!({ "anchor": 1, "head": 2, "field": 3 }),
            json!({ "anchor": before(1, 1).0, "head": before(1, 2).0 }),
        ] {
            let Pointer::Plain(passed) = pointer(&raw(&cursor)) else {
                panic!("{cursor} is no selection");
            };
            assert_eq!(value(Some(passed)), Some(cursor));
        }
    }

    #[test]
    fn a_state_shows_a_selection_in_the_members_that_editors_use() {
        let ((anchor, first), (head, second)) = (before(1, 5), before(2, 6));
        let selection = json!({ "anchor": anchor, "head": head, "more": [1] });
        for (state, is_selection) in [
            (json!({ "cursor": selection, "user": { "name": "Eve" } }), false),
            (json!({ "selection": selection }), true),
            (json!({ "cursor": null, "selection": selection }), true),
        ] {
            let seen = read(&state.to_string());
            assert_eq!(seen.is_selection, is_selection, "{state}");
            let Some(Pointer::Range(range)) = seen.pointer else {
                panic!("{state} has a selection");
            };
            assert_eq!(range.places(), [first.clone(), second.clone()]);
            let shown = value(range.with(&at(None, 8), &at(None, 9)));
            assert_eq!(shown, Some(json!({ "anchor": 8, "head": 9, "more": [1] })));
            let shown = value(range.with(&at(Some("t"), 8), &at(Some("t"), 9)));
            assert_eq!(
                shown,
                Some(json!({ "anchor": 8, "head": 9, "more": [1], "field": "t" }))
            );
            assert_eq!(
                value(range.with(&at(Some("t"), 8), &at(None, 9))),
                None,
                "in two fields"
            );
        }
        for (state, passed) in [
            (json!({ "cursor": { "x": 1 } }), Some(json!({ "x": 1 }))),
            (
                json!({ "cursor": { "anchor": 1, "head": 2 } }),
                Some(json!({ "anchor": 1, "head": 2 })),
            ),
            (
                json!({ "cursor": { "anchor": [null, "x", null, 0], "head": {} } }),
                Some(json!({ "anchor": [null, "x", null, 0], "head": {} })),
            ),
            (json!({ "selection": { "anchor": anchor, "focus": head } }), None),
            (json!({ "cursor": "x".repeat(MAX_CURSOR_BYTES) }), None),
            (
                json!({ "selection": { "anchor": anchor, "head": head, "more": "x".repeat(MAX_CURSOR_BYTES) } }),
                None,
            ),
            (json!({ "user": { "name": "Eve" } }), None),
            (json!("text"), None),
            (json!([]), None),
        ] {
            let plain = read(&state.to_string()).pointer.map(|pointer| match pointer {
                Pointer::Plain(cursor) => value(Some(cursor)).expect("JSON"),
                Pointer::Range(_) => panic!("{state} has no selection"),
            });
            assert_eq!(plain, passed, "{state}");
        }
        assert!(read(r#"{"typing": true}"#).is_typing);
        for state in [
            r#"{"typing":"true"}"#,
            r#"{"typing":false}"#,
            r#"{"typing":1}"#,
            "{}",
            "null",
            "{",
        ] {
            assert!(!read(state).is_typing, "{state}");
        }
    }

    #[test]
    fn a_chosen_colour_is_one_and_nothing_else() {
        for (color, is_color) in [
            ("#fff", true),
            ("#30bced33", true),
            ("#30bce", false),
            ("red", false),
            ("#ff\"; x", false),
            ("#ffffff;}", false),
            ("url(x)", false),
        ] {
            let state = json!({ "user": { "color": color } }).to_string();
            assert_eq!(read(&state).color.as_deref(), is_color.then_some(color));
        }
        assert_eq!(read(r#"{"user":{"color":7}}"#).color, None);
    }

    #[test]
    fn a_state_says_who_it_is_of_as_the_token_does() {
        let ada = Person {
            name: Some("Ada".into()),
            avatar_url: Some("https://x/a.png".into()),
            ..person("ada", "s1")
        };
        let user =
            json!({ "id": "ada", "name": "Ada", "avatarUrl": "https://x/a.png", "color": color("ada") });
        let state = |cursor: Option<&Value>, is_typing, in_selection| -> Option<Value> {
            let cursor = cursor.map(raw);
            let state = write(&ada, cursor.as_deref(), is_typing, in_selection)?;
            serde_json::from_str(&state).ok()
        };
        let cursor = json!({ "user": { "id": "eve" } });
        assert_eq!(state(None, false, false), None);
        assert_eq!(
            state(None, true, true),
            Some(json!({ "user": user, "typing": true }))
        );
        assert_eq!(
            state(Some(&cursor), false, false),
            Some(json!({ "user": user, "cursor": cursor })),
            "what a program says of itself is in its cursor only"
        );
        assert_eq!(
            state(Some(&cursor), true, true),
            Some(json!({ "user": user, "cursor": cursor, "selection": cursor, "typing": true }))
        );
        let guest = Person {
            is_guest: true,
            name: None,
            ..person("guest:s1", "s1")
        };
        let state = write(&guest, None, true, false).expect("a state");
        assert_eq!(
            *state,
            *format!(r#"{{"user":{{"color":"{}"}},"typing":true}}"#, color("guest:s1"))
        );
    }
}
