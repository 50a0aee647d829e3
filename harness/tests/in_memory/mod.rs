//! Runs against the built-in reference, in memory and in virtual time, of flows that a test brings along.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use flowproof::corpus::{Corpus, Protocol};
use flowproof::report::Report;
use flowproof::runner::event::RunEvent;
use flowproof::runner::plan::RunSettings;
use flowproof::runner::run::{RunConfig, Target, run};
use flowproof::sinner::Sinner;

/// hangout as it is built in.
pub(crate) fn hangout() -> Arc<Protocol> {
    Corpus::embedded().expect("the corpus is sound").protocol("hangout").expect("hangout is built in")
}

/// hangout with other flows: pairs of a name and a text. `test` names the folder they are kept in.
pub(crate) fn hangout_with(test: &str, flows: &[(&str, &str)]) -> Arc<Protocol> {
    let corpus = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    let folder = corpus.join("hangout");
    // What an earlier run left behind is not part of this one.
    let _ = fs::remove_dir_all(&corpus);
    fs::create_dir_all(folder.join("schema")).expect("a folder for the test");
    let original = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../corpus/hangout");
    for file in ["protocol.toml", "requirements.toml", "served.flow"] {
        fs::copy(original.join(file), folder.join(file)).expect("hangout's own files");
    }
    for file in fs::read_dir(original.join("schema")).expect("hangout has schemas") {
        let file = file.expect("a schema");
        fs::copy(file.path(), folder.join("schema").join(file.file_name())).expect("a schema");
    }
    for (name, text) in flows {
        let path = folder.join("flows").join(format!("{name}.flow"));
        fs::create_dir_all(path.parent().expect("a flow lies in a folder")).expect("a folder for the test");
        fs::write(path, text).expect("a flow of the test");
    }
    let corpus = Corpus::from_folder(&corpus).unwrap_or_else(|error| panic!("{}", error.messages.join("\n")));
    corpus.protocol("hangout").expect("it was just written")
}

/// A planted fault, as the files of a corpus describe it.
pub(crate) fn sinner(text: &str) -> Sinner {
    Sinner::parse("of-this-test", text).expect("the sinner of a test is sound")
}

/// All events of a run over the protocol's flows.
pub(crate) fn events(
    protocol: &Arc<Protocol>,
    roles: &[&str],
    sinner: Option<Sinner>,
    seed: u64,
) -> Vec<RunEvent> {
    let settings = RunSettings::in_memory(protocol, &protocol.settings.default_edition, seed);
    events_with(protocol, roles, sinner, settings)
}

/// The same, with settings of one's own.
pub(crate) fn events_with(
    protocol: &Arc<Protocol>,
    roles: &[&str],
    sinner: Option<Sinner>,
    settings: RunSettings,
) -> Vec<RunEvent> {
    let config = RunConfig {
        protocol: Arc::clone(protocol),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        target: Target::Reference(sinner),
        settings,
        jobs: 2,
        filter: Vec::new(),
        tags: Vec::new(),
        bail: false,
        repeat: 1,
        shard: None,
        budget: None,
        stop: Arc::new(AtomicBool::new(false)),
    };
    let mut events = Vec::new();
    run(&config, &mut |event| events.push(event));
    events
}

/// The report of a run over the protocol's flows.
pub(crate) fn report(protocol: &Arc<Protocol>, roles: &[&str], sinner: Option<Sinner>, seed: u64) -> Report {
    let events = events(protocol, roles, sinner, seed);
    Report::from_events(&events, protocol).expect("a run begins before it ends")
}
