//! What processes do in the world: rooms take their turns, the store commits or fails, processes die and come back.

use std::time::Duration;

use pageroom::rooms::Failure;
use storage::PageCommit;

use super::{Event, Post, World};
use crate::{
    connection::Down,
    disk::Outcome,
    process::{Around, Command},
};

impl World {
    /// One turn of a room, and what follows from it.
    pub(crate) fn run_room(&mut self, process: usize, page: usize) {
        let around = &mut Around {
            now: self.now,
            disk: &mut self.disk,
            trace: &mut self.trace,
            rights: &self.rights,
        };
        self.processes[process].run_room(around, page);
        self.after_room(process);
    }

    /// Picks up what rooms have left for the world: requests to the store, answers to backends, frames in outboxes.
    pub(super) fn after_room(&mut self, process: usize) {
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

    pub(super) fn begin_commit(&mut self, process: usize) {
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

    pub(super) fn sync_later(&mut self, process: usize, lane: Option<u64>) {
        let epoch = self.processes[process].epoch;
        let latency = self.settings.store_latency_ms * 1000;
        let latency = latency / 2 + u64::from(self.random.below(latency as u32 + 1));
        let sync = Event::Sync { process, epoch, lane };
        self.at(self.now + Duration::from_micros(latency), sync);
    }

    pub(super) fn sync(&mut self, process: usize, epoch: u64, lane: Option<u64>) {
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
    pub(super) fn judge(&mut self, batch: &[PageCommit]) -> Failure {
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

    pub(super) fn end(&mut self, process: usize, epoch: u64) {
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
