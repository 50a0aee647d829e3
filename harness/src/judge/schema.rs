//! The second judge: every message of the party under test against the message catalogue of its role.

use flowproof_reference::machine::Time;
use serde_json::Value;

use super::finding::{Finding, Judge, Ruling};
use crate::corpus::{MessageRule, Protocol};
use crate::monitor::{NotJson, Party};
use crate::pattern::{Bindings, fits, json};

/// How much of a message a finding carries.
const ACTUAL_LIMIT: usize = 64 << 10;

/// A message small enough to be kept whole in a finding, otherwise its beginning as a string.
pub fn actual(value: &Value) -> Value {
    let text = value.to_string();
    if text.len() <= ACTUAL_LIMIT { value.clone() } else { Value::from(json::cut(&text, 1000)) }
}

/// Judges a text message that `from` sent to `to`.
#[expect(clippy::too_many_arguments, reason = "everything a message is judged by, once")]
pub fn judge_text(
    protocol: &Protocol,
    edition: &str,
    from: &Party,
    to: &Party,
    text: &str,
    parsed: Result<&Value, NotJson>,
    at: Time,
    findings: &mut Vec<Finding>,
) {
    let object_rule = protocol.settings.wire.json_object.of(&from.role);
    let value = match parsed {
        Ok(value) => value,
        Err(NotJson::BeyondUs) => return,
        Err(NotJson::Malformed) => {
            if let Some(requirement) = object_rule {
                let message = "the message is not JSON".to_owned();
                let actual = Value::from(json::cut(text, 1000));
                findings.push(finding(requirement, from, at, message, "one JSON object".to_owned(), actual));
            }
            return;
        }
    };
    if let Some(requirement) = object_rule {
        if value.is_object() {
            findings.push(kept(requirement, from, at));
        } else {
            let message = format!("the message is a JSON {}, not an object", json::type_name(value));
            findings.push(finding(
                requirement,
                from,
                at,
                message,
                "one JSON object".to_owned(),
                actual(value),
            ));
            return;
        }
    }
    if let Some(requirement) = protocol.settings.wire.text_frames.of(&from.role) {
        findings.push(kept(requirement, from, at));
    }
    judge_value(protocol, edition, from, to, value, at, findings);
}

/// Judges the content of a message, however it travelled: the body of an HTTP request or answer, for instance.
pub fn judge_value(
    protocol: &Protocol,
    edition: &str,
    from: &Party,
    to: &Party,
    value: &Value,
    at: Time,
    findings: &mut Vec<Finding>,
) {
    for rule in protocol.messages.iter().filter(|rule| applies(protocol, rule, edition, from, to, value)) {
        let errors: Vec<String> = rule
            .validator
            .iter_errors(value)
            .take(8)
            .map(|error| {
                let place = error.instance_path().to_string();
                format!(
                    "{}: {}",
                    if place.is_empty() { "/" } else { &place },
                    json::cut(&error.to_string(), 300)
                )
            })
            .collect();
        if errors.is_empty() {
            findings.push(kept(&rule.requirement, from, at));
        } else {
            let message = format!("a `{}` message does not have its form: {}", rule.name, errors.join("; "));
            let expected = format!("a message as in schema/{}", rule.schema);
            findings.push(finding(&rule.requirement, from, at, message, expected, actual(value)));
        }
    }
}

/// Judges a binary message that `from` sent.
pub fn judge_binary(protocol: &Protocol, from: &Party, bytes: &[u8], at: Time, findings: &mut Vec<Finding>) {
    if let Some(requirement) = protocol.settings.wire.text_frames.of(&from.role) {
        let message = "the message came as a binary frame".to_owned();
        let actual = Value::from(json::cut(&String::from_utf8_lossy(bytes), 1000));
        findings.push(finding(requirement, from, at, message, "a text frame".to_owned(), actual));
    }
}

fn applies(
    protocol: &Protocol,
    rule: &MessageRule,
    edition: &str,
    from: &Party,
    to: &Party,
    value: &Value,
) -> bool {
    let plays = |party: &Party, wanted: &str| protocol.settings.plays(&party.role, wanted);
    plays(from, &rule.from)
        && plays(to, &rule.to)
        && (rule.editions.is_empty() || rule.editions.iter().any(|known| known == edition))
        && fits(&rule.when, value, &Bindings::default()).is_some()
}

fn kept(requirement: &str, by: &Party, at: Time) -> Finding {
    Finding {
        requirement: Some(requirement.to_owned()),
        ruling: Ruling::Kept,
        by: by.name.clone(),
        judge: Judge::Schema,
        at,
        line: None,
        message: String::new(),
        expected: String::new(),
        actual: Value::Null,
    }
}

fn finding(
    requirement: &str,
    by: &Party,
    at: Time,
    message: String,
    expected: String,
    actual: Value,
) -> Finding {
    Finding { ruling: Ruling::Broken, message, expected, actual, ..kept(requirement, by, at) }
}
