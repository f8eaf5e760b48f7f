//! What a member may do, changed from outside while it is in its room.
//!
//! A change must not wait behind what members have said already, nor whoever makes it for a room that has much to do. So it is left
//! where the room's task looks before it hands over anything of the member, and the task is called to look.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;

use super::{MemberId, Onlooker, Refusal, Role, ShownStates, sight::Wanted};

/// What has become of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It may do this from now on.
    Role(Role),
    /// It has to go.
    Removed(Refusal),
}

/// The last change that the room has not heard of.
#[derive(Debug, Default)]
pub struct Standing {
    changed: AtomicBool,
    change: Mutex<Option<Change>>,
}

impl Standing {
    /// Leaves a change for the room. Whoever has to go cannot be given a role again.
    pub fn set(&self, change: Change) {
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

/// The members of a room whose standing has changed, for its task. Calling it never waits.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// Bounded by the members that the room has had: each is in it once.
    members: Mutex<BTreeSet<MemberId>>,
    /// What is wanted by who looks at the room from outside.
    wanted: Mutex<Wanted>,
    called: Notify,
}

impl Calls {
    /// Asks the task to look at a member.
    pub(super) fn call(&self, member: MemberId) {
        self.members
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(member);
        self.called.notify_one();
    }

    /// Says who looks at the room from now on, or that nobody does.
    pub(super) fn watch(&self, onlooker: Option<Arc<dyn Onlooker>>) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if onlooker.is_none() {
            wanted.is_over = true;
            wanted.shown.clear();
        }
        wanted.onlooker = onlooker;
        drop(wanted);
        self.called.notify_one();
    }

    /// Shows states in the room.
    pub(super) fn show(&self, states: ShownStates) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.shown.extend(states);
        drop(wanted);
        self.called.notify_one();
    }

    /// Takes what is wanted.
    pub(super) fn take_wanted(&self) -> Wanted {
        std::mem::take(&mut *self.wanted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for a call. One that came before counts.
    pub(super) async fn called(&self) {
        self.called.notified().await;
    }

    /// Takes those who are to be looked at.
    pub(super) fn take(&self) -> BTreeSet<MemberId> {
        std::mem::take(&mut *self.members.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
