//! Changes to what is said: one value inside a message becomes one of another type, a neighbour of a limit, a name that
//! means something else, or something that nobody reckons with.

use std::collections::BTreeSet;

use serde_json::Number;

use super::Mutator;
use crate::flow::ast::{Constant, Key, Member, Pattern, PatternKind, Payload, Span, StepKind};
use crate::fuzz::case::{Case, name, sent};
use crate::fuzz::tree;

/// Texts that programs trip over.
const ODD_TEXTS: &[&str] = &[
    "",
    " ",
    "0",
    "-1",
    "1e999",
    "null",
    "true",
    "undefined",
    "NaN",
    "[]",
    "{}",
    "*",
    ".",
    "..",
    "/",
    "../../../etc/passwd",
    "%00",
    "%s%n",
    "\u{0}",
    "a\u{0}b",
    "\n",
    "\r\n\r\n",
    "\u{1f}",
    "\u{7f}",
    "\u{fffd}",
    "\u{202e}abc",
    "é",
    "e\u{301}",
    "ß",
    "İ",
    "日本語",
    "👩‍👩‍👧‍👦",
    "\u{10ffff}",
    "\u{feff}x",
    "__proto__",
    "constructor",
    "toString",
    "hasOwnProperty",
    "prototype",
    "length",
    "id",
    "'",
    "\"",
    "\\",
    "<script>",
    "' OR 1=1 --",
];

/// Numbers that programs trip over.
const ODD_NUMBERS: &[i64] = &[
    0,
    1,
    -1,
    2,
    7,
    127,
    128,
    255,
    256,
    32_767,
    32_768,
    65_535,
    65_536,
    2_147_483_647,
    2_147_483_648,
    -2_147_483_648,
    4_294_967_295,
    4_294_967_296,
    9_007_199_254_740_991,
    9_007_199_254_740_992,
    9_007_199_254_740_993,
    i64::MAX,
    i64::MIN,
];

/// Lengths of long texts.
const LENGTHS: &[u32] = &[33, 100, 256, 1025, 5000, 65_536, 70_000];
/// How deep a nested value is.
const DEPTHS: &[usize] = &[3, 20, 100];

impl Mutator<'_> {
    pub(super) fn change_value(&mut self, case: &mut Case, watched: &BTreeSet<String>) -> Option<String> {
        let sends = self.sends(case, watched);
        let connects: Vec<usize> = case
            .flow
            .steps
            .iter()
            .enumerate()
            .filter(|(_, step)| matches!(&step.kind, StepKind::Connects { options, .. } if options.query.is_some()))
            .map(|(place, _)| place)
            .collect();
        let variables = variables(case);
        if !connects.is_empty() && self.rng.u8(..12) == 0 {
            let place = *self.one_of(&connects)?;
            if let StepKind::Connects { options, .. } = &mut case.flow.steps[place].kind {
                let said = self.change_inside(options.query.as_mut()?, &variables)?;
                return Some(format!("a connection asks with {said}"));
            }
        }
        let place = *self.one_of(&sends)?;
        let payload = sent(&mut case.flow.steps[place], watched)?;
        let pattern = body(payload)?;
        let said = self.change_inside(pattern, &variables)?;
        self.spell_deep(sent(&mut case.flow.steps[place], watched)?);
        Some(said)
    }

    /// Changes one value inside a message; what was done, in words.
    pub fn change_inside(&mut self, pattern: &mut Pattern, variables: &[String]) -> Option<String> {
        let place = self.rng.usize(..tree::size(pattern));
        let target = tree::value_at(pattern, place)?;
        let before = crate::pattern::json::cut(&crate::flow::format::pattern_text(target), 60);
        let own = self.rng.u8(..3) > 0;
        let done = own && self.change_own(target, variables);
        if !done {
            *target = self.odd(variables);
        }
        let after = crate::pattern::json::cut(&crate::flow::format::pattern_text(target), 60);
        Some(format!("{before} becomes {after}"))
    }

    /// A change that fits what is there. False when there is none.
    fn change_own(&mut self, target: &mut Pattern, variables: &[String]) -> bool {
        match &mut target.kind {
            PatternKind::Object { members, .. } => {
                match self.rng.u8(..7) {
                    0 | 1 if !members.is_empty() => {
                        members.remove(self.rng.usize(..members.len()));
                    }
                    2 if !members.is_empty() => {
                        let place = self.rng.usize(..members.len());
                        let key = self.key();
                        members[place].key = Key::Text(key, Span::default());
                    }
                    3 => {
                        let value = match self.one_of(variables) {
                            Some(known) if self.rng.bool() => variable(known),
                            _ => self.odd(variables),
                        };
                        let pool = self.pool;
                        let key = match self.one_of(&pool.claims) {
                            Some(claim) if self.rng.bool() => claim.clone(),
                            _ => self.key(),
                        };
                        put(members, key, value);
                    }
                    4 if members.len() > 1 => {
                        let (from, to) = (self.rng.usize(..members.len()), self.rng.usize(..members.len()));
                        let value = members[from].value.clone();
                        members[to].value = value;
                    }
                    5 => *target = array(vec![target.clone()]),
                    _ => {
                        // A member from another message of the same protocol.
                        let pool = self.pool;
                        let Some(said) = self.one_of(&pool.said) else { return false };
                        let Payload::Json(Pattern {
                            kind: PatternKind::Object { members: theirs, .. }, ..
                        }) = &said.payload
                        else {
                            return false;
                        };
                        let theirs = theirs.clone();
                        let Some(member) = self.one_of(&theirs) else { return false };
                        if let Key::Text(key, _) = &member.key {
                            put(members, key.clone(), member.value.clone());
                        }
                    }
                }
                true
            }
            PatternKind::Array { items, .. } => {
                match self.rng.u8(..5) {
                    0 if !items.is_empty() => {
                        items.remove(self.rng.usize(..items.len()));
                    }
                    1 if !items.is_empty() => {
                        let place = self.rng.usize(..items.len());
                        items.insert(place, items[place].clone());
                    }
                    2 => items.clear(),
                    3 => items.reverse(),
                    _ => {
                        let value = self.odd(variables);
                        let place = self.rng.usize(..=items.len());
                        items.insert(place, value);
                    }
                }
                true
            }
            PatternKind::String { text: known, .. } => {
                let known = known.clone();
                *target = match self.rng.u8(..10) {
                    0 => text(&known.to_uppercase()),
                    1 => text(&format!("{known} ")),
                    2 => text(&format!(" {known}")),
                    3 => text(&format!("{known}{known}")),
                    4 => text(known.split_at(known.char_indices().nth(1).map_or(0, |(at, _)| at)).1),
                    5 => text(&format!("{known}\u{0}")),
                    6 => times(
                        if known.is_empty() { "x" } else { &known },
                        *self.one_of(LENGTHS).unwrap_or(&33),
                    ),
                    7 => array(vec![text(&known)]),
                    _ => self.word(),
                };
                true
            }
            PatternKind::Number(number) => {
                let known = number.as_f64().unwrap_or(0.0);
                *target = match self.rng.u8(..8) {
                    0 => whole(number.as_i64().unwrap_or(0).saturating_add(1)),
                    1 => whole(number.as_i64().unwrap_or(0).saturating_sub(1)),
                    2 => whole(number.as_i64().unwrap_or(1).saturating_neg()),
                    3 => float(known + 0.5),
                    4 => text(&number.to_string()),
                    5 => float(known * 1e15),
                    _ => self.number(),
                };
                true
            }
            PatternKind::Variable { name: known, .. } => {
                let known = Pattern {
                    kind: PatternKind::Variable { name: known.clone(), is: None },
                    span: Span::default(),
                };
                let other = variables.get(self.rng.usize(..variables.len().max(1)));
                *target = match (self.rng.u8(..6), other) {
                    (0, _) => join(vec![known, text(" ")]),
                    (1, _) => join(vec![text(" "), known]),
                    (2, _) => array(vec![known]),
                    (3, _) => join(vec![known, text("0")]),
                    (_, Some(other)) => variable(other),
                    (_, None) => return false,
                };
                true
            }
            _ => false,
        }
    }

    /// A value that does not belong here.
    pub fn odd(&mut self, variables: &[String]) -> Pattern {
        match self.rng.u8(..16) {
            0 | 1 => constant(Constant::Null),
            2 => constant(if self.rng.bool() { Constant::True } else { Constant::False }),
            3 | 4 => self.number(),
            5 => array(Vec::new()),
            6 => object(Vec::new()),
            7 => {
                let depth = *self.one_of(DEPTHS).unwrap_or(&3);
                (0..depth).fold(array(Vec::new()), |inner, _| array(vec![inner]))
            }
            8 if !variables.is_empty() => variable(&variables[self.rng.usize(..variables.len())]),
            9 => {
                let length = *self.one_of(LENGTHS).unwrap_or(&33);
                times("x", length)
            }
            10 => {
                let word = self.word();
                array(vec![word])
            }
            11 => {
                let (key, value) = (self.key(), self.word());
                let mut members = Vec::new();
                put(&mut members, key, value);
                object(members)
            }
            12 => {
                let odd = *self.one_of(ODD_TEXTS).unwrap_or(&"");
                text(odd)
            }
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Pattern {
        if self.rng.u8(..3) == 0 || self.pool.words.is_empty() {
            let odd = *self.one_of(ODD_TEXTS).unwrap_or(&"");
            return text(odd);
        }
        text(&self.pool.words[self.rng.usize(..self.pool.words.len())])
    }

    fn key(&mut self) -> String {
        if self.rng.u8(..4) == 0 || self.pool.keys.is_empty() {
            return (*self.one_of(ODD_TEXTS).unwrap_or(&"")).to_owned();
        }
        self.pool.keys[self.rng.usize(..self.pool.keys.len())].clone()
    }

    fn number(&mut self) -> Pattern {
        let numbers = &self.pool.numbers;
        match self.rng.u8(..4) {
            0 => float([0.5, -0.5, 1e-7, 1e21, 1e308, -1e308, 1.5][self.rng.usize(..7)]),
            1 => whole(*self.one_of(ODD_NUMBERS).unwrap_or(&0)),
            _ => match self.one_of(numbers) {
                Some(known) => Pattern { kind: PatternKind::Number(known.clone()), span: Span::default() },
                None => whole(0),
            },
        }
    }
}

/// The JSON that a payload holds, if it is JSON.
pub(in crate::fuzz) fn body(payload: &mut Payload) -> Option<&mut Pattern> {
    match payload {
        Payload::Json(pattern) => Some(pattern),
        Payload::HttpRequest { body: Some(inner), .. } => body(inner),
        _ => None,
    }
}

/// The variables of a case, without those of a table.
pub fn variables(case: &Case) -> Vec<String> {
    let mut found = BTreeSet::new();
    for step in &mut case.flow.steps.clone() {
        tree::variables_of(step, &mut |name| {
            found.insert(name.text.clone());
        });
    }
    found.into_iter().collect()
}

/// A member is named once.
fn put(members: &mut Vec<Member>, key: String, value: Pattern) {
    members.retain(|member| !matches!(&member.key, Key::Text(known, _) if *known == key));
    members.push(Member { leading: Vec::new(), key: Key::Text(key, Span::default()), value });
}

/// A pattern that stands nowhere.
pub(in crate::fuzz) fn pattern(kind: PatternKind) -> Pattern {
    Pattern { kind, span: Span::default() }
}

/// A text.
pub(in crate::fuzz) fn text(text: &str) -> Pattern {
    pattern(PatternKind::String { text: text.to_owned(), backticks: false })
}

pub(in crate::fuzz) fn join(parts: Vec<Pattern>) -> Pattern {
    pattern(PatternKind::Join(parts))
}

pub(in crate::fuzz) fn times(part: &str, count: u32) -> Pattern {
    pattern(PatternKind::Times(Box::new(text(part)), count))
}

fn whole(number: i64) -> Pattern {
    pattern(PatternKind::Number(Number::from(number)))
}

fn float(number: f64) -> Pattern {
    Number::from_f64(number).map_or_else(|| whole(0), |number| pattern(PatternKind::Number(number)))
}

fn constant(constant: Constant) -> Pattern {
    pattern(PatternKind::Constant(constant))
}

fn array(items: Vec<Pattern>) -> Pattern {
    pattern(PatternKind::Array { items, open: false, unordered: false })
}

fn object(members: Vec<Member>) -> Pattern {
    pattern(PatternKind::Object { members, exactly: false })
}

fn variable(known: &str) -> Pattern {
    pattern(PatternKind::Variable { name: name(known), is: None })
}
