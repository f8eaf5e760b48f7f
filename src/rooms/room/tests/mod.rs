//! Stories of one room: Alice, Bob and a store that pauses, fails and comes back, without a runtime.
//!
//! [`Stage`] follows the one rule of whoever runs a room: hand over each input, let the room settle, carry out the effects in
//! order. The store is asked nothing until a story says so ([`Stage::store_answers`]), and time stands still until a story
//! moves it.

mod authorship;
mod awareness;
mod crowded;
mod deaf;
mod draining;
mod editing;
mod failing;
mod joining;
mod marks;
mod posting;
mod read_only;
mod receipts;
mod retiring;
mod slow_reader;
mod standing;
mod storing;
mod watched;

use std::time::SystemTime;

use bytes::Bytes;
use crdt::{AwarenessChange, ClientId, Update, testing::Replica};
use storage::{Committed, LoggedUpdate, NewUpdate, PageCommit, Snapshot, Tables};

use super::*;
use crate::rooms::{Next, Outbox};

/// What came out of somebody's outbox.
#[derive(Clone, Debug, PartialEq)]
enum Heard {
    Step1(StateVector),
    Step2(Bytes),
    Delta(Bytes),
    Stored(Bytes),
    /// Who shows what; `None` is withdrawn.
    Awareness(Vec<(u64, Option<String>)>),
    Refused(RefusalCode),
    Receipt(bool),
    Stateless(Bytes),
    Asked,
    Mark(Bytes),
    /// The users who have the page open.
    CaughtUp,
    Closed(RefusalCode),
}

use crdt::{EndedClients, StateVector};

/// Somebody with a document of its own and a seat in the room.
struct Person {
    member: MemberId,
    replica: Replica,
}

impl Person {
    fn types(&mut self, text: &str) -> Bytes {
        let end = self.replica.text().encode_utf16().count() as u32;
        self.replica.insert(end, text)
    }

    fn client(&self) -> u64 {
        self.replica.client().0
    }

    /// Takes in whatever of this changes a document.
    fn takes(&mut self, heard: &[Heard]) {
        for heard in heard {
            if let Heard::Step2(update) | Heard::Delta(update) | Heard::Stored(update) = heard {
                self.replica.apply(update);
            }
        }
    }

    fn text(&self) -> String {
        self.replica.text()
    }
}

/// A room, its members' outboxes and its store.
struct Stage {
    now: Instant,
    page: PageId,
    config: RoomConfig,
    room: Room,
    outboxes: BTreeMap<MemberId, Arc<Outbox>>,
    outbox_bytes: usize,
    store: Tables,
    /// The request to the store that is under way.
    append: Option<PageCommit>,
    /// The snapshot that is being written.
    compaction: Option<CompactRequest>,
    /// What the room wants to read of another process.
    gaps: Vec<(Seq, Seq)>,
    answers: Vec<(RequestId, Result<Seq, RefusalCode>)>,
    refused: BTreeMap<&'static str, usize>,
    /// What was to be seen from outside.
    seen: Vec<Sight>,
    failed: bool,
    retired: bool,
    effects: Vec<Effect>,
}

fn config() -> RoomConfig {
    RoomConfig {
        gate: crdt::Limits::default(),
        snapshots: SnapshotPolicy {
            interval: Duration::from_secs(5),
            max_log_rows: 100,
            max_log_bytes: 1 << 20,
        },
        idle: Duration::from_secs(30),
        max_window: Duration::from_micros(16_667),
        max_page_bytes: 0,
        max_members: 0,
        awareness: crdt::AwarenessLimits::default(),
        sleep: Duration::from_secs(600),
    }
}

#[expect(clippy::disallowed_methods, reason = "stories begin at some instant")]
fn start() -> Instant {
    Instant::now()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Stage {
    fn new() -> Self {
        Self::with(config())
    }

    fn with(config: RoomConfig) -> Self {
        Self::opened(config, Tables::new(1))
    }

    /// Opens a room on what `store` has, as the task does it.
    fn opened(config: RoomConfig, store: Tables) -> Self {
        let now = start();
        let page = PageId::new("page").unwrap();
        let loaded = load(&store, &page, &config, now);
        Self {
            room: Room::new(now, page.clone(), config.clone(), loaded),
            now,
            page,
            config,
            outboxes: BTreeMap::new(),
            outbox_bytes: 0,
            store,
            append: None,
            compaction: None,
            gaps: Vec::new(),
            answers: Vec::new(),
            refused: BTreeMap::new(),
            seen: Vec::new(),
            failed: false,
            retired: false,
            effects: Vec::new(),
        }
    }

    /// Somebody joins who knows nothing yet; what the room says at first stays in the outbox.
    fn enters(&mut self, id: u64, role: Role, user: Option<&str>) -> Person {
        self.enters_with(id, role, user, Capabilities::default())
    }

    fn enters_with(&mut self, id: u64, role: Role, user: Option<&str>, capabilities: Capabilities) -> Person {
        let member = MemberId(id);
        let outlet = Outbox::with_capabilities(self.outbox_bytes, capabilities);
        self.outboxes.insert(member, outlet.clone());
        self.hand_over(Input::Joined {
            member,
            role,
            user: user.map(Arc::from),
            stamp: None,
            outlet,
        });
        self.settle();
        Person {
            member,
            replica: Replica::new(ClientId(id)),
        }
    }

    /// An editor comes and has heard what the room says at first.
    fn arrives(&mut self, id: u64, name: &str) -> Person {
        let person = self.enters(id, Role::Edit, Some(name));
        self.hears(&person);
        person
    }

    /// An editor comes, has asked for what it lacks, and has heard the answer if there was one at once.
    fn joins(&mut self, id: u64, name: &str) -> Person {
        let person = self.arrives(id, name);
        self.asks(&person);
        self.hears(&person);
        person
    }

    /// Somebody says something, and the room settles.
    fn says(&mut self, person: &Person, message: ClientMessage) {
        self.says_without_settling(person, message);
        self.settle();
    }

    /// Somebody says something of which the room hears together with what comes before it settles.
    fn says_without_settling(&mut self, person: &Person, message: ClientMessage) {
        self.hand_over(Input::Said {
            member: person.member,
            messages: vec![message],
        });
    }

    fn edits(&mut self, person: &Person, update: &Bytes) {
        self.says(person, ClientMessage::Update(update.clone()));
    }

    fn asks(&mut self, person: &Person) {
        let state_vector = person.replica.state_vector().encode();
        self.says(person, ClientMessage::SyncStep1(state_vector));
    }

    fn leaves(&mut self, person: &Person, departure: Departure) {
        self.outboxes.remove(&person.member);
        self.hand_over(Input::Left {
            member: person.member,
            departure,
        });
        self.settle();
    }

    /// Takes everything out of somebody's outbox.
    fn hears(&mut self, person: &Person) -> Vec<Heard> {
        let Some(outbox) = self.outboxes.get(&person.member).cloned() else {
            return Vec::new();
        };
        let mut heard = Vec::new();
        while let Some(next) = outbox.next() {
            heard.push(match next {
                Next::Message(message) => self.heard(message.message()),
                Next::Receipt { accepted } => Heard::Receipt(accepted),
                Next::CaughtUp => Heard::CaughtUp,
                Next::Close(refusal) => Heard::Closed(refusal.code),
            });
        }
        heard
    }

    fn heard(&self, message: &ServerMessage) -> Heard {
        match message {
            ServerMessage::SyncStep1(bytes) => {
                Heard::Step1(StateVector::decode(bytes, &self.config.gate).unwrap())
            }
            ServerMessage::SyncStep2(update) => Heard::Step2(update.clone()),
            ServerMessage::Delta(update) => Heard::Delta(update.clone()),
            ServerMessage::Stored(update) => Heard::Stored(update.clone()),
            ServerMessage::Awareness(changes) => {
                let shown = |change: &AwarenessChange| {
                    let state = change.state.as_ref().map(|state| state.to_string());
                    (change.client.0, state)
                };
                Heard::Awareness(changes.iter().map(shown).collect())
            }
            ServerMessage::Refused(refusal) => Heard::Refused(refusal.code),
            ServerMessage::Receipts { accepted, .. } => Heard::Receipt(*accepted),
            ServerMessage::Stateless(payload) => Heard::Stateless(payload.clone()),
            ServerMessage::QueryAwareness => Heard::Asked,
            ServerMessage::Mark(mark) => Heard::Mark(mark.clone()),
        }
    }

    /// Something happens that nobody said, and the room settles.
    fn happens(&mut self, input: Input) {
        self.hand_over(input);
        self.settle();
    }

    /// The member's connection tells the room that its queue has drained.
    fn catches_up(&mut self, person: &Person) {
        self.hand_over(Input::Drained {
            member: person.member,
        });
        self.settle();
    }

    /// Time passes; the room is looked after whenever it has asked to be.
    fn passes(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(deadline) = self
            .room
            .next_deadline()
            .filter(|deadline| *deadline <= end && !self.retired)
        {
            // A deadline in the past would keep a task spinning.
            let late = deadline <= self.now;
            self.now = self.now.max(deadline);
            self.settle();
            let still = !self.retired && self.room.next_deadline().is_some_and(|next| next <= self.now);
            assert!(
                !(late && still),
                "the room asks to be looked after again and again"
            );
        }
        self.now = end;
        self.settle();
    }

    /// The store keeps what it was asked to keep, and the room hears of it.
    fn store_answers(&mut self) -> Committed {
        let committed = self.store_commits();
        self.store_tells(committed.clone());
        committed
    }

    /// The store keeps what it was asked to keep; the answer is still on its way.
    fn store_commits(&mut self) -> Committed {
        let commit = self.append.take().expect("a request to the store");
        self.store
            .commit(SystemTime::UNIX_EPOCH, &[commit])
            .unwrap()
            .remove(0)
    }

    fn store_tells(&mut self, committed: Committed) {
        if committed.is_nothing() {
            // The page is another one now: the room is not told anything any more, as the task does it.
            self.room
                .hang_up(&Refusal::unavailable("the page is being rebuilt, connect again"));
            self.retired = true;
            return;
        }
        self.hand_over(Input::Stored { committed });
        self.settle();
    }

    /// The store answers whatever is asked until nothing is.
    fn store_answers_everything(&mut self) {
        while self.append.is_some() || self.compaction.is_some() {
            if self.append.is_some() {
                self.store_answers();
            }
            if self.compaction.is_some() {
                self.store_compacts();
            }
        }
    }

    /// The store takes the snapshot, and the room hears of it. What was in it is returned.
    fn store_compacts(&mut self) -> CompactRequest {
        let compact = self.compaction.take().expect("a snapshot");
        let mut document = Document::load(self.config.gate, [compact.state.clone()]).expect("a whole page");
        let content = document.content().unwrap();
        let snapshot = Snapshot {
            seq: compact.seq,
            state: compact.state.clone(),
            state_vector: compact.state_vector.clone(),
            content: content.json(None).unwrap().unwrap(),
            text: content.text(None).unwrap().unwrap(),
        };
        self.store
            .compact(&compact.page, compact.generation.as_ref(), &snapshot);
        self.happens(Input::Compacted {
            seq: compact.seq,
            taken: true,
        });
        compact
    }

    /// Another process stores an update of the same page.
    fn other_process_stores(&mut self, update: &Bytes) {
        let commit = PageCommit {
            page: self.page.clone(),
            updates: vec![NewUpdate {
                data: update.clone(),
                user: None,
            }],
            size_bytes: None,
            generation: None,
        };
        self.store.commit(SystemTime::UNIX_EPOCH, &[commit]).unwrap();
    }

    /// Reads the gap the room has asked to be read, as the task does it.
    fn reads_foreign(&mut self) {
        let (after, before) = self.gaps.pop().expect("rows to read");
        self.gaps.clear();
        let rows = self
            .store
            .log(&self.page, after, 10_000)
            .expect("rows in the log");
        let rows: Vec<LoggedUpdate> = rows.into_iter().filter(|row| row.seq < before).collect();
        self.hand_over(Input::Remote { rows });
        self.settle();
    }

    /// What somebody sees who opens the page from the store alone.
    fn stored_text(&self) -> String {
        let loaded = load(&self.store, &self.page, &self.config, self.now);
        text_of(loaded.document)
    }

    fn hand_over(&mut self, input: Input) {
        self.room.handle(self.now, input, &mut self.effects);
    }

    fn settle(&mut self) {
        self.room.settle(self.now, &mut self.effects);
        for effect in std::mem::take(&mut self.effects) {
            self.run_effect(effect);
        }
        self.retired = self.room.may_retire(self.now);
    }

    fn run_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Append(commit) => {
                let under_way = self.append.replace(commit);
                assert!(under_way.is_none(), "one request to the store at a time");
            }
            Effect::Compact(compact) => {
                let under_way = self.compaction.replace(compact);
                assert!(under_way.is_none(), "one snapshot at a time");
            }
            Effect::ReadForeign { after, before, .. } => self.gaps.push((after, before)),
            Effect::Answer { request, result } => {
                self.answers
                    .push((request, result.map_err(|refusal| refusal.code)));
            }
            Effect::Seen(sight) => self.seen.push(sight),
            Effect::Count(Count::Refused(kind), count) => *self.refused.entry(kind).or_default() += count,
            Effect::Count(Count::Failures, _) => self.failed = true,
            Effect::Count(Count::Deltas | Count::Resyncs, _) => {}
        }
    }
}

fn load(store: &Tables, page: &PageId, config: &RoomConfig, now: Instant) -> Loaded {
    let Some(stored) = store.load(page) else {
        return Loaded {
            document: Document::new(config.gate),
            generation: None,
            seq: 0,
            log_rows: 0,
            log_bytes: 0,
            before: StateVector::default(),
            ended: Arc::default(),
            dirty_since: None,
        };
    };
    let log_rows = stored.log.len() as u64;
    let log_bytes = stored.log.iter().map(|row| row.data.len() as u64).sum();
    let snapshot = stored.snapshot.map(|snapshot| snapshot.state);
    let rows = stored.log.into_iter().map(|row| row.data);
    Loaded {
        document: Document::load(config.gate, snapshot.into_iter().chain(rows)).expect("a whole page"),
        generation: Some(stored.record.generation),
        seq: stored.record.seq,
        log_rows,
        log_bytes,
        before: StateVector::default(),
        ended: stored
            .ended_clients
            .map(|ended| Arc::new(EndedClients::decode(&ended).unwrap()))
            .unwrap_or_default(),
        dirty_since: (log_rows > 0).then_some(now),
    }
}

fn text_of(mut document: Document) -> String {
    let mut reader = Replica::new(ClientId(999));
    reader.apply(&document.encode().unwrap());
    reader.text()
}

/// The texts of several people, who should all see the same.
fn texts<const N: usize>(people: [&Person; N]) -> [String; N] {
    people.map(Person::text)
}

fn update(update: &Bytes) -> ClientMessage {
    ClientMessage::Update(update.clone())
}
