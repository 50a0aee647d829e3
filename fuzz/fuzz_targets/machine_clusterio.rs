//! Frames of several peers to the roles of clusterio: `cargo +nightly fuzz run machine_clusterio`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flowproof_fuzz::machine_clusterio(data));
