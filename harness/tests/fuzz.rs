//! The fuzzer finds planted faults from nothing, makes them small, and what it writes shows them again; it accuses nobody
//! who does nothing wrong; and servers that die, say nothing or say garbage are findings, not the end of the campaign.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use flowproof::corpus::{Corpus, FlowFile, Protocol};
use flowproof::fuzz::campaign::{self, Config, Event, Found, Standing};
use flowproof::fuzz::identity::Oracle;
use flowproof::fuzz::play::Stage;
use flowproof::judge::finding::{Finding, Ruling};
use flowproof::runner::plan::RunSettings;
use flowproof::runner::run::Target;
use flowproof::sinner::Sinner;
use flowproof::world::network::Place;

fn protocol(name: &str) -> Arc<Protocol> {
    Corpus::embedded().expect("the corpus is sound").protocol(name).expect("it is built in")
}

fn config(protocol: &Arc<Protocol>, role: &str, target: Target) -> Config {
    let settings = RunSettings::in_memory(protocol, &protocol.settings.default_edition, 1);
    Config {
        stage: Stage { protocol: Arc::clone(protocol), role: role.to_owned(), settings },
        target,
        time: None,
        cases: None,
        findings: None,
        seed: 7,
        jobs: 1,
        width: 4,
        out: None,
        merge: Vec::new(),
        shard: (0, 1),
        as_written: false,
        replay: "flowproof test".to_owned(),
        growth: 512 << 20,
        stop: Arc::new(AtomicBool::new(false)),
    }
}

/// What a campaign finds, up to the first finding that is wanted.
fn until(config: &Config, wanted: impl Fn(&Found) -> bool + Send + Sync) -> Vec<Found> {
    let mut found = Vec::new();
    campaign::run(config, &mut |event| {
        if let Event::Found(one) = event {
            if wanted(&one) {
                config.stop.store(true, Ordering::Relaxed);
            }
            found.push(*one);
        }
    })
    .expect("the campaign runs");
    found
}

/// Plays a finding as it is written.
fn replay(config: &Config, found: &Found, sinner: Option<&Sinner>) -> Vec<String> {
    let file = found.case.file(&found.name, &found.comment).expect("what is written can be read");
    let result = config.stage.in_memory(&file, sinner, &AtomicBool::new(false)).expect("it can be played");
    let broken = |finding: &&Finding| finding.ruling == Ruling::Broken;
    result.findings.iter().filter(broken).filter_map(|finding| finding.requirement.clone()).collect()
}

/// Finds a planted fault from nothing, within so many conversations; what is written shows it, and only it.
fn finds(name: &str, sinner: &str, most: usize) {
    let protocol = protocol(name);
    let sinner =
        protocol.sinners.iter().find(|known| known.name == sinner).expect("the sinner exists").clone();
    let mut config = config(&protocol, &sinner.role, Target::Reference(Some(sinner.clone())));
    config.cases = Some(2_000);
    // Whoever dies of something serves nobody, whatever it died of.
    let survival = config.stage.survival();
    let is_it = |found: &Found| {
        let rule = Some(&found.identity.rule);
        found.counts() && (rule == Some(&sinner.requirement) || rule == survival.as_ref())
    };
    let found = until(&config, is_it);
    let found = found.iter().find(|found| is_it(found));
    let found = found.unwrap_or_else(|| panic!("{name}: {} was not found", sinner.name));
    assert!(
        found.sends <= most,
        "{} messages are more than it takes:\n{}",
        found.sends,
        found.case.text(&[])
    );
    let accused = replay(&config, found, Some(&sinner));
    assert!(accused.contains(&found.identity.rule), "{name}: {accused:?}\n{}", found.case.text(&[]));
    assert_eq!(replay(&config, found, None), Vec::<String>::new(), "{name}: {}", found.case.text(&[]));
}

/// Faults that nobody sees who only says what a flow says, and how many messages show them.
const HIDDEN: &[(&str, &[(&str, usize)])] = &[
    (
        "clusterio",
        &[
            ("dies-on-malformed", 1),
            ("dies-on-wire-error", 1),
            ("master-wants-successors", 3),
            ("serves-unregistered", 2),
            ("slave-wants-successors", 3),
        ],
    ),
    (
        "cow",
        &[
            ("dies-of-bad-json", 1),
            ("dies-of-bad-frames", 1),
            ("dies-of-binary", 1),
            ("passes-forged", 1),
            ("passes-made-up-notices", 1),
        ],
    ),
    (
        "hangout",
        &[
            ("claimed-sender-kept", 1),
            ("dies-of-bad-frames", 1),
            ("dies-of-bad-json", 1),
            ("dies-of-deep-nesting", 1),
            ("dies-of-wrong-shape", 1),
        ],
    ),
    (
        "polfan",
        &[
            ("closes-after-error", 1),
            ("errors-for-all", 2),
            ("errors-without-ref", 1),
            ("events-as-commands", 2),
            ("keeps-null-refs", 2),
        ],
    ),
    (
        "ptpchat",
        &[
            ("deaf-after-bad-input", 1),
            ("dies-of-bad-field", 1),
            ("dies-of-bad-head", 1),
            ("dies-of-channel", 1),
            ("dies-of-malformed", 1),
        ],
    ),
];

fn finds_all(name: &str) {
    let (_, sinners) = HIDDEN.iter().find(|(known, _)| *known == name).expect("it is listed");
    assert!(sinners.len() >= 5, "only {} faults of {name}", sinners.len());
    sinners.iter().for_each(|(sinner, most)| finds(name, sinner, *most));
}

#[test]
fn hidden_faults_of_clusterio_are_found() {
    finds_all("clusterio");
}

#[test]
fn hidden_faults_of_cow_are_found() {
    finds_all("cow");
}

#[test]
fn hidden_faults_of_hangout_are_found() {
    finds_all("hangout");
}

#[test]
fn hidden_faults_of_polfan_are_found() {
    finds_all("polfan");
}

#[test]
fn hidden_faults_of_ptpchat_are_found() {
    finds_all("ptpchat");
}

/// Whoever does nothing wrong is accused of nothing, whatever is said to it.
fn honest(name: &str) {
    let protocol = protocol(name);
    for role in &protocol.settings.roles {
        for seed in [1, 2] {
            let mut config = config(&protocol, &role.name, Target::Reference(None));
            config.seed = seed;
            config.cases = Some(150);
            let mut accused = BTreeMap::new();
            let summary = campaign::run(&config, &mut |event| {
                if let Event::Found(found) = event {
                    accused.insert(found.identity.to_string(), found.case.text(&[]));
                }
            });
            match summary {
                Ok(summary) => {
                    assert!(summary.progress.judged > 0, "{name}: nothing of a {} was judged", role.name);
                }
                // A role that no flow is about cannot be fuzzed.
                Err(error) => assert!(error.contains("no flow"), "{error}"),
            }
            assert!(accused.is_empty(), "{name}: {} is accused: {accused:#?}", role.name);
        }
    }
}

#[test]
fn honest_references_of_clusterio_are_accused_of_nothing() {
    honest("clusterio");
}

#[test]
fn honest_references_of_cow_are_accused_of_nothing() {
    honest("cow");
}

#[test]
fn honest_references_of_hangout_are_accused_of_nothing() {
    honest("hangout");
}

#[test]
fn honest_references_of_polfan_are_accused_of_nothing() {
    honest("polfan");
}

#[test]
fn honest_references_of_ptpchat_are_accused_of_nothing() {
    honest("ptpchat");
}

/// Conversations in which an honest reference was once accused: `corpus/regressions/honest/PROTOCOL/ROLE/EDITION/`.
#[test]
fn what_once_accused_an_honest_reference_accuses_it_no_more() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/regressions/honest");
    let below = |folder: &Path| {
        let entries = std::fs::read_dir(folder).expect("the folder can be read");
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry can be read").path()).collect();
        paths.sort();
        paths
    };
    let name = |path: &Path| path.file_stem().expect("it has a name").to_string_lossy().into_owned();
    let mut played = 0;
    for (protocol, roles) in below(&root).iter().map(|path| (protocol(&name(path)), below(path))) {
        for (role, edition) in
            roles.iter().flat_map(|role| below(role).into_iter().map(move |one| (role, one)))
        {
            let settings = RunSettings::in_memory(&protocol, &name(&edition), 1);
            let stage = Stage { protocol: Arc::clone(&protocol), role: name(role), settings };
            for path in below(&edition) {
                let source = std::fs::read_to_string(&path).expect("the flow can be read");
                let file = FlowFile::parse(name(&path), path.display().to_string(), source);
                let file = Arc::new(file.expect("the flow can be parsed"));
                let result = stage.in_memory(&file, None, &AtomicBool::new(false)).expect("it can be played");
                let accused = result.findings.iter().filter(|finding| finding.ruling == Ruling::Broken);
                let accused: Vec<_> =
                    accused.map(|finding| (&finding.requirement, &finding.message)).collect();
                assert!(accused.is_empty(), "{}: {accused:?}\n{}", path.display(), result.transcript);
                played += 1;
            }
        }
    }
    assert!(played > 0, "there are some");
}

#[test]
fn the_same_seed_makes_the_same_campaign() {
    let protocol = protocol("hangout");
    let told = || {
        let mut config = config(&protocol, "server", Target::Reference(None));
        config.cases = Some(60);
        let summary = campaign::run(&config, &mut |_| {}).expect("the campaign runs");
        (summary.progress.judged, summary.progress.messages, summary.progress.pairs, summary.untouched)
    };
    assert_eq!(told(), told());
}

/// A server of ours that does something else than a hub does.
fn server(serve: impl Fn(std::net::TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("there is a free port");
    let address = listener.local_addr().expect("it has an address");
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

fn against(address: SocketAddr) -> (Vec<Found>, u64) {
    hearing(address, |_| {})
}

/// The same, hearing what is noted on the way.
fn hearing(address: SocketAddr, mut note: impl FnMut(&str) + Send) -> (Vec<Found>, u64) {
    let protocol = protocol("hangout");
    let url = format!("ws://{address}/");
    let place = Place::Listens { address, tls: None, program: None };
    let mut config = config(&protocol, "server", Target::Url { url, place, address });
    config.stage.settings.started = false;
    config.stage.settings.exclusive = false;
    config.stage.settings.host = address.to_string();
    config.stage.settings.timeout = Duration::from_millis(300);
    config.cases = Some(12);
    let mut found = Vec::new();
    let summary = campaign::run(&config, &mut |event| match event {
        Event::Found(one) => found.push(*one),
        Event::Note(text) => note(&text),
        Event::Progress(_) => {}
    });
    (found, summary.expect("the campaign runs").progress.made)
}

#[test]
fn a_server_that_never_answers_is_a_finding_and_not_the_end() {
    let (found, made) = against(server(|mut stream| {
        let mut buffer = [0; 1024];
        while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
    }));
    assert!(
        found.iter().any(|found| found.counts() && found.identity.rule == "HANGOUT-ROBUST-1"),
        "{found:?}"
    );
    assert!(made >= 12, "only {made} conversations");
}

#[test]
fn a_server_that_answers_garbage_is_a_finding_and_not_the_end() {
    let (found, made) = against(server(|mut stream| {
        let mut buffer = [0; 1024];
        while stream.read(&mut buffer).is_ok_and(|count| count > 0) {
            if stream.write_all(b"\x00\xff\x17garbage\r\n\r\n").is_err() {
                break;
            }
        }
    }));
    assert!(found.iter().any(Found::counts), "{found:?}");
    assert!(made >= 12, "only {made} conversations");
}

#[test]
fn a_server_that_goes_away_for_a_while_is_a_finding_and_not_the_end() {
    // After some connections every further one is cut at once, as by a server that is started anew again and again.
    let connections = AtomicUsize::new(0);
    let (found, made) = against(server(move |stream| {
        if connections.fetch_add(1, Ordering::Relaxed) > 6 {
            drop(stream);
            return;
        }
        let mut stream = stream;
        let mut buffer = [0; 1024];
        let _ = stream.read(&mut buffer);
    }));
    assert!(found.iter().any(|found| found.standing != Standing::Doubtful), "{found:?}");
    assert!(made >= 12, "only {made} conversations");
}

#[test]
fn a_server_killed_in_the_middle_is_a_finding_and_not_the_end() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("there is a free port");
    let address = listener.local_addr().expect("it has an address");
    let (missed, is_missed) = std::sync::mpsc::channel();
    let listen = |listener: &TcpListener, connections: usize| {
        for mut stream in listener.incoming().flatten().take(connections) {
            let _ = stream.read(&mut [0; 1024]);
        }
    };
    std::thread::spawn(move || {
        listen(&listener, 4);
        drop(listener);
        // It comes back when it was missed.
        if is_missed.recv().is_ok() {
            let listener = TcpListener::bind(address).expect("the port is still free");
            listen(&listener, usize::MAX);
        }
    });
    let (found, made) = hearing(address, |text| {
        if text.contains("is gone") {
            let _ = missed.send(());
        }
    });
    let killed = |found: &Found| found.counts() && found.identity.oracle == Oracle::Crash;
    assert!(found.iter().any(killed), "{found:?}");
    assert!(made >= 12, "only {made} conversations");
}
