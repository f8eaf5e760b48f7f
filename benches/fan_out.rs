//! How long does a room take from one edit to its frame in every other member's queue, and back out of it?
#![expect(clippy::expect_used, reason = "a bench stops at the first error")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use crdt::Document;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pageroom::rooms::{
    ClientMessage, Effect, Input, Loaded, MemberId, Next, Outbox, Outgoing, Role, Room, RoomConfig,
    ServerMessage, SnapshotPolicy,
};
use pageroom_load::replica::Replica;
use storage::{Committed, Generation, PageId};

/// Longer than any window that a room waits for.
const STEP: Duration = Duration::from_secs(1);
/// Longer than any bench.
const NEVER: Duration = Duration::from_secs(1 << 40);
const MEBIBYTE: u64 = 1 << 20;

/// A room with members, a store that never fails, and queues that are emptied at once.
struct World {
    room: Room,
    now: Instant,
    effects: Vec<Effect>,
    outboxes: Vec<Arc<Outbox>>,
    writer: Replica,
    last_seq: u64,
}

impl World {
    fn new(members: usize) -> Self {
        let config = RoomConfig {
            gate: crdt::Limits::default(),
            snapshots: SnapshotPolicy {
                interval: NEVER,
                max_log_rows: u64::MAX,
                max_log_bytes: u64::MAX,
            },
            idle: NEVER,
            max_window: Duration::from_millis(16),
            max_page_bytes: 256 * MEBIBYTE,
            max_members: 0,
            awareness: crdt::AwarenessLimits::default(),
            sleep: NEVER,
        };
        let loaded = Loaded {
            document: Document::new(config.gate),
            generation: None,
            seq: 0,
            log_rows: 0,
            log_bytes: 0,
            dirty_since: None,
            before: crdt::StateVector::default(),
            ended: Arc::default(),
        };
        #[expect(clippy::disallowed_methods, reason = "the room only adds to it")]
        let now = Instant::now();
        let page = PageId::new("fan-out").expect("a page id");
        let mut world = Self {
            room: Room::new(now, page, config, loaded),
            now,
            effects: Vec::new(),
            outboxes: (0..=members).map(|_| Outbox::new(0)).collect(),
            writer: Replica::new(1 << 31),
            last_seq: 0,
        };
        for member in 0..=members as u64 {
            world.give(Input::Joined {
                member: MemberId(member),
                role: Role::Edit,
                user: None,
                stamp: None,
                outlet: world.outboxes[member as usize].clone(),
            });
            let nothing = crdt::StateVector::default().encode();
            let messages = vec![ClientMessage::SyncStep1(nothing)];
            let member = MemberId(member);
            world.give(Input::Said { member, messages });
        }
        world.read();
        world
    }

    /// Hands an input to the room and carries out the effects, in the way the room's task does.
    fn give(&mut self, input: Input) {
        self.room.handle(self.now, input, &mut self.effects);
        loop {
            self.room.settle(self.now, &mut self.effects);
            let mut stored = None;
            for effect in self.effects.drain(..) {
                match effect {
                    Effect::Compact(_) => {}
                    Effect::Append(commit) => {
                        let first_seq = self.last_seq + 1;
                        self.last_seq += commit.updates.len() as u64;
                        let generation = Generation("fan-out".into());
                        stored = Some(Committed {
                            generation,
                            first_seq,
                            last_seq: self.last_seq,
                        });
                    }
                    Effect::Count(..) => {}
                    other @ (Effect::ReadForeign { .. } | Effect::Answer { .. } | Effect::Seen(_)) => {
                        panic!("an edit should not lead to {other:?}")
                    }
                }
            }
            match stored {
                Some(committed) => self
                    .room
                    .handle(self.now, Input::Stored { committed }, &mut self.effects),
                None => break,
            }
        }
    }

    /// Takes everything out of the queues, in its wire form; returns how many bytes that is.
    fn read(&self) -> usize {
        let mut bytes = 0;
        for outbox in &self.outboxes {
            while let Some(Next::Message(message)) = outbox.next() {
                bytes += wire(&message).len();
            }
        }
        bytes
    }

    fn edit(&mut self) -> usize {
        self.now += STEP;
        let end = self.writer.length();
        let update = Bytes::from(self.writer.edit(&[(end, 0, "x".to_owned())]).update);
        let messages = vec![ClientMessage::Update(update)];
        self.give(Input::Said {
            member: MemberId(0),
            messages,
        });
        self.read()
    }
}

fn wire(message: &Outgoing) -> Bytes {
    message.wire(0, |message| match message {
        ServerMessage::SyncStep1(state_vector) => crdt::message::sync_step_1(state_vector),
        ServerMessage::SyncStep2(update) => crdt::message::sync_step_2(update),
        ServerMessage::Delta(update) | ServerMessage::Stored(update) => crdt::message::update(update),
        ServerMessage::Awareness(_)
        | ServerMessage::Refused(_)
        | ServerMessage::Receipts { .. }
        | ServerMessage::QueryAwareness
        | ServerMessage::Stateless(_)
        | ServerMessage::Mark(_) => Bytes::new(),
    })
}

fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fan_out");
    for members in [1, 10, 100, 1000] {
        group.throughput(Throughput::Elements(members as u64));
        group.bench_function(format!("one edit to {members} others"), |bencher| {
            let mut world = World::new(members);
            bencher.iter(|| world.edit());
        });
    }
    group.finish();
}

criterion_group!(benches, fan_out);
criterion_main!(benches);
