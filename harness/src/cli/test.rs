//! `flowproof test`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use super::{exit, output, target};
use crate::corpus::{Corpus, Protocol, TransportKind, parse_duration};
use crate::flow::resolve::nearest;
use crate::report::text::{Style, quoted};
use crate::report::{Report, Run, folder, github, human, json, junit, markdown, tap};
use crate::runner::event::RunEvent;
use crate::runner::plan::{Driver, RunSettings};
use crate::runner::run::{BUG, RunConfig, Target, run as run_flows};
use crate::runner::variables::variables;
use crate::runner::verdict::Verdict;
use crate::sinner::Sinner;
use crate::world::process;

/// Flows side by side against a program that is started, unless told otherwise: they mostly wait.
const JOBS: usize = 8;

/// What `test` takes.
#[derive(Debug, Args)]
pub(super) struct TestArgs {
    /// Protocols, and the URL of a running target; none: all protocols, the built-in references
    #[arg(value_name = "PROTOCOL|URL")]
    words: Vec<String>,
    /// Start this program and test it: {port} becomes a free port, {url} the address it is to connect to
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
    /// The role under test [default: the one that listens; for the built-in references all]
    #[arg(long)]
    role: Option<String>,
    /// Only flows whose name contains this; may be given several times
    #[arg(long, value_name = "TEXT")]
    filter: Vec<String>,
    /// Only flows with this tag; may be given several times
    #[arg(long)]
    tag: Vec<String>,
    /// Flows side by side
    #[arg(long, short, value_name = "N")]
    jobs: Option<usize>,
    /// A warn counts like a fail
    #[arg(long)]
    strict: bool,
    /// Stop after the first fail
    #[arg(long)]
    bail: bool,
    /// How long an arrow waits, for instance 5s
    #[arg(long, value_parser = duration, value_name = "TIME")]
    timeout: Option<Duration>,
    /// How long a program that is started may take until it listens or connects [default: 20s]
    #[arg(long, value_parser = duration, value_name = "TIME")]
    startup: Option<Duration>,
    /// Allowance on every time limit, for instance 250ms
    #[arg(long, value_parser = duration, value_name = "TIME")]
    slack: Option<Duration>,
    /// Seeds everything that is drawn; the same seed sends the same messages
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run each flow so often; what does not show every time is racy
    #[arg(long, default_value_t = 1, value_name = "N")]
    repeat: u32,
    /// Begin no flow after this time, for instance 20s
    #[arg(long, value_parser = duration, value_name = "TIME")]
    budget: Option<Duration>,
    /// Run only part K of N
    #[arg(long, value_parser = shard, value_name = "K/N")]
    shard: Option<(usize, usize)>,
    /// The edition of the protocol [default: the protocol's own]
    #[arg(long)]
    edition: Option<String>,
    /// A variable of the flows, or a setting of the protocol; may be given several times
    #[arg(long = "var", value_parser = variable, value_name = "NAME=VALUE")]
    vars: Vec<(String, String)>,
    /// Strangers use the target at the same time
    #[arg(long)]
    shared: bool,
    /// Accept any certificate of a wss:// target
    #[arg(long)]
    insecure: bool,
    /// How a client under test is told what to do
    #[arg(long, value_enum, default_value_t = DriverArg::Auto)]
    driver: DriverArg,
    /// The built-in reference with this planted fault
    #[arg(long, value_name = "NAME", conflicts_with = "exec")]
    sinner: Option<String>,
    /// What is printed
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    /// Print less: only what did not pass, and the summary
    #[arg(long, short)]
    quiet: bool,
    /// Print more: every flow with its messages
    #[arg(long, short)]
    verbose: bool,
    /// Write the events of the run as they happen, as JSON lines
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Write report.html, report.json, junit.xml, badge.svg, summary.md and one transcript a flow into this folder
    #[arg(long, value_name = "DIR")]
    report_dir: Option<PathBuf>,
}

/// How a client under test is told what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DriverArg {
    /// JSON lines on its standard input; one that does not act on them is not blamed
    Auto,
    /// JSON lines on its standard input; it is expected to act on them
    Stdin,
    /// Not at all
    None,
}

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text for a person
    Human,
    /// The JSON report
    Json,
    /// JUnit XML
    Junit,
    /// Test Anything Protocol
    Tap,
    /// Annotations in the log of a GitHub workflow
    Github,
    /// A page for the summary of a CI job
    Markdown,
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "a time is written 500ms, 2s, 1.5s, 2m".to_owned())
}

fn shard(text: &str) -> Result<(usize, usize), String> {
    let parts = text.split_once('/').and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)));
    match parts {
        Some((part, of)) if (1..=of).contains(&part) => Ok((part, of)),
        _ => Err("a part is written 1/4".to_owned()),
    }
}

pub(super) fn variable(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').map(|(name, value)| (name.trim().to_owned(), value.to_owned()));
    pair.ok_or_else(|| "a variable is written NAME=VALUE".to_owned())
}

/// Runs the command.
pub(super) fn run(args: &TestArgs, corpus: &Corpus, colour: bool) -> u8 {
    let stop = Arc::new(AtomicBool::new(false));
    let configs = match configs(args, corpus, &stop) {
        Ok(configs) => configs,
        Err(error) => {
            output::complain(&format!("error: {error}"));
            return exit::USAGE;
        }
    };
    if let Err(error) = stop_on_interrupt(&stop) {
        output::complain(&format!("warning: an interrupt will not be waited for: {error}"));
    }
    let mut log = match args.log.as_ref().map(File::create).transpose() {
        Ok(log) => log,
        Err(error) => {
            output::complain(&format!("error: the log cannot be written: {error}"));
            return exit::USAGE;
        }
    };
    let style = Style::new(colour && args.format == Format::Human);
    let mut runs = Vec::new();
    for config in &configs {
        runs.push(run_one(args, config, style, log.as_mut()));
    }
    match printed(args.format, &runs) {
        Ok(text) => output::print(&text),
        Err(error) => {
            output::complain(&format!("error: the report cannot be written: {error}"));
            return exit::BUG;
        }
    }
    if let Some(folder) = &args.report_dir
        && let Err(error) = folder::write(folder, &runs)
    {
        output::complain(&format!("error: the report cannot be written to {}: {error}", folder.display()));
        return exit::USAGE;
    }
    let reports: Vec<&Report> = runs.iter().map(|run| &run.report).collect();
    exit_code(&reports, args.strict)
}

/// What is printed at the end in a format for machines; a person was told everything on the way.
fn printed(format: Format, runs: &[Run]) -> Result<String, String> {
    Ok(match format {
        Format::Human => String::new(),
        Format::Json => format!("{:#}\n", json::reports(runs)),
        Format::Junit => junit::junit(runs).map_err(|error| error.to_string())?,
        Format::Tap => tap::tap(runs),
        Format::Github => github::github(runs),
        Format::Markdown => markdown::markdown(runs),
    })
}

fn configs(args: &TestArgs, corpus: &Corpus, stop: &Arc<AtomicBool>) -> Result<Vec<RunConfig>, String> {
    let (urls, names): (Vec<&String>, Vec<&String>) =
        args.words.iter().partition(|word| word.contains("://"));
    let protocols: Vec<Arc<Protocol>> = if names.is_empty() {
        corpus.protocols().collect()
    } else {
        names.iter().map(|name| find(corpus, name)).collect::<Result<_, _>>()?
    };
    if (args.exec.is_some() || !urls.is_empty()) && protocols.len() != 1 {
        return Err("name the one protocol that the target speaks".to_owned());
    }
    if urls.len() + usize::from(args.exec.is_some()) > 1 {
        return Err("one target at a time".to_owned());
    }
    protocols
        .into_iter()
        .map(|protocol| config(args, protocol, urls.first().map(|url| url.as_str()), stop))
        .collect()
}

pub(super) fn find(corpus: &Corpus, name: &str) -> Result<Arc<Protocol>, String> {
    corpus.protocol(name).ok_or_else(|| {
        let known: Vec<String> = corpus.protocols().map(|protocol| protocol.settings.name.clone()).collect();
        match nearest(name, known.iter().map(String::as_str)) {
            Some(near) => format!("there is no protocol `{name}`; did you mean `{near}`?"),
            None => format!("there is no protocol `{name}`; there are: {}", known.join(", ")),
        }
    })
}

pub(super) fn find_sinner(protocol: &Protocol, name: &str) -> Result<Sinner, String> {
    let found = protocol.sinners.iter().find(|sinner| sinner.name == name).cloned();
    found.ok_or_else(|| match nearest(name, protocol.sinners.iter().map(|sinner| sinner.name.as_str())) {
        Some(near) => format!("there is no sinner `{name}`; did you mean `{near}`?"),
        None => format!("there is no sinner `{name}`; `flowproof sinners` lists them"),
    })
}

/// The edition that is wanted, or the protocol's own.
pub(super) fn edition(protocol: &Protocol, wanted: Option<&String>) -> Result<String, String> {
    let edition = wanted.unwrap_or(&protocol.settings.default_edition);
    if protocol.settings.editions.contains(edition) {
        return Ok(edition.clone());
    }
    let editions = protocol.settings.editions.join(", ");
    Err(format!("{} has no edition `{edition}`; it has: {editions}", protocol.settings.name))
}

fn config(
    args: &TestArgs,
    protocol: Arc<Protocol>,
    url: Option<&str>,
    stop: &Arc<AtomicBool>,
) -> Result<RunConfig, String> {
    let known: Vec<&str> = protocol.settings.roles.iter().map(|role| role.name.as_str()).collect();
    let listening = protocol.settings.roles.iter().find(|role| role.listens).map(|role| role.name.clone());
    let in_memory = url.is_none() && args.exec.is_none();
    let sinner = args.sinner.as_deref().map(|name| find_sinner(&protocol, name)).transpose()?;
    let roles = match &args.role {
        Some(role) if known.contains(&role.as_str()) => vec![role.clone()],
        Some(role) => {
            return Err(format!(
                "{} has no role `{role}`; it has: {}",
                protocol.settings.name,
                known.join(", ")
            ));
        }
        None if in_memory => known.iter().map(|role| (*role).to_owned()).collect(),
        None => vec![listening.ok_or("name the role under test with --role")?],
    };
    let wanted = args.edition.as_ref().or(sinner.as_ref().and_then(|sinner| sinner.edition.as_ref()));
    let edition = edition(&protocol, wanted)?;
    let transport = protocol.settings.transport(&edition);
    let (path, kind) = (transport.default_path.clone(), transport.kind);
    let mut settings = RunSettings::in_memory(&protocol, &edition, args.seed);
    settings.variables = variables(&protocol.settings, given(args), in_memory);
    settings.started = url.is_none();
    settings.driver = match args.driver {
        DriverArg::Stdin => Driver::Certain,
        DriverArg::None => Driver::None,
        DriverArg::Auto if in_memory => Driver::Certain,
        DriverArg::Auto => Driver::Perhaps,
    };
    if !in_memory {
        settings.slack = protocol.settings.timing.slack;
        settings.told = args.exec.as_deref().is_some_and(|command| command.contains("{peer"));
    }
    settings.slack = args.slack.unwrap_or(settings.slack);
    settings.timeout = args.timeout.unwrap_or(settings.timeout);
    settings.startup = args.startup.unwrap_or(settings.startup);
    settings.exclusive = !args.shared;
    settings.shared = args.shared;
    let target = match (url, &args.exec) {
        (Some(url), _) => {
            let listens =
                protocol.settings.roles.iter().any(|role| role.listens && roles.contains(&role.name));
            if !listens && kind != TransportKind::Udp {
                return Err(format!(
                    "a {} does not listen; start it with --exec 'COMMAND {{url}}'",
                    roles.join(", ")
                ));
            }
            let parsed = target::parse(url, args.insecure)?;
            settings.host = parsed.host;
            if let Some(path) = parsed.path {
                settings.path = path;
            }
            // Flows run side by side there, and each sees the others' clients.
            settings.exclusive = false;
            settings.addresses = parsed.address.ip().is_loopback();
            Target::Url { url: url.to_owned(), place: parsed.place, address: parsed.address }
        }
        (None, Some(command)) => {
            needs_place(command, kind, &protocol, &roles)?;
            Target::Exec { command: command.clone(), url: format!("{}://{{}}{path}", kind.scheme()) }
        }
        (None, None) => Target::Reference(sinner),
    };
    let jobs = args.jobs.unwrap_or(match target {
        Target::Reference(_) => usize::MAX,
        Target::Url { .. } | Target::Exec { .. } => JOBS,
    });
    Ok(RunConfig {
        protocol,
        roles,
        target,
        settings,
        jobs: jobs.max(1),
        filter: args.filter.clone(),
        tags: args.tag.clone(),
        bail: args.bail,
        repeat: args.repeat,
        shard: args.shard,
        budget: args.budget,
        stop: Arc::clone(stop),
    })
}

/// Variables from the environment (`FLOWPROOF_VAR_TOKEN` for `token`), those of the command line put over them. What
/// should not be seen in a list of processes comes by the environment.
fn given(args: &TestArgs) -> BTreeMap<String, String> {
    let named = |(name, value): (String, String)| {
        name.strip_prefix("FLOWPROOF_VAR_").map(|name| (name.to_lowercase().replace('_', "-"), value))
    };
    std::env::vars().filter_map(named).chain(args.vars.iter().cloned()).collect()
}

/// A program that is started must be told where to listen, or where to connect to.
fn needs_place(
    command: &str,
    kind: TransportKind,
    protocol: &Protocol,
    roles: &[String],
) -> Result<(), String> {
    let listens = protocol.settings.roles.iter().any(|role| role.listens && roles.contains(&role.name));
    let named = |hole: &str| command.contains(hole);
    // A peer may find the others by itself.
    if kind == TransportKind::Udp || named("{port}") || (!listens && named("{url}")) {
        return Ok(());
    }
    Err(match listens {
        true => format!(
            "`{command}` is not told where to listen: write {{port}} in its place, as in 'my-server --port {{port}}'"
        ),
        false => format!(
            "`{command}` is not told where to connect to: write {{url}} in its place, as in 'my-client {{url}}'"
        ),
    })
}

/// The first interrupt, or request to terminate, ends the run with its report; the second ends the program.
fn stop_on_interrupt(stop: &Arc<AtomicBool>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stop = Arc::clone(stop);
    // Signals count from here on, not from whenever the thread comes to run.
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if stop.swap(true, Ordering::Relaxed) {
                    process::kill_all();
                    std::process::exit(i32::from(exit::NOTHING_JUDGED));
                }
                output::complain("\ninterrupted: what was found so far follows; once more ends at once");
            }
        });
    });
    Ok(())
}

fn run_one(args: &TestArgs, config: &RunConfig, style: Style, mut log: Option<&mut File>) -> Run {
    let human = args.format == Format::Human;
    let mut progress = output::Progress::new(human);
    let mut events = Vec::new();
    let (mut planned, mut done) = (0, 0);
    run_flows(config, &mut |event| {
        if let Some(log) = &mut log
            && let Ok(line) = serde_json::to_string(&event)
        {
            // A full disk must not end the run.
            let _ = writeln!(log, "{line}");
        }
        progress.clear();
        match &event {
            RunEvent::Begun { planned: count, .. } => {
                planned = *count;
                if human && !args.quiet {
                    output::print(&format!("{}\n", human::plan_line(&event, style)));
                }
            }
            RunEvent::FlowEnded(flow) => {
                done += usize::from(flow.verdict != Verdict::Skip);
                let shown = match flow.verdict {
                    Verdict::Pass | Verdict::Skip => !args.quiet,
                    _ => true,
                };
                if human && shown {
                    output::print(&format!("{}\n", human::flow_line(flow, style)));
                }
                if human && args.verbose {
                    output::print(&crate::diagnostic::escape(&flow.transcript.to_string()));
                }
                progress.show(&format!("{done} of {planned} flows"));
            }
            RunEvent::FlowStarted { .. } | RunEvent::Ended { .. } => {}
        }
        events.push(event);
    });
    progress.clear();
    let report = Report::from_events(&events, &config.protocol).expect("a run begins before it ends");
    let run = Run { report, protocol: Arc::clone(&config.protocol), command: command(args, config) };
    if human {
        let report = &run.report;
        let mut text = String::new();
        let detail = if args.verbose { human::Detail::Full } else { human::Detail::Short };
        let places = human::telling(report, detail);
        for place in &places {
            let flow = &report.flows[*place];
            let again = run.again(&flow.name);
            text.push('\n');
            text.push_str(&human::failure(flow, &config.protocol, &again, detail, style));
        }
        text.push_str(&human::left_out(report, places.len()));
        text.push('\n');
        let partial = !args.filter.is_empty() || !args.tag.is_empty() || args.shard.is_some();
        text.push_str(&human::summary(report, &config.protocol, partial, style));
        if report.flows.is_empty() {
            text.push_str("no flow was selected; `flowproof list` shows what there is\n");
        }
        output::print(&text);
    }
    run
}

/// The command that runs this again, up to the choice of a flow.
fn command(args: &TestArgs, config: &RunConfig) -> String {
    let mut command = format!("flowproof test {}", config.protocol.settings.name);
    if let Some(url) = args.words.iter().find(|word| word.contains("://")) {
        command.push_str(&format!(" {url}"));
    }
    if let Some(exec) = &args.exec {
        command.push_str(&format!(" --exec {}", quoted(exec)));
    }
    if let Some(role) = &args.role {
        command.push_str(&format!(" --role {role}"));
    }
    if let Some(sinner) = &args.sinner {
        command.push_str(&format!(" --sinner {sinner}"));
    }
    for (name, value) in &args.vars {
        command.push_str(&format!(" --var {}", quoted(&format!("{name}={value}"))));
    }
    if args.seed != 1 {
        command.push_str(&format!(" --seed {}", args.seed));
    }
    command
}

fn exit_code(reports: &[&Report], strict: bool) -> u8 {
    let any = |verdict| reports.iter().any(|report| report.count(verdict) > 0);
    let bug = reports.iter().flat_map(|report| &report.flows).any(|flow| {
        flow.verdict == Verdict::Error && flow.reason.as_deref().is_some_and(|reason| reason.starts_with(BUG))
    });
    if bug {
        exit::BUG
    } else if any(Verdict::Fail) || (strict && any(Verdict::Warn)) {
        exit::FAIL
    } else if reports.iter().flat_map(|report| &report.flows).any(|flow| flow.verdict == Verdict::Error) {
        let judged = any(Verdict::Pass) || any(Verdict::Warn);
        if judged { exit::USAGE } else { exit::NOTHING_JUDGED }
    } else if reports.iter().any(|report| report.cut_short) {
        // Whatever was not run might have failed.
        exit::NOTHING_JUDGED
    } else if any(Verdict::Pass) || any(Verdict::Warn) {
        exit::OK
    } else {
        exit::NOTHING_JUDGED
    }
}
