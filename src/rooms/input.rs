//! Everything that can happen to a room.

use std::sync::Arc;

use bytes::Bytes;
use crdt::{ClientId, IdentityStamp};
use storage::{Committed, LoggedUpdate, Seq};

use super::{ClientMessage, Outlet, Refusal, Role, ShownStates};

/// A connection's seat in a room, unique in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

/// A request of a backend that waits for something to be stored, unique in the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// How a member went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// It said goodbye, or was sent away: its presence ends at once.
    Clean,
    /// Its connection broke: its presence stays for a moment, because it probably comes back.
    Lost,
}

/// When an update is still wanted, at the moment when it would be taken in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    #[default]
    Always,
    /// When the page has never been edited, not even by an edit that is on its way to the store.
    First,
    /// When nothing of this client is in the page.
    Without(ClientId),
}

/// Something that happened to a room.
#[derive(Debug)]
pub enum Input {
    /// A connection took a seat.
    Joined {
        /// Its seat.
        member: MemberId,
        /// What it may do.
        role: Role,
        /// Whose connection it is.
        user: Option<Arc<str>>,
        /// Says in its presence who it is, where the server does that.
        stamp: Option<Arc<IdentityStamp>>,
        /// The way to it.
        outlet: Arc<dyn Outlet>,
    },
    /// A member said something.
    Said {
        /// The member.
        member: MemberId,
        /// What it said, in order.
        messages: Vec<ClientMessage>,
    },
    /// A member went.
    Left {
        /// The member.
        member: MemberId,
        /// How it went.
        departure: Departure,
    },
    /// What a member may do has changed.
    RoleChanged {
        /// The member.
        member: MemberId,
        /// What it may do from now on.
        role: Role,
    },
    /// A member may not be here any more.
    Removed {
        /// The member.
        member: MemberId,
        /// Why.
        refusal: Refusal,
    },
    /// The outbox of a member that had fallen behind has drained: it wants what it missed.
    Drained {
        /// The member.
        member: MemberId,
    },
    /// A backend, or a member that waits for the answer, posted an update.
    Posted {
        /// Its request.
        request: RequestId,
        /// The member, whose rights count; `None` for a backend.
        member: Option<MemberId>,
        /// Whose request it is, where that is known.
        user: Option<Arc<str>>,
        /// The update.
        update: Bytes,
        /// Whether it is still wanted.
        condition: Condition,
    },
    /// A backend has something to say to the members that is no part of the document.
    Announced {
        /// UTF-8 text.
        payload: Bytes,
    },
    /// A reader wants to be told when everything that is in the document now is stored.
    Awaited {
        /// Its request.
        request: RequestId,
    },
    /// The store has what the last [`Effect::Append`](super::Effect::Append) asked it to keep.
    Stored {
        /// What became of it.
        committed: Committed,
    },
    /// What became of the last [`Effect::Compact`](super::Effect::Compact).
    Compacted {
        /// The log was to be covered up to this row.
        seq: Seq,
        /// Whether the store has the snapshot, or one that covers as much. If not, it is still to be written.
        taken: bool,
    },
    /// Rows that another process appended to the same page.
    Remote {
        /// The rows, in order.
        rows: Vec<LoggedUpdate>,
    },
    /// Somebody outside looks at the room's presence, or nobody does any more; what the server shows there goes with it.
    Watched {
        /// Whether.
        is_watched: bool,
    },
    /// The server shows states of its own.
    Shown {
        /// The states.
        states: ShownStates,
    },
    /// The server is stopping.
    Draining {
        /// There is no more time to wait for the store: members are sent away although something is unstored.
        abandon: bool,
    },
}
