//! The fuzz targets without a fuzzer: on every seed and every regression there is, and on a few thousand changes to them,
//! always the same.

use std::path::{Path, PathBuf};

use flowproof_fuzz::{TARGETS, Target, seeds};

/// Changes to seeds, by target: those that hold whole conversations take longer.
fn changes(target: &Target) -> usize {
    match target.name.split('_').next() {
        Some("conversation") => 40,
        Some("machine") => 100,
        _ => 1500,
    }
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus")
}

fn replay(name: &str) {
    let target = seeds::target(name).expect("the target exists");
    let seeds = seeds::of(target);
    assert!(!seeds.is_empty(), "{name} has seeds");
    seeds.iter().for_each(|seed| (target.run)(seed));
    let regressions = seeds::regressions(target).expect("regressions can be read");
    regressions.iter().for_each(|(_, bytes)| (target.run)(bytes));
    let mut rng = fastrand::Rng::with_seed(20_250_101);
    for _ in 0..changes(target) {
        let mut bytes = seeds[rng.usize(..seeds.len())].clone();
        for _ in 0..rng.usize(1..4) {
            let place = rng.usize(..=bytes.len());
            match rng.u8(..4) {
                0 => bytes.truncate(place),
                1 => bytes.insert(place, rng.u8(..)),
                2 => {
                    let end = (place + rng.usize(..20)).min(bytes.len());
                    bytes.drain(place..end);
                }
                _ => {
                    let other = &seeds[rng.usize(..seeds.len())];
                    let start = rng.usize(..=other.len());
                    let end = (start + rng.usize(..60)).min(other.len());
                    bytes.splice(place..place, other[start..end].iter().copied());
                }
            }
        }
        (target.run)(&bytes);
    }
}

/// One test a target, so that they run side by side.
macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test] fn $name() { replay(stringify!($name)); })*

        #[test]
        fn every_target_is_replayed() {
            let replayed = [$(stringify!($name)),*];
            let known: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(replayed.as_slice(), known.as_slice());
        }
    };
}

targets! {
    flow_parser
    pattern_duality
    trace_reader
    wire_hangout
    wire_cow
    wire_polfan
    wire_ptpchat
    wire_clusterio
    machine_hangout
    machine_cow
    machine_polfan
    machine_ptpchat
    machine_clusterio
    conversation_hangout
    conversation_cow
    conversation_polfan
    conversation_ptpchat
    conversation_clusterio
}

#[test]
fn odd_texts_are_seeds() {
    let odd: [&[u8]; 12] = [
        b"",
        b"\xff\xfe",
        b"\xef\xbb\xbfprotocol hangout",
        b"protocol hangout\r\ncast server\r\n",
        b"alice -> server {\"a\": \"\x1b[2J\"}",
        "alice -> server {\"\u{202e}\": 1}".as_bytes(),
        b"alice -> server \"x\" * 4294967295",
        b"alice -> server \"x\" * 4294967296",
        b"wait 99999999999999999999s",
        b"wait 1e9s\nwait .s\nwait 1..2s",
        b"examples\n|a|\n||\n",
        b"either{}or{}or tolerated[A-1]{}}",
    ];
    odd.iter().for_each(|text| flowproof_fuzz::flow_parser(text));
}

/// `corpus/PROTOCOL/fuzz/` holds what is printed from flows and schemas; with FLOWPROOF_WRITE=1 it is written anew.
#[test]
fn seeds_and_dictionaries_are_those_of_the_flows() {
    for target in TARGETS.iter().filter(|target| target.name.starts_with("wire_")) {
        let folder = corpus().join(target.protocol.expect("messages are of a protocol")).join("fuzz");
        let messages: Vec<String> = seeds::of(target)
            .into_iter()
            .map(|seed| String::from_utf8(seed).expect("messages are text"))
            .collect();
        let files = [
            ("seeds.jsonl", format!("{}\n", messages.join("\n"))),
            ("words.dict", seeds::dictionary(target).expect("a protocol has words")),
        ];
        for (name, text) in files {
            let path = folder.join(name);
            if std::env::var_os("FLOWPROOF_WRITE").is_some() {
                std::fs::create_dir_all(&folder).expect("the folder can be made");
                std::fs::write(&path, &text).expect("the file can be written");
            }
            let known = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(known == text, "{} is stale: run this test with FLOWPROOF_WRITE=1", path.display());
        }
    }
}
