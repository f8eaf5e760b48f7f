//! Carries out the operations of a plan on the world; what is inapplicable is skipped.

use std::time::Duration;

use bytes::Bytes;
use crdt::{
    AwarenessChange, ClientId, Limits, Message, Update,
    awareness::encode_changes,
    message,
    testing::{Random, Replica},
};
use pageroom::{
    protocols::{Dialect, y_websocket::YWebsocket},
    rooms::{Change, Departure, Refusal, RefusalCode, Role},
};

use crate::{
    connection::Up,
    plan::Operation,
    process::Command,
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
            Operation::SignOut { client } => self.send_away(client, RefusalCode::TokenRevoked),
            Operation::Block { client } => {
                self.block(client, true);
                self.send_away(client, RefusalCode::Forbidden);
            }
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

    /// Somebody who decides gives a client the right to write, or takes it away. The room hears of that at once, past everything that
    /// the client has said and that waits.
    pub(crate) fn decide(&mut self, client: usize, may_write: bool) {
        let decided = &mut self.clients[client];
        if !decided.settings.may_edit || decided.may_write == may_write {
            return;
        }
        decided.may_write = may_write;
        let Some(id) = decided.connection else { return };
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let Some(seat) = &connection.server else { return };
        let (process, page, member) = (connection.process, connection.page, seat.member);
        let role = if may_write { Role::Edit } else { Role::View };
        self.processes[process].change(self.now, page, member, Change::Role(role));
        self.run_room(process, page);
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
            self.clients[client].is_blocked = is_blocked;
        }
    }

    /// Whatever a user has open is closed, past everything that waits in either direction.
    fn send_away(&mut self, client: usize, code: RefusalCode) {
        for client in self.clients_of_user(client) {
            let theirs = self
                .connections
                .values()
                .filter(|connection| connection.client == client);
            let seats: Vec<_> = theirs
                .filter_map(|connection| {
                    let seat = connection.server.clone()?;
                    let is_here = self.processes[connection.process].epoch == connection.epoch;
                    is_here.then_some((connection.process, connection.page, seat))
                })
                .collect();
            for (process, page, seat) in seats {
                let refusal = Refusal::new(code, "you may not be here any more");
                seat.outbox.expel(refusal.clone());
                let change = Change::Removed(refusal);
                self.processes[process].change(self.now, page, seat.member, change);
                self.run_room(process, page);
                let stays = self.processes[process]
                    .live(page)
                    .is_some_and(|live| live.room().members().contains(&seat.member));
                assert!(!stays, "{:?} stays although it was sent away", seat.member);
            }
        }
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

    /// Sends frames into a room by somebody who comes for nothing else, and lets the room answer before anything else happens.
    fn intrude(&mut self, process: usize, page: usize, role: Role, frames: &[Bytes]) -> bool {
        let now = self.now;
        if self.processes[process].live(page).is_none() {
            return false;
        }
        let (member, outbox) = self.processes[process].new_member(false);
        self.processes[process].tell(
            now,
            page,
            Command::Join {
                member,
                role,
                user: Some("mallory".into()),
                outbox,
                own: None,
                posts: false,
            },
        );
        for frame in frames {
            let mut messages = Vec::new();
            if YWebsocket::decode(frame, &mut messages).is_err() {
                break;
            }
            self.processes[process].tell(now, page, Command::Said { member, messages });
        }
        let departure = Departure::Clean;
        self.processes[process].tell(now, page, Command::Left { member, departure });
        self.run_room(process, page);
        true
    }

    fn trespass(&mut self, client: usize, seed: u64) {
        let victim = &self.clients[client];
        let (process, page) = (victim.settings.process, victim.settings.page);
        let mut trespasser = Replica::repeatable(self.new_stranger());
        trespasser.apply(&self.clients[client].replica.encode());
        let mut random = Random::new(seed);
        let update = trespasser.edit(&mut random);
        let frames = [
            message::update(&update),
            message::sync_step_2(&update),
            message::sync_step_2(&trespasser.encode()),
        ];
        self.intrude(process, page, Role::View, &frames);
    }

    /// Somebody writes with the id of a client whose connection the room knows to write with it.
    fn forge(&mut self, client: usize, seed: u64) {
        let victim = &self.clients[client];
        let (process, page) = (victim.settings.process, victim.settings.page);
        let Some(id) = victim.connection.filter(|_| victim.confirmed_here) else {
            return;
        };
        let seat = self
            .connections
            .get(&id)
            .and_then(|connection| connection.server.clone());
        let Some(seat) = seat else { return };
        let mut forger = Replica::repeatable(victim.id());
        forger.apply(&victim.replica.encode());
        let forged = forger.edit(&mut Random::new(seed));
        // Whoever may edit may delete.
        if Update::parse(forged.clone(), &Limits::default()).is_ok_and(|update| update.ranges().len() == 0) {
            return;
        }
        // Whatever waits in the mailbox comes first; the victim may be leaving.
        self.run_room(process, page);
        let owns = self.processes[process]
            .live(page)
            .is_some_and(|live| live.has_seat(seat.member));
        if owns && self.clients[client].user().is_some() && self.wrote_last(client, page, process) {
            self.intrude(process, page, Role::Edit, &[message::update(&forged)]);
        }
    }

    /// Whether an update of a client went in through its present connection, by which the room knows who writes with its id.
    fn wrote_last(&mut self, client: usize, page: usize, process: usize) -> bool {
        let Some(frame) = self.clients[client].last_update.clone() else {
            return false;
        };
        let Some(Ok(Message::Update(update))) = Message::decode(&frame).next() else {
            return false;
        };
        let update = Update::parse(update, &Limits::default()).expect("an update of a client");
        let own = self.clients[client].id();
        let covers = |known: &crdt::StateVector| {
            update
                .ranges()
                .any(|range| range.client == own && range.end <= known.get(own))
        };
        self.clients[client].sent_here
            && self.processes[process]
                .live(page)
                .is_some_and(|live| covers(live.room().document().state_vector()))
    }

    fn impersonate(&mut self, client: usize, clear: bool) {
        let victim = &self.clients[client];
        let (process, page, own) = (victim.settings.process, victim.settings.page, victim.id());
        if self.processes[process].live(page).is_none() {
            return;
        }
        self.run_room(process, page);
        let entry = |world: &mut Self| {
            let live = world.processes[process].live(page)?;
            let entry = live
                .room()
                .awareness()
                .entries()
                .find(|(change, _)| change.client == own);
            entry.map(|(change, owner)| (change, owner.is_some()))
        };
        let Some((before, true)) = entry(self) else { return };
        let lie = AwarenessChange {
            client: own,
            clock: before.clock + 10,
            state: (!clear).then(|| "{\"lie\":true}".into()),
        };
        self.intrude(
            process,
            page,
            Role::Edit,
            &[message::awareness(&encode_changes(&[lie]))],
        );
        let (after, _) = entry(self).expect("the victim is still there");
        assert_eq!(after.state, before.state, "somebody spoke for {own}");
    }

    /// Frames that are almost right. Those that happen to be edits are left out: they would be edits like any other.
    fn corrupt(&mut self, client: usize, seed: u64) {
        let victim = &self.clients[client];
        let (process, page) = (victim.settings.process, victim.settings.page);
        let mut random = Random::new(seed);
        let mut writer = Replica::repeatable(self.new_stranger());
        writer.apply(&self.clients[client].replica.encode());
        let update = writer.edit(&mut random);
        let shown = AwarenessChange {
            client: writer.client(),
            clock: 1,
            state: Some("{}".into()),
        };
        let frame = match random.below(5) {
            0 => message::sync_step_1(&writer.state_vector().encode()),
            1 => message::sync_step_2(&writer.encode()),
            2 => message::awareness(&encode_changes(&[shown])),
            _ => message::update(&update),
        };
        let frame = mutated(&frame, &mut random);
        let harmless = Message::decode(&frame)
            .map_while(Result::ok)
            .all(|message| match message {
                Message::SyncStep2(update) | Message::Update(update) => {
                    Update::parse(update, &Limits::default()).map_or(true, |update| update.is_empty())
                }
                Message::Awareness(_)
                | Message::SyncStep1(_)
                | Message::QueryAwareness
                | Message::PermissionDenied(_)
                | Message::Unknown { .. } => true,
            });
        if harmless {
            self.intrude(process, page, Role::Edit, &[frame]);
        }
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

    fn new_stranger(&mut self) -> ClientId {
        self.strangers += 1;
        ClientId(1_000_000 + self.strangers)
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

/// Frames with a few bytes changed, left out, repeated or cut off.
fn mutated(frame: &Bytes, random: &mut Random) -> Bytes {
    let mut bytes = frame.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len() as u32) as usize;
        match random.below(4) {
            0 => bytes[at] = random.below(256) as u8,
            1 => bytes.insert(at, random.below(256) as u8),
            2 if bytes.len() > 1 => drop(bytes.remove(at)),
            _ => bytes.truncate(at.max(1)),
        }
    }
    bytes.into()
}
