//! `flowproof explain`: a requirement as an entry of a manual, with an example that is played while one reads it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;

use super::catalogue::usage;
use super::{command_with, exit, output};
use crate::corpus::{Corpus, Protocol};
use crate::diagnostic::escape;
use crate::flow::resolve::nearest;
use crate::judge::finding::Ruling;
use crate::monitor;
use crate::pattern::json;
use crate::report::text::wrap;
use crate::runner::event::RunEvent;
use crate::runner::plan::{self, RunSettings};
use crate::runner::run::{RunConfig, Target, run};
use crate::runner::verdict::FlowResult;
use crate::sinner::Sinner;
use crate::world::reference::has_reference;

/// Lines that are shown of a conversation.
const SHOWN: usize = 3;

/// What `explain` takes.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The requirement's id, for instance HANGOUT-CHG-4
    id: String,
}

pub(super) fn run_explain(args: &ExplainArgs, corpus: &Corpus, folder: Option<&Path>, _colour: bool) -> u8 {
    let id = args.id.to_uppercase();
    for protocol in corpus.protocols() {
        let Some(requirement) = protocol.catalogue.get(&id) else { continue };
        let mut text =
            format!("{} ({}, binds the {})\n\n", id, requirement.level, requirement.roles.join(" and the "));
        wrap(&requirement.text, 100).iter().for_each(|line| text.push_str(&format!("  {line}\n")));
        let beyond = if requirement.ext { "; beyond the seed document" } else { "" };
        let mut place = vec![requirement.topic.as_str(), requirement.section.as_str()];
        place.dedup();
        text.push_str(&format!("\nwhere it stands   {}{beyond}\n", place.join(", ")));
        if !requirement.editions.is_empty() {
            text.push_str(&format!("editions          {}\n", requirement.editions.join(", ")));
        }
        if !requirement.seen.is_empty() {
            let mut lines = wrap(&requirement.seen, 82).into_iter();
            text.push_str(&format!("how it is seen    {}\n", lines.next().unwrap_or_default()));
            lines.for_each(|line| text.push_str(&format!("                  {line}\n")));
        }
        if let Some(reason) = &requirement.untested {
            text.push_str(&format!("not tested        {reason}\n"));
        }
        for (role, reason) in &requirement.untested_for {
            text.push_str(&format!("not for {role:<9} {reason}\n"));
        }
        let flows: Vec<&str> = protocol
            .flows
            .iter()
            .filter(|file| plan::cited(file).contains(&id))
            .map(|file| file.name.as_str())
            .collect();
        text.push_str(&format!("flows             {}\n", or_none(&flows)));
        text.push_str(&format!("other judges      {}\n", or_none(&judges(&protocol, &id))));
        let sinners: Vec<String> = protocol
            .sinners
            .iter()
            .filter(|sinner| sinner.requirement == id)
            .map(|sinner| format!("{} ({})", sinner.name, sinner.summary))
            .collect();
        text.push_str(&format!("planted faults    {}\n", or_none(&sinners)));
        if let Some(example) = example(&protocol, &id, &flows) {
            text.push_str(&example);
        }
        if let Some(first) = flows.first() {
            let name = &protocol.settings.name;
            let target = if has_reference(name) { "" } else { " --exec 'YOUR-SERVER {port}'" };
            let command = command_with(folder);
            text.push_str(&format!(
                "\nsee it happen     {command} test {name}{target} --filter '{first}' --verbose\n"
            ));
        }
        output::print(&text);
        return exit::OK;
    }
    let known: Vec<String> = corpus
        .protocols()
        .flat_map(|protocol| {
            protocol.catalogue.iter().map(|requirement| requirement.id.clone()).collect::<Vec<_>>()
        })
        .collect();
    match nearest(&id, known.iter().map(String::as_str)) {
        Some(near) => usage(&format!("there is no requirement `{id}`; did you mean `{near}`?")),
        None => usage(&format!("there is no requirement `{id}`; `flowproof coverage` lists them all")),
    }
}

/// How the requirement is kept, and how a planted fault breaks it: the same flow with both, up to where they part.
fn example(protocol: &Arc<Protocol>, id: &str, flows: &[&str]) -> Option<String> {
    let sinner = protocol.sinners.iter().find(|sinner| sinner.requirement == id)?;
    let broken = |result: &FlowResult| {
        let place = result.findings.iter().position(|finding| {
            finding.requirement.as_deref() == Some(id)
                && matches!(finding.ruling, Ruling::Broken | Ruling::Tolerated)
        });
        place.map(|place| (result.clone(), place))
    };
    let cited: Vec<String> = flows.iter().map(|name| (*name).to_owned()).collect();
    let seen = |filter: Vec<String>| played(protocol, sinner, true, filter).iter().find_map(broken);
    let (bad, place) = seen(cited).or_else(|| seen(Vec::new()))?;
    let finding = bad.findings.get(place)?;
    let good = played(protocol, sinner, false, vec![bad.name.clone()]);
    let good = good.into_iter().find(|result| result.name == bad.name)?;
    let (bad_lines, good_lines) = (bad.transcript.lines(), good.transcript.lines());
    // Both are the same until the fault shows.
    let same = bad_lines.iter().zip(good_lines).take_while(|(bad, good)| bad.text == good.text).count();
    let first = same.saturating_sub(SHOWN - 1);
    let shown = |lines: &[crate::runner::transcript::Line]| {
        let lines = lines.iter().take(same + 1).skip(first);
        let line = |line: &crate::runner::transcript::Line| {
            format!("    {} -> {}  {}\n", line.from, line.to, escape(&json::cut(&line.text, 300)))
        };
        lines.map(line).collect::<String>()
    };
    let mut text = format!("\nan example, from the flow {}\n  kept\n{}", bad.name, shown(good_lines));
    text.push_str(&format!("  broken, by {}\n{}", sinner.name, shown(bad_lines)));
    let said = escape(&json::cut(&finding.message, 300));
    wrap(&format!("flowproof says: {said}"), 100)
        .iter()
        .for_each(|line| text.push_str(&format!("    {line}\n")));
    Some(text)
}

/// The flows with such names, in memory, with the fault or without.
fn played(protocol: &Arc<Protocol>, sinner: &Sinner, faulty: bool, filter: Vec<String>) -> Vec<FlowResult> {
    let edition = sinner.edition.as_ref().unwrap_or(&protocol.settings.default_edition);
    let config = RunConfig {
        protocol: Arc::clone(protocol),
        roles: vec![sinner.role.clone()],
        target: Target::Reference(faulty.then(|| sinner.clone())),
        settings: RunSettings::in_memory(protocol, edition, 1),
        jobs: 1,
        filter,
        tags: Vec::new(),
        bail: false,
        repeat: 1,
        shard: None,
        budget: None,
        stop: Arc::new(AtomicBool::new(false)),
    };
    let mut results = Vec::new();
    run(&config, &mut |event| {
        if let RunEvent::FlowEnded(result) = event {
            results.push(*result);
        }
    });
    results
}

fn or_none<T: AsRef<str>>(items: &[T]) -> String {
    if items.is_empty() {
        return "none".to_owned();
    }
    items.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ")
}

/// The judges beside the arrows that look at a requirement.
pub(super) fn judges(protocol: &Protocol, id: &str) -> Vec<String> {
    let mut judges = Vec::new();
    for rule in protocol.messages.iter().filter(|rule| rule.requirement == id) {
        let judge = format!("schema/{}", rule.schema);
        if !judges.contains(&judge) {
            judges.push(judge);
        }
    }
    let wire = &protocol.settings.wire;
    if wire.json_object.names(id) || wire.text_frames.names(id) {
        judges.push("every message".to_owned());
    }
    if monitor::watched_of(protocol).contains(&id) {
        judges.push("monitor".to_owned());
    }
    judges
}
