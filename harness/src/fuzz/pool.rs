//! What cases are made from: the flows of a role, the messages in them, and the words and numbers that the protocol
//! knows. Small on purpose: a name that is known, or a limit plus one, goes deeper than noise.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Number, Value};

use super::case::Case;
use super::depart::{self, Pace};
use super::tree;
use crate::corpus::{FlowFile, Protocol};
use crate::flow::ast::{HeaderItem, Key, Pattern, PatternKind, Payload, StepKind};
use crate::runner::plan::{self, RunSettings};

/// Words that are kept; the flows of a protocol have a few hundred.
const WORDS: usize = 4000;
/// Longest word that is kept.
const LONGEST: usize = 200;
/// Longest message text that a flow may send to be changed again and again.
const HEAVY: u32 = 200_000;

/// A message that a flow sends to somebody under test.
#[derive(Clone, Debug)]
pub struct Said {
    /// The role of whoever says it.
    pub role: String,
    /// What is said.
    pub payload: Payload,
}

/// What cases are made from.
#[derive(Debug, Default)]
pub struct Pool {
    /// The flows as plain sequences, ready to be changed.
    pub sequences: Vec<Case>,
    /// The flows as they are written, the quickest first.
    pub written: Vec<Case>,
    /// Every message that they send to somebody under test.
    pub said: Vec<Said>,
    /// Texts that the protocol knows, and some that nobody likes.
    pub words: Vec<String>,
    /// Names of members.
    pub keys: Vec<String>,
    /// Names of members that those under test write: said by somebody else they are claims.
    pub claims: Vec<String>,
    /// Numbers that the protocol knows, and their neighbours.
    pub numbers: Vec<Number>,
    /// The longest pause that is worth its time.
    pub longest_pause: Duration,
}

impl Pool {
    /// Everything that the protocol has for a role.
    pub fn of(protocol: &Protocol, role: &str, settings: &RunSettings, pace: Pace) -> Pool {
        let mut pool = Pool { longest_pause: pace.longest_pause, ..Pool::default() };
        let mut words = BTreeSet::new();
        let mut keys = BTreeSet::new();
        let mut claims = BTreeSet::new();
        let mut numbers = BTreeSet::new();
        let mut written: Vec<(Duration, Case)> = Vec::new();
        let known = protocol.flows.iter().map(|file| (file, true));
        for (file, is_flow) in known.chain(protocol.served.iter().map(|file| (file, false))) {
            for row in rows(file) {
                let case = Case::as_written(file, row);
                let Ok(plan) = case.plan(protocol, role, settings) else { continue };
                let own = |step: &crate::flow::ast::Step| is_of_role(step, &plan);
                let mut sequence = depart::depart(file, row, protocol, role, pace);
                if weight(&case) > HEAVY {
                    continue;
                }
                let columns = columns(&case);
                let watched = case.watched(protocol, role);
                plan::walk(&case.flow.steps, &mut |step| {
                    if let StepKind::Arrow { from, payload, .. } = &step.kind
                        && watched.contains(&from.text)
                    {
                        tree::of_payload(&mut payload.clone(), &mut |pattern| {
                            collect(pattern, &mut BTreeSet::new(), &mut claims, &mut BTreeSet::new());
                        });
                    }
                });
                for step in &mut sequence.flow.steps {
                    if let StepKind::Arrow { from, payload, .. } = &step.kind
                        && own(step)
                        && !names_any(payload, &columns)
                        && let Some(sender) = plan.names.get(&from.text).and_then(|all| all.first())
                    {
                        let role = plan.cast[*sender].role.clone();
                        pool.said.push(Said { role, payload: payload.clone() });
                    }
                    tree::patterns(step, &mut |pattern| {
                        collect(pattern, &mut words, &mut keys, &mut numbers)
                    });
                }
                pool.sequences.push(sequence);
                // What takes long is the business of `flowproof test`.
                let long = waits(&case);
                let fits = pace.settles || (long < Duration::from_secs(4) && !is_alone(file));
                if is_flow && plan::judges_role(file, protocol, role) && fits {
                    written.push((long, case));
                }
            }
        }
        for rule in &protocol.messages {
            of_schema(&rule.document, &mut words, &mut keys, &mut numbers);
        }
        written.sort_by_key(|(long, _)| *long);
        pool.written = written.into_iter().map(|(_, case)| case).collect();
        pool.words = words.into_iter().filter(|word| word.len() <= LONGEST).take(WORDS).collect();
        pool.keys = keys.into_iter().take(WORDS).collect();
        pool.claims = claims.into_iter().take(WORDS).collect();
        let near: BTreeSet<i64> =
            numbers.iter().flat_map(|known: &i64| [-1, 0, 1].map(|by| known.saturating_add(by))).collect();
        pool.numbers = near.into_iter().map(Number::from).collect();
        pool
    }
}

/// The columns of a case's table: in another conversation they mean nothing.
fn columns(case: &Case) -> Vec<String> {
    let tables = case.flow.header.iter().filter_map(|line| match &line.item {
        HeaderItem::Examples(table) => Some(&table.columns),
        _ => None,
    });
    tables.flatten().map(|column| column.text.clone()).collect()
}

fn names_any(payload: &Payload, columns: &[String]) -> bool {
    let mut names = false;
    tree::of_payload(&mut payload.clone(), &mut |pattern| {
        tree::variables(pattern, &mut |name| names |= columns.contains(&name.text));
    });
    names
}

/// The rows of a flow's table: one, without number, for a flow that has none.
pub fn rows(file: &FlowFile) -> Vec<Option<usize>> {
    let table = file.flow.header.iter().find_map(|line| match &line.item {
        HeaderItem::Examples(table) => Some(table.rows.len()),
        _ => None,
    });
    table.map_or(vec![None], |count| (0..count).map(Some).collect())
}

fn is_of_role(step: &crate::flow::ast::Step, plan: &plan::Plan) -> bool {
    let watched =
        |name: &str| plan.names.get(name).is_some_and(|all| all.iter().any(|one| plan.cast[*one].under_test));
    matches!(&step.kind, StepKind::Arrow { from, to, .. } if watched(&to.text) && !watched(&from.text))
}

/// True for a flow that wants the target for itself, or stops it.
fn is_alone(file: &FlowFile) -> bool {
    let mut stops = false;
    plan::walk(&file.flow.steps, &mut |step| {
        stops |= matches!(step.kind, StepKind::Quits { .. } | StepKind::Exits { .. });
    });
    stops || file.tags().iter().any(|tag| matches!(*tag, "alone" | "background"))
}

/// Times that a flow surely waits.
fn waits(case: &Case) -> Duration {
    let mut sum = Duration::ZERO;
    plan::walk(&case.flow.steps, &mut |step| {
        sum += match &step.kind {
            StepKind::Wait(duration) => *duration,
            StepKind::Quiet { duration, .. } => duration.unwrap_or(Duration::from_secs(1)),
            StepKind::Settle => Duration::from_secs(1),
            StepKind::Every { longest, times, .. } => *longest * *times,
            _ => Duration::ZERO,
        };
    });
    sum
}

/// About how much text a case says.
fn weight(case: &Case) -> u32 {
    fn of_pattern(pattern: &Pattern) -> u32 {
        match &pattern.kind {
            PatternKind::Times(part, times) => of_pattern(part).saturating_mul(*times),
            PatternKind::String { text, .. } => u32::try_from(text.len()).unwrap_or(u32::MAX),
            PatternKind::Object { members, .. } => {
                members.iter().map(|member| of_pattern(&member.value)).fold(0, u32::saturating_add)
            }
            PatternKind::Array { items, .. } | PatternKind::Join(items) => {
                items.iter().map(of_pattern).fold(1, u32::saturating_add)
            }
            _ => 1,
        }
    }
    let mut sum = 0_u32;
    let mut steps = case.flow.steps.clone();
    for step in &mut steps {
        let times = if let StepKind::Repeat { times, .. } = &step.kind { *times } else { 1 };
        tree::patterns(step, &mut |pattern| {
            sum = sum.saturating_add(of_pattern(pattern).saturating_mul(times))
        });
    }
    for member in case.cast() {
        sum = sum.saturating_mul(member.count.unwrap_or(1).div_ceil(4));
    }
    sum
}

fn collect(
    pattern: &mut Pattern,
    words: &mut BTreeSet<String>,
    keys: &mut BTreeSet<String>,
    numbers: &mut BTreeSet<i64>,
) {
    match &pattern.kind {
        PatternKind::String { text, .. } => {
            words.insert(text.clone());
        }
        PatternKind::Number(number) => numbers.extend(number.as_i64()),
        PatternKind::Range { low, high } => {
            numbers.extend(low.iter().chain(high).filter_map(Number::as_i64));
        }
        PatternKind::Object { members, .. } => {
            for member in members {
                if let Key::Text(text, _) = &member.key {
                    keys.insert(text.clone());
                }
            }
        }
        _ => {}
    }
    tree::children(pattern).into_iter().for_each(|part| collect(part, words, keys, numbers));
}

/// Words, members and limits of a schema.
fn of_schema(
    schema: &Value,
    words: &mut BTreeSet<String>,
    keys: &mut BTreeSet<String>,
    numbers: &mut BTreeSet<i64>,
) {
    match schema {
        Value::Object(members) => {
            for (key, value) in members {
                match (key.as_str(), value) {
                    ("const", Value::String(text)) => {
                        words.insert(text.clone());
                    }
                    ("enum", Value::Array(values)) => {
                        words.extend(values.iter().filter_map(Value::as_str).map(str::to_owned));
                    }
                    ("properties", Value::Object(known)) => keys.extend(known.keys().cloned()),
                    (
                        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "minLength"
                        | "maxLength" | "minItems" | "maxItems",
                        Value::Number(number),
                    ) => numbers.extend(number.as_i64()),
                    _ => {}
                }
                of_schema(value, words, keys, numbers);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| of_schema(item, words, keys, numbers)),
        _ => {}
    }
}
