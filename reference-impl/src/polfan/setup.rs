//! The chat that a server begins with, read from a small document: who may log in, and what exists from the start.
//! Where the document is silent about users or about spaces, those of the default stay.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::config::{RoomConfig, ServerConfig, SpaceConfig, TopicConfig, UserConfig};
use super::message::Id;
use super::permission::{Permission, Setting, is_known};

/// Why a document describes no chat.
#[derive(Debug, Error)]
pub enum SetupError {
    /// It lacks something, or has something that means nothing here.
    #[error("{0}")]
    Form(#[from] serde_json::Error),
    /// An owner or member who is no user.
    #[error("nobody is called {0:?}")]
    Nobody(String),
    /// An id of a space, a room or a topic.
    #[error("{0:?} is not a UUID")]
    NotUuid(String),
    /// Something that there may be only once.
    #[error("{what} {name:?} is there twice")]
    Twice {
        /// What it is.
        what: &'static str,
        /// The one that is there twice.
        name: String,
    },
    /// A permission that guards nothing.
    #[error("there is no permission {0:?}")]
    UnknownPermission(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Chat {
    user: Option<Vec<User>>,
    space: Option<Vec<Space>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct User {
    id: String,
    nick: String,
    #[serde(default)]
    avatar: String,
    #[serde(default)]
    flags: Vec<String>,
    /// The nick, when it is missing.
    login: Option<String>,
    #[serde(default = "secret")]
    password: String,
    #[serde(default)]
    tokens: Vec<String>,
    #[serde(default)]
    permissions: Vec<Given>,
}

fn secret() -> String {
    "secret".to_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    name: String,
    value: bool,
    #[serde(default)]
    skip: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Space {
    id: String,
    name: String,
    owner: String,
    #[serde(default)]
    members: Vec<String>,
    #[serde(default)]
    room: Vec<Room>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Room {
    id: String,
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    members: Vec<String>,
    #[serde(default)]
    topic: Vec<Topic>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Topic {
    id: String,
    name: String,
    #[serde(default)]
    description: String,
}

impl ServerConfig {
    /// This configuration with the users and spaces of a document: lists `user` and `space`; a space has a list
    /// `room`, and a room a list `topic`. Owners and members are named by their nicks or ids.
    pub fn with_setup(mut self, document: &Value) -> Result<ServerConfig, SetupError> {
        let chat = Chat::deserialize(document)?;
        if let Some(users) = chat.user {
            self.users = users.into_iter().map(user).collect::<Result<_, _>>()?;
        }
        for (what, names) in [
            ("the id", self.users.iter().map(|user| &user.id).collect::<Vec<_>>()),
            ("the nick", self.users.iter().map(|user| &user.nick).collect()),
            ("the login", self.users.iter().map(|user| &user.login).collect()),
            ("the token", self.users.iter().flat_map(|user| &user.tokens).collect()),
        ] {
            once(what, names.into_iter().map(String::as_str))?;
        }
        if let Some(spaces) = chat.space {
            self.spaces = spaces.into_iter().map(|one| space(one, &self.users)).collect::<Result<_, _>>()?;
        } else {
            // The users of the default spaces may be gone.
            let known: BTreeSet<&str> = self.users.iter().map(|user| user.id.as_str()).collect();
            self.spaces.retain(|space| known.contains(space.owner.as_str()));
        }
        let rooms = || self.spaces.iter().flat_map(|space| &space.rooms);
        let spaces = self.spaces.iter().map(|space| space.id.as_str());
        let topics = rooms().flat_map(|room| &room.topics).map(|topic| topic.id.as_str());
        once("the id", spaces.chain(rooms().map(|room| room.id.as_str())).chain(topics))?;
        Ok(self)
    }
}

fn once<'a>(what: &'static str, names: impl Iterator<Item = &'a str>) -> Result<(), SetupError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(SetupError::Twice { what, name: name.to_owned() });
        }
    }
    Ok(())
}

fn user(user: User) -> Result<UserConfig, SetupError> {
    let permissions = user.permissions.into_iter().map(|given| {
        if is_known(&given.name) {
            Ok(Permission { name: given.name, setting: Setting { value: given.value, skip: given.skip } })
        } else {
            Err(SetupError::UnknownPermission(given.name))
        }
    });
    Ok(UserConfig {
        login: user.login.unwrap_or_else(|| user.nick.clone()),
        permissions: permissions.collect::<Result<_, _>>()?,
        id: user.id,
        nick: user.nick,
        avatar: user.avatar,
        flags: user.flags,
        password: user.password,
        tokens: user.tokens,
    })
}

fn space(space: Space, users: &[UserConfig]) -> Result<SpaceConfig, SetupError> {
    let owner = known(&space.owner, users)?;
    let mut members = all_known(&space.members, users)?;
    let rooms = space.room.into_iter().map(|one| room(one, users)).collect::<Result<Vec<_>, _>>()?;
    // Who is in a room is in its space, and so is the owner.
    for member in rooms.iter().flat_map(|room| &room.members).chain([&owner]) {
        if !members.contains(member) {
            members.push(member.clone());
        }
    }
    Ok(SpaceConfig { id: uuid(&space.id)?, name: space.name, owner, members, rooms })
}

fn room(room: Room, users: &[UserConfig]) -> Result<RoomConfig, SetupError> {
    let topics = room.topic.into_iter().map(|topic| {
        Ok(TopicConfig { id: uuid(&topic.id)?, name: topic.name, description: topic.description })
    });
    Ok(RoomConfig {
        id: uuid(&room.id)?,
        members: all_known(&room.members, users)?,
        topics: topics.collect::<Result<_, SetupError>>()?,
        name: room.name,
        description: room.description,
    })
}

fn uuid(text: &str) -> Result<String, SetupError> {
    let id = Id::parse(text).ok_or_else(|| SetupError::NotUuid(text.to_owned()))?;
    Ok(id.as_str().to_owned())
}

fn known(name: &str, users: &[UserConfig]) -> Result<String, SetupError> {
    let user = users.iter().find(|user| user.id == name || user.nick == name);
    user.map(|user| user.id.clone()).ok_or_else(|| SetupError::Nobody(name.to_owned()))
}

fn all_known(names: &[String], users: &[UserConfig]) -> Result<Vec<String>, SetupError> {
    let ids = names.iter().map(|name| known(name, users)).collect::<Result<Vec<_>, _>>()?;
    once("the member", ids.iter().map(String::as_str))?;
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(document: &Value) -> Result<ServerConfig, String> {
        ServerConfig::default().with_setup(document).map_err(|error| error.to_string())
    }

    #[test]
    fn what_a_document_does_not_mention_stays() {
        let config = read(&json!({})).expect("an empty document changes nothing");
        assert_eq!(config.users, ServerConfig::default().users);
        assert_eq!(config.spaces, ServerConfig::default().spaces);
    }

    #[test]
    fn members_are_named_by_nick_and_are_in_the_space_of_their_rooms() {
        let config = read(&json!({
            "user": [{"id": "1", "nick": "ewa", "tokens": ["t"]}, {"id": "2", "nick": "jan"}],
            "space": [{"id": "0B6F2A52-6A1E-4A55-9D0C-7A8C2F3B1E01", "name": "Dom", "owner": "ewa", "room": [
                {"id": "1c7d3b63-7b2f-4b66-8e1d-8b9d304c2f02", "name": "Kuchnia", "members": ["jan", "1"]}
            ]}]
        }));
        let config = config.expect("it describes a chat");
        assert_eq!(config.users[1].login, "jan");
        assert_eq!(config.spaces[0].id, "0b6f2a52-6a1e-4a55-9d0c-7a8c2f3b1e01");
        assert_eq!(config.spaces[0].owner, "1");
        assert_eq!(config.spaces[0].members, ["2", "1"]);
        assert_eq!(config.spaces[0].rooms[0].members, ["2", "1"]);
    }

    #[test]
    fn the_default_space_goes_with_its_owner() {
        let config = read(&json!({ "user": [{"id": "1", "nick": "ewa"}] })).expect("it describes users");
        assert_eq!(config.spaces, []);
    }

    #[test]
    fn what_makes_no_chat_is_told() {
        let ewa = json!({ "id": "1", "nick": "ewa", "tokens": ["t"] });
        let space = |owner: &str, id: &str| json!({ "id": id, "name": "Dom", "owner": owner });
        let id = "0b6f2a52-6a1e-4a55-9d0c-7a8c2f3b1e01";
        for (document, why) in [
            (json!({ "users": [] }), "unknown field `users`"),
            (json!({ "user": [{ "id": "1" }] }), "missing field `nick`"),
            (json!({ "user": [ewa, ewa] }), "the id \"1\" is there twice"),
            (json!({ "user": [ewa, { "id": "2", "nick": "jan", "tokens": ["t"] }] }), "the token \"t\""),
            (json!({ "user": [ewa], "space": [space("jan", id)] }), "nobody is called \"jan\""),
            (json!({ "user": [ewa], "space": [space("ewa", "dom")] }), "\"dom\" is not a UUID"),
            (json!({ "user": [ewa], "space": [space("ewa", id), space("ewa", id)] }), "is there twice"),
            (
                json!({ "user": [{ "id": "1", "nick": "ewa", "permissions": [{ "name": "Fly", "value": true }] }] }),
                "there is no permission \"Fly\"",
            ),
        ] {
            let error = read(&document).expect_err("it describes no chat");
            assert!(error.contains(why), "{error}");
        }
    }
}
