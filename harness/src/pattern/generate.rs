//! A pattern read as a message to send: holes get fresh values, drawn from a seeded source.

use fastrand::Rng;
use regex_syntax::hir::{Class, Hir, HirKind};
use serde_json::{Map, Number, Value};
use thiserror::Error;

use super::bindings::{Bindings, Bound};
use super::matching::matches;
use crate::flow::ast::{Constant, Key, Pattern, PatternKind, TypeWord};
use crate::flow::format::pattern_text;

/// How often an open-ended repetition in a regex is repeated at the most beyond its minimum.
const REGEX_REPEATS: u32 = 6;
/// How often a text is made anew for a regex whose anchors it does not meet.
const REGEX_ATTEMPTS: u32 = 50;
/// Parts of a regex that are gone through for one text; repetitions of repetitions would be gone through without end.
const REGEX_PARTS: u32 = 1 << 22;
/// So many are enough: from then on nothing is repeated more often than it has to be.
const REGEX_PLENTY: u32 = 1 << 14;
/// Longest string that an expression may make: hostile sizes are wanted, accidents are not.
const LONGEST_TEXT: usize = 256 << 20;

/// Why a pattern cannot be generated. The checker finds most of these before anything runs.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Ungeneratable {
    /// `&` or `not`: these only describe what arrives.
    #[error("`{0}` describes what arrives and cannot be sent")]
    MatchOnly(&'static str),
    /// `absent` outside an object.
    #[error("`absent` has a meaning as the value of a member only")]
    AbsentAlone,
    /// A regex with look-around, or one that nothing matches.
    #[error("no text can be made for the regex /{0}/")]
    Regex(String),
    /// A variable that must be bound here is not.
    #[error("${0} is not bound yet")]
    Unbound(String),
    /// A variable that must be a string here is not one.
    #[error("{0} is not a text")]
    NotText(String),
    /// A payload of another kind stands where JSON must be.
    #[error("${0} stands for a payload that is not JSON")]
    NotJson(String),
    /// An object would have a member twice.
    #[error("the member {0:?} is there twice")]
    Twice(String),
    /// The text would be larger than anything a flow should send.
    #[error("the text is too long")]
    TooLong,
}

/// Makes a value that `pattern` matches. Unbound variables are bound to what was made.
pub fn generate(pattern: &Pattern, bindings: &mut Bindings, rng: &mut Rng) -> Result<Value, Ungeneratable> {
    Ok(match &pattern.kind {
        PatternKind::Any => Value::from(word(rng)),
        PatternKind::Constant(Constant::Null) => Value::Null,
        PatternKind::Constant(Constant::True) => Value::Bool(true),
        PatternKind::Constant(Constant::False) => Value::Bool(false),
        PatternKind::Number(number) => Value::Number(number.clone()),
        PatternKind::String { text, .. } => Value::from(text.as_str()),
        PatternKind::Type(type_word) => typed(*type_word, rng),
        PatternKind::Regex(source) => Value::from(text_for_regex(source, rng)?),
        PatternKind::Range { low, high } => in_range(low.as_ref(), high.as_ref(), rng),
        PatternKind::OneOf(choices) => {
            let possible: Vec<usize> = (0..choices.len())
                .filter(|place| !matches!(choices[*place].kind, PatternKind::Absent))
                .collect();
            let place =
                *possible.get(rng.usize(..possible.len().max(1))).ok_or(Ungeneratable::AbsentAlone)?;
            let before = bindings.clone();
            let value = generate(&choices[place], bindings, rng)?;
            // A reader takes the first alternative that fits, and with it what that one binds.
            if let Some(bound) =
                choices[..place].iter().find_map(|choice| matches(choice, &value, &before).ok())
            {
                *bindings = bound;
            }
            value
        }
        PatternKind::AllOf(_) => return Err(Ungeneratable::MatchOnly("&")),
        PatternKind::Not(_) => return Err(Ungeneratable::MatchOnly("not")),
        PatternKind::Variable { name, is } => match bindings.get(&name.text).cloned() {
            Some(Bound::Value(value)) => value,
            Some(Bound::Pattern(known)) => generate(&known, bindings, rng)?,
            Some(Bound::Payload(_)) => return Err(Ungeneratable::NotJson(name.text.clone())),
            None => {
                let value = match is {
                    Some(is) => generate(is, bindings, rng)?,
                    None => Value::from(word(rng)),
                };
                bindings.bind(&name.text, Bound::Value(value.clone()));
                value
            }
        },
        PatternKind::Array { items, .. } => {
            Value::Array(items.iter().map(|item| generate(item, bindings, rng)).collect::<Result<_, _>>()?)
        }
        PatternKind::Object { members, .. } => {
            let mut object = Map::new();
            for member in members {
                // A reader has to know its name too, also of a member that is not there.
                let key = match &member.key {
                    Key::Text(text, _) => text.clone(),
                    Key::Variable(name) => variable_text(&name.text, bindings)?,
                };
                if is_absent(&member.value, bindings) {
                    continue;
                }
                let value = generate(&member.value, bindings, rng)?;
                // A variable may stand for the name of a member on purpose, and replaces it.
                let twice = object.contains_key(&key) && matches!(member.key, Key::Text(..));
                if twice {
                    return Err(Ungeneratable::Twice(key));
                }
                object.insert(key, value);
            }
            Value::Object(object)
        }
        PatternKind::Absent => return Err(Ungeneratable::AbsentAlone),
        PatternKind::Join(_) | PatternKind::Times(..) => Value::from(text_of(pattern, bindings)?),
    })
}

/// The text that a string expression stands for: literals, variables, `+` and `*`.
pub fn text_of(pattern: &Pattern, bindings: &Bindings) -> Result<String, Ungeneratable> {
    let text = match &pattern.kind {
        PatternKind::String { text, .. } => text.clone(),
        PatternKind::Number(number) => number.to_string(),
        PatternKind::Variable { name, .. } => variable_text(&name.text, bindings)?,
        PatternKind::Join(parts) => {
            let mut joined = String::new();
            for part in parts {
                joined.push_str(&text_of(part, bindings)?);
                if joined.len() > LONGEST_TEXT {
                    return Err(Ungeneratable::TooLong);
                }
            }
            joined
        }
        PatternKind::Times(part, times) => {
            let part = text_of(part, bindings)?;
            if part.len().saturating_mul(*times as usize) > LONGEST_TEXT {
                return Err(Ungeneratable::TooLong);
            }
            part.repeat(*times as usize)
        }
        PatternKind::AllOf(_) => return Err(Ungeneratable::MatchOnly("&")),
        PatternKind::Not(_) => return Err(Ungeneratable::MatchOnly("not")),
        _ => return Err(Ungeneratable::NotText(format!("`{}`", pattern_text(pattern)))),
    };
    Ok(text)
}

/// A text to send: a string expression, or a fresh text of any other pattern.
pub fn text_from(pattern: &Pattern, bindings: &mut Bindings, rng: &mut Rng) -> Result<String, Ungeneratable> {
    match text_of(pattern, bindings) {
        Err(Ungeneratable::NotText(_) | Ungeneratable::Unbound(_)) => {}
        done => return done,
    }
    match generate(pattern, bindings, rng)? {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(Ungeneratable::NotText(format!("`{}`", pattern_text(pattern)))),
    }
}

/// The text that a variable stands for: a string, or a number as it is written.
pub fn variable_text(name: &str, bindings: &Bindings) -> Result<String, Ungeneratable> {
    match bindings.get(name) {
        Some(Bound::Value(Value::String(text))) => Ok(text.clone()),
        Some(Bound::Value(Value::Number(number))) => Ok(number.to_string()),
        Some(Bound::Pattern(pattern)) => text_of(pattern, bindings),
        Some(_) => Err(Ungeneratable::NotText(format!("${name}"))),
        None => Err(Ungeneratable::Unbound(name.to_owned())),
    }
}

fn is_absent(pattern: &Pattern, bindings: &Bindings) -> bool {
    match &pattern.kind {
        PatternKind::Absent => true,
        PatternKind::Variable { name, .. } => {
            matches!(bindings.get(&name.text), Some(Bound::Pattern(known)) if is_absent(known, bindings))
        }
        _ => false,
    }
}

fn word(rng: &mut Rng) -> String {
    (0..8).map(|_| rng.lowercase()).collect()
}

fn typed(word_of: TypeWord, rng: &mut Rng) -> Value {
    match word_of {
        TypeWord::Array => Value::Array(vec![Value::from(word(rng))]),
        TypeWord::Base64 => {
            const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
            Value::from((0..12).map(|_| char::from(DIGITS[rng.usize(..DIGITS.len())])).collect::<String>())
        }
        TypeWord::Boolean => Value::Bool(rng.bool()),
        TypeWord::Integer => Value::from(rng.i64(0..1_000_000)),
        TypeWord::Number => Value::from(rng.i64(0..1_000_000) as f64 / 8.0),
        TypeWord::Object => Value::Object(Map::from_iter([(word(rng), Value::from(word(rng)))])),
        TypeWord::String => Value::from(word(rng)),
        TypeWord::Timestamp => Value::from(format!(
            "20{:02}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
            rng.u8(10..30),
            rng.u8(1..=12),
            rng.u8(1..=28),
            rng.u8(0..24),
            rng.u8(0..60),
            rng.u8(0..60)
        )),
        TypeWord::Uuid => Value::from(fresh_uuid(rng)),
    }
}

/// A random UUID (version 4), in lower case.
pub fn fresh_uuid(rng: &mut Rng) -> String {
    let mut digits: Vec<char> = (0..32).map(|_| rng.digit(16)).collect();
    digits[12] = '4';
    digits[16] = ['8', '9', 'a', 'b'][rng.usize(..4)];
    let text: String = digits.into_iter().collect();
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}

/// How far a number lies at the most from the one end of a range that has but one.
const OPEN_RANGE: f64 = 1000.0;

fn in_range(low: Option<&Number>, high: Option<&Number>, rng: &mut Rng) -> Value {
    let whole = |number: &Number| number.as_i64();
    match (low.map(whole), high.map(whole)) {
        (None, None) => Value::from(rng.i64(0..1_000_000)),
        (Some(Some(low)), None) => Value::from(low.saturating_add(rng.i64(0..1000))),
        (None, Some(Some(high))) => Value::from(high.saturating_sub(rng.i64(0..1000))),
        (Some(Some(low)), Some(Some(high))) if low <= high => Value::from(rng.i64(low..=high)),
        _ => {
            let (low, high) = (low.and_then(Number::as_f64), high.and_then(Number::as_f64));
            let (low, high) = match (low, high) {
                (Some(low), Some(high)) => (low, high),
                (Some(low), None) => (low, low + OPEN_RANGE),
                (None, Some(high)) => (high - OPEN_RANGE, high),
                (None, None) => (0.0, OPEN_RANGE),
            };
            // Weighed so that the distance, which may be no double, is never made.
            let at = rng.f64();
            Value::from((low * (1.0 - at) + high * at).clamp(low, high.max(low)))
        }
    }
}

fn text_for_regex(source: &str, rng: &mut Rng) -> Result<String, Ungeneratable> {
    let failed = || Ungeneratable::Regex(source.to_owned());
    let hir = regex_syntax::parse(source).map_err(|_| failed())?;
    let regex = regex::Regex::new(source).map_err(|_| failed())?;
    for _ in 0..REGEX_ATTEMPTS {
        let mut bytes = Vec::new();
        expand(&hir, rng, &mut 0, &mut bytes).ok_or_else(failed)?;
        // Anchors and word boundaries are not looked at when a text is made, so the outcome is checked.
        if let Ok(text) = String::from_utf8(bytes)
            && regex.is_match(&text)
        {
            return Ok(text);
        }
    }
    Err(failed())
}

fn expand(hir: &Hir, rng: &mut Rng, parts: &mut u32, out: &mut Vec<u8>) -> Option<()> {
    *parts += 1;
    if *parts > REGEX_PARTS {
        return None;
    }
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => out.extend_from_slice(&literal.0),
        HirKind::Class(Class::Unicode(class)) => {
            let ranges = class.ranges();
            let range = ranges.get(rng.usize(..ranges.len().max(1)))?;
            let picked = rng.char(range.start()..=range.end());
            out.extend_from_slice(picked.encode_utf8(&mut [0; 4]).as_bytes());
        }
        HirKind::Class(Class::Bytes(class)) => {
            let ranges = class.ranges();
            let range = ranges.get(rng.usize(..ranges.len().max(1)))?;
            out.push(rng.u8(range.start()..=range.end()));
        }
        HirKind::Repetition(repetition) => {
            let most = repetition.max.unwrap_or(repetition.min.saturating_add(REGEX_REPEATS));
            let most = if *parts > REGEX_PLENTY { repetition.min } else { most };
            for _ in 0..rng.u32(repetition.min..=most.max(repetition.min)) {
                expand(&repetition.sub, rng, parts, out)?;
            }
        }
        HirKind::Capture(capture) => expand(&capture.sub, rng, parts, out)?,
        HirKind::Concat(all) => all.iter().try_for_each(|part| expand(part, rng, parts, out))?,
        HirKind::Alternation(all) => expand(&all[rng.usize(..all.len())], rng, parts, out)?,
    }
    Some(())
}
