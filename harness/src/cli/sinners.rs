//! `flowproof sinners`: every planted fault against all flows, and what was reported.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::test::{find, target_of};
use super::{exit, output};
use crate::corpus::{Corpus, Protocol};
use crate::pattern::json;
use crate::report::text::Style;
use crate::sinner::Sinner;
use crate::sinner::matrix::{Caught, Program, judge, without_sinner};

/// What `sinners` takes.
#[derive(Debug, Args)]
pub(super) struct SinnersArgs {
    /// Protocols; none: all
    protocols: Vec<String>,
    /// Only sinners whose name contains this; may be given several times
    #[arg(long, value_name = "TEXT")]
    filter: Vec<String>,
    /// Plant the faults in what this program says, in place of the built-in reference: {port} becomes a free port, {url}
    /// the address it is to connect to
    #[arg(long, value_name = "COMMAND", requires = "protocols")]
    exec: Option<String>,
    /// The role that the program plays [default: the one that listens]
    #[arg(long, requires = "exec")]
    role: Option<String>,
    /// What is printed
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    /// Print more: every accusation, with its flow
    #[arg(long, short)]
    verbose: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text for a person
    Human,
    /// An array of objects
    Json,
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
        let role = args.role.clone().or_else(|| {
            protocol.settings.roles.iter().find(|role| role.listens).map(|role| role.name.clone())
        });
        let wanted = |sinner: &&Sinner| {
            let named =
                args.filter.is_empty() || args.filter.iter().any(|part| sinner.name.contains(part.as_str()));
            // Into a program only what rules over its messages express can be planted.
            let possible =
                args.exec.is_none() || sinner.fault.is_none() && role.as_ref() == Some(&sinner.role);
            named && possible
        };
        let mut program = match (&args.exec, &role) {
            (Some(command), Some(role)) => match program(corpus, protocol, role, command) {
                Ok(program) => Some(program),
                Err(error) => {
                    output::complain(&format!("error: {error}"));
                    return exit::USAGE;
                }
            },
            _ => None,
        };
        for sinner in protocol.sinners.iter().filter(wanted) {
            let row = match &mut program {
                None => judge(protocol, sinner),
                Some(program) => program.judge(sinner),
            };
            clean &= row.is_clean();
            if args.format == Format::Human {
                output::print(&line(&row, sinner, style));
                if args.verbose {
                    output::print(&accusations(&row));
                }
            }
            rows.push((protocol.settings.name.clone(), row));
        }
        let anyhow = program.iter().flat_map(Program::breaks_anyhow).collect::<Vec<_>>();
        if args.format == Format::Human && !anyhow.is_empty() {
            output::print(&format!("broken with nothing planted: {}\n", anyhow.join(", ")));
        }
        if args.format == Format::Human && args.filter.is_empty() && args.exec.is_none() {
            output::print(&without(protocol));
        }
    }
    if args.format == Format::Json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|(protocol, row)| {
                serde_json::json!({
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

/// The program that faults are to be planted in.
fn program(corpus: &Corpus, protocol: &Protocol, role: &str, command: &str) -> Result<Program, String> {
    let words = [protocol.settings.name.clone(), format!("--exec={command}"), format!("--role={role}")];
    target_of(&words, corpus, &Arc::new(AtomicBool::new(false))).map(Program::new)
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

fn accusations(row: &Caught) -> String {
    let lines = row.accusations.iter().map(|accusation| {
        let place = accusation.line.map(|line| format!(":{line}")).unwrap_or_default();
        let message = json::cut(&accusation.message, 200);
        format!("          {:<20} {}{place}  {message}\n", accusation.requirement, accusation.flow)
    });
    crate::diagnostic::escape(&lines.collect::<String>())
}

fn without(protocol: &Protocol) -> String {
    let missing: Vec<String> = without_sinner(protocol)
        .into_iter()
        .map(|(requirement, role)| format!("{requirement} ({role})"))
        .collect();
    if missing.is_empty() { String::new() } else { format!("without a sinner: {}\n", missing.join(", ")) }
}
