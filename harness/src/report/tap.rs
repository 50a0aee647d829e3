//! The report in the Test Anything Protocol, version 14.

use serde_json::{Value, json};

use super::{Run, told};
use crate::diagnostic::escape;
use crate::known::Kind;
use crate::pattern::json as text;
use crate::runner::verdict::{FlowResult, Verdict};

/// Characters of one value of a diagnostic.
const VALUE: usize = 2000;

/// Several runs as one stream.
pub fn tap(runs: &[Run]) -> String {
    let flows = runs.iter().map(|run| run.report.flows.len()).sum::<usize>();
    let mut stream = format!("TAP version 14\n1..{flows}\n");
    let mut number = 0;
    for run in runs {
        for (place, flow) in run.report.flows.iter().enumerate() {
            number += 1;
            stream.push_str(&line(run, place, flow, number));
            if !matches!(flow.verdict, Verdict::Pass | Verdict::Skip) {
                stream.push_str(&diagnostic(run, flow));
            }
        }
    }
    if runs.iter().any(|run| run.report.cut_short) {
        stream.push_str("# the run was cut short\n");
    }
    stream
}

fn line(run: &Run, place: usize, flow: &FlowResult, number: usize) -> String {
    let reason = || flow.reason.as_deref().unwrap_or_default().to_owned();
    let entries =
        || run.report.known.excuses(place).map(|entry| entry.reason.as_str()).collect::<Vec<_>>().join("; ");
    let (ok, directive) = match (run.report.known.excused(place), flow.verdict) {
        (Some(Kind::Known), _) => (false, format!(" # TODO known failure: {}", one_line(&entries()))),
        (Some(Kind::Disputed), _) => (false, format!(" # TODO disputed: {}", one_line(&entries()))),
        (None, Verdict::Pass | Verdict::Warn) => (true, String::new()),
        (None, Verdict::Fail | Verdict::Error) => (false, String::new()),
        (None, Verdict::Skip) => (true, format!(" # SKIP {}", one_line(&reason()))),
        (None, Verdict::Inconclusive) => (true, format!(" # SKIP inconclusive: {}", one_line(&reason()))),
    };
    let name = one_line(&format!("{} {} ({})", run.report.protocol, flow.name, flow.role));
    format!("{} {number} - {name}{directive}\n", if ok { "ok" } else { "not ok" })
}

/// Text that stays on its line and says nothing to the reader of the stream: `#` begins a directive.
fn one_line(words: &str) -> String {
    let words = escape(words).replace('\\', "\\\\").replace('#', "\\#").replace('\n', " ");
    text::cut(&words, 300)
}

/// What is known of a flow, as a YAML block; every value is written as JSON, which is YAML too.
fn diagnostic(run: &Run, flow: &FlowResult) -> String {
    let findings: Vec<Value> = told(flow, &run.protocol)
        .into_iter()
        .map(|finding| {
            json!({
                "requirement": finding.requirement,
                "judge": finding.judge,
                "by": finding.by,
                "at": finding.line.map(|line| format!("{}:{line}", flow.file)),
                "message": text::cut(&finding.message, VALUE),
                "expected": text::cut(&finding.expected, VALUE),
                "actual": text::short(&finding.actual, VALUE),
            })
        })
        .collect();
    let quoted = |value: &Value| ascii_controls(&value.to_string());
    let mut block = "  ---\n".to_owned();
    block.push_str(&format!("  verdict: {}\n", flow.verdict.word()));
    block.push_str(&format!("  duration_ms: {}\n", flow.took.as_millis()));
    if let Some(reason) = &flow.reason {
        block.push_str(&format!("  reason: {}\n", quoted(&Value::from(text::cut(reason, VALUE)))));
    }
    if !findings.is_empty() {
        block.push_str("  findings:\n");
    }
    for finding in &findings {
        block.push_str(&format!("    - {}\n", quoted(finding)));
    }
    block.push_str(&format!("  again: {}\n  ...\n", quoted(&Value::from(run.again(&flow.name)))));
    block
}

/// JSON text with the characters that a terminal acts on written as JSON escapes; only strings can hold them.
fn ascii_controls(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        if escape(c.encode_utf8(&mut [0; 4])).starts_with('\\') && c != '\\' {
            safe.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            safe.push(c);
        }
    }
    safe
}
