//! The simulation: many clients, rooms and a disk in one thread, driven by a seed, against everything that can go wrong.
//!
//! A seed makes a [`plan::Plan`], the [`world::World`] carries it out, and [`properties`] say what must hold at every moment and in the
//! end. What fails is shortened and written to a file that can be replayed, and that is kept in `plans/` once the defect is mended.
//!
//! `SIM_SEED=7` runs one seed and tells what happened; `SIM_SEEDS=1000` runs that many, beginning with `SIM_FIRST` (0);
//! `SIM_PLAN=file` replays a plan.

#![expect(
    clippy::expect_used,
    reason = "a simulation that cannot go on says so by panicking"
)]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "operations, effects and commands are sorted here, and the rest goes on to who carries it out"
)]

mod access;
mod client;
mod connection;
mod disk;
mod faults;
mod live;
mod operations;
mod plan;
mod presence;
mod process;
mod properties;
mod rest;
mod strangers;
mod trace;
mod world;

use std::{
    cell::Cell,
    env, fs,
    io::Write,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::{
        Mutex, Once,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use plan::Plan;
use world::World;

/// Seeds that a run without further wishes tries.
const SEEDS: u64 = 300;

/// What a plan led to: the fingerprint of all that happened and the words for it, or what did not hold.
struct Run {
    fingerprint: u64,
    words: String,
    broken: Option<String>,
}

#[expect(clippy::disallowed_methods, reason = "simulated time begins at some instant")]
fn start() -> Instant {
    Instant::now()
}

fn carry_out(plan: &Plan, in_words: bool) -> Run {
    quiet_panics();
    let mut world = World::new(start(), &plan.settings, in_words);
    CARRYING_OUT.set(true);
    let ended = panic::catch_unwind(AssertUnwindSafe(|| {
        for operation in &plan.operations {
            world.carry_out(operation);
        }
        world.comes_to_rest();
    }));
    CARRYING_OUT.set(false);
    Run {
        fingerprint: world.trace.fingerprint(),
        words: world.trace.words().to_owned(),
        broken: ended.err().map(|panic| {
            let message = panic.downcast_ref::<String>().map(String::as_str);
            let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
            message.unwrap_or("a panic without a message").to_owned()
        }),
    }
}

thread_local! {
    static CARRYING_OUT: Cell<bool> = const { Cell::new(false) };
}

/// Panics are how a run says that something does not hold: they are reported once, with the seed, and not where they happen.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let wanted = env::var_os("SIM_SEED").is_some() || env::var_os("SIM_PLAN").is_some();
            if wanted || !CARRYING_OUT.get() {
                report(info);
            }
        }));
    });
}

/// What kind of failure it is: its words without numbers and values.
fn kind(broken: &str) -> String {
    let line = broken.lines().next().unwrap_or_default();
    line.chars()
        .filter(|character| !character.is_ascii_digit())
        .collect()
}

/// Leaves out of a failing plan whatever it fails without.
fn shortened(mut plan: Plan, broken: &str) -> Plan {
    let wanted = kind(broken);
    let mut size = plan.operations.len().div_ceil(2);
    let mut tries = 600;
    while size > 0 && tries > 0 {
        let mut from = 0;
        while from < plan.operations.len() && tries > 0 {
            tries -= 1;
            let mut shorter = plan.clone();
            let to = (from + size).min(shorter.operations.len());
            shorter.operations.drain(from..to);
            if carry_out(&shorter, false)
                .broken
                .is_some_and(|broken| kind(&broken) == wanted)
            {
                plan = shorter;
            } else {
                from += size;
            }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    plan
}

/// Runs a plan; if something does not hold, keeps the plan and says so.
fn check(name: &str, plan: Plan) -> Result<(), String> {
    let Some(broken) = carry_out(&plan, false).broken else {
        return Ok(());
    };
    let plan = shortened(plan, &broken);
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sim-{name}.jsonl"));
    let saved = match plan.save(&file) {
        Ok(()) => format!("SIM_PLAN={}", file.display()),
        Err(error) => format!("the plan could not be saved: {error}"),
    };
    Err(format!(
        "{name}: {broken}\n    {} operations, replay with {saved}",
        plan.operations.len()
    ))
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

#[test]
fn what_must_hold_holds_for_many_seeds() {
    if let Some(file) = env::var_os("SIM_PLAN") {
        let plan = Plan::load(Path::new(&file)).expect("a plan that can be read");
        return tell("the plan", &plan);
    }
    if let Some(seed) = number("SIM_SEED") {
        return tell(&format!("seed {seed}"), &Plan::generate(seed));
    }
    let first = number("SIM_FIRST").unwrap_or(0);
    let last = first + number("SIM_SEEDS").unwrap_or(SEEDS);
    // Past the capture of test output: a run that passes says as well what it has tried.
    let _ = writeln!(std::io::stderr(), "simulation of seeds {first} to {}", last - 1);
    let next = AtomicU64::new(first);
    let broken = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= last {
                        return;
                    }
                    if let Err(message) = check(&format!("seed-{seed}"), Plan::generate(seed)) {
                        eprintln!("{message}");
                        broken.lock().expect("no panic holds it").push(seed);
                    }
                }
            });
        }
    });
    let broken = broken.into_inner().expect("no panic holds it");
    assert!(broken.is_empty(), "{} seeds fail: {broken:?}", broken.len());
}

/// Runs a plan and tells what happened.
fn tell(name: &str, plan: &Plan) {
    eprintln!("{:?}", plan.settings);
    let run = carry_out(plan, true);
    eprintln!("{}", run.words);
    if let Some(broken) = run.broken {
        panic!("{name}: {broken}");
    }
}

#[test]
fn what_was_mended_stays_mended() {
    let plans = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sim/plans");
    let mut files: Vec<PathBuf> = fs::read_dir(&plans)
        .expect("the folder of kept plans")
        .map(|entry| entry.expect("an entry of the folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "there are kept plans");
    for file in files {
        let plan = Plan::load(&file).expect("a plan that can be read");
        if let Some(broken) = carry_out(&plan, false).broken {
            panic!("{}: {broken}", file.display());
        }
    }
}

#[test]
fn the_same_seed_leads_to_the_same_happenings() {
    for seed in (1_000..1_016).chain([1_037, 1_038, 2_008]) {
        let plan = Plan::generate(seed);
        let (one, other) = (carry_out(&plan, true), carry_out(&plan, true));
        if one.fingerprint != other.fingerprint {
            let differs = one
                .words
                .lines()
                .zip(other.words.lines())
                .find(|(one, other)| one != other);
            panic!("seed {seed} leads to different happenings, first in words: {differs:?}");
        }
    }
}

#[test]
fn a_plan_survives_being_written_down() {
    let plan = Plan::generate(5);
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sim-round-trip.jsonl");
    plan.save(&file).expect("a place to write");
    assert_eq!(Plan::load(&file).expect("a plan that can be read"), plan);
}
