//! Any text as a pattern: `cargo +nightly fuzz run pattern_duality`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flowproof_fuzz::pattern_duality(data));
