//! The report as Markdown, for the summary of a CI job.

use super::{Counts, Run, told};
use crate::diagnostic::escape;
use crate::judge::finding::Ruling;
use crate::pattern::json;
use crate::runner::verdict::{RequirementVerdict, Verdict};

/// Flows that are told in full; a job summary has a limited size.
const FLOWS: usize = 60;
/// Characters of a message.
const MESSAGE: usize = 800;

/// Several runs as one page.
pub fn markdown(runs: &[Run]) -> String {
    let mut text = String::new();
    for run in runs {
        one(&mut text, run);
    }
    if runs.len() > 1 {
        let counts = Counts::of(runs);
        text.push_str(&format!(
            "All protocols: {} pass, {} fail of {} flows.\n",
            counts.pass,
            counts.fail,
            counts.total()
        ));
    }
    text
}

fn one(text: &mut String, run: &Run) {
    let report = &run.report;
    let counts = Counts::of(std::slice::from_ref(run));
    let sign = if counts.fail > counts.known + counts.disputed || counts.error > 0 {
        "❌"
    } else if counts.warn + counts.inconclusive + counts.fail > 0 {
        "⚠️"
    } else {
        "✅"
    };
    text.push_str(&format!(
        "## {sign} {} ({}, edition {})\n\n",
        words(&report.protocol),
        words(&report.target.role.replace(',', " and ")),
        words(&report.edition)
    ));
    let cut = if report.cut_short { " The run was cut short." } else { "" };
    text.push_str(&format!("Target: {}, seed {}.{cut}\n\n", code(&report.target.address), report.seed));
    text.push_str("| pass | warn | fail | skip | inconclusive | error | known | disputed |\n");
    text.push_str("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n");
    text.push_str(&format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} |\n\n",
        counts.pass,
        counts.warn,
        counts.fail,
        counts.skip,
        counts.inconclusive,
        counts.error,
        counts.known,
        counts.disputed
    ));
    let of = |verdict| report.requirements.iter().filter(move |one| one.verdict == verdict);
    text.push_str(&format!(
        "Requirements: {} kept, {} broken, {} warned, {} untested.\n\n",
        of(RequirementVerdict::Kept).count(),
        of(RequirementVerdict::Broken).count(),
        of(RequirementVerdict::Warned).count(),
        of(RequirementVerdict::Untested).count()
    ));
    let bad: Vec<_> = of(RequirementVerdict::Broken).chain(of(RequirementVerdict::Warned)).collect();
    if !bad.is_empty() {
        text.push_str("| requirement | level | verdict | what it asks for |\n| --- | --- | --- | --- |\n");
        for one in bad {
            let about =
                run.protocol.catalogue.get(&one.id).map(|known| known.text.as_str()).unwrap_or_default();
            text.push_str(&format!(
                "| {} | {} | {} | {} |\n",
                code(&one.id),
                one.level,
                one.verdict.word(),
                words(about)
            ));
        }
        text.push('\n');
    }
    flows(text, run);
    known(text, run);
}

fn flows(text: &mut String, run: &Run) {
    let bad = run.report.flows.iter().enumerate().filter(|(_, flow)| {
        matches!(flow.verdict, Verdict::Fail | Verdict::Warn | Verdict::Error | Verdict::Inconclusive)
    });
    let mut bad: Vec<_> = bad.collect();
    bad.sort_by_key(|(_, flow)| match flow.verdict {
        Verdict::Fail => 0,
        Verdict::Error => 1,
        Verdict::Warn => 2,
        _ => 3,
    });
    for (place, flow) in bad.iter().take(FLOWS) {
        let excused =
            run.report.known.excused(*place).map(|kind| format!(" ({})", kind.word())).unwrap_or_default();
        text.push_str(&format!(
            "<details><summary>{}{excused}: <code>{}</code></summary>\n\n",
            flow.verdict.word(),
            html(&flow.name)
        ));
        if let Some(reason) = &flow.reason {
            text.push_str(&format!("{}\n\n", words(&json::cut(reason, MESSAGE))));
        }
        for finding in told(flow, &run.protocol) {
            if !matches!(finding.ruling, Ruling::Broken | Ruling::Tolerated | Ruling::Undecided) {
                continue;
            }
            let id = finding.requirement.as_deref().unwrap_or("no requirement");
            let line = finding.line.map(|line| format!(", line {line}")).unwrap_or_default();
            text.push_str(&format!(
                "**{}**{line}: {}\n\n",
                words(id),
                words(&json::cut(&finding.message, MESSAGE))
            ));
            let found = if finding.actual.is_null() {
                "nothing".to_owned()
            } else {
                json::short(&finding.actual, MESSAGE)
            };
            text.push_str(&fenced(&format!(
                "expected  {}\nfound     {found}",
                json::cut(&finding.expected, MESSAGE)
            )));
        }
        text.push_str(&fenced(&run.again(&flow.name)));
        text.push_str("</details>\n\n");
    }
    if bad.len() > FLOWS {
        text.push_str(&format!("{} more flows are told in the report.\n\n", bad.len() - FLOWS));
    }
}

fn known(text: &mut String, run: &Run) {
    let known = &run.report.known;
    if known.entries.is_empty() {
        return;
    }
    text.push_str("| entry | kind | flows | state | reason |\n| --- | --- | ---: | --- | --- |\n");
    for (place, entry) in known.entries.iter().enumerate() {
        let state = known.stale.get(&place).map_or("in force", |stale| stale.word());
        text.push_str(&format!(
            "| {} | {} | {} | {state} | {} |\n",
            code(&entry.subject()),
            entry.kind.word(),
            known.flows_of(place).count(),
            words(&entry.reason)
        ));
    }
    text.push('\n');
}

/// Text without meaning to Markdown, HTML, or the code host (mentions, references).
pub(crate) fn words(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in escape(text).chars() {
        match c {
            '\n' => safe.push(' '),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '@' => safe.push_str("&#64;"),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '(' | ')' | '#' | '+' | '!' | '|' | '~'
            | '$' | ':' => {
                safe.push('\\');
                safe.push(c);
            }
            c => safe.push(c),
        }
    }
    safe
}

fn html(text: &str) -> String {
    super::sequence::svg::xml(&escape(text).replace('\n', " "))
}

/// Text as a code span that nothing in it can end, also inside a table. What stands between such tags is Markdown.
pub(crate) fn code(text: &str) -> String {
    format!("<code>{}</code>", words(text))
}

/// Text as a block that nothing in it can end.
fn fenced(text: &str) -> String {
    let text = escape(text);
    let mut longest = 0;
    let mut run = 0;
    for c in text.chars() {
        run = if c == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{}\n{fence}\n\n", text.trim_end())
}
