//! Any bytes as a message of hangout: `cargo +nightly fuzz run wire_hangout`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flowproof_fuzz::wire::hangout(data));
