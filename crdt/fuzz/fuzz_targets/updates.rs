//! Raw bytes as updates, through the gate into a document and out again.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pageroom_crdt::testing::fuzz::updates(data));
