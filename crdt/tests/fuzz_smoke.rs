//! A short fuzzing run that needs nothing but the compiler: the kept inputs, and seeded random ones.

use std::fs;
use std::path::Path;

use pageroom_crdt::testing::{Random, edits, fuzz};

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

#[test]
fn records_of_edits() {
    let mut random = Random::new(5);
    let mut inputs = vec![Vec::new()];
    for _ in 0..4 * ROUNDS {
        let mut records = random.pick(&inputs).clone();
        edits::mutate(&mut records, 60 * edits::RECORD, &mut random);
        let mut input = vec![random.bits() as u8];
        input.extend(&records);
        fuzz::edits(&input);
        // Longer ones come of shorter ones.
        if inputs.len() < 200 {
            inputs.push(records);
        } else {
            let at = random.below(200) as usize;
            inputs[at] = records;
        }
    }
}
