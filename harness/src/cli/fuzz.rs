//! `flowproof fuzz`: a campaign, live on the screen or as a plain log, and what came of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use clap::Args;

use super::test::{self, duration, shard, variable};
use super::{exit, output};
use crate::corpus::Corpus;
use crate::diagnostic::escape;
use crate::fuzz::campaign::{self, Config, Event, Found, Progress, Standing, Summary};
use crate::fuzz::play::Stage;
use crate::fuzz::seeds;
use crate::fuzz::written::Folder;
use crate::judge::catalogue::Level;
use crate::report::text::{Style, quoted};
use crate::runner::run::{RunConfig, Target};

/// How long a campaign takes that is told neither time nor cases.
const TIME: Duration = Duration::from_secs(60);
/// Conversations in flight of each worker, on a network.
const WIDTH: usize = 24;
/// Workers on a network: they mostly wait.
const JOBS: usize = 2;
/// Allowance on time limits: many conversations at the same time make a target slow.
const SLACK: Duration = Duration::from_secs(2);
/// How often a plain log tells how far it is.
const LOG: Duration = Duration::from_secs(5);
/// Names that are listed before the rest is counted.
const LISTED: usize = 12;

/// What `fuzz` takes.
#[derive(Debug, Args)]
pub(super) struct FuzzArgs {
    /// The protocol
    protocol: String,
    /// The URL of a running target; none: the built-in reference, or --exec
    #[arg(value_name = "URL")]
    url: Option<String>,
    /// Start this program and fuzz it: {port} becomes a free port, {url} the address it is to connect to
    #[arg(long, value_name = "COMMAND", conflicts_with = "url")]
    exec: Option<String>,
    /// The role under test [default: the one that listens]
    #[arg(long)]
    role: Option<String>,
    /// How long, for instance 10m [default: 60s, unless --cases is given]
    #[arg(long, value_parser = duration, value_name = "TIME")]
    time: Option<Duration>,
    /// How many conversations
    #[arg(long, value_name = "N")]
    cases: Option<u64>,
    /// Stop after so many findings
    #[arg(long, value_name = "N")]
    findings: Option<usize>,
    /// Seeds everything that is drawn; with --jobs 1 the same seed makes the same conversations [default: from the clock]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Workers; each has a program of its own where one is started
    #[arg(long, short, value_name = "N")]
    jobs: Option<usize>,
    /// Conversations in flight of each worker, on a network
    #[arg(long, default_value_t = WIDTH, value_name = "N")]
    width: usize,
    /// Write findings here; go on where an earlier campaign in this folder ended
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Take over the conversations of another campaign's folder; may be given several times
    #[arg(long, value_name = "DIR")]
    merge: Vec<PathBuf>,
    /// Make only part K of N of the conversations
    #[arg(long, value_parser = shard, value_name = "K/N")]
    shard: Option<(usize, usize)>,
    /// Do not play the flows as they are written, only changed ones
    #[arg(long)]
    only_changed: bool,
    /// A program that is started may grow by so many MiB
    #[arg(long, default_value_t = 512, value_name = "MIB")]
    growth: u64,
    /// What only should be counts like what must be
    #[arg(long)]
    strict: bool,
    /// The edition of the protocol [default: the protocol's own]
    #[arg(long)]
    edition: Option<String>,
    /// A variable of the flows, or a setting of the protocol; may be given several times
    #[arg(long = "var", value_parser = variable, value_name = "NAME=VALUE")]
    vars: Vec<(String, String)>,
    /// How long a program that is started may take until it listens or connects [default: 20s]
    #[arg(long, value_parser = duration, value_name = "TIME")]
    startup: Option<Duration>,
    /// Accept any certificate of a wss:// target
    #[arg(long)]
    insecure: bool,
    /// The built-in reference with this planted fault
    #[arg(long, value_name = "NAME", conflicts_with_all = ["exec", "url"])]
    sinner: Option<String>,
    /// Print the protocol's words for other fuzzers, in libFuzzer's form, and do nothing else
    #[arg(long, conflicts_with = "print_seeds")]
    print_dictionary: bool,
    /// Print the messages that the protocol's flows send, one a line, and do nothing else
    #[arg(long)]
    print_seeds: bool,
}

impl FuzzArgs {
    /// The words of `flowproof test` that mean the same target.
    fn words(&self) -> Vec<String> {
        let mut words = vec![self.protocol.clone()];
        words.extend(self.url.clone());
        let mut option = |name: &str, value: Option<&String>| {
            words.extend(value.map(|value| format!("--{name}={value}")));
        };
        option("exec", self.exec.as_ref());
        option("role", self.role.as_ref());
        option("edition", self.edition.as_ref());
        option("sinner", self.sinner.as_ref());
        option("startup", self.startup.map(|time| format!("{}ms", time.as_millis())).as_ref());
        for (name, value) in &self.vars {
            words.push(format!("--var={name}={value}"));
        }
        if self.insecure {
            words.push("--insecure".to_owned());
        }
        words
    }

    /// The command that plays a finding again.
    fn replay(&self, role: &str) -> String {
        let mut command = format!("flowproof test {}", self.protocol);
        let mut add = |text: String| {
            command.push(' ');
            command.push_str(&text);
        };
        self.url.iter().for_each(|url| add(quoted(url)));
        self.exec.iter().for_each(|exec| add(format!("--exec {}", quoted(exec))));
        self.edition.iter().for_each(|edition| add(format!("--edition {edition}")));
        self.sinner.iter().for_each(|sinner| add(format!("--sinner {sinner}")));
        self.vars
            .iter()
            .for_each(|(name, value)| add(format!("--var {}", quoted(&format!("{name}={value}")))));
        add(format!("--role {role}"));
        command
    }
}

/// Runs the command.
pub(super) fn run(args: &FuzzArgs, corpus: &Corpus, colour: bool) -> u8 {
    match fuzz(args, corpus, colour) {
        Ok(code) => code,
        Err(error) => {
            output::complain(&format!("error: {error}"));
            exit::USAGE
        }
    }
}

fn fuzz(args: &FuzzArgs, corpus: &Corpus, colour: bool) -> Result<u8, String> {
    let protocol = test::find(corpus, &args.protocol)?;
    if args.print_dictionary {
        output::print(&seeds::dictionary(&protocol));
        return Ok(exit::OK);
    }
    if args.print_seeds {
        seeds::messages(&protocol).iter().for_each(|message| output::print(&format!("{message}\n")));
        return Ok(exit::OK);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let target = test::target_of(&args.words(), corpus, &stop)?;
    let config = config(args, target, &stop)?;
    if let Err(error) = test::stop_on_interrupt(&stop) {
        output::complain(&format!("warning: an interrupt will not be waited for: {error}"));
    }
    let style = Style::new(colour);
    output::print(&begin(args, &config));
    let mut screen = Screen {
        progress: output::Progress::new(true),
        style,
        logged: Instant::now(),
        out: args.out.is_some(),
    };
    let summary = campaign::run(&config, &mut |event| screen.show(&event))?;
    screen.progress.clear();
    output::print(&end(&config, &summary, args));
    Ok(exit_code(&summary, args.strict))
}

fn config(args: &FuzzArgs, target: RunConfig, stop: &Arc<AtomicBool>) -> Result<Config, String> {
    let protocol = target.protocol;
    let role = match (&args.role, &target.target) {
        (Some(role), _) => role.clone(),
        (None, Target::Reference(Some(sinner))) => sinner.role.clone(),
        (None, _) => {
            let listens =
                protocol.settings.roles.iter().find(|role| role.listens && target.roles.contains(&role.name));
            let any = target.roles.first();
            listens.map(|role| &role.name).or(any).cloned().ok_or("the protocol has no role")?
        }
    };
    let mut settings = target.settings;
    let in_memory = matches!(target.target, Target::Reference(_));
    if !in_memory {
        settings.slack = settings.slack.max(SLACK);
        // Others are there at the same time: those of the other conversations.
        settings.exclusive = false;
    }
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(1..1_000_000_000));
    let (part, of) = args.shard.unwrap_or((1, 1));
    let replay = args.replay(&role);
    Ok(Config {
        stage: Stage { protocol, role, settings },
        target: target.target,
        time: args.time.or(args.cases.is_none().then_some(TIME)),
        cases: args.cases,
        findings: args.findings,
        seed,
        jobs: args.jobs.unwrap_or(if in_memory { cores } else { JOBS }).max(1),
        width: args.width.max(1),
        out: args.out.clone().map(Folder),
        merge: args.merge.iter().cloned().map(Folder).collect(),
        shard: (part as u64 - 1, of as u64),
        as_written: !args.only_changed,
        replay,
        growth: args.growth << 20,
        stop: Arc::clone(stop),
    })
}

fn begin(args: &FuzzArgs, config: &Config) -> String {
    let stage = &config.stage;
    let target = match &config.target {
        Target::Reference(None) => "the built-in reference, in memory".to_owned(),
        Target::Reference(Some(sinner)) => {
            format!("the built-in reference with the fault {}, in memory", sinner.name)
        }
        Target::Url { url, .. } => url.clone(),
        Target::Exec { command, .. } => format!("`{command}`"),
    };
    let mut text = format!(
        "flowproof {}  fuzzing the {} of {} (edition {}) against {target}\nseed {}",
        env!("CARGO_PKG_VERSION"),
        stage.role,
        stage.protocol.settings.name,
        stage.settings.edition,
        config.seed,
    );
    if let Some(time) = config.time {
        let _ = write!(text, ", for {time:.0?}");
    }
    if let Some(cases) = config.cases {
        let _ = write!(text, ", {cases} conversations");
    }
    if let Some((part, of)) = args.shard {
        let _ = write!(text, ", part {part} of {of}");
    }
    text.push_str("\n\n");
    text
}

/// What somebody who watches sees: a line that is written over, or a log.
struct Screen {
    progress: output::Progress,
    style: Style,
    logged: Instant,
    out: bool,
}

impl Screen {
    fn show(&mut self, event: &Event) {
        match event {
            Event::Progress(progress) => {
                let line = progress_line(progress);
                self.progress.show(&line);
                if !std::io::stderr().is_terminal() && self.logged.elapsed() >= LOG {
                    self.logged = Instant::now();
                    output::complain(&line);
                }
            }
            Event::Found(found) => {
                self.progress.clear();
                output::print(&told(found, self.out, self.style));
            }
            Event::Note(note) => {
                self.progress.clear();
                output::print(&format!("  note    {}\n", escape(note)));
            }
        }
    }
}

fn progress_line(progress: &Progress) -> String {
    let seconds = progress.took.as_secs_f64().max(0.001);
    format!(
        "{:>4.0} s  {} conversations ({:.0}/s), {} messages ({:.0}/s), {} states x kinds, {} requirements, {} findings",
        seconds,
        progress.made,
        progress.made as f64 / seconds,
        progress.messages,
        progress.messages as f64 / seconds,
        progress.pairs,
        progress.requirements,
        progress.found,
    )
}

fn word(found: &Found) -> &'static str {
    match (found.standing, found.level) {
        (Standing::Confirmed | Standing::Once, Level::Must) => "found",
        (Standing::Confirmed | Standing::Once, _) => "warning",
        (Standing::Flaky, _) => "flaky",
        (Standing::Doubtful, _) => "doubt",
    }
}

/// A finding as it is told when it is made.
fn told(found: &Found, written: bool, style: Style) -> String {
    let mut text = String::new();
    let head = format!("  {:<7} {}", word(found), found.identity);
    let head = if found.is_fail() { style.bad(&head) } else { head };
    let plural = if found.sends == 1 { "" } else { "s" };
    let _ = writeln!(text, "{head}   {} message{plural} of ours", found.sends);
    let _ = writeln!(text, "          {}", escape(&crate::pattern::json::cut(&found.finding.message, 300)));
    if found.shown.1 > 0 && found.standing == Standing::Flaky {
        let _ = writeln!(
            text,
            "          it showed {} of {} times when tried again",
            found.shown.0, found.shown.1
        );
    }
    if found.standing == Standing::Doubtful {
        let _ =
            writeln!(text, "          the built-in reference is accused of the same here: it is kept apart");
    }
    match &found.file {
        Some(file) => {
            let _ = writeln!(text, "          written to {}", file.display());
        }
        None if !written && found.counts() => {
            for line in found.case.text(&[]).lines() {
                let _ = writeln!(text, "          | {}", escape(&crate::pattern::json::cut(line, 200)));
            }
        }
        None => {}
    }
    text
}

fn end(config: &Config, summary: &Summary, args: &FuzzArgs) -> String {
    let mut text = format!("\n{}\n", progress_line(&summary.progress));
    let _ = writeln!(
        text,
        "{} conversations made, {} judged, {} could not be played; seed {}",
        summary.progress.made, summary.progress.judged, summary.unplayable, config.seed
    );
    if let Some(nothing) = &summary.nothing {
        let _ = writeln!(text, "{}", escape(nothing));
    }
    let list = |names: &[String]| {
        let mut line = names.iter().take(LISTED).cloned().collect::<Vec<_>>().join(", ");
        if names.len() > LISTED {
            let _ = write!(line, ", and {} more", names.len() - LISTED);
        }
        line
    };
    if !summary.untouched.is_empty() {
        let _ = writeln!(text, "never put to the test: {}", list(&summary.untouched));
    }
    if !summary.never.is_empty() {
        let pairs: Vec<String> =
            summary.never.iter().map(|(heard, said)| format!("`{said}` after `{heard}`")).collect();
        let _ = writeln!(text, "never said: {}", list(&pairs));
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for found in &summary.found {
        *counts.entry(word(found)).or_default() += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    let counts = if counts.is_empty() { "nothing found".to_owned() } else { counts.join(", ") };
    let _ = write!(text, "{}: {counts}", config.stage.protocol.settings.name);
    if summary.alike > 0 {
        let _ = write!(text, "; {} more of the same kind were counted only", summary.alike);
    }
    let earlier = summary.earlier.iter().filter(|known| known.standing != Standing::Doubtful).count();
    if earlier > 0 {
        let _ = write!(text, "; {earlier} known from before");
    }
    text.push('\n');
    if let Some(out) = &args.out {
        let _ = writeln!(text, "written to {}; a flow of it is played again with", out.display());
        let _ = writeln!(text, "  {} --flow {}", config.replay, out.join("findings/NAME.flow").display());
    }
    text
}

fn exit_code(summary: &Summary, strict: bool) -> u8 {
    let earlier = summary.earlier.iter().any(|known| known.standing == Standing::Confirmed);
    if summary.found.iter().any(|found| found.is_fail() || (strict && found.counts())) || earlier {
        exit::FAIL
    } else if summary.progress.judged == 0 {
        exit::NOTHING_JUDGED
    } else {
        exit::OK
    }
}
