//! The JSON report, version 1. Its field names are fixed; readers ignore what they do not know.

use serde_json::{Value, json};

use super::{Report, Run};
use crate::judge::catalogue::Catalogue;
use crate::judge::finding::{Finding, Ruling};
use crate::known::{Kind, Stale};
use crate::runner::verdict::Verdict;

/// The version of the format.
pub const VERSION: u32 = 1;

/// Several runs: a report, or an array of them when there is not exactly one.
pub fn reports(runs: &[Run]) -> Value {
    let mut values: Vec<Value> =
        runs.iter().map(|run| report(&run.report, &run.protocol.catalogue)).collect();
    if values.len() == 1 { values.remove(0) } else { Value::from(values) }
}

/// One run as a JSON value.
pub fn report(report: &Report, catalogue: &Catalogue) -> Value {
    let flows: Vec<Value> = report
        .flows
        .iter()
        .enumerate()
        .map(|(place, flow)| {
            let findings: Vec<Value> = flow.findings.iter().map(|one| finding(one, catalogue)).collect();
            json!({
                "name": flow.name,
                "role": flow.role,
                "verdict": flow.verdict.word(),
                "duration_ms": millis(flow.took),
                "reason": flow.reason,
                "racy": flow.racy,
                "excused": report.known.excused(place).map(Kind::word),
                "findings": findings,
            })
        })
        .collect();
    json!({
        "flowproof": report.flowproof,
        "report": VERSION,
        "protocol": report.protocol,
        "edition": report.edition,
        "target": report.target,
        "seed": report.seed,
        "cut_short": report.cut_short,
        "summary": {
            "pass": report.count(Verdict::Pass),
            "warn": report.count(Verdict::Warn),
            "fail": report.count(Verdict::Fail),
            "skip": report.count(Verdict::Skip),
            "inconclusive": report.count(Verdict::Inconclusive),
            "error": report.count(Verdict::Error),
            "duration_ms": millis(report.took),
        },
        "flows": flows,
        "requirements": report.requirements,
        "known_failures": report.known.entries.iter().enumerate().map(|(place, entry)| {
            let flows = report.known.flows_of(place).filter_map(|flow| report.flows.get(flow));
            json!({
                "kind": entry.kind.word(),
                "requirement": entry.requirement,
                "flow": entry.flow,
                "reason": entry.reason,
                "owner": entry.owner,
                "expires": entry.expires.map(|date| date.to_string()),
                "link": entry.link,
                "flows": flows.map(|flow| flow.name.as_str()).collect::<Vec<_>>(),
                "stale": report.known.stale.get(&place).map(Stale::word),
            })
        }).collect::<Vec<_>>(),
    })
}

/// One finding as a JSON value.
pub fn finding(finding: &Finding, catalogue: &Catalogue) -> Value {
    let verdict = match finding.ruling {
        Ruling::Kept => "kept",
        Ruling::Broken => "broken",
        Ruling::Tolerated => "warned",
        Ruling::Noted => "noted",
        Ruling::Undecided => "undecided",
    };
    json!({
        "requirement": finding.requirement,
        "level": finding.requirement.as_deref().map(|id| catalogue.level(id)),
        "verdict": verdict,
        "by": finding.by,
        "judge": finding.judge,
        "line": finding.line,
        "at_ms": millis(finding.at.since_start()),
        "message": finding.message,
        "expected": finding.expected,
        "actual": finding.actual,
    })
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
