//! What was expected beside what was found: a pattern and a message laid side by side, member by member, so that the
//! eye finds the place that differs.

use serde_json::{Map, Value};

use crate::corpus::FlowFile;
use crate::flow::ast::{Key, Member, Pattern, PatternKind, Payload, Span, StepKind};
use crate::flow::format::{pattern_text, payload_text};
use crate::flow::parse_payload;
use crate::judge::finding::Finding;
use crate::pattern::{Bindings, Bound, fits, json, matches};
use crate::runner::plan;

/// Rows of a difference; what is longer is cut.
const ROWS: usize = 300;
/// Characters of one side of a row.
const SIDE: usize = 400;

/// One row: a member, an element, a brace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// How deep inside the message it stands.
    pub depth: usize,
    /// What was expected, in flow syntax; empty when nothing was.
    pub expected: String,
    /// What was found; empty when nothing was.
    pub actual: String,
    /// How the two compare.
    pub state: State,
    /// The place of the expectation in the flow's text.
    pub span: Option<Span>,
}

/// How the two sides of a row compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It fits.
    Same,
    /// It does not.
    Differs,
    /// It was expected and is not there.
    Missing,
    /// It is there, and nobody asked for it; that is allowed.
    Extra,
}

impl State {
    /// The word in the page's data.
    pub fn word(self) -> &'static str {
        match self {
            State::Same => "same",
            State::Differs => "differs",
            State::Missing => "missing",
            State::Extra => "extra",
        }
    }
}

/// Lays the two sides of a finding side by side. `None` where one of them is no message: a silence, words.
pub fn of_finding(finding: &Finding, flow: &str, file: Option<&FlowFile>) -> Option<Vec<Row>> {
    if finding.actual.is_null() || finding.actual.is_string() {
        return None;
    }
    let (text, values) = match finding.expected.split_once("   where $") {
        Some((text, values)) => (text, values),
        None => (finding.expected.as_str(), ""),
    };
    let mut bindings = Bindings::default();
    for (name, bound) in file.map(|file| plan::row_bindings(file, flow)).unwrap_or_default() {
        bindings.bind(&name, bound);
    }
    bind(values, &mut bindings);
    let mut differ = Differ { bindings, rows: Vec::new(), placed: true };
    let written = finding.line.zip(file).and_then(|(line, file)| written(file, line, text));
    match written {
        Some(Payload::Json(pattern)) => differ.check("", pattern, Some(&finding.actual), 0),
        _ => {
            differ.placed = false;
            match parse_payload(text).ok()? {
                Payload::Json(pattern) => differ.check("", &pattern, Some(&finding.actual), 0),
                _ => return None,
            }
        }
    }
    Some(differ.rows)
}

/// The payload in the flow's text that was expected.
fn written<'a>(file: &'a FlowFile, line: usize, text: &str) -> Option<&'a Payload> {
    let mut found = None;
    plan::walk(&file.flow.steps, &mut |step| {
        if let StepKind::Arrow { payload, .. } = &step.kind
            && file.line(step.span.start) == line
            && payload_text(payload) == text
        {
            found = Some(payload);
        }
    });
    found
}

/// Reads `a = 1, $b = "x"`.
fn bind(text: &str, bindings: &mut Bindings) {
    let mut rest = text;
    while let Some((name, value)) = rest.split_once(" = ") {
        let mut values = serde_json::Deserializer::from_str(value).into_iter::<Value>();
        // A value that was cut ends the list.
        let Some(Ok(known)) = values.next() else { return };
        bindings.bind(name, Bound::Value(known));
        let Some(next) = value[values.byte_offset()..].strip_prefix(", $") else { return };
        rest = next;
    }
}

struct Differ {
    bindings: Bindings,
    rows: Vec<Row>,
    /// True when spans are those of the flow's text.
    placed: bool,
}

impl Differ {
    fn row(
        &mut self,
        depth: usize,
        expected: String,
        actual: String,
        state: State,
        pattern: Option<&Pattern>,
    ) {
        if self.rows.len() > ROWS {
            return;
        }
        if self.rows.len() == ROWS {
            let more = "… more that is not shown".to_owned();
            self.rows.push(Row {
                depth: 0,
                expected: more.clone(),
                actual: more,
                state: State::Same,
                span: None,
            });
            return;
        }
        let span = pattern.filter(|_| self.placed).map(|pattern| pattern.span);
        let (expected, actual) = (json::cut(&expected, SIDE), json::cut(&actual, SIDE));
        self.rows.push(Row { depth, expected, actual, state, span });
    }

    fn check(&mut self, key: &str, pattern: &Pattern, value: Option<&Value>, depth: usize) {
        let Some(value) = value else {
            let (expected, state) = match &pattern.kind {
                PatternKind::Absent => (format!("{key}absent"), State::Same),
                _ => (format!("{key}{}", pattern_text(pattern)), State::Missing),
            };
            self.row(depth, expected, String::new(), state, Some(pattern));
            return;
        };
        match (&pattern.kind, value) {
            (PatternKind::Object { members, exactly }, Value::Object(found)) => {
                let open = if *exactly { "exactly {" } else { "{" };
                self.row(depth, format!("{key}{open}"), format!("{key}{{"), State::Same, Some(pattern));
                self.members(members, *exactly, found, depth + 1);
                self.row(depth, "}".to_owned(), "}".to_owned(), State::Same, None);
            }
            (PatternKind::Array { items, open, unordered }, Value::Array(found)) => {
                let begin = if *unordered { "unordered [" } else { "[" };
                self.row(depth, format!("{key}{begin}"), format!("{key}["), State::Same, Some(pattern));
                self.elements(items, *open, *unordered, found, depth + 1);
                self.row(depth, "]".to_owned(), "]".to_owned(), State::Same, None);
            }
            (PatternKind::Variable { name, is }, _) => {
                match (self.bindings.get(&name.text).cloned(), is) {
                    (Some(Bound::Pattern(known)), _) => {
                        // The place of a cell of the table is of no help beside the arrow.
                        let placed = std::mem::replace(&mut self.placed, false);
                        self.check(key, &known, Some(value), depth);
                        self.placed = placed;
                    }
                    (None, Some(is)) => {
                        self.check(key, is, Some(value), depth);
                        self.bindings.bind(&name.text, Bound::Value(value.clone()));
                    }
                    _ => self.leaf(key, pattern, value, depth),
                }
            }
            _ => self.leaf(key, pattern, value, depth),
        }
    }

    fn leaf(&mut self, key: &str, pattern: &Pattern, value: &Value, depth: usize) {
        let known = match &pattern.kind {
            PatternKind::Variable { name, .. } => self.bindings.value(&name.text),
            _ => None,
        };
        let known = known.map(|known| format!(" = {}", json::short(known, SIDE))).unwrap_or_default();
        let state = match matches(pattern, value, &self.bindings) {
            Ok(bindings) => {
                self.bindings = bindings;
                State::Same
            }
            Err(_) => State::Differs,
        };
        let actual = format!("{key}{}", json::short(value, SIDE));
        self.row(depth, format!("{key}{}{known}", pattern_text(pattern)), actual, state, Some(pattern));
    }

    fn members(&mut self, members: &[Member], exactly: bool, found: &Map<String, Value>, depth: usize) {
        let mut used: Vec<&str> = Vec::new();
        for member in members {
            let (shown, name) = match &member.key {
                Key::Text(name, _) => (Value::from(name.as_str()).to_string(), Some(name.clone())),
                Key::Variable(name) => {
                    let known = self.bindings.value(&name.text).and_then(Value::as_str).map(str::to_owned);
                    (format!("${}", name.text), known)
                }
            };
            let value = match &name {
                Some(name) => found.get_key_value(name),
                // A key that nothing binds stands for any member that fits.
                None => found.iter().find(|(key, value)| {
                    !used.contains(&key.as_str()) && fits(&member.value, value, &self.bindings).is_some()
                }),
            };
            used.extend(value.map(|(key, _)| key.as_str()));
            self.check(&format!("{shown}: "), &member.value, value.map(|(_, value)| value), depth);
        }
        for (key, value) in found.iter().filter(|(key, _)| !used.contains(&key.as_str())) {
            let state = if exactly { State::Differs } else { State::Extra };
            let actual = format!("{}: {}", Value::from(json::cut(key, SIDE)), json::short(value, SIDE));
            self.row(depth, String::new(), actual, state, None);
        }
    }

    fn elements(&mut self, items: &[Pattern], open: bool, unordered: bool, found: &[Value], depth: usize) {
        let mut left: Vec<&Value> = found.iter().collect();
        let mut pending: Vec<&Pattern> = Vec::new();
        for item in items {
            let place = if unordered {
                left.iter().position(|value| fits(item, value, &self.bindings).is_some())
            } else {
                (!left.is_empty()).then_some(0)
            };
            match place {
                Some(place) => {
                    let value = left.remove(place);
                    self.check("", item, Some(value), depth);
                }
                None => pending.push(item),
            }
        }
        for item in pending {
            let value = (unordered && !open && !left.is_empty()).then(|| left.remove(0));
            self.check("", item, value, depth);
        }
        if open {
            let rest = format!("… {} more", left.len());
            self.row(depth, "...".to_owned(), rest, State::Same, None);
        } else {
            for value in left {
                self.row(depth, String::new(), json::short(value, SIDE), State::Differs, None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flowproof_reference::machine::Time;
    use serde_json::json;

    use super::*;
    use crate::judge::finding::{Judge, Ruling};

    fn check(expected: &str, actual: Value, wanted: &str) {
        let finding = Finding {
            requirement: None,
            ruling: Ruling::Broken,
            by: String::new(),
            judge: Judge::Arrow,
            at: Time::ZERO,
            line: None,
            message: String::new(),
            expected: expected.to_owned(),
            actual,
        };
        let rows = of_finding(&finding, "", None).expect("both sides are messages");
        let shown: Vec<String> = rows
            .iter()
            .map(|row| {
                let sign = match row.state {
                    State::Same => ' ',
                    State::Differs => '!',
                    State::Missing => '-',
                    State::Extra => '+',
                };
                format!("{sign} {}{} | {}", "  ".repeat(row.depth), row.expected, row.actual)
                    .trim_end()
                    .to_owned()
            })
            .collect();
        assert_eq!(shown.join("\n"), wanted.trim_matches('\n'));
    }

    #[test]
    fn members_stand_beside_each_other() {
        check(
            r#"{"a": 1, "b": $x, "c": absent, "d": string, $x: [1, ...]}   where $x = "key""#,
            json!({"b": "other", "a": 1, "c": null, "key": [1, 2, 3], "more": {}}),
            r#"
  { | {
    "a": 1 | "a": 1
!   "b": $x = "key" | "b": "other"
!   "c": absent | "c": null
-   "d": string |
    $x: [ | $x: [
      1 | 1
      ... | … 2 more
    ] | ]
+    | "more": {}
  } | }"#,
        );
    }

    #[test]
    fn elements_are_paired_with_what_fits() {
        check(
            r#"{"l": unordered [$a, $b]}   where $a = "x", $b = "y""#,
            json!({"l": ["y", "z"]}),
            r#"
  { | {
    "l": unordered [ | "l": [
      $b = "y" | "y"
!     $a = "x" | "z"
    ] | ]
  } | }"#,
        );
        check(
            "[1, 2]",
            json!([1, 3, 4]),
            "
  [ | [
    1 | 1
!   2 | 3
!    | 4
  ] | ]",
        );
    }
}
