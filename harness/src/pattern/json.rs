//! Reading JSON that a stranger sent, and talking about it.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::de::IgnoredAny;
use serde_json::{Number, Value};

use crate::monitor::NotJson;

/// Values that one message may hold. A byte or two of text can become hundreds of bytes of a `Value`.
const VALUES: usize = 50_000;
/// What a value takes in memory at worst: a node of a map that has one entry.
const VALUE: usize = 640;

/// Parses one JSON text. Text that is JSON but nested too deeply (over 128 levels), holds more than 50 000 values or a
/// number beyond what a double can say, is [`NotJson::BeyondUs`]: nothing can be said about its inside.
pub fn parse(text: &[u8]) -> Result<Value, NotJson> {
    let read = if is_crowded(text) { None } else { serde_json::from_slice::<Value>(text).ok() };
    match read {
        Some(value) => Ok(value),
        // The grammar alone is checked without recursion and without reading numbers.
        None => match serde_json::from_slice::<IgnoredAny>(text) {
            Ok(_) if std::str::from_utf8(text).is_ok() => Err(NotJson::BeyondUs),
            _ => Err(NotJson::Malformed),
        },
    }
}

/// Parses a text that a party under test sent. What the grammar allows and a `Value` cannot hold is brought within
/// reach: half a character becomes U+FFFD, a number too large the largest there is.
pub fn parse_received(text: &[u8]) -> Result<Value, NotJson> {
    match parse(text) {
        Err(NotJson::BeyondUs) if !is_crowded(text) => {
            serde_json::from_slice(&within_reach(text)).map_err(|_| NotJson::BeyondUs)
        }
        other => other,
    }
}

/// Parses a text that a party sent to another, as [`parse_received`] does; and tells whether all readers read it alike,
/// as [`parse_sent`] would.
pub fn parse_overheard(text: &[u8]) -> (Result<Value, NotJson>, bool) {
    match parse(text) {
        Ok(value) => {
            let certain = has_one_reading(text, &value);
            (Ok(value), certain)
        }
        Err(NotJson::BeyondUs) => (parse_received(text), false),
        Err(error) => (Err(error), false),
    }
}

/// Parses a text that we send. Where readers may differ about what it says, because an object has two members of the
/// same name, nothing can be said about its inside.
pub fn parse_sent(text: &[u8]) -> Result<Value, NotJson> {
    let value = parse(text)?;
    if has_one_reading(text, &value) { Ok(value) } else { Err(NotJson::BeyondUs) }
}

/// True for a text with more values than one message may hold.
fn is_crowded(text: &[u8]) -> bool {
    // Each value but the first stands after one of these.
    if text.len() <= VALUES {
        return false;
    }
    outside_strings(text).filter(|byte| matches!(byte, b',' | b'[' | b'{')).count() > VALUES
}

/// About what a value takes in memory.
pub fn weight(value: &Value) -> usize {
    let inside = match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| VALUE / 4 + name.len() + weight(value)).sum()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    };
    inside + size_of::<Value>()
}

/// A copy of well-formed JSON without halves of characters and numbers beyond a double.
fn within_reach(text: &[u8]) -> Vec<u8> {
    let mut copy = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(&byte) = rest.first() {
        let taken = match byte {
            b'"' => string_within_reach(rest, &mut copy),
            b'-' | b'0'..=b'9' => number_within_reach(rest, &mut copy),
            _ => {
                copy.push(byte);
                1
            }
        };
        rest = &rest[taken..];
    }
    copy
}

fn number_within_reach(text: &[u8], copy: &mut Vec<u8>) -> usize {
    let is_part = |byte: &u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
    let end = text.iter().position(|byte| !is_part(byte)).unwrap_or(text.len());
    let value = std::str::from_utf8(&text[..end]).ok().and_then(|digits| digits.parse::<f64>().ok());
    match value.filter(|value| value.is_infinite()) {
        Some(infinite) => copy.extend_from_slice(format!("{:e}", f64::MAX.copysign(infinite)).as_bytes()),
        None => copy.extend_from_slice(&text[..end]),
    }
    end
}

fn string_within_reach(text: &[u8], copy: &mut Vec<u8>) -> usize {
    copy.push(b'"');
    let mut at = 1;
    while let Some(&byte) = text.get(at) {
        let length = match (byte, text.get(at + 1)) {
            (b'\\', Some(b'u')) => match (code_unit(text, at), code_unit(text, at + 6)) {
                (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
                (Some(0xd800..=0xdfff), _) => {
                    copy.extend_from_slice(br"\ufffd");
                    at += 6;
                    continue;
                }
                _ => 6,
            },
            (b'\\', _) => 2,
            _ => 1,
        };
        let end = (at + length).min(text.len());
        copy.extend_from_slice(&text[at..end]);
        at = end;
        if byte == b'"' {
            break;
        }
    }
    at
}

/// The number of an escape such as `\ud83d` that begins at a place.
fn code_unit(text: &[u8], at: usize) -> Option<u32> {
    let digits = text.get(at..at + 6)?.strip_prefix(br"\u")?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// True when no object of a text has two members of the same name, given what was read from it: each member that the
/// text names is there.
fn has_one_reading(text: &[u8], value: &Value) -> bool {
    fn members(value: &Value) -> usize {
        match value {
            Value::Array(items) => items.iter().map(members).sum(),
            Value::Object(named) => named.values().map(|value| 1 + members(value)).sum(),
            _ => 0,
        }
    }
    outside_strings(text).filter(|byte| *byte == b':').count() == members(value)
}

/// The bytes of a JSON text that belong to no string.
fn outside_strings(text: &[u8]) -> impl Iterator<Item = u8> {
    let (mut in_string, mut escaped) = (false, false);
    text.iter().copied().filter(move |byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ => return !in_string,
        }
        false
    })
}

/// The name of a value's JSON type.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// True when two numbers are the same: exactly for integers, as IEEE doubles otherwise.
pub fn same_number(a: &Number, b: &Number) -> bool {
    match (a.as_i64(), b.as_i64(), a.as_u64(), b.as_u64()) {
        (Some(a), Some(b), _, _) => a == b,
        (_, _, Some(a), Some(b)) => a == b,
        _ => a.as_f64() == b.as_f64(),
    }
}

/// True when two values are the same JSON: order of members apart, numbers by [`same_number`].
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => same_number(a, b),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

/// Feeds a value to a hasher: alike for values that are the [`same`].
pub fn hash(value: &Value, into: &mut impl Hasher) {
    match value {
        Value::Null => 0_u8.hash(into),
        Value::Bool(truth) => truth.hash(into),
        // Minus zero is zero.
        Value::Number(number) => (number.as_f64().unwrap_or_default() + 0.0).to_bits().hash(into),
        Value::String(text) => text.hash(into),
        Value::Array(items) => {
            items.len().hash(into);
            items.iter().for_each(|item| hash(item, into));
        }
        Value::Object(members) => {
            let all = members.iter().fold(members.len() as u64, |all, (key, value)| {
                let mut one = DefaultHasher::new();
                key.hash(&mut one);
                hash(value, &mut one);
                all.wrapping_add(one.finish())
            });
            all.hash(into);
        }
    }
}

/// True when the number has no fractional part; `2.0` has none.
pub fn is_integer(number: &Number) -> bool {
    number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|value| value.fract() == 0.0)
}

/// A value in one line, cut after `limit` characters.
pub fn short(value: &Value, limit: usize) -> String {
    cut(&value.to_string(), limit)
}

/// Text cut after `limit` characters, with a sign that it was.
pub fn cut(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_value_cannot_hold_is_brought_within_reach() {
        for (text, value) in [
            (
                r#"{"a":"x\ud800y","b":[1e400,-1e999,2]}"#,
                json!({"a": "x\u{fffd}y", "b": [f64::MAX, f64::MIN, 2]}),
            ),
            (
                r#"["\udc00","\ude00\ud83d","\ud83d\ude00\ud800"]"#,
                json!(["\u{fffd}", "\u{fffd}\u{fffd}", "\u{1f600}\u{fffd}"]),
            ),
            (r#"["\\ud800","\"1e400\"",1e400]"#, json!(["\\ud800", "\"1e400\"", f64::MAX])),
            (r#"{"\uD800":null}"#, json!({"\u{fffd}": null})),
        ] {
            assert_eq!(parse_received(text.as_bytes()), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_is_no_json_or_too_deep_stays_what_it_is() {
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        assert_eq!(parse_received(deep.as_bytes()), Err(NotJson::BeyondUs));
        let crowded = format!("[{}0]", r#"{"":0},"#.repeat(VALUES));
        assert_eq!(parse_received(crowded.as_bytes()), Err(NotJson::BeyondUs));
        let commas = format!("[{:?}]", ",\"[{".repeat(VALUES));
        assert!(parse_received(commas.as_bytes()).is_ok());
        for text in ["NaN", "[1e400", r#""\ud800"#, "-", r#"{"a":Infinity}"#, ""] {
            assert_eq!(parse_received(text.as_bytes()), Err(NotJson::Malformed), "{text}");
        }
    }

    #[test]
    fn what_is_the_same_has_the_same_hash() {
        let hashed = |value: &Value| {
            let mut hasher = DefaultHasher::new();
            hash(value, &mut hasher);
            hasher.finish()
        };
        for (a, b) in [
            (json!({"a": 1, "b": [0.0, {}]}), json!({"b": [-0.0, {}], "a": 1.0})),
            (json!(9_007_199_254_740_993_u64), json!(9_007_199_254_740_993_u64)),
        ] {
            assert!(same(&a, &b) && hashed(&a) == hashed(&b), "{a} {b}");
        }
        assert_ne!(hashed(&json!({"a": 1, "b": 2})), hashed(&json!({"a": 2, "b": 1})));
        assert_ne!(hashed(&json!([[1], [2]])), hashed(&json!([[1, 2], []])));
    }

    #[test]
    fn a_text_with_two_members_of_one_name_has_no_certain_value() {
        for text in [r#"{"a":1,"a":1}"#, r#"[{"b":{"x":1,"y":2,"\u0078":3}}]"#] {
            assert_eq!(parse_sent(text.as_bytes()), Err(NotJson::BeyondUs), "{text}");
            assert!(parse_received(text.as_bytes()).is_ok(), "{text}");
        }
        let clear = r#"{"a":{"a":[{"a":null},{"a":-1.5}]},"b":true,"c":"a"}"#;
        assert!(parse_sent(clear.as_bytes()).is_ok());
    }
}
