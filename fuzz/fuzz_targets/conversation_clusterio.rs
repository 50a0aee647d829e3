//! Conversations of clusterio, judged by its monitors: `cargo +nightly fuzz run conversation_clusterio`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flowproof_fuzz::conversation_clusterio(data));
