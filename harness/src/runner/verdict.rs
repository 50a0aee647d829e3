//! From what judges said to verdicts: of a flow, and of a requirement over all flows that touched it.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::conversation::{Ending, Outcome};
use super::plan::{Driver, Plan};
use super::transcript::Transcript;
use crate::judge::catalogue::{Catalogue, Level};
use crate::judge::finding::{Finding, Judge, Ruling};

/// The verdict of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everything held.
    Pass,
    /// Only a SHOULD was broken, or a tolerated reading was seen.
    Warn,
    /// A MUST was broken.
    Fail,
    /// It did not run, for the reason given.
    Skip,
    /// It could not be judged.
    Inconclusive,
    /// The flow, the environment or flowproof is at fault.
    Error,
}

impl Verdict {
    /// The word in reports.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
            Verdict::Skip => "skip",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Error => "error",
        }
    }
}

/// What came of one flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlowResult {
    /// The flow's name, with the row of its table.
    pub name: String,
    /// The file it stands in.
    pub file: String,
    /// The role under test.
    pub role: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Why, where the findings do not say it.
    pub reason: Option<String>,
    /// What the judges said.
    pub findings: Vec<Finding>,
    /// Requirements put to the test and held.
    pub kept: BTreeSet<String>,
    /// Who said what.
    pub transcript: Transcript,
    /// How long it took.
    pub took: Duration,
    /// True when the party under test was heard at all.
    pub heard: bool,
    /// Set when a repeated flow did not always end alike: fails 7 of 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub racy: Option<String>,
    /// The machine was busy both times that the flow was tried: a look at it alone may show another end.
    #[serde(skip)]
    pub doubtful: bool,
}

impl FlowResult {
    /// A flow that did not run.
    pub fn not_run(name: &str, file: &str, role: &str, verdict: Verdict, reason: String) -> FlowResult {
        FlowResult {
            name: name.to_owned(),
            file: file.to_owned(),
            role: role.to_owned(),
            verdict,
            reason: Some(reason),
            findings: Vec::new(),
            kept: BTreeSet::new(),
            transcript: Transcript::default(),
            took: Duration::ZERO,
            heard: false,
            racy: None,
            doubtful: false,
        }
    }

    /// The verdict of a conversation.
    pub fn judge(plan: &Plan, catalogue: &Catalogue, outcome: Outcome) -> FlowResult {
        let mut findings: Vec<Finding> = outcome
            .findings
            .into_iter()
            // A monitor may speak of a requirement that this edition or role does not know.
            .filter(|finding| match &finding.requirement {
                Some(id) => {
                    catalogue.get(id).is_none() || catalogue.binds_in(id, &plan.role, &plan.settings.edition)
                }
                None => true,
            })
            .collect();
        demote_consequences(&mut findings, catalogue);
        accuse_once(&mut findings);
        let (mut verdict, mut reason) = match outcome.ending {
            Ending::Complete | Ending::Broken => (Verdict::Pass, None),
            Ending::Unreached(why) => (Verdict::Inconclusive, Some(why)),
            Ending::NotDriven(why) if plan.settings.driver == Driver::Perhaps => (Verdict::Skip, Some(why)),
            Ending::NotDriven(why) => (Verdict::Inconclusive, Some(why)),
            Ending::Flow(why) => (Verdict::Error, Some(why)),
            Ending::Flooded(why) => (Verdict::Inconclusive, Some(format!("the target floods: {why}"))),
            Ending::OtherEdition(why) => {
                // Whatever else was found is measured by the wrong rule.
                for finding in findings.iter_mut().filter(|finding| finding.ruling == Ruling::Broken) {
                    finding.ruling = Ruling::Noted;
                    finding.message = format!("follows from another edition: {}", finding.message);
                }
                (Verdict::Inconclusive, Some(why))
            }
            Ending::Interrupted => (Verdict::Inconclusive, Some("the run was cut short".to_owned())),
        };
        if let Some(detail) = &outcome.unreachable
            && verdict == Verdict::Inconclusive
        {
            reason = Some(format!("the target could not be reached: {detail}"));
        }
        let broken = |level: fn(Level) -> bool| {
            findings.iter().any(|finding| {
                finding.ruling == Ruling::Broken
                    && finding.requirement.as_deref().is_none_or(|id| level(catalogue.level(id)))
            })
        };
        let undecided = findings.iter().find(|finding| finding.ruling == Ruling::Undecided);
        if broken(|level| level == Level::Must) {
            verdict = Verdict::Fail;
            // The finding tells more than the step that failed after it.
            reason = None;
        } else if let Some(finding) = undecided.filter(|_| matches!(verdict, Verdict::Pass | Verdict::Skip)) {
            verdict = Verdict::Inconclusive;
            reason = Some(finding.message.clone());
        } else if matches!(verdict, Verdict::Pass)
            && (broken(|level| level == Level::Should)
                || findings.iter().any(|finding| finding.ruling == Ruling::Tolerated))
        {
            verdict = Verdict::Warn;
        }
        let accused: BTreeSet<&String> = findings
            .iter()
            .filter(|finding| finding.ruling == Ruling::Broken)
            .filter_map(|finding| finding.requirement.as_ref())
            .collect();
        let noted = |id: &String| {
            let follows = |finding: &Finding| finding.message.starts_with("follows from ");
            findings.iter().any(|finding| finding.requirement.as_ref() == Some(id) && follows(finding))
        };
        let kept = outcome
            .kept
            .into_iter()
            .filter(|id| {
                let binds = catalogue.binds_in(id, &plan.role, &plan.settings.edition);
                !accused.contains(id) && !noted(id) && binds
            })
            .collect();
        FlowResult {
            name: plan.name.clone(),
            file: plan.file.path.clone(),
            role: plan.role.clone(),
            verdict,
            reason,
            kept,
            findings,
            transcript: outcome.transcript,
            took: outcome.took,
            heard: outcome.heard,
            racy: None,
            doubtful: false,
        }
    }
}

impl FlowResult {
    /// What is believed of a flow that was tried on a busy machine and then once more. A flow that passes may pass; one
    /// that could not run, or found nobody where somebody was before, says nothing against what was seen first: what
    /// kills a program shows only once. Of anything else, what showed both times.
    pub fn tried_again(self, mut again: FlowResult, catalogue: &Catalogue) -> FlowResult {
        match again.verdict {
            Verdict::Pass => again,
            Verdict::Skip | Verdict::Error => self,
            _ if self.heard && !again.heard => self,
            _ => {
                again.only_as(&self, catalogue);
                again
            }
        }
    }

    fn only_as(&mut self, earlier: &FlowResult, catalogue: &Catalogue) {
        let shown = |finding: &Finding| {
            let same =
                |known: &&Finding| known.ruling == finding.ruling && known.requirement == finding.requirement;
            earlier.findings.iter().any(|known| same(&known))
        };
        let accuses = |finding: &Finding| matches!(finding.ruling, Ruling::Broken | Ruling::Tolerated);
        let mut doubtful = false;
        for finding in self.findings.iter_mut().filter(|finding| accuses(finding)) {
            if !shown(finding) {
                finding.ruling = Ruling::Undecided;
                finding.message =
                    format!("this did not show twice, and the machine is busy: {}", finding.message);
                doubtful = true;
            }
        }
        if !doubtful {
            return;
        }
        let level = |finding: &Finding| finding.requirement.as_deref().map(|id| catalogue.level(id));
        let fails = |finding: &Finding| {
            finding.ruling == Ruling::Broken && level(finding).is_none_or(|level| level == Level::Must)
        };
        self.verdict = if self.findings.iter().any(fails) {
            Verdict::Fail
        } else if self.findings.iter().any(accuses) {
            Verdict::Warn
        } else {
            self.reason = Some("what was found did not show twice, and this machine is busy".to_owned());
            Verdict::Inconclusive
        };
    }
}

/// Where one broken requirement makes others impossible to judge, only it is accused. Of two that explain each other
/// the one that showed first is the root.
fn demote_consequences(findings: &mut [Finding], catalogue: &Catalogue) {
    let broken: Vec<Breach> = findings
        .iter()
        .filter(|finding| finding.ruling == Ruling::Broken)
        .filter_map(|finding| {
            let (id, by) = (finding.requirement.clone()?, finding.by.clone());
            Some(Breach { id, by, at: finding.at, seen: finding.judge != Judge::Arrow })
        })
        .collect();
    for finding in findings.iter_mut().filter(|finding| finding.ruling == Ruling::Broken) {
        let Some(id) = finding.requirement.clone() else { continue };
        let missing = finding.actual.is_null();
        let root = broken.iter().find(|root| {
            let mutual = catalogue.explains(&id, &root.id, missing);
            let explained = catalogue.explains(&root.id, &id, missing) && (!mutual || root.at < finding.at);
            // What does not come is noticed at about the same time by everybody.
            let spoilt = root.id != id
                && root.seen
                && finding.judge == Judge::Arrow
                && root.by == finding.by
                && (missing || root.at <= finding.at)
                && catalogue.spoils_arrows(&root.id);
            explained || spoilt
        });
        if let Some(root) = root {
            finding.ruling = Ruling::Noted;
            finding.message = format!("follows from {}: {}", root.id, finding.message);
        }
    }
}

/// A message that a monitor has accused is not what its sender owed, and fails the arrow that met it as well: the monitor,
/// which knows the rule it broke, tells more than the arrow.
fn accuse_once(findings: &mut [Finding]) {
    let known: Vec<(String, String, serde_json::Value, flowproof_reference::machine::Time)> = findings
        .iter()
        .filter(|finding| finding.judge == Judge::Monitor && finding.ruling == Ruling::Broken)
        .filter(|finding| !finding.actual.is_null())
        .filter_map(|one| Some((one.requirement.clone()?, one.by.clone(), one.actual.clone(), one.at)))
        .collect();
    let arrows = findings
        .iter_mut()
        .filter(|finding| finding.judge == Judge::Arrow && finding.ruling == Ruling::Broken);
    for finding in arrows {
        let accused = known.iter().find(|(id, by, actual, at)| {
            finding.requirement.as_ref() != Some(id)
                && finding.by == *by
                && finding.actual == *actual
                && *at <= finding.at
        });
        if let Some((id, ..)) = accused {
            finding.ruling = Ruling::Noted;
            finding.message = format!("follows from {id}: {}", finding.message);
        }
    }
}

/// A broken requirement as far as its consequences go.
struct Breach {
    id: String,
    by: String,
    at: flowproof_reference::machine::Time,
    /// Somebody else than an arrow saw it.
    seen: bool,
}

/// The verdict of a requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequirementVerdict {
    /// Put to the test, and held every time.
    Kept,
    /// Broken at least once.
    Broken,
    /// Only a poorer reading was seen.
    Warned,
    /// Nothing touched it, for the reason given.
    Untested,
}

impl RequirementVerdict {
    /// The word in reports.
    pub fn word(self) -> &'static str {
        match self {
            RequirementVerdict::Kept => "kept",
            RequirementVerdict::Broken => "broken",
            RequirementVerdict::Warned => "warned",
            RequirementVerdict::Untested => "untested",
        }
    }
}

/// What all flows together say of one requirement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RequirementResult {
    /// Its id.
    pub id: String,
    /// Its level.
    pub level: Level,
    /// The roles it binds, of those under test; joined with commas.
    pub role: String,
    /// The verdict.
    pub verdict: RequirementVerdict,
    /// The flows that touched it.
    pub flows: Vec<String>,
    /// Why it is untested.
    pub reason: Option<String>,
}

/// Sums up over all flows of a run.
pub fn requirements(
    catalogue: &Catalogue,
    edition: &str,
    roles: &[String],
    flows: &[FlowResult],
    citing: impl Fn(&str) -> BTreeSet<String>,
) -> Vec<RequirementResult> {
    let of_edition = |requirement: &&crate::judge::catalogue::Requirement| {
        requirement.editions.is_empty() || requirement.editions.iter().any(|known| known == edition)
    };
    catalogue
        .iter()
        .filter(of_edition)
        .filter(|requirement| requirement.roles.iter().any(|role| roles.contains(role)))
        .map(|requirement| {
            let id = &requirement.id;
            let mut touched = Vec::new();
            let mut verdict = RequirementVerdict::Untested;
            for flow in flows {
                let about = |ruling| {
                    flow.findings
                        .iter()
                        .any(|finding| finding.ruling == ruling && finding.requirement.as_ref() == Some(id))
                };
                let here = if about(Ruling::Broken) {
                    RequirementVerdict::Broken
                } else if about(Ruling::Tolerated) {
                    RequirementVerdict::Warned
                } else if flow.kept.contains(id) {
                    RequirementVerdict::Kept
                } else {
                    continue;
                };
                touched.push(flow.name.clone());
                verdict = match (verdict, here) {
                    (RequirementVerdict::Broken, _) | (_, RequirementVerdict::Broken) => {
                        RequirementVerdict::Broken
                    }
                    (RequirementVerdict::Warned, _) | (_, RequirementVerdict::Warned) => {
                        RequirementVerdict::Warned
                    }
                    _ => RequirementVerdict::Kept,
                };
            }
            let reason = (verdict == RequirementVerdict::Untested)
                .then(|| requirement.untested.clone().unwrap_or_else(|| untested_reason(flows, &citing(id))));
            let bound =
                requirement.roles.iter().filter(|role| roles.contains(role)).cloned().collect::<Vec<_>>();
            RequirementResult {
                id: id.clone(),
                level: requirement.level,
                role: bound.join(","),
                verdict,
                flows: touched,
                reason,
            }
        })
        .collect()
}

/// Why a requirement was not touched, from the flows that would have.
fn untested_reason(flows: &[FlowResult], citing: &BTreeSet<String>) -> String {
    let ran: Vec<&FlowResult> = flows
        .iter()
        .filter(|flow| citing.contains(flow.name.split('#').next().unwrap_or_default()))
        .collect();
    match ran.iter().find(|flow| flow.verdict != Verdict::Pass).or(ran.first()) {
        None => "no flow that touches it was selected".to_owned(),
        Some(flow) => match (&flow.reason, flow.verdict) {
            (Some(reason), _) => format!("{}: {}: {reason}", flow.name, flow.verdict.word()),
            (None, verdict) => format!("{} ended ({}) before it came to it", flow.name, verdict.word()),
        },
    }
}

#[cfg(test)]
mod tests {
    use flowproof_reference::machine::Time;
    use serde_json::Value;

    use super::*;

    const CATALOGUE: &str = r#"
        [[requirement]]
        id = "X-1"
        level = "MUST"
        roles = ["server"]
        topic = "x"
        section = "1"
        text = "One."

        [[requirement]]
        id = "X-2"
        level = "SHOULD"
        roles = ["server"]
        topic = "x"
        section = "2"
        text = "Two."
    "#;

    fn look(verdict: Verdict, heard: bool, broken: &[&str]) -> FlowResult {
        let mut result = FlowResult::not_run("x/y", "x/y.flow", "server", verdict, String::new());
        result.heard = heard;
        result.findings = broken
            .iter()
            .map(|id| Finding {
                requirement: Some((*id).to_owned()),
                ruling: Ruling::Broken,
                by: "server".to_owned(),
                judge: Judge::Arrow,
                at: Time::default(),
                line: None,
                message: String::new(),
                expected: String::new(),
                actual: Value::Null,
            })
            .collect();
        result
    }

    #[test]
    fn of_two_looks_on_a_busy_machine_only_what_shows_twice_is_believed() {
        let catalogue: Catalogue = toml::from_str(CATALOGUE).expect("the catalogue of the test can be read");
        let failed = || look(Verdict::Fail, true, &["X-1", "X-2"]);
        let believed = |again: FlowResult| {
            let result = failed().tried_again(again, &catalogue);
            let broken = |finding: &&Finding| finding.ruling == Ruling::Broken;
            let ids = result.findings.iter().filter(broken).filter_map(|finding| finding.requirement.clone());
            (result.verdict, ids.collect::<Vec<_>>())
        };
        let both = vec!["X-1".to_owned(), "X-2".to_owned()];
        assert_eq!(believed(look(Verdict::Pass, true, &[])), (Verdict::Pass, vec![]));
        assert_eq!(believed(failed()), (Verdict::Fail, both.clone()));
        assert_eq!(believed(look(Verdict::Warn, true, &["X-2"])), (Verdict::Warn, vec!["X-2".to_owned()]));
        assert_eq!(believed(look(Verdict::Inconclusive, true, &[])), (Verdict::Inconclusive, vec![]));
        // A program that the first look killed, that can no more be reached, or that the end of the run kept away.
        assert_eq!(believed(look(Verdict::Fail, false, &["X-1"])), (Verdict::Fail, both.clone()));
        assert_eq!(believed(look(Verdict::Error, false, &[])), (Verdict::Fail, both.clone()));
        assert_eq!(believed(look(Verdict::Skip, false, &[])), (Verdict::Fail, both));
        let other =
            look(Verdict::Fail, true, &["X-2"]).tried_again(look(Verdict::Fail, true, &["X-1"]), &catalogue);
        assert_eq!(other.verdict, Verdict::Inconclusive);
        assert!(other.reason.is_some_and(|reason| reason.contains("busy")));
    }
}
