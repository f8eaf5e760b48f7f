//! Who looks at the pages of a drive, as the members of the drive hear of it: each of the pages that it may see.
//!
//! The list of a page, `presence:page_viewers`, is told in the room of the page's drive as well, to sockets that do not hear it at the page.
//! The application knows the drive. Whether a member may see the page is asked each time, so that nobody has to follow the rights of all
//! members to all pages; answers are kept where the sources are asked. Lists in a drive are told one after the other, the less often the longer
//! they are.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use storage::PageId;

use super::{
    EventRooms, EventSocket, Presence, SocketId,
    viewers::{MIN_LIST_WINDOW, list_window},
};
use crate::{access::Access, rooms::RoomName};

/// Members of a drive of whom it is asked at the same time whether they may see a page.
const MAX_ASKED_AT_ONCE: usize = 16;

/// Tells the members of drives who looks at the pages there.
pub struct DriveViewers {
    access: Access,
    rooms: EventRooms,
    presence: Weak<Presence>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The sockets that have been in a drive.
    sockets: BTreeMap<SocketId, Weak<EventSocket>>,
    /// The pages whose lists are being told, and whether they have changed meanwhile.
    changed: BTreeMap<RoomName, bool>,
    /// The drives in which lists are told or wait for their turn.
    turns: BTreeMap<RoomName, Arc<tokio::sync::Mutex<()>>>,
}

impl DriveViewers {
    /// Nobody yet.
    pub(super) fn new(access: Access, presence: &Arc<Presence>) -> Arc<Self> {
        Arc::new(Self {
            access,
            rooms: presence.rooms().clone(),
            presence: Arc::downgrade(presence),
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held, so what a poisoned lock guards is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A socket is in the room of a drive.
    pub(super) fn watch(&self, socket: &Arc<EventSocket>) {
        self.state().sockets.insert(socket.id(), Arc::downgrade(socket));
    }

    /// A socket has gone.
    pub(super) fn forget(&self, socket: SocketId) {
        self.state().sockets.remove(&socket);
    }

    /// Who looks at a page has changed.
    pub(super) fn changed(self: &Arc<Self>, page: &RoomName) {
        let is_told = self.state().changed.insert(page.clone(), true).is_some();
        if !is_told {
            tokio::spawn(self.clone().tell(page.clone()));
        }
    }

    /// Tells the list of a page until it changes no more.
    async fn tell(self: Arc<Self>, page: RoomName) {
        while self.take_changed(&page) {
            self.tell_once(&page).await;
            tokio::time::sleep(MIN_LIST_WINDOW).await;
        }
    }

    fn take_changed(&self, page: &RoomName) -> bool {
        let mut state = self.state();
        let has_changed = state.changed.insert(page.clone(), false) == Some(true);
        if !has_changed {
            state.changed.remove(page);
        }
        has_changed
    }

    async fn tell_once(&self, page: &RoomName) {
        let Ok(id) = PageId::new(page.id()) else {
            return;
        };
        // What has failed is in the log, and the next list is told when it can be.
        let Ok(Some(drive)) = self.access.drive_of(&id).await else {
            return;
        };
        if self.rooms.count(&drive) == 0 {
            return;
        }
        let turn = self.state().turns.entry(drive.clone()).or_default().clone();
        {
            let _turn = turn.lock().await;
            tokio::time::sleep(self.tell_in(&drive, page, &id).await).await;
        }
        drop(turn);
        let mut state = self.state();
        // Turns are cloned under this lock alone.
        if state
            .turns
            .get(&drive)
            .is_some_and(|turn| Arc::strong_count(turn) == 1)
        {
            state.turns.remove(&drive);
        }
    }

    /// Tells the list of a page in the room of a drive. Gives how long nothing may be told there behind that.
    async fn tell_in(&self, drive: &RoomName, page: &RoomName, id: &PageId) -> Duration {
        let Some(presence) = self.presence.upgrade() else {
            return Duration::ZERO;
        };
        let (text, hear_it_there) = presence.people_list(page);
        let members: Vec<_> = {
            let state = self.state();
            let members = self.rooms.member_ids(drive).into_iter();
            let members = members.filter(|socket| !hear_it_there.contains(socket));
            members
                .filter_map(|socket| state.sockets.get(&socket)?.upgrade())
                .collect()
        };
        if members.is_empty() {
            return Duration::ZERO;
        }
        let telling = stream::iter(members).for_each_concurrent(MAX_ASKED_AT_ONCE, async |member| {
            self.tell_member(&member, drive, id, &text).await;
        });
        telling.await;
        list_window(text.len())
    }

    async fn tell_member(&self, member: &EventSocket, drive: &RoomName, page: &PageId, text: &Bytes) {
        let may_see = self.access.role(&member.identity(), page).await.is_ok();
        // It may have left, or been sent away, while that was asked.
        if may_see && self.rooms.is_in(member.id(), drive) {
            member.push(text);
        }
    }
}
