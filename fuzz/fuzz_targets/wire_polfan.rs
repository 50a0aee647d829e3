//! Any bytes as a message of polfan: `cargo +nightly fuzz run wire_polfan`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flowproof_fuzz::wire::polfan(data));
