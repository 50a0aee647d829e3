//! The wire format (cow.md section 2). Strictness is decided here: numbers and strings of digits name the same peer;
//! ids of records may be numbers; timestamps that are no finite numbers count as 0; entries without an id are passed
//! over; unknown members are ignored by peers and passed on by the relay; of duplicate members the last wins.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Number, Value, json};

use super::error::DecodeError;
use super::state::Record;

/// The id of a peer as a string of digits, however it was written (section 2.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(String);

impl PeerId {
    /// The id that a JSON value names, if it names one.
    pub fn from_value(value: &Value) -> Option<PeerId> {
        match value {
            Value::Number(number) => whole(number).filter(|id| *id > 0).map(|id| PeerId(id.to_string())),
            Value::String(text) => {
                let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                (digits && text != "0").then(|| PeerId(text.clone()))
            }
            _ => None,
        }
    }

    /// Its digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As it is sent: a number where it fits one.
    pub fn to_value(&self) -> Value {
        self.0.parse::<u64>().map_or_else(|_| Value::from(self.0.as_str()), Value::from)
    }

    /// Smaller ids are shorter, or as long and before in the alphabet of digits.
    pub(super) fn rank(&self) -> (usize, &str) {
        (self.0.len(), &self.0)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A JSON number without a fractional part; `7.0` counts.
fn whole(number: &Number) -> Option<u64> {
    let float = || number.as_f64().filter(|float| float.fract() == 0.0 && *float >= 0.0 && *float < 9.1e15);
    number.as_u64().or_else(|| float().map(|float| float as u64))
}

/// The six kinds of store (section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SyncType {
    /// Other relays.
    Socketservers,
    /// Who is there.
    Peers,
    /// People.
    Users,
    /// Projects.
    Projects,
    /// What a project consists of.
    Items,
    /// Groups of people in a project.
    Groups,
}

impl SyncType {
    /// Those of the whole herd, in the order in which their lists are sent.
    pub const HERD: [SyncType; 4] =
        [SyncType::Socketservers, SyncType::Peers, SyncType::Users, SyncType::Projects];

    /// Those of each project.
    pub const PROJECT: [SyncType; 2] = [SyncType::Items, SyncType::Groups];

    /// The kind called `name`.
    pub fn from_name(name: &str) -> Option<SyncType> {
        match name {
            "groups" => Some(SyncType::Groups),
            "items" => Some(SyncType::Items),
            "peers" => Some(SyncType::Peers),
            "projects" => Some(SyncType::Projects),
            "socketservers" => Some(SyncType::Socketservers),
            "users" => Some(SyncType::Users),
            _ => None,
        }
    }

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            SyncType::Groups => "groups",
            SyncType::Items => "items",
            SyncType::Peers => "peers",
            SyncType::Projects => "projects",
            SyncType::Socketservers => "socketservers",
            SyncType::Users => "users",
        }
    }
}

/// One store: a kind, and the project for items and groups.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreKey {
    /// Its kind.
    pub kind: SyncType,
    /// The project; none for the herd's stores.
    pub project: Option<String>,
}

impl StoreKey {
    /// A store of the whole herd.
    pub fn herd(kind: SyncType) -> StoreKey {
        StoreKey { kind, project: None }
    }

    /// A store of one project.
    pub fn of_project(kind: SyncType, project: impl Into<String>) -> StoreKey {
        StoreKey { kind, project: Some(project.into()) }
    }

    /// The store that a payload is about; a project beside a herd store is ignored (section 5).
    pub fn from_payload(payload: &Map<String, Value>) -> Option<StoreKey> {
        let kind = SyncType::from_name(payload.get("syncType")?.as_str()?)?;
        if !SyncType::PROJECT.contains(&kind) {
            return Some(StoreKey::herd(kind));
        }
        Some(StoreKey::of_project(kind, record_id(payload.get("project")?)?))
    }
}

/// The id of a record, or of a project: a string that is not empty, or a number as its decimal string.
pub(super) fn record_id(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A finite number, or 0 (section 2.2).
pub(super) fn timestamp(value: Option<&Value>) -> Number {
    match value {
        Some(Value::Number(number)) if number.as_f64().is_some_and(f64::is_finite) => number.clone(),
        _ => Number::from(0),
    }
}

/// Whom a message is for (section 2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Everybody.
    Everybody,
    /// A `target` that names no peer.
    Nobody,
    /// One peer.
    Peer(PeerId),
}

impl Target {
    fn from_value(value: Option<&Value>) -> Target {
        match value {
            None | Some(Value::Null) => Target::Everybody,
            Some(value) => PeerId::from_value(value).map_or(Target::Nobody, Target::Peer),
        }
    }
}

/// What a relay reads of a message: nothing but the envelope (section 3.1).
#[derive(Clone, Debug, Default)]
pub struct Routing {
    /// `action`.
    pub action: Option<Value>,
    /// `target` as it stands there.
    pub target: Option<Value>,
    /// `sender`.
    pub sender: Option<Value>,
}

impl Routing {
    /// Reads the envelope. Payloads of any depth are stepped over, not built.
    pub fn decode(bytes: &[u8]) -> Result<Routing, DecodeError> {
        let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::Encoding)?;
        // Told apart first: an envelope of a deep payload must not be called malformed.
        serde_json::from_str::<IgnoredAny>(text)
            .map_err(|error| DecodeError::Malformed(error.to_string()))?;
        if !text.trim_start().starts_with('{') {
            return Err(DecodeError::NotObject);
        }
        let routing: Routing = serde_json::from_str(text).map_err(|_| DecodeError::Action)?;
        match routing.action {
            Some(Value::String(_)) => Ok(routing),
            _ => Err(DecodeError::Action),
        }
    }

    /// The action; empty where it is no string.
    pub fn action(&self) -> &str {
        self.action.as_ref().and_then(Value::as_str).unwrap_or_default()
    }

    /// Whom it is for.
    pub fn target(&self) -> Target {
        Target::from_value(self.target.as_ref())
    }
}

impl<'de> Deserialize<'de> for Routing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Envelope;

        impl<'de> Visitor<'de> for Envelope {
            type Value = Routing;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Routing, A::Error> {
                let mut routing = Routing::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "action" => routing.action = Some(map.next_value()?),
                        "target" => routing.target = Some(map.next_value()?),
                        "sender" => routing.sender = Some(map.next_value()?),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(routing)
            }
        }

        deserializer.deserialize_map(Envelope)
    }
}

/// One entry of a list (section 2.3).
#[derive(Clone, Debug, PartialEq)]
pub struct ListEntry {
    /// The record.
    pub id: String,
    /// When it was last changed.
    pub timestamp: Number,
}

/// A command (section 2.4).
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// Which.
    pub name: String,
    /// The whole payload.
    pub payload: Map<String, Value>,
}

/// What peers say to each other (section 2.3), in either edition.
#[derive(Clone, Debug, PartialEq)]
pub enum PeerMessage {
    /// `command`
    Command(Command),
    /// `missingItems`, or `missingRecords`.
    Missing {
        /// Of which store.
        store: StoreKey,
        /// The records.
        records: Vec<(String, Record)>,
    },
    /// `newList`
    NewList {
        /// Of which store.
        store: StoreKey,
        /// The project as it was written, to be repeated in the answers.
        project: Option<Value>,
        /// The usable entries.
        list: Vec<ListEntry>,
        /// Some entries were not usable.
        bad_entries: bool,
    },
    /// `syncinfo`
    Syncinfo {
        /// Of which store.
        store: StoreKey,
        /// How many records will come.
        coming: usize,
        /// How many are asked for.
        wanted: usize,
    },
    /// `updatedRecord`, or `requestedRecords`.
    Updated {
        /// Of which store.
        store: StoreKey,
        /// The records.
        records: Vec<(String, Record)>,
    },
    /// `wantedList`
    Wanted {
        /// Of which store.
        store: StoreKey,
        /// The records.
        ids: Vec<String>,
    },
}

/// What a peer reads.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// The relay gave an id.
    Connected {
        /// The id.
        id: PeerId,
        /// The relay's key; none where it is empty.
        key: Option<String>,
        /// The payload has members of which cow.md knows nothing.
        unknown_members: bool,
    },
    /// Another peer spoke.
    FromPeer {
        /// Who.
        sender: PeerId,
        /// To whom.
        target: Target,
        /// What.
        message: PeerMessage,
    },
    /// The relay lost a peer.
    Gone(PeerId),
}

impl Heard {
    /// Reads what arrived at a peer.
    pub fn decode(bytes: &[u8]) -> Result<Heard, DecodeError> {
        let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::Encoding)?;
        let value: Value =
            serde_json::from_str(text).map_err(|error| DecodeError::Malformed(error.to_string()))?;
        let Value::Object(whole) = value else { return Err(DecodeError::NotObject) };
        let action = whole.get("action").and_then(Value::as_str).ok_or(DecodeError::Action)?;
        let payload =
            whole.get("payload").and_then(Value::as_object).ok_or(DecodeError::Member("payload"))?;
        let relay_says = whole.get("sender").is_none();
        match action {
            "connected" if relay_says => connected(payload),
            "peerGone" if relay_says => {
                let gone = payload.get("gonePeerID").and_then(PeerId::from_value);
                gone.map(Heard::Gone).ok_or(DecodeError::Member("gonePeerID"))
            }
            // From a peer these are nothing (section 5).
            "connected" | "peerGone" => Err(DecodeError::Member("sender")),
            _ => {
                let sender =
                    whole.get("sender").and_then(PeerId::from_value).ok_or(DecodeError::Member("sender"))?;
                let target = Target::from_value(whole.get("target"));
                Ok(Heard::FromPeer { sender, target, message: PeerMessage::read(action, payload)? })
            }
        }
    }
}

fn connected(payload: &Map<String, Value>) -> Result<Heard, DecodeError> {
    const KNOWN: [&str; 4] = ["peerID", "server_ip", "server_key", "server_version"];
    let id = payload.get("peerID").and_then(PeerId::from_value).ok_or(DecodeError::Member("peerID"))?;
    let key =
        payload.get("server_key").and_then(Value::as_str).filter(|key| !key.is_empty()).map(str::to_owned);
    let unknown_members = payload.keys().any(|name| !KNOWN.contains(&name.as_str()));
    Ok(Heard::Connected { id, key, unknown_members })
}

impl PeerMessage {
    fn read(action: &str, payload: &Map<String, Value>) -> Result<PeerMessage, DecodeError> {
        if action == "command" {
            let name = payload.get("command").and_then(Value::as_str).filter(|name| !name.is_empty());
            let name = name.ok_or(DecodeError::Member("command"))?.to_owned();
            return Ok(PeerMessage::Command(Command { name, payload: payload.clone() }));
        }
        let store = || StoreKey::from_payload(payload).ok_or(DecodeError::Member("syncType"));
        let array =
            |name: &'static str| payload.get(name).and_then(Value::as_array).ok_or(DecodeError::Member(name));
        let records = |values: &[Value]| values.iter().filter_map(Record::from_value).collect::<Vec<_>>();
        Ok(match action {
            "newList" => {
                let entries = array("list")?;
                let list: Vec<ListEntry> = entries.iter().filter_map(ListEntry::from_value).collect();
                let bad_entries = list.len() < entries.len();
                PeerMessage::NewList {
                    store: store()?,
                    project: payload.get("project").cloned(),
                    list,
                    bad_entries,
                }
            }
            "syncinfo" => {
                let info = payload
                    .get("syncinfo")
                    .and_then(Value::as_object)
                    .ok_or(DecodeError::Member("syncinfo"))?;
                let count = |name: &str| info.get(name).and_then(Value::as_array).map_or(0, Vec::len);
                PeerMessage::Syncinfo {
                    store: store()?,
                    coming: count("IWillSent"),
                    wanted: count("IShallReceive"),
                }
            }
            "wantedList" => {
                let ids = array("list")?.iter().filter_map(record_id).collect();
                PeerMessage::Wanted { store: store()?, ids }
            }
            "missingItems" => PeerMessage::Missing { store: store()?, records: records(array("items")?) },
            "missingRecords" => PeerMessage::Missing { store: store()?, records: records(array("list")?) },
            "updatedRecord" => {
                let record = payload
                    .get("record")
                    .and_then(Record::from_value)
                    .ok_or(DecodeError::Member("record"))?;
                PeerMessage::Updated { store: store()?, records: vec![record] }
            }
            "requestedRecords" => PeerMessage::Updated { store: store()?, records: records(array("list")?) },
            unknown => return Err(DecodeError::UnknownAction(unknown.to_owned())),
        })
    }
}

impl ListEntry {
    fn from_value(value: &Value) -> Option<ListEntry> {
        let entry = value.as_object()?;
        Some(ListEntry { id: record_id(entry.get("_id")?)?, timestamp: timestamp(entry.get("timestamp")) })
    }
}

/// A message of the relay.
pub(super) fn relay_says(action: &str, payload: Value) -> String {
    json!({ "action": action, "payload": payload }).to_string()
}

/// A message of a peer.
pub(super) fn peer_says(sender: &PeerId, target: Option<Value>, action: &str, payload: Value) -> String {
    let mut whole = Map::new();
    whole.insert("action".to_owned(), Value::from(action));
    whole.insert("sender".to_owned(), sender.to_value());
    if let Some(target) = target {
        whole.insert("target".to_owned(), target);
    }
    whole.insert("payload".to_owned(), payload);
    Value::Object(whole).to_string()
}

/// The beginning of every payload about a store.
pub(super) fn about(store: &StoreKey, project: Option<&Value>) -> Map<String, Value> {
    let mut payload = Map::new();
    payload.insert("syncType".to_owned(), Value::from(store.kind.name()));
    if let Some(own) = &store.project {
        let project = project.cloned().unwrap_or_else(|| Value::from(own.as_str()));
        payload.insert("project".to_owned(), project);
    }
    payload
}
