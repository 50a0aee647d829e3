//! Any bytes as a message of clusterio: `cargo +nightly fuzz run wire_clusterio`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flowproof_fuzz::wire::clusterio(data));
