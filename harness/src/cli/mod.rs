//! The command line: what it takes, and what each command does with it.

mod catalogue;
mod compare;
mod explain;
mod fuzz;
mod live;
mod new;
mod output;
mod serve;
mod show;
mod sinners;
mod target;
pub(crate) mod test;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::corpus::{Corpus, CorpusError};

/// Exit codes of the command.
pub mod exit {
    /// No fail.
    pub const OK: u8 = 0;
    /// A fail; with `--strict` also a warn.
    pub const FAIL: u8 = 1;
    /// Wrong use, or a wrong flow file.
    pub const USAGE: u8 = 2;
    /// Nothing could be judged.
    pub const NOTHING_JUDGED: u8 = 3;
    /// Only the list of known failures is stale.
    pub const STALE: u8 = 4;
    /// A bug of ours.
    pub const BUG: u8 = 5;
}

/// Checks that programs which talk to each other in JSON messages follow the documented message flows.
#[derive(Debug, Parser)]
#[command(name = "flowproof", version, max_term_width = 110)]
struct Command {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    what: What,
}

/// What every command takes.
#[derive(Debug, Args)]
struct Common {
    /// Use the protocols of this folder instead of those built in
    #[arg(long, global = true, value_name = "DIR")]
    corpus: Option<PathBuf>,
    /// Show no colours (also: set NO_COLOR)
    #[arg(long, alias = "no-colour", global = true)]
    no_color: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Test the built-in references, a running server, or a program that is started
    #[command(
        long_about = "Test the built-in references (no further words), a server that is running (its URL), or a \
                            program that flowproof starts (--exec).\n\nExit code: 0 no fail, 1 a fail (with --strict \
                            also a warn), 2 wrong use or a wrong flow file, 3 nothing could be judged, or the run was cut \
                            short without a fail, 4 only the list of known failures is stale, 5 a bug of flowproof.",
        after_long_help = "Examples:\n  flowproof test                                     all built-in references, in \
                           memory\n  flowproof test hangout ws://127.0.0.1:13372        a server that is running\n  \
                           flowproof test hangout --exec 'my-server {port}'   a server that is started, each time it \
                           is needed\n  flowproof test hangout --role client --exec 'my-client {url}'\n\nA flow ends \
                           with pass, warn (only a SHOULD was broken), fail (a MUST was broken), skip, inconclusive \
                           (???? - it could not be judged) or error (flowproof, the flow or this machine is at \
                           fault). `flowproof explain ID` tells of a requirement."
    )]
    Test(Box<test::TestArgs>),
    /// Look for faults with conversations that nobody wrote down
    #[command(
        long_about = "Have conversations that follow the protocol's flows to deep states and leave them there, with a \
                            running server (its URL), a program that flowproof starts (--exec), or the built-in \
                            reference.\n\nEach finding is shown again, made small, and with --out written as a flow that \
                            `flowproof test --flow FILE` plays again.\n\nExit code: 0 nothing that MUST not be, 1 a \
                            finding, 2 wrong use, 3 nothing could be judged."
    )]
    Fuzz(Box<fuzz::FuzzArgs>),
    /// List the flows of a protocol
    List(catalogue::ListArgs),
    /// Explain a requirement: its text, where it stands, which flows and sinners show it
    Explain(explain::ExplainArgs),
    /// Show a flow, or all that is known of a protocol, as text, picture or document
    Show(show::ShowArgs),
    /// Write flow files in the one style
    Fmt(catalogue::FmtArgs),
    /// Check flow files without running them
    Lint(catalogue::LintArgs),
    /// Make a folder for a protocol of one's own
    New(new::NewArgs),
    /// Run the reference implementation, to develop against
    Serve(serve::ServeArgs),
    /// Stand between real clients and a real server, and judge both as they talk
    Proxy(live::ProxyArgs),
    /// Judge a recording: a trace, or a HAR file with WebSocket messages
    Judge(live::JudgeArgs),
    /// Put reports side by side: implementations, or versions of one
    Compare(compare::CompareArgs),
    /// Show that every planted fault is caught under its requirement, and only there
    Sinners(sinners::SinnersArgs),
    /// Show which flow or monitor keeps watch over each requirement
    Coverage(catalogue::CoverageArgs),
}

/// Runs the command.
pub fn main() -> ExitCode {
    let command = match Command::try_parse() {
        Ok(command) => command,
        Err(error) => {
            let code = if error.use_stderr() { exit::USAGE } else { exit::OK };
            // Where even that cannot be printed, the exit code still tells.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let colour = output::colour(command.common.no_color);
    let corpus = match load(&command.common) {
        Ok(corpus) => corpus,
        // `fmt` and `lint` are there to mend what is broken.
        Err(_) if matches!(command.what, What::Fmt(_)) => Corpus::empty(),
        Err(error) => {
            error.messages.iter().for_each(|message| output::complain(message));
            return ExitCode::from(exit::USAGE);
        }
    };
    let folder = command.common.corpus.as_deref();
    let code = match &command.what {
        What::Test(args) => test::run(args, &corpus, folder, colour),
        What::Fuzz(args) => fuzz::run(args, &corpus, colour),
        What::List(args) => catalogue::list(args, &corpus),
        What::Explain(args) => explain::run_explain(args, &corpus, folder, colour),
        What::Show(args) => show::run(args, &corpus),
        What::Fmt(args) => catalogue::fmt(args),
        What::Lint(args) => catalogue::lint(args, &corpus, colour),
        What::New(args) => new::run(args, &corpus),
        What::Serve(args) => serve::run(args, &corpus),
        What::Proxy(args) => live::proxy(args, &corpus, colour),
        What::Judge(args) => live::judge(args, &corpus, colour),
        What::Compare(args) => compare::run(args, &corpus, colour),
        What::Sinners(args) => sinners::run(args, &corpus, colour),
        What::Coverage(args) => catalogue::coverage(args, &corpus),
    };
    ExitCode::from(code)
}

/// The command's name with the corpus that was given, as one would write it again.
fn command_with(corpus: Option<&Path>) -> String {
    match corpus {
        Some(folder) => {
            format!("flowproof --corpus {}", crate::report::text::quoted(&folder.display().to_string()))
        }
        None => "flowproof".to_owned(),
    }
}

fn load(common: &Common) -> Result<Corpus, CorpusError> {
    match &common.corpus {
        Some(folder) => Corpus::from_folder(folder),
        None => Corpus::embedded(),
    }
}
