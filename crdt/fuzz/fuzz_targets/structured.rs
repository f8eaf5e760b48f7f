//! Well-formed updates that may depend on anything, through the gate into a document and out again.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pageroom_crdt::testing::fuzz::structured(data));
