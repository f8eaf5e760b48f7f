//! Raw bytes as state vectors, awareness updates and frames.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pageroom_crdt::testing::fuzz::messages(data));
