//! Rules over a polfan conversation (polfan.md sections 2, 3, 6 and 7). Each file holds one family: [`answers`] refs
//! and the one answer to each command, [`audience`] who may be told what and whether lists agree with the events
//! before them, [`refused`] what must not happen, [`webapi`] HTTP statuses, [`client`] what a client may say. What the documents tolerate is tolerated
//! here; what is not certain stays unsaid.

mod answers;
mod audience;
mod client;
mod refused;
mod webapi;

use std::borrow::{Borrow, Cow};
use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::{Monitor, MonitorConfig, Party, Seen, What};
use crate::pattern::json;

/// Section 3.5: how long an answer may take.
const REPLY: Duration = Duration::from_secs(2);

/// All monitors of the protocol.
pub fn monitors(config: &MonitorConfig) -> Vec<Box<dyn Monitor>> {
    vec![
        Box::new(answers::Answers::new(config)),
        Box::new(audience::Audience::new(config)),
        Box::new(refused::Refused::new(config)),
        Box::new(webapi::WebApi::new(config)),
        Box::new(client::ClientRules::new(config)),
    ]
}

/// The requirements these monitors judge.
pub const WATCHED: &[&str] = &[
    "POLFAN-ENV-1",
    "POLFAN-REF-1",
    "POLFAN-REF-2",
    "POLFAN-REF-3",
    "POLFAN-REF-4",
    "POLFAN-REF-5",
    "POLFAN-REF-7",
    "POLFAN-REF-8",
    "POLFAN-REF-9",
    "POLFAN-REF-10",
    "POLFAN-REF-13",
    "POLFAN-EVT-1",
    "POLFAN-EVT-2",
    "POLFAN-EVT-5",
    "POLFAN-EVT-7",
    "POLFAN-EVT-8",
    "POLFAN-ERR-2",
    "POLFAN-ERR-6",
    "POLFAN-CONN-1",
    "POLFAN-CONN-2",
    "POLFAN-CONN-3",
    "POLFAN-CONN-5",
    "POLFAN-CONN-7",
    "POLFAN-API-1",
    "POLFAN-API-2",
    "POLFAN-API-3",
    "POLFAN-API-5",
    "POLFAN-API-6",
    "POLFAN-API-4",
    "POLFAN-SPACE-4",
    "POLFAN-SPACE-5",
    "POLFAN-ROOM-2",
    "POLFAN-ROOM-5",
    "POLFAN-TOPIC-3",
    "POLFAN-CLI-1",
];

/// The commands of the catalogue.
const COMMANDS: [&str; 24] = [
    "JoinSpace",
    "LeaveSpace",
    "GetSpaceMembers",
    "GetSpaceRooms",
    "CreateSpace",
    "DeleteSpace",
    "JoinRoom",
    "LeaveRoom",
    "GetRoomMembers",
    "CreateRoom",
    "DeleteRoom",
    "CreateTopic",
    "DeleteTopic",
    "CreateMessage",
    "CreateRole",
    "DeleteRole",
    "AssignRole",
    "DeassignRole",
    "SetRolePermissions",
    "GetRolePermissions",
    "SetMemberPermissions",
    "GetMemberPermissions",
    "GetComputedPermissions",
    "GetSession",
];

/// A ref as it stands in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reference<'a> {
    Absent,
    Null,
    Text(&'a str),
    /// Something that no ref may be.
    Odd,
}

/// A message with an envelope.
struct Envelope<'a> {
    kind: &'a str,
    reference: Reference<'a>,
    data: &'a Value,
    whole: &'a Value,
}

fn envelope(whole: &Value) -> Option<Envelope<'_>> {
    let meta = whole.get("meta")?.as_object()?;
    let kind = meta.get("type")?.as_str()?;
    let reference = match meta.get("ref") {
        None => Reference::Absent,
        Some(Value::Null) => Reference::Null,
        Some(Value::String(text)) => Reference::Text(text),
        Some(_) => Reference::Odd,
    };
    Some(Envelope { kind, reference, data: whole.get("data").unwrap_or(&Value::Null), whole })
}

/// The JSON of a message, whether it came by WebSocket or as a body.
fn content<'a>(what: &What<'a>) -> Option<Cow<'a, Value>> {
    match what {
        What::Text { json: Ok(value), .. } => Some(Cow::Borrowed(value)),
        What::Asked(request) => json::parse(&request.body).ok().map(Cow::Owned),
        What::Answered(response) => json::parse(&response.body).ok().map(Cow::Owned),
        _ => None,
    }
}

/// The client of a link, the server of it, and whether what was seen came from the server.
fn sides<'a>(seen: &Seen<'a>) -> Option<(&'a Party, &'a Party, bool)> {
    match (seen.from.role.as_str(), seen.to.role.as_str()) {
        ("server", "client") => Some((seen.to, seen.from, true)),
        ("client", "server") => Some((seen.from, seen.to, false)),
        _ => None,
    }
}

/// The text at a JSON pointer.
fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str()
}

/// An id as it is compared: UUIDs in either case are the same.
fn id(value: &Value, pointer: &str) -> Option<String> {
    text(value, pointer).map(str::to_ascii_lowercase)
}

/// The ids of the elements of a list.
fn ids(value: &Value, list: &str, pointer: &str) -> Option<Vec<String>> {
    let items = value.pointer(list)?.as_array()?;
    items.iter().map(|item| id(item, pointer)).collect()
}

/// What was seen lately: once so many newer things were seen, older ones are forgotten, so that a watch of any length
/// needs no more memory.
struct Lately<K, V> {
    new: BTreeMap<K, V>,
    old: BTreeMap<K, V>,
}

impl<K: Ord, V> Lately<K, V> {
    /// How many are surely remembered.
    const MANY: usize = 1 << 13;

    fn new() -> Self {
        Lately { new: BTreeMap::new(), old: BTreeMap::new() }
    }

    fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.new.get(key).or_else(|| self.old.get(key))
    }

    /// Takes note of something; false when it was known.
    fn insert(&mut self, key: K, value: V) -> bool {
        if self.get(&key).is_some() {
            return false;
        }
        if self.new.len() >= Self::MANY {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(key, value);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::Lately;

    #[test]
    fn what_was_seen_lately_is_known_and_the_rest_forgotten() {
        let mut seen = Lately::new();
        let many = Lately::<usize, ()>::MANY;
        for number in 0..3 * many {
            assert!(seen.insert(number, ()));
        }
        assert!(!seen.insert(3 * many - 1, ()));
        assert!(!seen.insert(2 * many, ()));
        assert!(seen.insert(0, ()));
        assert!(seen.new.len() + seen.old.len() <= 2 * many);
    }
}
