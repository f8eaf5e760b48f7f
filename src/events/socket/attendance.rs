//! That a socket is at pages, drives and workspaces, as others see it.

use std::{sync::Arc, time::Instant};

use super::{EventSocket, TOUCHED_EVERY, lock};
use crate::{
    access::Viewer,
    events::{Drives, Form, Way, people::Person},
    rooms::{Departure, Refusal, RefusalCode, RoomKind, RoomName},
};

impl EventSocket {
    /// Its user over this socket, as others see it.
    pub(in crate::events) fn person(&self) -> Person {
        Person::new(Viewer::new(&self.identity(), Some(self.name.clone())), "")
    }

    /// It is in the room of a page in one more way.
    pub(super) fn appear(&self, room: &RoomName, way: Way) {
        if room.kind() == RoomKind::Page {
            let presence = &self.services.presence;
            presence.enter(room, self.id, self.person());
            if way == Way::Presence {
                presence.look(room, self.id, Some(self.person()));
            }
        }
    }

    /// It is among the members of a drive or a workspace, if its user has an account.
    pub(super) async fn join(self: &Arc<Self>, room: &RoomName) {
        if room.kind() == RoomKind::Drive {
            self.services.drive_viewers.watch(self);
        }
        let user = self.identity().user.clone();
        if let Some(user) = user.filter(|_| Drives::shows(room)) {
            self.services.drives.enter(room, self.id, &user).await;
            if !self.services.rooms.is_in(self.id, room) {
                // It was sent away in between.
                self.services.drives.leave(room, self.id, Departure::Clean);
            }
        }
    }

    /// It has gone, and nobody sees it any more.
    pub(super) fn vanish(&self, departure: Departure) {
        self.services.presence.disconnect(self.id, departure);
        self.services.drives.disconnect(self.id, departure);
        self.services.drive_viewers.forget(self.id);
        self.services.profiles.disconnected(self, departure);
    }

    /// Its client does something: it is not idle.
    pub fn touch(&self, now: Instant) {
        let mut touched = lock(&self.touched);
        if touched.is_none_or(|at| now >= at + TOUCHED_EVERY) {
            *touched = Some(now);
            self.services.drives.touch(self.id);
        }
    }

    /// Its program says that the user looks away, or back.
    pub fn set_away(&self, is_away: bool) {
        self.services.drives.set_away(self.id, is_away);
    }

    /// It is in a room in one way less, or has left it with that.
    pub(super) fn disappear(&self, room: &RoomName, way: Way, has_left: bool) {
        let presence = &self.services.presence;
        match (room.kind(), way) {
            (RoomKind::Page, _) if has_left => presence.leave(room, self.id, Departure::Clean),
            (RoomKind::Page, Way::Presence) => presence.look(room, self.id, None),
            (RoomKind::Page, Way::Page) => presence.open(room, self.id, None, false),
            (RoomKind::Drive | RoomKind::Workspace, _) if has_left => {
                self.services.drives.leave(room, self.id, Departure::Clean);
            }
            _ => {}
        }
    }

    /// The ids of those at a page, the earliest first.
    pub fn viewers(&self, room: &RoomName) -> Vec<Arc<str>> {
        self.services.presence.users(room)
    }

    /// The client knows that it has opened a page, and hears in this form what changes about those who are there.
    pub fn hear(&self, room: &RoomName, form: Form, syncs: bool) {
        self.services.presence.open(room, self.id, Some(form), syncs);
    }

    /// Its user is no member of a drive or a workspace any more, if that is why it was sent away. Who cannot be asked about now, or has to
    /// show a fresh token, is one all the same.
    pub(super) fn expel(&self, room: &RoomName, refusal: &Refusal) {
        let is_no_member = matches!(
            refusal.code,
            RefusalCode::Forbidden | RefusalCode::NotFound | RefusalCode::PageDeleted
        );
        let user = self.identity().user.clone();
        if let Some(user) = user.filter(|_| is_no_member && Drives::shows(room)) {
            self.services.drives.expel(room, &user);
        }
    }
}
