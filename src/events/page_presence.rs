//! Who is at one page, who types there and where the cursors are. Pure: time is an argument.

use std::{collections::BTreeSet, hash::RandomState, time::Instant};

use super::{
    SocketId,
    awareness::Seen,
    color,
    cursors::{Cursors, Owner},
    mirror::Mirror,
    people::Place,
    typing::Typing,
    viewers::{Letters, Listening, Viewers},
    watchers::{Form, Source, Watcher, Watchers},
};
use crate::rooms::RoomName;

/// Presence at one page.
pub(super) struct Page {
    pub(super) viewers: Viewers,
    pub(super) watchers: Watchers,
    pub(super) typing: Typing,
    pub(super) cursors: Cursors,
    pub(super) mirror: Mirror,
    /// The seats in the room of the page's document whose programs know awareness.
    pub(super) aware: BTreeSet<u64>,
    /// The version of the viewers that its drive was to hear of.
    pub(super) shown: u64,
    pub(super) deadline: Option<Instant>,
}

impl Page {
    pub(super) fn new(room: &RoomName, keys: RandomState) -> Self {
        Self {
            viewers: Viewers::new(room.id()),
            watchers: Watchers::default(),
            typing: Typing::default(),
            cursors: Cursors::default(),
            mirror: Mirror::new(keys),
            aware: BTreeSet::new(),
            shown: 0,
            deadline: None,
        }
    }

    /// Changes how a socket is at the page.
    pub(super) fn set(&mut self, room: &RoomName, socket: SocketId, watcher: Watcher, told: &mut Letters) {
        let before = self.watchers.get(socket).map(Watcher::form);
        let form = watcher.form();
        let opened = watcher.opened;
        let listening = Listening {
            ids: opened == Some(Form::Each),
            people: opened == Some(Form::Each) || watcher.looks,
            changes: opened == Some(Form::Sets),
        };
        self.viewers.listen(socket, listening);
        self.watchers.set(socket, watcher);
        if before != Some(form) {
            let typing = self.typing.introduction(room.id(), form);
            let cursors = self.cursors.introduction(room.id(), form);
            told.extend(typing.into_iter().chain(cursors).map(|text| (socket, text)));
        }
    }

    pub(super) fn stop(&mut self, socket: SocketId) {
        self.typing.stop(Source::Socket(socket));
        self.cursors.left(Source::Socket(socket));
        self.mirror.left(socket);
    }

    pub(super) fn tell(&mut self, now: Instant, room: &RoomName, max_named: usize, told: &mut Letters) {
        self.viewers.tell(now, told);
        self.typing.tell(now, room.id(), max_named, &self.watchers, told);
        for (source, types) in self.typing.take_changed() {
            if let Source::Socket(socket) = source
                && let Some(watcher) = self.watchers.get(socket)
            {
                self.mirror.types(socket, &watcher.person, types);
            }
        }
        self.cursors.tell(now, room.id(), &self.watchers, told);
    }

    /// Whether there are programs of both kinds: sockets that hear events, and some with awareness.
    pub(super) fn has_both_kinds(&self) -> bool {
        !self.watchers.is_empty() && (!self.aware.is_empty() || self.watchers.any_syncs())
    }

    /// Takes in what is to be seen in the page's awareness.
    pub(super) fn see(&mut self, now: Instant, sight: Seen) {
        let Self {
            mirror,
            cursors,
            typing,
            viewers,
            watchers,
            ..
        } = self;
        if sight.is_whole {
            mirror.begin_anew((cursors, typing));
        }
        let people = viewers.people();
        for (client, change) in sight.clients {
            let owner = |seat| {
                let person = people.at(Place::Seat(seat))?.clone();
                Some(Owner {
                    connection: client.0.to_string().into(),
                    color: color(&person.user_id).into(),
                    socket: watchers.named(&person.socket_id),
                    person,
                })
            };
            mirror.saw(now, client, change, owner, (cursors, typing));
        }
        if sight.is_edited {
            mirror.edited();
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [
            self.viewers.next_deadline(),
            self.typing.next_deadline(),
            self.cursors.next_deadline(),
            self.mirror.next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    pub(super) fn is_idle(&self) -> bool {
        let is_empty = self.watchers.is_empty() && self.aware.is_empty();
        is_empty
            && self.viewers.is_idle()
            && self.typing.is_idle()
            && self.cursors.is_idle()
            && self.mirror.is_idle()
    }
}
