//! The world: simulated time, processes, clients, the links between them and the disk, all in one thread.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use crdt::testing::{Random, Replica};
use pageroom::{
    connections::Step,
    protocols::{Dialect, y_websocket::YWebsocket},
    rooms::{ClientMessage, Departure, Failure, MemberId, Refusal, RefusalCode, Role},
};
use storage::{Committed, PageCommit, PageId};

use crate::{
    client::Client,
    connection::{Connection, Down, Route, ServerSide, Up, Wants},
    disk::{Disk, Outcome},
    plan::Settings,
    process::{Around, Command, Process},
    trace::Trace,
};

#[derive(Debug)]
enum Event {
    /// A handshake arrives.
    Opened(u64),
    Up(u64, Up),
    Down(u64, Down),
    /// A page is to be read.
    Load {
        process: usize,
        epoch: u64,
        page: usize,
        slot: u64,
    },
    /// It may be time for the next transaction.
    Begin {
        process: usize,
        epoch: u64,
    },
    /// A transaction becomes durable, or not: of a batch, or of what is stored alone in a lane.
    Sync {
        process: usize,
        epoch: u64,
        lane: Option<u64>,
    },
    /// The answer of a transaction arrives.
    Committed {
        process: usize,
        epoch: u64,
        lane: Option<u64>,
        committed: Vec<Committed>,
    },
    Restart(usize),
    /// A draining process has no more time.
    Abandon {
        process: usize,
        epoch: u64,
    },
    /// A draining process ends.
    End {
        process: usize,
        epoch: u64,
    },
    Post(usize),
}

/// An update of a backend that repeats it until it is told that it is stored.
pub(crate) struct Post {
    pub(crate) page: usize,
    pub(crate) process: usize,
    pub(crate) update: Bytes,
    pub(crate) stored: bool,
}

pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) now: Instant,
    pub(crate) pages: Vec<PageId>,
    pub(crate) disk: Disk,
    pub(crate) processes: Vec<Process>,
    pub(crate) clients: Vec<Client>,
    pub(crate) connections: BTreeMap<u64, Connection>,
    /// What each page has to be in the end: everything that somebody wrote who may.
    pub(crate) reference: Vec<Replica>,
    pub(crate) posts: Vec<Post>,
    pub(crate) trace: Trace,
    /// Processes that are not started again.
    pub(crate) gone: Vec<usize>,
    pub(crate) strangers: u64,
    random: Random,
    events: BTreeMap<(Instant, u64), Event>,
    next_event: u64,
    next_connection: u64,
    hanging: Vec<Event>,
}

/// More happenings than this at one moment are a loop.
const MAX_AT_ONCE: usize = 50_000;

/// More frames than this in one run are a storm.
const MAX_FRAMES: usize = 100_000;

impl World {
    pub(crate) fn new(start: Instant, settings: &Settings, in_words: bool) -> Self {
        let pages: Vec<PageId> = (0..settings.pages)
            .map(|page| PageId::new(&format!("page {page}")).expect("a page id"))
            .collect();
        let clients = settings.clients.iter().cloned().enumerate();
        Self {
            now: start,
            disk: Disk::new(settings.seed),
            processes: (0..settings.processes)
                .map(|_| Process::new(settings, &pages))
                .collect(),
            clients: clients
                .map(|(index, client)| Client::new(start, index, client))
                .collect(),
            connections: BTreeMap::new(),
            reference: (0..settings.pages)
                .map(|page| Replica::repeatable(crdt::ClientId(2 + page as u64)))
                .collect(),
            posts: Vec::new(),
            trace: Trace::new(start, in_words),
            gone: Vec::new(),
            strangers: 0,
            random: Random::new(settings.seed),
            events: BTreeMap::new(),
            next_event: 0,
            next_connection: 0,
            hanging: Vec::new(),
            settings: settings.clone(),
            pages,
        }
    }

    fn at(&mut self, when: Instant, event: Event) {
        self.next_event += 1;
        self.events.insert((when.max(self.now), self.next_event), event);
    }

    /// Lets time pass and everything happen that is due.
    pub(crate) fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        let mut at_once = 0;
        while let Some(next) = self.next_moment().filter(|next| *next <= end) {
            at_once = if next > self.now { 0 } else { at_once + 1 };
            assert!(
                at_once < MAX_AT_ONCE,
                "something asks to be looked after again and again"
            );
            assert!(
                self.trace.frames < MAX_FRAMES,
                "clients and server answer each other without end"
            );
            self.now = self.now.max(next);
            self.trace.now = self.now;
            self.happen();
        }
        self.now = end;
        self.trace.now = end;
    }

    fn next_moment(&mut self) -> Option<Instant> {
        let event = self.events.keys().next().map(|(when, _)| *when);
        let rooms = self
            .processes
            .iter_mut()
            .filter_map(|process| process.next_room())
            .map(|(when, _)| when);
        let clients = self.clients.iter().filter_map(Client::next_deadline);
        let sessions = self
            .connections
            .values()
            .filter(|connection| connection.server.is_some());
        let sessions = sessions.map(|connection| connection.session.next_deadline());
        event
            .into_iter()
            .chain(rooms)
            .chain(clients)
            .chain(sessions)
            .min()
    }

    fn happen(&mut self) {
        while let Some(entry) = self
            .events
            .first_entry()
            .filter(|entry| entry.key().0 <= self.now)
        {
            let event = entry.remove();
            self.happens(event);
        }
        for process in 0..self.processes.len() {
            while let Some((_, page)) = self.processes[process]
                .next_room()
                .filter(|(when, _)| *when <= self.now)
            {
                self.run_room(process, page);
            }
        }
        for client in 0..self.clients.len() {
            if self.clients[client]
                .next_deadline()
                .is_some_and(|when| when <= self.now)
            {
                self.look_after_client(client);
            }
        }
        let due: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, connection)| {
                connection.server.is_some() && connection.session.next_deadline() <= self.now
            })
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.look_after_session(id);
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Opened(id) => self.opened(id),
            Event::Up(id, up) => self.up(id, up),
            Event::Down(id, down) => self.down(id, down),
            Event::Load {
                process,
                epoch,
                page,
                slot,
            } => {
                if self.processes[process].epoch != epoch {
                    return;
                }
                if self.disk.paused {
                    self.hanging.push(event);
                    return;
                }
                let stored = self.disk.load(&self.pages[page]);
                let around = &mut Around {
                    now: self.now,
                    disk: &mut self.disk,
                    trace: &mut self.trace,
                };
                self.processes[process].loaded(around, page, slot, stored);
                self.after_room(process);
            }
            Event::Begin { process, epoch } => {
                if self.processes[process].epoch == epoch {
                    self.begin_commit(process);
                }
            }
            Event::Sync { process, epoch, lane } => self.sync(process, epoch, lane),
            Event::Committed {
                process,
                epoch,
                lane,
                committed,
            } => {
                if self.processes[process].epoch == epoch {
                    self.processes[process].committed(self.now, lane, committed);
                    self.begin_commit(process);
                }
            }
            Event::Restart(process) => {
                self.processes[process].up = true;
                self.trace.note(|| format!("process {process} is up"));
            }
            Event::Abandon { process, epoch } => {
                if self.processes[process].epoch == epoch {
                    self.processes[process].tell_all(self.now, true);
                    self.at(self.now + Duration::from_secs(1), Event::End { process, epoch });
                }
            }
            Event::End { process, epoch } => self.end(process, epoch),
            Event::Post(post) => self.post(post),
        }
    }

    /// One turn of a room, and what follows from it.
    pub(crate) fn run_room(&mut self, process: usize, page: usize) {
        let around = &mut Around {
            now: self.now,
            disk: &mut self.disk,
            trace: &mut self.trace,
        };
        self.processes[process].run_room(around, page);
        self.after_room(process);
    }

    /// Picks up what rooms have left for the world: requests to the store, answers to backends, frames in outboxes.
    fn after_room(&mut self, process: usize) {
        self.begin_commit(process);
        for (post, stored) in std::mem::take(&mut self.processes[process].answered) {
            self.posts[post].stored = stored.is_some();
            match stored {
                Some(_) => {
                    let Post { page, update, .. } = &self.posts[post];
                    assert!(
                        self.disk.has(&self.pages[*page], update),
                        "a backend is told of what is not durable"
                    );
                }
                None => self.at(self.now + Duration::from_millis(300), Event::Post(post)),
            }
        }
        let ids: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.process == process)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.pump(id);
        }
        let done = &self.processes[process];
        if done.draining && done.is_empty() {
            let epoch = done.epoch;
            self.at(self.now, Event::End { process, epoch });
        }
    }

    fn begin_commit(&mut self, process: usize) {
        let epoch = self.processes[process].epoch;
        while let Some(lane) = self.processes[process].begin_alone() {
            self.sync_later(process, Some(lane));
        }
        if self.processes[process].begin_commit(self.now) {
            self.sync_later(process, None);
        } else if let Some(at) = self.processes[process].commit_begins_at() {
            self.at(at, Event::Begin { process, epoch });
        }
    }

    fn sync_later(&mut self, process: usize, lane: Option<u64>) {
        let epoch = self.processes[process].epoch;
        let latency = self.settings.store_latency_ms * 1000;
        let latency = latency / 2 + u64::from(self.random.below(latency as u32 + 1));
        let sync = Event::Sync { process, epoch, lane };
        self.at(self.now + Duration::from_micros(latency), sync);
    }

    fn sync(&mut self, process: usize, epoch: u64, lane: Option<u64>) {
        if self.processes[process].epoch != epoch {
            return;
        }
        let batch = self.processes[process].batch(lane);
        match self.disk.commit(self.trace.elapsed(), &batch) {
            Outcome::Committed(committed) => {
                self.trace
                    .note(|| format!("process {process} has committed {committed:?}"));
                let answer = Duration::from_micros(u64::from(self.random.below(1_000)));
                self.at(
                    self.now + answer,
                    Event::Committed {
                        process,
                        epoch,
                        lane,
                        committed,
                    },
                );
            }
            Outcome::Failed => {
                let failure = self.judge(&batch);
                let again = self.processes[process].commit_failed(self.now, lane, failure);
                if let Some(again) = again {
                    self.at(again, Event::Sync { process, epoch, lane });
                }
                self.begin_commit(process);
            }
            Outcome::Hangs => self.hanging.push(Event::Sync { process, epoch, lane }),
        }
    }

    /// What the writer finds out about a transaction that has failed.
    fn judge(&mut self, batch: &[PageCommit]) -> Failure {
        if self.disk.failing > 0 {
            return Failure::OfTheStore;
        }
        match self.random.below(3) {
            0 => Failure::Held(batch.iter().take(1).map(|commit| commit.page.clone()).collect()),
            _ => Failure::OfTheBatch,
        }
    }

    /// The store answers again: what hangs goes on.
    pub(crate) fn resume_store(&mut self) {
        self.disk.paused = false;
        for event in std::mem::take(&mut self.hanging) {
            self.at(self.now, event);
        }
    }

    /// A client connects, if there is something to connect to.
    pub(crate) fn connect(&mut self, client: usize) {
        let settings = &self.clients[client].settings;
        let (process, page) = (settings.process, settings.page);
        self.clients[client].reconnect_at = None;
        self.clients[client].wants_online = true;
        if !self.processes[process].up {
            self.clients[client].closed(self.now, None);
            return;
        }
        self.next_connection += 1;
        let id = self.next_connection;
        let route = Route {
            client,
            process,
            epoch: self.processes[process].epoch,
            page,
        };
        let seed = self.settings.seed ^ (client as u64) << 32 ^ id;
        let mut connection = Connection::new(
            self.now,
            route,
            self.settings.socket_bytes,
            self.settings.latency_ms,
            seed,
        );
        let opened = connection.arrives_up(self.now);
        self.connections.insert(id, connection);
        self.clients[client].connection = Some(id);
        self.at(opened, Event::Opened(id));
        for frame in self.clients[client].opened(self.now) {
            self.send_up(id, Up::Frame(frame));
        }
    }

    /// A handshake arrives at the server.
    fn opened(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let (process, page) = (connection.process, connection.page);
        if self.processes[process].epoch != connection.epoch || !self.processes[process].up {
            return self.send_down(id, Down::Reset);
        }
        if self.processes[process].draining {
            return self.send_down(id, Down::Close(Refusal::draining()));
        }
        let client = &self.clients[connection.client];
        if client.is_blocked {
            let refusal = Refusal::new(RefusalCode::Forbidden, "you may not enter");
            return self.send_down(id, Down::Close(refusal));
        }
        let posts = client.settings.posts;
        let (member, outbox) = self.processes[process].new_member(client.settings.counts());
        connection.server = Some(ServerSide {
            member,
            outbox: outbox.clone(),
        });
        let join = Command::Join {
            member,
            role: if client.settings.may_edit && client.may_write {
                Role::Edit
            } else {
                Role::View
            },
            user: client.user().map(Into::into),
            outbox,
            own: Some(client.id()),
            posts,
        };
        self.trace.note(|| {
            format!(
                "{} joins page {page} of process {process} as {member:?}",
                client.id()
            )
        });
        self.open_room(process, page, join);
    }

    /// Puts something into a room's mailbox, opening it first if need be.
    pub(crate) fn open_room(&mut self, process: usize, page: usize, command: Command) {
        let epoch = self.processes[process].epoch;
        if let Some(slot) = self.processes[process].open(self.now, page, command) {
            let latency = Duration::from_millis(u64::from(self.random.below(20)));
            let load = Event::Load {
                process,
                epoch,
                page,
                slot,
            };
            self.at(self.now + latency, load);
        }
    }

    pub(crate) fn send_up(&mut self, id: u64, up: Up) {
        if let Some(arrives) = self.arrival(id, Connection::arrives_up) {
            self.at(arrives, Event::Up(id, up));
        }
    }

    fn send_down(&mut self, id: u64, down: Down) {
        if let Some(arrives) = self.arrival(id, Connection::arrives_down) {
            self.at(arrives, Event::Down(id, down));
        }
    }

    /// When something sent now arrives, unless the connection has gone silent.
    fn arrival(&mut self, id: u64, arrives: fn(&mut Connection, Instant) -> Instant) -> Option<Instant> {
        let now = self.now;
        let connection = self.connections.get_mut(&id)?;
        (!connection.silent).then(|| arrives(connection, now))
    }

    /// Something arrives at the server.
    fn up(&mut self, id: u64, up: Up) {
        let Some(connection) = self
            .connections
            .get_mut(&id)
            .filter(|connection| !connection.silent)
        else {
            return;
        };
        let (process, page) = (connection.process, connection.page);
        let Some(member) = connection.server.as_ref().map(|server| server.member) else {
            return;
        };
        if self.processes[process].epoch != connection.epoch {
            return;
        }
        connection.session.heard(self.now);
        match up {
            Up::Frame(frame) => {
                self.trace.frame(&frame);
                let mut messages = Vec::new();
                match YWebsocket::decode(&frame, &mut messages) {
                    Ok(()) => {
                        self.processes[process].tell(self.now, page, Command::Said { member, messages });
                    }
                    Err(error) => self.hang_up(id, Refusal::malformed(error.to_string())),
                }
            }
            Up::Mark(mark) => {
                let messages = vec![ClientMessage::Mark(mark)];
                self.processes[process].tell(self.now, page, Command::Said { member, messages });
            }
            Up::Pong => {}
            Up::Goodbye => self.leave_room(id, Departure::Clean),
            Up::Reset => self.leave_room(id, Departure::Lost),
        }
    }

    /// The server's end of a connection is over.
    fn leave_room(&mut self, id: u64, departure: Departure) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let (process, page) = (connection.process, connection.page);
        let Some(ServerSide { member, .. }) = connection.server.take() else {
            return;
        };
        if self.processes[process].epoch == connection.epoch {
            self.processes[process].tell(self.now, page, Command::Left { member, departure });
        }
    }

    /// The server hangs up with a reason.
    fn hang_up(&mut self, id: u64, refusal: Refusal) {
        self.leave_room(id, Departure::Clean);
        self.send_down(id, Down::Close(refusal));
    }

    /// Writes what waits for a connection, as far as its socket takes it.
    pub(crate) fn pump(&mut self, id: u64) {
        let now = self.now;
        let mut frames = Vec::new();
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let wants = connection.write(now, &mut frames);
        let (process, page) = (connection.process, connection.page);
        let member = connection
            .server
            .as_ref()
            .map_or(MemberId(0), |server| server.member);
        for frame in frames {
            self.send_down(id, Down::Frame(frame));
        }
        match wants {
            Some(Wants::CaughtUp) => self.processes[process].tell(now, page, Command::CaughtUp { member }),
            Some(Wants::HangUp(refusal)) => self.hang_up(id, refusal),
            None => {}
        }
    }

    /// Something arrives at the client's socket.
    fn down(&mut self, id: u64, down: Down) {
        let Some(connection) = self
            .connections
            .get_mut(&id)
            .filter(|connection| !connection.silent)
        else {
            return;
        };
        if !connection.reads && !matches!(down, Down::Reset) {
            connection.unread.push_back(down);
            return;
        }
        let client = connection.client;
        if self.clients[client].connection != Some(id) {
            return;
        }
        match down {
            Down::Frame(frame) => {
                connection.taken(self.now, frame.len());
                self.trace.frame(&frame);
                for answer in self.clients[client].takes(self.now, &frame) {
                    self.send_up(id, Up::Frame(answer));
                }
                self.pump(id);
            }
            Down::Ping => self.send_up(id, Up::Pong),
            Down::Close(refusal) => {
                self.trace
                    .note(|| format!("client {client} is sent away: {refusal}"));
                self.disconnected(client, None);
            }
            Down::Reset => self.disconnected(client, None),
        }
    }

    /// The client reads again.
    pub(crate) fn read_on(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.reads = true;
        for down in std::mem::take(&mut connection.unread) {
            self.down(id, down);
        }
        self.pump(id);
    }

    /// A client has lost its connection, or has given it up.
    pub(crate) fn disconnected(&mut self, client: usize, away: Option<Duration>) {
        if let Some(id) = self.clients[client].connection {
            self.clients[client].closed(self.now, away);
            // What is still on its way to the server arrives; what comes back goes nowhere.
            self.send_up(id, Up::Reset);
        }
    }

    fn look_after_client(&mut self, client: usize) {
        let now = self.now;
        if self.clients[client].reconnect_at.is_some_and(|when| when <= now) {
            self.connect(client);
        }
        if self.clients[client].gives_up(now) {
            self.disconnected(client, None);
        }
        if let Some(renewal) = self.clients[client].presence.tick(now) {
            self.client_sends(client, crdt::message::awareness(&renewal));
        }
    }

    pub(crate) fn client_sends(&mut self, client: usize, frame: Bytes) {
        if let Some(id) = self.clients[client].connection {
            self.send_up(id, Up::Frame(frame));
        }
    }

    fn look_after_session(&mut self, id: u64) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        match connection.session.step(now) {
            Some(Step::Ping) => {
                connection.session.pinged(now);
                self.send_down(id, Down::Frame(YWebsocket::keep_alive()));
                self.send_down(id, Down::Ping);
            }
            Some(Step::Lost) => {
                self.leave_room(id, Departure::Lost);
                self.send_down(id, Down::Reset);
            }
            Some(Step::Stalled) => self.hang_up(id, Refusal::unavailable("the client reads too slowly")),
            None => {}
        }
    }

    /// A process dies: what was in its memory is gone, and its connections break.
    pub(crate) fn crash(&mut self, process: usize) {
        self.trace.note(|| format!("process {process} dies"));
        self.processes[process].crash();
        for (post, _) in std::mem::take(&mut self.processes[process].answered) {
            self.at(self.now + Duration::from_millis(300), Event::Post(post));
        }
        let ids: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.process == process && connection.server.is_some())
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.server = None;
            }
            self.send_down(id, Down::Reset);
        }
    }

    pub(crate) fn restart_in(&mut self, process: usize, time: Duration) {
        if !self.gone.contains(&process) {
            self.at(self.now + time, Event::Restart(process));
        }
    }

    /// A process is told to stop.
    pub(crate) fn drain(&mut self, process: usize) {
        self.trace.note(|| format!("process {process} is told to stop"));
        let epoch = self.processes[process].epoch;
        self.processes[process].draining = true;
        self.processes[process].tell_all(self.now, false);
        self.at(
            self.now + Duration::from_secs(10),
            Event::Abandon { process, epoch },
        );
        if self.processes[process].is_empty() {
            self.at(self.now, Event::End { process, epoch });
        }
    }

    fn end(&mut self, process: usize, epoch: u64) {
        let ending = &self.processes[process];
        if ending.epoch != epoch || !ending.draining {
            return;
        }
        assert_eq!(
            ending.member_count(),
            0,
            "a stopping process has sent everybody away before it ends"
        );
        self.crash(process);
        self.restart_in(process, Duration::from_millis(500));
    }

    /// A backend posts an update, or posts it again.
    pub(crate) fn post(&mut self, post: usize) {
        let Post {
            page,
            process,
            update,
            ..
        } = &self.posts[post];
        let (page, process, update) = (*page, *process, update.clone());
        if !self.processes[process].up || self.processes[process].draining {
            self.at(self.now + Duration::from_millis(300), Event::Post(post));
            return;
        }
        self.open_room(process, page, Command::Post { post, update });
    }
}
