//! No false accusation: honest references that vary in lawful ways, by seed, are accused of nothing.
//!
//! `FLOWPROOF_SEEDS` says how many seeds each protocol, role and edition gets; a few without it.

mod in_memory;

use std::sync::Arc;

use flowproof::corpus::{Corpus, Protocol};
use flowproof::report::Report;
use flowproof::runner::plan::RunSettings;
use flowproof::runner::verdict::Verdict;
use in_memory::events_with;

fn varied(protocol: &Arc<Protocol>, edition: &str, seed: u64) -> Report {
    let mut settings = RunSettings::in_memory(protocol, edition, seed);
    settings.varied = true;
    // Messages take their time, as on a network.
    settings.slack = protocol.settings.timing.slack;
    let roles: Vec<&str> = protocol.settings.roles.iter().map(|role| role.name.as_str()).collect();
    let events = events_with(protocol, &roles, None, settings);
    Report::from_events(&events, protocol).expect("a run begins before it ends")
}

#[track_caller]
fn check(protocol: &str) {
    let seeds = std::env::var("FLOWPROOF_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(4);
    let corpus = Corpus::embedded().expect("the corpus is sound");
    let protocol = corpus.protocol(protocol).expect("it is built in");
    for edition in &protocol.settings.editions {
        for seed in 1..=seeds {
            let report = varied(&protocol, edition, seed);
            let mut passed = 0;
            for flow in &report.flows {
                let passes = matches!(flow.verdict, Verdict::Pass | Verdict::Skip);
                assert!(
                    passes,
                    "{edition}, seed {seed}: {} {:?} {:?} {:#?}",
                    flow.name, flow.verdict, flow.reason, flow.findings
                );
                passed += usize::from(flow.verdict == Verdict::Pass);
            }
            assert!(passed > 100, "{edition}, seed {seed}: only {passed} flows passed");
            let said =
                report.flows.iter().map(|flow| serde_json::to_string(&flow.transcript).expect("it is data"));
            // A letter that is written as its number: only a varied reference does that.
            assert!(said.into_iter().any(|said| said.contains("\\\\u006")), "nothing varied");
        }
    }
}

#[test]
fn clusterio_varied_is_accused_of_nothing() {
    check("clusterio");
}

#[test]
fn cow_varied_is_accused_of_nothing() {
    check("cow");
}

#[test]
fn hangout_varied_is_accused_of_nothing() {
    check("hangout");
}

#[test]
fn polfan_varied_is_accused_of_nothing() {
    check("polfan");
}

#[test]
fn ptpchat_varied_is_accused_of_nothing() {
    check("ptpchat");
}
