//! The world: simulated time, processes, clients, the links between them and the disk, all in one thread.

mod links;
mod processes;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use crdt::testing::{Random, Replica};
use pageroom::{
    access::{Decision, Question},
    rooms::Refusal,
};
use storage::{Committed, PageId};

use crate::{
    access::{Announced, Rights},
    client::Client,
    connection::{Connection, Down, Up},
    disk::Disk,
    plan::Settings,
    process::{Around, Process},
    trace::Trace,
};

#[derive(Debug)]
pub(crate) enum Event {
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
    /// A question comes to a source of rights.
    SourceAsked {
        process: usize,
        epoch: u64,
        question: Question,
    },
    /// Its answer comes back.
    SourceAnswered {
        process: usize,
        epoch: u64,
        question: Question,
        answer: Result<Decision, Refusal>,
    },
    /// A process hears that another one has changed what somebody may do.
    Announced {
        process: usize,
        epoch: u64,
        change: Announced,
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
    pub(crate) rights: Rights,
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
            rights: Rights::new(start),
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

    /// How long a question takes to a source, or its answer back.
    pub(crate) fn source_latency(&mut self) -> Duration {
        Duration::from_micros(u64::from(self.random.below(40_000)))
    }

    /// The sources answer again.
    pub(crate) fn sources_answer(&mut self) {
        self.rights.note_trouble(self.now);
        (self.rights.fails, self.rights.hangs) = (false, false);
    }

    pub(crate) fn at(&mut self, when: Instant, event: Event) {
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
        let access = self.next_access_deadline();
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
            .chain(access)
            .chain(clients)
            .chain(sessions)
            .min()
    }

    fn happen(&mut self) {
        self.rights.note_trouble(self.now);
        while let Some(entry) = self
            .events
            .first_entry()
            .filter(|entry| entry.key().0 <= self.now)
        {
            let event = entry.remove();
            self.happens(event);
        }
        self.look_after_access();
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
                    rights: &self.rights,
                };
                self.processes[process].loaded(around, page, slot, stored);
                self.after_room(process);
            }
            Event::Begin { process, epoch } => {
                if self.processes[process].epoch == epoch {
                    self.begin_commit(process);
                }
            }
            Event::SourceAsked {
                process,
                epoch,
                question,
            } => {
                if self.processes[process].epoch == epoch {
                    self.source_asked(process, question);
                }
            }
            Event::SourceAnswered {
                process,
                epoch,
                question,
                answer,
            } => {
                if self.processes[process].epoch == epoch {
                    self.source_answered(process, &question, answer);
                }
            }
            Event::Announced {
                process,
                epoch,
                change,
            } => {
                if self.processes[process].epoch == epoch {
                    self.hears_of_change(process, &change);
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
}
