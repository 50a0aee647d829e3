//! Rooms, their topics, and the messages that are posted there.

use serde_json::{Value, json};

use super::{Outcome, Room, Topic, World, summary_value, topic_value};
use crate::polfan::config::Fault;
use crate::polfan::error::CommandError;
use crate::polfan::message::{Event, Id, Place};

impl World {
    pub(super) fn create_room(
        &mut self,
        by: &str,
        space: &Id,
        name: String,
        description: String,
    ) -> Result<Outcome, CommandError> {
        self.space(space)?;
        self.must_be_in_space(by, space)?;
        self.must_be_permitted(by, "ManageRoom", &Place::Space(space.clone()))?;
        let id = self.new_id();
        let room = Room { space: space.clone(), name, description, members: Vec::new(), topics: Vec::new() };
        let event =
            Event::new("NewRoom", json!({ "spaceId": space.as_str(), "summary": summary_value(&id, &room) }));
        self.rooms.insert(id.clone(), room);
        if let Some(space) = self.spaces.get_mut(space) {
            space.rooms.push(id);
        }
        Ok(Outcome::change(event.clone()).telling(self.others_in_space(space, by), event))
    }

    pub(super) fn delete_room(&mut self, by: &str, id: &Id) -> Result<Outcome, CommandError> {
        self.room(id)?;
        if let Err(denied) = self.must_be_permitted(by, "ManageRoom", &Place::Room(id.clone())) {
            if self.has(Fault::DeniedDeleteTakesEffect) {
                self.forget_room(id);
            }
            return Err(denied);
        }
        let others = self.others_in_room(id, by);
        self.forget_room(id);
        let event = Event::new("RoomDeleted", json!({ "id": id.as_str() }));
        Ok(Outcome::change(event.clone()).telling(others, event))
    }

    /// Takes a room out of everything that knows it.
    pub(super) fn forget_room(&mut self, id: &Id) {
        let Some(room) = self.rooms.remove(id) else { return };
        for topic in &room.topics {
            self.topics.remove(topic);
            self.rules.forget(&Place::Topic(topic.clone()));
        }
        if let Some(space) = self.spaces.get_mut(&room.space) {
            space.rooms.retain(|known| known != id);
        }
        self.rules.forget(&Place::Room(id.clone()));
    }

    pub(super) fn join_room(&mut self, by: &str, id: &Id) -> Result<Outcome, CommandError> {
        let space = self.room(id)?.space.clone();
        if let Err(outside) = self.must_be_in_space(by, &space) {
            if self.has(Fault::FailedJoinCounts)
                && let Some(space) = self.spaces.get_mut(&space)
            {
                space.members.push(super::Member { user: by.to_owned(), roles: Vec::new() });
            }
            return Err(outside);
        }
        let already = self.is_in_room(by, id);
        if already && !self.has(Fault::JoinsTwice) {
            return Err(CommandError::UserExists);
        }
        let mut others = self.others_in_room(id, by);
        let news = Event::new("RoomMemberJoined", json!({ "member": { "user": self.user_value(by) } }));
        if !already && let Some(room) = self.rooms.get_mut(id) {
            room.members.push(by.to_owned());
        }
        let room = self.room_value(id, self.room(id)?);
        let reply = Event::new(self.room_joined, json!({ "room": room }));
        if self.has(Fault::JoinerToldOfItself) {
            others.push(by.to_owned());
        }
        let mut outcome = Outcome::change(reply.clone());
        if self.has(Fault::OthersGetRoomJoined) {
            outcome = outcome.telling(others.clone(), reply);
        }
        Ok(outcome.telling(others, news))
    }

    pub(super) fn leave_room(&mut self, by: &str, id: &Id) -> Result<Outcome, CommandError> {
        self.room(id)?;
        let reply = Event::new("RoomLeft", json!({ "id": id.as_str() }));
        if !self.is_in_room(by, id) {
            return if self.has(Fault::LeavesTwice) {
                Ok(Outcome::answer(reply))
            } else {
                Err(CommandError::UserNotFound)
            };
        }
        self.remove_from_room(by, id);
        let rest = self.others_in_room(id, by);
        Ok(Outcome::change(reply).telling(rest, Event::new("RoomMemberLeft", json!({ "userId": by }))))
    }

    pub(super) fn remove_from_room(&mut self, user: &str, id: &Id) {
        if let Some(room) = self.rooms.get_mut(id) {
            room.members.retain(|member| member != user);
        }
        self.left_rooms.insert((user.to_owned(), id.clone()));
    }

    pub(super) fn room_members(&self, by: &str, id: &Id) -> Result<Outcome, CommandError> {
        let room = self.room(id)?;
        self.must_be_in_room(by, id)?;
        let mut members: Vec<&String> = room.members.iter().collect();
        if self.has(Fault::MembersLinger) {
            members.extend(self.left_rooms.iter().filter(|(_, left)| left == id).map(|(user, _)| user));
        }
        let members: Vec<Value> =
            members.iter().map(|user| json!({ "user": self.user_value(user) })).collect();
        Ok(Outcome::answer(Event::new("RoomMembers", json!({ "members": members }))))
    }

    pub(super) fn create_topic(
        &mut self,
        by: &str,
        room: &Id,
        name: String,
        description: String,
    ) -> Result<Outcome, CommandError> {
        self.room(room)?;
        self.must_be_in_room(by, room)?;
        self.must_be_permitted(by, "ManageTopic", &Place::Room(room.clone()))?;
        let id = self.new_id();
        let topic = Topic { room: room.clone(), name, description };
        let event =
            Event::new("NewTopic", json!({ "roomId": room.as_str(), "topic": topic_value(&id, &topic) }));
        self.topics.insert(id.clone(), topic);
        if let Some(room) = self.rooms.get_mut(room) {
            room.topics.push(id);
        }
        Ok(Outcome::change(event.clone()).telling(self.others_in_room(room, by), event))
    }

    pub(super) fn delete_topic(&mut self, by: &str, id: &Id) -> Result<Outcome, CommandError> {
        let room = self.topic(id)?.room.clone();
        self.must_be_permitted(by, "ManageTopic", &Place::Topic(id.clone()))?;
        if !self.has(Fault::DeletedTopicsTakeMessages) {
            self.topics.remove(id);
            self.rules.forget(&Place::Topic(id.clone()));
        }
        if let Some(room) = self.rooms.get_mut(&room) {
            room.topics.retain(|known| known != id);
        }
        let event = Event::new("TopicDeleted", json!({ "id": id.as_str() }));
        Ok(Outcome::change(event.clone()).telling(self.others_in_room(&room, by), event))
    }

    pub(super) fn create_message(
        &mut self,
        by: &str,
        topic: &Id,
        content: String,
    ) -> Result<Outcome, CommandError> {
        let room = self.topic(topic)?.room.clone();
        self.must_be_in_room(by, &room)?;
        self.must_be_permitted(by, "CreateMessage", &Place::Topic(topic.clone()))?;
        let id = self.new_id();
        let content: String = if self.has(Fault::SpoilsLetters) {
            content.chars().filter(char::is_ascii).collect()
        } else {
            content
        };
        let message = json!({
            "id": id.as_str(),
            "author": self.user_value(by),
            "topicId": topic.as_str(),
            "content": content,
        });
        let event = Event::new("NewMessage", json!({ "message": message }));
        let mut readers = self.others_in_room(&room, by);
        if self.has(Fault::LeaverStillHears) {
            let left = self.left_rooms.iter().filter(|(_, left)| *left == room).map(|(user, _)| user.clone());
            readers.extend(left.filter(|user| user != by).collect::<Vec<_>>());
        }
        if self.has(Fault::MessageToWholeSpace)
            && let Some(room) = self.rooms.get(&room)
        {
            readers = self.others_in_space(&room.space, by);
        }
        Ok(Outcome::change(event.clone()).telling(readers, event))
    }
}
