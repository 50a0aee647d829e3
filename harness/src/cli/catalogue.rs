//! `list`, `explain`, `show`, `fmt`, `lint`, `coverage`: what is known, without running anything.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::explain::judges;
use super::test::find;
use super::{exit, output};
use crate::corpus::{Corpus, Protocol};
use crate::diagnostic::{self, Diagnostic};
use crate::flow::{format, parse};
use crate::lint;
use crate::runner::plan;

/// What `list` takes.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Protocols; none: all
    protocols: Vec<String>,
    /// Only flows with this tag
    #[arg(long)]
    tag: Option<String>,
}

/// What `fmt` takes.
#[derive(Debug, Args)]
pub(super) struct FmtArgs {
    /// Flow files, or folders with flow files
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Change nothing; exit with 1 when something would be changed
    #[arg(long)]
    check: bool,
}

/// What `lint` takes.
#[derive(Debug, Args)]
pub(super) struct LintArgs {
    /// Flow files, or folders with flow files; none: the whole corpus
    paths: Vec<PathBuf>,
}

/// What `coverage` takes.
#[derive(Debug, Args)]
pub(super) struct CoverageArgs {
    /// Protocols; none: all
    protocols: Vec<String>,
}

fn chosen(names: &[String], corpus: &Corpus) -> Result<Vec<Arc<Protocol>>, u8> {
    if names.is_empty() {
        return Ok(corpus.protocols().collect());
    }
    names.iter().map(|name| find(corpus, name)).collect::<Result<_, _>>().map_err(|error| usage(&error))
}

pub(super) fn usage(error: &str) -> u8 {
    output::complain(&format!("error: {error}"));
    exit::USAGE
}

pub(super) fn list(args: &ListArgs, corpus: &Corpus) -> u8 {
    let protocols = match chosen(&args.protocols, corpus) {
        Ok(protocols) => protocols,
        Err(code) => return code,
    };
    let mut text = String::new();
    for protocol in protocols {
        text.push_str(&format!("{} - {}\n", protocol.settings.name, protocol.settings.title));
        for file in &protocol.flows {
            let tags = file.tags();
            if args.tag.as_ref().is_some_and(|tag| !tags.contains(&tag.as_str())) {
                continue;
            }
            let roles: Vec<&str> = protocol
                .settings
                .roles
                .iter()
                .map(|role| role.name.as_str())
                .filter(|role| plan::judges_role(file, &protocol, role))
                .collect();
            let tags = if tags.is_empty() { String::new() } else { format!("  [{}]", tags.join(", ")) };
            text.push_str(&format!("  {:<40} {:<14}{}{tags}\n", file.name, roles.join(","), file.summary()));
        }
    }
    output::print(&text);
    exit::OK
}

fn flow_files(paths: &[PathBuf]) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let mut inside: Vec<PathBuf> =
                fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
            inside.retain(|path| path.is_dir() || path.extension().is_some_and(|ending| ending == "flow"));
            inside.sort();
            files.extend(flow_files(&inside)?);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

pub(super) fn fmt(args: &FmtArgs) -> u8 {
    let files = match flow_files(&args.paths) {
        Ok(files) => files,
        Err(error) => return usage(&format!("{error}")),
    };
    let mut code = exit::OK;
    for path in files {
        match format_file(&path, args.check) {
            Ok(false) => {}
            Ok(true) if args.check => {
                output::print(&format!("{} would be changed\n", path.display()));
                code = code.max(exit::FAIL);
            }
            Ok(true) => output::print(&format!("{}\n", path.display())),
            Err(error) => {
                output::complain(&error);
                code = exit::USAGE;
            }
        }
    }
    code
}

/// True when the file is not, or was not, in the one style.
fn format_file(path: &Path, check_only: bool) -> Result<bool, String> {
    let source = fs::read_to_string(path).map_err(|error| format!("error: {}: {error}", path.display()))?;
    let (flow, diagnostics) = parse(&source);
    if diagnostics.iter().any(Diagnostic::is_error) {
        return Err(diagnostic::render(&diagnostics, &path.display().to_string(), &source, false));
    }
    let formatted = format::format(&flow);
    if formatted == source {
        return Ok(false);
    }
    if !check_only {
        fs::write(path, formatted).map_err(|error| format!("error: {}: {error}", path.display()))?;
    }
    Ok(true)
}

pub(super) fn lint(args: &LintArgs, corpus: &Corpus, colour: bool) -> u8 {
    let mut wrong = 0;
    let mut looked_at = 0;
    let mut tell = |diagnostics: &[Diagnostic], path: &str, source: &str| {
        looked_at += 1;
        if !diagnostics.is_empty() {
            output::print(&format!("{}\n\n", diagnostic::render(diagnostics, path, source, colour)));
        }
        wrong += diagnostics.iter().filter(|one| one.is_error()).count();
    };
    if args.paths.is_empty() {
        for protocol in corpus.protocols() {
            for file in protocol.flows.iter().chain(&protocol.served) {
                tell(&lint::problems(file, &protocol), &file.path, &file.source);
            }
        }
    } else {
        let files = match flow_files(&args.paths) {
            Ok(files) => files,
            Err(error) => return usage(&error.to_string()),
        };
        for path in files {
            let source = match fs::read_to_string(&path) {
                Ok(source) => source,
                Err(error) => return usage(&format!("{}: {error}", path.display())),
            };
            let shown = path.display().to_string();
            let (flow, _) = parse(&source);
            let named = lint::protocol_name(&flow).and_then(|name| corpus.protocol(&name.text));
            let diagnostics = match named {
                Some(protocol) => lint::text(&source, &protocol),
                None => {
                    let known: Vec<String> =
                        corpus.protocols().map(|protocol| protocol.settings.name.clone()).collect();
                    lint::without_protocol(&source, known.iter().map(String::as_str))
                }
            };
            tell(&diagnostics, &shown, &source);
        }
    }
    output::print(&format!("{looked_at} files, {wrong} errors\n"));
    if wrong > 0 { exit::USAGE } else { exit::OK }
}

pub(super) fn coverage(args: &CoverageArgs, corpus: &Corpus) -> u8 {
    let protocols = match chosen(&args.protocols, corpus) {
        Ok(protocols) => protocols,
        Err(code) => return code,
    };
    let mut text = String::new();
    let mut bare = 0;
    for protocol in protocols {
        let mut counts = (0, 0, 0);
        let mut topics = BTreeSet::new();
        for requirement in protocol.catalogue.iter() {
            let id = &requirement.id;
            if topics.insert(requirement.topic.clone()) {
                text.push_str(&format!("\n{}\n", requirement.topic));
            }
            let flows = protocol.flows.iter().filter(|file| plan::cited(file).contains(id)).count();
            let judges = judges(&protocol, id);
            let sinners = protocol.sinners.iter().filter(|sinner| &sinner.requirement == id).count();
            let how = match (&requirement.untested, flows, judges.is_empty()) {
                (Some(reason), ..) => {
                    counts.2 += 1;
                    format!("untested: {reason}")
                }
                (None, 0, true) => {
                    bare += 1;
                    "NOBODY WATCHES THIS".to_owned()
                }
                (None, flows, _) => {
                    counts.0 += 1;
                    counts.1 += usize::from(sinners > 0);
                    let judges =
                        if judges.is_empty() { String::new() } else { format!(", {}", judges.join(", ")) };
                    format!("{flows} flows{judges}; {sinners} sinners")
                }
            };
            let roles = requirement.roles.join(",");
            text.push_str(&format!("  {id:<20} {:<6} {roles:<14} {how}\n", requirement.level.to_string()));
        }
        text.push_str(&format!(
            "\n{}: {} requirements, {} watched, {} of them proved by a sinner, {} untested with a reason\n",
            protocol.settings.name,
            protocol.catalogue.iter().count(),
            counts.0,
            counts.1,
            counts.2
        ));
    }
    output::print(text.trim_start_matches('\n'));
    if bare > 0 { exit::FAIL } else { exit::OK }
}
