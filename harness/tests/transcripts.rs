//! The same seed gives the same run, byte for byte; another seed draws otherwise.

mod in_memory;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use flowproof::corpus::{Corpus, Protocol};
use flowproof::runner::event::RunEvent;
use flowproof::runner::plan::RunSettings;
use flowproof::sinner::Sinner;
use in_memory::{events_with, hangout};

/// What was said in every flow of a run, and what was found, by flow and role; and the order in which they are told.
fn run(
    protocol: &Arc<Protocol>,
    edition: &str,
    sinner: Option<&Sinner>,
    seed: u64,
) -> (BTreeMap<String, String>, Vec<String>) {
    let (mut flows, mut order) = (BTreeMap::new(), Vec::new());
    let roles: Vec<&str> = protocol.settings.roles.iter().map(|role| role.name.as_str()).collect();
    let settings = RunSettings::in_memory(protocol, edition, seed);
    for event in events_with(protocol, &roles, sinner.cloned(), settings) {
        if let RunEvent::FlowEnded(flow) = event {
            let name = format!("{} ({})", flow.name, flow.role);
            order.push(name.clone());
            let text = serde_json::to_string(&flow).expect("a result is JSON");
            flows.insert(name, format!("{}\n{text}", flow.transcript));
        }
    }
    assert!(!flows.is_empty(), "flows ran");
    (flows, order)
}

/// A run that goes the same way twice.
#[track_caller]
fn check_repeats(
    protocol: &Arc<Protocol>,
    edition: &str,
    sinner: Option<&Sinner>,
    seed: u64,
) -> BTreeMap<String, String> {
    let (first, second) = (run(protocol, edition, sinner, seed), run(protocol, edition, sinner, seed));
    for (name, text) in &first.0 {
        assert_eq!(Some(text), second.0.get(name), "{name} went otherwise the second time");
    }
    assert_eq!(first.1, second.1, "the flows are told in the same order");
    first.0
}

/// Every protocol in every edition, for as many seeds as `FLOWPROOF_SEEDS` says. Into the file that `FLOWPROOF_DIGESTS`
/// names goes a line for each run, to be compared with those of another build.
#[test]
fn every_protocol_repeats_itself() {
    let seeds = std::env::var("FLOWPROOF_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(1);
    let mut digests = String::new();
    for protocol in Corpus::embedded().expect("the corpus is sound").protocols() {
        for edition in &protocol.settings.editions {
            for seed in 1..=seeds {
                let mut hasher = DefaultHasher::new();
                check_repeats(&protocol, edition, None, seed).hash(&mut hasher);
                let digest = hasher.finish();
                digests += &format!("{} {edition} {seed} {digest:016x}\n", protocol.settings.name);
            }
        }
    }
    if let Some(path) = std::env::var_os("FLOWPROOF_DIGESTS") {
        std::fs::write(path, digests).expect("the file can be written");
    }
}

#[test]
fn the_same_seed_gives_the_same_transcripts_and_another_seed_other_tokens() {
    let protocol = hangout();
    let (one, two) = (check_repeats(&protocol, "v1", None, 1), check_repeats(&protocol, "v1", None, 2));
    assert_eq!(one.keys().collect::<Vec<_>>(), two.keys().collect::<Vec<_>>(), "the same flows run");
    let tokens = |flows: &BTreeMap<String, String>| -> BTreeSet<String> {
        let token = regex::Regex::new(r#""index":"([0-9a-f]{32})""#).expect("compiles");
        let servers = flows.iter().filter(|(name, _)| name.ends_with("(server)"));
        servers
            .flat_map(|(_, text)| {
                token.captures_iter(text).map(|found| found[1].to_owned()).collect::<Vec<_>>()
            })
            .collect()
    };
    let (one, two) = (tokens(&one), tokens(&two));
    assert!(!one.is_empty());
    assert!(one.is_disjoint(&two), "tokens come from the seed");
}

#[test]
fn a_planted_fault_is_found_in_the_same_way_every_time() {
    let protocol = hangout();
    let sinner = protocol.sinners.first().expect("hangout has sinners");
    check_repeats(&protocol, "v1", Some(sinner), 7);
}
