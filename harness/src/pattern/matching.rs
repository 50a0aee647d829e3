//! A pattern read as an expectation: does this value fit, and if not, where does it differ?

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;

use regex::Regex;
use serde_json::{Map, Number, Value};

use super::bindings::{Bindings, Bound};
use super::generate::{text_of, variable_text};
use super::json;
use crate::flow::ast::{Constant, Key, Member, Pattern, PatternKind, TypeWord};
use crate::flow::format::pattern_text;

/// How often an unordered array may be taken apart in another way before we give up.
const UNORDERED_ATTEMPTS: u32 = 20_000;
/// Compiled regexes that are kept.
const REGEXES: usize = 256;
/// How much of a found value a mismatch shows.
const SHOWN: usize = 200;

/// One place where a value differs from a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// JSON path of the place, `$` for the whole message.
    pub path: String,
    /// What the pattern wants there, in flow syntax.
    pub expected: String,
    /// What stands there, with its JSON type; `nothing` when the member is missing.
    pub found: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {}: expected {}, found {}", self.path, self.expected, self.found)
    }
}

/// Matches `value` against `pattern`. Variables that the pattern meets first are bound in the result; on a mismatch
/// every place that differs is told.
pub fn matches(pattern: &Pattern, value: &Value, bindings: &Bindings) -> Result<Bindings, Vec<Mismatch>> {
    let mut matcher = Matcher::new(bindings.clone(), false);
    matcher.check(pattern, value, &Path::Whole);
    if matcher.differing == 0 { Ok(matcher.bindings) } else { Err(matcher.mismatches) }
}

/// Like [`matches()`], for whoever does not ask what differs.
pub fn fits(pattern: &Pattern, value: &Value, bindings: &Bindings) -> Option<Bindings> {
    let mut matcher = Matcher::new(bindings.clone(), true);
    matcher.check(pattern, value, &Path::Whole);
    (matcher.differing == 0).then_some(matcher.bindings)
}

/// The way from the whole message to a place in it.
enum Path<'a> {
    Whole,
    Member(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl Path<'_> {
    fn text(&self) -> String {
        match self {
            Path::Whole => "$".to_owned(),
            Path::Index(above, index) => format!("{}[{index}]", above.text()),
            Path::Member(above, key) => {
                let plain = !key.is_empty()
                    && !key.starts_with(|c: char| c.is_ascii_digit())
                    && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
                if plain {
                    format!("{}.{key}", above.text())
                } else {
                    format!("{}[{}]", above.text(), Value::from(json::cut(key, SHOWN)))
                }
            }
        }
    }
}

struct Matcher {
    bindings: Bindings,
    /// How many places differ.
    differing: usize,
    /// The places, unless nobody asks.
    mismatches: Vec<Mismatch>,
    quiet: bool,
    attempts: u32,
}

impl Matcher {
    fn new(bindings: Bindings, quiet: bool) -> Matcher {
        Matcher { bindings, differing: 0, mismatches: Vec::new(), quiet, attempts: UNORDERED_ATTEMPTS }
    }

    fn tell(&mut self, mismatch: impl FnOnce() -> Mismatch) {
        self.differing += 1;
        if !self.quiet {
            self.mismatches.push(mismatch());
        }
    }

    fn check(&mut self, pattern: &Pattern, value: &Value, path: &Path<'_>) {
        match &pattern.kind {
            PatternKind::Any => {}
            PatternKind::Constant(constant) => {
                let fits = match constant {
                    Constant::Null => value.is_null(),
                    Constant::True => *value == Value::Bool(true),
                    Constant::False => *value == Value::Bool(false),
                };
                self.expect(fits, pattern, value, path);
            }
            PatternKind::Number(number) => {
                let fits = matches!(value, Value::Number(found) if json::same_number(number, found));
                self.expect(fits, pattern, value, path);
            }
            PatternKind::String { text, .. } => {
                self.expect(value.as_str() == Some(text), pattern, value, path);
            }
            PatternKind::Type(word) => self.expect(has_type(*word, value), pattern, value, path),
            PatternKind::Regex(source) => {
                let fits = value.as_str().is_some_and(|text| finds(source, text));
                self.expect(fits, pattern, value, path);
            }
            PatternKind::Range { low, high } => {
                let fits =
                    matches!(value, Value::Number(found) if in_range(found, low.as_ref(), high.as_ref()));
                self.expect(fits, pattern, value, path);
            }
            PatternKind::OneOf(choices) => self.check_one_of(choices, pattern, value, path),
            PatternKind::AllOf(parts) => parts.iter().for_each(|part| self.check(part, value, path)),
            PatternKind::Not(inner) => {
                let fits = fits(inner, value, &self.bindings).is_none();
                self.expect(fits, pattern, value, path);
            }
            PatternKind::Variable { name, is } => match self.bindings.get(&name.text).cloned() {
                Some(Bound::Value(known)) => {
                    if !json::same(&known, value) {
                        let expected = || format!("{} (${})", json::short(&known, SHOWN), name.text);
                        self.differ(expected, value, path);
                    }
                }
                Some(Bound::Pattern(known)) => self.check(&known, value, path),
                Some(Bound::Payload(_)) => self.differ(|| format!("the payload ${}", name.text), value, path),
                None => {
                    let before = self.differing;
                    if let Some(is) = is {
                        self.check(is, value, path);
                    }
                    if self.differing == before {
                        self.bindings.bind(&name.text, Bound::Value(value.clone()));
                    }
                }
            },
            PatternKind::Array { items, open, unordered } => match value {
                Value::Array(found) if *unordered => {
                    self.check_unordered(pattern, items, *open, found, value, path)
                }
                Value::Array(found) => self.check_ordered(items, *open, found, path),
                _ => self.expect(false, pattern, value, path),
            },
            PatternKind::Object { members, exactly } => match value {
                Value::Object(found) => self.check_object(members, *exactly, found, path),
                _ => self.expect(false, pattern, value, path),
            },
            // A member that is absent never gets here; anything that is there is one too many.
            PatternKind::Absent => self.expect(false, pattern, value, path),
            PatternKind::Join(_) | PatternKind::Times(..) => match text_of(pattern, &self.bindings) {
                Ok(text) => {
                    if value.as_str() != Some(&text) {
                        self.differ(|| json::short(&Value::from(text), SHOWN), value, path);
                    }
                }
                Err(_) => self.expect(false, pattern, value, path),
            },
        }
    }

    fn expect(&mut self, fits: bool, pattern: &Pattern, value: &Value, path: &Path<'_>) {
        if !fits {
            self.differ(|| json::cut(&pattern_text(pattern), SHOWN), value, path);
        }
    }

    fn differ(&mut self, expected: impl FnOnce() -> String, value: &Value, path: &Path<'_>) {
        self.tell(|| {
            let found = format!("{} ({})", json::short(value, SHOWN), json::type_name(value));
            Mismatch { path: path.text(), expected: expected(), found }
        });
    }

    fn missing(&mut self, pattern: &Pattern, path: &Path<'_>) {
        self.tell(|| {
            let expected = pattern_text(pattern);
            Mismatch { path: path.text(), expected, found: "nothing".to_owned() }
        });
    }

    /// Tells of the alternative that came nearest, when one comes nearer than "none of them".
    fn check_one_of(&mut self, choices: &[Pattern], whole: &Pattern, value: &Value, path: &Path<'_>) {
        let mut nearest: Option<Vec<Mismatch>> = None;
        for choice in choices {
            let mut attempt = Matcher::new(self.bindings.clone(), self.quiet);
            attempt.attempts = self.attempts;
            attempt.check(choice, value, path);
            self.attempts = attempt.attempts;
            if attempt.differing == 0 {
                self.bindings = attempt.bindings;
                return;
            }
            if self.quiet {
                continue;
            }
            let here = path.text();
            let goes_deeper = attempt.mismatches.iter().all(|mismatch| mismatch.path != here);
            if goes_deeper && nearest.as_ref().is_none_or(|best| attempt.mismatches.len() < best.len()) {
                nearest = Some(attempt.mismatches);
            }
        }
        match nearest {
            Some(mismatches) => {
                self.differing += mismatches.len();
                self.mismatches.extend(mismatches);
            }
            None => self.expect(false, whole, value, path),
        }
    }

    fn check_ordered(&mut self, items: &[Pattern], open: bool, found: &[Value], path: &Path<'_>) {
        for (index, item) in items.iter().enumerate() {
            let path = Path::Index(path, index);
            match found.get(index) {
                Some(value) => self.check(item, value, &path),
                None => self.missing(item, &path),
            }
        }
        if !open && found.len() > items.len() {
            self.tell(|| Mismatch {
                path: path.text(),
                expected: format!("an array of {} elements", items.len()),
                found: format!("{} elements", found.len()),
            });
        }
    }

    fn check_unordered(
        &mut self,
        whole: &Pattern,
        items: &[Pattern],
        open: bool,
        found: &[Value],
        value: &Value,
        path: &Path<'_>,
    ) {
        let mut taken = vec![false; found.len()];
        let all = (open || items.len() == found.len()) && self.assign(items, found, &mut taken);
        if all {
            return;
        }
        if self.quiet {
            self.differing += 1;
            return;
        }
        // Say which element is missing when a single one is; otherwise show the whole.
        let lonely: Vec<&Pattern> = items
            .iter()
            .filter(|item| !found.iter().any(|value| fits(item, value, &self.bindings).is_some()))
            .collect();
        match lonely[..] {
            [] => self.expect(false, whole, value, path),
            _ => {
                for item in lonely {
                    let expected = format!("an element {}", self.with_values(item));
                    self.differ(|| expected, value, path);
                }
            }
        }
    }

    /// A pattern in flow syntax; a bound variable shows its value.
    fn with_values(&self, pattern: &Pattern) -> String {
        match &pattern.kind {
            PatternKind::Variable { name, .. } => match self.bindings.value(&name.text) {
                Some(value) => format!("{} (${})", json::short(value, SHOWN), name.text),
                None => pattern_text(pattern),
            },
            _ => pattern_text(pattern),
        }
    }

    /// Finds an element of its own for each item, trying again otherwise when a binding leads nowhere.
    fn assign(&mut self, items: &[Pattern], found: &[Value], taken: &mut [bool]) -> bool {
        let Some((item, rest)) = items.split_first() else { return true };
        for index in 0..found.len() {
            if taken[index] {
                continue;
            }
            if self.attempts == 0 {
                return false;
            }
            self.attempts -= 1;
            let Some(bindings) = fits(item, &found[index], &self.bindings) else { continue };
            let before = std::mem::replace(&mut self.bindings, bindings);
            taken[index] = true;
            if self.assign(rest, found, taken) {
                return true;
            }
            taken[index] = false;
            self.bindings = before;
        }
        false
    }

    fn check_object(
        &mut self,
        members: &[Member],
        exactly: bool,
        found: &Map<String, Value>,
        path: &Path<'_>,
    ) {
        let mut named = Vec::new();
        for member in members {
            // Whoever does not ask what differs has heard enough.
            if self.quiet && self.differing > 0 {
                return;
            }
            let Some(key) = self.key(&member.key, path) else { continue };
            let place = Path::Member(path, &key);
            match found.get(&*key) {
                Some(value) => self.check(&member.value, value, &place),
                None if may_be_absent(&member.value, &self.bindings) => {}
                None => self.missing(&member.value, &place),
            }
            if exactly {
                named.push(key);
            }
        }
        if exactly {
            for (key, value) in found.iter().filter(|(key, _)| !named.iter().any(|named| named == *key)) {
                self.differ(|| "absent".to_owned(), value, &Path::Member(path, key));
            }
        }
    }

    fn key<'k>(&mut self, key: &'k Key, path: &Path<'_>) -> Option<Cow<'k, str>> {
        match key {
            Key::Text(text, _) => Some(Cow::Borrowed(text)),
            Key::Variable(name) => match variable_text(&name.text, &self.bindings) {
                Ok(text) => Some(Cow::Owned(text)),
                Err(error) => {
                    self.tell(|| Mismatch {
                        path: path.text(),
                        expected: format!("a string in ${} to name a member", name.text),
                        found: error.to_string(),
                    });
                    None
                }
            },
        }
    }
}

fn may_be_absent(pattern: &Pattern, bindings: &Bindings) -> bool {
    match &pattern.kind {
        PatternKind::Absent => true,
        PatternKind::OneOf(choices) => choices.iter().any(|choice| may_be_absent(choice, bindings)),
        PatternKind::AllOf(parts) => parts.iter().all(|part| may_be_absent(part, bindings)),
        PatternKind::Not(inner) => !may_be_absent(inner, bindings),
        PatternKind::Variable { name, .. } => {
            matches!(bindings.get(&name.text), Some(Bound::Pattern(known)) if may_be_absent(known, bindings))
        }
        _ => false,
    }
}

fn in_range(found: &Number, low: Option<&Number>, high: Option<&Number>) -> bool {
    // Integers are compared exactly; a double in the comparison makes it a comparison of doubles.
    let at_least = |a: &Number, b: &Number| match (as_i128(a), as_i128(b)) {
        (Some(a), Some(b)) => a >= b,
        _ => a.as_f64() >= b.as_f64(),
    };
    low.is_none_or(|low| at_least(found, low)) && high.is_none_or(|high| at_least(high, found))
}

fn as_i128(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

fn has_type(word: TypeWord, value: &Value) -> bool {
    match (word, value) {
        (TypeWord::Array, Value::Array(_))
        | (TypeWord::Boolean, Value::Bool(_))
        | (TypeWord::Number, Value::Number(_))
        | (TypeWord::Object, Value::Object(_))
        | (TypeWord::String, Value::String(_)) => true,
        (TypeWord::Integer, Value::Number(number)) => json::is_integer(number),
        (TypeWord::Base64, Value::String(text)) => is_base64(text),
        (TypeWord::Timestamp, Value::String(text)) => is_timestamp(text),
        (TypeWord::Uuid, Value::String(text)) => is_uuid(text),
        _ => false,
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

fn is_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    text.len().is_multiple_of(4)
        && text.len() - digits.len() <= 2
        && digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/')
}

/// RFC 3339: `2016-03-01T16:26:00Z`, with fractions and offsets.
fn is_timestamp(text: &str) -> bool {
    const FORM: &str = r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[Tt ]([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)$";
    finds(FORM, text)
}

/// True when the regex is found in the text. To compile one takes far longer than to use it, and the same few of a
/// protocol are used for every message.
fn finds(source: &str, text: &str) -> bool {
    thread_local! {
        static KNOWN: RefCell<HashMap<String, Option<Regex>>> = RefCell::new(HashMap::new());
    }
    KNOWN.with_borrow_mut(|known| {
        if let Some(regex) = known.get(source) {
            return regex.as_ref().is_some_and(|regex| regex.is_match(text));
        }
        if known.len() >= REGEXES {
            known.clear();
        }
        // A regex that does not compile was a diagnostic before the run.
        let regex = Regex::new(source).ok();
        let found = regex.as_ref().is_some_and(|regex| regex.is_match(text));
        known.insert(source.to_owned(), regex);
        found
    })
}
