//! The wire format (hangout.md section 2). Strictness is decided here: an envelope needs `to` (a string or an array;
//! elements that are no strings are skipped) and an object `packet` with a usable `type`; unknown members are ignored
//! at envelope level and kept inside the packet; of duplicate keys the last wins; a missing payload becomes `{}`.

use serde_json::{Map, Value, json};

use super::error::DecodeError;

/// The address that means the server.
pub(super) const SERVER: &str = "server";
/// The address that means everybody.
pub(super) const EVERYONE: &str = "*";

/// Whom an envelope is for (section 2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// The server, whatever else is named (section 6.9).
    Server,
    /// These addresses; the wildcard may be among them.
    Peers(Vec<String>),
}

/// A packet: its type, and all its members as sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Packet {
    /// `packet.type`
    pub kind: String,
    /// All members, `type` included.
    pub members: Map<String, Value>,
}

/// What a client sends.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// Whom it is for.
    pub to: To,
    /// What it carries.
    pub packet: Packet,
}

fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, DecodeError> {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(DecodeError::NotObject { found: type_name(&other) }),
        Err(error) => {
            let detail = error.to_string();
            let deep = detail.starts_with("recursion limit");
            Err(DecodeError::Malformed { detail, deep })
        }
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

impl Envelope {
    /// Reads what a client sent.
    pub fn decode(bytes: &[u8]) -> Result<Envelope, DecodeError> {
        let mut object = parse_object(bytes)?;
        let to = match object.remove("to") {
            Some(Value::String(address)) => vec![address],
            Some(Value::Array(addresses)) => addresses
                .into_iter()
                .filter_map(|address| match address {
                    Value::String(address) => Some(address),
                    _ => None,
                })
                .collect(),
            _ => return Err(DecodeError::To),
        };
        let to = if to.iter().any(|address| address == SERVER) { To::Server } else { To::Peers(to) };
        let Some(Value::Object(members)) = object.remove("packet") else { return Err(DecodeError::Packet) };
        let kind = match members.get("type") {
            Some(Value::String(kind)) if !kind.is_empty() && kind != "from" && kind != "type" => kind.clone(),
            _ => return Err(DecodeError::Type),
        };
        Ok(Envelope { to, packet: Packet { kind, members } })
    }

    /// Writes an envelope as a client sends it.
    pub fn encode(to: &Value, kind: &str, payload: &Value) -> String {
        let mut packet = Map::new();
        packet.insert("type".to_owned(), Value::from(kind));
        packet.insert(kind.to_owned(), payload.clone());
        json!({ "to": to, "packet": packet }).to_string()
    }
}

impl Packet {
    /// The payload: the member named by the type.
    pub fn payload(&self) -> Option<&Value> {
        self.members.get(&self.kind)
    }

    /// The flat form in which the packet reaches others (section 2.4).
    pub fn relayed(mut self, from: &str) -> String {
        if self.payload().is_none() {
            self.members.insert(self.kind.clone(), Value::Object(Map::new()));
        }
        self.members.insert("from".to_owned(), Value::from(from));
        Value::Object(self.members).to_string()
    }
}

/// What a client reads (sections 2.4 to 2.6). The reading side is loose: section 2.2.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerPacket {
    /// Connections and properties that changed.
    Changes {
        /// Connections opened.
        opened: Vec<String>,
        /// Connections gone.
        closed: Vec<String>,
        /// Connections whose properties were written.
        properties: Vec<String>,
    },
    /// The whole table.
    Metadata {
        /// The reader's own token.
        index: String,
        /// All connections.
        indexes: Vec<String>,
        /// Properties by connection.
        properties: Map<String, Value>,
    },
    /// A packet of another client.
    Relayed {
        /// Its sender.
        from: String,
        /// Its type and members.
        packet: Packet,
    },
}

impl ServerPacket {
    /// Reads what a server sent; `None` for what a client ignores.
    pub fn decode(bytes: &[u8]) -> Option<ServerPacket> {
        let members = parse_object(bytes).ok()?;
        let from = members.get("from")?.as_str()?.to_owned();
        let kind = members.get("type")?.as_str()?.to_owned();
        let own = kind == "changes" || kind == "metadata";
        if own && from != SERVER {
            return None;
        }
        let tokens = |value: Option<&Value>| -> Option<Vec<String>> {
            value?.as_array()?.iter().map(|token| token.as_str().map(str::to_owned)).collect()
        };
        match kind.as_str() {
            "changes" => {
                let lists = members.get("changes")?;
                Some(ServerPacket::Changes {
                    opened: tokens(lists.get("opened"))?,
                    closed: tokens(lists.get("closed"))?,
                    properties: tokens(lists.get("properties"))?,
                })
            }
            "metadata" => {
                let table = members.get("metadata")?;
                Some(ServerPacket::Metadata {
                    index: table.get("index")?.as_str()?.to_owned(),
                    indexes: tokens(table.get("indexes"))?,
                    properties: table.get("properties")?.as_object()?.clone(),
                })
            }
            _ => Some(ServerPacket::Relayed { from, packet: Packet { kind, members } }),
        }
    }
}
