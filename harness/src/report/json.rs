//! The JSON report, version 1. Its field names are fixed; readers ignore what they do not know.

use serde_json::{Value, json};

use super::Report;
use crate::judge::catalogue::Catalogue;
use crate::judge::finding::{Finding, Ruling};
use crate::runner::verdict::Verdict;

/// The version of the format.
pub const VERSION: u32 = 1;

/// One run as a JSON value.
pub fn report(report: &Report, catalogue: &Catalogue) -> Value {
    let flows: Vec<Value> = report
        .flows
        .iter()
        .map(|flow| {
            let findings: Vec<Value> = flow.findings.iter().map(|one| finding(one, catalogue)).collect();
            json!({
                "name": flow.name,
                "role": flow.role,
                "verdict": flow.verdict.word(),
                "duration_ms": millis(flow.took),
                "reason": flow.reason,
                "racy": flow.racy,
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
