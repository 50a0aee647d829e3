//! Known sinners prove the harness: every planted fault is reported under its requirement and no other, and there is
//! one for every requirement that can be seen from outside. Both hold for every protocol of the corpus that has sinners.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flowproof::corpus::{Corpus, Protocol};
use flowproof::sinner::matrix::{Caught, judge_all, without_sinner};

/// Protocols whose matrix has known gaps, with what is missing. One without gaps must not stand here.
const UNFINISHED: &[(&str, &str)] = &[("cow", "its sinners are accused under further requirements")];

fn protocols() -> Vec<Arc<Protocol>> {
    let corpus = Corpus::embedded().expect("the built-in corpus is in order");
    corpus.protocols().filter(|protocol| !protocol.sinners.is_empty()).collect()
}

fn is_unfinished(protocol: &Protocol) -> bool {
    UNFINISHED.iter().any(|(name, _)| *name == protocol.settings.name)
}

fn describe(protocol: &Protocol, row: &Caught) -> String {
    let name = format!("{} {} ({})", protocol.settings.name, row.name, row.requirement);
    let missed = if row.caught { String::new() } else { format!("{name}: not caught\n") };
    let strays = row.stray.iter().map(|stray| {
        let accusation = row.accusations.iter().find(|accusation| accusation.requirement == *stray);
        let place = accusation.map_or(String::new(), |one| {
            let line = one.line.map_or(String::new(), |line| format!(":{line}"));
            format!(" in {}{line}: {}", one.flow, one.message)
        });
        format!("{name}: also accused of {stray}{place}\n")
    });
    missed + &strays.collect::<String>()
}

fn without(protocol: &Protocol) -> Vec<String> {
    without_sinner(protocol).into_iter().map(|(id, role)| format!("{id} ({role})")).collect()
}

#[test]
fn every_planted_fault_is_reported_under_its_requirement_and_no_other() {
    let mut offenders = String::new();
    for protocol in protocols().iter().filter(|protocol| !is_unfinished(protocol)) {
        for row in judge_all(protocol, &|_| true).iter().filter(|row| !row.is_clean()) {
            offenders.push_str(&describe(protocol, row));
        }
    }
    assert!(offenders.is_empty(), "sinners that are missed, or accused of something else:\n{offenders}");
}

#[test]
fn every_observable_requirement_has_a_sinner_for_each_role_it_binds() {
    let finished = protocols().into_iter().filter(|protocol| !is_unfinished(protocol));
    let missing: Vec<String> = finished.flat_map(|protocol| without(&protocol)).collect();
    assert!(missing.is_empty(), "requirements that no sinner breaks: {}", missing.join(", "));
}

#[test]
fn what_a_sinner_may_also_break_is_a_requirement_of_its_role() {
    let mut odd = Vec::new();
    for protocol in protocols() {
        for sinner in &protocol.sinners {
            let named = sinner.also.iter().chain([&sinner.requirement]);
            let strange = named.filter(|id| !protocol.catalogue.binds(id, &sinner.role));
            odd.extend(strange.map(|id| format!("{} of {} names {id}", sinner.name, protocol.settings.name)));
        }
    }
    assert!(odd.is_empty(), "{}", odd.join("; "));
}

#[test]
fn an_unfinished_protocol_still_has_gaps() {
    for (name, gap) in UNFINISHED {
        let protocol = protocols().into_iter().find(|protocol| protocol.settings.name == *name);
        let protocol =
            protocol.unwrap_or_else(|| panic!("{name} has no sinners; it need not stand in UNFINISHED"));
        let found = AtomicBool::new(!without(&protocol).is_empty());
        if !found.load(Ordering::Relaxed) {
            judge_all(&protocol, &|row| {
                found.fetch_or(!row.is_clean(), Ordering::Relaxed);
                !found.load(Ordering::Relaxed)
            });
        }
        assert!(
            found.load(Ordering::Relaxed),
            "{name} has no gaps any more ({gap}); take it out of UNFINISHED"
        );
    }
}
