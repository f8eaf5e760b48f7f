//! Who may what: the truth, the sources that say it late or not at all, and the server's own [`Enforcement`] in each process.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crdt::ClientId;
use pageroom::{
    access::{Decision, Enforcement, HolderId, Newcomer, Order, PATIENCE, PAUSE, Question},
    auth::Identity,
    rooms::{Change, Refusal, RefusalCode, Role, RoomName},
};

use crate::world::{Event, World};

/// What somebody may not do any more is enforced within this time.
const BOUND: Duration = Duration::from_secs(1);
/// Nobody waits longer for an answer of a source.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a process knows of its holders, who are connections.
#[derive(Default)]
pub(crate) struct Access {
    enforcement: Enforcement<u64>,
    connections: BTreeMap<HolderId, u64>,
}

/// A change, as processes hear of it.
#[derive(Clone, Debug)]
pub(crate) struct Announced {
    user: Option<String>,
    page: Option<usize>,
}

/// What is true, and how the sources are.
pub(crate) struct Rights {
    start: Instant,
    /// Since when somebody may not write any more, or not be there.
    may_not_write: BTreeMap<ClientId, Instant>,
    may_not_enter: BTreeMap<ClientId, Instant>,
    /// When users were signed out.
    signed_out: BTreeMap<String, SystemTime>,
    pub(crate) fails: bool,
    pub(crate) hangs: bool,
    last_trouble: Option<Instant>,
}

impl Rights {
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            start,
            may_not_write: BTreeMap::new(),
            may_not_enter: BTreeMap::new(),
            signed_out: BTreeMap::new(),
            fails: false,
            hangs: false,
            last_trouble: None,
        }
    }

    /// The time of day.
    pub(crate) fn clock(&self, now: Instant) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1 << 30) + now.duration_since(self.start)
    }

    /// When that time of day is.
    fn moment(&self, time: SystemTime) -> Instant {
        let day = UNIX_EPOCH + Duration::from_secs(1 << 30);
        self.start + time.duration_since(day).unwrap_or_default()
    }

    fn is_in_trouble(&self) -> bool {
        self.fails || self.hangs
    }

    /// Notes that the sources are in trouble, as long as they are.
    pub(crate) fn note_trouble(&mut self, now: Instant) {
        if self.is_in_trouble() {
            self.last_trouble = Some(now);
        }
    }

    /// Whether something that was lost at a time must have been enforced by now. While sources fail, patience comes first.
    fn is_enforced(&self, lost: Instant, now: Instant) -> bool {
        let had_trouble = self.last_trouble.is_some_and(|at| at >= lost);
        let bound = if had_trouble {
            PATIENCE + PAUSE + BOUND
        } else {
            BOUND
        };
        now.duration_since(lost) > bound
    }

    /// Whether nothing that a client writes may be taken in any more.
    pub(crate) fn has_lost_writing(&self, client: ClientId, now: Instant) -> bool {
        let lost = self.may_not_write.get(&client);
        lost.is_some_and(|lost| self.is_enforced(*lost, now))
    }
}

impl World {
    /// What a client may do now, as the sources would say.
    fn truth(&self, client: usize, identity: &Identity) -> Result<Decision, Refusal> {
        let asked = &self.clients[client];
        if asked.is_blocked {
            return Err(Refusal::new(RefusalCode::Forbidden, "you may not enter"));
        }
        let signed_out = identity
            .user
            .as_deref()
            .and_then(|user| self.rights.signed_out.get(user));
        if signed_out.is_some_and(|at| identity.issued_at < *at) {
            return Err(Refusal::new(
                RefusalCode::TokenRevoked,
                "the token has been withdrawn",
            ));
        }
        let role = match asked.settings.may_edit && asked.may_write {
            true => Role::Edit,
            false => Role::View,
        };
        Ok(Decision { role, until: None })
    }

    /// Whether a client may enter, with a token that it has just been given.
    pub(crate) fn admit(&self, client: usize) -> Result<(Arc<Identity>, Decision), Refusal> {
        if self.rights.is_in_trouble() {
            return Err(Refusal::unavailable(
                "what you may do cannot be found out now, try again",
            ));
        }
        let now = self.rights.clock(self.now);
        let asked = &self.clients[client];
        let mut identity = match asked.user() {
            Some(user) => Identity::user(&user, now).expect("a user id"),
            None => Identity::guest(now),
        };
        let lifetime = asked.settings.token_ms.map(Duration::from_millis);
        identity.expires_at = lifetime.map(|lifetime| now + lifetime);
        let until = identity.expires_at;
        let decision = self.truth(client, &identity)?;
        Ok((Arc::new(identity), Decision { until, ..decision }))
    }

    /// A connection has its seat.
    pub(crate) fn holds_seat(&mut self, id: u64, identity: Arc<Identity>, decision: Decision) {
        let connection = self.connections.get_mut(&id).expect("a connection");
        connection.token_ends = identity.expires_at.map(|ends| self.rights.moment(ends));
        let access = &mut self.processes[connection.process].access;
        let holder = access.enforcement.enter(Newcomer {
            handle: id,
            page: Some(self.pages[connection.page].clone()),
            room: Some(RoomName::of_page(&self.pages[connection.page])),
            identity,
            decision,
        });
        access.connections.insert(holder, id);
        connection.holder = Some(holder);
    }

    /// A connection gives its seat back.
    pub(crate) fn leaves_seat(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if let Some(holder) = connection.holder.take()
            && self.processes[connection.process].epoch == connection.epoch
        {
            let access = &mut self.processes[connection.process].access;
            access.enforcement.leave(holder);
            access.connections.remove(&holder);
        }
    }

    /// When the next token or patience ends, or a source is asked again.
    pub(crate) fn next_access_deadline(&self) -> Option<Instant> {
        let deadlines = self.processes.iter();
        let deadlines = deadlines.filter_map(|process| process.access.enforcement.next_deadline());
        deadlines.min().map(|time| self.rights.moment(time))
    }

    pub(crate) fn look_after_access(&mut self) {
        let time = self.rights.clock(self.now);
        for process in 0..self.processes.len() {
            let orders = self.processes[process].access.enforcement.tick(time);
            self.carry_out_orders(process, orders);
        }
        self.who_may_not_be_there_is_gone();
    }

    fn carry_out_orders(&mut self, process: usize, orders: impl IntoIterator<Item = Order<u64>>) {
        for order in orders {
            match order {
                Order::Decide(question) => self.asks_source(process, question),
                Order::ChangeRole(held, role) => self.change_of(held.handle, Change::Role(role)),
                Order::Remove(held, refusal) => {
                    if let Some(seat) = self
                        .connections
                        .get(&held.handle)
                        .and_then(|connection| connection.server.as_ref())
                    {
                        seat.outbox.expel(refusal.clone());
                    }
                    self.change_of(held.handle, Change::Removed(refusal));
                }
                Order::AskForToken(_) => {}
            }
        }
    }

    /// The room of a connection hears of a change at once, past everything that the client has said and that waits.
    fn change_of(&mut self, id: u64, change: Change) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let (process, page, client) = (connection.process, connection.page, connection.client);
        let Some(seat) = &connection.server else { return };
        let (member, is_removed) = (seat.member, matches!(change, Change::Removed(_)));
        self.trace
            .note(|| format!("client {client}, {member:?}: {change:?}"));
        self.processes[process].change(self.now, page, member, change);
        self.run_room(process, page);
        let stays = self.processes[process]
            .live(page)
            .is_some_and(|live| live.room().members().contains(&member));
        assert!(
            !stays || !is_removed,
            "{member:?} stays although it was sent away"
        );
    }

    fn asks_source(&mut self, process: usize, question: Question) {
        let epoch = self.processes[process].epoch;
        let later = self.now + self.source_latency();
        self.at(
            later,
            Event::SourceAsked {
                process,
                epoch,
                question,
            },
        );
    }

    /// A question has come to a source, which looks at what is true now.
    pub(crate) fn source_asked(&mut self, process: usize, question: Question) {
        let epoch = self.processes[process].epoch;
        let client = self.processes[process]
            .access
            .connections
            .get(&question.holder)
            .map(|connection| self.connections[connection].client);
        let Some(client) = client else { return };
        let unavailable = || Err(Refusal::unavailable("a source fails"));
        let (answer, takes) = match (self.rights.hangs, self.rights.fails) {
            (true, _) => (unavailable(), SOURCE_TIMEOUT),
            (false, true) => (unavailable(), self.source_latency()),
            (false, false) => {
                let truth = self.truth(client, &question.identity);
                let until = question.identity.expires_at;
                (
                    truth.map(|decision| Decision { until, ..decision }),
                    self.source_latency(),
                )
            }
        };
        let answered = Event::SourceAnswered {
            process,
            epoch,
            question,
            answer,
        };
        self.at(self.now + takes, answered);
    }

    pub(crate) fn source_answered(
        &mut self,
        process: usize,
        question: &Question,
        answer: Result<Decision, Refusal>,
    ) {
        let time = self.rights.clock(self.now);
        let enforcement = &mut self.processes[process].access.enforcement;
        let order = enforcement.decided(time, question, answer);
        self.carry_out_orders(process, order);
    }

    /// A process hears that something has changed.
    pub(crate) fn hears_of_change(&mut self, process: usize, change: &Announced) {
        let time = self.rights.clock(self.now);
        let page = change.page.map(|page| self.pages[page].clone());
        let page = page.as_ref().map(|page| page.as_str());
        let enforcement = &mut self.processes[process].access.enforcement;
        let questions = enforcement.changed(time, change.user.as_deref(), page);
        self.carry_out_orders(process, questions.into_iter().map(Order::Decide));
    }

    /// One process makes a change, and the others hear of it from the store.
    fn announce(&mut self, from: usize, change: &Announced) {
        if self.processes[from].up {
            self.hears_of_change(from, change);
        }
        for process in (0..self.processes.len()).filter(|process| *process != from) {
            let epoch = self.processes[process].epoch;
            let change = change.clone();
            let later = self.now + 5 * self.source_latency();
            self.at(
                later,
                Event::Announced {
                    process,
                    epoch,
                    change,
                },
            );
        }
    }

    /// Somebody who decides gives a client the right to write, or takes it away.
    pub(crate) fn decide(&mut self, client: usize, may_write: bool) {
        let now = self.now;
        let decided = &mut self.clients[client];
        if !decided.settings.may_edit || decided.may_write == may_write {
            return;
        }
        decided.may_write = may_write;
        let (process, id) = (decided.settings.process, decided.id());
        let change = Announced {
            user: decided.user(),
            page: Some(decided.settings.page),
        };
        match may_write {
            true => drop(self.rights.may_not_write.remove(&id)),
            false => drop(self.rights.may_not_write.insert(id, now)),
        }
        self.announce(process, &change);
    }

    /// The clients of the user of a client; guests are nobody's.
    fn clients_of_user(&self, client: usize) -> Vec<usize> {
        let user = self.clients[client].settings.user;
        let is_theirs = |client: &usize| user.is_some() && self.clients[*client].settings.user == user;
        (0..self.clients.len()).filter(is_theirs).collect()
    }

    /// Lets a user enter from now on or not.
    pub(crate) fn block(&mut self, client: usize, is_blocked: bool) {
        for client in self.clients_of_user(client) {
            let blocked = &mut self.clients[client];
            blocked.is_blocked = is_blocked;
            let id = blocked.id();
            match is_blocked {
                true => drop(self.rights.may_not_enter.entry(id).or_insert(self.now)),
                false => drop(self.rights.may_not_enter.remove(&id)),
            }
        }
        let (user, process) = (self.clients[client].user(), self.clients[client].settings.process);
        if user.is_some() {
            self.announce(process, &Announced { user, page: None });
        }
    }

    /// All tokens of a user are withdrawn: what it has open is closed, past everything that waits in either direction.
    pub(crate) fn sign_out(&mut self, client: usize) {
        let Some(user) = self.clients[client].user() else {
            return;
        };
        let time = self.rights.clock(self.now);
        self.rights.signed_out.insert(user.clone(), time);
        let process = self.clients[client].settings.process;
        if self.processes[process].up {
            let refusal = Refusal::new(RefusalCode::TokenRevoked, "you may not be here any more");
            let enforcement = &mut self.processes[process].access.enforcement;
            let orders = enforcement.send_away(Some(&user), None, |_| Some(refusal.clone()));
            self.carry_out_orders(process, orders);
        }
        let change = Announced {
            user: Some(user),
            page: None,
        };
        self.announce(process, &change);
    }

    /// Nobody is in a room who has not been allowed in it for longer than it takes to say so, or whose token has ended.
    fn who_may_not_be_there_is_gone(&mut self) {
        let now = self.now;
        for (id, connection) in &self.connections {
            let Some(seat) = &connection.server else { continue };
            let client = self.clients[connection.client].id();
            let lost = self.rights.may_not_enter.get(&client);
            let is_over = lost
                .is_some_and(|lost| self.rights.is_enforced((*lost).max(connection.opened), now))
                || connection.token_ends.is_some_and(|ends| now > ends + BOUND);
            let process = &mut self.processes[connection.process];
            if !is_over || process.epoch != connection.epoch {
                continue;
            }
            let stays = process
                .live(connection.page)
                .is_some_and(|live| live.room().members().contains(&seat.member));
            assert!(
                !stays,
                "connection {id} of {client} is in a room that it may not be in"
            );
        }
    }
}
