//! Rules over a clusterio conversation (clusterio.md sections 2, 3, 6 and 7). Each file holds one family: [`numbers`]
//! the series of each side, [`handshake`] what comes before `ready`, [`answers`] requests, responses and events,
//! [`relay`] what passes the master from one link to another, [`closing`] `close` and the end, [`leaving`] those who
//! leave without a reason, [`catalogue`] types and
//! directions, [`secrets`] tokens. What section 6 tolerates is tolerated here; what is not certain stays unsaid.

mod answers;
mod catalogue;
mod closing;
mod handshake;
mod leaving;
mod numbers;
mod plain;
mod relay;
mod secrets;

use std::time::Duration;

use serde_json::{Map, Value};

use super::{Monitor, MonitorConfig, NotJson, Party, Seen, What};

/// How long a direct answer may take (section 3.5).
const ANSWER: Duration = Duration::from_secs(5);
/// What is on the wire when something else arrives may still come after it.
const IN_FLIGHT: Duration = Duration::from_millis(50);

/// All monitors of the protocol.
pub fn monitors(config: &MonitorConfig) -> Vec<Box<dyn Monitor>> {
    vec![
        Box::new(numbers::Numbers::new(config)),
        Box::new(handshake::Handshakes::new(config)),
        Box::new(answers::Answers::new(config)),
        Box::new(leaving::Leavings::default()),
        Box::new(relay::Relay::default()),
        Box::new(closing::Closings::new(config)),
        Box::new(catalogue::Directions::default()),
        Box::new(secrets::Secrets::default()),
    ]
}

/// The requirements these monitors judge.
pub const WATCHED: &[&str] = &[
    "CLUSTERIO-WIRE-3",
    "CLUSTERIO-SEQ-1",
    "CLUSTERIO-SEQ-2",
    "CLUSTERIO-SEQ-3",
    "CLUSTERIO-SEQ-4",
    "CLUSTERIO-SEQ-5",
    "CLUSTERIO-HS-1",
    "CLUSTERIO-HS-3",
    "CLUSTERIO-HS-4",
    "CLUSTERIO-HS-5",
    "CLUSTERIO-HS-10",
    "CLUSTERIO-HS-11",
    "CLUSTERIO-HS-12",
    "CLUSTERIO-HS-13",
    "CLUSTERIO-HS-19",
    "CLUSTERIO-EVT-1",
    "CLUSTERIO-EVT-2",
    "CLUSTERIO-EVT-4",
    "CLUSTERIO-EVT-5",
    "CLUSTERIO-EVT-6",
    "CLUSTERIO-EVT-7",
    "CLUSTERIO-EVT-8",
    "CLUSTERIO-REQ-1",
    "CLUSTERIO-REQ-2",
    "CLUSTERIO-REQ-3",
    "CLUSTERIO-REQ-4",
    "CLUSTERIO-REQ-8",
    "CLUSTERIO-REQ-10",
    "CLUSTERIO-REQ-11",
    "CLUSTERIO-REQ-15",
    "CLUSTERIO-REQ-16",
    "CLUSTERIO-CAT-6",
    "CLUSTERIO-CAT-8",
    "CLUSTERIO-CAT-14",
    "CLUSTERIO-CLOSE-1",
    "CLUSTERIO-CLOSE-3",
    "CLUSTERIO-CLOSE-5",
    "CLUSTERIO-ROB-7",
];

/// A message of a link as far as it can be read: a type and data; the number may be missing.
#[derive(Clone, Copy)]
struct Message<'a> {
    seq: Option<i64>,
    kind: &'a str,
    data: &'a Map<String, Value>,
    whole: &'a Value,
}

/// The message that was seen, if it is one.
fn message<'a>(what: &What<'a>) -> Option<Message<'a>> {
    let What::Text { json: Ok(whole), .. } = what else { return None };
    let kind = whole.get("type")?.as_str()?;
    let data = whole.get("data")?.as_object()?;
    Some(Message { seq: whole.get("seq").and_then(integer), kind, data, whole })
}

/// A whole number, however it is written (section 2.1).
fn integer(value: &Value) -> Option<i64> {
    let number = value.as_number()?;
    number.as_i64().or_else(|| {
        let found = number.as_f64()?;
        (found.fract() == 0.0 && found.abs() <= 9_007_199_254_740_992.0).then_some(found as i64)
    })
}

/// The client of a link, and whether what was seen came from the master: `None` for links between others.
fn sides<'a>(seen: &Seen<'a>) -> Option<(&'a Party, bool)> {
    match (seen.from.role.as_str(), seen.to.role.as_str()) {
        ("master", "slave" | "control") => Some((seen.to, true)),
        ("slave" | "control", "master") => Some((seen.from, false)),
        _ => None,
    }
}

/// Data without the member that refers to the request.
fn results(data: &Map<String, Value>) -> Map<String, Value> {
    data.iter()
        .filter(|(name, _)| *name != "seq")
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// True for a text of which nobody can say what stands in it.
fn is_beyond(what: &What<'_>) -> bool {
    matches!(what, What::Text { json: Err(NotJson::BeyondUs), .. })
}

/// True where an object has no members but these: some editions refuse further ones.
fn has_only(value: &Value, names: &[&str]) -> bool {
    value.as_object().is_some_and(|members| members.keys().all(|name| names.contains(&name.as_str())))
}

/// The members of every message.
const ENVELOPE: &[&str] = &["seq", "type", "data"];

fn is_register(kind: &str) -> bool {
    matches!(kind, "register_slave" | "register_control")
}
