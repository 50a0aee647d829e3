//! What a campaign leaves behind: each finding as a flow that `flowproof test --flow` plays, with its transcript and the
//! facts about it; the conversations that went somewhere new; and where it stood, to go on from there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::campaign::Found;
use super::case::{Case, UNNAMED, line, name};
use super::identity::Identity;
use crate::corpus::FlowFile;
use crate::flow::ast::HeaderItem;
use crate::judge::finding::Finding;
use crate::pattern::json;

/// Conversations that are kept for going on later.
const KEPT: usize = 2000;

/// Where a campaign stood.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Standing {
    /// The protocol.
    pub protocol: String,
    /// The role under test.
    pub role: String,
    /// The edition.
    pub edition: String,
    /// The seed.
    pub seed: u64,
    /// The number of the next case.
    pub next: u64,
    /// Cases made so far.
    pub made: u64,
    /// Cases judged so far.
    pub judged: u64,
    /// Requirements put to the test and held.
    pub kept: BTreeSet<String>,
    /// What was heard last and what was said next, in pairs.
    pub pairs: BTreeSet<(String, String)>,
    /// Pairs that were never reached.
    #[serde(default)]
    pub never: Vec<(String, String)>,
    /// What was found, and how often.
    pub found: Vec<KnownFinding>,
}

/// A finding of an earlier run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KnownFinding {
    /// Which one.
    pub identity: Identity,
    /// How often it showed.
    pub times: u64,
    /// What was told about it.
    pub finding: Finding,
    /// Whether it was confirmed, flaky, or in doubt.
    pub standing: super::campaign::Standing,
    /// Its flow, below the folder.
    pub file: Option<PathBuf>,
}

/// The folder of a campaign.
#[derive(Clone, Debug)]
pub struct Folder(pub PathBuf);

impl Folder {
    /// What an earlier run left, if there was one.
    pub fn standing(&self) -> Result<Option<Standing>, String> {
        let path = self.0.join("campaign.json");
        match fs::read_to_string(&path) {
            Ok(text) => {
                serde_json::from_str(&text).map(Some).map_err(|error| format!("{}: {error}", path.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }

    /// The conversations that an earlier run, or another shard, found worth keeping, and its findings.
    pub fn cases(&self) -> Result<Vec<Case>, String> {
        let mut cases = Vec::new();
        for below in ["corpus", "findings"] {
            let Ok(entries) = fs::read_dir(self.0.join(below)) else { continue };
            let mut paths: Vec<PathBuf> =
                entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
            paths.retain(|path| path.extension().is_some_and(|ending| ending == "flow"));
            paths.sort();
            for path in paths {
                let file = FlowFile::read(&path)?;
                cases.push(Case::as_written(&file, None));
            }
        }
        Ok(cases)
    }

    /// Writes where the campaign stands; a reader never sees half of it.
    pub fn write_standing(&self, standing: &Standing) -> Result<(), String> {
        let text = serde_json::to_string_pretty(standing).map_err(|error| error.to_string())?;
        self.write("campaign.json.new", &text)?;
        let failed = |error: std::io::Error| format!("{}: {error}", self.0.display());
        fs::rename(self.0.join("campaign.json.new"), self.0.join("campaign.json")).map_err(failed)
    }

    /// Writes a conversation that went somewhere new.
    pub fn write_case(&self, number: usize, case: &Case) -> Result<(), String> {
        if number >= KEPT {
            return Ok(());
        }
        self.write(&format!("corpus/{number:05}.flow"), &case.text(&about(case)))
    }

    /// Writes a finding; the path of its flow below the folder.
    pub fn write_finding(&self, found: &Found, below: &str, replay: &str) -> Result<PathBuf, String> {
        let stem = format!("{below}/{}", found.name);
        let flow = PathBuf::from(format!("{stem}.flow"));
        let shown = self.0.join(&flow);
        let mut comment = found.comment.clone();
        comment.push(format!("Again: {replay} --flow {}", shown.display()));
        self.write(&format!("{stem}.flow"), &found.case.text(&comment))?;
        self.write(&format!("{stem}.transcript.txt"), &found.transcript)?;
        let facts = serde_json::json!({
            "identity": found.identity,
            "standing": found.standing,
            "times": found.times,
            "shown": found.shown,
            "level": found.level,
            "origin": found.case.origin,
            "changes": found.case.departures,
            "case": found.number,
            "finding": found.finding,
        });
        self.write(&format!("{stem}.json"), &format!("{facts:#}\n"))?;
        Ok(flow)
    }

    fn write(&self, below: &str, text: &str) -> Result<(), String> {
        let path = self.0.join(below);
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        fs::write(&path, text).map_err(failed)
    }
}

/// The name of a finding's file: its rule, and a number that tells its shapes apart.
pub fn name_of(identity: &Identity, known: &mut BTreeMap<String, usize>) -> String {
    let rule = identity.rule.to_lowercase();
    let count = known.entry(rule.clone()).or_insert(0);
    *count += 1;
    format!("{rule}-{count}")
}

/// The case as it is written down: it says what it is about, so that it is read for the role.
pub fn about_finding(case: &Case, identity: &Identity, is_requirement: bool) -> Case {
    let mut case = case.clone();
    let known = case.flow.header.iter().any(|line| matches!(line.item, HeaderItem::About(_)));
    if is_requirement && !known {
        case.flow.header.push(line(HeaderItem::About(vec![name(&identity.rule)])));
    }
    case
}

/// What a reader of the flow is told first.
pub fn comment(identity: &Identity, finding: &Finding, case: &Case) -> Vec<String> {
    let one_line = |text: &str| json::cut(&crate::diagnostic::escape(text).replace('\n', " "), 300);
    let mut lines = vec![format!("{identity}: {}", one_line(&finding.message))];
    if !finding.expected.is_empty() {
        lines.push(format!("Expected: {}", one_line(&finding.expected)));
    }
    if !finding.actual.is_null() {
        lines.push(format!("Found: {}", one_line(&finding.actual.to_string())));
    }
    lines.extend(about(case));
    lines
}

fn about(case: &Case) -> Vec<String> {
    let origin = if case.origin == UNNAMED { String::new() } else { format!("Made from {}", case.origin) };
    let mut lines: Vec<String> = Some(origin).filter(|origin| !origin.is_empty()).into_iter().collect();
    lines.extend(case.departures.iter().map(|change| {
        let change: String = json::cut(&crate::diagnostic::escape(change).replace('\n', " "), 160);
        format!("- {change}")
    }));
    lines
}
