//! Seeds and dictionaries for fuzzers that change bytes: printed from the flows and schemas of a protocol.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use fastrand::Rng;

use super::depart::Pace;
use super::pool::Pool;
use crate::corpus::Protocol;
use crate::flow::ast::Payload;
use crate::pattern::{Bindings, generate};
use crate::runner::plan::RunSettings;

/// Messages that are kept as seeds.
const SEEDS: usize = 60;
/// Words that a dictionary has.
const WORDS: usize = 300;
/// Longest word of a dictionary.
const LONGEST: usize = 40;

/// Messages that the flows of a protocol send to any role, one a line, each kind of structure once.
pub fn messages(protocol: &Protocol) -> Vec<String> {
    let mut shapes = BTreeSet::new();
    let mut seeds = Vec::new();
    for role in &protocol.settings.roles {
        for edition in &protocol.settings.editions {
            let settings = RunSettings::in_memory(protocol, edition, 1);
            let pool = Pool::of(protocol, &role.name, &settings, Pace::VIRTUAL);
            let mut rng = Rng::with_seed(1);
            for said in &pool.said {
                let Payload::Json(pattern) = &said.payload else { continue };
                let Ok(value) = generate(pattern, &mut Bindings::default(), &mut rng) else { continue };
                let text = value.to_string();
                let shape: String = text.chars().filter(|c| !c.is_ascii_digit()).take(60).collect();
                if text.len() < 1000 && shapes.insert(shape) {
                    seeds.push(text);
                }
            }
        }
    }
    let every = seeds.len().div_ceil(SEEDS).max(1);
    seeds.into_iter().step_by(every).collect()
}

/// The words of a protocol, in the form that libFuzzer reads.
pub fn dictionary(protocol: &Protocol) -> String {
    let mut words = BTreeSet::new();
    for role in &protocol.settings.roles {
        let settings = RunSettings::in_memory(protocol, &protocol.settings.default_edition, 1);
        let pool = Pool::of(protocol, &role.name, &settings, Pace::VIRTUAL);
        let keys = pool.keys.iter().map(|key| format!("\"{key}\":"));
        let texts = pool.words.iter().map(|word| format!("\"{word}\""));
        words.extend(
            keys.chain(texts).filter(|word| {
                word.len() <= LONGEST && word.chars().all(|c| c.is_ascii_graphic() || c == ' ')
            }),
        );
    }
    let mut text =
        format!("# The words of {}; printed from its flows and schemas.\n", protocol.settings.name);
    let every = words.len().div_ceil(WORDS).max(1);
    for word in words.into_iter().step_by(every) {
        let escaped = word.replace('\\', "\\\\").replace('"', "\\\"");
        let _ = writeln!(text, "\"{escaped}\"");
    }
    text
}
