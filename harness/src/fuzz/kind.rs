//! What kind of message something is, without knowing the protocol: by the members that tell messages apart in its
//! flows.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::corpus::Protocol;
use crate::flow::ast::{Key, Pattern, PatternKind, Payload, StepKind};
use crate::runner::plan;
use crate::runner::transcript::Transcript;

/// Members that tell kinds apart are looked for down to here.
const DEPTH: usize = 2;
/// A member tells kinds apart when so large a part of the messages name it with a literal.
const COMMON: f64 = 0.5;
/// So many members are enough to tell kinds apart.
const TELLING: usize = 2;
/// Different values that the names of kinds may have.
const NAMES: usize = 200;

/// Tells kinds of messages apart.
#[derive(Clone, Debug, Default)]
pub struct Kinds {
    /// JSON pointers of the members that tell them apart, and the values known.
    telling: Vec<(String, BTreeSet<String>)>,
}

impl Kinds {
    /// Learns from the arrows of all flows.
    pub fn of(protocol: &Protocol) -> Kinds {
        let mut literals: BTreeMap<String, (usize, BTreeSet<String>)> = BTreeMap::new();
        let mut messages = 0_usize;
        for file in protocol.flows.iter().chain(&protocol.served) {
            plan::walk(&file.flow.steps, &mut |step| {
                if let StepKind::Arrow { payload: Payload::Json(pattern), .. } = &step.kind {
                    messages += 1;
                    let mut found = Vec::new();
                    look(pattern, "", 0, &mut found);
                    for (pointer, text) in found {
                        let entry = literals.entry(pointer).or_default();
                        entry.0 += 1;
                        entry.1.insert(text);
                    }
                }
            });
        }
        let mut telling: Vec<(String, usize, BTreeSet<String>)> = literals
            .into_iter()
            .filter(|(_, (count, values))| values.len() > 1 && values.len() < NAMES && *count * 6 > messages)
            .map(|(pointer, (count, values))| (pointer, count, values))
            .collect();
        telling.sort_by_key(|(_, count, _)| std::cmp::Reverse(*count));
        let first = telling.first().map_or(0, |(_, count, _)| *count);
        // Beside the best one only those that are about as common: `type` and `packet.type`, but not every `ref`.
        telling.retain(|(_, count, _)| *count as f64 >= first as f64 * COMMON);
        telling.truncate(TELLING);
        Kinds { telling: telling.into_iter().map(|(pointer, _, values)| (pointer, values)).collect() }
    }

    /// The kind of a message.
    pub fn of_value(&self, value: &Value) -> String {
        if value.is_null() {
            return "nothing".to_owned();
        }
        let Value::Object(_) = value else { return crate::pattern::json::type_name(value).to_owned() };
        let mut names: Vec<&str> = Vec::new();
        for (pointer, known) in &self.telling {
            match value.pointer(pointer) {
                Some(Value::String(text)) if known.contains(text) => names.push(text),
                _ => {}
            }
        }
        if names.is_empty() { "message".to_owned() } else { names.join(" ") }
    }

    /// The kind of a line of the transcript: a message, or what was done instead of sending one.
    pub fn of_line(&self, text: &str) -> String {
        if text.starts_with('{') {
            return match serde_json::from_str::<Value>(text) {
                Ok(value) => self.of_value(&value),
                Err(_) => "not JSON".to_owned(),
            };
        }
        let word: String = text.chars().take_while(char::is_ascii_alphabetic).collect();
        match word.as_str() {
            "connects" | "connected" | "opens" | "close" | "vanishes" | "binary" | "raw" | "ping"
            | "pong" | "end" | "stops" | "reads" | "refused" | "accepts" | "broken" | "GET" | "POST"
            | "HTTP" => word,
            _ => "not JSON".to_owned(),
        }
    }

    /// Every pair of what was heard last on a connection and what was said or heard there next.
    pub fn pairs(&self, transcript: &Transcript, watched: &BTreeSet<String>) -> BTreeSet<(String, String)> {
        let mut heard: BTreeMap<u64, String> = BTreeMap::new();
        let mut pairs = BTreeSet::new();
        for line in transcript.lines() {
            let kind = self.of_line(&line.text);
            let state = heard.get(&line.link.0).cloned().unwrap_or_else(|| "nothing".to_owned());
            if watched.contains(&line.from) {
                heard.insert(line.link.0, kind);
            } else {
                pairs.insert((state, kind));
            }
        }
        pairs
    }

    /// The kinds that the flows' own arrows have: those sent to somebody under test, and those awaited from there.
    pub fn known(&self, protocol: &Protocol, role: &str) -> (BTreeSet<String>, BTreeSet<String>) {
        let (mut sent, mut awaited) = (BTreeSet::new(), BTreeSet::new());
        for file in &protocol.flows {
            let (cast, names) = plan::cast(file, protocol, role);
            let watched =
                |name: &str| names.get(name).is_some_and(|all| all.iter().any(|one| cast[*one].under_test));
            plan::walk(&file.flow.steps, &mut |step| {
                if let StepKind::Arrow { from, to, payload: Payload::Json(pattern) } = &step.kind {
                    let kind = self.of_pattern(pattern);
                    match (watched(&from.text), watched(&to.text)) {
                        (false, true) => sent.insert(kind),
                        (true, false) => awaited.insert(kind),
                        _ => false,
                    };
                }
            });
        }
        (sent, awaited)
    }

    fn of_pattern(&self, pattern: &Pattern) -> String {
        let mut found = Vec::new();
        look(pattern, "", 0, &mut found);
        let names = self.telling.iter().filter_map(|(pointer, _)| {
            found.iter().find(|(known, _)| known == pointer).map(|(_, text)| text.as_str())
        });
        let names: Vec<&str> = names.collect();
        if names.is_empty() { "message".to_owned() } else { names.join(" ") }
    }
}

/// The literals of a pattern with their pointers.
fn look(pattern: &Pattern, pointer: &str, depth: usize, found: &mut Vec<(String, String)>) {
    let PatternKind::Object { members, .. } = &pattern.kind else { return };
    for member in members {
        let Key::Text(key, _) = &member.key else { continue };
        let below = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
        match &member.value.kind {
            PatternKind::String { text, .. } => found.push((below, text.clone())),
            PatternKind::Object { .. } if depth + 1 < DEPTH => look(&member.value, &below, depth + 1, found),
            _ => {}
        }
    }
}
