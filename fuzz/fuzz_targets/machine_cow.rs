//! Frames of several peers to the roles of cow: `cargo +nightly fuzz run machine_cow`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flowproof_fuzz::machine_cow(data));
