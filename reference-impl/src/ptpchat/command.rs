//! What the owner of a node can ask of it, and what it tells its owner.

use std::net::{Ipv4Addr, SocketAddrV4};

use serde_json::Value;

use super::address::parse_socket;
use super::error::DecodeError;
use super::guid::Guid;
use super::message::Chat;

/// Another node, by whatever is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// By its id.
    Id(Guid),
    /// By its address.
    Address(SocketAddrV4),
    /// By its IP alone.
    Ip(Ipv4Addr),
}

impl Whom {
    /// Reads a GUID, an address or an IP.
    pub fn parse(text: &str) -> Option<Whom> {
        let id = Guid::parse(text).map(Whom::Id);
        let address = || parse_socket(text).map(Whom::Address);
        id.or_else(address).or_else(|| text.parse().ok().map(Whom::Ip))
    }
}

/// What the owner of a node can ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeCommand {
    /// Ask for a certificate.
    Certificate {
        /// Whose.
        of: Whom,
    },
    /// Open a direct path.
    Connect {
        /// To whom.
        to: Whom,
        /// With whose help; that of the first node known when none is named.
        through: Option<Whom>,
    },
    /// Make a channel.
    Create {
        /// Its name.
        channel: String,
        /// Its id; drawn when none is given.
        channel_id: Option<Guid>,
        /// Whether its messages need a key.
        closed: bool,
    },
    /// Join a channel.
    Join {
        /// Its name.
        channel: String,
        /// Its id.
        channel_id: Guid,
        /// The machine that is told; all members known when none is named.
        target: Option<Whom>,
    },
    /// Ask for a channel's key.
    Key {
        /// Whom to ask.
        of: Whom,
        /// The channel's name.
        channel: String,
        /// Its id.
        channel_id: Guid,
    },
    /// Leave a channel.
    Leave {
        /// Its id.
        channel_id: Guid,
    },
    /// Say something in a channel.
    Message {
        /// The channel's name, where it is not known from joining.
        channel: Option<String>,
        /// Its id.
        channel_id: Guid,
        /// What.
        text: String,
        /// Who gets it; all members known when nobody is named.
        to: Vec<Whom>,
    },
    /// Take leave of everybody.
    Stop,
}

/// What a person is told about commands.
const KNOWN: &str = "a node can `connect` {to, through}, `create` {channel, channel_id, closed}, `join` {channel, channel_id, target}, \
`leave` {channel_id}, `message` {channel_id, text, to}, get a `certificate` {of} or a `key` {of, channel, channel_id}, and `stop`";

impl NodeCommand {
    /// The command for a stimulus.
    pub fn from_stimulus(name: &str, with: &Value) -> Result<NodeCommand, String> {
        let text = |field: &str| with.get(field).and_then(Value::as_str);
        let need = |field: &str| text(field).ok_or_else(|| format!("`{name}` needs the text `{field}`"));
        let whom = |text: &str| Whom::parse(text).ok_or_else(|| format!("`{text}` is no id, address or IP"));
        let guid = |field: &str| {
            let text = need(field)?;
            Guid::parse(text).ok_or_else(|| format!("`{field}` is to be a GUID, not `{text}`"))
        };
        let optional = |field: &str| text(field).map(whom).transpose();
        Ok(match name {
            "certificate" => NodeCommand::Certificate { of: whom(need("of")?)? },
            "connect" => NodeCommand::Connect { to: whom(need("to")?)?, through: optional("through")? },
            "create" => NodeCommand::Create {
                channel: need("channel")?.to_owned(),
                channel_id: text("channel_id").map(|_| guid("channel_id")).transpose()?,
                closed: with.get("closed").and_then(Value::as_bool).unwrap_or(false),
            },
            "join" => NodeCommand::Join {
                channel: need("channel")?.to_owned(),
                channel_id: guid("channel_id")?,
                target: optional("target")?,
            },
            "key" => NodeCommand::Key {
                of: whom(need("of")?)?,
                channel: need("channel")?.to_owned(),
                channel_id: guid("channel_id")?,
            },
            "leave" => NodeCommand::Leave { channel_id: guid("channel_id")? },
            "message" => NodeCommand::Message {
                channel: text("channel").map(str::to_owned),
                channel_id: guid("channel_id")?,
                text: need("text")?.to_owned(),
                to: recipients(with.get("to")).into_iter().map(whom).collect::<Result<_, _>>()?,
            },
            "stop" => NodeCommand::Stop,
            _ => return Err(format!("a ptpchat node cannot `{name}`; {KNOWN}")),
        })
    }
}

fn recipients(to: Option<&Value>) -> Vec<&str> {
    match to {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// What a node tells its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeEvent {
    /// A certificate came, and was believed.
    Certified(Guid),
    /// A command cannot be carried out, and why.
    CannotDo(&'static str),
    /// A message reached its immediate recipient.
    Delivered(Guid),
    /// What came was dropped.
    Dropped(DecodeError),
    /// A message found no path, or nobody acknowledged it.
    Failed(Guid),
    /// A machine is gone.
    Gone(SocketAddrV4),
    /// A machine is heard of that was not before.
    Heard(SocketAddrV4),
    /// The key of a channel came.
    KeyReceived(Guid),
    /// The direct path could not be opened.
    PathFailed,
    /// The direct path is open.
    PathOpen(SocketAddrV4),
    /// The ordinary socket is there.
    Ready(SocketAddrV4),
    /// Somebody said something.
    Received(Chat),
    /// The node has taken its leave.
    Stopped,
}
