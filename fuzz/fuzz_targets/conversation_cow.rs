//! Conversations of cow, judged by its monitors: `cargo +nightly fuzz run conversation_cow`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flowproof_fuzz::conversation_cow(data));
