//! What passes between clients and processes: connections are made, carry frames in both directions, and end.

use std::time::{Duration, Instant};

use bytes::Bytes;
use pageroom::{
    connections::Step,
    protocols::{Dialect, y_websocket::YWebsocket},
    rooms::{ClientMessage, Departure, MemberId, Refusal},
};

use super::{Event, World};
use crate::{
    connection::{Connection, Down, Route, ServerSide, Up, Wants},
    process::Command,
};

impl World {
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
    pub(super) fn opened(&mut self, id: u64) {
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
        let index = connection.client;
        let (identity, decision) = match self.admit(index) {
            Ok(admitted) => admitted,
            Err(refusal) => return self.send_down(id, Down::Close(refusal)),
        };
        let client = &self.clients[index];
        let posts = client.settings.posts;
        let (member, outbox) = self.processes[process].new_member(client.settings.counts());
        let server = ServerSide {
            member,
            outbox: outbox.clone(),
        };
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.server = Some(server);
        }
        let join = Command::Join {
            member,
            role: decision.role,
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
        self.holds_seat(id, identity, decision);
    }

    pub(crate) fn send_up(&mut self, id: u64, up: Up) {
        if let Some(arrives) = self.arrival(id, Connection::arrives_up) {
            self.at(arrives, Event::Up(id, up));
        }
    }

    pub(super) fn send_down(&mut self, id: u64, down: Down) {
        if let Some(arrives) = self.arrival(id, Connection::arrives_down) {
            self.at(arrives, Event::Down(id, down));
        }
    }

    /// When something sent now arrives, unless the connection has gone silent.
    pub(super) fn arrival(
        &mut self,
        id: u64,
        arrives: fn(&mut Connection, Instant) -> Instant,
    ) -> Option<Instant> {
        let now = self.now;
        let connection = self.connections.get_mut(&id)?;
        (!connection.silent).then(|| arrives(connection, now))
    }

    /// Something arrives at the server.
    pub(super) fn up(&mut self, id: u64, up: Up) {
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
    pub(super) fn leave_room(&mut self, id: u64, departure: Departure) {
        self.leaves_seat(id);
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
    pub(super) fn hang_up(&mut self, id: u64, refusal: Refusal) {
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
    pub(super) fn down(&mut self, id: u64, down: Down) {
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

    pub(super) fn look_after_client(&mut self, client: usize) {
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

    pub(super) fn look_after_session(&mut self, id: u64) {
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
}
