//! The same seed gives the same run, byte for byte; another seed draws otherwise.

mod in_memory;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flowproof::corpus::Protocol;
use flowproof::runner::event::RunEvent;
use flowproof::sinner::Sinner;
use in_memory::{events, hangout};

/// What was said in every flow, and what was found, by flow and role.
fn check_repeats(protocol: &Arc<Protocol>, sinner: Option<&Sinner>, seed: u64) -> BTreeMap<String, String> {
    let run = || {
        let mut flows = BTreeMap::new();
        let mut order = Vec::new();
        for event in events(protocol, &["server", "client"], sinner.cloned(), seed) {
            if let RunEvent::FlowEnded(flow) = event {
                let name = format!("{} ({})", flow.name, flow.role);
                order.push(name.clone());
                let text = serde_json::to_string(&flow).expect("a result is JSON");
                flows.insert(name, format!("{}\n{text}", flow.transcript));
            }
        }
        (flows, order)
    };
    let (first, second) = (run(), run());
    assert!(!first.0.is_empty(), "flows ran");
    for (name, text) in &first.0 {
        assert_eq!(Some(text), second.0.get(name), "{name} went otherwise the second time");
    }
    assert_eq!(first.1, second.1, "the flows are told in the same order");
    first.0
}

#[test]
fn the_same_seed_gives_the_same_transcripts_and_another_seed_other_tokens() {
    let protocol = hangout();
    let (one, two) = (check_repeats(&protocol, None, 1), check_repeats(&protocol, None, 2));
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
    check_repeats(&protocol, Some(sinner), 7);
}
