//! What will happen in a run: settings and a list of operations, made from a seed, kept as one line of JSON each.

use std::{fmt::Write as _, fs, io, path::Path};

use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::faults::Faults;

/// The world in which a plan happens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// Latencies come from it.
    pub(crate) seed: u64,
    pub(crate) pages: usize,
    /// Processes on the same store; the last one is drained before the end.
    pub(crate) processes: usize,
    pub(crate) clients: Vec<ClientSettings>,
    pub(crate) max_outbox_bytes: usize,
    /// Bytes that fit into the socket between server and client.
    pub(crate) socket_bytes: usize,
    pub(crate) latency_ms: u64,
    pub(crate) store_latency_ms: u64,
    pub(crate) idle_ms: u64,
    pub(crate) sleep_ms: u64,
    pub(crate) snapshot_interval_ms: u64,
    pub(crate) snapshot_rows: u64,
    pub(crate) parked_updates: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ClientSettings {
    pub(crate) page: usize,
    pub(crate) process: usize,
    /// Clients with the same number are tabs of one user; `None` is a guest.
    pub(crate) user: Option<u32>,
    pub(crate) may_edit: bool,
    /// Repeats what is not confirmed when it reconnects.
    pub(crate) repeats: bool,
    /// Has each edit answered by itself, and takes nothing that it hears for an acknowledgement.
    #[serde(default)]
    pub(crate) posts: bool,
    /// Is told the outcome of each of its messages, and takes nothing that it hears for an acknowledgement.
    #[serde(default)]
    pub(crate) is_told_outcomes: bool,
    /// Asks behind each edit to be told when everything is stored.
    #[serde(default)]
    pub(crate) marks: bool,
    /// How long its tokens last.
    #[serde(default)]
    pub(crate) token_ms: Option<u64>,
}

impl ClientSettings {
    /// Whether nothing that it hears is an acknowledgement.
    pub(crate) fn counts(&self) -> bool {
        self.posts || self.is_told_outcomes
    }
}

/// Something that happens. Whatever is inapplicable at its time is skipped, so that a plan can be shortened by hand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Operation {
    Advance {
        ms: u64,
    },
    /// Goes online and stays so as well as it can.
    Connect {
        client: usize,
    },
    /// Says goodbye and stays away.
    Leave {
        client: usize,
    },
    /// The connection breaks, and both sides notice.
    Break {
        client: usize,
        away_ms: u64,
    },
    /// Nothing gets through any more, and nobody notices yet.
    Silence {
        client: usize,
    },
    Edit {
        client: usize,
        seed: u64,
    },
    /// Types a lot at once.
    Burst {
        client: usize,
        seed: u64,
        edits: u32,
    },
    Show {
        client: usize,
        value: u32,
    },
    Hide {
        client: usize,
    },
    /// Stops reading.
    Stall {
        client: usize,
    },
    Unstall {
        client: usize,
    },
    /// The next update leaves after the one that follows it.
    Withhold {
        client: usize,
    },
    /// The last update is sent once more.
    Repeat {
        client: usize,
    },
    /// One tab hears from another by a way that is not ours.
    Gossip {
        from: usize,
        to: usize,
    },
    /// Asks for what it lacks.
    Resync {
        client: usize,
    },
    /// Asks for everything, over and over in one frame.
    Flood {
        client: usize,
        questions: u32,
    },
    /// Asks who is here.
    Query {
        client: usize,
    },
    /// May only read from now on, in the middle of whatever it does.
    Revoke {
        client: usize,
    },
    /// May write again.
    Grant {
        client: usize,
    },
    /// Its user is signed out everywhere, and may come back with a token of after that.
    SignOut {
        client: usize,
    },
    /// Its user may not enter any more, and what it has open is closed.
    Block {
        client: usize,
    },
    /// Its user may enter again.
    Unblock {
        client: usize,
    },
    /// A viewer sends changes.
    Trespass {
        client: usize,
        seed: u64,
    },
    /// Somebody writes with the client id of this client.
    Forge {
        client: usize,
        seed: u64,
    },
    /// Somebody speaks for this client.
    Impersonate {
        client: usize,
        clear: bool,
    },
    /// Somebody sends mutated frames to this client's page.
    Corrupt {
        client: usize,
        seed: u64,
    },
    /// A backend adds an update.
    Post {
        page: usize,
        process: usize,
        seed: u64,
    },
    StorePauses,
    StoreResumes,
    /// The next commits fail.
    StoreFails {
        times: u32,
    },
    /// The next commits succeed and their answers are lost.
    StoreLosesAnswers {
        times: u32,
    },
    /// Whoever is asked what somebody may do fails, from now on.
    SourcesFail,
    /// It does not answer.
    SourcesHang,
    /// It answers again.
    SourcesAnswer,
    /// The next loads fail.
    LoadsFail {
        times: u32,
    },
    /// Killed, and started again later.
    Crash {
        process: usize,
        down_ms: u64,
    },
    /// Told to stop, and started again.
    Drain {
        process: usize,
    },
    /// The document of a page is not what is stored: rows come that do not fit.
    Poison {
        page: usize,
        process: usize,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) settings: Settings,
    pub(crate) operations: Vec<Operation>,
}

impl Plan {
    pub(crate) fn generate(seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let settings = Settings::generate(seed, &mut random);
        let faults = Faults::draw(&mut random, &settings);
        let length = random.random_range(60..240);
        let mut operations: Vec<_> = (0..settings.clients.len())
            .filter(|_| random.random_bool(0.8))
            .map(|client| Operation::Connect { client })
            .collect();
        operations.extend((0..length).map(|_| faults.operation(&mut random, &settings)));
        Self { settings, operations }
    }

    /// One line for the settings and one for each operation.
    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        let mut lines = serde_json::to_string(&self.settings)?;
        for operation in &self.operations {
            let _ = write!(lines, "\n{}", serde_json::to_string(operation)?);
        }
        lines.push('\n');
        fs::write(path, lines)
    }

    pub(crate) fn load(path: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(path)?;
        let mut lines = text.lines().filter(|line| !line.is_empty());
        let settings = serde_json::from_str(lines.next().unwrap_or_default())?;
        let operations = lines.map(serde_json::from_str).collect::<Result<_, _>>()?;
        Ok(Self { settings, operations })
    }
}

impl Settings {
    fn generate(seed: u64, random: &mut ChaCha8Rng) -> Self {
        let pages = random.random_range(1..=3);
        let processes = if random.random_bool(0.25) { 2 } else { 1 };
        let count = *[2, 3, 4, 6, 8, 14].choose(random).unwrap_or(&3);
        let guests = random.random_bool(0.2);
        let clients = (0..count)
            .map(|_| {
                let dialect = random.random_range(0..8);
                let (posts, is_told_outcomes) = (dialect < 2, dialect == 2 || dialect == 3);
                ClientSettings {
                    page: random.random_range(0..pages),
                    process: random.random_range(0..processes),
                    user: (!guests).then(|| random.random_range(0..count * 2)),
                    may_edit: random.random_bool(0.85),
                    repeats: random.random_bool(0.5) && dialect > 3,
                    posts,
                    is_told_outcomes,
                    marks: dialect == 4,
                    token_ms: random.random_bool(0.3).then(|| random.random_range(500..30_000)),
                }
            })
            .collect();
        let mut pick = |choices: &[u64]| *choices.choose(random).unwrap_or(&0);
        Self {
            seed,
            pages,
            processes,
            clients,
            max_outbox_bytes: pick(&[300, 1_000, 4_000, 64_000]) as usize,
            socket_bytes: pick(&[200, 1_000, 16_000]) as usize,
            latency_ms: pick(&[1, 10, 80]),
            store_latency_ms: pick(&[0, 2, 20, 300]),
            idle_ms: pick(&[0, 500, 5_000, 30_000]),
            sleep_ms: pick(&[50, 2_000, 600_000]),
            snapshot_interval_ms: pick(&[50, 1_000, 5_000]),
            snapshot_rows: pick(&[2, 10, 1_000]),
            parked_updates: pick(&[1, 4, 1_024]) as usize,
        }
    }
}
