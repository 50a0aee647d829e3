//! Frames of several peers to the roles of ptpchat: `cargo +nightly fuzz run machine_ptpchat`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flowproof_fuzz::machine_ptpchat(data));
