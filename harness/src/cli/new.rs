//! `flowproof new`: a folder for a protocol of one's own.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::catalogue::usage;
use super::{exit, output};
use crate::blank::{self, Describes, Files};
use crate::corpus::Corpus;

/// What `new` takes.
#[derive(Debug, Args)]
pub(super) struct NewArgs {
    /// The protocol's name, or a path that ends in it; the folder is made there
    name: PathBuf,
    /// Fill the folder from an AsyncAPI 3 document in JSON
    #[arg(long, value_name = "FILE")]
    from_asyncapi: Option<PathBuf>,
    /// Whom the AsyncAPI document describes
    #[arg(long, value_enum, default_value_t = DescribesArg::Server, requires = "from_asyncapi")]
    describes: DescribesArg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DescribesArg {
    /// The program that others connect to
    Server,
    /// A program that connects
    Client,
}

pub(super) fn run(args: &NewArgs, built_in: &Corpus) -> u8 {
    match make(args, built_in) {
        Ok(text) => {
            output::print(&text);
            exit::OK
        }
        Err(error) => usage(&error),
    }
}

fn make(args: &NewArgs, built_in: &Corpus) -> Result<String, String> {
    let name = args.name.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if let Some(why) = blank::bad_name(&name) {
        return Err(format!("`{name}`: {why}"));
    }
    if built_in.protocol(&name).is_some() {
        return Err(format!("{name} is built in; give yours another name"));
    }
    if args.name.exists() {
        return Err(format!("{} is there already; nothing was changed", args.name.display()));
    }
    let files = match &args.from_asyncapi {
        None => blank::example(&name),
        Some(path) => imported(&name, path, args.describes)?,
    };
    write(&args.name, &files).map_err(|error| format!("{}: {error}", args.name.display()))?;
    let folder = args.name.display();
    let mut text = String::new();
    for path in files.keys() {
        text.push_str(&format!("{folder}/{path}\n"));
    }
    text.push_str(&format!(
        "\nnext:\n  flowproof --corpus {folder} lint\n  flowproof --corpus {folder} test {name} \
         --exec 'YOUR-SERVER {{port}}'\n"
    ));
    Ok(text)
}

fn imported(name: &str, path: &Path, describes: DescribesArg) -> Result<Files, String> {
    let shown = path.display();
    let text = fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
    let document: Value = serde_json::from_str(&text).map_err(|error| {
        let hint = if text.trim_start().starts_with('{') {
            ""
        } else {
            "; a document in YAML has to be written as JSON first"
        };
        format!("{shown}: no JSON: {error}{hint}")
    })?;
    let describes = match describes {
        DescribesArg::Server => Describes::Server,
        DescribesArg::Client => Describes::Client,
    };
    blank::from_asyncapi(name, &document, describes).map_err(|error| format!("{shown}: {error}"))
}

fn write(folder: &Path, files: &Files) -> std::io::Result<()> {
    for (path, text) in files {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, text)?;
    }
    Ok(())
}
