//! Any text as a flow file: `cargo +nightly fuzz run flow_parser`.
#![no_main]

use flowproof_fuzz::flow_parser;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| flow_parser(data));
