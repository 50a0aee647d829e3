//! How long the suites take: every protocol against its reference in memory, and hangout over sockets against a server
//! that flowproof starts.
//!
//! `cargo bench -p flowproof --bench suites`; each number is printed with its goal.

#![expect(clippy::print_stdout, reason = "a bench prints a table")]

use std::process::{Command, Stdio};
use std::time::Instant;

use flowproof::corpus::Corpus;

/// Runs in memory, of which the quickest counts: the others tell of the machine.
const RUNS: usize = 7;
/// Milliseconds that a suite may take in memory.
const GOALS: [(&str, f64); 5] =
    [("clusterio", 300.0), ("cow", 500.0), ("hangout", 300.0), ("polfan", 500.0), ("ptpchat", 500.0)];
/// Seconds of the longest chain of documented waits of hangout, and how many times that a run over sockets may take.
const CHAIN: f64 = 64.5;
const TIMES: f64 = 1.2;

fn main() {
    let corpus = Corpus::embedded().expect("the built-in corpus is whole");
    for protocol in corpus.protocols() {
        let name = &protocol.settings.name;
        let times: Vec<f64> = (0..RUNS).map(|_| in_memory(name)).collect();
        let best = times.iter().copied().fold(f64::INFINITY, f64::min);
        let worst = times.iter().copied().fold(0.0, f64::max);
        let goal =
            GOALS.iter().find(|(known, _)| known == name).map_or(String::new(), |(_, goal)| goal.to_string());
        println!("{name:<12} in memory, ms       {best:>8.0} to {worst:.0}   goal {goal}");
    }
    let flowproof = env!("CARGO_BIN_EXE_flowproof");
    let command = format!("{flowproof} serve hangout --listen 127.0.0.1:{{port}}");
    let began = Instant::now();
    run(&["test", "hangout", "--quiet", "--exec", &command]);
    let ratio = began.elapsed().as_secs_f64() / CHAIN;
    println!("hangout      --exec, longest chain of waits = 1    {ratio:>6.2}   goal {TIMES}");
}

/// Milliseconds of the run itself, as the report tells them: without the start of the process.
fn in_memory(name: &str) -> f64 {
    let report: serde_json::Value =
        serde_json::from_str(&run(&["test", name, "--format", "json"])).expect("a report is JSON");
    report["summary"]["duration_ms"].as_f64().expect("a report tells its time")
}

fn run(words: &[&str]) -> String {
    let ran = Command::new(env!("CARGO_BIN_EXE_flowproof"))
        .args(words)
        .stderr(Stdio::inherit())
        .output()
        .expect("the command was built by cargo");
    assert!(ran.status.success(), "flowproof {}: {}", words.join(" "), ran.status);
    String::from_utf8(ran.stdout).expect("it prints UTF-8")
}
