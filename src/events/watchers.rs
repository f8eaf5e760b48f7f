//! The sockets at a page, and the form in which each hears of typing and cursors.

use std::{collections::BTreeMap, sync::Arc};

use crdt::ClientId;

use super::{SocketId, people::Person};

/// The form in which a program hears of what changes often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An event for each who has changed: programs that name pages by their id.
    Each,
    /// One event for all: programs that name pages in an object.
    Sets,
}

/// Where typing or a cursor comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A socket in the namespace of events.
    Socket(SocketId),
    /// What a client shows in the presence of the page's document.
    Client(ClientId),
}

/// A socket at a page.
#[derive(Clone, Debug)]
pub struct Watcher {
    /// Its user over this socket.
    pub person: Arc<Person>,
    /// In which form it has opened the page, if it has.
    pub opened: Option<Form>,
    /// Its program takes part in the document, and so in awareness.
    pub syncs: bool,
    /// It is shown among those who look at the page, and wants to be told of them.
    pub looks: bool,
}

impl Watcher {
    /// A socket that only hears what is told at the page.
    pub fn new(person: Arc<Person>) -> Self {
        Self {
            person,
            opened: None,
            syncs: false,
            looks: false,
        }
    }

    /// In which form it hears of typing and cursors.
    pub fn form(&self) -> Form {
        self.opened.unwrap_or(Form::Each)
    }
}

/// The sockets at one page.
#[derive(Debug, Default)]
pub struct Watchers {
    sockets: BTreeMap<SocketId, Watcher>,
    /// The sockets by what their clients call them.
    names: BTreeMap<Arc<str>, SocketId>,
    /// How many take part in the document.
    syncing: usize,
}

impl Watchers {
    /// A socket is at the page.
    pub fn set(&mut self, socket: SocketId, watcher: Watcher) {
        self.remove(socket);
        self.syncing += usize::from(watcher.syncs);
        self.names.insert(watcher.person.socket_id.clone(), socket);
        self.sockets.insert(socket, watcher);
    }

    /// A socket is not at the page any more.
    pub fn remove(&mut self, socket: SocketId) {
        if let Some(before) = self.sockets.remove(&socket) {
            self.syncing -= usize::from(before.syncs);
            self.names.remove(&before.person.socket_id);
        }
    }

    /// A socket, if it is at the page.
    pub fn get(&self, socket: SocketId) -> Option<&Watcher> {
        self.sockets.get(&socket)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (SocketId, &Watcher)> {
        self.sockets.iter().map(|(socket, watcher)| (*socket, watcher))
    }

    /// Whether some take part in the document.
    pub fn any_syncs(&self) -> bool {
        self.syncing > 0
    }

    /// The one whose client calls it so, if it is at the page.
    pub fn named(&self, connection: &str) -> Option<SocketId> {
        self.names.get(connection).copied()
    }

    /// Whether some hear in this form.
    pub fn any(&self, form: Form) -> bool {
        self.sockets.values().any(|watcher| watcher.form() == form)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::events::people::tests::person;

    /// Socket 0 hears of each, socket 1 sets.
    pub(in crate::events) fn both() -> Watchers {
        let mut watchers = Watchers::default();
        for (socket, user, form) in [(0, "one", Form::Each), (1, "two", Form::Sets)] {
            let person = Arc::new(person(user, &socket.to_string()));
            let opened = Some(form);
            watchers.set(
                SocketId(socket),
                Watcher {
                    opened,
                    ..Watcher::new(person)
                },
            );
        }
        watchers
    }
}
