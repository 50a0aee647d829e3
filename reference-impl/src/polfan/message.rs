//! Envelopes, commands and events. Commands are decoded strictly, in the order of checks of section 3.2: unknown
//! members are passed over, of two equal keys the last counts, nesting that is too deep is refused.

use serde_json::{Map, Value, json};

use super::error::DecodeError;
use super::permission::{Permission, Setting, is_known};

/// Characters that a ref may have.
const REFERENCE: usize = 36;
/// How deep JSON may be nested (section 5).
const DEPTH: usize = 64;
const NAME: usize = 100;
const DESCRIPTION: usize = 1000;
const CONTENT: usize = 4000;

/// A UUID in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(String);

impl Id {
    /// Reads a UUID of any version, in either case.
    pub fn parse(text: &str) -> Option<Id> {
        let fits = text.len() == 36
            && text.bytes().enumerate().all(|(place, byte)| match place {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            });
        fits.then(|| Id(text.to_ascii_lowercase()))
    }

    /// A UUID of version 4 from 128 drawn bits.
    pub fn drawn(bits: u128) -> Id {
        let bits = bits & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
        let hex = format!("{bits:032x}");
        Id(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where permissions are set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The whole server.
    Global,
    /// A space.
    Space(Id),
    /// A room.
    Room(Id),
    /// A topic.
    Topic(Id),
}

/// The commands of section 2.4.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields have the names of the protocol")]
pub enum Command {
    JoinSpace {
        id: Id,
    },
    LeaveSpace {
        id: Id,
    },
    GetSpaceMembers {
        id: Id,
    },
    GetSpaceRooms {
        id: Id,
    },
    CreateSpace {
        name: String,
    },
    DeleteSpace {
        id: Id,
    },
    JoinRoom {
        id: Id,
    },
    LeaveRoom {
        id: Id,
    },
    GetRoomMembers {
        id: Id,
    },
    CreateRoom {
        space: Id,
        name: String,
        description: String,
    },
    DeleteRoom {
        id: Id,
    },
    CreateTopic {
        room: Id,
        name: String,
        description: String,
    },
    DeleteTopic {
        id: Id,
    },
    CreateMessage {
        topic: Id,
        content: String,
    },
    CreateRole {
        space: Id,
        name: String,
        color: Option<String>,
    },
    DeleteRole {
        role: Id,
        space: Id,
    },
    AssignRole {
        role: Id,
        user: String,
        space: Id,
    },
    DeassignRole {
        role: Id,
        user: String,
        space: Id,
    },
    SetRolePermissions {
        role: Id,
        place: Place,
        permissions: Vec<Permission>,
    },
    GetRolePermissions {
        role: Id,
        place: Place,
        names: Option<Vec<String>>,
    },
    SetMemberPermissions {
        user: String,
        place: Place,
        permissions: Vec<Permission>,
    },
    GetMemberPermissions {
        user: String,
        place: Place,
        names: Option<Vec<String>>,
    },
    GetComputedPermissions {
        space: Option<Id>,
        room: Option<Id>,
        topic: Option<Id>,
        names: Option<Vec<String>>,
    },
    GetSession,
}

/// The names of all commands.
pub const COMMANDS: [&str; 24] = [
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

/// What a message asks for, as far as it can be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The ref as it stands there; `None` for null, absent, and refs that may not be.
    pub reference: Option<String>,
    /// True when the message has no `ref` at all.
    pub unreferenced: bool,
    /// `meta.type`, when there is one.
    pub kind: Option<String>,
    /// `data`, when there is any.
    pub data: Value,
    /// The command, or why there is none.
    pub command: Result<Command, DecodeError>,
}

impl Asked {
    /// Reads one message.
    pub fn decode(bytes: &[u8]) -> Asked {
        let mut asked = Asked {
            reference: None,
            unreferenced: false,
            kind: None,
            data: Value::Null,
            command: Err(DecodeError::Type),
        };
        asked.command = asked.read(bytes);
        asked
    }

    fn read(&mut self, bytes: &[u8]) -> Result<Command, DecodeError> {
        let whole: Value =
            serde_json::from_slice(bytes).map_err(|error| DecodeError::Malformed(error.to_string()))?;
        if depth_exceeds(&whole, DEPTH) {
            return Err(DecodeError::Malformed(format!("nested deeper than {DEPTH}")));
        }
        let Value::Object(whole) = whole else { return Err(DecodeError::NotObject) };
        let Some(Value::Object(meta)) = whole.get("meta") else { return Err(DecodeError::Meta) };
        self.kind = meta.get("type").and_then(Value::as_str).map(str::to_owned);
        self.data = whole.get("data").cloned().unwrap_or(Value::Null);
        match meta.get("ref") {
            None => self.unreferenced = true,
            Some(Value::Null) => {}
            Some(Value::String(text)) if text.chars().count() <= REFERENCE => {
                self.reference = Some(text.clone())
            }
            Some(_) => return Err(DecodeError::Reference),
        }
        let kind = self.kind.as_deref().ok_or(DecodeError::Type)?;
        command(kind, &self.data)
    }
}

/// Reads a command from its name and its `data`.
pub(super) fn command(kind: &str, data: &Value) -> Result<Command, DecodeError> {
    let kind = canonical(kind);
    if !COMMANDS.contains(&kind) {
        return Err(DecodeError::Type);
    }
    if kind == "GetSession" {
        return match data {
            Value::Null | Value::Object(_) => Ok(Command::GetSession),
            Value::Array(empty) if empty.is_empty() => Ok(Command::GetSession),
            _ => Err(DecodeError::Data),
        };
    }
    let empty = Map::new();
    let fields = Fields(match data {
        Value::Object(fields) => fields,
        // PHP writes an empty object so (section 2.1).
        Value::Array(array) if array.is_empty() => &empty,
        _ => return Err(DecodeError::Data),
    });
    Ok(match kind {
        "JoinSpace" => Command::JoinSpace { id: fields.id("id")? },
        "LeaveSpace" => Command::LeaveSpace { id: fields.id("id")? },
        "GetSpaceMembers" => Command::GetSpaceMembers { id: fields.id("id")? },
        "GetSpaceRooms" => Command::GetSpaceRooms { id: fields.id("id")? },
        "CreateSpace" => Command::CreateSpace { name: fields.name()? },
        "DeleteSpace" => Command::DeleteSpace { id: fields.id("id")? },
        "JoinRoom" => Command::JoinRoom { id: fields.id("id")? },
        "LeaveRoom" => Command::LeaveRoom { id: fields.id("id")? },
        "GetRoomMembers" => Command::GetRoomMembers { id: fields.id("id")? },
        "CreateRoom" => Command::CreateRoom {
            space: fields.id("spaceId")?,
            name: fields.name()?,
            description: fields.text("description", 0, DESCRIPTION)?,
        },
        "DeleteRoom" => Command::DeleteRoom { id: fields.id("id")? },
        "CreateTopic" => Command::CreateTopic {
            room: fields.id("roomId")?,
            name: fields.name()?,
            description: fields.text("description", 0, DESCRIPTION)?,
        },
        "DeleteTopic" => Command::DeleteTopic { id: fields.id("id")? },
        "CreateMessage" => Command::CreateMessage {
            topic: fields.id("topicId")?,
            content: fields.text("content", 1, CONTENT)?,
        },
        "CreateRole" => {
            Command::CreateRole { space: fields.id("spaceId")?, name: fields.name()?, color: fields.color()? }
        }
        "DeleteRole" => Command::DeleteRole { role: fields.id("roleId")?, space: fields.id("spaceId")? },
        "AssignRole" => Command::AssignRole {
            role: fields.id("roleId")?,
            user: fields.user()?,
            space: fields.id("spaceId")?,
        },
        "DeassignRole" => Command::DeassignRole {
            role: fields.id("roleId")?,
            user: fields.user()?,
            space: fields.id("spaceId")?,
        },
        "SetRolePermissions" => Command::SetRolePermissions {
            role: fields.id("roleId")?,
            place: fields.place(false)?,
            permissions: fields.permissions()?,
        },
        "GetRolePermissions" => Command::GetRolePermissions {
            role: fields.id("roleId")?,
            place: fields.place(false)?,
            names: fields.names()?,
        },
        "SetMemberPermissions" => Command::SetMemberPermissions {
            user: fields.user()?,
            place: fields.place(true)?,
            permissions: fields.permissions()?,
        },
        "GetMemberPermissions" => Command::GetMemberPermissions {
            user: fields.user()?,
            place: fields.place(true)?,
            names: fields.names()?,
        },
        "GetComputedPermissions" => Command::GetComputedPermissions {
            space: fields.optional_id("spaceId")?,
            room: fields.optional_id("roomId")?,
            topic: fields.optional_id("topicId")?,
            names: fields.names()?,
        },
        _ => return Err(DecodeError::Type),
    })
}

/// The documented name for one that the vendor's client types use (section 6.10).
fn canonical(kind: &str) -> &str {
    match kind {
        "SetUserPermissions" => "SetMemberPermissions",
        "GetUserPermissions" => "GetMemberPermissions",
        other => other,
    }
}

struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn id(&self, name: &'static str) -> Result<Id, DecodeError> {
        let text = self.0.get(name).and_then(Value::as_str).ok_or(DecodeError::Field(name))?;
        Id::parse(text).ok_or(DecodeError::MalformedId(name))
    }

    fn optional_id(&self, name: &'static str) -> Result<Option<Id>, DecodeError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.id(name).map(Some),
        }
    }

    fn text(&self, name: &'static str, least: usize, most: usize) -> Result<String, DecodeError> {
        let text = self.0.get(name).and_then(Value::as_str).ok_or(DecodeError::Field(name))?;
        let length = text.chars().count();
        if length < least || length > most { Err(DecodeError::Field(name)) } else { Ok(text.to_owned()) }
    }

    fn name(&self) -> Result<String, DecodeError> {
        let name = self.text("name", 1, NAME)?;
        if name.trim().is_empty() { Err(DecodeError::Field("name")) } else { Ok(name) }
    }

    fn user(&self) -> Result<String, DecodeError> {
        self.text("userId", 1, usize::MAX)
    }

    fn color(&self) -> Result<Option<String>, DecodeError> {
        match self.0.get("color") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(color)) if is_color(color) => Ok(Some(color.clone())),
            Some(_) => Err(DecodeError::Field("color")),
        }
    }

    fn place(&self, global: bool) -> Result<Place, DecodeError> {
        let layer = self.0.get("layer").and_then(Value::as_str).ok_or(DecodeError::Field("layer"))?;
        match layer {
            "Global" if global => match self.0.get("layerId") {
                None | Some(Value::Null) => Ok(Place::Global),
                Some(_) => Err(DecodeError::Field("layerId")),
            },
            "Space" => self.id("layerId").map(Place::Space),
            "Room" => self.id("layerId").map(Place::Room),
            "Topic" => self.id("layerId").map(Place::Topic),
            _ => Err(DecodeError::Field("layer")),
        }
    }

    fn names(&self) -> Result<Option<Vec<String>>, DecodeError> {
        match self.0.get("names") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(names)) => {
                let names =
                    names.iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
                names.map(Some).ok_or(DecodeError::Field("names"))
            }
            Some(_) => Err(DecodeError::Field("names")),
        }
    }

    fn permissions(&self) -> Result<Vec<Permission>, DecodeError> {
        let list =
            self.0.get("permissions").and_then(Value::as_array).ok_or(DecodeError::Field("permissions"))?;
        list.iter().map(permission).collect::<Option<Vec<_>>>().ok_or(DecodeError::Field("permissions"))
    }
}

fn permission(value: &Value) -> Option<Permission> {
    let name = value.get("name")?.as_str().filter(|name| is_known(name))?.to_owned();
    let allowed = value.get("value")?.as_bool()?;
    let skip = value.get("skip")?.as_bool()?;
    Some(Permission { name, setting: Setting { value: allowed, skip } })
}

fn is_color(text: &str) -> bool {
    let digits = text.strip_prefix('#').unwrap_or_default();
    digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn depth_exceeds(value: &Value, allowed: usize) -> bool {
    match value {
        Value::Array(items) => allowed == 0 || items.iter().any(|item| depth_exceeds(item, allowed - 1)),
        Value::Object(members) => {
            allowed == 0 || members.values().any(|item| depth_exceeds(item, allowed - 1))
        }
        _ => false,
    }
}

/// An event of section 2.5, before it has a ref.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its type.
    pub kind: &'static str,
    /// Its `data`.
    pub data: Value,
}

impl Event {
    /// An event.
    pub fn new(kind: &'static str, data: Value) -> Event {
        Event { kind, data }
    }

    /// The envelope as text.
    pub fn encode(&self, reference: Option<&str>) -> String {
        envelope(self.kind, reference, &self.data)
    }
}

/// An envelope as text.
pub(super) fn envelope(kind: &str, reference: Option<&str>, data: &Value) -> String {
    json!({ "meta": { "type": kind, "ref": reference }, "data": data }).to_string()
}
