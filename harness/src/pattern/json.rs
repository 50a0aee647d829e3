//! Reading JSON that a stranger sent, and talking about it.

use serde_json::{Number, Value};

use crate::monitor::NotJson;

/// Parses one JSON text. Text that is JSON but nested too deeply (over 128 levels), or that holds a number beyond
/// what a double can say, is [`NotJson::BeyondUs`]: nothing can be said about its inside.
pub fn parse(text: &[u8]) -> Result<Value, NotJson> {
    match serde_json::from_slice::<Value>(text) {
        Ok(value) => Ok(value),
        // The grammar alone is checked without recursion and without reading numbers.
        Err(_) => match serde_json::from_slice::<serde::de::IgnoredAny>(text) {
            Ok(_) if std::str::from_utf8(text).is_ok() => Err(NotJson::BeyondUs),
            _ => Err(NotJson::Malformed),
        },
    }
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
