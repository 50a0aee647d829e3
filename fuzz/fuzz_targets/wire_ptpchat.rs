//! Any bytes as a message of ptpchat: `cargo +nightly fuzz run wire_ptpchat`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flowproof_fuzz::wire::ptpchat(data));
