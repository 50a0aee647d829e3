//! Conversations of polfan, judged by its monitors: `cargo +nightly fuzz run conversation_polfan`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flowproof_fuzz::conversation_polfan(data));
