//! The folder of `--report-dir`: one file a format, one transcript a flow.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Error, Result};
use std::path::Path;

use super::{Run, badge, html, json, junit, markdown};
use crate::diagnostic::escape;
use crate::runner::verdict::{FlowResult, Verdict};

/// Characters of a file name.
const NAME: usize = 120;

/// Writes everything that is known of some runs.
pub fn write(folder: &Path, runs: &[Run]) -> Result<()> {
    let transcripts = folder.join("transcripts");
    fs::create_dir_all(&transcripts)?;
    fs::write(folder.join("report.html"), html::html(runs).map_err(Error::other)?)?;
    fs::write(folder.join("report.json"), format!("{:#}\n", json::reports(runs)))?;
    fs::write(folder.join("junit.xml"), junit::junit(runs).map_err(Error::other)?)?;
    fs::write(folder.join("badge.svg"), badge::badge(runs))?;
    fs::write(folder.join("summary.md"), markdown::markdown(runs))?;
    for (run, flow, name) in transcript_names(runs) {
        let head =
            format!("# {} {} ({}): {}\n", run.report.protocol, flow.name, flow.role, flow.verdict.word());
        fs::write(transcripts.join(name), escape(&format!("{head}{}", flow.transcript)))?;
    }
    Ok(())
}

/// Every flow that ran, with the name of its transcript.
pub(crate) fn transcript_names(runs: &[Run]) -> Vec<(&Run, &FlowResult, String)> {
    let mut used = BTreeSet::new();
    let mut names = Vec::new();
    for run in runs {
        for flow in run.report.flows.iter().filter(|flow| flow.verdict != Verdict::Skip) {
            let name: String = format!("{}-{}-{}", run.report.protocol, flow.role, flow.name)
                .chars()
                .map(|c| if c.is_alphanumeric() || c == '-' || c == '.' { c } else { '_' })
                .take(NAME)
                .collect();
            let mut file = format!("{name}.txt");
            let mut number = 1;
            // File systems that take upper and lower case for the same are in use.
            while !used.insert(file.to_lowercase()) {
                number += 1;
                file = format!("{name}-{number}.txt");
            }
            names.push((run, flow, file));
        }
    }
    names
}
