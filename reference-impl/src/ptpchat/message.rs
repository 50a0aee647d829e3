//! The wire format (ptpchat.md section 2). Strictness is decided here: one JSON object in UTF-8 without byte order mark
//! and not deeper than 64 levels; a verb of the edition, in upper case; unknown members ignored at either level; of
//! duplicate keys the last wins; what is required must be there with its type; what is optional may be absent or null;
//! a bad entry of a list is skipped.

use std::net::SocketAddrV4;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::address::{End, parse_socket};
use super::config::Edition;
use super::error::DecodeError;
use super::guid::Guid;

/// Levels of nesting that are read (section 5).
const DEPTH: usize = 64;

/// Which message, and whose: what later editions give almost every verb.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// The message's own id.
    pub msg_id: Option<Guid>,
    /// The node that made it.
    pub node_id: Option<Guid>,
}

/// What JOIN and LEAVE say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Which message, and who joins or leaves.
    pub ids: Ids,
    /// The channel's name.
    pub channel: Option<String>,
    /// The channel.
    pub channel_id: Guid,
}

/// What CHANNEL says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelNews {
    /// Which message, and who says it.
    pub ids: Ids,
    /// The channel's name.
    pub channel: String,
    /// The channel.
    pub channel_id: Guid,
    /// Its members.
    pub members: Vec<Guid>,
    /// Whether its messages need a key.
    pub closed: bool,
}

/// What CERTIFICATE says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateAnswer {
    /// Which request it answers, and whose certificate it is.
    pub ids: Ids,
    /// Whom it is for.
    pub recipient_id: Option<Guid>,
    /// An X.509 certificate in DER.
    pub certificate: Vec<u8>,
}

/// What KEY says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyAnswer {
    /// Which message, and whose.
    pub ids: Ids,
    /// Whom it is for.
    pub recipient_id: Option<Guid>,
    /// The channel's name.
    pub channel: Option<String>,
    /// The channel.
    pub channel_id: Guid,
    /// What the key is for.
    pub cipher: String,
    /// The key, encrypted for the recipient.
    pub key: Vec<u8>,
}

/// What MESSAGE says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chat {
    /// Which message, and who wrote it.
    pub ids: Ids,
    /// The channel's name.
    pub channel: Option<String>,
    /// The channel.
    pub channel_id: Guid,
    /// Whom it is for; empty when it does not say.
    pub recipients: Vec<Guid>,
    /// When it was written, in whatever format.
    pub timestamp: Option<String>,
    /// What it says, as it stands on the wire.
    pub message: String,
    /// Whether something is attached.
    pub attached: bool,
}

/// What CONNECT says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect {
    /// `dst`
    pub dst: End,
    /// `src`
    pub src: End,
    /// Node ids of source and destination, where addresses are fixed.
    pub nodes: Option<(Guid, Guid)>,
}

/// One node in a ROUTING.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its id.
    pub node_id: Option<Guid>,
    /// Where it is (over UDP).
    pub address: Option<SocketAddrV4>,
    /// How many hops it is from the sender (over TCP).
    pub hops: Option<u32>,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// I am here.
    Hello {
        /// The sender.
        node_id: Option<Guid>,
        /// Its program.
        version: Option<String>,
        /// `client` or `server`.
        node_type: Option<&'static str>,
    },
    /// It arrived.
    Ack {
        /// What arrived.
        msg_id: Option<Guid>,
    },
    /// It cannot be delivered.
    Nack {
        /// What cannot.
        msg_id: Option<Guid>,
    },
    /// I want to be in.
    Join(Membership),
    /// This is the channel.
    Channel(ChannelNews),
    /// I am out.
    Leave(Membership),
    /// Give me your certificate.
    GetCertificate(Ids),
    /// Here it is.
    Certificate(CertificateAnswer),
    /// Give me the channel's key.
    GetKey(Membership),
    /// Here it is.
    Key(KeyAnswer),
    /// Something said in a channel.
    Chat(Chat),
    /// Listed, never defined.
    Relay,
    /// One step towards a direct path.
    Connect(Connect),
    /// These nodes I know.
    Routing {
        /// The sender.
        node_id: Option<Guid>,
        /// The nodes.
        nodes: Vec<Route>,
    },
}

/// The head of a message in the TCP edition (section 8.3).
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Hops left.
    pub ttl: i64,
    /// For everybody.
    pub flood: bool,
    /// Who made it.
    pub sender: Guid,
    /// The same, as written.
    pub sender_name: String,
    /// Whom it is for, if it is for somebody.
    pub target: Option<Guid>,
    /// Its id.
    pub msg_id: Guid,
}

/// Reads one JSON object.
pub(super) fn decode_object(bytes: &[u8]) -> Result<Map<String, Value>, DecodeError> {
    if too_deep(bytes) {
        return Err(DecodeError::TooDeep);
    }
    match serde_json::from_slice::<Value>(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(DecodeError::NotObject),
        Err(error) => Err(DecodeError::Malformed { detail: error.to_string() }),
    }
}

/// True when brackets outside of strings are open deeper than is read.
fn too_deep(bytes: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH {
            return true;
        }
    }
    false
}

/// A node's id; from the TCP edition on it may have a name before it.
fn node_guid(text: &str, edition: Edition) -> Option<Guid> {
    match text.split_once('@') {
        Some((name, guid)) if edition == Edition::Tcp201604 => {
            let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
            if plain { Guid::parse(guid) } else { None }
        }
        _ => Guid::parse(text),
    }
}

impl Head {
    /// Reads the head of a message in the TCP edition.
    pub fn decode(object: &Map<String, Value>) -> Result<Head, DecodeError> {
        let node = |field| node_guid_of(object.get(field), field);
        let sender = node("sender_id")?.ok_or(DecodeError::Missing { field: "sender_id" })?;
        let target = node("target_id")?;
        let ttl = object.get("ttl").ok_or(DecodeError::Missing { field: "ttl" })?;
        let flood = object.get("flood").ok_or(DecodeError::Missing { field: "flood" })?;
        let msg_id = object.get("msg_id").ok_or(DecodeError::Missing { field: "msg_id" })?;
        Ok(Head {
            ttl: ttl.as_i64().ok_or(DecodeError::Field { field: "ttl" })?,
            flood: flood.as_bool().ok_or(DecodeError::Field { field: "flood" })?,
            sender: sender.0,
            sender_name: sender.1,
            target: target.map(|(guid, _)| guid),
            msg_id: msg_id.as_str().and_then(Guid::parse).ok_or(DecodeError::Field { field: "msg_id" })?,
        })
    }
}

fn node_guid_of(value: Option<&Value>, field: &'static str) -> Result<Option<(Guid, String)>, DecodeError> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => match node_guid(text, Edition::Tcp201604) {
            Some(guid) => Ok(Some((guid, text.clone()))),
            None => Err(DecodeError::Field { field }),
        },
        Some(_) => Err(DecodeError::Field { field }),
    }
}

/// The fields of one `msg_data`.
struct Fields<'a> {
    data: Option<&'a Map<String, Value>>,
    edition: Edition,
}

impl<'a> Fields<'a> {
    fn value(&self, field: &'static str) -> Option<&'a Value> {
        self.data?.get(field).filter(|value| !value.is_null())
    }

    fn text(&self, field: &'static str) -> Result<Option<&'a str>, DecodeError> {
        match self.value(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(DecodeError::Field { field }),
        }
    }

    fn guid(&self, field: &'static str) -> Result<Option<Guid>, DecodeError> {
        match self.text(field)? {
            None => Ok(None),
            Some(text) => node_guid(text, self.edition).map(Some).ok_or(DecodeError::Field { field }),
        }
    }

    fn bytes(&self, field: &'static str) -> Result<Vec<u8>, DecodeError> {
        let text = required(self.text(field)?, field)?;
        STANDARD.decode(text).map_err(|_| DecodeError::Field { field })
    }

    /// The ids that a message of this edition carries, in its data or in its head.
    fn ids(&self, head: Option<&Head>) -> Result<Ids, DecodeError> {
        if let Some(head) = head {
            return Ok(Ids { msg_id: Some(head.msg_id), node_id: Some(head.sender) });
        }
        let ids = Ids { msg_id: self.guid("msg_id")?, node_id: self.guid("node_id")? };
        if self.edition == Edition::Udp201603 {
            required(ids.msg_id, "msg_id")?;
            required(ids.node_id, "node_id")?;
        }
        Ok(ids)
    }

    /// A channel's name, which only the seed can do without.
    fn channel(&self) -> Result<Option<String>, DecodeError> {
        match self.text("channel")? {
            Some("") => Err(DecodeError::Field { field: "channel" }),
            None if self.edition != Edition::Seed => Err(DecodeError::Missing { field: "channel" }),
            name => Ok(name.map(str::to_owned)),
        }
    }

    fn membership(&self, head: Option<&Head>) -> Result<Membership, DecodeError> {
        Ok(Membership {
            ids: self.ids(head)?,
            channel: self.channel()?,
            channel_id: required(self.guid("channel_id")?, "channel_id")?,
        })
    }

    /// The node ids in a list of objects; entries that name none are skipped.
    fn nodes(&self, field: &'static str) -> Result<Option<Vec<Guid>>, DecodeError> {
        let Some(value) = self.value(field) else { return Ok(None) };
        let entries = value.as_array().ok_or(DecodeError::Field { field })?;
        let id = |entry: &Value| node_guid(entry.get("node_id")?.as_str()?, self.edition);
        Ok(Some(entries.iter().filter_map(id).collect()))
    }
}

fn required<T>(value: Option<T>, field: &'static str) -> Result<T, DecodeError> {
    value.ok_or(DecodeError::Missing { field })
}

impl Message {
    /// Reads a datagram.
    pub fn decode(bytes: &[u8], edition: Edition) -> Result<Message, DecodeError> {
        Message::from_object(&decode_object(bytes)?, edition, None)
    }

    /// Reads a message whose JSON is known; `head` where the edition has one.
    pub fn from_object(
        object: &Map<String, Value>,
        edition: Edition,
        head: Option<&Head>,
    ) -> Result<Message, DecodeError> {
        let verb = object.get("msg_type").and_then(Value::as_str).ok_or(DecodeError::Verb)?;
        let data = match object.get("msg_data") {
            None | Some(Value::Null) => None,
            Some(Value::Object(data)) => Some(data),
            // Whatever HELLO brings, it is HELLO (section 5).
            Some(_) if verb == "HELLO" && edition != Edition::Tcp201604 => None,
            Some(_) => return Err(DecodeError::Data),
        };
        let fields = Fields { data, edition };
        Ok(match verb {
            "HELLO" => Message::hello(&fields, head)?,
            "ACK" => Message::Ack { msg_id: fields.guid("msg_id")? },
            "NACK" if edition == Edition::Tcp201604 => Message::Nack { msg_id: fields.guid("msg_id")? },
            "JOIN" => Message::Join(fields.membership(head)?),
            "LEAVE" => Message::Leave(fields.membership(head)?),
            "CHANNEL" => Message::Channel(ChannelNews {
                ids: fields.ids(head)?,
                channel: required(fields.channel()?, "channel")?,
                channel_id: required(fields.guid("channel_id")?, "channel_id")?,
                members: required(fields.nodes("members")?, "members")?,
                closed: closed(fields.value("closed"))?,
            }),
            "GETCERTIFICATE" => Message::GetCertificate(fields.ids(head)?),
            "CERTIFICATE" => Message::Certificate(CertificateAnswer {
                ids: fields.ids(head)?,
                recipient_id: recipient(&fields)?,
                certificate: fields.bytes("certificate")?,
            }),
            "GETKEY" => Message::GetKey(fields.membership(head)?),
            "KEY" => Message::Key(KeyAnswer {
                ids: fields.ids(head)?,
                recipient_id: recipient(&fields)?,
                channel: fields.channel()?,
                channel_id: required(fields.guid("channel_id")?, "channel_id")?,
                cipher: required(fields.text("cipher")?, "cipher")?.to_owned(),
                key: fields.bytes("key")?,
            }),
            "MESSAGE" => Message::Chat(chat(&fields, head)?),
            "RELAY" if edition != Edition::Tcp201604 => Message::Relay,
            "CONNECT" => Message::Connect(connect(&fields)?),
            "ROUTING" => Message::Routing { node_id: fields.guid("node_id")?, nodes: routes(&fields)? },
            other => return Err(DecodeError::UnknownVerb { verb: other.to_owned() }),
        })
    }

    fn hello(fields: &Fields<'_>, head: Option<&Head>) -> Result<Message, DecodeError> {
        let node_id = match (fields.edition, head) {
            (Edition::Seed, _) => None,
            // Without a usable id it is a greeting from a program of the seed, which is greeted all the same.
            (Edition::Udp201603, _) => fields.guid("node_id").unwrap_or(None),
            (Edition::Tcp201604, head) => head.map(|head| head.sender),
        };
        Ok(Message::Hello { node_id, version: None, node_type: None })
    }

    /// The verb.
    pub fn verb(&self) -> &'static str {
        match self {
            Message::Hello { .. } => "HELLO",
            Message::Ack { .. } => "ACK",
            Message::Nack { .. } => "NACK",
            Message::Join(_) => "JOIN",
            Message::Channel(_) => "CHANNEL",
            Message::Leave(_) => "LEAVE",
            Message::GetCertificate(_) => "GETCERTIFICATE",
            Message::Certificate(_) => "CERTIFICATE",
            Message::GetKey(_) => "GETKEY",
            Message::Key(_) => "KEY",
            Message::Chat(_) => "MESSAGE",
            Message::Relay => "RELAY",
            Message::Connect(_) => "CONNECT",
            Message::Routing { .. } => "ROUTING",
        }
    }

    /// The ids of a message that its immediate recipient acknowledges; `None` for a verb that is not acknowledged.
    pub fn acknowledged(&self) -> Option<Ids> {
        match self {
            Message::GetCertificate(ids) => Some(*ids),
            Message::Certificate(answer) => Some(answer.ids),
            Message::GetKey(asked) => Some(asked.ids),
            Message::Key(answer) => Some(answer.ids),
            Message::Chat(chat) => Some(chat.ids),
            _ => None,
        }
    }

    /// Who made the message, where it says so.
    pub fn author(&self) -> Option<Guid> {
        match self {
            Message::Hello { node_id, .. } | Message::Routing { node_id, .. } => *node_id,
            Message::Join(say) | Message::Leave(say) | Message::GetKey(say) => say.ids.node_id,
            Message::Channel(news) => news.ids.node_id,
            Message::GetCertificate(ids) => ids.node_id,
            Message::Certificate(answer) => answer.ids.node_id,
            Message::Key(answer) => answer.ids.node_id,
            Message::Chat(chat) => chat.ids.node_id,
            Message::Ack { .. } | Message::Nack { .. } | Message::Relay | Message::Connect(_) => None,
        }
    }

    /// Writes a datagram.
    pub fn encode(&self, edition: Edition) -> Vec<u8> {
        let mut object = Map::new();
        object.insert("msg_type".to_owned(), Value::from(self.verb()));
        if let Some(data) = self.data(edition) {
            object.insert("msg_data".to_owned(), data);
        }
        Value::Object(object).to_string().into_bytes()
    }

    /// Writes `msg_data`.
    pub fn data(&self, edition: Edition) -> Option<Value> {
        let inside = edition != Edition::Tcp201604;
        let mut data = Fill(Map::new());
        if let Some(ids) = self.ids().filter(|_| inside) {
            data.guid("msg_id", ids.msg_id);
            data.guid("node_id", ids.node_id);
        }
        match self {
            Message::Hello { .. } if edition == Edition::Seed => return None,
            Message::Hello { node_id, version, node_type } => {
                data.guid("node_id", node_id.filter(|_| inside));
                data.text("version", version.as_deref());
                if let Some(node_type) = node_type.filter(|_| !inside) {
                    data.put("attributes", json!({ "node_type": node_type }));
                }
            }
            Message::Ack { msg_id: None } => return None,
            Message::Ack { msg_id } | Message::Nack { msg_id } => data.guid("msg_id", *msg_id),
            Message::Join(say) | Message::Leave(say) | Message::GetKey(say) => {
                data.text("channel", say.channel.as_deref());
                data.guid("channel_id", Some(say.channel_id));
            }
            Message::Channel(news) => {
                data.text("channel", Some(&news.channel));
                data.guid("channel_id", Some(news.channel_id));
                data.put("members", node_list(&news.members));
                data.put("closed", Value::from(news.closed));
            }
            Message::GetCertificate(_) => {}
            Message::Certificate(answer) => {
                data.guid("recipient_id", answer.recipient_id);
                data.text("certificate", Some(&STANDARD.encode(&answer.certificate)));
            }
            Message::Key(answer) => {
                data.guid("recipient_id", answer.recipient_id.filter(|_| inside));
                data.text("channel", answer.channel.as_deref());
                data.guid("channel_id", Some(answer.channel_id));
                data.text("cipher", Some(&answer.cipher));
                data.text("key", Some(&STANDARD.encode(&answer.key)));
            }
            Message::Chat(chat) => {
                if !chat.recipients.is_empty() {
                    data.put("recipient", node_list(&chat.recipients));
                }
                data.text("timestamp", chat.timestamp.as_deref());
                data.text("channel", chat.channel.as_deref());
                data.guid("channel_id", Some(chat.channel_id));
                data.text("message", Some(&chat.message));
            }
            Message::Relay => return None,
            Message::Connect(connect) => {
                if let Some((src, dst)) = connect.nodes {
                    data.guid("src_node_id", Some(src));
                    data.guid("dst_node_id", Some(dst));
                }
                data.text("dst", Some(&connect.dst.to_string()));
                data.text("src", Some(&connect.src.to_string()));
            }
            Message::Routing { node_id, nodes } => {
                data.guid("node_id", *node_id);
                data.put("nodes", nodes.iter().map(Route::encode).collect());
            }
        }
        Some(Value::Object(data.0))
    }

    /// The ids that stand first in `msg_data`.
    fn ids(&self) -> Option<Ids> {
        match self {
            Message::Join(say) | Message::Leave(say) | Message::GetKey(say) => Some(say.ids),
            Message::Channel(news) => Some(news.ids),
            other => other.acknowledged(),
        }
    }
}

impl Route {
    fn encode(&self) -> Value {
        let mut entry = Fill(Map::new());
        entry.guid("node_id", self.node_id);
        entry.text("address", self.address.map(|address| address.to_string()).as_deref());
        if let Some(hops) = self.hops {
            entry.put("ttl", Value::from(hops));
        }
        Value::Object(entry.0)
    }
}

/// An object being written; what is not there is left out.
struct Fill(Map<String, Value>);

impl Fill {
    fn put(&mut self, field: &str, value: Value) {
        self.0.insert(field.to_owned(), value);
    }

    fn guid(&mut self, field: &str, guid: Option<Guid>) {
        if let Some(guid) = guid {
            self.put(field, Value::from(guid.to_string()));
        }
    }

    fn text(&mut self, field: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.put(field, Value::from(text));
        }
    }
}

fn node_list(nodes: &[Guid]) -> Value {
    nodes.iter().map(|node| json!({ "node_id": node.to_string() })).collect()
}

fn recipient(fields: &Fields<'_>) -> Result<Option<Guid>, DecodeError> {
    let recipient = fields.guid("recipient_id")?;
    if fields.edition == Edition::Udp201603 {
        required(recipient, "recipient_id")?;
    }
    Ok(recipient)
}

/// `closed`: a boolean, or the text of one in any case.
fn closed(value: Option<&Value>) -> Result<bool, DecodeError> {
    match value {
        None => Ok(false),
        Some(Value::Bool(closed)) => Ok(*closed),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(_) => Err(DecodeError::Field { field: "closed" }),
    }
}

fn chat(fields: &Fields<'_>, head: Option<&Head>) -> Result<Chat, DecodeError> {
    let attachment = fields.value("attachment");
    if attachment.is_some_and(|attachment| !attachment.is_array()) {
        return Err(DecodeError::Field { field: "attachment" });
    }
    let recipients = fields.nodes("recipient")?;
    let timestamp = fields.text("timestamp")?;
    if fields.edition != Edition::Seed {
        required(recipients.as_ref(), "recipient")?;
        required(timestamp, "timestamp")?;
    }
    Ok(Chat {
        ids: fields.ids(head)?,
        channel: fields.channel()?,
        channel_id: required(fields.guid("channel_id")?, "channel_id")?,
        recipients: recipients.unwrap_or_default(),
        timestamp: timestamp.map(str::to_owned),
        message: required(fields.text("message")?, "message")?.to_owned(),
        attached: attachment.and_then(Value::as_array).is_some_and(|parts| !parts.is_empty()),
    })
}

fn connect(fields: &Fields<'_>) -> Result<Connect, DecodeError> {
    let end = |field| {
        let text = required(fields.text(field)?, field)?;
        End::parse(text).ok_or(DecodeError::Field { field })
    };
    let (dst, src) = (end("dst")?, end("src")?);
    // Ids that the seed does not know are fields like any other unknown one.
    if fields.edition == Edition::Seed {
        return Ok(Connect { dst, src, nodes: None });
    }
    let nodes = fields.guid("src_node_id")?.zip(fields.guid("dst_node_id")?);
    Ok(Connect { dst, src, nodes })
}

fn routes(fields: &Fields<'_>) -> Result<Vec<Route>, DecodeError> {
    let Some(nodes) = fields.value("nodes") else { return Ok(Vec::new()) };
    let entries = nodes.as_array().ok_or(DecodeError::Field { field: "nodes" })?;
    Ok(entries.iter().filter_map(|entry| route(entry, fields.edition)).collect())
}

/// One entry of a list; a bad one is none.
fn route(entry: &Value, edition: Edition) -> Option<Route> {
    let entry = entry.as_object()?;
    let node_id = match entry.get("node_id") {
        None | Some(Value::Null) => None,
        Some(value) => Some(node_guid(value.as_str()?, edition)?),
    };
    if edition == Edition::Tcp201604 {
        // The text's own sample writes the number as a string.
        let hops = match entry.get("ttl")? {
            Value::String(text) => text.parse().ok()?,
            other => u32::try_from(other.as_u64()?).ok()?,
        };
        return Some(Route { node_id: Some(node_id?), address: None, hops: Some(hops) });
    }
    let address = parse_socket(entry.get("address")?.as_str()?)?;
    Some(Route { node_id, address: Some(address), hops: None })
}
