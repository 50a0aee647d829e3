//! What the server knows of users, spaces, rooms, topics and roles, and what commands do to it. No links and no refs
//! here: a command goes in with its sender, an [`Outcome`] comes out.

mod permissions;
mod role;
mod room;
mod space;

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use serde_json::{Value, json};

pub(super) use self::permissions::Rules;
use super::config::{Fault, ServerConfig, UserConfig};
use super::error::CommandError;
use super::message::{Command, Event, Id};

/// What a command did.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outcome {
    /// For whoever sent the command.
    pub(super) reply: Event,
    /// True when the sender's other connections are told as well, since their picture has changed.
    pub(super) changed: bool,
    /// For other users.
    pub(super) others: Vec<(Vec<String>, Event)>,
}

impl Outcome {
    fn answer(reply: Event) -> Outcome {
        Outcome { reply, changed: false, others: Vec::new() }
    }

    fn change(reply: Event) -> Outcome {
        Outcome { reply, changed: true, others: Vec::new() }
    }

    fn telling(mut self, users: Vec<String>, event: Event) -> Outcome {
        self.others.push((users, event));
        self
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Role {
    id: Id,
    name: String,
    color: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Member {
    user: String,
    roles: Vec<Id>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Space {
    name: String,
    roles: Vec<Role>,
    members: Vec<Member>,
    rooms: Vec<Id>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Room {
    space: Id,
    name: String,
    description: String,
    members: Vec<String>,
    topics: Vec<Id>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Topic {
    room: Id,
    name: String,
    description: String,
}

/// Everything that outlives a connection.
#[derive(Debug)]
pub(super) struct World {
    version: String,
    room_joined: &'static str,
    faults: BTreeSet<Fault>,
    rng: Rng,
    users: BTreeMap<String, UserConfig>,
    spaces: BTreeMap<Id, Space>,
    rooms: BTreeMap<Id, Room>,
    topics: BTreeMap<Id, Topic>,
    rules: Rules,
    /// Who ever left which room; only planted faults look.
    left_rooms: BTreeSet<(String, Id)>,
}

impl World {
    pub(super) fn new(config: &ServerConfig) -> World {
        let mut world = World {
            version: config.version.clone(),
            room_joined: if config.joined_room { "JoinedRoom" } else { "RoomJoined" },
            faults: config.faults.clone(),
            rng: Rng::with_seed(config.seed),
            users: config.users.iter().map(|user| (user.id.clone(), user.clone())).collect(),
            spaces: BTreeMap::new(),
            rooms: BTreeMap::new(),
            topics: BTreeMap::new(),
            rules: Rules::default(),
            left_rooms: BTreeSet::new(),
        };
        for user in &config.users {
            world.rules.set_user(&user.id, &super::message::Place::Global, user.permissions.clone());
        }
        for space in &config.spaces {
            world.furnish(space);
        }
        world
    }

    fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    fn new_id(&mut self) -> Id {
        Id::drawn(self.rng.u128(..))
    }

    /// A ref for a command that has none.
    pub(super) fn new_reference(&mut self) -> String {
        let id = self.new_id();
        if self.has(Fault::LongGeneratedRefs) {
            format!("ref-{}", id.as_str())
        } else {
            id.as_str().to_owned()
        }
    }

    /// Carries out a command, or changes nothing.
    pub(super) fn execute(&mut self, by: &str, command: Command) -> Result<Outcome, CommandError> {
        match command {
            Command::JoinSpace { id } => self.join_space(by, &id),
            Command::LeaveSpace { id } => self.leave_space(by, &id),
            Command::GetSpaceMembers { id } => self.space_members(by, &id),
            Command::GetSpaceRooms { id } => self.space_rooms(by, &id),
            Command::CreateSpace { name } => self.create_space(by, name),
            Command::DeleteSpace { id } => self.delete_space(by, &id),
            Command::JoinRoom { id } => self.join_room(by, &id),
            Command::LeaveRoom { id } => self.leave_room(by, &id),
            Command::GetRoomMembers { id } => self.room_members(by, &id),
            Command::CreateRoom { space, name, description } => {
                self.create_room(by, &space, name, description)
            }
            Command::DeleteRoom { id } => self.delete_room(by, &id),
            Command::CreateTopic { room, name, description } => {
                self.create_topic(by, &room, name, description)
            }
            Command::DeleteTopic { id } => self.delete_topic(by, &id),
            Command::CreateMessage { topic, content } => self.create_message(by, &topic, content),
            Command::CreateRole { space, name, color } => self.create_role(by, &space, name, color),
            Command::DeleteRole { role, space } => self.delete_role(by, &role, &space),
            Command::AssignRole { role, user, space } => self.assign_role(by, &role, &user, &space),
            Command::DeassignRole { role, user, space } => self.deassign_role(by, &role, &user, &space),
            Command::SetRolePermissions { role, place, permissions } => {
                self.set_role_permissions(by, &role, &place, permissions)
            }
            Command::GetRolePermissions { role, place, names } => {
                self.role_permissions(by, &role, &place, names)
            }
            Command::SetMemberPermissions { user, place, permissions } => {
                self.set_member_permissions(by, &user, &place, permissions)
            }
            Command::GetMemberPermissions { user, place, names } => {
                self.member_permissions(by, &user, &place, names)
            }
            Command::GetComputedPermissions { space, room, topic, names } => {
                self.computed_permissions(by, space, room, topic, names)
            }
            Command::GetSession => Ok(Outcome::answer(self.session(by))),
        }
    }

    /// The `Session` of a user as things are now.
    pub(super) fn session(&self, user: &str) -> Event {
        let spaces: Vec<Value> = self
            .spaces
            .iter()
            .filter(|(_, space)| space.members.iter().any(|member| member.user == user))
            .map(|(id, space)| space_value(id, space))
            .collect();
        let rooms = self.rooms.iter().filter(|(_, room)| room.members.iter().any(|member| member == user));
        let rooms: Vec<Value> = rooms.map(|(id, room)| self.room_value(id, room)).collect();
        Event::new(
            "Session",
            json!({
                "serverVersion": self.version,
                "state": { "spaces": spaces, "rooms": rooms },
                "user": self.user_value(user),
            }),
        )
    }

    fn user_value(&self, id: &str) -> Value {
        let Some(user) = self.users.get(id) else {
            return json!({ "id": id, "nick": "", "avatar": "", "flags": [] });
        };
        json!({ "id": user.id, "nick": user.nick, "avatar": user.avatar, "flags": user.flags })
    }

    fn member_value(&self, member: &Member) -> Value {
        let roles: Vec<&str> = member.roles.iter().map(Id::as_str).collect();
        json!({ "user": self.user_value(&member.user), "roles": roles })
    }

    fn room_value(&self, id: &Id, room: &Room) -> Value {
        let topics =
            room.topics.iter().filter_map(|id| self.topics.get(id).map(|topic| topic_value(id, topic)));
        let topics: Vec<Value> = if self.has(Fault::TopicsForgotten) { Vec::new() } else { topics.collect() };
        json!({
            "id": id.as_str(),
            "spaceId": room.space.as_str(),
            "name": room.name,
            "description": room.description,
            "topics": topics,
        })
    }

    fn space(&self, id: &Id) -> Result<&Space, CommandError> {
        self.spaces.get(id).ok_or(CommandError::SpaceNotFound)
    }

    fn room(&self, id: &Id) -> Result<&Room, CommandError> {
        self.rooms.get(id).ok_or(CommandError::RoomNotFound)
    }

    fn topic(&self, id: &Id) -> Result<&Topic, CommandError> {
        self.topics.get(id).ok_or(CommandError::TopicNotFound)
    }

    fn is_in_space(&self, user: &str, id: &Id) -> bool {
        self.spaces.get(id).is_some_and(|space| space.members.iter().any(|member| member.user == user))
    }

    fn is_in_room(&self, user: &str, id: &Id) -> bool {
        self.rooms.get(id).is_some_and(|room| room.members.iter().any(|member| member == user))
    }

    fn must_be_in_space(&self, user: &str, id: &Id) -> Result<(), CommandError> {
        let may = self.is_in_space(user, id) || self.has(Fault::OutsidersMayAct);
        if may { Ok(()) } else { Err(CommandError::UserNotFound) }
    }

    fn must_be_in_room(&self, user: &str, id: &Id) -> Result<(), CommandError> {
        let may = self.is_in_room(user, id) || self.has(Fault::OutsidersMayAct);
        if may { Ok(()) } else { Err(CommandError::UserNotFound) }
    }

    /// The members of a space but one.
    fn others_in_space(&self, id: &Id, but: &str) -> Vec<String> {
        let Some(space) = self.spaces.get(id) else { return Vec::new() };
        space.members.iter().map(|member| member.user.clone()).filter(|user| user != but).collect()
    }

    /// The members of a room but one.
    fn others_in_room(&self, id: &Id, but: &str) -> Vec<String> {
        let Some(room) = self.rooms.get(id) else { return Vec::new() };
        room.members.iter().filter(|user| *user != but).cloned().collect()
    }
}

fn space_value(id: &Id, space: &Space) -> Value {
    let roles: Vec<Value> = space.roles.iter().map(role_value).collect();
    json!({ "id": id.as_str(), "name": space.name, "roles": roles })
}

fn summary_value(id: &Id, room: &Room) -> Value {
    json!({ "id": id.as_str(), "name": room.name, "description": room.description })
}

fn topic_value(id: &Id, topic: &Topic) -> Value {
    json!({ "id": id.as_str(), "name": topic.name, "description": topic.description })
}

fn role_value(role: &Role) -> Value {
    json!({ "id": role.id.as_str(), "name": role.name, "color": role.color })
}
