//! Carries out the operations of a plan on the world; what is inapplicable is skipped.

use std::time::Duration;

use crdt::{
    message,
    testing::{Random, Replica},
};

use crate::{
    connection::Up,
    plan::Operation,
    world::{Post, World},
};

impl World {
    pub(crate) fn carry_out(&mut self, operation: &Operation) {
        self.trace.note(|| format!("{operation:?}"));
        match *operation {
            Operation::Advance { ms } => self.advance(Duration::from_millis(ms)),
            Operation::Connect { client } => {
                if self.clients[client].connection.is_none() {
                    self.connect(client);
                }
            }
            Operation::Leave { client } => self.leave(client),
            Operation::Break { client, away_ms } => {
                self.disconnected(client, Some(Duration::from_millis(away_ms)));
            }
            Operation::Silence { client } => {
                if let Some(connection) = self.connection_of(client) {
                    connection.silent = true;
                }
            }
            Operation::Stall { client } => {
                if let Some(connection) = self.connection_of(client) {
                    connection.reads = false;
                }
            }
            Operation::Unstall { client } => {
                if let Some(id) = self.clients[client].connection {
                    self.read_on(id);
                }
            }
            Operation::Edit { client, seed } => self.edit(client, &mut Random::new(seed)),
            Operation::Burst { client, seed, edits } => {
                let mut random = Random::new(seed);
                for _ in 0..edits {
                    self.edit(client, &mut random);
                }
            }
            Operation::Show { client, value } => self.show(client, Some(format!("{{\"at\":{value}}}"))),
            Operation::Hide { client } => self.show(client, None),
            Operation::Withhold { client } => self.clients[client].withholds = true,
            Operation::Repeat { client } => {
                if let Some(frame) = self.clients[client].last_update.clone() {
                    self.client_sends(client, frame);
                }
            }
            Operation::Gossip { from, to } => self.gossip(from, to),
            Operation::Resync { client } => {
                let state_vector = self.clients[client].replica.state_vector().encode();
                self.client_sends(client, message::sync_step_1(&state_vector));
            }
            Operation::Flood { client, questions } => {
                let question = message::sync_step_1(&crdt::StateVector::new().encode());
                let flood = question.repeat(questions as usize);
                self.client_sends(client, flood.into());
            }
            Operation::Query { client } => self.client_sends(client, message::query_awareness()),
            Operation::Revoke { client } => self.decide(client, false),
            Operation::Grant { client } => self.decide(client, true),
            Operation::SignOut { client } => self.sign_out(client),
            Operation::Block { client } => self.block(client, true),
            Operation::Unblock { client } => self.block(client, false),
            Operation::Trespass { client, seed } => self.trespass(client, seed),
            Operation::Forge { client, seed } => self.forge(client, seed),
            Operation::Impersonate { client, clear } => self.impersonate(client, clear),
            Operation::Corrupt { client, seed } => self.corrupt(client, seed),
            Operation::Post { page, process, seed } => self.new_post(page, process, seed),
            _ => self.carry_out_on_servers(operation),
        }
    }

    fn carry_out_on_servers(&mut self, operation: &Operation) {
        match *operation {
            Operation::StorePauses => {
                self.disk.paused = true;
                self.order_ends();
            }
            Operation::StoreResumes => self.resume_store(),
            Operation::StoreFails { times } => {
                self.disk.failing = times;
                self.order_ends();
            }
            Operation::StoreLosesAnswers { times } => self.disk.losing_answers = times,
            Operation::LoadsFail { times } => self.disk.failing_loads = times,
            Operation::SourcesFail => {
                self.rights.fails = true;
                self.rights.note_trouble(self.now);
            }
            Operation::SourcesHang => {
                self.rights.hangs = true;
                self.rights.note_trouble(self.now);
            }
            Operation::SourcesAnswer => self.sources_answer(),
            Operation::Crash { process, down_ms } => {
                if self.processes[process].up {
                    self.crash(process);
                    self.restart_in(process, Duration::from_millis(down_ms));
                }
            }
            Operation::Drain { process } => {
                if self.processes[process].up && !self.processes[process].draining {
                    self.drain(process);
                }
            }
            Operation::Poison { page, process } => {
                let now = self.now;
                if let Some(live) = self.processes[process].live(page) {
                    live.break_document(now);
                    self.run_room(process, page);
                }
            }
            _ => unreachable!("clients do this: {operation:?}"),
        }
    }

    fn connection_of(&mut self, client: usize) -> Option<&mut crate::connection::Connection> {
        let id = self.clients[client].connection?;
        self.connections.get_mut(&id)
    }

    pub(crate) fn leave(&mut self, client: usize) {
        self.clients[client].wants_online = false;
        self.clients[client].reconnect_at = None;
        if let Some(id) = self.clients[client].connection {
            let now = self.now;
            self.clients[client].closed(now, None);
            self.send_up(id, Up::Goodbye);
        }
    }

    fn edit(&mut self, client: usize, random: &mut Random) {
        let Some(editor) = self
            .clients
            .get_mut(client)
            .filter(|client| client.settings.may_edit)
        else {
            return;
        };
        let Some(update) = editor.edit(random) else { return };
        self.reference[editor.settings.page].apply(&update);
        if editor.connection.is_some() {
            let mark = editor.settings.marks.then(|| editor.next_mark());
            for frame in editor.edited(update) {
                self.client_sends(client, frame);
            }
            if let (Some(mark), Some(id)) = (mark, self.clients[client].connection) {
                self.send_up(id, Up::Mark(mark));
            }
        }
    }

    fn show(&mut self, client: usize, state: Option<String>) {
        let now = self.now;
        let update = self.clients[client].presence.set(now, state.as_deref());
        self.client_sends(client, message::awareness(&update));
    }

    /// One tab takes over what another one has, by a way that is not ours.
    fn gossip(&mut self, from: usize, to: usize) {
        let (giver, taker) = (&self.clients[from], &self.clients[to]);
        // A viewer's own document has nothing that others may not have.
        if from == to || giver.settings.page != taker.settings.page {
            return;
        }
        let diff = giver.replica.diff(&taker.replica.state_vector());
        self.clients[to].takes_over(&diff);
    }

    fn new_post(&mut self, page: usize, process: usize, seed: u64) {
        let stored = self.disk.everything(&self.pages[page]);
        let mut backend = Replica::repeatable(self.new_stranger());
        backend.apply(&stored);
        let update = backend.edit(&mut Random::new(seed));
        self.reference[page].apply(&update);
        self.posts.push(Post {
            page,
            process,
            update,
            stored: false,
        });
        self.post(self.posts.len() - 1);
    }

    /// The server as it is addressed by everybody from now on.
    pub(crate) fn everybody_to(&mut self, process: usize) {
        for client in &mut self.clients {
            client.settings.process = process;
        }
        for post in &mut self.posts {
            post.process = process;
        }
    }

    /// While the store is late, who may have written something hears of it after what others wrote behind it.
    fn order_ends(&mut self) {
        for client in &mut self.clients {
            client.hears_in_order = false;
        }
    }
}
