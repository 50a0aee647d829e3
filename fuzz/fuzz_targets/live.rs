//! Conversations with the server that FLOWPROOF_PROTOCOL and FLOWPROOF_TARGET name: `cargo +nightly fuzz run live`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flowproof_fuzz::conversations::live(data));
