//! Conversations of hangout, judged by its monitors: `cargo +nightly fuzz run conversation_hangout`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flowproof_fuzz::conversation_hangout(data));
