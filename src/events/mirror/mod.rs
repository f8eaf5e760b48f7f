//! The two kinds of programs at one page, as each sees the other's cursors and typing: those without Yjs, and those with awareness. Pure:
//! time is an argument.
//!
//! ```text
//!  a state in awareness ──► typing, or a cursor that is passed on ──────────────► events
//!          └─ a selection ──► unresolved ══► question ══► answer: two numbers ──────┘
//!
//!  events ──► typing, or a cursor that is passed on ──────────────► ready ──► a state in awareness
//!     └─ two numbers ──► unresolved ══► question ══► answer ──────────┘
//! ```
//!
//! Where a selection is in the text only a document knows, so that is asked: of all that wait together, so often and no oftener, and the less
//! often the larger the page is and the longer an answer takes. Selections of clients are asked about again when the page is edited, because
//! their numbers have become others. What is not answered is not shown. Nothing is done at pages where one kind is alone.
//!
//! A client says that somebody types with each change of its state, and stops with the next one that does not say so. A state that is merely
//! renewed says nothing: programs renew it as long as they run.

mod question;

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Instant,
};

use crdt::ClientId;
use serde_json::value::RawValue;

pub(super) use self::question::{Cost, Question};
use super::{
    SocketId, color,
    cursors::{Cursors, Owner},
    pace::Pace,
    people::Person,
    states::{self, Pointer, Range, Seen},
    typing::Typing,
    waiting::Waiting,
    watchers::Source,
};
use crate::rooms::ShownStates;

/// Sockets of one page that are shown in awareness, at most.
const MAX_SHOWN: usize = 1000;
/// Clients of one seat whose cursors and typing are told, at most. Programs have one.
const MAX_OF_SEAT: usize = 16;
/// What a state costs beside its text, in bytes.
const STATE_OVERHEAD: usize = 16;

/// The two kinds of programs at one page.
#[derive(Debug)]
pub(super) struct Mirror {
    clients: BTreeMap<ClientId, Client>,
    /// How many of them each seat has.
    seats: BTreeMap<u64, usize>,
    sockets: BTreeMap<SocketId, Shown>,
    /// Whose selection is to be asked about.
    unresolved: Waiting<Source>,
    /// Sockets whose state is to be shown.
    ready: Waiting<SocketId>,
    pace: Pace,
    is_asking: bool,
    ask_from: Option<Instant>,
    /// The page was edited since clients were asked about.
    is_edited: bool,
    /// A client has shown its cursor as programs with Monaco do.
    in_selection: bool,
    is_linked: bool,
    /// Makes client ids of the numbers of sockets.
    keys: RandomState,
}

/// A client of awareness.
#[derive(Debug)]
struct Client {
    owner: Owner,
    seat: u64,
    state: Arc<str>,
    range: Option<Range>,
}

/// A socket as it is shown in awareness.
#[derive(Debug)]
struct Shown {
    person: Arc<Person>,
    pointer: Option<Pointer>,
    /// Where its selection is.
    resolved: Option<Arc<RawValue>>,
    is_typing: bool,
    /// The state that is shown.
    told: Option<Arc<str>>,
}

/// What a client shows now, with the seat whose it is; `None` for one that has gone.
pub(super) type Change = Option<(u64, Arc<str>, Seen)>;

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Turn {
    pub(super) states: ShownStates,
    pub(super) question: Option<Question>,
}

impl Mirror {
    /// Nobody yet.
    pub(super) fn new(keys: RandomState) -> Self {
        Self {
            clients: BTreeMap::new(),
            sockets: BTreeMap::new(),
            seats: BTreeMap::new(),
            unresolved: Waiting::default(),
            ready: Waiting::default(),
            pace: Pace::default(),
            is_asking: false,
            ask_from: None,
            is_edited: false,
            in_selection: false,
            is_linked: false,
            keys,
        }
    }

    /// The client as which a socket is shown: always the same. Yjs draws smaller ids; those of other libraries are as unlikely to be the same
    /// as any two of them.
    fn client_of(&self, socket: SocketId) -> ClientId {
        ClientId(1 << 52 | self.keys.hash_one(socket) >> 12)
    }

    /// A socket's cursor is somewhere else, or nowhere.
    pub(super) fn point(&mut self, socket: SocketId, person: &Arc<Person>, pointer: Option<Pointer>) {
        let is_range = matches!(pointer, Some(Pointer::Range(_)));
        if let Some(shown) = self.shown(socket, person, pointer.is_some()) {
            shown.pointer = pointer;
            if !is_range {
                shown.resolved = None;
            }
            self.queue(socket);
        }
    }

    /// A socket types, or does not any more.
    pub(super) fn types(&mut self, socket: SocketId, person: &Arc<Person>, is_typing: bool) {
        if let Some(shown) = self.shown(socket, person, is_typing) {
            shown.is_typing = is_typing;
            self.make_ready(socket);
        }
    }

    /// A socket is not at the page any more.
    pub(super) fn left(&mut self, socket: SocketId) {
        if let Some(shown) = self.sockets.get_mut(&socket) {
            (shown.pointer, shown.resolved, shown.is_typing) = (None, None, false);
            self.make_ready(socket);
        }
    }

    /// A socket as it is shown; it may not be shown yet if it begins to.
    fn shown(&mut self, socket: SocketId, person: &Arc<Person>, begins: bool) -> Option<&mut Shown> {
        let has_room = begins && self.sockets.len() < MAX_SHOWN;
        if has_room && !self.sockets.contains_key(&socket) {
            let shown = Shown {
                person: person.clone(),
                pointer: None,
                resolved: None,
                is_typing: false,
                told: None,
            };
            self.sockets.insert(socket, shown);
        }
        let shown = self.sockets.get_mut(&socket)?;
        shown.person = person.clone();
        Some(shown)
    }

    /// What a socket points at has changed: it is asked about, or shown.
    fn queue(&mut self, socket: SocketId) {
        let Some(shown) = self.sockets.get_mut(&socket) else {
            return;
        };
        if !matches!(shown.pointer, Some(Pointer::Range(_))) {
            return self.make_ready(socket);
        }
        if self.is_linked {
            self.unresolved.add(Source::Socket(socket));
        }
    }

    fn make_ready(&mut self, socket: SocketId) {
        if self.is_linked {
            self.ready.add(socket);
        } else if self.sockets.get(&socket).is_some_and(Shown::is_nothing) {
            self.sockets.remove(&socket);
        }
    }

    /// Both kinds are there from now on, or not. Gives whether that has changed.
    pub(super) fn link(&mut self, is_linked: bool, told: (&mut Cursors, &mut Typing)) -> bool {
        if is_linked == self.is_linked {
            return false;
        }
        self.is_linked = is_linked;
        if !is_linked {
            self.forget_clients(told);
            self.unresolved.clear();
            self.ready.clear();
        }
        self.show_all();
        true
    }

    /// Whether both kinds are there.
    pub(super) fn is_linked(&self) -> bool {
        self.is_linked
    }

    /// Nothing is shown in awareness of what was shown there.
    fn show_all(&mut self) {
        let sockets: Vec<_> = self.sockets.keys().copied().collect();
        for socket in sockets {
            if let Some(shown) = self.sockets.get_mut(&socket) {
                shown.told = None;
            }
            self.queue(socket);
            self.make_ready(socket);
        }
    }

    fn forget_clients(&mut self, (cursors, typing): (&mut Cursors, &mut Typing)) {
        for client in std::mem::take(&mut self.clients).into_keys() {
            self.forget(client, (cursors, typing));
        }
        self.seats.clear();
        self.in_selection = false;
    }

    /// The room of the page is a new one: nothing is known of its clients, and nothing is shown there.
    pub(super) fn begin_anew(&mut self, told: (&mut Cursors, &mut Typing)) {
        self.forget_clients(told);
        self.show_all();
    }

    /// A client shows something else, or has gone. `owner` is whose it is.
    pub(super) fn saw(
        &mut self,
        now: Instant,
        client: ClientId,
        change: Change,
        owner: impl FnOnce(u64) -> Option<Owner>,
        (cursors, typing): (&mut Cursors, &mut Typing),
    ) {
        let source = Source::Client(client);
        let before = self.clients.remove(&client);
        if let Some(before) = &before {
            self.give_up_place(before.seat);
        }
        let change = change.filter(|(seat, ..)| self.is_linked && self.take_place(*seat));
        let Some((seat, state, seen)) = change else {
            return self.forget(client, (cursors, typing));
        };
        let known = before.as_ref().filter(|before| before.seat == seat);
        let known = known.map(|before| before.owner.clone());
        let Some(mut owner) = known.or_else(|| owner(seat)) else {
            self.give_up_place(seat);
            return self.forget(client, (cursors, typing));
        };
        if let Some(before) = before
            && before.state == state
            && before.seat == seat
        {
            self.clients.insert(client, before);
            return;
        }
        if seen.is_selection && !std::mem::replace(&mut self.in_selection, true) {
            let sockets: Vec<_> = self.sockets.keys().copied().collect();
            sockets.into_iter().for_each(|socket| self.make_ready(socket));
        }
        owner.color = seen.color.unwrap_or_else(|| color(&owner.person.user_id).into());
        match seen.is_typing {
            true => typing.start(now, source, &owner.person),
            false => typing.stop(source),
        }
        let range = match seen.pointer {
            Some(Pointer::Range(range)) => Some(range),
            Some(Pointer::Plain(place)) => {
                cursors.moved(source, owner.clone(), place);
                None
            }
            None => {
                cursors.left(source);
                None
            }
        };
        match range {
            Some(_) => self.unresolved.add(source),
            None => self.unresolved.remove(source),
        }
        let shown = Client {
            owner,
            seat,
            state,
            range,
        };
        self.clients.insert(client, shown);
    }

    /// Nothing is told of a client any more.
    fn forget(&mut self, client: ClientId, (cursors, typing): (&mut Cursors, &mut Typing)) {
        let source = Source::Client(client);
        cursors.left(source);
        typing.stop(source);
        self.unresolved.remove(source);
    }

    /// Gives whether one more client of a seat may be shown.
    fn take_place(&mut self, seat: u64) -> bool {
        let clients = self.seats.entry(seat).or_default();
        let has_room = *clients < MAX_OF_SEAT;
        *clients += usize::from(has_room);
        has_room
    }

    fn give_up_place(&mut self, seat: u64) {
        if let Some(clients) = self.seats.get_mut(&seat) {
            *clients = clients.saturating_sub(1);
            if *clients == 0 {
                self.seats.remove(&seat);
            }
        }
    }

    /// The page was edited: selections of clients may have other numbers.
    pub(super) fn edited(&mut self) {
        self.is_edited = !self.clients.is_empty();
    }

    /// When there will be something to do. O(1).
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let states = self.pace.next().filter(|_| !self.ready.is_empty());
        let asks = (self.is_edited || !self.unresolved.is_empty()) && !self.is_asking;
        [states, self.ask_from.filter(|_| asks)]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether nobody is there.
    pub(super) fn is_idle(&self) -> bool {
        self.clients.is_empty() && self.sockets.is_empty() && !self.is_asking
    }

    /// Gives what is to be done, if it is time to. O(what is to be done).
    pub(super) fn turn(&mut self, now: Instant) -> Turn {
        Turn {
            states: self.states(now),
            question: self.question(now),
        }
    }

    fn states(&mut self, now: Instant) -> ShownStates {
        let mut states = ShownStates::new();
        if self.ready.is_empty() || !self.pace.is_time(now) {
            return states;
        }
        while self.pace.has_room()
            && let Some(socket) = self.ready.take()
        {
            let client = self.client_of(socket);
            let Some(shown) = self.sockets.get_mut(&socket) else {
                continue;
            };
            let state = shown.state(self.in_selection);
            if state != shown.told {
                let size = state.as_ref().map_or(0, |state| state.len());
                self.pace.spend(size + STATE_OVERHEAD);
                shown.told.clone_from(&state);
                states.insert(client, state);
            }
            if shown.is_nothing() {
                self.sockets.remove(&socket);
            }
        }
        if !states.is_empty() {
            self.pace.told(now);
        }
        states
    }
}

impl Shown {
    fn state(&self, in_selection: bool) -> Option<Arc<str>> {
        let cursor = match &self.pointer {
            Some(Pointer::Plain(cursor)) => Some(cursor),
            Some(Pointer::Range(_)) => self.resolved.as_ref(),
            None => None,
        };
        let cursor = cursor.map(|cursor| &**cursor);
        states::write(&self.person, cursor, self.is_typing, in_selection)
    }

    /// It shows nothing, and nothing is shown of it.
    fn is_nothing(&self) -> bool {
        self.pointer.is_none() && !self.is_typing && self.told.is_none()
    }
}

#[cfg(test)]
mod tests;
