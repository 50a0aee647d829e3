//! Several reports side by side: implementations, or versions of one. Made from JSON reports alone, which may be old or
//! come from elsewhere: what is not understood is an error, and nothing of them is trusted in the output.

use askama::Template;
use serde::Deserialize;

use super::markdown::{code, words};
use super::text::Style;
use crate::corpus::Corpus;
use crate::diagnostic::escape;
use crate::pattern::json;

/// Characters of a column's name.
const NAME: usize = 40;

/// As much of a report as is compared.
#[derive(Clone, Debug, Deserialize)]
struct Report {
    report: u32,
    protocol: String,
    edition: String,
    target: Target,
    flows: Vec<Flow>,
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, Deserialize)]
struct Target {
    role: String,
    address: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Flow {
    name: String,
    role: String,
    verdict: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Requirement {
    id: String,
    level: String,
    verdict: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Reports {
    Many(Vec<Report>),
    One(Box<Report>),
}

/// The reports of some files beside each other.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// One table a protocol.
    pub tables: Vec<Table>,
}

/// The reports over one protocol.
#[derive(Clone, Debug)]
pub struct Table {
    /// The protocol.
    pub protocol: String,
    /// One a report: its name, and what was tested.
    pub columns: Vec<Column>,
    /// One a requirement.
    pub rows: Vec<Row>,
    /// What is worse in a report than in the one before it.
    pub regressions: Vec<Change>,
    /// What is better.
    pub improvements: Vec<Change>,
}

/// A report in a table.
#[derive(Clone, Debug)]
pub struct Column {
    /// The name of its file.
    pub name: String,
    /// What was tested.
    pub target: String,
    /// Requirements kept, broken, warned, untested.
    pub counts: [usize; 4],
}

/// A requirement in a table.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its id.
    pub id: String,
    /// Its level.
    pub level: String,
    /// What it asks for, when the corpus knows it.
    pub text: String,
    /// Its verdict in each report; `None` where a report does not have it.
    pub verdicts: Vec<Option<Standing>>,
}

/// The verdict of a requirement, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It held.
    Kept,
    /// A poorer reading was seen.
    Warned,
    /// It was broken.
    Broken,
    /// Nothing is known.
    Untested,
}

impl Standing {
    fn read(word: &str) -> Option<Standing> {
        match word {
            "kept" => Some(Standing::Kept),
            "warned" => Some(Standing::Warned),
            "broken" => Some(Standing::Broken),
            "untested" => Some(Standing::Untested),
            _ => None,
        }
    }

    /// The word in reports.
    pub fn word(&self) -> &'static str {
        match self {
            Standing::Kept => "kept",
            Standing::Warned => "warned",
            Standing::Broken => "broken",
            Standing::Untested => "untested",
        }
    }

    fn sign(self) -> &'static str {
        match self {
            Standing::Kept => "✓",
            Standing::Warned => "!",
            Standing::Broken => "✗",
            Standing::Untested => "–",
        }
    }
}

/// A difference between a report and the one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The requirement or the flow.
    pub subject: String,
    /// What it was.
    pub before: String,
    /// What it is.
    pub after: String,
    /// The report in which it was.
    pub from: String,
    /// The report in which it is.
    pub to: String,
}

/// Reads reports, each with the name of its file. The error names the file.
pub fn compare(files: &[(String, String)], corpus: &Corpus) -> Result<Comparison, String> {
    let mut reports: Vec<(String, Report)> = Vec::new();
    for (name, text) in files {
        let read: Reports = serde_json::from_str(text).map_err(|error| {
            format!("{name} is not a report: {error}; write one with `flowproof test --format json`")
        })?;
        let read = match read {
            Reports::Many(many) => many,
            Reports::One(one) => vec![*one],
        };
        if let Some(strange) = read.iter().find(|report| report.report != super::json::VERSION) {
            return Err(format!("{name} is a report of version {}, which is not known here", strange.report));
        }
        let short = name.rsplit('/').next().unwrap_or(name).trim_end_matches(".json");
        let folder = name.rsplit('/').nth(1).unwrap_or_default();
        // Every report of a folder is called alike.
        let short = if short == "report" && !folder.is_empty() { folder } else { short };
        reports.extend(read.into_iter().map(|report| (json::cut(short, NAME), report)));
    }
    let mut names: Vec<String> = Vec::new();
    for (_, report) in &reports {
        if !names.contains(&report.protocol) {
            names.push(report.protocol.clone());
        }
    }
    let tables = names.into_iter().map(|name| {
        let of: Vec<&(String, Report)> =
            reports.iter().filter(|(_, report)| report.protocol == name).collect();
        table(name, &of, corpus)
    });
    Ok(Comparison { tables: tables.collect() })
}

fn table(protocol: String, reports: &[&(String, Report)], corpus: &Corpus) -> Table {
    let known = corpus.protocol(&protocol);
    let mut rows: Vec<Row> = Vec::new();
    for (place, (_, report)) in reports.iter().enumerate() {
        for requirement in &report.requirements {
            let index = match rows.iter().position(|row| row.id == requirement.id) {
                Some(index) => index,
                None => {
                    let text = known.as_ref().and_then(|known| known.catalogue.get(&requirement.id));
                    rows.push(Row {
                        id: requirement.id.clone(),
                        level: requirement.level.clone(),
                        text: text.map(|text| text.text.clone()).unwrap_or_default(),
                        verdicts: vec![None; reports.len()],
                    });
                    rows.len() - 1
                }
            };
            rows[index].verdicts[place] = Standing::read(&requirement.verdict);
        }
    }
    let columns = reports.iter().enumerate().map(|(place, (name, report))| {
        let count = |standing| rows.iter().filter(|row| row.verdicts[place] == Some(standing)).count();
        Column {
            name: name.clone(),
            target: format!(
                "{} {}: {}",
                report.target.role,
                report.edition,
                json::cut(&report.target.address, 2 * NAME)
            ),
            counts: [
                count(Standing::Kept),
                count(Standing::Broken),
                count(Standing::Warned),
                count(Standing::Untested),
            ],
        }
    });
    let columns: Vec<Column> = columns.collect();
    let (mut regressions, mut improvements) = (Vec::new(), Vec::new());
    for (place, pair) in reports.windows(2).enumerate() {
        let [(from, before), (to, after)] = pair else { continue };
        let change = |subject: &str, before: &str, after: &str| Change {
            subject: subject.to_owned(),
            before: before.to_owned(),
            after: after.to_owned(),
            from: from.clone(),
            to: to.clone(),
        };
        for row in &rows {
            let (Some(was), Some(is)) = (row.verdicts[place], row.verdicts[place + 1]) else { continue };
            if was == Standing::Untested || is == Standing::Untested || was == is {
                continue;
            }
            let list = if is > was { &mut regressions } else { &mut improvements };
            list.push(change(&row.id, was.word(), is.word()));
        }
        for flow in &after.flows {
            let same = |old: &&Flow| old.name == flow.name && old.role == flow.role;
            let Some(old) = before.flows.iter().find(same) else { continue };
            let (Some(was), Some(is)) = (rank(&old.verdict), rank(&flow.verdict)) else { continue };
            if was != is {
                let list = if is > was { &mut regressions } else { &mut improvements };
                list.push(change(&format!("{} ({})", flow.name, flow.role), &old.verdict, &flow.verdict));
            }
        }
    }
    Table { protocol, columns, rows, regressions, improvements }
}

/// How bad a judged flow is; what could not be judged is neither better nor worse.
fn rank(verdict: &str) -> Option<u8> {
    match verdict {
        "pass" => Some(0),
        "warn" => Some(1),
        "fail" => Some(2),
        _ => None,
    }
}

impl Comparison {
    /// True when something got worse.
    pub fn has_regressions(&self) -> bool {
        self.tables.iter().any(|table| !table.regressions.is_empty())
    }

    /// For a terminal.
    pub fn text(&self, style: Style) -> String {
        let mut text = String::new();
        for table in &self.tables {
            text.push_str(&format!("{}\n", style.strong(&escape(&table.protocol))));
            for (place, column) in table.columns.iter().enumerate() {
                let [kept, broken, warned, untested] = column.counts;
                text.push_str(&format!(
                    "  {}  {}: {kept} kept, {broken} broken, {warned} warned, {untested} untested  ({})\n",
                    letter(place),
                    escape(&column.name),
                    escape(&column.target)
                ));
            }
            let heads: Vec<String> =
                (0..table.columns.len()).map(|place| format!("{:^3}", letter(place))).collect();
            text.push_str(&format!(
                "\n  {:<24} {:<6} {}\n",
                "requirement",
                "level",
                heads.concat().trim_end()
            ));
            let all_kept = |row: &&Row| row.verdicts.iter().all(|verdict| *verdict == Some(Standing::Kept));
            for row in table.rows.iter().filter(|row| !all_kept(row)) {
                let signs: Vec<String> = row
                    .verdicts
                    .iter()
                    .map(|verdict| match verdict {
                        None => "   ".to_owned(),
                        Some(standing) => {
                            let sign = format!("{:^3}", standing.sign());
                            match standing {
                                Standing::Kept => style.good(&sign),
                                Standing::Warned => style.doubtful(&sign),
                                Standing::Broken => style.bad(&sign),
                                Standing::Untested => style.dim(&sign),
                            }
                        }
                    })
                    .collect();
                let about = json::cut(&row.text.replace('\n', " "), 60);
                text.push_str(&format!(
                    "  {:<24} {:<6} {} {}\n",
                    escape(&row.id),
                    escape(&row.level),
                    signs.concat(),
                    style.dim(&about)
                ));
            }
            match table.rows.iter().filter(all_kept).count() {
                0 => {}
                same => text.push_str(&format!("  {same} more requirements are kept everywhere\n")),
            }
            for (title, changes) in
                [("regressions", &table.regressions), ("improvements", &table.improvements)]
            {
                if changes.is_empty() {
                    continue;
                }
                text.push_str(&format!("\n{title}\n"));
                for change in changes {
                    let line = format!(
                        "{}: {} in {}, {} in {}",
                        escape(&change.subject),
                        escape(&change.before),
                        escape(&change.from),
                        escape(&change.after),
                        escape(&change.to)
                    );
                    let line = if title == "regressions" { style.bad(&line) } else { style.good(&line) };
                    text.push_str(&format!("  {line}\n"));
                }
            }
            text.push('\n');
        }
        text
    }

    /// For the summary of a job.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        for table in &self.tables {
            text.push_str(&format!("## {}\n\n", words(&table.protocol)));
            let names: Vec<String> = table.columns.iter().map(|column| words(&column.name)).collect();
            text.push_str(&format!("| requirement | level | {} |\n", names.join(" | ")));
            text.push_str(&format!("| --- | --- |{}\n", " :---: |".repeat(names.len())));
            for row in &table.rows {
                let cells: Vec<String> = row
                    .verdicts
                    .iter()
                    .map(|verdict| {
                        verdict.map_or(String::new(), |standing| {
                            format!("{} {}", standing.sign(), standing.word())
                        })
                    })
                    .collect();
                text.push_str(&format!(
                    "| {} | {} | {} |\n",
                    code(&row.id),
                    words(&row.level),
                    cells.join(" | ")
                ));
            }
            text.push('\n');
            for (title, changes) in
                [("Regressions", &table.regressions), ("Improvements", &table.improvements)]
            {
                if changes.is_empty() {
                    continue;
                }
                text.push_str(&format!("### {title}\n\n"));
                for change in changes {
                    text.push_str(&format!(
                        "- {}: {} in {}, **{}** in {}\n",
                        code(&change.subject),
                        words(&change.before),
                        words(&change.from),
                        words(&change.after),
                        words(&change.to)
                    ));
                }
                text.push('\n');
            }
        }
        text
    }

    /// One page that opens from disk.
    pub fn html(&self) -> Result<String, askama::Error> {
        Page { style: include_str!("../../templates/report.css"), tables: &self.tables }.render()
    }
}

fn letter(place: usize) -> String {
    char::from_digit(u32::try_from(place).unwrap_or(u32::MAX).saturating_add(10), 36)
        .map_or_else(|| (place + 1).to_string(), |letter| letter.to_ascii_uppercase().to_string())
}

#[derive(Template)]
#[template(path = "compare.html")]
struct Page<'a> {
    style: &'static str,
    tables: &'a [Table],
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(chg: &str, meta: &str, flow: &str) -> String {
        let requirement = |id: &str, verdict: &str| json!({"id": id, "level": "MUST", "role": "server", "verdict": verdict, "flows": [], "reason": null});
        json!({
            "report": 1, "protocol": "hangout", "edition": "v1", "more": true,
            "target": {"kind": "url", "role": "server", "address": "<script>alert(1)</script>\u{1b}[2J"},
            "flows": [{"name": "changes/crowd", "role": "server", "verdict": flow}],
            "requirements": [requirement("HANGOUT-CHG-1", chg), requirement("HANGOUT-META-1", meta)],
        })
        .to_string()
    }

    fn two() -> Comparison {
        let corpus = Corpus::embedded().expect("the corpus in the binary is whole");
        let files = [
            ("out/v1/report.json".to_owned(), report("kept", "broken", "pass")),
            ("out/v2.json".to_owned(), report("broken", "kept", "fail")),
        ];
        compare(&files, &corpus).expect("both are reports")
    }

    #[test]
    fn regressions_and_improvements_are_told() {
        let comparison = two();
        assert!(comparison.has_regressions());
        let text = comparison.text(Style::new(false));
        for line in [
            "  HANGOUT-CHG-1: kept in v1, broken in v2",
            "  changes/crowd (server): pass in v1, fail in v2",
            "  HANGOUT-META-1: broken in v1, kept in v2",
            "  A  v1: 1 kept, 1 broken, 0 warned, 0 untested",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn a_page_and_a_summary_show_the_same_and_run_nothing() {
        let comparison = two();
        let html = comparison.html().expect("it renders");
        assert!(!html.contains("<script") && html.contains("&#60;script&#62;"), "{html}");
        assert!(html.contains("Regressions"));
        let markdown = comparison.markdown();
        assert!(markdown.contains("| <code>HANGOUT-CHG-1</code> | MUST | ✓ kept | ✗ broken |"), "{markdown}");
        assert!(markdown.contains("### Regressions"));
    }

    #[test]
    fn what_is_no_report_is_told_with_its_file() {
        let corpus = Corpus::embedded().expect("the corpus in the binary is whole");
        let error = compare(&[("x.json".to_owned(), "{}".to_owned())], &corpus).expect_err("it is none");
        assert!(error.starts_with("x.json is not a report"), "{error}");
        let new = report("kept", "kept", "pass").replace("\"report\":1", "\"report\":9");
        let error = compare(&[("x.json".to_owned(), new)], &corpus).expect_err("it is too new");
        assert!(error.contains("version 9"), "{error}");
    }
}
