//! What a member may do, changed from outside while it is in its room.
//!
//! A change must not wait behind what the member has said already. So it is left where the room's task looks before it hands
//! over anything of the member, and the mailbox is only told to look.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use super::{Refusal, Role};

/// What has become of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It may do this from now on.
    Role(Role),
    /// It has to go.
    Removed(Refusal),
}

/// The last change that the room has not heard of.
#[derive(Debug, Default)]
pub(super) struct Standing {
    changed: AtomicBool,
    change: Mutex<Option<Change>>,
}

impl Standing {
    /// Leaves a change for the room. Whoever has to go cannot be given a role again.
    pub(super) fn set(&self, change: Change) {
        let mut last = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*last, Some(Change::Removed(_))) {
            *last = Some(change);
        }
        self.changed.store(true, Ordering::Release);
    }

    /// Takes what the room has not heard of yet.
    pub(super) fn take(&self) -> Option<Change> {
        if !self.changed.swap(false, Ordering::Acquire) {
            return None;
        }
        self.change.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
