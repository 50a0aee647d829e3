//! Any bytes as a trace: `cargo +nightly fuzz run trace_reader`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flowproof_fuzz::trace_reader(data));
