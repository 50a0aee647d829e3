//! Rules over a hangout conversation (hangout.md sections 3, 5, 6 and 7). Each file holds one family: [`sync`] the
//! table and its announcements, [`entries`] whose entry a write changes, [`relay`] packets between clients, [`line`]
//! pings, closes and tokens, [`client`] what a client may say. What the documents tolerate is tolerated here; what is not certain stays unsaid.

mod client;
mod entries;
mod line;
mod relay;
mod sync;

use std::time::Duration;

use serde_json::Value;

use super::{Monitor, MonitorConfig, NotJson, Seen, What};

/// The promise of section 3.4: a change is told within this time.
const SYNC_LIMIT: Duration = Duration::from_millis(1000);
/// How long the news of a change may still be on its way (section 3.4, settle).
const SETTLE: Duration = Duration::from_millis(1500);
/// Messages up to this size are handled by every server (section 5).
const HANDLED: usize = 64 << 10;
/// Text up to this size is nothing special.
const PLAIN: usize = 2048;
/// What is on the wire when a cause is noted may still arrive after it.
const IN_FLIGHT: Duration = Duration::from_millis(50);

/// All monitors of the protocol.
pub fn monitors(config: &MonitorConfig) -> Vec<Box<dyn Monitor>> {
    vec![
        Box::new(sync::Sync::new(config.clone())),
        Box::new(entries::Entries::new()),
        Box::new(relay::Relay::new(config)),
        Box::new(line::Lines::new(config.clone())),
        Box::new(client::ClientRules::new(config.clone())),
    ]
}

/// The requirements these monitors judge.
pub const WATCHED: &[&str] = &[
    "HANGOUT-CONN-3",
    "HANGOUT-TOKEN-1",
    "HANGOUT-TOKEN-2",
    "HANGOUT-TOKEN-3",
    "HANGOUT-TOKEN-4",
    "HANGOUT-SYNC-1",
    "HANGOUT-SYNC-2",
    "HANGOUT-SYNC-3",
    "HANGOUT-SYNC-4",
    "HANGOUT-SYNC-5",
    "HANGOUT-SYNC-6",
    "HANGOUT-SYNC-7",
    "HANGOUT-SYNC-8",
    "HANGOUT-CHG-2",
    "HANGOUT-CHG-3",
    "HANGOUT-CHG-4",
    "HANGOUT-CHG-5",
    "HANGOUT-CHG-6",
    "HANGOUT-CHG-7",
    "HANGOUT-META-2",
    "HANGOUT-META-3",
    "HANGOUT-META-5",
    "HANGOUT-META-6",
    "HANGOUT-META-7",
    "HANGOUT-META-8",
    "HANGOUT-PROP-3",
    "HANGOUT-RELAY-1",
    "HANGOUT-RELAY-2",
    "HANGOUT-RELAY-3",
    "HANGOUT-RELAY-4",
    "HANGOUT-RELAY-5",
    "HANGOUT-RELAY-8",
    "HANGOUT-RELAY-9",
    "HANGOUT-ADDR-2",
    "HANGOUT-ADDR-3",
    "HANGOUT-ADDR-4",
    "HANGOUT-FROM-1",
    "HANGOUT-FROM-2",
    "HANGOUT-FROM-3",
    "HANGOUT-PING-1",
    "HANGOUT-ROBUST-7",
    "HANGOUT-CLIENT-1",
    "HANGOUT-CLIENT-3",
    "HANGOUT-CLIENT-4",
    "HANGOUT-CLIENT-7",
];

/// A packet of the server: who it is from, its type, and all of it.
struct Packet<'a> {
    from: &'a str,
    kind: &'a str,
    whole: &'a Value,
}

/// The packet that was seen, if it is one: text, JSON, with a string `from` and a string `type`.
fn packet<'a>(what: &What<'a>) -> Option<Packet<'a>> {
    let What::Text { json: Ok(whole), .. } = what else { return None };
    let from = whole.get("from")?.as_str()?;
    let kind = whole.get("type")?.as_str()?;
    Some(Packet { from, kind, whole })
}

/// What a client's message means, as far as it is certain.
enum Said<'a> {
    /// A well-formed envelope of the catalogue (section 2.2).
    Envelope(Envelope<'a>),
    /// Anything else: what a server makes of it is not certain.
    Unclear,
}

struct Envelope<'a> {
    /// `to` as a list.
    to: Vec<&'a str>,
    /// `to` is a string, not an array.
    single: bool,
    /// The packet holds its type and its payload and nothing else.
    bare: bool,
    kind: &'a str,
    payload: &'a Value,
    /// The packet has members called like those of an envelope.
    like_envelope: bool,
    /// The sender that the packet claims.
    claimed: Option<&'a Value>,
}

fn said<'a>(text: &Result<&'a Value, NotJson>) -> Said<'a> {
    envelope(text).map_or(Said::Unclear, Said::Envelope)
}

fn envelope<'a>(json: &Result<&'a Value, NotJson>) -> Option<Envelope<'a>> {
    let whole = (*json).ok()?;
    let single = whole.get("to")?.is_string();
    let to = match whole.get("to")? {
        Value::String(one) => vec![one.as_str()],
        Value::Array(many) => many.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?,
        _ => return None,
    };
    let packet = whole.get("packet")?.as_object()?;
    let kind = packet.get("type")?.as_str()?;
    if to.is_empty() || kind.is_empty() || kind == "from" || kind == "type" {
        return None;
    }
    let payload = packet.get(kind)?;
    let (bare, claimed) = (packet.len() == 2 && whole.as_object()?.len() == 2, packet.get("from"));
    let like_envelope = packet.contains_key("to") || packet.contains_key("packet");
    Some(Envelope { to, single, bare, kind, payload, like_envelope, claimed })
}

/// True for text as most programs write it: not long, in one line, without escapes, the address first. What is laid
/// out otherwise is judged by flows of its own.
fn is_plain(text: &str) -> bool {
    text.len() <= PLAIN
        && text.trim_start_matches(['{', ' ']).starts_with("\"to\"")
        && !text.bytes().any(|byte| byte.is_ascii_control() || byte == b'\\')
        && (text.is_ascii() || !text.contains(char::is_control))
}

/// The client of a link, and whether what was seen came from the server: `None` for links between others.
fn sides<'a>(seen: &Seen<'a>) -> Option<(&'a super::Party, &'a super::Party, bool)> {
    match (seen.from.role.as_str(), seen.to.role.as_str()) {
        ("server", "client") => Some((seen.from, seen.to, true)),
        ("client", "server") => Some((seen.to, seen.from, false)),
        _ => None,
    }
}

fn is_token(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// The strings of an array; empty where there is none.
fn strings(value: Option<&Value>) -> Vec<&str> {
    value
        .and_then(Value::as_array)
        .map(|items| items.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default()
}
