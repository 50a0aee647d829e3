//! Frames of several peers to the roles of polfan: `cargo +nightly fuzz run machine_polfan`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flowproof_fuzz::machine_polfan(data));
