//! Any bytes as a message of cow: `cargo +nightly fuzz run wire_cow`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flowproof_fuzz::wire::cow(data));
