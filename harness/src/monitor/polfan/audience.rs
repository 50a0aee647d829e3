//! Who may be told what: memberships are followed from answers and news, messages and lists are held against them.
//! Only what is certain counts: a membership that may just be changing is not known.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flowproof_reference::machine::{LinkId, Request, Time};
use serde_json::Value;

use super::{Envelope, Lately, REPLY, Reference, content, envelope, id, ids, sides, text};
use crate::judge::schema::actual;
use crate::monitor::{Monitor, MonitorConfig, Party, Rulings, Seen, What};

/// Commands that change who is where.
const MOVES: [&str; 8] = [
    "CreateRoom",
    "CreateSpace",
    "DeleteRoom",
    "DeleteSpace",
    "JoinRoom",
    "JoinSpace",
    "LeaveRoom",
    "LeaveSpace",
];

/// What is known of one user and one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    In,
    /// Never seen there: absent from its `Session`, and no word of a join.
    Out,
    /// Left in sight.
    Left,
    /// Asked to join, and what came of it is not certain.
    Unknown,
}

struct Line {
    server: Party,
    client: Party,
    user: Option<String>,
    token: Option<String>,
    open: bool,
}

/// A command that waits for its answer.
struct Pending {
    link: LinkId,
    kind: String,
    reference: Option<String>,
    data: Value,
    at: Time,
    /// Nothing that could change a list was under way when it was sent.
    calm: bool,
    /// For a join: the user, the place, and what was known before.
    before: Option<(String, String, Option<Presence>)>,
}

/// A message that members of a room are still to be told.
struct Delivery {
    since: Time,
    id: String,
    topic: String,
    content: String,
    missing: BTreeSet<LinkId>,
    /// The requirement at stake.
    requirement: &'static str,
}

/// A message that reached somebody who had left its room.
struct Overheard {
    room: String,
    server: Party,
    at: Time,
    whole: Value,
}

pub(super) struct Audience {
    slack: Duration,
    exclusive: bool,
    /// A command came from somebody whose name is not known: nothing is certain from then on.
    blind: bool,
    lines: BTreeMap<LinkId, Line>,
    /// Users by token.
    tokens: BTreeMap<String, String>,
    /// Whose token each HTTP request has; empty for one that nobody is known to have.
    askers: BTreeMap<LinkId, String>,
    /// Users by participant.
    users: BTreeMap<String, String>,
    rooms: BTreeMap<(String, String), Presence>,
    spaces: BTreeMap<(String, String), Presence>,
    room_of: BTreeMap<String, String>,
    space_of: BTreeMap<String, String>,
    gone_rooms: BTreeSet<String>,
    pending: Vec<Pending>,
    /// Messages under way: topic and content, with the moments at which they were sent.
    sent: Vec<(String, String, Time, u64)>,
    /// When each user left a room, in the order of what was seen.
    left: BTreeMap<(String, String), u64>,
    deliveries: Vec<Delivery>,
    delivered: Lately<(LinkId, String), ()>,
    /// Ids of messages, with their topics and texts.
    messages: Lately<String, (String, String)>,
    overheard: Vec<Overheard>,
    /// Somebody who was never in a room has heard its messages.
    leaking: bool,
    /// Memberships that an answer to the user's own command gave in this conversation: nobody else can know of the
    /// place yet, so that nothing changes them unseen.
    sure: BTreeSet<(String, String)>,
    /// Which connections were told of which rooms as their own.
    rooms_told: BTreeSet<(LinkId, String)>,
    /// Spaces that users made in sight.
    made: BTreeSet<(String, String)>,
    sequence: u64,
}

impl Audience {
    pub(super) fn new(config: &MonitorConfig) -> Self {
        Audience {
            slack: config.slack,
            exclusive: config.exclusive,
            blind: false,
            lines: BTreeMap::new(),
            tokens: BTreeMap::new(),
            askers: BTreeMap::new(),
            users: BTreeMap::new(),
            rooms: BTreeMap::new(),
            spaces: BTreeMap::new(),
            room_of: BTreeMap::new(),
            space_of: BTreeMap::new(),
            gone_rooms: BTreeSet::new(),
            pending: Vec::new(),
            sent: Vec::new(),
            left: BTreeMap::new(),
            deliveries: Vec::new(),
            delivered: Lately::new(),
            messages: Lately::new(),
            overheard: Vec::new(),
            leaking: false,
            sure: BTreeSet::new(),
            rooms_told: BTreeSet::new(),
            made: BTreeSet::new(),
            sequence: 0,
        }
    }

    /// The user behind a link: by its `Session`, or by the participant's other connections.
    fn user(&self, link: LinkId, client: &Party) -> Option<String> {
        if let Some(asker) = self.askers.get(&link) {
            return Some(asker.clone()).filter(|asker| !asker.is_empty());
        }
        let own = self.lines.get(&link).and_then(|line| line.user.clone());
        own.or_else(|| self.users.get(&client.name).cloned())
    }

    /// A request is made by whoever has its token, whichever participant sends it.
    fn asks(&mut self, link: LinkId, client: &Party, request: &Request) {
        let header = request.header("authorization").and_then(|header| header.split_once(' '));
        let Some((_, token)) = header else { return };
        let own = self.users.get(&client.name);
        if let Some(user) = self.tokens.get(token) {
            self.askers.insert(link, user.clone());
        } else if own.is_some_and(|own| self.tokens.values().any(|known| known == own)) {
            self.askers.insert(link, String::new());
        }
    }

    fn client_said(&mut self, seen: &Seen<'_>, said: &Envelope<'_>) {
        let moves = MOVES.contains(&said.kind);
        let Some(user) = self.user(seen.link, seen.from) else {
            self.blind |= moves || said.kind == "CreateMessage";
            return;
        };
        let reference = match said.reference {
            Reference::Text(own) if !own.is_empty() => Some(own.to_owned()),
            _ => None,
        };
        let mut before = None;
        if let Some(place) = id(said.data, "/id") {
            let known = match said.kind {
                "JoinRoom" => Some(&mut self.rooms),
                "JoinSpace" => Some(&mut self.spaces),
                _ => None,
            };
            if let Some(known) = known {
                let presence = known.get(&(user.clone(), place.clone())).copied();
                if presence != Some(Presence::In) {
                    known.insert((user.clone(), place.clone()), Presence::Unknown);
                }
                before = Some((user.clone(), place, presence));
            }
        }
        if said.kind == "CreateMessage"
            && let (Some(topic), Some(content)) = (id(said.data, "/topicId"), text(said.data, "/content"))
        {
            self.sent.push((topic, content.to_owned(), seen.at, self.sequence));
        }
        if moves {
            self.pending.iter_mut().for_each(|pending| pending.calm = false);
        }
        let calm = !self.pending.iter().any(|pending| MOVES.contains(&pending.kind.as_str()));
        let pending = Pending {
            link: seen.link,
            kind: said.kind.to_owned(),
            reference,
            data: said.data.clone(),
            at: seen.at,
            calm,
            before,
        };
        self.pending.push(pending);
    }

    /// The command that an event answers, taken off the list.
    fn answered(&mut self, link: LinkId, event: &Envelope<'_>) -> Option<Pending> {
        let Reference::Text(reference) = event.reference else { return None };
        let place = self
            .pending
            .iter()
            .position(|pending| pending.link == link && pending.reference.as_deref() == Some(reference));
        place.map(|place| self.pending.remove(place))
    }

    fn server_said(&mut self, seen: &Seen<'_>, event: &Envelope<'_>, rulings: &mut Rulings) {
        let pending = self.answered(seen.link, event);
        // A command without a ref of its own is over with the next thing that its connection hears.
        if !matches!(event.reference, Reference::Null | Reference::Absent) {
            self.pending.retain(|pending| pending.link != seen.link || pending.reference.is_some());
        }
        if event.kind == "Session" {
            self.session(seen, event, rulings);
            return;
        }
        let Some(user) = self.user(seen.link, seen.to) else { return };
        if event.kind == "Error"
            && let Some(pending) = &pending
        {
            self.failed(seen, &user, pending, event, rulings);
        }
        if pending.is_some() && matches!(event.kind, "SpaceJoined" | "RoomJoined" | "JoinedRoom") {
            let place = id(event.data, "/space/id").or_else(|| id(event.data, "/room/id"));
            self.sure.extend(place.map(|place| (user.clone(), place)));
        }
        if event.kind == "SpaceJoined"
            && pending.as_ref().is_some_and(|pending| pending.kind == "CreateSpace")
            && let Some(space) = id(event.data, "/space/id")
        {
            self.made.insert((user.clone(), space));
        }
        match event.kind {
            "NewMessage" => self.message(seen, &user, pending.is_some(), event, rulings),
            "RoomMembers" => self.members(seen, pending.as_ref(), event, "/user/id", rulings),
            "SpaceMembers" => self.members(seen, pending.as_ref(), event, "/user/id", rulings),
            "SpaceRooms" => self.space_rooms(seen, pending.as_ref(), event, rulings),
            "RoomMemberJoined" => {
                if id(event.data, "/member/user/id").as_deref() == Some(&user.to_ascii_lowercase()) {
                    let message = "the joiner is told of its own arrival";
                    let expected = "`RoomMemberJoined` for those who were there before";
                    rulings.broken(
                        "POLFAN-EVT-5",
                        seen.from,
                        seen.at,
                        message,
                        expected,
                        actual(event.whole),
                    );
                } else {
                    rulings.kept("POLFAN-EVT-5", seen.from, seen.at);
                }
            }
            "RoomJoined" | "JoinedRoom" => self.room_joined(seen, &user, event, rulings),
            _ => {}
        }
        self.learn(&user, event);
    }

    /// A command has failed: what was known before it holds again.
    fn failed(
        &mut self,
        seen: &Seen<'_>,
        user: &str,
        pending: &Pending,
        event: &Envelope<'_>,
        rulings: &mut Rulings,
    ) {
        if let Some((user, place, before)) = &pending.before {
            let known = if pending.kind == "JoinRoom" { &mut self.rooms } else { &mut self.spaces };
            let key = (user.clone(), place.clone());
            // What was learned meanwhile counts; and who was a member made nothing uncertain by asking again.
            if known.get(&key) == Some(&Presence::Unknown) && *before != Some(Presence::In) {
                match before {
                    Some(before) => known.insert(key, *before),
                    None => known.remove(&key),
                };
            }
        }
        let space = match pending.kind.as_str() {
            "GetSpaceMembers" | "GetSpaceRooms" => id(&pending.data, "/id"),
            "CreateRoom" if text(&pending.data, "/name").is_some_and(|name| !name.is_empty()) => {
                text(&pending.data, "/description").and_then(|_| id(&pending.data, "/spaceId"))
            }
            "JoinRoom" => id(&pending.data, "/id").and_then(|room| self.space_of.get(&room).cloned()),
            _ => None,
        };
        // SPACE-5: the creator of a space is told that it is not there.
        let key = (user.to_owned(), space.unwrap_or_default());
        if text(event.data, "/code") == Some("UserNotFoundException")
            && !self.blind
            && self.made.contains(&key)
            && self.spaces.get(&key) == Some(&Presence::In)
        {
            let message = format!("the creator of a space is refused `{}` for not being there", pending.kind);
            let expected = "that the creator is in the space";
            rulings.broken("POLFAN-SPACE-5", seen.from, seen.at, message, expected, actual(event.whole));
        }
    }

    /// EVT-5: the joiner's event once more, at a member who has not asked for it again.
    fn room_joined(&mut self, seen: &Seen<'_>, user: &str, event: &Envelope<'_>, rulings: &mut Rulings) {
        let Some(room) = id(event.data, "/room/id") else { return };
        let key = (user.to_owned(), room.clone());
        let known = self.rooms.get(&key) == Some(&Presence::In) && self.sure.contains(&key);
        let told = !self.rooms_told.insert((seen.link, room));
        let own = matches!(event.reference, Reference::Text(_)) || self.moving(user);
        if self.exclusive && !self.blind && told && known && !own && !matches!(seen.what, What::Answered(_)) {
            let message = format!("`{}` came to a member who did not join", event.kind);
            rulings.broken(
                "POLFAN-EVT-5",
                seen.from,
                seen.at,
                message,
                "`RoomMemberJoined`",
                actual(event.whole),
            );
        }
    }

    fn session(&mut self, seen: &Seen<'_>, event: &Envelope<'_>, rulings: &mut Rulings) {
        let Some(user) = text(event.data, "/user/id").map(str::to_owned) else { return };
        let (Some(spaces), Some(rooms)) =
            (ids(event.data, "/state/spaces", "/id"), ids(event.data, "/state/rooms", "/id"))
        else {
            return;
        };
        let elsewhere = self
            .lines
            .iter()
            .any(|(link, line)| *link != seen.link && line.open && line.user.as_ref() == Some(&user));
        if let Some(line) = self.lines.get_mut(&seen.link) {
            line.user = Some(user.clone());
            if let Some(token) = line.token.clone() {
                self.tokens.insert(token, user.clone());
            }
        }
        self.users.insert(seen.to.name.clone(), user.clone());
        for room in event.data.pointer("/state/rooms").and_then(Value::as_array).into_iter().flatten() {
            if room.get("topics").is_some_and(Value::is_object) {
                let message = "`topics` is one object, as in the vendor's example, not a list";
                let expected = "a list of topics";
                rulings.noted("POLFAN-ROOM-5", seen.from, seen.at, message, expected, actual(event.whole));
            }
            self.learn_topics(room);
        }
        let moving = self.pending.iter().any(|pending| MOVES.contains(&pending.kind.as_str()));
        if !self.blind && !moving {
            self.compare(seen, event, &user, &rooms, &spaces, elsewhere, rulings);
        }
        // What the server says now is where things begin.
        for ((known, room), presence) in &mut self.rooms {
            if *known == user && !rooms.contains(room) && *presence == Presence::In {
                *presence = Presence::Out;
            }
        }
        for room in rooms {
            self.rooms.insert((user.clone(), room), Presence::In);
        }
        for ((known, space), presence) in &mut self.spaces {
            if *known == user && !spaces.contains(space) && *presence == Presence::In {
                *presence = Presence::Out;
            }
        }
        for space in spaces {
            self.spaces.insert((user.clone(), space), Presence::In);
        }
    }

    /// CONN-2: what a new connection is told against what was seen before it.
    #[expect(clippy::too_many_arguments, reason = "the parts of one event, taken apart by its only caller")]
    fn compare(
        &self,
        seen: &Seen<'_>,
        event: &Envelope<'_>,
        user: &str,
        rooms: &[String],
        spaces: &[String],
        elsewhere: bool,
        rulings: &mut Rulings,
    ) {
        let mut checked = false;
        for (what, known, listed) in [("room", &self.rooms, rooms), ("space", &self.spaces, spaces)] {
            for ((_, place), presence) in known.iter().filter(|((known, _), _)| known == user) {
                let there = listed.contains(place);
                let message = match presence {
                    // Without another connection a server may have dropped the membership (section 3.3).
                    Presence::In
                        if !there && elsewhere && self.sure.contains(&(user.to_owned(), place.clone())) =>
                    {
                        format!("the {what} {place}, where the user is a member, is missing")
                    }
                    Presence::Left if there => {
                        format!("the {what} {place}, which the user has left, is listed")
                    }
                    _ => {
                        checked = true;
                        continue;
                    }
                };
                let expected = "the spaces and rooms where the user is";
                rulings.broken("POLFAN-CONN-2", seen.from, seen.at, message, expected, actual(event.whole));
                return;
            }
        }
        if checked {
            rulings.kept("POLFAN-CONN-2", seen.from, seen.at);
        }
    }

    /// Takes note of what an event tells its receiver about itself and the world.
    fn learn(&mut self, user: &str, event: &Envelope<'_>) {
        self.sequence += 1;
        let key = |place: String| (user.to_owned(), place);
        match event.kind {
            "SpaceJoined" => {
                if let Some(space) = id(event.data, "/space/id") {
                    self.spaces.insert(key(space), Presence::In);
                }
            }
            "SpaceLeft" => {
                if let Some(space) = id(event.data, "/id") {
                    for (room, _) in self.space_of.iter().filter(|(_, known)| **known == space) {
                        self.rooms_told.retain(|(_, told)| told != room);
                        if let Some(presence) = self.rooms.get_mut(&key(room.clone())) {
                            *presence = Presence::Left;
                            self.left.insert(key(room.clone()), self.sequence);
                        }
                    }
                    self.spaces.insert(key(space), Presence::Left);
                }
            }
            "RoomJoined" | "JoinedRoom" => {
                if let Some(room) = event.data.get("room") {
                    self.learn_topics(room);
                    if let Some(room) = id(room, "/id") {
                        self.left.remove(&key(room.clone()));
                        self.rooms.insert(key(room), Presence::In);
                    }
                }
            }
            "RoomLeft" => {
                if let Some(room) = id(event.data, "/id") {
                    self.left.insert(key(room.clone()), self.sequence);
                    self.rooms_told.retain(|(_, told)| *told != room);
                    self.rooms.insert(key(room), Presence::Left);
                }
            }
            "NewRoom" => {
                if let (Some(room), Some(space)) = (id(event.data, "/summary/id"), id(event.data, "/spaceId"))
                {
                    self.space_of.insert(room, space);
                }
            }
            "NewTopic" => {
                if let (Some(topic), Some(room)) = (id(event.data, "/topic/id"), id(event.data, "/roomId")) {
                    self.room_of.insert(topic, room);
                }
            }
            "RoomDeleted" => {
                if let Some(room) = id(event.data, "/id") {
                    self.forget_room(&room);
                }
            }
            "SpaceDeleted" => {
                if let Some(space) = id(event.data, "/id") {
                    let rooms = self.space_of.iter().filter(|(_, known)| **known == space);
                    for room in rooms.map(|(room, _)| room.clone()).collect::<Vec<_>>() {
                        self.forget_room(&room);
                    }
                    self.spaces.retain(|(_, known), _| *known != space);
                }
            }
            _ => {}
        }
    }

    fn learn_topics(&mut self, room: &Value) {
        let Some(room_id) = id(room, "/id") else { return };
        for topic in ids(room, "/topics", "/id").unwrap_or_default() {
            self.room_of.insert(topic, room_id.clone());
        }
        if let Some(space) = id(room, "/spaceId") {
            self.space_of.insert(room_id, space);
        }
    }

    fn forget_room(&mut self, room: &str) {
        self.rooms.retain(|(_, known), _| known != room);
        self.gone_rooms.insert(room.to_owned());
    }

    /// EVT-1, EVT-2, ROOM-2: a message has arrived at a user.
    fn message(
        &mut self,
        seen: &Seen<'_>,
        user: &str,
        answer: bool,
        event: &Envelope<'_>,
        rulings: &mut Rulings,
    ) {
        let data = event.data;
        let (Some(message), Some(topic)) = (id(data, "/message/id"), id(data, "/message/topicId")) else {
            return;
        };
        let author = text(data, "/message/author/id").unwrap_or_default();
        let content = text(data, "/message/content").unwrap_or_default();
        let known = self.messages.get(&message);
        if known.is_some_and(|(first, text)| (first, text.as_str()) != (&topic, content)) {
            let what = "two messages have the same id";
            rulings.broken(
                "POLFAN-TOPIC-3",
                seen.from,
                seen.at,
                what,
                "an id of its own",
                actual(event.whole),
            );
            return;
        }
        self.messages.insert(message.clone(), (topic.clone(), content.to_owned()));
        let by_http = matches!(seen.what, What::Answered(_));
        if !by_http && !self.delivered.insert((seen.link, message.clone()), ()) {
            let what = "the same message came twice";
            rulings.broken(
                "POLFAN-EVT-1",
                seen.from,
                seen.at,
                what,
                "one copy for each member",
                actual(event.whole),
            );
            return;
        }
        // A copy with another id is judged elsewhere; here it counts as told.
        let place = self.deliveries.iter().position(|delivery| delivery.id == message).or_else(|| {
            self.deliveries.iter().position(|delivery| {
                delivery.topic == topic
                    && delivery.content == content
                    && delivery.missing.contains(&seen.link)
            })
        });
        if let Some(delivery) = place.and_then(|place| self.deliveries.get_mut(place))
            && delivery.missing.remove(&seen.link)
        {
            rulings.kept(delivery.requirement, seen.from, seen.at);
        }
        if self.blind {
            return;
        }
        let Some(room) = self.room_of.get(&topic).cloned() else { return };
        let presence = self.rooms.get(&(user.to_owned(), room.clone())).copied();
        let sent = self
            .sent
            .iter()
            .rev()
            .find(|(known, text, ..)| *known == topic && text == content)
            .map(|sent| sent.3);
        if author != user && !answer && self.exclusive {
            self.outsider(seen, user, &room, presence, sent, event, rulings);
        }
        if place.is_none() {
            self.expect(seen, user, &room, (message, topic, content.to_owned()));
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what is known about one copy of one message")]
    fn outsider(
        &mut self,
        seen: &Seen<'_>,
        user: &str,
        room: &str,
        presence: Option<Presence>,
        sent: Option<u64>,
        event: &Envelope<'_>,
        rulings: &mut Rulings,
    ) {
        match presence {
            Some(Presence::In) => rulings.kept("POLFAN-EVT-2", seen.from, seen.at),
            Some(Presence::Unknown) => {}
            Some(Presence::Left) => {
                let left = self.left.get(&(user.to_owned(), room.to_owned()));
                if left.zip(sent).is_some_and(|(left, sent)| *left <= sent) {
                    let overheard = Overheard {
                        room: room.to_owned(),
                        server: seen.from.clone(),
                        at: seen.at,
                        whole: actual(event.whole),
                    };
                    self.overheard.push(overheard);
                }
            }
            None | Some(Presence::Out) => {
                self.leaking = true;
                let message = "a message came to a user who is not in its room";
                let expected = "messages for members of the room only";
                rulings.broken("POLFAN-EVT-2", seen.from, seen.at, message, expected, actual(event.whole));
            }
        }
    }

    /// ROOM-2: a leaver hears what those who were never there do not hear.
    fn judge_overheard(&mut self, rulings: &mut Rulings) {
        for overheard in std::mem::take(&mut self.overheard) {
            let outsider = self.lines.values().any(|line| {
                let Some(user) = line.user.clone().filter(|_| line.open) else { return false };
                let presence = self.rooms.get(&(user.clone(), overheard.room.clone()));
                let space = self.space_of.get(&overheard.room).cloned().unwrap_or_default();
                !matches!(presence, Some(Presence::In | Presence::Left | Presence::Unknown))
                    && self.spaces.get(&(user, space)) == Some(&Presence::In)
            });
            if outsider && !self.leaking {
                let message = "a message of a room came to a user who had left it before it was sent";
                let expected = "nothing more of that room";
                rulings.broken(
                    "POLFAN-ROOM-2",
                    &overheard.server,
                    overheard.at,
                    message,
                    expected,
                    overheard.whole,
                );
            }
        }
    }

    /// From the first copy on, every member with an open connection is to get one.
    fn expect(&mut self, seen: &Seen<'_>, receiver: &str, room: &str, what: (String, String, String)) {
        let by_http = matches!(seen.what, What::Answered(_));
        let members = self.lines.iter().filter(|(link, line)| {
            **link != seen.link
                && line.open
                && line.user.as_ref().is_some_and(|user| {
                    user != receiver
                        && self.sure.contains(&(user.clone(), room.to_owned()))
                        && self.rooms.get(&(user.clone(), room.to_owned())) == Some(&Presence::In)
                        && !self.moving(user)
                })
        });
        // The answer by HTTP may come after all copies.
        let told = |link: LinkId| self.delivered.get(&(link, what.0.clone())).is_some();
        let mut missing: BTreeSet<LinkId> =
            members.map(|(link, _)| *link).filter(|link| !told(*link)).collect();
        // Of several connections of one user it is enough that one is told (section 3.3).
        missing.retain(|link| {
            let user = self.lines.get(link).and_then(|line| line.user.clone());
            self.lines.values().filter(|line| line.open && line.user == user).count() == 1
        });
        let (id, topic, content) = what;
        let requirement = if by_http { "POLFAN-API-4" } else { "POLFAN-EVT-1" };
        self.deliveries.push(Delivery { since: seen.at, id, topic, content, missing, requirement });
    }

    fn moving(&self, user: &str) -> bool {
        self.pending.iter().any(|pending| {
            MOVES.contains(&pending.kind.as_str())
                && self.lines.get(&pending.link).is_none_or(|line| line.user.as_deref() == Some(user))
        })
    }

    /// SPACE-4: a list of members against what is known of them.
    fn members(
        &self,
        seen: &Seen<'_>,
        pending: Option<&Pending>,
        event: &Envelope<'_>,
        pointer: &str,
        rulings: &mut Rulings,
    ) {
        let Some(pending) = pending.filter(|pending| pending.calm && !self.blind) else { return };
        let Some(place) = id(&pending.data, "/id") else { return };
        let known = match pending.kind.as_str() {
            "GetRoomMembers" => &self.rooms,
            "GetSpaceMembers" => &self.spaces,
            _ => return,
        };
        let Some(listed) = ids(event.data, "/members", pointer) else { return };
        for ((user, _), presence) in known.iter().filter(|((_, known), _)| *known == place) {
            let count = listed.iter().filter(|id| **id == user.to_ascii_lowercase()).count();
            // Who has no connection may have been dropped (section 3.3).
            let connected = self.lines.values().any(|line| line.open && line.user.as_ref() == Some(user));
            let message = match (presence, count) {
                (Presence::In, 0) if connected && self.sure.contains(&(user.clone(), place.clone())) => {
                    format!("{user}, who is a member, is missing")
                }
                (Presence::Left, 1..) => format!("{user}, who has left, is listed"),
                (_, 2..) => format!("{user} is listed more than once"),
                _ => continue,
            };
            rulings.broken(
                "POLFAN-SPACE-4",
                seen.from,
                seen.at,
                message,
                "exactly the members",
                actual(event.whole),
            );
            return;
        }
        rulings.kept("POLFAN-SPACE-4", seen.from, seen.at);
    }

    fn space_rooms(
        &self,
        seen: &Seen<'_>,
        pending: Option<&Pending>,
        event: &Envelope<'_>,
        rulings: &mut Rulings,
    ) {
        let Some(pending) = pending.filter(|pending| pending.calm && !self.blind) else { return };
        let Some(space) = id(&pending.data, "/id") else { return };
        let Some(listed) = ids(event.data, "/summaries", "/id") else { return };
        let missing = self.space_of.iter().find(|(room, known)| {
            **known == space && !self.gone_rooms.contains(*room) && !listed.contains(room)
        });
        let message = match (missing, listed.iter().find(|room| self.gone_rooms.contains(*room))) {
            (Some((room, _)), _) if self.exclusive => format!("the room {room} is missing"),
            (_, Some(room)) => format!("the room {room}, which was deleted, is listed"),
            _ => {
                rulings.kept("POLFAN-SPACE-4", seen.from, seen.at);
                return;
            }
        };
        rulings.broken(
            "POLFAN-SPACE-4",
            seen.from,
            seen.at,
            message,
            "exactly the rooms",
            actual(event.whole),
        );
    }

    fn overdue(&mut self, now: Time, rulings: &mut Rulings) {
        let limit = REPLY + self.slack;
        let late = self.deliveries.iter().filter(|delivery| now.since(delivery.since) >= limit);
        for delivery in late {
            let waiting =
                delivery.missing.iter().filter_map(|link| self.lines.get(link)).find(|line| line.open);
            if let Some(line) = waiting {
                let message = format!("{} is in the room and was not told of a message", line.client.name);
                let expected = format!("`NewMessage` with the text {:?}", delivery.content);
                rulings.broken(delivery.requirement, &line.server, now, message, expected, Value::Null);
            }
        }
        self.deliveries.retain(|delivery| now.since(delivery.since) < limit && !delivery.missing.is_empty());
        self.sent.retain(|(_, _, at, _)| now.since(*at) < limit * 2);
        self.pending.retain(|pending| now.since(pending.at) < limit * 2);
    }
}

impl Monitor for Audience {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        let Some((client, server, from_server)) = sides(seen) else { return };
        self.overdue(seen.at - Duration::from_nanos(1), rulings);
        match &seen.what {
            What::Opened { target } => {
                let query = target.split_once('?').map_or("", |(_, query)| query);
                let token = query.split('&').find_map(|pair| pair.strip_prefix("token="));
                let (server, client) = (server.clone(), client.clone());
                let token = token.map(str::to_owned);
                let line = Line { server, client, user: None, token, open: true };
                self.lines.insert(seen.link, line);
            }
            What::Closing { .. } | What::Closed | What::Stalled => {
                if let Some(line) = self.lines.get_mut(&seen.link) {
                    line.open = false;
                }
                self.pending.retain(|pending| pending.link != seen.link);
            }
            _ => {
                if let What::Asked(request) = &seen.what {
                    self.asks(seen.link, client, request);
                }
                let Some(whole) = content(&seen.what) else { return };
                let Some(said) = envelope(&whole) else { return };
                if from_server {
                    self.server_said(seen, &said, rulings);
                    if matches!(seen.what, What::Answered(_)) {
                        self.askers.remove(&seen.link);
                    }
                } else {
                    self.client_said(seen, &said);
                }
            }
        }
    }

    fn deadline(&self) -> Option<Time> {
        let limit = REPLY + self.slack;
        self.deliveries.iter().map(|delivery| delivery.since + limit).min()
    }

    fn due(&mut self, now: Time, rulings: &mut Rulings) {
        self.overdue(now, rulings);
    }

    fn finish(&mut self, now: Time, rulings: &mut Rulings) {
        self.overdue(now, rulings);
        self.judge_overheard(rulings);
    }
}
