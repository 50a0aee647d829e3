//! What each target begins with: seeds and dictionary, made from the corpus.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use flowproof::flow::ast::{Payload, StepKind};
use flowproof::flow::format::pattern_text;
use flowproof::fuzz::seeds;
use flowproof::runner::plan;

use super::{TARGETS, Target, protocol};

/// Patterns that are kept as seeds.
const PATTERNS: usize = 300;
/// Conversations that are kept as seeds.
const CONVERSATIONS: u16 = 60;

const PROTOCOLS: [&str; 5] = ["clusterio", "cow", "hangout", "polfan", "ptpchat"];

/// The target of a name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// The seeds of a target.
pub fn of(target: &Target) -> Vec<Vec<u8>> {
    if target.name.starts_with("conversation_") {
        return (0..CONVERSATIONS)
            .map(|number| {
                let [low, high] = (number * 97).to_le_bytes();
                let [change, _] = (number * 31).to_le_bytes();
                vec![(number % 6) as u8, low, high, change, 1, 2, 3]
            })
            .collect();
    }
    match (target.name, target.protocol) {
        ("flow_parser", _) => flows(),
        ("pattern_duality", _) => patterns(),
        ("trace_reader", _) => traces(),
        (name, Some(of)) if name.starts_with("machine_") => machine(of),
        (_, Some(of)) => seeds::messages(&protocol(of)).into_iter().map(String::into_bytes).collect(),
        _ => Vec::new(),
    }
}

/// What was found once, by name.
pub fn regressions(target: &Target) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/regressions").join(target.name);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        found.push((entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path())?));
    }
    found.sort();
    Ok(found)
}

/// Where FLOWPROOF_SEEDS names a folder, the seeds and the dictionary of every target are written there, with the
/// regressions among the seeds, and the program ends. A target does this so that nothing is built twice.
pub fn write_where_wanted() {
    let Some(folder) = std::env::var_os("FLOWPROOF_SEEDS").map(PathBuf::from) else { return };
    let code = match TARGETS.iter().try_for_each(|target| write(target, &folder)) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{}: {error}", folder.display());
            1
        }
    };
    std::process::exit(code);
}

fn write(target: &Target, folder: &Path) -> std::io::Result<()> {
    let below = folder.join(target.name);
    std::fs::create_dir_all(&below)?;
    for (number, seed) in of(target).iter().enumerate() {
        std::fs::write(below.join(format!("seed-{number:04}")), seed)?;
    }
    for (name, bytes) in regressions(target)? {
        std::fs::write(below.join(name), bytes)?;
    }
    if let Some(words) = dictionary(target) {
        std::fs::write(folder.join(format!("{}.dict", target.name)), words)?;
    }
    Ok(())
}

/// The words of a target, in libFuzzer's form.
pub fn dictionary(target: &Target) -> Option<String> {
    match (target.name, target.protocol) {
        (_, Some(of)) => Some(seeds::dictionary(&protocol(of))),
        ("flow_parser" | "pattern_duality", None) => Some(language()),
        _ => None,
    }
}

fn flows() -> Vec<Vec<u8>> {
    let all = PROTOCOLS.iter().flat_map(|name| {
        let protocol = protocol(name);
        let flows: Vec<Vec<u8>> = protocol
            .flows
            .iter()
            .chain(&protocol.served)
            .map(|file| file.source.clone().into_bytes())
            .collect();
        flows
    });
    all.collect()
}

/// The words of the flow language: whatever stands between blanks in at least a few flows.
fn language() -> String {
    let mut counts = std::collections::BTreeMap::new();
    for flow in flows() {
        let text = String::from_utf8_lossy(&flow).into_owned();
        let words: BTreeSet<String> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .flat_map(str::split_whitespace)
            .filter(|word| {
                word.len() < 20
                    && word.chars().all(|c| c.is_ascii_lowercase() || "{}[]()|&$:->.,*_".contains(c))
            })
            .map(str::to_owned)
            .collect();
        words.into_iter().for_each(|word| *counts.entry(word).or_insert(0_usize) += 1);
    }
    let mut text = "# The words of the flow language; printed from the flows.\n".to_owned();
    for (word, _) in counts.into_iter().filter(|(_, count)| *count >= 8) {
        text.push_str(&format!("\"{word}\"\n"));
    }
    text
}

fn patterns() -> Vec<Vec<u8>> {
    let mut found = BTreeSet::new();
    for name in PROTOCOLS {
        for file in &protocol(name).flows {
            plan::walk(&file.flow.steps, &mut |step| {
                if let StepKind::Arrow { payload: Payload::Json(pattern), .. } = &step.kind {
                    found.insert(pattern_text(pattern));
                }
            });
        }
    }
    let every = found.len().div_ceil(PATTERNS).max(1);
    found.into_iter().step_by(every).map(String::into_bytes).collect()
}

fn traces() -> Vec<Vec<u8>> {
    let texts: Vec<String> = PROTOCOLS
        .iter()
        .map(|name| {
            let mut text = format!("{{\"flowproof_trace\":1,\"protocol\":\"{name}\"}}\n");
            for (number, message) in seeds::messages(&protocol(name)).into_iter().take(8).enumerate() {
                let from = if number % 2 == 0 { "client" } else { "server" };
                let message = serde_json::Value::from(message);
                text.push_str(&format!(
                    "{{\"at_ms\":{number},\"link\":{number},\"from\":\"{from}\",\"kind\":\"text\",\"text\":{message}}}\n"
                ));
            }
            text.push_str("{\"at_ms\":9,\"link\":0,\"from\":\"client\",\"kind\":\"closed\"}\n");
            text
        })
        .collect();
    texts.into_iter().map(String::into_bytes).collect()
}

/// Several peers say the protocol's messages in turn, for each role.
fn machine(name: &str) -> Vec<Vec<u8>> {
    let messages = seeds::messages(&protocol(name));
    let mut all = Vec::new();
    for role in 0_u8..3 {
        for some in messages.chunks(8) {
            let mut bytes = vec![role];
            for (number, message) in some.iter().enumerate() {
                bytes.push(u8::try_from(number % 4).unwrap_or(0));
                bytes.extend(message.replace('\n', " ").into_bytes());
                bytes.push(b'\n');
            }
            // A Ping, a cut, and one who comes again.
            bytes.extend(b"\x30ping\n\x3cgone\n\x00{}\n");
            all.push(bytes);
        }
    }
    all
}
