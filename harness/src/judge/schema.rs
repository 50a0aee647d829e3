//! The second judge: every message of the party under test against the message catalogue of its role.

use flowproof_reference::machine::Time;
use serde_json::Value;

use super::finding::{Finding, Judge, Ruling};
use crate::corpus::{MessageRule, Protocol};
use crate::monitor::{NotJson, Party, Rulings};
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
    rulings: &mut Rulings,
) {
    let object_rule = protocol.settings.wire.json_object.of(&from.role);
    let no_object = |requirement: &str, message: String, actual: Value| {
        finding(requirement, from, at, message, "one JSON object".to_owned(), actual)
    };
    let value = match (parsed, object_rule) {
        (Ok(value), _) => value,
        (Err(NotJson::Malformed), Some(requirement)) => {
            let actual = Value::from(json::cut(text, 1000));
            let message = "the message is not JSON".to_owned();
            rulings.findings.push(no_object(requirement, message, actual));
            return;
        }
        (Err(_), _) => return,
    };
    if let Some(requirement) = object_rule {
        if !value.is_object() {
            let message = format!("the message is a JSON {}, not an object", json::type_name(value));
            rulings.findings.push(no_object(requirement, message, actual(value)));
            return;
        }
        rulings.kept(requirement, from, at);
    }
    if let Some(requirement) = protocol.settings.wire.text_frames.of(&from.role) {
        rulings.kept(requirement, from, at);
    }
    judge_value(protocol, edition, from, to, value, at, rulings);
}

/// Judges the content of a message, however it travelled: the body of an HTTP request or answer, for instance.
pub fn judge_value(
    protocol: &Protocol,
    edition: &str,
    from: &Party,
    to: &Party,
    value: &Value,
    at: Time,
    rulings: &mut Rulings,
) {
    let nothing = Bindings::default();
    let applies = |rule: &&MessageRule| applies(protocol, rule, edition, from, to, value, &nothing);
    for rule in protocol.messages.iter().filter(applies) {
        if rule.validator.is_valid(value) {
            rulings.kept(&rule.requirement, from, at);
            continue;
        }
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
        let message = format!("a `{}` message does not have its form: {}", rule.name, errors.join("; "));
        let expected = format!("a message as in schema/{}", rule.schema);
        rulings.findings.push(finding(&rule.requirement, from, at, message, expected, actual(value)));
    }
}

/// Judges a binary message that `from` sent.
pub fn judge_binary(protocol: &Protocol, from: &Party, bytes: &[u8], at: Time, rulings: &mut Rulings) {
    if let Some(requirement) = protocol.settings.wire.text_frames.of(&from.role) {
        let message = "the message came as a binary frame".to_owned();
        let actual = Value::from(json::cut(&String::from_utf8_lossy(bytes), 1000));
        rulings.findings.push(finding(requirement, from, at, message, "a text frame".to_owned(), actual));
    }
}

fn applies(
    protocol: &Protocol,
    rule: &MessageRule,
    edition: &str,
    from: &Party,
    to: &Party,
    value: &Value,
    nothing: &Bindings,
) -> bool {
    let plays = |party: &Party, wanted: &str| protocol.settings.plays(&party.role, wanted);
    plays(from, &rule.from)
        && plays(to, &rule.to)
        && (rule.editions.is_empty() || rule.editions.iter().any(|known| known == edition))
        && fits(&rule.when, value, nothing).is_some()
}

fn finding(
    requirement: &str,
    by: &Party,
    at: Time,
    message: String,
    expected: String,
    actual: Value,
) -> Finding {
    Finding {
        requirement: Some(requirement.to_owned()),
        ruling: Ruling::Broken,
        by: by.name.clone(),
        judge: Judge::Schema,
        at,
        line: None,
        message,
        expected,
        actual,
    }
}
