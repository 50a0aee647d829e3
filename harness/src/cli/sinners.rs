//! `flowproof sinners`: every planted fault against all flows, and what was reported.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::test::find;
use super::{exit, output};
use crate::corpus::{Corpus, Protocol};
use crate::report::Report;
use crate::report::text::Style;
use crate::runner::plan::RunSettings;
use crate::runner::run::{RunConfig, Target, run as run_flows};
use crate::sinner::Sinner;

/// What `sinners` takes.
#[derive(Debug, Args)]
pub(super) struct SinnersArgs {
    /// Protocols; none: all
    protocols: Vec<String>,
    /// Only sinners whose name contains this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// What is printed
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text for a person
    Human,
    /// An array of objects
    Json,
}

/// What became of one sinner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caught {
    /// The sinner's name.
    pub name: String,
    /// The requirement it breaks.
    pub requirement: String,
    /// The role it plays.
    pub role: String,
    /// Its requirement was reported broken.
    pub caught: bool,
    /// What else was reported broken, and does not follow from it.
    pub stray: Vec<String>,
}

/// Runs a sinner against all flows of its role.
pub(crate) fn judge(protocol: &Arc<Protocol>, sinner: &Sinner) -> Caught {
    let edition = sinner.edition.as_ref().unwrap_or(&protocol.settings.default_edition);
    let config = RunConfig {
        protocol: Arc::clone(protocol),
        roles: vec![sinner.role.clone()],
        target: Target::Reference(Some(sinner.clone())),
        settings: RunSettings::in_memory(protocol, edition, 1),
        jobs: usize::MAX,
        filter: Vec::new(),
        tags: Vec::new(),
        bail: false,
        repeat: 1,
        shard: None,
        budget: None,
        stop: Arc::new(AtomicBool::new(false)),
    };
    let mut events = Vec::new();
    run_flows(&config, &mut |event| events.push(event));
    let accused = Report::from_events(&events, protocol).map(|report| report.accused()).unwrap_or_default();
    let expected: BTreeSet<&String> = sinner.also.iter().chain([&sinner.requirement]).collect();
    Caught {
        name: sinner.name.clone(),
        requirement: sinner.requirement.clone(),
        role: sinner.role.clone(),
        caught: accused.contains(&sinner.requirement),
        stray: accused.iter().filter(|id| !expected.contains(id)).cloned().collect(),
    }
}

/// Runs the command.
pub(super) fn run(args: &SinnersArgs, corpus: &Corpus, colour: bool) -> u8 {
    let protocols: Result<Vec<Arc<Protocol>>, String> = if args.protocols.is_empty() {
        Ok(corpus.protocols().collect())
    } else {
        args.protocols.iter().map(|name| find(corpus, name)).collect()
    };
    let protocols = match protocols {
        Ok(protocols) => protocols,
        Err(error) => {
            output::complain(&format!("error: {error}"));
            return exit::USAGE;
        }
    };
    let style = Style::new(colour && args.format == Format::Human);
    let mut rows = Vec::new();
    let mut clean = true;
    for protocol in &protocols {
        let wanted =
            |sinner: &&Sinner| args.filter.as_ref().is_none_or(|part| sinner.name.contains(part.as_str()));
        for sinner in protocol.sinners.iter().filter(wanted) {
            let row = judge(protocol, sinner);
            clean &= row.caught && row.stray.is_empty();
            if args.format == Format::Human {
                output::print(&line(&row, sinner, style));
            }
            rows.push((protocol.settings.name.clone(), row));
        }
        if args.format == Format::Human && args.filter.is_none() {
            output::print(&without(protocol));
        }
    }
    if args.format == Format::Json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|(protocol, row)| {
                json!({
                    "protocol": protocol, "name": row.name, "requirement": row.requirement, "role": row.role,
                    "caught": row.caught, "stray": row.stray,
                })
            })
            .collect();
        output::print(&format!("{:#}\n", Value::from(rows)));
    } else {
        let caught = rows.iter().filter(|(_, row)| row.caught).count();
        let strays = rows.iter().filter(|(_, row)| !row.stray.is_empty()).count();
        output::print(&format!("{} sinners: {caught} caught, {strays} with stray accusations\n", rows.len()));
    }
    match (rows.is_empty(), clean) {
        (true, _) => exit::NOTHING_JUDGED,
        (false, true) => exit::OK,
        (false, false) => exit::FAIL,
    }
}

fn line(row: &Caught, sinner: &Sinner, style: Style) -> String {
    let word = match (row.caught, row.stray.is_empty()) {
        (true, true) => style.good("caught"),
        (true, false) => style.doubtful("stray "),
        (false, _) => style.bad("MISSED"),
    };
    let stray =
        if row.stray.is_empty() { String::new() } else { format!("  also accused: {}", row.stray.join(" ")) };
    format!("{word}  {:<20} {:<34} {}{stray}\n", row.requirement, row.name, sinner.summary)
}

/// Requirements that no sinner breaks: not yet known to be tested.
fn without(protocol: &Protocol) -> String {
    let missing: Vec<String> = protocol
        .catalogue
        .iter()
        .filter(|requirement| requirement.untested.is_none())
        .flat_map(|requirement| requirement.roles.iter().map(move |role| (requirement, role)))
        .filter(|(requirement, role)| {
            !protocol
                .sinners
                .iter()
                .any(|sinner| sinner.requirement == requirement.id && sinner.role == **role)
        })
        .map(|(requirement, role)| format!("{} ({role})", requirement.id))
        .collect();
    if missing.is_empty() { String::new() } else { format!("without a sinner: {}\n", missing.join(", ")) }
}
