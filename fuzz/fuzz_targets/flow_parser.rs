//! Any text as a flow file: `cargo +nightly fuzz run flow_parser`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flowproof_fuzz::flow_parser(data));
