//! Any text as a flow file: `cargo +nightly fuzz run flow_parser`. `fuzz/build.sh` has it write the seeds of all targets.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: flowproof_fuzz::seeds::write_where_wanted(),
    |data: &[u8]| flowproof_fuzz::flow_parser(data)
);
