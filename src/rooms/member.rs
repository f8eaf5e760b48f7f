//! One connection's seat in a room: what it may do and how far it has followed the document.

use std::{collections::BTreeSet, sync::Arc};

use crdt::{ClientId, StateVector};

use super::{Capabilities, receipts::Receipts, room::Mark};

/// What a user may do with a page; each role may do what the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Read, and show a cursor.
    View,
    /// Also send events.
    Comment,
    /// Also change the page.
    Edit,
    /// Also manage the page.
    Admin,
}

impl Role {
    /// Whether this role may change the page.
    pub fn may_edit(self) -> bool {
        self >= Self::Edit
    }

    /// The role's name on the wire and in claims.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Comment => "comment",
            Self::Edit => "edit",
            Self::Admin => "admin",
        }
    }

    /// Reads a role's name; `None` for anything that is no role.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "view" => Some(Self::View),
            "comment" => Some(Self::Comment),
            "edit" => Some(Self::Edit),
            "admin" => Some(Self::Admin),
            _ => None,
        }
    }
}

/// How others see a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Viewer {
    /// The user; `None` for guests.
    pub user: Option<Arc<str>>,
    /// The user's name.
    pub name: Option<Arc<str>>,
    /// Address of a picture of the user.
    pub avatar_url: Option<Arc<str>>,
    /// What the client calls its connection, where it calls it anything.
    pub socket: Option<Arc<str>>,
}

/// A member of a room.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) role: Role,
    /// `None` for guests, who all count as one user.
    pub(super) user: Option<Arc<str>>,
    /// What it had when its outbox overflowed; it gets no document messages until it is given what it missed.
    pub(super) behind: Option<StateVector>,
    /// It has been told that its changes are refused; once is enough.
    pub(super) told_read_only: bool,
    /// Whose updates it has been asked for because what it sent builds on them; once is enough until some of it fits.
    pub(super) asked: BTreeSet<ClientId>,
    /// Something early that it sent could not be kept: it must be asked for it again.
    pub(super) unkept: bool,
    pub(super) capabilities: Capabilities,
    /// What its document messages came to and it has not been told, if it counts.
    pub(super) receipts: Receipts,
    /// It has brought something new of another user who is here, which was left out.
    pub(super) withheld: bool,
    /// What it has brought of its own that builds on what others have not brought yet.
    /// It has answered the question for what the room lacks.
    pub(super) has_resynced: bool,
    /// Something that it wrote was refused since.
    pub(super) has_refused: bool,
    /// What it wants to be told when everything that it has is stored.
    pub(super) mark: Option<Mark>,
}

impl Member {
    pub(super) fn new(role: Role, user: Option<Arc<str>>, capabilities: Capabilities) -> Self {
        Self {
            role,
            user,
            behind: None,
            told_read_only: false,
            asked: BTreeSet::new(),
            unkept: false,
            capabilities,
            receipts: Receipts::default(),
            withheld: false,
            has_resynced: false,
            has_refused: false,
            mark: None,
        }
    }
}
