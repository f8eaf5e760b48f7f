//! Records of edits, changed as records, through the gate into a document where what is early waits, and out again.
#![no_main]

use pageroom_crdt::testing::{Random, edits, fuzz};

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::edits(data));

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut records = data.get(1..size).unwrap_or_default().to_vec();
    edits::mutate(&mut records, max_size.saturating_sub(1), &mut Random::new(seed.into()));
    let whole = data.split_first_mut().filter(|_| max_size > 0);
    let Some((first, rest)) = whole else { return size };
    *first = first.wrapping_add(seed.is_multiple_of(16).into());
    let length = records.len().min(rest.len());
    rest[..length].copy_from_slice(&records[..length]);
    1 + length
});
