//! `flowproof test`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use clap::{Args, Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use super::{exit, output, target};
use crate::config::{self, Config as ConfigFile};
use crate::corpus::{Corpus, FlowFile, Protocol, TransportKind, parse_duration};
use crate::diagnostic;
use crate::flow::resolve::nearest;
use crate::known::{self, Assessment, Date, Entry};
use crate::lint;
use crate::report::text::{Style, quoted};
use crate::report::{Report, Run, folder, github, human, json, junit, markdown, standing, tap};
use crate::runner::event::RunEvent;
use crate::runner::plan::{self, Driver, RunSettings};
use crate::runner::run::{BUG, RunConfig, Target, run as run_flows};
use crate::runner::variables::variables;
use crate::runner::verdict::Verdict;
use crate::secret::Secrets;
use crate::sinner::Sinner;
use crate::world::process;
use crate::world::reference::has_reference;

/// Flows side by side against a program that is started, unless told otherwise: they mostly wait.
const JOBS: usize = 8;

/// What `test` takes.
#[derive(Clone, Debug, Args)]
pub(super) struct TestArgs {
    /// Protocols, and the URL of a running target; none: all protocols, the built-in references
    #[arg(value_name = "PROTOCOL|URL")]
    words: Vec<String>,
    /// Start this program and test it: {port} becomes a free port, {url} the address it is to connect to
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
    /// Take the target, its variables and its known failures from this file; what else is given here goes before it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write what fails now into the list of known failures
    #[arg(long, requires = "config")]
    accept: bool,
    /// The role under test; may be given several times [default: the one that listens; for the built-in references all]
    #[arg(long)]
    role: Vec<String>,
    /// Only flows whose name contains this; may be given several times
    #[arg(long, value_name = "TEXT")]
    filter: Vec<String>,
    /// Run this file instead of the protocol's flows, for instance a finding of `fuzz`; may be given several times
    #[arg(long, value_name = "FILE")]
    flow: Vec<PathBuf>,
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
    /// Seeds everything that is drawn; the same seed sends the same messages [default: 1; for a URL another one each
    /// time, since its server may remember the run before]
    #[arg(long)]
    seed: Option<u64>,
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
    /// How a client under test is told what to do [default: auto]
    #[arg(long, value_enum)]
    driver: Option<DriverArg>,
    /// The target with this planted fault: the built-in reference, or what a program says on its way here
    #[arg(long, value_name = "NAME")]
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

pub(super) fn shard(text: &str) -> Result<(usize, usize), String> {
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
pub(super) fn run(args: &TestArgs, corpus: &Corpus, folder: Option<&Path>, colour: bool) -> u8 {
    let stop = Arc::new(AtomicBool::new(false));
    let file = match args.config.as_ref().map(|path| ConfigFile::from_file(path, corpus)).transpose() {
        Ok(file) => file.unwrap_or_default(),
        Err(error) => {
            output::complain(&error);
            return exit::USAGE;
        }
    };
    let given = args;
    let args = &under(args, &file);
    let configs = match configs(args, &file, corpus, &stop) {
        Ok(configs) => configs,
        Err(error) => {
            output::complain(&format!("error: {error}"));
            return exit::USAGE;
        }
    };
    if (folder.is_some() || !args.flow.is_empty()) && !sound(&configs, colour) {
        return exit::USAGE;
    }
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
    let secrets = secrets(args, &file, &configs);
    let mut runs = Vec::new();
    for config in &configs {
        let command = secrets.hide(&command(given, config, folder));
        runs.push(run_one(args, config, &file, &secrets, command, style, log.as_mut()));
    }
    if args.accept
        && let Err(error) = accept(&file, &mut runs, args)
    {
        output::complain(&format!("error: {error}"));
        return exit::USAGE;
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

/// Whether no flow has an error; all errors are told. Flows that are built in were checked when they were.
fn sound(configs: &[RunConfig], colour: bool) -> bool {
    let mut wrong = 0;
    for config in configs {
        // One that has left the path may name what was never heard.
        let on_path = |file: &&FlowFile| !file.tags().contains(&plan::ASTRAY);
        for file in config.protocol.flows.iter().filter(on_path) {
            let problems = lint::problems(file, &config.protocol);
            let errors = problems.iter().filter(|one| one.is_error()).count();
            if errors > 0 {
                output::complain(&diagnostic::render(&problems, &file.path, &file.source, colour));
                wrong += errors;
            }
        }
    }
    if wrong > 0 {
        output::complain(&format!("\n{wrong} errors in flows; nothing was run"));
    }
    wrong == 0
}

/// Runs what the words of a command line ask for, and prints nothing: the door for those who use flowproof as a
/// library, who get just what the command does.
pub(crate) fn collect(words: &[String], corpus: &Corpus, stop: &Arc<AtomicBool>) -> Result<Vec<Run>, String> {
    let mut given = parsed(words)?;
    given.format = Format::Json;
    let file = given.config.as_ref().map(|path| ConfigFile::from_file(path, corpus)).transpose()?;
    let file = file.unwrap_or_default();
    let args = under(&given, &file);
    let configs = configs(&args, &file, corpus, stop)?;
    let secrets = secrets(&args, &file, &configs);
    let runs = configs.iter().map(|config| {
        let command = secrets.hide(&command(&given, config, None));
        run_one(&args, config, &file, &secrets, command, Style::new(false), None)
    });
    Ok(runs.collect())
}

/// What the words of a command line mean as a target, for commands that do something else with it than `test`.
pub(super) fn target_of(
    words: &[String],
    corpus: &Corpus,
    stop: &Arc<AtomicBool>,
) -> Result<RunConfig, String> {
    let args = parsed(words)?;
    let mut configs = configs(&args, &ConfigFile::default(), corpus, stop)?;
    configs.pop().ok_or_else(|| "name a protocol".to_owned())
}

/// Reads the words of a `flowproof test` command line.
fn parsed(words: &[String]) -> Result<TestArgs, String> {
    #[derive(Debug, Parser)]
    #[command(name = "flowproof test", no_binary_name = true)]
    struct Line {
        #[command(flatten)]
        args: TestArgs,
    }
    Line::try_parse_from(words).map(|line| line.args).map_err(|error| error.to_string())
}

/// What is asked for, with the file below it.
fn under(args: &TestArgs, file: &ConfigFile) -> TestArgs {
    let mut args = args.clone();
    if args.config.is_none() {
        return args;
    }
    let named = args.words.iter().any(|word| !word.contains("://"));
    let targeted =
        args.words.iter().any(|word| word.contains("://")) || args.exec.is_some() || args.sinner.is_some();
    if !named {
        args.words.insert(0, file.protocol.clone());
    }
    if !targeted {
        args.words.extend(file.url.clone());
        args.exec = file.exec.clone();
    }
    if args.role.is_empty() {
        args.role = file.roles.clone();
    }
    args.edition = args.edition.or_else(|| file.edition.clone());
    args.timeout = args.timeout.or(file.timeout);
    args.slack = args.slack.or(file.slack);
    args.budget = args.budget.or(file.budget);
    args.jobs = args.jobs.or(file.jobs);
    args.shared |= file.shared;
    args.insecure |= file.insecure;
    args.driver = args.driver.or(match file.driver.as_deref() {
        Some("stdin") => Some(DriverArg::Stdin),
        Some("none") => Some(DriverArg::None),
        _ => None,
    });
    args
}

/// Values that came by the environment, and what is made of them.
fn secrets(args: &TestArgs, file: &ConfigFile, configs: &[RunConfig]) -> Secrets {
    let mut secrets: BTreeMap<String, String> = from_environment().collect();
    secrets.extend(file.secrets.clone());
    for (name, _) in &args.vars {
        secrets.remove(name);
    }
    for config in configs {
        for mint in &config.protocol.settings.mint {
            if secrets.contains_key(&mint.key)
                && let Some(token) = config.settings.variables.get(&mint.variable)
            {
                secrets.insert(mint.variable.clone(), token.clone());
            }
        }
    }
    let members = configs.iter().flat_map(|config| config.protocol.settings.secret_members.clone());
    Secrets::new(&secrets).with_members(members)
}

/// True when a part of the flows was asked for: what did not show then may show in a whole run.
fn is_partial(args: &TestArgs) -> bool {
    !args.filter.is_empty() || !args.tag.is_empty() || args.shard.is_some()
}

/// Reads the list of known failures against a run.
fn assess(report: &mut Report, protocol: &Protocol, entries: &[Entry], args: &TestArgs) {
    let partial = is_partial(args) || report.cut_short;
    report.known = Assessment::of(report, protocol, entries, partial, Date::today());
}

/// Puts entries for what fails now at the end of the file.
fn accept(file: &ConfigFile, runs: &mut [Run], args: &TestArgs) -> Result<(), String> {
    let today = Date::today();
    let mut entries: Vec<Entry> = Vec::new();
    for run in runs.iter() {
        entries.extend(known::accepted(&run.report, &run.protocol, args.strict, today));
    }
    if entries.is_empty() {
        output::complain("nothing to accept: nothing fails that is not in the list");
        return Ok(());
    }
    let failed = |error: std::io::Error| format!("{}: {error}", file.path.display());
    let before = std::fs::read_to_string(&file.path).map_err(failed)?;
    let after = format!("{}\n{}", before.trim_end(), config::accepted(&entries));
    if let Err(error) = toml::from_str::<toml::Table>(&after) {
        return Err(format!(
            "{}: entries cannot be put at its end: {}; is `known` written as [[known]]?",
            file.path.display(),
            error.message()
        ));
    }
    std::fs::write(&file.path, after).map_err(failed)?;
    for entry in &entries {
        output::complain(&format!("accepted: {} into {}", entry.subject(), file.path.display()));
    }
    let all: Vec<Entry> = file.known.iter().cloned().chain(entries).collect();
    for run in runs {
        let protocol = Arc::clone(&run.protocol);
        assess(&mut run.report, &protocol, &all, args);
    }
    Ok(())
}

fn configs(
    args: &TestArgs,
    file: &ConfigFile,
    corpus: &Corpus,
    stop: &Arc<AtomicBool>,
) -> Result<Vec<RunConfig>, String> {
    let (urls, names): (Vec<&String>, Vec<&String>) =
        args.words.iter().partition(|word| word.contains("://"));
    let protocols: Vec<Arc<Protocol>> = if !args.flow.is_empty() {
        vec![with_flows(&args.flow, &names, corpus)?]
    } else if names.is_empty() {
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
        .map(|protocol| config(args, file, protocol, urls.first().map(|url| url.as_str()), stop))
        .collect()
}

/// The protocol that the files are of, with them instead of its own flows.
fn with_flows(paths: &[PathBuf], named: &[&String], corpus: &Corpus) -> Result<Arc<Protocol>, String> {
    let flows = paths.iter().map(|path| FlowFile::read(path)).collect::<Result<Vec<_>, _>>()?;
    let mut of: Vec<&str> = flows.iter().filter_map(FlowFile::protocol).collect();
    of.extend(named.iter().map(|name| name.as_str()));
    of.sort_unstable();
    of.dedup();
    let [name] = of.as_slice() else {
        return Err(format!("flows of one protocol at a time, not of {}", of.join(", ")));
    };
    let protocol = find(corpus, name)?;
    Ok(Arc::new(Protocol { flows, ..(*protocol).clone() }))
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
    file: &ConfigFile,
    protocol: Arc<Protocol>,
    url: Option<&str>,
    stop: &Arc<AtomicBool>,
) -> Result<RunConfig, String> {
    let known: Vec<&str> = protocol.settings.roles.iter().map(|role| role.name.as_str()).collect();
    let listening = protocol.settings.roles.iter().find(|role| role.listens).map(|role| role.name.clone());
    let in_memory = url.is_none() && args.exec.is_none();
    if in_memory && !has_reference(&protocol.settings.name) {
        let name = &protocol.settings.name;
        return Err(format!(
            "{name} has no built-in reference to test; name a target: its URL, or --exec 'YOUR-SERVER {{port}}'"
        ));
    }
    let sinner = args.sinner.as_deref().map(|name| find_sinner(&protocol, name)).transpose()?;
    if let Some(role) = args.role.iter().find(|role| !known.contains(&role.as_str())) {
        let known = known.join(", ");
        return Err(format!("{} has no role `{role}`; it has: {known}", protocol.settings.name));
    }
    let roles = match args.role.as_slice() {
        [] if in_memory => known.iter().map(|role| (*role).to_owned()).collect(),
        [] => {
            let played = sinner.as_ref().map(|sinner| sinner.role.clone());
            vec![played.or(listening).ok_or("name the role under test with --role")?]
        }
        roles => roles.to_vec(),
    };
    let wanted = args.edition.as_ref().or(sinner.as_ref().and_then(|sinner| sinner.edition.as_ref()));
    let edition = edition(&protocol, wanted)?;
    let transport = protocol.settings.transport(&edition);
    let (path, kind) = (transport.default_path.clone(), transport.kind);
    let mut settings = RunSettings::in_memory(&protocol, &edition, seed(args, url.is_some()));
    settings.variables = variables(&protocol.settings, given(args, file), in_memory);
    settings.skips = file.skips.clone();
    settings.started = url.is_none();
    settings.driver = match args.driver.unwrap_or(DriverArg::Auto) {
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
    if let Some(sinner) = sinner.as_ref().filter(|_| !in_memory) {
        settings.planted = Some(plantable(sinner, &roles, kind, url)?);
    }
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

/// A fault that can be planted in a program that is not ours: one that rules over its messages express.
fn plantable(
    sinner: &Sinner,
    roles: &[String],
    kind: TransportKind,
    url: Option<&str>,
) -> Result<Arc<Sinner>, String> {
    let name = &sinner.name;
    if sinner.fault.is_some() {
        return Err(format!("the fault {name} is built into the reference; no rule over messages makes it"));
    }
    if !roles.contains(&sinner.role) {
        return Err(format!("the sinner {name} plays the role {}, not {}", sinner.role, roles.join(", ")));
    }
    if kind == TransportKind::Udp || url.is_some_and(|url| url.starts_with("wss:")) {
        return Err("faults are planted in plain streams: ws:// or tcp://".to_owned());
    }
    Ok(Arc::new(sinner.clone()))
}

/// Variables from the file, those from the environment put over them, those of the command line over both. What should
/// not be seen in a list of processes comes by the environment.
fn given(args: &TestArgs, file: &ConfigFile) -> BTreeMap<String, String> {
    file.variables.clone().into_iter().chain(from_environment()).chain(args.vars.iter().cloned()).collect()
}

/// `FLOWPROOF_VAR_TOKEN` for `token`.
fn from_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars().filter_map(|(name, value)| {
        name.strip_prefix("FLOWPROOF_VAR_").map(|name| (name.to_lowercase().replace('_', "-"), value))
    })
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
pub(super) fn stop_on_interrupt(stop: &Arc<AtomicBool>) -> std::io::Result<()> {
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

fn run_one(
    args: &TestArgs,
    config: &RunConfig,
    file: &ConfigFile,
    secrets: &Secrets,
    command: String,
    style: Style,
    mut log: Option<&mut File>,
) -> Run {
    let human = args.format == Format::Human;
    let mut progress = output::Progress::new(human);
    let mut events = Vec::new();
    let (mut planned, mut done) = (0, 0);
    run_flows(config, &mut |mut event| {
        secrets.hide_event(&mut event);
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
                    output::print(&human::plan_line(&event, style));
                    output::print(&format!("{}\n", standing::plan(&file.known, &config.protocol, style)));
                }
            }
            RunEvent::FlowEnded(flow) => {
                done += usize::from(flow.verdict != Verdict::Skip);
                // Reasons of skips, and how many each has, are told together.
                let shown = match flow.verdict {
                    Verdict::Pass => !args.quiet,
                    Verdict::Skip => args.verbose,
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
    let mut report = Report::from_events(&events, &config.protocol).expect("a run begins before it ends");
    assess(&mut report, &config.protocol, &file.known, args);
    let run = Run { report, protocol: Arc::clone(&config.protocol), command };
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
        text.push_str(&human::summary(report, &config.protocol, is_partial(args), style));
        text.push_str(&standing::summary(report, &file.path.display().to_string(), style));
        if report.flows.is_empty() {
            text.push_str(match args.flow.is_empty() {
                true => "no flow was selected; `flowproof list` shows what there is\n",
                false => "no flow was selected: one that cites no requirement of the role, `[ID]` at the end of an arrow, judges nobody\n",
            });
        }
        output::print(&text);
    }
    run
}

/// The seed that was given, or else one that is the same for all protocols of a run.
fn seed(args: &TestArgs, fresh: bool) -> u64 {
    static FRESH: OnceLock<u64> = OnceLock::new();
    let clock = || {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        since.as_millis() as u64 % 1_000_000_000
    };
    args.seed.unwrap_or_else(|| if fresh { *FRESH.get_or_init(clock) } else { 1 })
}

/// The command that runs this again, up to the choice of a flow.
fn command(args: &TestArgs, config: &RunConfig, folder: Option<&Path>) -> String {
    let flowproof = super::command_with(folder);
    let mut command = match &args.config {
        Some(file) => format!("{flowproof} test --config {}", quoted(&file.display().to_string())),
        None => format!("{flowproof} test {}", config.protocol.settings.name),
    };
    if let Some(url) = args.words.iter().find(|word| word.contains("://")) {
        command.push_str(&format!(" {url}"));
    }
    if let Some(exec) = &args.exec {
        command.push_str(&format!(" --exec {}", quoted(exec)));
    }
    for role in &args.role {
        command.push_str(&format!(" --role {role}"));
    }
    if let Some(sinner) = &args.sinner {
        command.push_str(&format!(" --sinner {sinner}"));
    }
    if let Some(edition) = &args.edition {
        command.push_str(&format!(" --edition {edition}"));
    }
    for (name, value) in &args.vars {
        command.push_str(&format!(" --var {}", quoted(&format!("{name}={value}"))));
    }
    for (name, given) in [("slack", args.slack), ("timeout", args.timeout), ("startup", args.startup)] {
        if let Some(given) = given {
            command.push_str(&format!(" --{name} {}ms", given.as_millis()));
        }
    }
    if let Some(driver) = args.driver.and_then(|driver| driver.to_possible_value()) {
        command.push_str(&format!(" --driver {}", driver.get_name()));
    }
    for (name, given) in [("shared", args.shared), ("insecure", args.insecure)] {
        if given {
            command.push_str(&format!(" --{name}"));
        }
    }
    if config.settings.seed != 1 {
        command.push_str(&format!(" --seed {}", config.settings.seed));
    }
    command
}

fn exit_code(reports: &[&Report], strict: bool) -> u8 {
    let any = |verdict| reports.iter().any(|report| report.count(verdict) > 0);
    // What is left when known failures are taken out.
    let left = |verdict| {
        reports.iter().any(|report| {
            let mut flows = report.flows.iter().enumerate();
            flows.any(|(place, flow)| report.known.remaining(place, flow) == verdict)
        })
    };
    let judged = any(Verdict::Pass) || any(Verdict::Warn) || any(Verdict::Fail);
    let bug = reports.iter().flat_map(|report| &report.flows).any(|flow| {
        flow.verdict == Verdict::Error && flow.reason.as_deref().is_some_and(|reason| reason.starts_with(BUG))
    });
    if bug {
        exit::BUG
    } else if left(Verdict::Fail) || (strict && left(Verdict::Warn)) {
        exit::FAIL
    } else if any(Verdict::Error) {
        if judged { exit::USAGE } else { exit::NOTHING_JUDGED }
    } else if reports.iter().any(|report| report.cut_short) {
        // Whatever was not run might have failed.
        exit::NOTHING_JUDGED
    } else if reports.iter().any(|report| report.known.is_stale()) {
        exit::STALE
    } else if judged {
        exit::OK
    } else {
        exit::NOTHING_JUDGED
    }
}
