//! Reports: pure functions from the events of a run to text. A recorded run gives the same reports.

pub mod badge;
pub mod compare;
pub mod difference;
pub mod folder;
pub mod github;
pub mod html;
pub mod human;
pub mod json;
pub mod junit;
pub mod markdown;
pub mod sequence;
pub mod standing;
pub mod tap;
pub mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::corpus::Protocol;
use crate::judge::catalogue::Level;
use crate::judge::finding::{Finding, Ruling};
use crate::known::{Assessment, Kind};
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
    /// What is known or disputed of it beforehand.
    pub known: Assessment,
}

/// A run with its protocol: what every reporter is given, one a protocol.
#[derive(Clone)]
pub struct Run {
    /// What came of it.
    pub report: Report,
    /// What was tested against.
    pub protocol: Arc<Protocol>,
    /// The command that runs it again.
    pub command: String,
}

impl Run {
    /// The command that runs just one flow.
    pub fn again(&self, flow: &str) -> String {
        format!("{} --filter {}", self.command, text::quoted(flow))
    }
}

/// The part of all flows that a reporter counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// By verdict, excuses not looked at.
    pub pass: usize,
    /// See [`Verdict::Warn`].
    pub warn: usize,
    /// See [`Verdict::Fail`].
    pub fail: usize,
    /// See [`Verdict::Skip`].
    pub skip: usize,
    /// See [`Verdict::Inconclusive`].
    pub inconclusive: usize,
    /// See [`Verdict::Error`].
    pub error: usize,
    /// Of those that fail or warn: excused as known.
    pub known: usize,
    /// Of those that fail or warn: excused as disputed.
    pub disputed: usize,
}

impl Counts {
    /// Counts the flows of several runs.
    pub fn of(runs: &[Run]) -> Counts {
        let mut counts = Counts::default();
        for run in runs {
            for (place, flow) in run.report.flows.iter().enumerate() {
                let count = match flow.verdict {
                    Verdict::Pass => &mut counts.pass,
                    Verdict::Warn => &mut counts.warn,
                    Verdict::Fail => &mut counts.fail,
                    Verdict::Skip => &mut counts.skip,
                    Verdict::Inconclusive => &mut counts.inconclusive,
                    Verdict::Error => &mut counts.error,
                };
                *count += 1;
                match run.report.known.excused(place) {
                    Some(Kind::Known) => counts.known += 1,
                    Some(Kind::Disputed) => counts.disputed += 1,
                    None => {}
                }
            }
        }
        counts
    }

    /// All flows.
    pub fn total(self) -> usize {
        self.pass + self.warn + self.fail + self.skip + self.inconclusive + self.error
    }
}

/// The findings of a flow that people are to look at, the decisive ones first.
pub fn told<'a>(flow: &'a FlowResult, protocol: &Protocol) -> Vec<&'a Finding> {
    let rank = |finding: &Finding| {
        let level = finding.requirement.as_deref().map_or(Level::Must, |id| protocol.catalogue.level(id));
        match finding.ruling {
            Ruling::Broken if level == Level::Must => 0,
            Ruling::Broken => 1,
            Ruling::Tolerated => 2,
            Ruling::Undecided => 3,
            Ruling::Noted => 4,
            Ruling::Kept => 5,
        }
    };
    let mut findings: Vec<&Finding> =
        flow.findings.iter().filter(|finding| finding.ruling != Ruling::Kept).collect();
    findings.sort_by_key(|finding| rank(finding));
    findings
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
                        known: Assessment::default(),
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
