//! A flow made of a recording, as a beginning: participants are the ends of the links, values that come back later are
//! variables, and what is different in every run is a pattern of its type.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::trace::{End, Event, Happening};
use crate::corpus::Protocol;
use crate::flow::format::format;
use crate::flow::parse;
use crate::pattern::json;

/// Shorter strings are words of the protocol rather than ids or tokens.
const ID_LENGTH: usize = 6;
/// Names for clients, in the order of their coming.
const NAMES: [&str; 8] = ["alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi"];

/// The text of the flow.
pub fn flow(events: &[Event], protocol: &Protocol) -> String {
    let server = protocol.settings.roles.iter().find(|role| role.listens).or(protocol.settings.roles.first());
    let server = server.map_or("server", |role| role.name.as_str());
    let client =
        protocol.settings.roles.iter().find(|role| !role.listens).or(protocol.settings.roles.first());
    let client = client.map_or("client", |role| role.name.as_str());
    let mut names: BTreeMap<u64, String> = BTreeMap::new();
    for event in events {
        let next = names.len();
        let name =
            || NAMES.get(next).map_or_else(|| format!("client{}", next + 1), |name| (*name).to_owned());
        names.entry(event.link).or_insert_with(name);
    }
    let cast: Vec<String> = names.values().map(|name| format!("{name} {client}")).collect();
    let mut text = format!(
        "# Made of a recording. Cite requirements at its arrows, and take away what does not matter.\nprotocol {}\ncast {server}, {}\n\n",
        protocol.settings.name,
        cast.join(", ")
    );
    let mut writer =
        Writer { repeated: repeated(events), variables: BTreeMap::new(), taken: BTreeSet::new() };
    for event in events {
        let name = &names[&event.link];
        let (from, to) = match event.from {
            End::Client => (name.as_str(), server),
            End::Server => (server, name.as_str()),
        };
        let line = match &event.what {
            Happening::Opened { target, subprotocols } => {
                let (path, query) = target.split_once('?').unwrap_or((target, ""));
                let path = if path.is_empty() || path == "/" {
                    String::new()
                } else {
                    format!(" path {}", Value::from(path))
                };
                let query =
                    if query.is_empty() { String::new() } else { format!(" query {}", query_object(query)) };
                let subprotocol = subprotocols
                    .first()
                    .map_or(String::new(), |one| format!(" subprotocol {}", Value::from(one.as_str())));
                format!("{name} connects{path}{query}{subprotocol}")
            }
            Happening::Text { text } => {
                let payload = match json::parse(text.as_bytes()) {
                    Ok(value) => writer.pattern(&value, "", event.from == End::Server),
                    Err(_) => format!("text {}", Value::from(text.as_str())),
                };
                format!("{from} -> {to} {payload}")
            }
            Happening::Binary { hex } if hex.is_empty() => format!("{from} -> {to} binary \"\""),
            Happening::Binary { hex } => format!("{from} -> {to} binary {hex}"),
            Happening::Closing { code, .. } if event.from == End::Client => {
                format!("{name} disconnects{}", code.map_or(String::new(), |code| format!(" {code}")))
            }
            Happening::Closing { code, .. } => {
                format!("{server} closes {name}{}", code.map_or(String::new(), |code| format!(" {code}")))
            }
            Happening::Asked { method, target, body, .. } => {
                let body = writer.body(body, false);
                format!("{name} -> {server} {method} {}{body}", Value::from(target.as_str()))
            }
            Happening::Answered { status, body, .. } => {
                let body = writer.body(body, true);
                format!("{server} -> {name} status {status}{body}")
            }
            // Pings answer themselves, and the end of a link follows its Close frame.
            Happening::Addresses { .. }
            | Happening::Ping { .. }
            | Happening::Pong { .. }
            | Happening::Closed
            | Happening::Broken { .. }
            | Happening::Unseen => continue,
        };
        text.push_str(&line);
        text.push('\n');
    }
    let (parsed, diagnostics) = parse(&text);
    if diagnostics.is_empty() { format(&parsed) } else { text }
}

fn query_object(query: &str) -> String {
    let members = query.split('&').map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        format!("{}: {}", Value::from(name), Value::from(value))
    });
    format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
}

/// Strings that occur in more than one message and look like ids.
fn repeated(events: &[Event]) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for event in events {
        let Happening::Text { text } = &event.what else { continue };
        let Ok(value) = json::parse(text.as_bytes()) else { continue };
        let mut strings = BTreeSet::new();
        collect(&value, &mut strings);
        strings.into_iter().for_each(|text| *seen.entry(text).or_insert(0) += 1);
    }
    seen.into_iter().filter(|(_, count)| *count > 1).map(|(text, _)| text).collect()
}

fn collect(value: &Value, strings: &mut BTreeSet<String>) {
    match value {
        Value::String(text) if is_id(text) => {
            strings.insert(text.clone());
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, strings)),
        Value::Object(members) => members.iter().for_each(|(key, value)| {
            if is_id(key) {
                strings.insert(key.clone());
            }
            collect(value, strings);
        }),
        _ => {}
    }
}

/// True for text that was probably drawn, not written: long enough, with digits, without blanks.
fn is_id(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '+' | '/' | '=');
    text.len() >= ID_LENGTH && text.chars().any(|c| c.is_ascii_digit()) && text.chars().all(plain)
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let hex = |group: &&str| group.chars().all(|c| c.is_ascii_hexdigit());
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12]) && groups.iter().all(hex)
}

struct Writer {
    repeated: BTreeSet<String>,
    /// The variable of each repeated string.
    variables: BTreeMap<String, String>,
    taken: BTreeSet<String>,
}

impl Writer {
    /// The body of an HTTP message, as it stands behind its head.
    fn body(&mut self, body: &str, seen: bool) -> String {
        match json::parse(body.as_bytes()) {
            _ if body.is_empty() => String::new(),
            Ok(value) => format!(" {}", self.pattern(&value, "", seen)),
            Err(_) => format!(" text {}", Value::from(body)),
        }
    }

    /// A message as a pattern. `seen` for what a server sent: what differs in every run is a hole there.
    fn pattern(&mut self, value: &Value, key: &str, seen: bool) -> String {
        match value {
            Value::String(text) => self.string(text, key, seen),
            Value::Array(items) => {
                let items: Vec<String> = items.iter().map(|item| self.pattern(item, key, seen)).collect();
                format!("[{}]", items.join(", "))
            }
            Value::Object(members) => {
                let members: Vec<String> = members
                    .iter()
                    .map(|(name, value)| {
                        let key = match self.variables.get(name) {
                            Some(variable) => format!("${variable}"),
                            None => Value::from(name.as_str()).to_string(),
                        };
                        format!("{key}: {}", self.pattern(value, name, seen))
                    })
                    .collect();
                format!("{{{}}}", members.join(", "))
            }
            // Milliseconds since 1970, or the like: never the same again.
            Value::Number(number) if seen && number.as_f64().is_some_and(|number| number > 1e9) => {
                "number".to_owned()
            }
            other => other.to_string(),
        }
    }

    fn string(&mut self, text: &str, key: &str, seen: bool) -> String {
        if let Some(variable) = self.variables.get(text) {
            return format!("${variable}");
        }
        let kind = if is_uuid(text) { "uuid" } else { "string" };
        if seen && self.repeated.contains(text) {
            let name = self.name(key);
            self.variables.insert(text.to_owned(), name.clone());
            return format!("${name}: {kind}");
        }
        if seen && is_uuid(text) { "uuid".to_owned() } else { Value::from(text).to_string() }
    }

    /// A name for a variable, after the member it was first seen in.
    fn name(&mut self, key: &str) -> String {
        let mut base: String = key.chars().filter(char::is_ascii_alphanumeric).collect();
        if !base.starts_with(|c: char| c.is_ascii_alphabetic()) {
            base.insert_str(0, "value");
        }
        let mut name = base.clone();
        let mut number = 2;
        while !self.taken.insert(name.clone()) {
            name = format!("{base}{number}");
            number += 1;
        }
        name
    }
}
