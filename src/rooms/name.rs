//! The names of rooms: which there are, and the one spelling of each.
//!
//! | name | room |
//! |---|---|
//! | `ID`, `page:ID` | a page |
//! | `drive:ID`, `drive:ID:calendar` | a drive and its calendar |
//! | `activity:drive:ID`, `activity:page:ID` | what happens in a drive or a page |
//! | `dm:ID`, `conv:ID`, `session:ID` | a direct conversation, a conversation, a workspace of an agent |
//! | `room:SHARECODE` | a shared room |
//! | `workspace:ID` | a workspace |
//! | `component:ID`, `entity:TYPE:ID` | a component, and what components belong to |
//! | `user:ID` and its `:tasks :calendar :drives :global :sessions`, `notifications:ID` | one user |
//! | `global` | everybody |
//!
//! No other room exists.

use std::{borrow::Borrow, fmt, sync::Arc};

use storage::PageId;

/// What a room is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomKind {
    /// Those who are at a page.
    Page,
    /// Those who follow a drive.
    Drive,
    /// Those who follow the calendar of a drive.
    Calendar,
    /// Those who follow what happens in a drive.
    DriveActivity,
    /// Those who follow what happens in a page.
    PageActivity,
    /// A direct conversation.
    Dm,
    /// A conversation.
    Conversation,
    /// A workspace of an agent.
    Session,
    /// A room that its members know by a code.
    Shared,
    /// Those who follow a workspace.
    Workspace,
    /// Those who are at a component.
    Component,
    /// Those who follow what components belong to.
    Entity,
    /// One user.
    Personal,
    /// Everybody.
    Global,
}

/// The name of a room, in its one spelling.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomName(Arc<str>);

const PAGE: &str = "page:";
const DRIVE: &str = "drive:";
const USER: &str = "user:";
const NOTIFICATIONS: &str = "notifications:";
const CALENDAR: &str = ":calendar";
const DRIVE_ACTIVITY: &str = "activity:drive:";
const PAGE_ACTIVITY: &str = "activity:page:";
const ENTITY: &str = "entity:";
/// What some applications write before the id of a user that has an account.
const ACCOUNT: &str = "auth_";
/// The rooms of one user beside `user:ID` itself.
const PERSONAL: [&str; 5] = [":tasks", ":calendar", ":drives", ":global", ":sessions"];
/// Prefixes of rooms whose id is the whole rest.
const PLAIN: [(&str, RoomKind); 7] = [
    (PAGE, RoomKind::Page),
    ("dm:", RoomKind::Dm),
    ("conv:", RoomKind::Conversation),
    ("session:", RoomKind::Session),
    ("room:", RoomKind::Shared),
    ("workspace:", RoomKind::Workspace),
    ("component:", RoomKind::Component),
];

/// The id of a user without what some applications write before those that have an account: `auth_ada` and `ada` are one user.
fn account(user: &str) -> &str {
    user.strip_prefix(ACCOUNT).unwrap_or(user)
}

/// The spellings of a user's id.
pub fn spellings(user: &str) -> [String; 2] {
    let user = account(user);
    [user.to_owned(), format!("{ACCOUNT}{user}")]
}

/// Whether a text can be the id of something: 1–255 bytes without control characters.
pub fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= PageId::MAX_BYTES && !text.chars().any(char::is_control)
}

impl RoomName {
    /// Reads a name in any of its spellings; `None` when there is no such room.
    pub fn parse(name: &str) -> Option<Self> {
        if name == "global" {
            return Some(Self(name.into()));
        }
        if let Some(id) = name.strip_prefix(USER) {
            let id = account(id);
            let (user, rest) = split_personal(id);
            return is_id(user).then(|| Self(format!("{USER}{user}{rest}").into()));
        }
        if let Some(id) = name.strip_prefix(NOTIFICATIONS) {
            let user = account(id);
            return is_id(user).then(|| Self(format!("{NOTIFICATIONS}{user}").into()));
        }
        let rest = if let Some(id) = name.strip_prefix(DRIVE) {
            id.strip_suffix(CALENDAR).unwrap_or(id)
        } else if let Some(id) = name
            .strip_prefix(DRIVE_ACTIVITY)
            .or_else(|| name.strip_prefix(PAGE_ACTIVITY))
        {
            id
        } else if let Some(entity) = name.strip_prefix(ENTITY) {
            let (kind, id) = entity.split_once(':')?;
            if !is_id(kind) {
                return None;
            }
            id
        } else if let Some(id) = PLAIN.iter().find_map(|(prefix, _)| name.strip_prefix(prefix)) {
            id
        } else if name.contains(':') {
            return None;
        } else {
            return Self::page(name);
        };
        let is_page = name.starts_with(PAGE) || name.starts_with(PAGE_ACTIVITY);
        let exists = is_id(rest) && (!is_page || PageId::new(rest).is_ok());
        exists.then(|| Self(name.into()))
    }

    /// The room of a page; `None` when no page can have this id.
    pub fn page(id: &str) -> Option<Self> {
        PageId::new(id)
            .is_ok()
            .then(|| Self(format!("{PAGE}{id}").into()))
    }

    /// The room of a page.
    pub fn of_page(page: &PageId) -> Self {
        Self(format!("{PAGE}{}", page.as_str()).into())
    }

    /// The room of what happens in a page.
    pub fn activity_of_page(page: &PageId) -> Self {
        Self(format!("{PAGE_ACTIVITY}{page}").into())
    }

    /// A room that has one of the plain prefixes, such as `dm:`.
    pub fn with_prefix(prefix: &str, id: &str) -> Option<Self> {
        Self::parse(&format!("{prefix}{id}"))
    }

    /// The rooms that a user is in without asking. A user whose id ends like the name of such a room (`bob:tasks`) has those rooms alone
    /// whose names cannot be taken for another user's.
    pub fn personal(user: &str) -> impl Iterator<Item = Self> {
        let user = account(user).to_owned();
        let own = [""].into_iter().chain(PERSONAL).map({
            let user = user.clone();
            move |rest| format!("{USER}{user}{rest}")
        });
        let rooms = own.chain([format!("{NOTIFICATIONS}{user}"), "global".to_owned()]);
        let rooms = rooms.map(|name| Self(name.into()));
        rooms.filter(move |room| room.kind() == RoomKind::Global || room.id() == user)
    }

    /// Of the rooms that a user is in without asking, the one that everything of the user is told in; `None` when its name would be that of
    /// another user's.
    pub fn of_user(user: &str) -> Option<Self> {
        Self::personal(user).find(|room| room.0.strip_prefix(USER) == Some(account(user)))
    }

    /// What the room is for.
    pub fn kind(&self) -> RoomKind {
        let name = &*self.0;
        if name == "global" {
            RoomKind::Global
        } else if name.starts_with(USER) || name.starts_with(NOTIFICATIONS) {
            RoomKind::Personal
        } else if name.starts_with(DRIVE) {
            match name.ends_with(CALENDAR) {
                true => RoomKind::Calendar,
                false => RoomKind::Drive,
            }
        } else if name.starts_with(DRIVE_ACTIVITY) {
            RoomKind::DriveActivity
        } else if name.starts_with(PAGE_ACTIVITY) {
            RoomKind::PageActivity
        } else if name.starts_with(ENTITY) {
            RoomKind::Entity
        } else {
            let plain = PLAIN.iter().find(|(prefix, _)| name.starts_with(prefix));
            plain.map_or(RoomKind::Page, |(_, kind)| *kind)
        }
    }

    /// What is behind the prefix: the id of what the room is about.
    pub fn id(&self) -> &str {
        let name = &*self.0;
        let prefixes = [DRIVE_ACTIVITY, PAGE_ACTIVITY, DRIVE, USER, NOTIFICATIONS, ENTITY];
        let plain = PLAIN.iter().map(|(prefix, _)| *prefix);
        let mut prefixes = prefixes.into_iter().chain(plain);
        let id = prefixes
            .find_map(|prefix| name.strip_prefix(prefix))
            .unwrap_or(name);
        match name {
            _ if name.starts_with(DRIVE) => id.strip_suffix(CALENDAR).unwrap_or(id),
            _ if name.starts_with(USER) => split_personal(id).0,
            _ => id,
        }
    }

    /// The name under which the sources of access are asked: what belongs to a drive or a page follows that. `None` for rooms that
    /// nobody can ask for.
    pub fn asked(&self) -> Option<PageId> {
        let asked = match self.kind() {
            RoomKind::Page | RoomKind::PageActivity => self.id().to_owned(),
            RoomKind::Calendar | RoomKind::DriveActivity => format!("{DRIVE}{}", self.id()),
            RoomKind::Personal | RoomKind::Global => return None,
            RoomKind::Drive
            | RoomKind::Dm
            | RoomKind::Conversation
            | RoomKind::Session
            | RoomKind::Shared
            | RoomKind::Workspace
            | RoomKind::Component
            | RoomKind::Entity => self.0.to_string(),
        };
        PageId::new(&asked).ok()
    }

    /// The name as it is told to clients: of a page its id alone, as its own programs name it.
    pub fn told(&self) -> &str {
        self.0.strip_prefix(PAGE).unwrap_or(&self.0)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The id of a user, and which of its rooms is meant.
fn split_personal(id: &str) -> (&str, &str) {
    let rest = PERSONAL.iter().find(|rest| id.ends_with(**rest));
    match rest {
        Some(rest) => (id.strip_suffix(rest).unwrap_or(id), rest),
        None => (id, ""),
    }
}

impl fmt::Debug for RoomName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Borrow<str> for RoomName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_spelling_a_kind_and_what_is_asked_for_it() {
        for (name, spelled, kind, id, asked) in [
            ("abc", "page:abc", RoomKind::Page, "abc", Some("abc")),
            ("page:abc", "page:abc", RoomKind::Page, "abc", Some("abc")),
            ("page:a:b", "page:a:b", RoomKind::Page, "a:b", Some("a:b")),
            ("drive:d", "drive:d", RoomKind::Drive, "d", Some("drive:d")),
            (
                "drive:d:calendar",
                "drive:d:calendar",
                RoomKind::Calendar,
                "d",
                Some("drive:d"),
            ),
            (
                "activity:drive:d",
                "activity:drive:d",
                RoomKind::DriveActivity,
                "d",
                Some("drive:d"),
            ),
            (
                "activity:page:p",
                "activity:page:p",
                RoomKind::PageActivity,
                "p",
                Some("p"),
            ),
            ("dm:x", "dm:x", RoomKind::Dm, "x", Some("dm:x")),
            ("conv:x", "conv:x", RoomKind::Conversation, "x", Some("conv:x")),
            (
                "session:x",
                "session:x",
                RoomKind::Session,
                "x",
                Some("session:x"),
            ),
            (
                "room:CODE",
                "room:CODE",
                RoomKind::Shared,
                "CODE",
                Some("room:CODE"),
            ),
            (
                "workspace:w",
                "workspace:w",
                RoomKind::Workspace,
                "w",
                Some("workspace:w"),
            ),
            (
                "component:c",
                "component:c",
                RoomKind::Component,
                "c",
                Some("component:c"),
            ),
            (
                "entity:page:p:1",
                "entity:page:p:1",
                RoomKind::Entity,
                "page:p:1",
                Some("entity:page:p:1"),
            ),
            ("user:u", "user:u", RoomKind::Personal, "u", None),
            ("user:auth_u:tasks", "user:u:tasks", RoomKind::Personal, "u", None),
            (
                "user:auth0|x:sessions",
                "user:auth0|x:sessions",
                RoomKind::Personal,
                "auth0|x",
                None,
            ),
            (
                "notifications:u",
                "notifications:u",
                RoomKind::Personal,
                "u",
                None,
            ),
            ("global", "global", RoomKind::Global, "global", None),
        ] {
            let room = RoomName::parse(name).unwrap_or_else(|| panic!("{name} is a room"));
            assert_eq!(room.as_str(), spelled, "{name}");
            assert_eq!(room.kind(), kind, "{name}");
            assert_eq!(room.id(), id, "{name}");
            let found = room.asked();
            assert_eq!(found.as_ref().map(PageId::as_str), asked, "{name}");
        }
    }

    #[test]
    fn no_other_room_exists() {
        let long = "x".repeat(256);
        for name in [
            "",
            "page:",
            "drive:",
            "drive::calendar",
            "activity:x",
            "activity:page:",
            "entity:page",
            "entity::x",
            "user:",
            "user::tasks",
            "user:auth_",
            "notifications:",
            "global:drives",
            "socket:x",
            "a\nb",
            "page:../x",
            long.as_str(),
        ] {
            assert_eq!(RoomName::parse(name), None, "{name:?}");
        }
    }

    #[test]
    fn no_user_is_in_the_rooms_of_another() {
        let bob: Vec<_> = RoomName::personal("bob").collect();
        for other in ["bob:tasks", "auth_bob:calendar", "bob:tasks:tasks"] {
            let rooms = RoomName::personal(other).filter(|room| room.kind() == RoomKind::Personal);
            let rooms: Vec<_> = rooms.collect();
            assert!(rooms.iter().all(|room| !bob.contains(room)), "{other}: {rooms:?}");
            assert!(
                rooms.iter().all(|room| room.id() == account(other)),
                "{other}: {rooms:?}"
            );
            assert!(RoomName::of_user(other).is_none(), "{other}");
        }
        assert_eq!(RoomName::of_user("auth_bob"), RoomName::parse("user:bob"));
    }

    #[test]
    fn a_user_is_in_its_own_rooms_and_with_everybody() {
        let rooms: Vec<_> = RoomName::personal("auth_u")
            .map(|room| room.0.to_string())
            .collect();
        let expected = [
            "user:u",
            "user:u:tasks",
            "user:u:calendar",
            "user:u:drives",
            "user:u:global",
            "user:u:sessions",
            "notifications:u",
            "global",
        ];
        assert_eq!(rooms, expected);
        for room in &rooms {
            assert_eq!(
                RoomName::parse(room).map(|room| room.0.to_string()).as_ref(),
                Some(room)
            );
        }
    }
}
