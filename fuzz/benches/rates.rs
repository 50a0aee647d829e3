//! How fast the fuzz targets are without sanitizer and without fuzzer: bytes on the wire against `serde_json` alone, frames
//! to machines, and messages of judged conversations in memory.
//!
//! `cargo bench -p flowproof-fuzz --bench rates`; each number is printed with its goal.

#![expect(clippy::print_stdout, reason = "a bench prints a table")]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use flowproof::corpus::Corpus;
use flowproof::fuzz::campaign::{self, Config};
use flowproof::fuzz::play::Stage;
use flowproof::runner::plan::RunSettings;
use flowproof::runner::run::Target;
use flowproof_fuzz::{TARGETS, Target as FuzzTarget, seeds};
use serde_json::Value;

/// How long each is measured, and how often; the best counts: the others tell of the machine.
const LONG: Duration = Duration::from_millis(300);
const RUNS: usize = 5;

fn main() {
    for target in TARGETS.iter().filter(|target| target.name.starts_with("wire_")) {
        let seeds = seeds::of(target);
        let alone = rate(&seeds, |seed| drop(black_box(serde_json::from_slice::<Value>(seed))));
        let ours = rate(&seeds, |seed| (target.run)(black_box(seed)));
        println!("{:<20} of serde_json's rate     {:>12.2}   goal 0.6", target.name, ours / alone);
    }
    for target in TARGETS.iter().filter(|target| target.name.starts_with("machine_")) {
        println!("{:<20} frames/s                 {:>12.0}   goal 100000", target.name, frames(target));
    }
    let corpus = Corpus::embedded().expect("the built-in corpus is whole");
    for protocol in corpus.protocols() {
        let role = protocol.settings.roles.first().expect("every protocol has a role").name.clone();
        let best = (0..RUNS).map(|run| judged(&corpus, &protocol.settings.name, &role, run as u64));
        let best = best.fold(0.0, f64::max);
        let name = format!("{} {role}", protocol.settings.name);
        println!("{name:<20} judged messages/s        {best:>12.0}   goal 200000");
    }
}

/// Seeds in a second.
fn rate(seeds: &[Vec<u8>], mut run: impl FnMut(&[u8])) -> f64 {
    let mut best = 0.0_f64;
    for _ in 0..RUNS {
        let (began, mut count) = (Instant::now(), 0_u32);
        while began.elapsed() < LONG {
            seeds.iter().for_each(|seed| run(seed));
            count += u32::try_from(seeds.len()).unwrap_or(u32::MAX);
        }
        best = best.max(f64::from(count) / began.elapsed().as_secs_f64());
    }
    best
}

/// Frames in a second, many in one input as a fuzzer that looks for deep states comes to have them.
fn frames(target: &FuzzTarget) -> f64 {
    let lines: Vec<Vec<u8>> = seeds::of(target)
        .iter()
        .flat_map(|seed| seed.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>())
        .filter(|line| !line.is_empty() && line.len() < 1000)
        .collect();
    // The first byte chooses the role.
    let inputs: Vec<Vec<u8>> =
        lines.chunks(300).map(|chunk| [vec![0], chunk.join(&b'\n')].concat()).collect();
    let of_inputs = lines.len() as f64 / inputs.len().max(1) as f64;
    rate(&inputs, |input| (target.run)(black_box(input))) * of_inputs
}

/// Messages in a second of changed conversations with the built-in reference, monitors and schemas judging; one worker.
fn judged(corpus: &Corpus, name: &str, role: &str, seed: u64) -> f64 {
    let protocol = corpus.protocol(name).expect("it is built in");
    let settings = RunSettings::in_memory(&protocol, &protocol.settings.default_edition, 1);
    let config = Config {
        stage: Stage { protocol, role: role.to_owned(), settings },
        target: Target::Reference(None),
        time: None,
        cases: Some(300),
        findings: None,
        seed,
        jobs: 1,
        width: 1,
        out: None,
        merge: Vec::new(),
        shard: (0, 1),
        as_written: false,
        replay: String::new(),
        growth: 512 << 20,
        stop: Arc::new(AtomicBool::new(false)),
    };
    let summary = campaign::run(&config, &mut |_| {}).expect("the campaign runs");
    summary.progress.messages as f64 / summary.progress.took.as_secs_f64()
}
