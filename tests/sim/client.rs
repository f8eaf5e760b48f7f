//! A client program: a document of its own and the y-websocket protocol as its provider speaks it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use crdt::{
    Admission, ClientId, Document, Limits, Message, StateVector, Update, message,
    testing::{Random, Replica},
};

use crate::{plan::ClientSettings, presence::Presence};

/// A client hangs up when it has heard nothing for this long.
const SILENCE: Duration = Duration::from_secs(30);
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_millis(2_500);

/// Clocks of one client id, as ranges that do not touch.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Clocks(Vec<(u32, u32)>);

impl Clocks {
    pub(crate) fn insert(&mut self, start: u32, end: u32) {
        let (mut start, mut end) = (start, end);
        self.0.retain(|&(from, to)| {
            let apart = to < start || end < from;
            if !apart {
                start = start.min(from);
                end = end.max(to);
            }
            apart
        });
        self.0.push((start, end));
        self.0.sort_unstable();
    }

    /// The first clock that is not in here.
    pub(crate) fn first_gap(&self) -> u32 {
        match self.0.first() {
            Some(&(0, end)) => end,
            _ => 0,
        }
    }
}

/// A program that edits one page.
pub(crate) struct Client {
    pub(crate) settings: ClientSettings,
    pub(crate) replica: Replica,
    /// Sees to it that what comes early waits unseen, as in Yjs; the library behind the replica shows some of it.
    gate: Document,
    early: Vec<Update>,
    pub(crate) presence: Presence,
    /// Nothing reaches it before what comes before it.
    pub(crate) hears_in_order: bool,
    /// The connection that it has, or is making.
    pub(crate) connection: Option<u64>,
    /// It comes back whenever a connection ends.
    pub(crate) wants_online: bool,
    pub(crate) reconnect_at: Option<Instant>,
    attempts: u32,
    heard: Instant,
    /// The next update is to be kept back.
    pub(crate) withholds: bool,
    withheld: Vec<Bytes>,
    pub(crate) last_update: Option<Bytes>,
    /// What of its own writing came back to it.
    pub(crate) confirmed: Clocks,
    /// An echo has come through the present connection.
    pub(crate) confirmed_here: bool,
    /// The last update went through the present connection.
    pub(crate) sent_here: bool,
    marks: u64,
    /// Whoever decides lets it write.
    pub(crate) may_write: bool,
    /// Whoever decides does not let its user in.
    pub(crate) is_blocked: bool,
}

impl Client {
    pub(crate) fn new(now: Instant, index: usize, settings: ClientSettings) -> Self {
        let id = ClientId(100 + index as u64);
        Self {
            settings,
            replica: Replica::repeatable(id),
            gate: Document::new(Limits::default()),
            early: Vec::new(),
            presence: Presence::new(now, id),
            hears_in_order: true,
            connection: None,
            wants_online: false,
            reconnect_at: None,
            attempts: 0,
            heard: now,
            withholds: false,
            withheld: Vec::new(),
            last_update: None,
            confirmed: Clocks::default(),
            confirmed_here: false,
            sent_here: false,
            marks: 0,
            may_write: true,
            is_blocked: false,
        }
    }

    pub(crate) fn id(&self) -> ClientId {
        self.replica.client()
    }

    /// A mark that it has not used.
    pub(crate) fn next_mark(&mut self) -> Bytes {
        self.marks += 1;
        Bytes::from(self.marks.to_be_bytes().to_vec())
    }

    pub(crate) fn user(&self) -> Option<String> {
        self.settings.user.map(|user| format!("user {user}"))
    }

    /// What it sends first.
    pub(crate) fn opened(&mut self, now: Instant) -> Vec<Bytes> {
        self.heard = now;
        self.confirmed_here = false;
        self.sent_here = false;
        let mut frames = vec![message::sync_step_1(&self.replica.state_vector().encode())];
        frames.extend(self.presence.hello().map(|update| message::awareness(&update)));
        frames
    }

    /// Its connection has ended.
    pub(crate) fn closed(&mut self, now: Instant, away: Option<Duration>) {
        self.connection = None;
        self.withheld.clear();
        self.withholds = false;
        self.presence.disconnected();
        let backoff = (FIRST_BACKOFF * (1 << self.attempts.min(6))).min(MAX_BACKOFF);
        self.attempts += 1;
        self.reconnect_at = self.wants_online.then(|| now + away.unwrap_or(backoff));
    }

    /// Takes a frame of the server and gives what it answers.
    pub(crate) fn takes(&mut self, now: Instant, frame: &Bytes) -> Vec<Bytes> {
        self.heard = now;
        let mut messages = Message::decode(frame);
        let message = messages
            .next()
            .expect("a message in each frame")
            .expect("a frame that makes sense");
        assert!(messages.next().is_none(), "clients read one message a frame");
        match message {
            Message::SyncStep1(state_vector) => {
                let known = StateVector::decode(&state_vector, &Limits::default()).expect("a state vector");
                vec![message::sync_step_2(&self.replica.diff(&self.to_repeat(known)))]
            }
            Message::SyncStep2(update) => {
                self.attempts = 0;
                // What waits at the server for something missing is in it.
                self.applies(&update, false);
                Vec::new()
            }
            Message::Update(update) => {
                self.applies(&update, self.hears_in_order);
                Vec::new()
            }
            Message::Awareness(update) => {
                let taken = self.presence.apply(now, &update);
                taken
                    .map(|update| message::awareness(&update))
                    .into_iter()
                    .collect()
            }
            Message::QueryAwareness => vec![message::awareness(&self.presence.encode_all())],
            Message::PermissionDenied(_) => Vec::new(),
            Message::Unknown { kind, .. } => panic!("a message of unknown type {kind}"),
        }
    }

    /// A state vector from which an answer repeats what is not confirmed.
    fn to_repeat(&self, known: StateVector) -> StateVector {
        if !self.settings.repeats {
            return known;
        }
        let (own, gap) = (self.id(), self.confirmed.first_gap());
        known
            .iter()
            .map(|(client, clock)| (client, if client == own { clock.min(gap) } else { clock }))
            .collect()
    }

    /// Makes a random edit.
    pub(crate) fn edit(&mut self, random: &mut Random) -> Option<Bytes> {
        let bytes = self.replica.edit(random);
        let update = Update::parse(bytes.clone(), &Limits::default()).expect("an edit of our own making");
        if update.is_empty() {
            return None;
        }
        let admitted = self.gate.admit(update).expect("an edit of our own making");
        assert!(
            matches!(admitted, Admission::New(_)),
            "an edit is new and builds on what is there"
        );
        Some(bytes)
    }

    /// Takes over what somebody else has.
    pub(crate) fn takes_over(&mut self, update: &Bytes) {
        self.early
            .push(Update::parse(update.clone(), &Limits::default()).expect("an update that makes sense"));
        let mut waited = usize::MAX;
        while self.early.len() < waited {
            waited = self.early.len();
            for update in std::mem::take(&mut self.early) {
                self.tries(update);
            }
        }
        // Two answers may each delete something of the other.
        if self.early.len() > 1 {
            let together = crdt::merge(&self.early);
            let apart = std::mem::take(&mut self.early);
            self.tries(together);
            if !self.early.is_empty() {
                self.early = apart;
            }
        }
    }

    fn tries(&mut self, update: Update) {
        match self.gate.admit(update).expect("an update that fits") {
            Admission::New(update) => self.replica.apply(update.bytes()),
            Admission::Known => {}
            Admission::Early { update, .. } => self.early.push(update),
            Admission::Partly { new, early, .. } => {
                self.replica.apply(new.bytes());
                self.early.push(early);
            }
        }
    }

    /// Something that came has not been taken in, because something before it is missing.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.early.is_empty()
    }

    fn applies(&mut self, update: &Bytes, is_in_order: bool) {
        let parsed = Update::parse(update.clone(), &Limits::default()).expect("an update of the server");
        for range in parsed.ranges() {
            let known = self.gate.state_vector().get(range.client);
            assert!(
                range.start <= known || !is_in_order,
                "client {} hears of {range:?} before what comes before it",
                self.id()
            );
        }
        self.takes_over(update);
        if self.settings.counts() {
            return;
        }
        for range in (parsed.runs().into_iter()).filter(|range| range.client == self.replica.client()) {
            self.confirmed.insert(range.start, range.end);
            self.confirmed_here = true;
        }
    }

    /// The frames for an edit just made, in the order in which they leave.
    pub(crate) fn edited(&mut self, update: Bytes) -> Vec<Bytes> {
        let frame = message::update(&update);
        self.last_update = Some(frame.clone());
        self.sent_here = true;
        if std::mem::take(&mut self.withholds) {
            self.withheld.push(frame);
            return Vec::new();
        }
        std::iter::once(frame).chain(self.withheld.drain(..)).collect()
    }

    /// What was withheld and not sent yet.
    pub(crate) fn release(&mut self) -> Vec<Bytes> {
        self.withholds = false;
        std::mem::take(&mut self.withheld)
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let silence = self.connection.map(|_| self.heard + SILENCE);
        [self.reconnect_at, silence, self.presence.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// It has heard nothing for too long.
    pub(crate) fn gives_up(&self, now: Instant) -> bool {
        self.connection.is_some() && now >= self.heard + SILENCE
    }
}
