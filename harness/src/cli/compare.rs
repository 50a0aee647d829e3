//! `flowproof compare`: several reports side by side.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{exit, output};
use crate::corpus::Corpus;
use crate::report::compare::compare;
use crate::report::text::Style;

/// What `compare` takes.
#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    /// Reports in JSON, the oldest first
    #[arg(required = true, value_name = "REPORT.json")]
    reports: Vec<PathBuf>,
    /// What is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Exit with 1 when something got worse from one report to the next
    #[arg(long)]
    check: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text for a person
    Text,
    /// A page for the summary of a CI job
    Markdown,
    /// One page that opens from disk
    Html,
}

pub(super) fn run(args: &CompareArgs, corpus: &Corpus, colour: bool) -> u8 {
    let wrong = |error: String| {
        output::complain(&format!("error: {error}"));
        exit::USAGE
    };
    let mut files = Vec::new();
    for path in &args.reports {
        let shown = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => files.push((shown, text)),
            Err(error) => return wrong(format!("{shown}: {error}")),
        }
    }
    let comparison = match compare(&files, corpus) {
        Ok(comparison) => comparison,
        Err(error) => return wrong(error),
    };
    let text = match args.format {
        Format::Text => Ok(comparison.text(Style::new(colour))),
        Format::Markdown => Ok(comparison.markdown()),
        Format::Html => comparison.html(),
    };
    match text {
        Ok(text) => output::print(&text),
        Err(error) => {
            output::complain(&format!("error: the page cannot be written: {error}"));
            return exit::BUG;
        }
    }
    if args.check && comparison.has_regressions() { exit::FAIL } else { exit::OK }
}
