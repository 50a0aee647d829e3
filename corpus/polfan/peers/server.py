#!/usr/bin/env python3
"""An independent polfan server: server.py PORT [--variant NAME]... [--fault NAME]

WebSocket (/ws?token=...), WebAPI (POST /api) and the auth service (POST /webservice/auth/token) on one port of
127.0.0.1. The README tells which lawful ways it takes, and what the switches change.
"""
import argparse
import asyncio
import dataclasses
import itertools
import json
import random
import re
import sys
import uuid

from aiohttp import WSCloseCode, WSMsgType, web

VARIANTS = """access-before-membership broadcast-first close-strangers copies-to-own-connections creator-inside
    drop-on-disconnect duplicate-names-refused joined-room late-news layer-numbers merge-permissions null-refs
    permissions-for-members refuse-401 refuse-control-characters room-deleted-to-space shuffle slow talkative
    upper-case-ids""".split()
FAULTS = """api-always-200 api-tells-nobody bad-json-closes deaf-to-unknown-types denied-delete-works
    errors-without-ref joiner-told-of-itself joins-twice leaks-refs leavers-unannounced null-refs-stay-null
    one-denial-suffices outsiders-may-write sender-not-told skip-ignored space-hears-messages""".split()
VARIANT, FAULT = set(), None

UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
MANAGE, SPEAK, FOUND = "moderate", "speak", "found-spaces"
DEFAULTS = {MANAGE: False, SPEAK: True, FOUND: False}
LAYERS = ["Global", "Space", "Room", "Topic"]
STATUS = {"ProtocolException": 400, "AuthenticationException": 401, "AccessDeniedException": 403,
          "UnexpectedServerException": 500}
counter = itertools.count(1)


class Refused(Exception):
    """A command that ends in an `Error`."""

    def __init__(self, code, message="no"):
        super().__init__(message)
        self.code, self.message = code, message


def protocol(message):
    return Refused("ProtocolException", message)


def fresh():
    made = str(uuid.uuid1(node=random.getrandbits(48)))
    return made.upper() if "upper-case-ids" in VARIANT else made


@dataclasses.dataclass(eq=False)
class User:
    id: str
    nick: str
    password: str
    tokens: list
    sockets: list = dataclasses.field(default_factory=list)

    def view(self):
        return {"flags": ["temp", "x-sailor"], "avatar": f"https://example.invalid/{self.nick}.png", "nick": self.nick,
                "id": self.id, "online": bool(self.sockets)}


@dataclasses.dataclass(eq=False)
class Role:
    id: str
    name: str
    color: str | None

    def view(self):
        # A role without a colour has no `color` at all.
        return {"name": self.name, "id": self.id} | ({"color": self.color} if self.color else {})


@dataclasses.dataclass(eq=False)
class Topic:
    id: str
    name: str
    description: str
    room: "Room"

    def view(self):
        return {"description": self.description, "name": self.name, "id": self.id, "position": 1}


@dataclasses.dataclass(eq=False)
class Room:
    id: str
    name: str
    description: str
    space: "Space"
    members: list = dataclasses.field(default_factory=list)
    topics: list = dataclasses.field(default_factory=list)

    def summary(self):
        return {"description": self.description, "id": self.id, "name": self.name, "members": len(self.members)}

    def view(self):
        return {"topics": [topic.view() for topic in reversed(self.topics)], "spaceId": self.space.id} | self.summary()


@dataclasses.dataclass(eq=False)
class Space:
    id: str
    name: str
    members: dict = dataclasses.field(default_factory=dict)   # user -> roles
    rooms: list = dataclasses.field(default_factory=list)
    roles: list = dataclasses.field(default_factory=list)

    def view(self):
        return {"roles": [role.view() for role in self.roles], "name": self.name, "id": self.id}

    def member(self, user):
        return {"roles": [role.id for role in self.members[user]], "user": user.view()}


class Server:
    def __init__(self):
        self.users = [User(f"{name}@polfan/{number}", name, "secret", [f"tok-{name}"])
                      for number, name in enumerate(["alice", "bob", "carol", "dave"], 7)]
        self.spaces, self.set = [], {}    # (target, layer, place) -> {name: (value, skip)}
        self.set[self.users[0].id, "Global", None] = {FOUND: (True, False)}

    # --- Finding things

    def user(self, given):
        return next((user for user in self.users if user.id == given), None) or self.none("User")

    def none(self, kind):
        raise Refused(f"{kind}NotFoundException", f"no such {kind.lower()}")

    def space(self, given):
        return self.find("Space", self.spaces, given)

    def room(self, given):
        return self.find("Room", [room for space in self.spaces for room in space.rooms], given)

    def topic(self, given):
        topics = [topic for space in self.spaces for room in space.rooms for topic in room.topics]
        return self.find("Topic", topics, given)

    def find(self, kind, among, given):
        found = [thing for thing in among if thing.id.lower() == given.lower()]
        return found[0] if found else self.none(kind)

    # --- Permissions

    def places(self, place):
        """The space, room and topic that a place implies."""
        match place:
            case Topic():
                return [place.room.space, place.room, place]
            case Room():
                return [place.space, place]
            case Space():
                return [place]
        return []

    def compute(self, user, place, name):
        layers = [(self.set.get((user.id, "Global", None), {}).get(name) or (DEFAULTS[name], False))]
        places = self.places(place)
        held = places[0].members.get(user, []) if places else []
        for layer, at in zip(LAYERS[1:], places):
            values = [self.set.get((role.id, layer, at.id), {}).get(name) for role in held]
            values = [value for value in values if value]
            if values:
                result = (all if FAULT == "one-denial-suffices" else any)(value for value, _ in values)
                layers.append((result, any(skip for value, skip in values if value == result)))
            if own := self.set.get((user.id, layer, at.id), {}).get(name):
                layers.append(own)
        if FAULT != "skip-ignored":
            for value, skip in layers:
                if skip:
                    return value
        return layers[-1][0]

    def demand(self, user, place, name):
        if not self.compute(user, place, name):
            raise Refused("AccessDeniedException", f"{name} is denied")

    # --- Telling

    def tell(self, link, kind, data, users, reference=None):
        """News for all connections of these users; the sender gets it as its answer."""
        if "shuffle" in VARIANT:
            users = random.sample(list(users), len(users))
        if FAULT == "api-tells-nobody" and link.socket is None:
            return
        for user in list(users):
            for other in list(user.sockets):
                if other is not link.socket and user is not link.user:
                    other.news(kind, data, link.reference if FAULT == "leaks-refs" else None)
                elif other is not link.socket and "copies-to-own-connections" in VARIANT:
                    other.news(kind, data)

    # --- Commands: each gives the type and the data of its answer

    def JoinSpace(self, link, id):
        space = self.space(id)
        if link.user in space.members and FAULT != "joins-twice":
            raise Refused("UserExistsAlreadyException")
        others = [user for user in space.members if user is not link.user]
        space.members.setdefault(link.user, [])
        self.tell(link, "SpaceMemberJoined", {"spaceId": space.id, "member": space.member(link.user)}, others)
        return "SpaceJoined", {"space": space.view()}

    def LeaveSpace(self, link, id):
        space = self.space(id)
        self.inside(link, space)
        for room in space.rooms:
            if link.user in room.members:
                self.leave_room(link, room)
                if "talkative" in VARIANT and link.socket:
                    link.socket.news("RoomLeft", {"id": room.id})
        del space.members[link.user]
        self.forget(lambda target, layer, place: target == link.user.id and place == space.id)
        self.tell(link, "SpaceMemberLeft", {"userId": link.user.id, "spaceId": space.id}, space.members)
        return "SpaceLeft", {"id": space.id}

    def forget(self, which):
        self.set = {key: value for key, value in self.set.items() if not which(*key)}

    def GetSpaceMembers(self, link, id):
        space = self.listed(link, self.space, id)
        return "SpaceMembers", {"members": [space.member(user) for user in reversed(space.members)]}

    def GetSpaceRooms(self, link, id):
        space = self.listed(link, self.space, id)
        return "SpaceRooms", {"summaries": [room.summary() for room in reversed(space.rooms)]}

    def GetRoomMembers(self, link, id):
        room = self.listed(link, self.room, id)
        return "RoomMembers", {"members": [{"user": user.view()} for user in reversed(room.members)]}

    def listed(self, link, find, id):
        """Who may not see a list cannot tell whether there is anything: the same code for both."""
        try:
            place = find(id)
        except Refused:
            raise Refused("UserNotFoundException", "not yours to see") from None
        self.inside(link, place)
        return place

    def inside(self, link, place):
        if link.user not in place.members:
            raise Refused("UserNotFoundException", "you are not there")

    def CreateSpace(self, link, name):
        self.demand(link.user, None, FOUND)
        if "duplicate-names-refused" in VARIANT and any(space.name == name for space in self.spaces):
            raise Refused("SpaceExistsAlreadyException")
        space = Space(fresh(), name, {link.user: []})
        self.spaces.append(space)
        self.set[link.user.id, "Space", space.id] = {MANAGE: (True, False)}
        self.tell(link, "SpaceJoined", {"space": space.view()}, [link.user])
        return "SpaceJoined", {"space": space.view()}

    def DeleteSpace(self, link, id):
        space = self.space(id)
        self.demand(link.user, space, MANAGE)
        self.spaces.remove(space)
        if "talkative" in VARIANT:
            for room in space.rooms:
                self.tell(link, "RoomDeleted", {"id": room.id}, room.members)
        self.tell(link, "SpaceDeleted", {"id": space.id}, space.members)
        return "SpaceDeleted", {"id": space.id}

    def JoinRoom(self, link, id):
        room = self.room(id)
        self.inside(link, room.space)
        if link.user in room.members and FAULT != "joins-twice":
            raise Refused("UserExistsAlreadyException")
        others = [user for user in room.members if user is not link.user]
        if link.user not in room.members:
            room.members.append(link.user)
        news = {"member": {"user": link.user.view()}, "roomId": room.id}
        self.tell(link, "RoomMemberJoined", news, others)
        if FAULT == "joiner-told-of-itself" and link.socket:
            link.socket.news("RoomMemberJoined", news)
        return "JoinedRoom" if "joined-room" in VARIANT else "RoomJoined", {"room": room.view()}

    def LeaveRoom(self, link, id):
        room = self.room(id)
        self.inside(link, room)
        self.leave_room(link, room)
        return "RoomLeft", {"id": room.id}

    def leave_room(self, link, room):
        room.members.remove(link.user)
        if FAULT != "leavers-unannounced":
            self.tell(link, "RoomMemberLeft", {"userId": link.user.id, "roomId": room.id}, room.members)

    def CreateRoom(self, link, spaceId, name, description):
        space = self.space(spaceId)
        if "access-before-membership" in VARIANT:
            self.demand(link.user, space, MANAGE)
        self.inside(link, space)
        self.demand(link.user, space, MANAGE)
        if "duplicate-names-refused" in VARIANT and any(room.name == name for room in space.rooms):
            raise Refused("RoomExistsAlreadyException")
        room = Room(fresh(), name, description, space)
        space.rooms.append(room)
        self.tell(link, "NewRoom", {"summary": room.summary(), "spaceId": space.id}, space.members)
        if "creator-inside" in VARIANT:
            room.members.append(link.user)
            return "RoomJoined", {"room": room.view()}
        return "NewRoom", {"summary": room.summary(), "spaceId": space.id}

    def DeleteRoom(self, link, id):
        room = self.room(id)
        if FAULT != "denied-delete-works":
            self.demand(link.user, room, MANAGE)
        room.space.rooms.remove(room)
        told = room.space.members if "room-deleted-to-space" in VARIANT else room.members
        self.tell(link, "RoomDeleted", {"id": room.id}, told)
        return "RoomDeleted", {"id": room.id}

    def CreateTopic(self, link, roomId, name, description):
        room = self.room(roomId)
        if "access-before-membership" in VARIANT:
            self.demand(link.user, room, MANAGE)
        self.inside(link, room)
        self.demand(link.user, room, MANAGE)
        if "duplicate-names-refused" in VARIANT and any(topic.name == name for topic in room.topics):
            raise Refused("TopicExistsAlreadyException")
        topic = Topic(fresh(), name, description, room)
        room.topics.append(topic)
        self.tell(link, "NewTopic", {"topic": topic.view(), "roomId": room.id}, room.members)
        return "NewTopic", {"topic": topic.view(), "roomId": room.id}

    def DeleteTopic(self, link, id):
        topic = self.topic(id)
        self.demand(link.user, topic, MANAGE)
        topic.room.topics.remove(topic)
        self.tell(link, "TopicDeleted", {"id": topic.id, "roomId": topic.room.id}, topic.room.members)
        return "TopicDeleted", {"id": topic.id, "roomId": topic.room.id}

    def CreateMessage(self, link, topicId, content):
        topic = self.topic(topicId)
        if FAULT != "outsiders-may-write":
            self.inside(link, topic.room)
        self.demand(link.user, topic, SPEAK)
        if "refuse-control-characters" in VARIANT and re.search(r"[\x00-\x08\x0b-\x1f\x7f]", content):
            raise protocol("no control characters")
        message = {"content": content, "topicId": topic.id, "author": link.user.view(), "id": fresh(),
                   "createdAt": "2023-01-08T12:00:00Z"}
        told = topic.room.space.members if FAULT == "space-hears-messages" else topic.room.members
        self.tell(link, "NewMessage", {"message": message}, told)
        return "NewMessage", {"message": message}

    def CreateRole(self, link, spaceId, name, color=None):
        space = self.space(spaceId)
        self.demand(link.user, space, MANAGE)
        role = Role(fresh(), name, color)
        space.roles.append(role)
        self.tell(link, "NewRole", {"spaceId": space.id, "role": role.view()}, space.members)
        return "NewRole", {"spaceId": space.id, "role": role.view()}

    def role(self, space, given):
        return self.find("Role", space.roles, given)

    def DeleteRole(self, link, roleId, spaceId):
        space = self.space(spaceId)
        role = self.role(space, roleId)
        self.demand(link.user, space, MANAGE)
        space.roles.remove(role)
        for user, roles in space.members.items():
            space.members[user] = [other for other in roles if other is not role]
        self.forget(lambda target, layer, place: target == role.id)
        self.tell(link, "RoleDeleted", {"id": role.id, "spaceId": space.id}, space.members)
        return "RoleDeleted", {"id": role.id, "spaceId": space.id}

    def AssignRole(self, link, roleId, userId, spaceId):
        space, role, user = self.about_role(link, roleId, userId, spaceId)
        if role in space.members[user]:
            raise Refused("RoleExistsAlreadyException")
        space.members[user].append(role)
        return self.member_update(link, space, user)

    def DeassignRole(self, link, roleId, userId, spaceId):
        space, role, user = self.about_role(link, roleId, userId, spaceId)
        if role not in space.members[user]:
            raise Refused("RoleNotFoundException")
        space.members[user].remove(role)
        return self.member_update(link, space, user)

    def about_role(self, link, roleId, userId, spaceId):
        space = self.space(spaceId)
        role, user = self.role(space, roleId), self.user(userId)
        if user not in space.members or link.user not in space.members:
            raise Refused("UserNotFoundException")
        self.demand(link.user, space, MANAGE)
        return space, role, user

    def member_update(self, link, space, user):
        self.tell(link, "SpaceMemberUpdate", {"member": space.member(user), "spaceId": space.id}, space.members)
        return "SpaceMemberUpdate", {"member": space.member(user), "spaceId": space.id}

    # --- Commands about permissions

    def layer(self, layer, layerId, lowest=0):
        if isinstance(layer, int) and "layer-numbers" in VARIANT and 0 <= layer < 4:
            layer = LAYERS[layer]
        if layer not in LAYERS[lowest:]:
            raise protocol("unknown layer")
        if layer == "Global":
            return layer, None
        if layerId is None:
            raise protocol("layerId is missing")
        return layer, {"Space": self.space, "Room": self.room, "Topic": self.topic}[layer](layerId)

    def role_place(self, roleId, layer, layerId):
        layer, place = self.layer(layer, layerId, 1)
        return self.role(self.places(place)[0], roleId).id, layer, place

    def store(self, link, target, layer, place, permissions):
        self.demand(link.user, place, MANAGE)
        known = {}
        for permission in permissions:
            if not isinstance(permission, dict) or permission.get("name") not in DEFAULTS \
                    or type(permission.get("value")) is not bool or type(permission.get("skip", False)) is not bool:
                raise protocol("not a permission")
            known[permission["name"]] = permission["value"], permission.get("skip", False)
        key = target, layer, place and place.id
        self.set[key] = self.set.get(key, {}) | known if "merge-permissions" in VARIANT else known

    def stored(self, target, layer, place, names=None):
        values = self.set.get((target, layer, place and place.id), {})
        if layer == "Global":
            values = {name: (value, False) for name, value in DEFAULTS.items()} | values
        return {"permissions": [{"skip": skip, "value": value, "name": name} for name, (value, skip) in values.items()
                                if not names or name in names]}

    def SetRolePermissions(self, link, roleId, layer, layerId, permissions):
        where = self.role_place(roleId, layer, layerId)
        self.store(link, *where, permissions)
        return "Permissions", self.stored(*where)

    def GetRolePermissions(self, link, roleId, layer, layerId, names=None):
        target, layer, place = self.role_place(roleId, layer, layerId)
        self.demand(link.user, place, MANAGE)
        return "Permissions", self.stored(target, layer, place, names)

    def SetMemberPermissions(self, link, userId, layer, permissions, layerId=None):
        layer, place = self.layer(layer, layerId)
        user = self.user(userId)
        self.store(link, user.id, layer, place, permissions)
        if "permissions-for-members" in VARIANT:
            return "Permissions", self.stored(user.id, layer, place)
        return "Ok", []

    def GetMemberPermissions(self, link, userId, layer, layerId=None, names=None):
        layer, place = self.layer(layer, layerId)
        user = self.user(userId)
        if user is not link.user:
            self.demand(link.user, place, MANAGE)
        return "Permissions", self.stored(user.id, layer, place, names)

    def GetComputedPermissions(self, link, spaceId=None, roomId=None, topicId=None, names=None):
        given = [find(id) for find, id in ((self.space, spaceId), (self.room, roomId), (self.topic, topicId)) if id]
        place = given[-1] if given else None
        if any(other not in self.places(place) for other in given):
            raise protocol("these places do not belong together")
        return "Permissions", {"permissions": [
            {"skip": "talkative" in VARIANT, "name": name, "value": self.compute(link.user, place, name)}
            for name in DEFAULTS if not names or name in names]}


# The fields of each command, with their types; what may be missing is told by the methods above.
U, T, N, L, P = "uuid", "text", "names", "layer", "permissions"
FIELDS = {
    "JoinSpace": {"id": U}, "LeaveSpace": {"id": U}, "GetSpaceMembers": {"id": U}, "GetSpaceRooms": {"id": U},
    "CreateSpace": {"name": T}, "DeleteSpace": {"id": U}, "JoinRoom": {"id": U}, "LeaveRoom": {"id": U},
    "GetRoomMembers": {"id": U}, "CreateRoom": {"spaceId": U, "name": T, "description": T}, "DeleteRoom": {"id": U},
    "CreateTopic": {"roomId": U, "name": T, "description": T}, "DeleteTopic": {"id": U},
    "CreateMessage": {"topicId": U, "content": T}, "CreateRole": {"spaceId": U, "name": T, "color?": T},
    "DeleteRole": {"roleId": U, "spaceId": U}, "AssignRole": {"roleId": U, "userId": T, "spaceId": U},
    "DeassignRole": {"roleId": U, "userId": T, "spaceId": U},
    "SetRolePermissions": {"roleId": U, "layer": L, "layerId": U, "permissions": P},
    "GetRolePermissions": {"roleId": U, "layer": L, "layerId": U, "names?": N},
    "SetMemberPermissions": {"userId": T, "layer": L, "layerId?": U, "permissions": P},
    "GetMemberPermissions": {"userId": T, "layer": L, "layerId?": U, "names?": N},
    "GetComputedPermissions": {"spaceId?": U, "roomId?": U, "topicId?": U, "names?": N},
}
MISSING_OBJECT = {"id": None, "spaceId": "Space", "roomId": "Room", "topicId": "Topic", "roleId": "Role"}


def fields(kind, data):
    """The arguments of a command, or ProtocolException."""
    wanted = FIELDS[kind]
    if data is None or data == []:
        data = {}
    if not isinstance(data, dict):
        raise protocol("data is no object")
    found = {}
    for name, form in wanted.items():
        optional, name = name.endswith("?"), name.rstrip("?")
        value = data.get(name, "" if name == "description" else None)
        if value is None:
            if optional:
                continue
            raise protocol(f"{name} is missing")
        if form == L and isinstance(value, int) and "layer-numbers" in VARIANT:
            pass
        elif form in (U, T, L) and not isinstance(value, str) or form in (N, P) and not isinstance(value, list):
            raise protocol(f"{name} is of a wrong type")
        if form == N and any(not isinstance(name, str) for name in value):
            raise protocol("names are texts")
        if form == T and not value and name in ("name", "userId"):
            raise protocol(f"{name} is empty")
        if form == U and not UUID.fullmatch(value):
            kinds = {"id": next((k for k in ("Space", "Room", "Topic") if k in kind), "Space")}
            raise Refused((kinds.get(name) or MISSING_OBJECT.get(name) or "Space") + "NotFoundException", "no such thing")
        found[name] = value
    return found


class Link:
    """Who has sent a command, and by which way."""

    def __init__(self, user, socket):
        self.user, self.socket, self.reference = user, socket, None


def write(kind, data, reference=None, absent=False):
    meta = {"ref": reference, "type": kind}
    if absent:
        del meta["ref"]
    return json.dumps({"data": data, "meta": meta}, indent=1 if "talkative" in VARIANT else None)


def generated():
    return f"~{next(counter)}~"


def handle(server, user, socket, text):
    """Carries a command out: the text of its answer, and the HTTP status that belongs to it."""
    link, reference = Link(user, socket), None
    try:
        try:
            whole = json.loads(text)
        except (ValueError, RecursionError):
            raise protocol("this is not JSON") from None
        meta = whole.get("meta") if isinstance(whole, dict) else None
        if not isinstance(meta, dict):
            raise protocol("this is no envelope")
        given = meta.get("ref")
        if given is not None and (not isinstance(given, str) or len(given) > 36):
            raise protocol("this is no ref")
        reference = given
        link.reference = given
        kind = meta.get("type")
        if not isinstance(kind, str) or kind not in FIELDS:
            if FAULT == "deaf-to-unknown-types":
                return None, 400
            raise protocol("there is no such command")
        kind, data = getattr(server, kind)(link, **fields(kind, whole.get("data")))
        status = 200
    except Refused as refused:
        kind, data, status = "Error", {"message": refused.message, "code": refused.code}, STATUS.get(refused.code, 422)
        if FAULT == "bad-json-closes" and reference is None and refused.message == "this is not JSON":
            return "close", 400
        if FAULT == "errors-without-ref":
            return write(kind, data), status
    if not reference and not (FAULT == "null-refs-stay-null" and reference is None):
        reference = generated()
    if FAULT == "sender-not-told" and kind == "NewMessage":
        return None, 200
    return write(kind, data, reference), 200 if FAULT == "api-always-200" else status


class Socket:
    """One connection: what is for it goes out in order."""

    def __init__(self, user, channel):
        self.user, self.channel = user, channel
        self.queue = asyncio.Queue()

    def news(self, kind, data, reference=None):
        absent = "null-refs" not in VARIANT
        if "talkative" in VARIANT and reference is None:
            reference, absent = generated(), False
        text = write(kind, data, reference, absent and reference is None)
        if "late-news" in VARIANT:
            asyncio.get_running_loop().call_later(0.7, self.queue.put_nowait, text)
        elif "broadcast-first" in VARIANT:
            self.queue.put_nowait(text)
        else:
            # Not at once: answers to others go first.
            asyncio.get_running_loop().call_later(0.02, self.queue.put_nowait, text)

    async def write_all(self):
        while True:
            text = await self.queue.get()
            try:
                if text is None:
                    await self.channel.close(code=1011)
                else:
                    await self.channel.send_str(text)
            except (ConnectionError, RuntimeError):
                return


async def stranger(request):
    if "close-strangers" in VARIANT:
        channel = web.WebSocketResponse()
        await channel.prepare(request)
        await channel.close(code=4001)
        return channel
    if "refuse-401" in VARIANT:
        return web.Response(status=401)
    channel = web.WebSocketResponse()
    await channel.prepare(request)
    await channel.send_str(write("Error", {"code": "AuthenticationException", "message": "who are you?"}))
    await channel.close(code=WSCloseCode.POLICY_VIOLATION)
    return channel


def bearer(server, token):
    return next((user for user in server.users if token in user.tokens), None)


async def websocket(request):
    server = request.app["server"]
    user = bearer(server, request.query.get("token"))
    if user is None:
        return await stranger(request)
    channel = web.WebSocketResponse(heartbeat=1 if "talkative" in VARIANT else None, max_msg_size=1 << 20)
    await channel.prepare(request)
    socket = Socket(user, channel)
    state = {"rooms": [room.view() for space in server.spaces for room in space.rooms if user in room.members],
             "spaces": [space.view() for space in server.spaces if user in space.members]}
    await channel.send_str(write("Session", {"user": user.view(), "state": state, "serverVersion": "py/1"}, absent=True))
    user.sockets.append(socket)
    writer = asyncio.create_task(socket.write_all())
    pending = set()
    try:
        async for message in channel:
            if message.type == WSMsgType.BINARY:
                await channel.close(code=WSCloseCode.UNSUPPORTED_DATA)
                break
            if message.type != WSMsgType.TEXT:
                break
            answer, _ = handle(server, user, socket, message.data)
            if answer == "close":
                await channel.close(code=WSCloseCode.INVALID_TEXT)
                break
            if answer is not None:
                wait = random.uniform(0, 0.01) + ("slow" in VARIANT) * random.uniform(0.1, 0.6)
                if "broadcast-first" in VARIANT:
                    wait += 0.03
                asyncio.get_running_loop().call_later(wait, socket.queue.put_nowait, answer)
    finally:
        user.sockets.remove(socket)
        if "drop-on-disconnect" in VARIANT and not user.sockets:
            for space in server.spaces:
                link = Link(user, None)
                for room in space.rooms:
                    if user in room.members:
                        server.leave_room(link, room)
                if user in space.members:
                    server.LeaveSpace(link, space.id)
        writer.cancel()
    return channel


def reply(status, text):
    return web.Response(status=status, text=text, content_type="application/json")


async def api(request):
    server = request.app["server"]
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    user = bearer(server, token.strip()) if scheme.lower() == "bearer" else None
    if user is None:
        error = {"code": "AuthenticationException", "message": "who are you?"}
        return web.Response(status=401) if "refuse-401" in VARIANT else reply(401, write("Error", error, generated()))
    body = await request.read()
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = ""
    answer, status = handle(server, user, None, text)
    if answer in (None, "close"):
        return web.Response(status=status)
    if "broadcast-first" in VARIANT:
        await asyncio.sleep(0.05)
    return reply(status, answer)


async def token(request):
    server = request.app["server"]
    try:
        given = json.loads(await request.read())
        login, password = given["login"], given["password"]
        if not isinstance(login, str) or not isinstance(password, str):
            raise TypeError
    except (ValueError, TypeError, KeyError):
        return reply(400, json.dumps({"errors": ["This is no request for a token."]}))
    user = next((user for user in server.users if (user.nick, user.password) == (login, password)), None)
    if user is None:
        return reply(401, json.dumps({"errors": ["Wrong login.", "Or wrong password."]}))
    user.tokens.append(f"{uuid.uuid4().hex}=+/{user.nick}")
    return reply(200, json.dumps({"expiration": "in a year", "token": user.tokens[-1], "user": user.nick}))


def main():
    global FAULT
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--variant", action="append", default=[], choices=VARIANTS)
    parser.add_argument("--fault", choices=FAULTS)
    given = parser.parse_args()
    VARIANT.update(given.variant)
    FAULT = given.fault
    app = web.Application(client_max_size=1 << 20)
    app["server"] = Server()
    app.router.add_get("/ws", websocket)
    app.router.add_post("/api", api)
    app.router.add_post("/webservice/auth/token", token)
    web.run_app(app, host="127.0.0.1", port=given.port, print=None, access_log=None, shutdown_timeout=0.1)


if __name__ == "__main__":
    sys.exit(main())
