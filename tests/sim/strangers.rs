//! What strangers try: changes of viewers, forged client ids, presence of others, frames that are almost right.

use bytes::Bytes;
use crdt::{
    AwarenessChange, ClientId, Limits, Message, Update,
    awareness::encode_changes,
    message,
    testing::{Random, Replica},
};
use pageroom::{
    protocols::{Dialect, y_websocket::YWebsocket},
    rooms::{Departure, Role},
};

use crate::{process::Command, world::World};

impl World {
    /// Sends frames into a room by somebody who comes for nothing else, and lets the room answer before anything else happens.
    pub(crate) fn intrude(&mut self, process: usize, page: usize, role: Role, frames: &[Bytes]) -> bool {
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

    pub(crate) fn trespass(&mut self, client: usize, seed: u64) {
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
    pub(crate) fn forge(&mut self, client: usize, seed: u64) {
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
    pub(crate) fn wrote_last(&mut self, client: usize, page: usize, process: usize) -> bool {
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

    pub(crate) fn impersonate(&mut self, client: usize, clear: bool) {
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
    pub(crate) fn corrupt(&mut self, client: usize, seed: u64) {
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

    pub(crate) fn new_stranger(&mut self) -> ClientId {
        self.strangers += 1;
        ClientId(1_000_000 + self.strangers)
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
