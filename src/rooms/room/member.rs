//! One member of a room: what it may do, and how far it has followed the document.

use std::sync::Arc;

use bytes::Bytes;
use crdt::StateVector;

use super::{Capabilities, Outgoing, Outlet, Role, ServerMessage};

/// How far a member has followed the document.
#[derive(Debug)]
pub(super) enum Follower {
    /// It has not asked for what it lacks, and is sent nothing of the document until then.
    Asking,
    /// It is sent every flush.
    Following,
    /// Its outbox was full. Once that has drained, it is sent one step 2 with everything beyond this state vector.
    Behind(StateVector),
}

/// A member of a room.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) outlet: Arc<dyn Outlet>,
    pub(super) capabilities: Capabilities,
    pub(super) role: Role,
    /// `None` for guests, who all count as one user.
    pub(super) user: Option<Arc<str>>,
    pub(super) follower: Follower,
    /// It has been told that its changes are refused; once is enough.
    pub(super) told_read_only: bool,
    /// It has answered the question for what the room lacks.
    pub(super) has_resynced: bool,
    /// Something that it wrote was refused since.
    pub(super) has_refused: bool,
    /// What it wants to be told when everything that it has is stored, for as long as that is not known to be in the room.
    pub(super) barrier: Option<Bytes>,
}

impl Member {
    pub(super) fn new(outlet: Arc<dyn Outlet>, role: Role, user: Option<Arc<str>>) -> Self {
        Self {
            capabilities: outlet.capabilities(),
            outlet,
            role,
            user,
            follower: Follower::Asking,
            told_read_only: false,
            has_resynced: false,
            has_refused: false,
            barrier: None,
        }
    }

    /// Whether it takes what comes back of its own edits for the acknowledgement.
    pub(super) fn wants_echo(&self) -> bool {
        !self.capabilities.receipts
    }

    /// Gives it a message that always fits.
    pub(super) fn send(&self, message: ServerMessage) {
        self.outlet.push(&Outgoing::new(message));
    }
}
