//! Conversations of ptpchat, judged by its monitors: `cargo +nightly fuzz run conversation_ptpchat`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flowproof_fuzz::conversation_ptpchat(data));
