//! Frames of several peers to the roles of hangout: `cargo +nightly fuzz run machine_hangout`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flowproof_fuzz::machine_hangout(data));
