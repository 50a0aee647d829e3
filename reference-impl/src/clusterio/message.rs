//! The envelope and the handshake messages (clusterio.md 2.1 and 2.3). Strictness is decided here: integers lie between
//! -2^53 and 2^53, of duplicate keys the last wins, nesting beyond what the parser reads is malformed, and unknown
//! members are refused in the edition `alpha0` and passed over in `seed`.

use serde_json::{Map, Value, json};

use super::catalogue::whole;
use super::error::DecodeError;

/// One message of a link.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// The sender's number.
    pub seq: i64,
    /// `type`
    pub kind: String,
    /// `data`
    pub data: Map<String, Value>,
}

impl Envelope {
    /// Reads an envelope; `strict` refuses members that it does not have.
    pub fn decode(bytes: &[u8], strict: bool) -> Result<Envelope, DecodeError> {
        let mut object = match serde_json::from_slice::<Value>(bytes) {
            Ok(Value::Object(object)) => object,
            Ok(other) => return Err(DecodeError::NotObject(type_name(&other))),
            Err(error) => return Err(DecodeError::Malformed(error.to_string())),
        };
        let seq = object.shift_remove("seq").and_then(|seq| whole(&seq)).ok_or(DecodeError::Seq)?;
        let Some(Value::String(kind)) = object.shift_remove("type") else { return Err(DecodeError::Type) };
        let Some(Value::Object(data)) = object.shift_remove("data") else { return Err(DecodeError::Data) };
        match object.keys().next() {
            Some(unknown) if strict => Err(DecodeError::Unknown(unknown.clone())),
            _ => Ok(Envelope { seq, kind, data }),
        }
    }

    /// Writes an envelope.
    pub fn encode(seq: i64, kind: &str, data: &Map<String, Value>) -> String {
        json!({ "seq": seq, "type": kind, "data": data }).to_string()
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

/// What a client says of itself (2.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The software.
    pub agent: String,
    /// Its version, not looked at.
    pub version: String,
    /// Name and id; a control has none.
    pub slave: Option<(String, i64)>,
    /// The token; the edition `seed` knows none.
    pub token: Option<String>,
}

impl Registration {
    /// Reads a register message; none when it is another message, or lacks something.
    pub(super) fn decode(envelope: &Envelope, strict: bool) -> Option<Registration> {
        let data = &envelope.data;
        let text = |name: &str| data.get(name).and_then(Value::as_str).map(str::to_owned);
        let slave = match envelope.kind.as_str() {
            "register_slave" => Some((text("name")?, data.get("id").and_then(whole)?)),
            "register_control" => None,
            _ => return None,
        };
        let token = match data.get("token") {
            Some(token) => Some(token.as_str()?.to_owned()),
            None => None,
        };
        let known = |key: &String| {
            let own = slave.is_some() && (key == "name" || key == "id");
            own || matches!(key.as_str(), "agent" | "version" | "token")
        };
        if strict && (token.is_none() || !data.keys().all(known)) {
            return None;
        }
        Some(Registration { agent: text("agent")?, version: text("version")?, slave, token })
    }
}

/// An object from pairs, in their order.
pub(super) fn object<const N: usize>(members: [(&str, Value); N]) -> Map<String, Value> {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
