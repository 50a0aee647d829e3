//! Rules over a cow conversation (cow.md sections 2, 3, 5, 6 and 7). Each file holds one family: [`relay`] what a relay
//! says and whom it delivers to, [`peer`] what a peer may say, [`records`] the records a peer was given and what its
//! lists make of them, [`answers`] what an alpha answers. What the document tolerates is tolerated here; what is not
//! certain stays unsaid.

mod answers;
mod peer;
mod records;
mod relay;

use serde_json::{Number, Value};

use super::{Monitor, MonitorConfig, Party, Seen};

/// All monitors of the protocol.
pub fn monitors(config: &MonitorConfig) -> Vec<Box<dyn Monitor>> {
    vec![Box::new(relay::Relay::new(config)), Box::new(peer::Peers::new(config))]
}

/// The requirements these monitors judge.
pub const WATCHED: &[&str] = &[
    "COW-MSG-1",
    "COW-MSG-2",
    "COW-MSG-3",
    "COW-MSG-4",
    "COW-MSG-6",
    "COW-CONN-1",
    "COW-CONN-2",
    "COW-CONN-3",
    "COW-CONN-4",
    "COW-CONN-5",
    "COW-CONN-6",
    "COW-CONN-8",
    "COW-CONN-11",
    "COW-CONN-12",
    "COW-GONE-1",
    "COW-GONE-2",
    "COW-GONE-3",
    "COW-GONE-4",
    "COW-GONE-6",
    "COW-ROUTE-1",
    "COW-ROUTE-2",
    "COW-ROUTE-3",
    "COW-ROUTE-4",
    "COW-ROUTE-5",
    "COW-ROUTE-6",
    "COW-ROUTE-7",
    "COW-ROUTE-8",
    "COW-ROUTE-9",
    "COW-ROUTE-10",
    "COW-ROUTE-12",
    "COW-LIST-1",
    "COW-LIST-4",
    "COW-LIST-5",
    "COW-LIST-6",
    "COW-LIST-7",
    "COW-LIST-8",
    "COW-ALPHA-2",
    "COW-ALPHA-3",
    "COW-ALPHA-5",
    "COW-ALPHA-6",
    "COW-ALPHA-7",
    "COW-ALPHA-8",
    "COW-ALPHA-9",
    "COW-ALPHA-10",
    "COW-ALPHA-11",
    "COW-ALPHA-13",
    "COW-ALPHA-15",
    "COW-ALPHA-17",
    "COW-SYNC-6",
    "COW-SYNC-11",
    "COW-SYNC-12",
    "COW-ROB-8",
    "COW-ROB-10",
];

/// The id of a peer as digits, however it is written (section 2.1).
fn peer_id(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) => number.as_u64().filter(|id| *id > 0).map(|id| id.to_string()),
        Value::String(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(text.clone())
        }
        _ => None,
    }
}

/// The id of a record or a project as a string (section 2.2).
fn record_id(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The relay and the peer of a link, and whether the relay spoke: `None` for links between others.
fn sides<'a>(seen: &Seen<'a>) -> Option<(&'a Party, &'a Party, bool)> {
    match (seen.from.role.as_str(), seen.to.role.as_str()) {
        ("relay", "peer") => Some((seen.from, seen.to, true)),
        ("peer", "relay") => Some((seen.to, seen.from, false)),
        _ => None,
    }
}

/// A store: its kind, and its project where it has one.
type Store = (String, Option<String>);

/// The store that a payload is about, if it is certain which one.
fn store(payload: &Value) -> Option<Store> {
    let kind = payload.get("syncType")?.as_str()?;
    match kind {
        "items" | "groups" => Some((kind.to_owned(), Some(record_id(payload.get("project"))?))),
        "peers" | "users" | "projects" | "socketservers" => Some((kind.to_owned(), None)),
        _ => None,
    }
}

/// How a store is called in messages to people.
fn store_name(store: &Store) -> String {
    match &store.1 {
        Some(project) => format!("{} of project {project}", store.0),
        None => store.0.clone(),
    }
}

/// A timestamp; what is no finite number counts as 0 (section 2.2).
fn timestamp(value: Option<&Value>) -> f64 {
    value.and_then(Value::as_f64).filter(|time| time.is_finite()).unwrap_or(0.0)
}

/// A tombstone (section 2.2).
fn is_deleted(record: &Value) -> bool {
    match record.get("deleted") {
        Some(Value::Bool(deleted)) => *deleted,
        Some(Value::String(text)) => text == "true",
        _ => false,
    }
}

/// The same JSON value, however its numbers are written.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => same_number(a, b),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

fn same_number(a: &Number, b: &Number) -> bool {
    crate::pattern::json::same_number(a, b)
}
