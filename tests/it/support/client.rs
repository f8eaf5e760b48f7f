//! A y-websocket client with its own copy of the page: syncs, edits, shows presence, counts acknowledgements.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use bytes::Bytes;
use crdt::{
    ClientId, Limits, Message, Update,
    encoding::{Reader, Write},
    message,
};
use serde_json::Value;

use super::{
    PATIENCE,
    replica::Replica,
    server::TestServer,
    socket::{Closed, Heard, Socket, only_message},
    soon, within,
};

/// A member of a page.
pub(crate) struct Client {
    pub(crate) socket: Socket,
    pub(crate) replica: Replica,
    /// Who is here, by client id.
    pub(crate) presence: Presence,
    /// The clock of its own presence.
    presence_clock: u32,
    /// Up to here the server has echoed what this client wrote.
    pub(crate) acknowledged: u32,
    /// Whether the server has answered the first question.
    pub(crate) synced: bool,
    /// Why changes were refused.
    pub(crate) refusals: Vec<String>,
    /// How often the server has asked for what it lacks.
    pub(crate) asked: usize,
    /// Deltas received.
    pub(crate) deltas: usize,
}

impl Client {
    /// Joins a page of an open server and waits until it is synced.
    pub(crate) async fn join(server: &TestServer, page: &str, author: u64) -> Self {
        Self::join_at(server.address, &format!("/ws/{page}"), author).await
    }

    /// Joins with a path (and query) of its own.
    pub(crate) async fn join_at(address: SocketAddr, path: &str, author: u64) -> Self {
        Self::join_as(Socket::open(address, path).await, Replica::new(author)).await
    }

    /// Joins with a copy it has already.
    pub(crate) async fn join_as(socket: Socket, replica: Replica) -> Self {
        let mut client = Self::new(socket, replica);
        client.ask().await;
        client.until("the answer to step 1", |client| client.synced).await;
        client
    }

    /// A connection that has not said anything yet.
    pub(crate) fn new(socket: Socket, replica: Replica) -> Self {
        Self {
            socket,
            replica,
            presence: Presence::default(),
            presence_clock: 0,
            acknowledged: 0,
            synced: false,
            refusals: Vec::new(),
            asked: 0,
            deltas: 0,
        }
    }

    /// Says what it has, to be told what it lacks.
    pub(crate) async fn ask(&mut self) {
        self.socket
            .say(message::sync_step_1(&self.replica.state_vector()))
            .await;
    }

    /// Writes `text` behind what it wrote last, and sends the edit.
    pub(crate) async fn write(&mut self, text: &str) {
        let update = self.replica.write(text);
        self.send(&update).await;
    }

    /// Sends an update.
    pub(crate) async fn send(&mut self, update: &[u8]) {
        self.socket.say(message::update(update)).await;
    }

    /// Queues an update without waiting for the server to read it.
    pub(crate) async fn queue(&mut self, update: &[u8]) {
        self.socket
            .feed(message::update(update))
            .await
            .expect("a connection");
    }

    /// Sends what was queued.
    pub(crate) async fn flush(&mut self) {
        self.socket.flush().await.expect("a connection");
    }

    /// Writes and waits until the server has acknowledged it.
    pub(crate) async fn write_durably(&mut self, text: &str) {
        self.write(text).await;
        self.until_acknowledged().await;
    }

    /// Waits until everything this client wrote is acknowledged.
    pub(crate) async fn until_acknowledged(&mut self) {
        self.until("the acknowledgement", |client| {
            client.acknowledged == client.replica.clock()
        })
        .await;
    }

    /// Waits until its copy says `text`.
    pub(crate) async fn until_text(&mut self, text: &str) {
        self.until(&format!("the text `{text}`"), |client| {
            client.replica.text() == text
        })
        .await;
    }

    /// Takes what comes until `is_so`.
    pub(crate) async fn until(&mut self, what: &str, is_so: impl FnMut(&mut Self) -> bool) {
        self.until_within(PATIENCE, what, is_so).await;
    }

    /// The same where much has to come.
    pub(crate) async fn until_within(
        &mut self,
        patience: Duration,
        what: &str,
        mut is_so: impl FnMut(&mut Self) -> bool,
    ) {
        let waiting = async {
            while !is_so(self) {
                if let Err(closed) = self.turn().await {
                    panic!("hung up on while waiting for {what}: {closed:?}");
                }
            }
        };
        within(patience, what, waiting).await;
    }

    /// Takes what comes until `is_so`, however long that is on its way: something comes again and again until then.
    pub(crate) async fn until_all_has_come(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        while !is_so(self) {
            if let Err(closed) = soon(what, self.turn()).await {
                panic!("hung up on while waiting for {what}: {closed:?}");
            }
        }
    }

    /// Takes what comes until something else has happened.
    pub(crate) async fn hear_until(&mut self, happened: impl Future<Output = ()>) {
        tokio::pin!(happened);
        loop {
            tokio::select! {
                biased;
                () = &mut happened => return,
                turn = self.turn() => turn.expect("a connection"),
            }
        }
    }

    /// Takes one message in, answering as clients do.
    pub(crate) async fn turn(&mut self) -> Result<(), Closed> {
        let frame = match self.socket.hear_at_last().await {
            Heard::Frame(frame) => frame,
            Heard::Closed(closed) => return Err(closed),
        };
        self.take(&frame).await;
        Ok(())
    }

    /// Takes in a message that has been heard.
    pub(crate) async fn take(&mut self, frame: &Bytes) {
        match only_message(frame) {
            Message::SyncStep1(state_vector) => {
                self.asked += 1;
                let lacking = self.replica.lacking(&state_vector);
                self.socket.say(message::sync_step_2(&lacking)).await;
            }
            Message::SyncStep2(update) => {
                self.note_acknowledged(&update);
                self.replica.receive(&update);
                self.synced = true;
            }
            Message::Update(update) => {
                if !self.note_acknowledged(&update) {
                    self.deltas += 1;
                }
                self.replica.receive(&update);
            }
            Message::Awareness(update) => self.presence.apply(&update),
            Message::PermissionDenied(reason) => self.refusals.push(reason),
            Message::QueryAwareness => {}
            Message::Unknown { kind, .. } => panic!("a message of type {kind}"),
        }
    }

    /// What the server repeats of this client's own edits, it has stored.
    fn note_acknowledged(&mut self, update: &Bytes) -> bool {
        let update = Update::parse(update.clone(), &Limits::default()).expect("a well-formed update");
        let own = ClientId(self.replica.author());
        let ends = update
            .ranges()
            .filter(|range| range.client == own)
            .map(|range| range.end);
        let end = ends.max();
        self.acknowledged = self.acknowledged.max(end.unwrap_or(0));
        end.is_some()
    }

    /// Shows a state, or clears it with `null`.
    pub(crate) async fn show(&mut self, state: &Value) {
        self.presence_clock += 1;
        self.show_as(self.replica.author(), self.presence_clock, state)
            .await;
    }

    /// Claims a state for any client id.
    pub(crate) async fn show_as(&mut self, client: u64, clock: u32, state: &Value) {
        self.socket
            .say(message::awareness(&presence_update(client, clock, state)))
            .await;
    }

    /// Waits until a member shows `state`; `None` for nothing.
    pub(crate) async fn until_shown(&mut self, client: u64, state: Option<&Value>) {
        let what = format!("client {client} to show {state:?}");
        self.until(&what, |own| own.presence.state(client) == state).await;
    }

    /// How the connection ends.
    pub(crate) async fn closed(&mut self) -> Closed {
        soon("the server to hang up", async {
            loop {
                if let Err(closed) = self.turn().await {
                    return closed;
                }
            }
        })
        .await
    }

    /// Says goodbye and keeps the copy.
    pub(crate) async fn leave(self) -> Replica {
        self.socket.leave().await;
        self.replica
    }

    /// Breaks the connection and keeps the copy.
    pub(crate) fn cut(self) -> Replica {
        self.socket.cut();
        self.replica
    }
}

/// One entry of an awareness update.
pub(crate) fn presence_update(client: u64, clock: u32, state: &Value) -> Vec<u8> {
    let mut update = vec![1];
    update.put_number(client);
    update.put_number(clock.into());
    update.put_string(&state.to_string());
    update
}

/// Who is here, as y-protocols keeps it: a state counts only if its clock is higher, or if it withdraws the one shown.
#[derive(Default)]
pub(crate) struct Presence {
    clients: BTreeMap<u64, (u32, Option<Value>)>,
    /// How often each client id went from shown to withdrawn.
    pub(crate) withdrawals: BTreeMap<u64, usize>,
    /// Awareness messages heard.
    pub(crate) heard: usize,
}

impl Presence {
    pub(crate) fn apply(&mut self, update: &Bytes) {
        self.heard += 1;
        let mut reader = Reader::new(update);
        for _ in 0..reader.count().expect("a count") {
            let client = reader.number().expect("a client id");
            let clock = reader.number_up_to(u32::MAX).expect("a clock");
            let state = serde_json::from_str(reader.string().expect("a state")).expect("JSON");
            let state = Some(state).filter(|state: &Value| !state.is_null());
            let known = self.clients.get(&client);
            let (known_clock, shown) = known.map_or((0, false), |(clock, state)| (*clock, state.is_some()));
            if clock > known_clock || (clock == known_clock && state.is_none() && shown) {
                if shown && state.is_none() {
                    *self.withdrawals.entry(client).or_default() += 1;
                }
                self.clients.insert(client, (clock, state));
            }
        }
        assert!(reader.is_at_end(), "nothing behind the last entry");
    }

    /// What a client shows.
    pub(crate) fn state(&self, client: u64) -> Option<&Value> {
        self.clients.get(&client).and_then(|(_, state)| state.as_ref())
    }

    /// Client ids that show something.
    pub(crate) fn shown(&self) -> Vec<u64> {
        let shown = self.clients.iter().filter(|(_, (_, state))| state.is_some());
        shown.map(|(client, _)| *client).collect()
    }
}
