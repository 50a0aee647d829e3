//! Spaces: who is in them, and which rooms they hold.

use serde_json::{Value, json};

use super::{Member, Outcome, Room, Space, Topic, World, space_value, summary_value};
use crate::polfan::config::{Fault, SpaceConfig};
use crate::polfan::error::CommandError;
use crate::polfan::message::{Event, Id, Place};
use crate::polfan::permission::Permission;

impl World {
    /// Puts a space of the configuration in place.
    pub(super) fn furnish(&mut self, config: &SpaceConfig) {
        let Some(id) = Id::parse(&config.id) else { return };
        let members = config.members.iter().map(|user| Member { user: user.clone(), roles: Vec::new() });
        let mut space = Space {
            name: config.name.clone(),
            roles: Vec::new(),
            members: members.collect(),
            rooms: Vec::new(),
        };
        for room in &config.rooms {
            let Some(room_id) = Id::parse(&room.id) else { continue };
            let mut topics = Vec::new();
            for topic in &room.topics {
                let Some(topic_id) = Id::parse(&topic.id) else { continue };
                let topic = Topic {
                    room: room_id.clone(),
                    name: topic.name.clone(),
                    description: topic.description.clone(),
                };
                self.topics.insert(topic_id.clone(), topic);
                topics.push(topic_id);
            }
            space.rooms.push(room_id.clone());
            let room = Room {
                space: id.clone(),
                name: room.name.clone(),
                description: room.description.clone(),
                members: room.members.clone(),
                topics,
            };
            self.rooms.insert(room_id, room);
        }
        self.rules.set_user(&config.owner, &Place::Space(id.clone()), vec![Permission::plain("Root", true)]);
        self.spaces.insert(id, space);
    }

    pub(super) fn create_space(&mut self, by: &str, name: String) -> Result<Outcome, CommandError> {
        self.must_be_permitted(by, "CreateSpace", &Place::Global)?;
        let id = self.new_id();
        let joins = !self.has(Fault::CreatorNotJoined);
        let members =
            if joins { vec![Member { user: by.to_owned(), roles: Vec::new() }] } else { Vec::new() };
        let space = Space { name, roles: Vec::new(), members, rooms: Vec::new() };
        let reply = Event::new("SpaceJoined", json!({ "space": space_value(&id, &space) }));
        self.rules.set_user(by, &Place::Space(id.clone()), vec![Permission::plain("Root", true)]);
        self.spaces.insert(id, space);
        Ok(Outcome::change(reply))
    }

    pub(super) fn delete_space(&mut self, by: &str, id: &Id) -> Result<Outcome, CommandError> {
        self.space(id)?;
        self.must_be_permitted(by, "ManageSpace", &Place::Space(id.clone()))?;
        let others = self.others_in_space(id, by);
        if let Some(space) = self.spaces.remove(id) {
            for room in &space.rooms {
                self.forget_room(room);
            }
        }
        self.rules.forget(&Place::Space(id.clone()));
        let event = Event::new("SpaceDeleted", json!({ "id": id.as_str() }));
        Ok(Outcome::change(event.clone()).telling(others, event))
    }

    pub(super) fn join_space(&mut self, by: &str, id: &Id) -> Result<Outcome, CommandError> {
        self.space(id)?;
        let already = self.is_in_space(by, id);
        if already && !self.has(Fault::JoinsTwice) {
            return Err(CommandError::UserExists);
        }
        let others = self.others_in_space(id, by);
        let member = Member { user: by.to_owned(), roles: Vec::new() };
        let news = Event::new("SpaceMemberJoined", json!({ "member": self.member_value(&member) }));
        let space = self.spaces.get_mut(id).ok_or(CommandError::SpaceNotFound)?;
        if !already {
            space.members.push(member);
        }
        let reply = Event::new("SpaceJoined", json!({ "space": space_value(id, space) }));
        Ok(Outcome::change(reply).telling(others, news))
    }

    pub(super) fn leave_space(&mut self, by: &str, id: &Id) -> Result<Outcome, CommandError> {
        self.space(id)?;
        let reply = Event::new("SpaceLeft", json!({ "id": id.as_str() }));
        if !self.is_in_space(by, id) {
            return if self.has(Fault::LeavesTwice) {
                Ok(Outcome::answer(reply))
            } else {
                Err(CommandError::UserNotFound)
            };
        }
        let mut outcome = Outcome::change(reply);
        let gone = json!({ "userId": by });
        let rooms = self.spaces.get(id).map(|space| space.rooms.clone()).unwrap_or_default();
        for room in rooms.iter().filter(|room| self.is_in_room(by, room)).cloned().collect::<Vec<_>>() {
            self.remove_from_room(by, &room);
            let rest = self.others_in_room(&room, by);
            outcome = outcome.telling(rest, Event::new("RoomMemberLeft", gone.clone()));
        }
        if let Some(space) = self.spaces.get_mut(id) {
            space.members.retain(|member| member.user != by);
        }
        let rest = self.others_in_space(id, by);
        Ok(outcome.telling(rest, Event::new("SpaceMemberLeft", gone)))
    }

    pub(super) fn space_members(&self, by: &str, id: &Id) -> Result<Outcome, CommandError> {
        let space = self.space(id)?;
        self.must_be_in_space(by, id)?;
        let members: Vec<Value> = space.members.iter().map(|member| self.member_value(member)).collect();
        Ok(Outcome::answer(Event::new("SpaceMembers", json!({ "members": members }))))
    }

    pub(super) fn space_rooms(&self, by: &str, id: &Id) -> Result<Outcome, CommandError> {
        let space = self.space(id)?;
        self.must_be_in_space(by, id)?;
        let rooms =
            space.rooms.iter().filter_map(|id| self.rooms.get(id).map(|room| summary_value(id, room)));
        let summaries: Vec<Value> = rooms.collect();
        Ok(Outcome::answer(Event::new("SpaceRooms", json!({ "summaries": summaries }))))
    }
}
