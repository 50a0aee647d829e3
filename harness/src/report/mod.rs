//! Reports: pure functions from the events of a run to text. A recorded run gives the same reports.

pub mod human;
pub mod json;
pub mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::corpus::Protocol;
use crate::judge::finding::Ruling;
use crate::runner::event::{RunEvent, TargetInfo};
use crate::runner::plan;
use crate::runner::verdict::{FlowResult, RequirementResult, Verdict, requirements};

/// Everything that is known of one run, from its events.
#[derive(Clone, Debug)]
pub struct Report {
    /// The version of flowproof.
    pub flowproof: String,
    /// The protocol.
    pub protocol: String,
    /// The edition in force.
    pub edition: String,
    /// What was tested.
    pub target: TargetInfo,
    /// The seed.
    pub seed: u64,
    /// All flows, by name and role.
    pub flows: Vec<FlowResult>,
    /// All requirements of the roles under test.
    pub requirements: Vec<RequirementResult>,
    /// True when the run did not come to its end.
    pub cut_short: bool,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// Sums up the events of one run; `None` when it never began.
    pub fn from_events(events: &[RunEvent], protocol: &Protocol) -> Option<Report> {
        let mut report: Option<Report> = None;
        for event in events {
            match (event, &mut report) {
                (RunEvent::Begun { flowproof, protocol, edition, target, seed, .. }, _) => {
                    report = Some(Report {
                        flowproof: flowproof.clone(),
                        protocol: protocol.clone(),
                        edition: edition.clone(),
                        target: target.clone(),
                        seed: *seed,
                        flows: Vec::new(),
                        requirements: Vec::new(),
                        cut_short: true,
                        took: Duration::ZERO,
                    });
                }
                (RunEvent::FlowEnded(result), Some(report)) => report.flows.push((**result).clone()),
                (RunEvent::Ended { cut_short, took }, Some(report)) => {
                    report.cut_short = *cut_short;
                    report.took = *took;
                }
                _ => {}
            }
        }
        let mut report = report?;
        report.flows.sort_by(|a, b| (&a.name, &a.role).cmp(&(&b.name, &b.role)));
        let roles: Vec<String> = report.target.role.split(',').map(str::to_owned).collect();
        let citing: BTreeMap<&str, BTreeSet<String>> =
            protocol.flows.iter().map(|file| (file.name.as_str(), plan::cited(file))).collect();
        let touching = |id: &str| {
            citing.iter().filter(|(_, ids)| ids.contains(id)).map(|(name, _)| (*name).to_owned()).collect()
        };
        report.requirements =
            requirements(&protocol.catalogue, &report.edition, &roles, &report.flows, touching);
        Some(report)
    }

    /// How many flows have a verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.flows.iter().filter(|flow| flow.verdict == verdict).count()
    }

    /// Requirements that somebody was accused of breaking.
    pub fn accused(&self) -> BTreeSet<String> {
        let broken = |flow: &FlowResult| {
            let findings = flow.findings.iter().filter(|finding| finding.ruling == Ruling::Broken);
            findings.filter_map(|finding| finding.requirement.clone()).collect::<Vec<_>>()
        };
        self.flows.iter().flat_map(broken).collect()
    }
}
