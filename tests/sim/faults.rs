//! Which kinds of things happen in a run: each seed switches some of them off, so that the rest meet more often.

use rand::{Rng, distr::Distribution, distr::weighted::WeightedIndex};
use rand_chacha::ChaCha8Rng;

use crate::plan::{Operation, Settings};

/// The weights of all kinds of operations in one run.
pub(crate) struct Faults {
    weights: WeightedIndex<u32>,
}

/// A kind of operation: its weight, whether a run can do without, and how one is made.
struct Kind {
    weight: u32,
    optional: bool,
    make: fn(&mut ChaCha8Rng, &Settings) -> Operation,
}

const fn always(weight: u32, make: fn(&mut ChaCha8Rng, &Settings) -> Operation) -> Kind {
    Kind {
        weight,
        optional: false,
        make,
    }
}

const fn sometimes(weight: u32, make: fn(&mut ChaCha8Rng, &Settings) -> Operation) -> Kind {
    Kind {
        weight,
        optional: true,
        make,
    }
}

fn client(random: &mut ChaCha8Rng, settings: &Settings) -> usize {
    random.random_range(0..settings.clients.len())
}

fn process(random: &mut ChaCha8Rng, settings: &Settings) -> usize {
    random.random_range(0..settings.processes)
}

fn page(random: &mut ChaCha8Rng, settings: &Settings) -> usize {
    random.random_range(0..settings.pages)
}

const KINDS: &[Kind] = &[
    always(300, |random, settings| Operation::Edit {
        client: client(random, settings),
        seed: random.random(),
    }),
    always(150, |random, _| Operation::Advance {
        // Mostly short, sometimes long enough for everything that waits.
        ms: match random.random_range(0..20) {
            0 => random.random_range(5_000..60_000),
            1..=4 => random.random_range(200..4_000),
            _ => random.random_range(0..100),
        },
    }),
    always(30, |random, settings| Operation::Connect {
        client: client(random, settings),
    }),
    sometimes(20, |random, settings| Operation::Burst {
        client: client(random, settings),
        seed: random.random(),
        edits: random.random_range(5..400),
    }),
    sometimes(15, |random, settings| Operation::Leave {
        client: client(random, settings),
    }),
    sometimes(20, |random, settings| Operation::Break {
        client: client(random, settings),
        away_ms: *[0, 100, 2_000, 5_000]
            .get(random.random_range(0..4))
            .unwrap_or(&0),
    }),
    sometimes(6, |random, settings| Operation::Silence {
        client: client(random, settings),
    }),
    sometimes(30, |random, settings| Operation::Show {
        client: client(random, settings),
        value: random.random_range(0..100),
    }),
    sometimes(8, |random, settings| Operation::Hide {
        client: client(random, settings),
    }),
    sometimes(20, |random, settings| Operation::Stall {
        client: client(random, settings),
    }),
    sometimes(25, |random, settings| Operation::Unstall {
        client: client(random, settings),
    }),
    sometimes(15, |random, settings| Operation::Withhold {
        client: client(random, settings),
    }),
    sometimes(10, |random, settings| Operation::Repeat {
        client: client(random, settings),
    }),
    sometimes(20, |random, settings| Operation::Gossip {
        from: client(random, settings),
        to: client(random, settings),
    }),
    sometimes(15, |random, settings| Operation::Resync {
        client: client(random, settings),
    }),
    sometimes(4, |random, settings| Operation::Flood {
        client: client(random, settings),
        questions: random.random_range(2..500),
    }),
    sometimes(4, |random, settings| Operation::Query {
        client: client(random, settings),
    }),
    sometimes(15, |random, settings| Operation::Revoke {
        client: client(random, settings),
    }),
    sometimes(15, |random, settings| Operation::Grant {
        client: client(random, settings),
    }),
    sometimes(6, |random, settings| Operation::SignOut {
        client: client(random, settings),
    }),
    sometimes(8, |random, settings| Operation::Block {
        client: client(random, settings),
    }),
    sometimes(8, |random, settings| Operation::Unblock {
        client: client(random, settings),
    }),
    sometimes(15, |random, settings| Operation::Trespass {
        client: client(random, settings),
        seed: random.random(),
    }),
    sometimes(10, |random, settings| Operation::Forge {
        client: client(random, settings),
        seed: random.random(),
    }),
    sometimes(8, |random, settings| Operation::Impersonate {
        client: client(random, settings),
        clear: random.random(),
    }),
    sometimes(20, |random, settings| Operation::Corrupt {
        client: client(random, settings),
        seed: random.random(),
    }),
    sometimes(10, |random, settings| Operation::Post {
        page: page(random, settings),
        process: process(random, settings),
        seed: random.random(),
    }),
    sometimes(8, |_, _| Operation::StorePauses),
    sometimes(12, |_, _| Operation::StoreResumes),
    sometimes(8, |random, _| Operation::StoreFails {
        times: random.random_range(1..8),
    }),
    sometimes(8, |random, _| Operation::StoreLosesAnswers {
        times: random.random_range(1..4),
    }),
    sometimes(5, |_, _| Operation::SourcesFail),
    sometimes(5, |_, _| Operation::SourcesHang),
    sometimes(12, |_, _| Operation::SourcesAnswer),
    sometimes(5, |random, _| Operation::LoadsFail {
        times: random.random_range(1..4),
    }),
    sometimes(6, |random, settings| Operation::Crash {
        process: process(random, settings),
        down_ms: random.random_range(0..3_000),
    }),
    sometimes(4, |random, settings| Operation::Drain {
        process: process(random, settings),
    }),
    sometimes(6, |random, settings| Operation::Poison {
        page: page(random, settings),
        process: process(random, settings),
    }),
];

impl Faults {
    pub(crate) fn draw(random: &mut ChaCha8Rng, _settings: &Settings) -> Self {
        let weights = KINDS
            .iter()
            .map(|kind| match kind.optional && random.random_bool(0.45) {
                true => 0,
                false => kind.weight,
            });
        let weights: Vec<u32> = weights.collect();
        Self {
            weights: WeightedIndex::new(weights).expect("some kinds are always on"),
        }
    }

    pub(crate) fn operation(&self, random: &mut ChaCha8Rng, settings: &Settings) -> Operation {
        (KINDS[self.weights.sample(random)].make)(random, settings)
    }
}
