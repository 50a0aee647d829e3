//! The report for a person at a terminal. Whatever a target sent is escaped before it is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Report;
use super::difference::{self, State};
use super::sequence::{self, Diagram};
use super::text::{Style, wrap};
use crate::corpus::{FlowFile, Protocol};
use crate::diagnostic::escape;
use crate::flow::ast::Span;
use crate::judge::finding::{Finding, Judge, Ruling};
use crate::pattern::json;
use crate::runner::event::RunEvent;
use crate::runner::verdict::{FlowResult, RequirementResult, RequirementVerdict, Verdict};

/// Columns of a terminal that reports are made for.
const WIDTH: usize = 110;
/// Messages on the wire shown before a failure.
const LAST_MESSAGES: usize = 12;
/// Lines of a flow shown for one finding.
const SOURCE_LINES: usize = 5;
/// Characters shown of one message on the wire.
const MESSAGE: usize = 240;
/// Characters shown of what was expected or found.
const VALUE: usize = 480;
/// Flows named in a line about a requirement.
const NAMED: usize = 4;

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Long messages are cut, and what was told already is not told again.
    Short,
    /// Everything.
    Full,
}

impl Detail {
    /// Text cut after `limit` characters, with the size of what is left out.
    fn cut(self, text: &str, limit: usize) -> String {
        match text.char_indices().nth(limit) {
            Some((end, _)) if self == Detail::Short => {
                format!("{}… (+{} bytes)", &text[..end], text.len() - end)
            }
            _ => text.to_owned(),
        }
    }
}

/// What is about to run.
pub fn plan_line(event: &RunEvent, style: Style) -> String {
    let RunEvent::Begun { flowproof, protocol, edition, target, seed, planned, skipped } = event else {
        return String::new();
    };
    let what = match target.kind.as_str() {
        "reference" if target.address == "built-in" => "the built-in reference, in memory".to_owned(),
        "reference" => format!("the built-in reference with a planted fault ({})", target.address),
        _ => escape(&target.address),
    };
    let mut text = format!(
        "{}  {} (edition {edition}) against {what}\n{planned} {} for the role {}, seed {seed}",
        style.strong(&format!("flowproof {flowproof}")),
        style.strong(protocol),
        if *planned == 1 { "flow" } else { "flows" },
        target.role.replace(',', " and ")
    );
    for (reason, count) in skipped {
        text.push_str(&format!("\n{count} skipped: {}", escape(reason)));
    }
    text.push('\n');
    text
}

/// One line for a flow.
pub fn flow_line(flow: &FlowResult, style: Style) -> String {
    let (margin, word) = verdict_word(flow.verdict, style);
    let reason = match (&flow.racy, &flow.reason, flow.verdict) {
        (Some(racy), ..) => format!("  racy: {racy}"),
        (None, Some(reason), verdict) if verdict != Verdict::Fail && verdict != Verdict::Warn => {
            format!("  {}", json::cut(&escape(reason).replace('\n', " "), 160))
        }
        _ => String::new(),
    };
    let ids: Vec<&str> = accused(flow);
    let ids = if ids.is_empty() { String::new() } else { format!("  {}", ids.join(" ")) };
    format!("{margin}{word} {:>8}  {}{ids}{reason}", took(flow.took), title(flow))
}

/// The flow's name, with its role where that is not the usual one.
fn title(flow: &FlowResult) -> String {
    format!(
        "{} {}",
        escape(&flow.name),
        if flow.role.is_empty() { String::new() } else { format!("({})", flow.role) }
    )
}

fn accused(flow: &FlowResult) -> Vec<&str> {
    let mut ids: Vec<&str> = flow
        .findings
        .iter()
        .filter(|finding| matches!(finding.ruling, Ruling::Broken | Ruling::Tolerated))
        .filter_map(|finding| finding.requirement.as_deref())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// The word of a verdict, and what puts it in its column.
fn verdict_word(verdict: Verdict, style: Style) -> (&'static str, String) {
    match verdict {
        Verdict::Pass => ("  ", style.good("pass")),
        Verdict::Warn => ("  ", style.doubtful("WARN")),
        Verdict::Fail => ("  ", style.bad("FAIL")),
        Verdict::Skip => ("  ", style.dim("skip")),
        Verdict::Inconclusive => ("  ", style.doubtful("????")),
        Verdict::Error => (" ", style.strange("ERROR")),
    }
}

/// True for a flow that there is something to tell of.
fn is_telling(flow: &FlowResult) -> bool {
    matches!(flow.verdict, Verdict::Fail | Verdict::Warn | Verdict::Inconclusive | Verdict::Error)
}

/// The flows to be shown in full, by their place in the report. One broken rule mostly shows in many flows: those are
/// chosen that accuse somebody of something new, with as little else as possible, and of those without an accusation
/// the first with each reason.
pub fn telling(report: &Report, detail: Detail) -> Vec<usize> {
    let mut places: Vec<usize> =
        (0..report.flows.len()).filter(|place| is_telling(&report.flows[*place])).collect();
    if detail == Detail::Full {
        return places;
    }
    places.sort_by_key(|place| accused(&report.flows[*place]).len());
    let (mut told, mut reasons) = (BTreeSet::new(), BTreeSet::new());
    places.retain(|place| {
        let flow = &report.flows[*place];
        let ids = accused(flow);
        if ids.is_empty() {
            return reasons.insert((flow.verdict, kind_of_reason(flow)));
        }
        ids.iter().filter(|id| told.insert(**id)).count() > 0
    });
    places.sort_unstable();
    places
}

/// Reasons that differ only in numbers, such as a line or a port, are the same to a reader.
fn kind_of_reason(flow: &FlowResult) -> String {
    let reason = flow.reason.as_deref().unwrap_or_default();
    reason.chars().filter(|c| !c.is_ascii_digit()).take(60).collect()
}

/// What the flows shown in full leave out; empty when that is nothing.
pub fn left_out(report: &Report, shown: usize) -> String {
    match report.flows.iter().filter(|flow| is_telling(flow)).count() - shown {
        0 => String::new(),
        1 => {
            "\none more flow shows nothing new: it has its line above; --verbose tells all of it\n".to_owned()
        }
        more => {
            format!(
                "\n{more} more flows show nothing new: each has its line above; --verbose tells all of them\n"
            )
        }
    }
}

/// A flow that did not pass, in full.
pub fn failure(flow: &FlowResult, protocol: &Protocol, again: &str, detail: Detail, style: Style) -> String {
    let mut text = format!("{} {}\n", verdict_word(flow.verdict, style).1, style.strong(&title(flow)));
    let file = protocol.flows.iter().find(|file| file.path == flow.file);
    if let Some(summary) = file.map(|file| file.summary()).filter(|summary| !summary.is_empty()) {
        for line in wrap(&summary, WIDTH - 2) {
            text.push_str(&format!("  {}\n", style.dim(&escape(&line))));
        }
    }
    if let Some(reason) = &flow.reason {
        section(&mut text, "reason", &detail.cut(reason, 2 * VALUE), style);
    }
    let (notes, rulings): (Vec<&Finding>, Vec<&Finding>) = flow
        .findings
        .iter()
        .filter(|finding| finding.ruling != Ruling::Kept)
        .partition(|finding| finding.ruling == Ruling::Noted && detail == Detail::Short);
    for finding in rulings {
        text.push('\n');
        text.push_str(&finding_text(finding, flow, protocol, file, detail, style));
    }
    if !notes.is_empty() {
        text.push('\n');
    }
    for finding in notes {
        let id = finding.requirement.as_deref().unwrap_or("no requirement");
        let message = detail.cut(&escape(&finding.message).replace('\n', " "), MESSAGE);
        text.push_str(&format!("  {}\n", style.dim(&format!("{id} noted: {message}"))));
    }
    let diagram = Diagram::of_result(flow, file).around_the_fault(LAST_MESSAGES);
    if !diagram.items.is_empty() {
        text.push_str(&format!("\n  {}\n", style.strong("last messages")));
        // What is told in full is not cut to the width of a terminal.
        let width = if detail == Detail::Full { usize::MAX } else { WIDTH };
        text.push_str(&sequence::text::text(&diagram, width, style));
    }
    text.push_str(&format!("\n  {} {again}\n", style.dim("once more:")));
    text
}

fn finding_text(
    finding: &Finding,
    flow: &FlowResult,
    protocol: &Protocol,
    file: Option<&FlowFile>,
    detail: Detail,
    style: Style,
) -> String {
    let mut text = String::new();
    let id = finding.requirement.as_deref().unwrap_or("no requirement");
    let requirement = protocol.catalogue.get(id);
    let level = requirement.map(|requirement| format!(" ({})", requirement.level)).unwrap_or_default();
    let verdict = match finding.ruling {
        Ruling::Broken => style.bad("broken"),
        Ruling::Tolerated => style.doubtful("tolerated"),
        Ruling::Noted => style.dim("noted"),
        Ruling::Undecided => style.doubtful("undecided"),
        Ruling::Kept => style.good("kept"),
    };
    let judge = match finding.judge {
        Judge::Arrow => "the flow",
        Judge::Schema => "the message catalogue",
        Judge::Monitor => "a monitor",
        Judge::Liveness => "a bystander",
    };
    text.push_str(&format!(
        "  {}{level} {verdict} by {}, says {judge}\n",
        style.strong(id),
        escape(&finding.by)
    ));
    if let Some(requirement) = requirement {
        for line in wrap(&requirement.text, WIDTH - 4) {
            text.push_str(&format!("    {line}\n"));
        }
    }
    if let Some((number, file)) = finding.line.zip(file) {
        text.push_str(&format!("    {}\n", style.dim(&format!("--> {}:{number}", flow.file))));
        text.push_str(&source_text(finding, number, flow, file, style));
    }
    section(&mut text, "what", &detail.cut(&finding.message, VALUE), style);
    if !finding.expected.is_empty() {
        section(&mut text, "expected", &detail.cut(&finding.expected, VALUE), style);
    }
    let actual = if finding.actual.is_null() {
        "nothing".to_owned()
    } else {
        detail.cut(&finding.actual.to_string(), VALUE)
    };
    section(&mut text, "found", &actual, style);
    text
}

/// The line of the flow that the finding is about, with a mark under the parts that differ; where the arrow is written
/// over several lines, those of them that hold such a part.
fn source_text(finding: &Finding, number: usize, flow: &FlowResult, file: &FlowFile, style: Style) -> String {
    let rows = difference::of_finding(finding, &flow.name, Some(file)).unwrap_or_default();
    let wrong = rows.iter().filter(|row| matches!(row.state, State::Differs | State::Missing));
    let spans: Vec<Span> = wrong.filter_map(|row| row.span).collect();
    let mut numbers: Vec<usize> = spans.iter().map(|span| file.line(span.start)).collect();
    numbers.insert(0, number);
    numbers.dedup();
    let mut text = String::new();
    for number in numbers.into_iter().take(SOURCE_LINES) {
        let Some(line) = file.source.lines().nth(number.saturating_sub(1)) else { continue };
        let line = line.trim_end();
        let begins: usize =
            file.source.split_inclusive('\n').take(number.saturating_sub(1)).map(str::len).sum();
        let place = |offset: usize| {
            let offset = offset.clamp(begins, begins + line.len()) - begins;
            line.get(..offset).map_or(0, |before| before.chars().count())
        };
        let here = spans.iter().filter(|span| file.line(span.start) == number);
        let marks: Vec<(usize, usize)> = here.map(|span| (place(span.start), place(span.end))).collect();
        let chars: Vec<char> = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        // Of a line that is too long the part around the first mark is shown.
        let first = marks.iter().map(|(start, _)| *start).min().unwrap_or(0);
        let room = WIDTH - 11;
        let from =
            if chars.len() <= room { 0 } else { first.saturating_sub(room / 2).min(chars.len() - room) };
        let shown: String = chars[from..].iter().take(room).collect();
        text.push_str(&format!("    {number:>4} | {}\n", escape(&shown)));
        let mut under = vec![' '; room];
        for (start, end) in marks {
            let (start, end) = (start.max(from) - from, end.max(from) - from);
            under.iter_mut().take(end.max(start + 1)).skip(start).for_each(|place| *place = '^');
        }
        let under: String = under.into_iter().collect();
        if under.contains('^') {
            text.push_str(&format!("         | {}\n", style.bad(under.trim_end())));
        }
    }
    text
}

fn section(text: &mut String, name: &str, content: &str, style: Style) {
    let lines = wrap(&escape(content), WIDTH - 14);
    for (place, line) in lines.iter().enumerate() {
        let name = if place == 0 { name } else { "" };
        text.push_str(&format!("    {} {line}\n", style.dim(&format!("{name:<9}"))));
    }
}

/// The end of a report: requirements that did not hold or were not tested, then one line. A run over a part of the
/// flows leaves most requirements untested, which is nothing to tell of.
pub fn summary(report: &Report, protocol: &Protocol, partial: bool, style: Style) -> String {
    let mut text = String::new();
    let mut counts: BTreeMap<RequirementVerdict, usize> = BTreeMap::new();
    let mut untested: BTreeMap<String, Vec<&RequirementResult>> = BTreeMap::new();
    for requirement in &report.requirements {
        *counts.entry(requirement.verdict).or_insert(0) += 1;
        let word = match requirement.verdict {
            RequirementVerdict::Kept => continue,
            RequirementVerdict::Broken => style.bad("broken  "),
            RequirementVerdict::Warned => style.doubtful("warned  "),
            RequirementVerdict::Untested => {
                untested.entry(without_flow(requirement)).or_default().push(requirement);
                continue;
            }
        };
        let known = protocol.catalogue.get(&requirement.id);
        let about = known.map(|known| known.text.replace('\n', " ")).unwrap_or_default();
        let line = format!("{} ({}) {}", requirement.id, requirement.level, json::cut(&about, 180));
        text.push_str(&format!(
            "  {word}  {line}\n            {}\n",
            style.dim(&shown_by(report, &requirement.id))
        ));
    }
    for alike in untested.values().filter(|_| !partial) {
        let named = |one: &RequirementResult| format!("{} ({})", one.id, one.level);
        let reason = |reason: &str| json::cut(&escape(reason).replace('\n', " "), 180);
        let reason = match alike.as_slice() {
            [only] => reason(only.reason.as_deref().unwrap_or_default()),
            [first, ..] => reason(&without_flow(first)),
            [] => continue,
        };
        let mut names: Vec<String> = alike.iter().take(NAMED).map(|one| named(one)).collect();
        if alike.len() > NAMED {
            names.push(format!("and {} more", alike.len() - NAMED));
        }
        text.push_str(&format!("  {}  {}: {reason}\n", style.dim("untested"), names.join(", ")));
    }
    if !text.is_empty() {
        text.insert_str(0, "requirements that are not kept\n");
        text.push('\n');
    }
    let count = |verdict| counts.get(&verdict).copied().unwrap_or(0);
    text.push_str(&format!(
        "requirements: {} kept, {} broken, {} warned, {} untested\n",
        count(RequirementVerdict::Kept),
        count(RequirementVerdict::Broken),
        count(RequirementVerdict::Warned),
        count(RequirementVerdict::Untested)
    ));
    let parts: Vec<String> =
        [Verdict::Pass, Verdict::Warn, Verdict::Fail, Verdict::Skip, Verdict::Inconclusive, Verdict::Error]
            .into_iter()
            .filter(|verdict| report.count(*verdict) > 0 || *verdict == Verdict::Pass)
            .map(|verdict| format!("{} {}", report.count(verdict), verdict.word()))
            .collect();
    let cut = if report.cut_short { ", cut short" } else { "" };
    let line =
        format!("{}: {} in {}{cut}", report.protocol, parts.join(", "), took(report.took).trim_start());
    let line = if report.count(Verdict::Fail) + report.count(Verdict::Error) > 0 {
        style.bad(&line)
    } else if report.count(Verdict::Warn) + report.count(Verdict::Inconclusive) > 0 {
        style.doubtful(&line)
    } else {
        style.good(&line)
    };
    text.push_str(&format!("{line}\n"));
    text
}

/// Why a requirement is untested, without the flow that shows it: `name: verdict: reason`.
fn without_flow(requirement: &RequirementResult) -> String {
    let reason = requirement.reason.as_deref().unwrap_or_default();
    match reason.splitn(3, ": ").collect::<Vec<_>>()[..] {
        [flow, verdict, rest] if flow.contains('/') => format!("{verdict}: {rest}"),
        _ => reason.to_owned(),
    }
}

/// The flows in which somebody broke a requirement.
fn shown_by(report: &Report, id: &str) -> String {
    let accuses = |flow: &&FlowResult| accused(flow).contains(&id);
    let names: Vec<String> = report.flows.iter().filter(accuses).map(|flow| escape(&flow.name)).collect();
    let shown = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match names.len() {
        1 => format!("in {shown}"),
        count if count > NAMED => format!("in {count} flows: {shown}, ..."),
        count => format!("in {count} flows: {shown}"),
    }
}

/// A duration in a narrow column.
pub fn took(duration: Duration) -> String {
    match duration.as_millis() {
        millis @ 0..=9999 => format!("{millis} ms"),
        millis => format!("{:.1} s", millis as f64 / 1000.0),
    }
}
