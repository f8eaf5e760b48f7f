//! What fuzzing does with its bytes, shared by the fuzz targets and by the short run that is a normal test.
//!
//! Nothing here may panic, whatever the bytes are. What is admitted must leave the document whole: never anything
//! waiting in it, as far along for one who applies every update in turn as for one who gets them merged, readable, and
//! surviving being encoded. The content is not compared: neighbours that no editing client could name may end in
//! different places depending on what arrives first. (That it is the same for real edits is tested elsewhere.)

use std::fmt::Write as _;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::choices::Choices;
use super::edits::Edits;
use super::{Random, Replica};
use crate::awareness::{Awareness, AwarenessLimits};
use crate::document::{Admission, Document};
use crate::encoding::Reader;
use crate::limits::Limits;
use crate::message::Message;
use crate::rebuild::RebuildError;
use crate::state_vector::{ClientId, StateVector};
use crate::update::{Update, merge};

/// Takes raw bytes as a document to begin with and updates offered to it: a byte that chooses the document, then
/// length-prefixed updates.
pub fn updates(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else {
        return;
    };
    // Most inputs hold nothing that is an update, which should not cost a document.
    let mut reader = Reader::new(rest);
    let mut any = false;
    while let Ok(update) = reader.buffer() {
        any |= Update::parse(Bytes::copy_from_slice(update), &Limits::default()).is_ok();
    }
    if !any {
        return;
    }
    let mut trial = Trial::new(first);
    let mut reader = Reader::new(rest);
    while let Ok(update) = reader.buffer() {
        trial.offer(update);
    }
    trial.finish();
}

/// Takes bytes as choices from which well-formed updates are made that may depend on anything.
pub fn structured(data: &[u8]) {
    let mut choices = Choices { data, position: 0 };
    let mut trial = Trial::new(choices.byte());
    while !choices.is_at_end() && trial.offered < 16 {
        let update = choices.update(trial.document.state_vector());
        choices.byte();
        trial.offer(&update);
    }
    trial.finish();
}

/// Takes records of edits (see [`super::edits`]): updates that depend on each other as real ones do, in any order, with gaps.
pub fn edits(data: &[u8]) {
    let Some((&first, mut records)) = data.split_first() else {
        return;
    };
    let mut trial = Trial::new(first & 3);
    let mut edits = Edits::default();
    while let Some((update, rest)) = edits.next(records) {
        trial.offer(&update);
        records = rest;
    }
    trial.finish();
}

/// Takes records of edits, and restores what the document was in the midst of them: that is an edit which the document takes at once, and
/// whole.
pub fn past(data: &[u8]) {
    let Some((&first, mut records)) = data.split_first() else {
        return;
    };
    let (mut edits, mut now) = (Edits::default(), Document::new(Limits::default()));
    let mut then = None;
    for step in 0.. {
        if step == first % 16 {
            then = now.encode().ok();
        }
        let Some((update, rest)) = edits.next(records) else {
            break;
        };
        records = rest;
        let Ok(update) = Update::parse(update.into(), &Limits::default()) else {
            continue;
        };
        let clients: Vec<_> = update.ranges().map(|range| range.client).collect();
        if let Ok(Admission::Early { update, .. } | Admission::Partly { early: update, .. }) =
            now.admit(update)
        {
            let _ = now.park(update);
        }
        // At once, as in a room: later something else might have come under the same ids.
        now.take_ready(clients.into_iter()).expect("a document");
    }
    let Some(mut then) = then.and_then(|then| Document::load(Limits::default(), [then]).ok()) else {
        return;
    };
    let Ok(update) = crate::past::restore(ClientId(1_000), &mut now, &mut then) else {
        return;
    };
    let update = Update::parse(update, &Limits::default()).expect("an update");
    let is_empty = update.is_empty();
    match now.admit(update) {
        Ok(Admission::New(_)) => assert!(!is_empty),
        Ok(Admission::Known) => assert!(is_empty),
        other => panic!("{other:?}"),
    }
}

/// What [`structured`] makes of its bytes, readable: each update, and what became of it.
pub fn explain(data: &[u8]) -> String {
    let mut choices = Choices { data, position: 0 };
    let mut trial = Trial::new(choices.byte());
    let mut out = String::new();
    while !choices.is_at_end() && trial.offered < 16 {
        let update = choices.update(trial.document.state_vector());
        choices.byte();
        let known = trial.document.state_vector().clone();
        trial.offer(&update);
        let became = if known == *trial.document.state_vector() {
            "no new structs"
        } else {
            "new"
        };
        let _ = writeln!(out, "{}  {became}", super::dump(&update));
    }
    out
}

/// Takes raw bytes as everything else that comes from outside: state vectors, awareness updates, frames.
pub fn messages(data: &[u8]) {
    if let Ok(known) = StateVector::decode(data, &Limits::default()) {
        let encoded = known.encode();
        assert_eq!(
            StateVector::decode(&encoded, &Limits::default()).as_ref(),
            Ok(&known)
        );
        assert!(seeds()[0].state_vector().covers(&StateVector::new()));
    }
    let frame = Bytes::copy_from_slice(data);
    let total: usize = Message::decode(&frame)
        .map(|message| match message {
            Ok(
                Message::SyncStep1(body)
                | Message::SyncStep2(body)
                | Message::Update(body)
                | Message::Awareness(body),
            ) => body.len() + 1,
            Ok(_) => 1,
            Err(_) => 0,
        })
        .sum();
    assert!(total <= data.len());
    awareness(data);
}

fn awareness(data: &[u8]) {
    #[expect(clippy::disallowed_methods, reason = "some moment to count from")]
    let start = Instant::now();
    let mut awareness = Awareness::new(AwarenessLimits::default());
    for (owner, part) in data.chunks(64).enumerate() {
        let now = start + Duration::from_secs(owner as u64);
        if let Ok(outcome) = awareness.apply(now, owner, part, |_, _| owner % 2 == 0) {
            assert!(outcome.changed.len() <= part.len());
            let all = awareness.encode_all();
            let mut other = Awareness::new(AwarenessLimits {
                max_clients_per_owner: usize::MAX,
                ..AwarenessLimits::default()
            });
            assert!(other.apply(now, 0, &all, |_, _| true).is_ok());
            assert_eq!(other.len(), awareness.len());
        }
        awareness.expire(now);
    }
}

/// A document being offered updates, and a client that gets what is admitted.
struct Trial {
    seed: Bytes,
    document: Document,
    client: Document,
    admitted: Vec<Update>,
    offered: usize,
}

impl Trial {
    fn new(seed: u8) -> Self {
        let seed = &seeds()[usize::from(seed & 0x3f) % seeds().len()];
        let mut document = Document::load(Limits::default(), [seed.encode()]).expect("a seed");
        // What waited is not judged by its contradictions, and a client judges nothing by them.
        let limits = Limits {
            refuses_contradictions: false,
            ..Limits::default()
        };
        let client = Document::load(limits, [document.encode().expect("a seed")]).expect("a seed");
        Self {
            seed: seed.encode(),
            document,
            client,
            admitted: Vec::new(),
            offered: 0,
        }
    }

    fn offer(&mut self, update: &[u8]) {
        self.offered += 1;
        let Ok(update) = Update::parse(Bytes::copy_from_slice(update), &Limits::default()) else {
            return;
        };
        let before = self.document.state_vector().clone();
        let mut new_part = None;
        let early = match self.document.admit(update) {
            Ok(Admission::New(new)) => {
                new_part = Some(new);
                None
            }
            Ok(Admission::Partly { new, early, missing }) => {
                new_part = Some(new);
                assert!(missing.clock > self.document.state_vector().get(missing.client));
                Some(early)
            }
            Ok(Admission::Early { update, missing }) => {
                assert!(missing.clock > before.get(missing.client));
                assert_eq!(*self.document.state_vector(), before);
                Some(update)
            }
            Ok(Admission::Known) | Err(_) => {
                assert_eq!(*self.document.state_vector(), before);
                None
            }
        };
        if let Some(early) = early {
            self.document.park(early.clone()).expect("there is room");
            assert_eq!(self.document.contains(&early), Ok(true), "it waits");
            assert_eq!(self.document.park(early), Ok(false), "once");
        }
        if let Some(new) = new_part {
            self.tell(new, &before);
        }
    }

    /// Tells the client what was admitted, and then what waited for it.
    fn tell(&mut self, update: Update, before: &StateVector) {
        self.tell_one(&update, before);
        let clients: Vec<_> = update.ranges().map(|range| range.client).collect();
        self.admitted.push(update);
        let known = self.document.state_vector().clone();
        let ready = self.document.take_ready(clients.into_iter()).expect("a document");
        for update in ready {
            let told = self.client.state_vector().clone();
            self.tell_one(&update, &told);
            self.admitted.push(update);
        }
        assert!(self.document.state_vector().covers(&known));
    }

    fn tell_one(&mut self, update: &Update, before: &StateVector) {
        let parse = || Update::parse(update.bytes().clone(), &Limits::default()).expect("admitted");
        for range in update.ranges() {
            assert_eq!(range.start, before.get(range.client), "exactly what is new");
            assert!(range.end <= self.document.state_vector().get(range.client));
        }
        let told = self.client.admit(parse()).expect("what was admitted");
        assert!(
            !matches!(told, Admission::Early { .. } | Admission::Partly { .. }),
            "a client waits for what was admitted"
        );
        assert!(matches!(self.document.admit(parse()), Ok(Admission::Known)));
    }

    fn finish(mut self) {
        if self.admitted.is_empty() && self.document.pending_bytes() == 0 {
            return;
        }
        assert_eq!(self.document.state_vector(), self.client.state_vector());
        let snapshot = self.document.snapshot().expect("a snapshot");
        let mut asleep = Document::asleep(Limits::default(), snapshot.state.clone(), &snapshot.state_vector)
            .expect("a snapshot");
        let half: StateVector = self
            .document
            .state_vector()
            .iter()
            .map(|(client, clock)| (client, clock / 2))
            .collect();
        for diff in [self.document.diff(&half), asleep.diff(&half)] {
            assert!(Update::parse(diff.expect("a diff"), &Limits::default()).is_ok());
        }
        // So does a client that gets everything in one piece.
        let mut late = Document::load(
            Limits::default(),
            [self.seed.clone(), merge(&self.admitted).bytes().clone()],
        )
        .expect("what was admitted");
        assert_eq!(late.state_vector(), self.client.state_vector());
        // What is asleep wakes up.
        let state = late.encode().expect("a state");
        assert!(matches!(
            asleep.admit(Update::parse(state, &Limits::default()).expect("a state")),
            Ok(Admission::Known | Admission::New(_))
        ));
        // What waits for good may say something else of ticks that are there by now; what follows them is then as good as any.
        match self.document.pending_bytes() {
            0 => assert_eq!(asleep.state_vector(), self.document.state_vector()),
            _ => assert!(asleep.state_vector().covers(self.document.state_vector())),
        }
        // What waits is stored beside what is there, and never instead of it.
        let mut stored = Document::load(Limits::default(), [snapshot.state]).expect("a snapshot");
        assert!(stored.state_vector().covers(self.document.state_vector()));
        for update in &self.admitted {
            assert_eq!(stored.contains(update), Ok(true));
        }
        self.rebuild();
        self.document.sleep().expect("sleep");
    }

    /// A new document has what is live in this one, which is what is live in itself.
    fn rebuild(&mut self) {
        let client = ClientId(1_000);
        let bytes = match self.document.rebuilt(client) {
            Err(RebuildError::Parked { bytes }) => {
                assert_eq!(bytes, self.document.pending_bytes());
                return;
            }
            rebuilt => rebuilt.expect("a small document"),
        };
        let update = Update::parse(bytes.clone(), &Limits::default()).expect("an update");
        let mut rebuilt = Document::new(Limits::default());
        match rebuilt.admit(update) {
            Ok(Admission::New(new)) => assert_eq!(*new.bytes(), bytes),
            Ok(Admission::Known) => assert_eq!(*bytes, [0, 0]),
            other => panic!("{other:?}"),
        }
        assert_eq!(rebuilt.rebuilt(client).as_ref(), Ok(&bytes));
        assert_eq!(rebuilt.weight().map(|weight| weight.dead_bytes), Ok(0));
        assert!(
            self.document
                .weight()
                .is_ok_and(|weight| weight.clients == self.document.state_vector().len())
        );
    }
}

/// Documents to begin with: nothing, a text, and some of everything.
fn seeds() -> &'static [Replica] {
    static SEEDS: OnceLock<Vec<Replica>> = OnceLock::new();
    SEEDS.get_or_init(|| {
        let mut text = Replica::new(ClientId(1));
        text.insert(0, "hello w\u{1f600}rld");
        text.replace(2, 3, "");
        let mut rich = Replica::new(ClientId(2));
        let mut random = Random::new(7);
        for _ in 0..24 {
            rich.edit(&mut random);
        }
        let mut other = Replica::new(ClientId(3));
        other.apply(&rich.encode());
        for _ in 0..12 {
            other.edit(&mut random);
        }
        vec![Replica::new(ClientId(0)), text, rich, other]
    })
}
