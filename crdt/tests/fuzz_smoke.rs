//! A short fuzzing run that needs nothing but the compiler: the kept inputs, and seeded random ones.

use std::fs;
use std::path::Path;

use pageroom_crdt::testing::{Random, fuzz};

const ROUNDS: u64 = 3000;

/// Kept inputs, and what mutation makes of them.
fn run(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut kept: Vec<_> = fs::read_dir(folder)
        .map(|files| {
            files
                .filter_map(|file| fs::read(file.ok()?.path()).ok())
                .collect()
        })
        .unwrap_or_default();
    kept.sort();
    for input in &kept {
        run(input);
    }
    kept.push(Vec::new());
    let mut random = Random::new(1);
    for _ in 0..ROUNDS {
        let mut input = random.pick(&kept).clone();
        mutate(&mut input, &mut random);
        run(&input);
    }
}

fn mutate(input: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(input.len() as u32 + 1) as usize;
        match random.below(4) {
            0 if at < input.len() => input[at] = random.bits() as u8,
            1 if at < input.len() => drop(input.remove(at)),
            2 => input.insert(at, random.bits() as u8),
            _ => input.extend(
                (0..random.below(60))
                    .map(|_| random.bits() as u8)
                    .collect::<Vec<_>>(),
            ),
        }
    }
}

#[test]
fn updates() {
    run("updates", fuzz::updates);
}

#[test]
fn structured() {
    run("structured", fuzz::structured);
}

#[test]
fn messages() {
    run("messages", fuzz::messages);
}
