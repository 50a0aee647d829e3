//! `report.html`: one file that opens from disk, loads nothing, and runs one script, which its own security policy
//! names by its hash. Requirements and the list of flows are written out; what a flow said lies beside it as data, and
//! is drawn when somebody opens the flow, so that large runs stay quick.

use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::sequence::{Diagram, Item};
use super::{Counts, Run, difference, folder, told};
use crate::corpus::FlowFile;
use crate::diagnostic::escape;
use crate::judge::finding::{Finding, Judge, Ruling};
use crate::known::Kind;
use crate::pattern::json as text;
use crate::runner::verdict::{FlowResult, RequirementVerdict, Verdict};

/// Characters shown of one message, or of one side of a finding.
const MESSAGE: usize = 4000;
/// Characters shown of one message of a flow that nobody has to look into.
const PASSED: usize = 600;
/// Characters of what the search looks at beside names.
const SEARCHED: usize = 400;

const SCRIPT: &str = include_str!("../../templates/report.js");
const STYLE: &str = include_str!("../../templates/report.css");

#[derive(Template)]
#[template(path = "report.html")]
struct Page {
    title: String,
    headline: String,
    tone: &'static str,
    version: String,
    style: &'static str,
    script: &'static str,
    policy: String,
    protocols: Vec<Protocol>,
    totals: Vec<Tile>,
    broken: Vec<Row>,
    requirement_states: Vec<Tile>,
    flow_states: Vec<Tile>,
    flows: Vec<Flow>,
}

struct Protocol {
    name: String,
    title: String,
    role: String,
    edition: String,
    target: String,
    seed: u64,
    took: String,
    cut_short: bool,
    bar: Vec<Tile>,
    topics: Vec<Topic>,
    known: Vec<Known>,
}

struct Topic {
    name: String,
    rows: Vec<Row>,
}

#[derive(Clone)]
struct Row {
    id: String,
    short: String,
    level: String,
    role: String,
    state: &'static str,
    sign: &'static str,
    text: String,
    section: String,
    seen: String,
    reason: String,
    protocol: String,
    flows: Vec<Link>,
}

#[derive(Clone)]
struct Link {
    anchor: String,
    name: String,
    state: &'static str,
    sign: &'static str,
}

struct Tile {
    state: &'static str,
    sign: &'static str,
    word: &'static str,
    count: usize,
}

struct Known {
    kind: &'static str,
    subject: String,
    reason: String,
    owner: String,
    expires: String,
    link: String,
    state: String,
    flows: Vec<Link>,
}

struct Flow {
    anchor: String,
    name: String,
    protocol: String,
    role: String,
    state: &'static str,
    sign: &'static str,
    word: String,
    took: String,
    ids: String,
    reason: String,
    searched: String,
    data: String,
}

/// Writes the page.
pub fn html(runs: &[Run]) -> Result<String, askama::Error> {
    let counts = Counts::of(runs);
    let names: Vec<&str> = runs.iter().map(|run| run.report.protocol.as_str()).collect();
    let all = || runs.iter().flat_map(|run| &run.report.requirements);
    let of = |verdict| all().filter(|requirement| requirement.verdict == verdict).count();
    let protocols: Vec<Protocol> = runs.iter().map(protocol).collect();
    let rows = || protocols.iter().flat_map(|protocol| &protocol.topics).flat_map(|topic| &topic.rows);
    let broken: Vec<Row> = rows().filter(|row| row.state == "broken").cloned().collect();
    let (headline, tone) = headline(&counts, of(RequirementVerdict::Broken), of(RequirementVerdict::Kept));
    let transcripts = folder::transcript_names(runs);
    let mut flows: Vec<(u8, Flow)> = Vec::new();
    for run in runs {
        for (place, flow) in run.report.flows.iter().enumerate() {
            let transcript = transcripts.iter().find(|(_, ran, _)| std::ptr::eq(*ran, flow));
            flows.push((
                rank(flow.verdict),
                flow_row(run, place, flow, transcript.map(|(.., name)| name.as_str())),
            ));
        }
    }
    flows.sort_by_key(|(rank, _)| *rank);
    Page {
        title: format!("flowproof: {}", names.join(", ")),
        headline,
        tone,
        version: runs.first().map(|run| run.report.flowproof.clone()).unwrap_or_default(),
        style: STYLE,
        script: SCRIPT,
        policy: policy(),
        broken,
        totals: flow_tiles(&counts),
        requirement_states: requirement_tiles(of),
        flow_states: flow_tiles(&counts),
        flows: flows.into_iter().map(|(_, flow)| flow).collect(),
        protocols,
    }
    .render()
}

/// Nothing is loaded from anywhere, and no script runs but the page's own.
fn policy() -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, SCRIPT.as_bytes());
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; \
         form-action 'none'",
        BASE64.encode(hash)
    )
}

fn headline(counts: &Counts, broken: usize, kept: usize) -> (String, &'static str) {
    let flows = |count: usize| if count == 1 { "1 flow".to_owned() } else { format!("{count} flows") };
    let excused = counts.known + counts.disputed;
    match () {
        () if counts.fail > excused => {
            let what = if broken == 1 {
                "1 requirement is".to_owned()
            } else {
                format!("{broken} requirements are")
            };
            (format!("{what} broken, in {}", flows(counts.fail + counts.warn)), "broken")
        }
        () if counts.error > 0 => (format!("{} could not run", flows(counts.error)), "error"),
        () if excused > 0 => (format!("Only what is known fails: {}", flows(excused)), "warned"),
        () if counts.warn > 0 => (format!("No MUST is broken; {} warn", flows(counts.warn)), "warned"),
        () if kept == 0 => ("Nothing could be judged".to_owned(), "untested"),
        () if counts.inconclusive > 0 => {
            (format!("Nothing is broken; {} could not be judged", flows(counts.inconclusive)), "warned")
        }
        () => (format!("Everything that was tested holds: {kept} requirements"), "kept"),
    }
}

fn rank(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Fail => 0,
        Verdict::Error => 1,
        Verdict::Warn => 2,
        Verdict::Inconclusive => 3,
        Verdict::Pass => 4,
        Verdict::Skip => 5,
    }
}

fn sign(state: &str) -> &'static str {
    match state {
        "kept" | "pass" => "✓",
        "broken" | "fail" => "✗",
        "warned" | "warn" => "!",
        "error" => "⚡",
        "inconclusive" => "?",
        _ => "–",
    }
}

fn flow_tiles(counts: &Counts) -> Vec<Tile> {
    let tile = |state, count| Tile { state, sign: sign(state), word: state, count };
    vec![
        tile("fail", counts.fail),
        tile("error", counts.error),
        tile("warn", counts.warn),
        tile("inconclusive", counts.inconclusive),
        tile("pass", counts.pass),
        tile("skip", counts.skip),
    ]
}

fn requirement_tiles(of: impl Fn(RequirementVerdict) -> usize) -> Vec<Tile> {
    let states = [
        RequirementVerdict::Broken,
        RequirementVerdict::Warned,
        RequirementVerdict::Kept,
        RequirementVerdict::Untested,
    ];
    let tile = |verdict: RequirementVerdict| {
        let state = verdict.word();
        Tile { state, sign: sign(state), word: state, count: of(verdict) }
    };
    states.into_iter().map(tile).collect()
}

fn anchor(run: &Run, flow: &FlowResult) -> String {
    format!("{}/{}/{}", run.report.protocol, flow.role, flow.name)
}

fn link(run: &Run, flow: &FlowResult) -> Link {
    let state = flow.verdict.word();
    Link { anchor: anchor(run, flow), name: escape(&flow.name), state, sign: sign(state) }
}

fn protocol(run: &Run) -> Protocol {
    let report = &run.report;
    let mut topics: Vec<Topic> = Vec::new();
    for result in &report.requirements {
        let Some(known) = run.protocol.catalogue.get(&result.id) else { continue };
        let mut touching: Vec<&FlowResult> = report
            .flows
            .iter()
            .filter(|flow| {
                flow.kept.contains(&result.id)
                    || told(flow, &run.protocol).iter().any(|finding| {
                        matches!(finding.ruling, Ruling::Broken | Ruling::Tolerated)
                            && finding.requirement.as_ref() == Some(&result.id)
                    })
            })
            .collect();
        touching.sort_by_key(|flow| rank(flow.verdict));
        let state = result.verdict.word();
        let start = run.report.protocol.to_uppercase();
        let short = result.id.strip_prefix(&format!("{start}-")).unwrap_or(&result.id).to_owned();
        let row = Row {
            id: result.id.clone(),
            short,
            level: result.level.to_string(),
            role: result.role.replace(',', ", "),
            state,
            sign: sign(state),
            text: known.text.clone(),
            section: known.section.clone(),
            seen: known.seen.clone(),
            reason: escape(result.reason.as_deref().unwrap_or_default()),
            protocol: report.protocol.clone(),
            flows: touching.into_iter().map(|flow| link(run, flow)).collect(),
        };
        match topics.iter_mut().find(|topic| topic.name == known.topic) {
            Some(topic) => topic.rows.push(row),
            None => topics.push(Topic { name: known.topic.clone(), rows: vec![row] }),
        }
    }
    let of = |verdict| report.requirements.iter().filter(|one| one.verdict == verdict).count();
    let entries = report.known.entries.iter().enumerate().map(|(place, entry)| Known {
        kind: entry.kind.word(),
        subject: escape(&entry.subject()),
        reason: escape(&entry.reason),
        owner: escape(entry.owner.as_deref().unwrap_or_default()),
        expires: entry.expires.map(|date| date.to_string()).unwrap_or_default(),
        // Only what a browser opens as a page.
        link: entry
            .link
            .clone()
            .filter(|link| link.starts_with("https://") || link.starts_with("http://"))
            .unwrap_or_default(),
        state: report.known.stale.get(&place).map_or("in force", |stale| stale.word()).to_owned(),
        flows: report
            .known
            .flows_of(place)
            .filter_map(|flow| Some(link(run, report.flows.get(flow)?)))
            .collect(),
    });
    Protocol {
        name: report.protocol.clone(),
        title: run.protocol.settings.title.clone(),
        role: report.target.role.replace(',', ", "),
        edition: report.edition.clone(),
        target: text::cut(&escape(&report.target.address), 300),
        seed: report.seed,
        took: super::human::took(report.took),
        cut_short: report.cut_short,
        bar: requirement_tiles(of),
        topics,
        known: entries.collect(),
    }
}

fn flow_row(run: &Run, place: usize, flow: &FlowResult, transcript: Option<&str>) -> Flow {
    let findings = told(flow, &run.protocol);
    let mut ids: Vec<&str> = findings
        .iter()
        .filter(|finding| matches!(finding.ruling, Ruling::Broken | Ruling::Tolerated))
        .filter_map(|finding| finding.requirement.as_deref())
        .collect();
    ids.dedup();
    let word = match run.report.known.excused(place) {
        Some(Kind::Known) => format!("{}, known", flow.verdict.word()),
        Some(Kind::Disputed) => format!("{}, disputed", flow.verdict.word()),
        None => flow.verdict.word().to_owned(),
    };
    let searched: Vec<&str> = findings.iter().map(|finding| finding.message.as_str()).collect();
    let reason = escape(flow.reason.as_deref().unwrap_or_default());
    Flow {
        anchor: anchor(run, flow),
        name: escape(&flow.name),
        protocol: run.report.protocol.clone(),
        role: flow.role.clone(),
        state: flow.verdict.word(),
        sign: sign(flow.verdict.word()),
        word,
        took: super::human::took(flow.took),
        ids: ids.join(" "),
        reason: text::cut(&reason, 200),
        searched: text::cut(&escape(&searched.join(" ")), SEARCHED),
        data: script_data(&data(run, flow, &findings, transcript)),
    }
}

/// JSON that may stand inside a `script` element: without the one character that could end it.
fn script_data(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

/// What is shown of a flow when it is opened.
fn data(run: &Run, flow: &FlowResult, findings: &[&Finding], transcript: Option<&str>) -> Value {
    let file = run.protocol.flows.iter().find(|file| file.path == flow.file);
    let diagram = Diagram::of_result(flow, file);
    let shown = |words: &str| escape(&text::cut(words, MESSAGE));
    let limit = if flow.verdict == Verdict::Pass { PASSED } else { MESSAGE };
    let items: Vec<Value> = diagram
        .items
        .iter()
        .map(|item| match item {
            Item::Arrow(arrow) => json!([
                arrow.at.map(|at| at.since_start().as_millis().to_string()),
                arrow.from,
                arrow.to,
                escape(&text::cut(&arrow.label, limit)),
                arrow.mark.word()
            ]),
            Item::Note(note) | Item::Open(_, note) | Item::Else(note) => json!([shown(note)]),
            Item::Close => json!([""]),
        })
        .collect();
    json!({
        "summary": file.map(|file| file.summary()).unwrap_or_default(),
        "file": flow.file,
        "reason": shown(flow.reason.as_deref().unwrap_or_default()),
        "again": shown(&run.again(&flow.name)),
        "transcript": transcript,
        "lifelines": diagram.lifelines.iter().map(|name| escape(name)).collect::<Vec<_>>(),
        "items": items,
        "findings": findings.iter().map(|one| finding(run, flow, file, one)).collect::<Vec<_>>(),
    })
}

fn finding(run: &Run, flow: &FlowResult, file: Option<&FlowFile>, finding: &Finding) -> Value {
    let shown = |words: &str| escape(&text::cut(words, MESSAGE));
    let id = finding.requirement.as_deref();
    let known = id.and_then(|id| run.protocol.catalogue.get(id));
    let source =
        finding.line.zip(file).and_then(|(line, file)| file.source.lines().nth(line.saturating_sub(1)));
    let rows = difference::of_finding(finding, &flow.name, file);
    let actual = match &finding.actual {
        Value::Null => String::new(),
        Value::String(words) => shown(words),
        value => shown(&format!("{value:#}")),
    };
    json!({
        "id": id,
        "level": known.map(|known| known.level.to_string()),
        "text": known.map(|known| known.text.as_str()),
        "ruling": match finding.ruling {
            Ruling::Broken => "broken",
            Ruling::Tolerated => "warned",
            Ruling::Noted => "noted",
            Ruling::Undecided => "undecided",
            Ruling::Kept => "kept",
        },
        "judge": match finding.judge {
            Judge::Arrow => "the flow",
            Judge::Schema => "the message catalogue",
            Judge::Monitor => "a monitor",
            Judge::Liveness => "a bystander",
        },
        "by": escape(&finding.by),
        "at": finding.at.to_string(),
        "line": finding.line,
        "source": source.map(shown),
        "message": shown(&finding.message),
        "expected": shown(&finding.expected),
        "actual": actual,
        "rows": rows.map(|rows| rows.iter().map(|row| json!([
            row.depth, escape(&row.expected), escape(&row.actual), row.state.word()
        ])).collect::<Vec<_>>()),
    })
}
