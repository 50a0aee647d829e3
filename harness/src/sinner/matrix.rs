//! The matrix: every planted fault against all flows of its role, and what was reported. A fault that is not caught, or
//! that is reported under the wrong name, shows a weakness of a judge.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::Sinner;
use crate::corpus::Protocol;
use crate::judge::finding::Ruling;
use crate::report::Report;
use crate::runner::plan::{self, RunSettings};
use crate::runner::run::{RunConfig, Target, run as run_flows};
use crate::runner::verdict::FlowResult;

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
    judge_with(protocol, sinner, usize::MAX, &[])
}

/// Runs a sinner against the flows that cite its requirement and as many as `others` of its role beside them, which its
/// name draws: much sooner done than all. What only a monitor or one of the other flows sees may not be caught.
pub fn judge_some(protocol: &Arc<Protocol>, sinner: &Sinner, others: usize) -> Caught {
    let of_role = protocol.flows.iter().filter(|file| plan::judges_role(file, protocol, &sinner.role));
    let (mut chosen, mut rest): (Vec<_>, Vec<_>) =
        of_role.partition(|file| plan::cited(file).contains(&sinner.requirement));
    rest.sort_by_key(|file| {
        let mut hasher = DefaultHasher::new();
        (&sinner.name, &file.name).hash(&mut hasher);
        hasher.finish()
    });
    chosen.extend(rest.into_iter().take(others));
    let names: Vec<String> = chosen.into_iter().map(|file| file.name.clone()).collect();
    judge_with(protocol, sinner, 1, &names)
}

fn judge_with(protocol: &Arc<Protocol>, sinner: &Sinner, jobs: usize, flows: &[String]) -> Caught {
    let edition = sinner.edition.as_ref().unwrap_or(&protocol.settings.default_edition);
    let config = RunConfig {
        protocol: Arc::clone(protocol),
        roles: vec![sinner.role.clone()],
        target: Target::Reference(Some(sinner.clone())),
        settings: RunSettings::in_memory(protocol, edition, 1),
        jobs,
        filter: flows.to_vec(),
        tags: Vec::new(),
        bail: false,
        repeat: 1,
        shard: None,
        budget: None,
        stop: Arc::new(AtomicBool::new(false)),
    };
    caught(sinner, &flows_of(&config))
}

/// A program in which sinners are planted one after the other, where there is no reference implementation.
pub struct Program {
    /// A run of the program as it is.
    config: RunConfig,
    /// What it breaks, in an edition, with nothing planted in it.
    anyhow: BTreeMap<String, BTreeSet<String>>,
}

impl Program {
    /// The program that a run tests.
    pub fn new(config: RunConfig) -> Program {
        Program { config, anyhow: BTreeMap::new() }
    }

    /// Runs all flows of the program's role with the rules of `sinner` between it and them. What it breaks by itself is
    /// no stray accusation.
    pub fn judge(&mut self, sinner: &Sinner) -> Caught {
        let edition =
            sinner.edition.clone().unwrap_or_else(|| self.config.protocol.settings.default_edition.clone());
        self.config.settings.edition.clone_from(&edition);
        if !self.anyhow.contains_key(&edition) {
            let nothing = Sinner { rules: Vec::new(), renumber: None, answers: None, ..sinner.clone() };
            let accusations = self.planted(&nothing).accusations;
            let broken = accusations.into_iter().map(|accusation| accusation.requirement).collect();
            self.anyhow.insert(edition.clone(), broken);
        }
        let mut caught = self.planted(sinner);
        if let Some(anyhow) = self.anyhow.get(&edition) {
            caught.stray.retain(|id| !anyhow.contains(id));
            caught.caught &= !anyhow.contains(&sinner.requirement);
        }
        caught
    }

    /// What it breaks by itself, in any edition that was tried: of that no sinner can show anything.
    pub fn breaks_anyhow(&self) -> BTreeSet<&str> {
        self.anyhow.values().flatten().map(String::as_str).collect()
    }

    fn planted(&mut self, sinner: &Sinner) -> Caught {
        self.config.settings.planted = Some(Arc::new(sinner.clone()));
        caught(sinner, &flows_of(&self.config))
    }
}

fn flows_of(config: &RunConfig) -> Vec<FlowResult> {
    let mut events = Vec::new();
    run_flows(config, &mut |event| events.push(event));
    Report::from_events(&events, &config.protocol).map(|report| report.flows).unwrap_or_default()
}

fn caught(sinner: &Sinner, flows: &[FlowResult]) -> Caught {
    let mut accusations = Vec::new();
    for flow in flows {
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
