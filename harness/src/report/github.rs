//! Annotations of GitHub's workflow log, at the line of the flow that failed.

use super::{Counts, Run, told};
use crate::diagnostic::escape;
use crate::judge::finding::Ruling;
use crate::known::Kind;
use crate::pattern::json;
use crate::runner::verdict::{FlowResult, Verdict};

/// Characters of one annotation.
const MESSAGE: usize = 3000;

/// Several runs as annotations, and a last line for a person.
pub fn github(runs: &[Run]) -> String {
    let mut text = String::new();
    for run in runs {
        for (place, flow) in run.report.flows.iter().enumerate() {
            annotate(&mut text, run, place, flow);
        }
        for (entry, stale) in &run.report.known.stale {
            if let Some(entry) = run.report.known.entries.get(*entry) {
                let message = format!("the {} entry {} {}", entry.kind.word(), entry.subject(), stale.word());
                command(&mut text, "warning", None, "list of known failures", &message);
            }
        }
    }
    let counts = Counts::of(runs);
    text.push_str(&format!(
        "flowproof: {} pass, {} warn, {} fail, {} skip, {} inconclusive, {} error\n",
        counts.pass, counts.warn, counts.fail, counts.skip, counts.inconclusive, counts.error
    ));
    text
}

fn annotate(text: &mut String, run: &Run, place: usize, flow: &FlowResult) {
    let excused = run.report.known.excused(place);
    let severity = match (excused, flow.verdict) {
        (Some(_), _) => "notice",
        (None, Verdict::Fail | Verdict::Error) => "error",
        (None, Verdict::Warn | Verdict::Inconclusive) => "warning",
        (None, Verdict::Pass | Verdict::Skip) => return,
    };
    let excuse = match excused {
        Some(Kind::Known) => "known failure: ",
        Some(Kind::Disputed) => "disputed: ",
        None => "",
    };
    let findings: Vec<_> = told(flow, &run.protocol)
        .into_iter()
        .filter(|finding| matches!(finding.ruling, Ruling::Broken | Ruling::Tolerated))
        .collect();
    if findings.is_empty() {
        let reason = flow.reason.as_deref().unwrap_or("no reason is known");
        let title = format!("{} {}", flow.verdict.word(), flow.name);
        command(text, severity, Some((&flow.file, 1)), &title, reason);
    }
    for finding in findings {
        let id = finding.requirement.as_deref().unwrap_or("no requirement");
        let known = run.protocol.catalogue.get(id).map(|known| known.text.as_str()).unwrap_or_default();
        let found =
            if finding.actual.is_null() { "nothing".to_owned() } else { json::short(&finding.actual, 600) };
        let message = format!(
            "{excuse}{}: {}\n{known}\nexpected: {}\nfound: {found}\nagain: {}",
            finding.by,
            finding.message,
            json::cut(&finding.expected, 600),
            run.again(&flow.name)
        );
        let title = format!("{id} in {}", flow.name);
        command(text, severity, Some((&flow.file, finding.line.unwrap_or(1))), &title, &message);
    }
}

fn command(text: &mut String, severity: &str, place: Option<(&str, usize)>, title: &str, message: &str) {
    let place = place.map(|(file, line)| format!("file={},line={line},", property(file))).unwrap_or_default();
    let message = data(&json::cut(message, MESSAGE));
    text.push_str(&format!("::{severity} {place}title={}::{message}\n", property(title)));
}

/// A workflow command ends with its line.
fn data(text: &str) -> String {
    escape(text).replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// And a property with a comma.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
