//! The matrix: every planted fault against all flows of its role, and what was reported. A fault that is not caught, or
//! that is reported under the wrong name, shows a weakness of a judge.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::Sinner;
use crate::corpus::Protocol;
use crate::judge::finding::Ruling;
use crate::report::Report;
use crate::runner::plan::RunSettings;
use crate::runner::run::{RunConfig, Target, run as run_flows};

/// What became of one sinner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caught {
    /// The sinner's name.
    pub name: String,
    /// The requirement it breaks.
    pub requirement: String,
    /// The role it plays.
    pub role: String,
    /// Its requirement was reported broken.
    pub caught: bool,
    /// What else was reported broken, and does not follow from it.
    pub stray: Vec<String>,
    /// Every accusation, in the order of the flows.
    pub accusations: Vec<Accusation>,
}

impl Caught {
    /// True when it was reported under its name and no other.
    pub fn is_clean(&self) -> bool {
        self.caught && self.stray.is_empty()
    }
}

/// One accusation in one flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accusation {
    /// The requirement said to be broken.
    pub requirement: String,
    /// The flow.
    pub flow: String,
    /// The line of the flow, where an arrow is the judge.
    pub line: Option<usize>,
    /// What the judge said.
    pub message: String,
}

/// Runs a sinner against all flows of its role, in memory.
pub fn judge(protocol: &Arc<Protocol>, sinner: &Sinner) -> Caught {
    let edition = sinner.edition.as_ref().unwrap_or(&protocol.settings.default_edition);
    let config = RunConfig {
        protocol: Arc::clone(protocol),
        roles: vec![sinner.role.clone()],
        target: Target::Reference(Some(sinner.clone())),
        settings: RunSettings::in_memory(protocol, edition, 1),
        jobs: usize::MAX,
        filter: Vec::new(),
        tags: Vec::new(),
        bail: false,
        repeat: 1,
        shard: None,
        budget: None,
        stop: Arc::new(AtomicBool::new(false)),
    };
    let mut events = Vec::new();
    run_flows(&config, &mut |event| events.push(event));
    let flows = Report::from_events(&events, protocol).map(|report| report.flows).unwrap_or_default();
    let mut accusations = Vec::new();
    for flow in &flows {
        for finding in flow.findings.iter().filter(|finding| finding.ruling == Ruling::Broken) {
            if let Some(requirement) = &finding.requirement {
                accusations.push(Accusation {
                    requirement: requirement.clone(),
                    flow: flow.name.clone(),
                    line: finding.line,
                    message: finding.message.clone(),
                });
            }
        }
    }
    // What a tester should take for a poorer reading is caught when it is told as one.
    let warned = flows.iter().flat_map(|flow| &flow.findings).any(|finding| {
        finding.ruling == Ruling::Tolerated && finding.requirement.as_ref() == Some(&sinner.requirement)
    });
    let accused: BTreeSet<&String> = accusations.iter().map(|accusation| &accusation.requirement).collect();
    let expected: BTreeSet<&String> = sinner.also.iter().chain([&sinner.requirement]).collect();
    Caught {
        name: sinner.name.clone(),
        requirement: sinner.requirement.clone(),
        role: sinner.role.clone(),
        caught: accused.contains(&sinner.requirement) || warned,
        stray: accused.difference(&expected).map(|id| (*id).clone()).collect(),
        accusations,
    }
}

/// Requirements, with the role they bind, that no sinner breaks: not yet known to be tested.
pub fn without_sinner(protocol: &Protocol) -> Vec<(String, String)> {
    let observable = protocol.catalogue.iter().filter(|requirement| requirement.untested.is_none());
    observable
        .flat_map(|requirement| {
            requirement.roles.iter().map(move |role| (requirement.id.clone(), role.clone()))
        })
        .filter(|(id, role)| {
            protocol.catalogue.get(id).is_none_or(|known| !known.untested_for.contains_key(role))
        })
        .filter(|(id, role)| {
            !protocol.sinners.iter().any(|sinner| sinner.requirement == *id && sinner.role == *role)
        })
        .collect()
}
