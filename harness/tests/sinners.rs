//! Known sinners prove the harness: every planted fault is reported under its requirement and no other, and there is
//! one for every requirement that can be seen from outside. Here each fault meets some flows of its role; `flowproof
//! sinners`, which `.ci/run` runs, shows it all of them.

use std::sync::Arc;

use flowproof::corpus::{Corpus, Protocol};
use flowproof::sinner::Sinner;
use flowproof::sinner::matrix::{Caught, judge, judge_some, without_sinner};

/// Flows that a sinner meets beside those about its requirement.
const OTHERS: usize = 6;

fn protocol(name: &str) -> Arc<Protocol> {
    let corpus = Corpus::embedded().expect("the built-in corpus is in order");
    corpus.protocol(name).expect("it is built in")
}

fn describe(row: &Caught) -> String {
    let name = format!("{} ({})", row.name, row.requirement);
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

fn check(name: &str) {
    let protocol = protocol(name);
    let verdict = |sinner: &Sinner| {
        let row = judge_some(&protocol, sinner, OTHERS);
        // Some faults show only to monitors, or beside the flows about them.
        if row.caught || !row.stray.is_empty() { row } else { judge(&protocol, sinner) }
    };
    let offenders: String = protocol
        .sinners
        .iter()
        .map(verdict)
        .filter(|row| !row.is_clean())
        .map(|row| describe(&row))
        .collect();
    assert!(offenders.is_empty(), "sinners that are missed, or accused of something else:\n{offenders}");

    let missing: Vec<String> =
        without_sinner(&protocol).into_iter().map(|(id, role)| format!("{id} ({role})")).collect();
    assert!(missing.is_empty(), "requirements that no sinner breaks: {}", missing.join(", "));

    for sinner in &protocol.sinners {
        for id in sinner.also.iter().chain([&sinner.requirement]) {
            assert!(
                protocol.catalogue.binds(id, &sinner.role),
                "{}: {id} does not bind a {}",
                sinner.name,
                sinner.role
            );
        }
    }
}

#[test]
fn clusterio() {
    check("clusterio");
}

#[test]
fn cow() {
    check("cow");
}

#[test]
fn hangout() {
    check("hangout");
}

#[test]
fn polfan() {
    check("polfan");
}

#[test]
fn ptpchat() {
    check("ptpchat");
}

#[test]
fn every_protocol_is_proved_here() {
    let corpus = Corpus::embedded().expect("the built-in corpus is in order");
    let source = include_str!("sinners.rs");
    for protocol in corpus.protocols() {
        let name = &protocol.settings.name;
        assert!(source.contains(&format!("check(\"{name}\")")), "no test of the sinners of {name}");
    }
}
