#!/usr/bin/env python3
"""An independent clusterio master: python3 master.py PORT [--variant NAME]... [--fault NAME] [--edition seed|alpha0]

It keeps every requirement of the specification, but wherever the text leaves a choice it takes another
lawful way than the reference. A variant takes yet another one, a fault breaks one requirement. The README
lists them.
"""
import argparse
import asyncio
import base64
import contextlib
import hashlib
import hmac
import http
import json
import logging
import math
import os
import random
import re
import secrets
import signal
import time

from websockets.asyncio.server import broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode

VARIANTS = """all-at-once busy chatty cut-at-close handshake-limit ignores-unmatched latin-names no-plugins number-words open
    refuses-newcomer refuses-versions slow-reader strict-close unnumbered-handshake""".split()
FAULTS = """accepts-any-token acknowledges-events adds-subscriptions answers-assign-early announces-to-source
    answers-own-number counts-for-all drops-unknown-groups echoes-result-type error-is-object exits-on-malformed
    first-come-first-answered forgets-asker-when-slave-goes forwards-early hello-on-demand ignores-invalid
    keeps-gone-slaves-connected leaks-output leaves-out-null-slave loses-newer no-close-at-stop no-slave-update
    ready-tells-id reuses-numbers second-answer shows-tokens talks-after-close""".split()
FAULT, VARIANT, EDITION = None, set(), "alpha0"
TOKENS, SECRET, PLUGINS = set(), None, True

LIMIT = 1 << 53


def has(name):
    return name in VARIANT


# --- What a value must look like. A check returns true or false.

def integer(value):
    """A JSON number without a fraction: 2.0 is one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= LIMIT and value == int(value) if math.isfinite(value) else False


def number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def text(value):
    return isinstance(value, str)


def mapping(value):
    return isinstance(value, dict)


def listing(value):
    return isinstance(value, list)


def list_of(check):
    return lambda value: isinstance(value, list) and all(check(item) for item in value)


def members(optional=(), **wanted):
    def check(value):
        if not isinstance(value, dict):
            return False
        closed = EDITION == "alpha0" and not has("open")
        known = set(wanted) | set(dict(optional))
        if closed and set(value) - known:
            return False
        return all(name in value and one(value[name]) for name, one in wanted.items()) and \
            all(one(value[name]) for name, one in dict(optional).items() if name in value)
    return check


def pair(value):
    return isinstance(value, list) and len(value) == 2 and text(value[0]) and integer(value[1])


def technology(value):
    return isinstance(value, list) and len(value) == 4 and text(value[0]) and integer(value[1]) and \
        (value[2] is None or number(value[2])) and isinstance(value[3], bool)


OUTPUT = members(source=text, received=number, format=text, type=text, message=text,
                 optional=dict(time=text, level=text, file=text, action=text))
NOTHING = members()
OF_INSTANCE = members(instance_id=integer)
FROM_CONTROL = {
    "list_slaves": NOTHING, "list_instances": NOTHING, "create_instance": members(serialized_config=mapping),
    "set_instance_output_subscriptions": members(instance_ids=list_of(integer)), "get_instance_config": OF_INSTANCE,
    "set_instance_config_field": members(instance_id=integer, field=text, value=text),
    "assign_instance_command": members(instance_id=integer, slave_id=integer),
    "start_instance": OF_INSTANCE, "create_save": OF_INSTANCE, "stop_instance": OF_INSTANCE,
    "delete_instance": OF_INSTANCE, "send_rcon": members(instance_id=integer, command=text),
}
FORWARDED = {"start_instance", "create_save", "stop_instance", "delete_instance", "send_rcon"}
FROM_SLAVE = {
    "research_sync:sync_technologies": members(technologies=list_of(technology)),
    "subspace_storage:remove": members(instance_id=integer, items=list_of(pair)),
    "subspace_storage:get_storage": NOTHING,
}
EVENTS = {
    "update_instances": members(instances=list_of(members(serialized_config=mapping))),
    "instance_output": members(instance_id=integer, output=OUTPUT),
    "global_chat:chat": members(instance_name=text, content=text),
    "research_sync:contribution": members(name=text, level=integer, contribution=number),
    "research_sync:finished": members(name=text, level=integer),
    "subspace_storage:place": members(instance_id=integer, items=list_of(pair)),
}
# What a slave answers, besides `seq`.
RESULTS = {"send_rcon": members(seq=integer, result=text),
           "statistics_exporter:get_metrics": members(seq=integer, results=listing)}
ERROR = members(seq=integer, error=text)


class Invalid(Exception):
    """A message that costs the link."""


class Failure(Exception):
    """A request that cannot be done; its text goes to whoever asked."""


# --- The instances

DEFAULTS = {
    "instance": {"name": "New Instance", "id": None, "assigned_slave": None},
    "factorio": {"game_port": None, "rcon_port": None, "rcon_password": None,
                 "settings": {"tags": ["clusterio"], "auto_pause": False}},
    "global_chat": {"enabled": True}, "research_sync": {"enabled": True}, "statistics_exporter": {"enabled": True},
    "subspace_storage": {"enabled": True, "log_item_transfers": False},
}
OR_NULL = {"assigned_slave", "game_port", "rcon_port", "rcon_password"}
NUMBERS = {"id", "assigned_slave", "game_port", "rcon_port"}


def suits(name, value):
    if value is None:
        return name in OR_NULL
    if name in NUMBERS:
        return number(value)
    if name == "settings":
        return mapping(value)
    return isinstance(value, bool) if name in ("enabled", "log_item_transfers") else text(value)


class Instance:
    """A configuration as groups of fields, in the order in which they came; defaults stand behind."""

    def __init__(self, config):
        groups = config.get("groups")
        if not isinstance(groups, list):
            raise Failure("the configuration has no list of groups")
        self.groups = {}
        for group in groups:
            if not isinstance(group, dict) or not text(group.get("name")) or not mapping(group.get("fields")):
                raise Failure("a group of the configuration has no name or no fields")
            known, fields = DEFAULTS.get(group["name"], {}), self.groups.setdefault(group["name"], {})
            if not known and FAULT == "drops-unknown-groups":
                del self.groups[group["name"]]
            for name, value in group["fields"].items():
                if name not in known or suits(name, value):
                    fields[name] = value
        for group, known in DEFAULTS.items():
            fields = self.groups.setdefault(group, {})
            for name, value in known.items():
                fields.setdefault(name, json.loads(json.dumps(value)))
        if self.own["id"] is None:
            self.own["id"] = random.getrandbits(31)

    @property
    def own(self):
        return self.groups["instance"]

    @property
    def id(self):
        return int(self.own["id"])

    def told(self):
        return {"groups": [{"fields": fields, "name": name} for name, fields in self.groups.items()]}

    def set(self, path, value):
        group, _, name = path.partition(".")
        if path in ("instance.id", "instance.assigned_slave"):
            raise Failure(f"{path} is not for you to set")
        if group not in DEFAULTS or name not in DEFAULTS[group]:
            raise Failure(f"no field is called {path}")
        if value == "":
            if name not in OR_NULL:
                raise Failure(f"{path} cannot be empty")
            self.groups[group][name] = None
            return
        if name in NUMBERS:
            if not re.fullmatch(r"-?\d+(\.\d+)?", value):
                raise Failure(f"{value} is no number")
            made = float(value) if "." in value else int(value)
        elif name == "settings":
            try:
                made = json.loads(value)
            except ValueError:
                raise Failure("that is not JSON") from None
        elif name in ("enabled", "log_item_transfers"):
            made = {"true": True, "false": False}.get(value)
        else:
            made = value
        if made is None or not suits(name, made):
            raise Failure(f"{value} does not suit {path}")
        self.groups[group][name] = made


# --- Tokens

def unpack(part):
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def accepted(token):
    if FAULT == "accepts-any-token" or token in TOKENS:
        return True
    if SECRET is None:
        return False
    try:
        head, body, signature = token.split(".")
        kind = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}[json.loads(unpack(head))["alg"]]
        right = hmac.new(SECRET.encode(), f"{head}.{body}".encode(), kind).digest()
        claims = json.loads(unpack(body))
        return hmac.compare_digest(right, unpack(signature)) and claims.get("exp", math.inf) > time.time()
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


# --- The cluster

class Slave:
    def __init__(self, said, link):
        self.said, self.link, self.token = said, link, said.get("token")


slaves, instances = {}, {}      # by id
links = set()                   # everybody who is registered
items, technologies = {}, {}    # what the plugins keep
counter = 0                     # for one fault: the number of the last message, whoever it went to


def instance_of(data):
    found = instances.get(int(data["instance_id"]))
    if found is None:
        raise Failure(f"there is no instance {data['instance_id']}")
    return found


def slave_of(instance):
    """The link to the slave that an instance is assigned to."""
    if instance.own["assigned_slave"] is None:
        raise Failure(f"instance {instance.id} has no slave")
    return link_of(instance.own["assigned_slave"])


def link_of(slave_id):
    slave = slaves.get(int(slave_id))
    if slave is None or slave.link is None:
        raise Failure(f"slave {slave_id} is away")
    return slave.link


def connected(but=None):
    return [slave.link for slave in slaves.values() if slave.link is not None and slave.link is not but]


class Link:
    """One connection."""

    def __init__(self, ws):
        self.ws, self.kind, self.slave, self.number = ws, None, None, 0
        self.waiting, self.subscribed, self.closing = {}, set(), False
        self.tasks, self.cut = set(), False

    # Going out

    def send(self, kind, data):
        global counter
        if self.closing and kind != "close" and FAULT != "talks-after-close":
            return None
        self.number += 1
        counter += 1
        seq = counter if FAULT == "counts-for-all" else self.number
        if FAULT == "reuses-numbers" and kind.endswith("_request"):
            seq = self.number = 3
        whole = {"data": data, "type": kind, "seq": seq}
        if FAULT == "answers-own-number" and kind.endswith("_response"):
            data["seq"] = seq
        if has("unnumbered-handshake") and kind in ("hello", "ready"):
            del whole["seq"]
        if has("open"):
            whole["note"] = "a member of our own"
            if kind not in ("ready", "hello") and not kind.endswith("_event"):
                data.setdefault("note", "another one")
        written = json.dumps(whole, indent=1 if not has("latin-names") else None, ensure_ascii=not has("latin-names"))
        if has("number-words"):
            written = re.sub(r'("seq": )(\d+)', r"\g<1>\g<2>.0", written)
        broadcast([self.ws], "\n" + written + "\n")
        return seq

    async def ask(self, stem, data):
        seq = self.send(f"{stem}_request", data)
        answer = asyncio.get_running_loop().create_future()
        self.waiting[stem, seq] = answer
        return await answer

    def close(self, reason, code=1000):
        if self.closing:
            return
        self.send("close", {"reason": reason})
        self.closing = True
        if FAULT == "talks-after-close":
            self.send("weather:report_event", {"sky": "dark"})
        self.leave()
        self.run(self.end(code))

    async def end(self, code):
        if has("cut-at-close"):
            await asyncio.sleep(0.1)
            self.ws.transport.abort()
        else:
            await self.ws.close(code)

    def run(self, work):
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def leave(self):
        """Nobody asks or tells this link any more."""
        links.discard(self)
        if self.slave is not None and (self.slave.link is self or FAULT == "loses-newer"):
            if not (FAULT == "keeps-gone-slaves-connected" and self.cut):
                self.slave.link = None
        for answer in self.waiting.values():
            if not answer.done() and FAULT != "forgets-asker-when-slave-goes":
                answer.set_exception(Failure("the slave has gone"))
        self.waiting.clear()

    # Coming in

    async def serve(self):
        if FAULT != "hello-on-demand":
            self.send("hello", {"version": "2.0.0-alpha"})
        if has("handshake-limit"):
            self.run(self.limit())
        if has("busy"):
            self.run(self.busy())
        with contextlib.suppress(ConnectionClosed):
            async for message in self.ws:
                if has("slow-reader"):
                    await asyncio.sleep(random.random() / 50)
                if self.closing or not self.take(message):
                    break
        self.cut = self.ws.close_code == 1006
        self.closing = True
        self.leave()
        await self.ws.close(1000)

    async def limit(self):
        await asyncio.sleep(3)
        if self.kind is None:
            self.close("Handshake timeout")

    async def busy(self):
        """Pings, and messages that clients need not know of."""
        while not self.closing:
            await asyncio.sleep(0.05)
            with contextlib.suppress(ConnectionClosed):
                await self.ws.ping(secrets.token_bytes(4))

    def take(self, message):
        """False when the link is over."""
        try:
            kind, seq, data = self.read(message)
            if kind == "close":
                return False
            if self.kind is None:
                self.register(kind, data)
            else:
                self.dispatch(kind, seq, data)
        except Invalid as reason:
            if FAULT == "ignores-invalid" and self.kind is not None:
                return True
            self.close(f"Invalid message: {reason}" if self.kind else "Invalid handshake", 1002)
            return True
        return True

    def read(self, message):
        try:
            whole = json.loads(message, parse_constant=refuse)
        except (ValueError, RecursionError):
            if FAULT == "exits-on-malformed":
                os._exit(70)
            raise Invalid("not JSON") from None
        envelope = members(seq=integer, type=text, data=mapping)
        if not isinstance(whole, dict) or not envelope(whole):
            raise Invalid("no message")
        if whole["type"] == "close" and self.kind is None:
            return "close", 0, {}
        return whole["type"], int(whole["seq"]), whole["data"]

    def register(self, kind, said):
        if FAULT == "hello-on-demand":
            self.send("hello", {"version": "2.0.0-alpha"})
        forms = {"register_slave": dict(agent=text, version=text, name=text, id=integer),
                 "register_control": dict(agent=text, version=text)}
        form = forms.get(kind)
        if form is None:
            raise Invalid(kind)
        with_token = EDITION == "alpha0"
        if not members(**form, **(dict(token=text) if with_token else {}),
                       optional={} if with_token else dict(token=text))(said):
            raise Invalid("the register message lacks something")
        if with_token and not accepted(said["token"]):
            return self.close("Authentication failed", 1008)
        if has("refuses-versions") and not said["version"].startswith("2."):
            return self.close("the version does not suit", 1002)
        if kind == "register_slave":
            slave_id, earlier = int(said["id"]), slaves.get(int(said["id"]))
            older = earlier and earlier.link
            if older and has("refuses-newcomer"):
                return self.close("somebody has that id", 1008)
            self.slave = earlier or Slave(said, None)
            self.slave.said, self.slave.link, self.slave.token = said, self, said.get("token")
            slaves[slave_id] = self.slave
            if older:
                older.close("Registered from another connection")
        self.kind = kind.partition("_")[2]
        links.add(self)
        self.send("ready", {"id": len(links)} if FAULT == "ready-tells-id" else {})
        if has("chatty"):
            self.run(self.chat())

    async def chat(self):
        """Events and a question of a plugin of our own, and the question of whoever scrapes metrics."""
        while not self.closing:
            self.send("weather:report_event", {"sky": "clear"})
            if self.kind == "slave" and PLUGINS:
                self.send("research_sync:progress_event", {"technologies": []})
            await asyncio.sleep(0.3)

    def dispatch(self, kind, seq, data):
        stem, _, suffix = kind.rpartition("_")
        requests = FROM_CONTROL if self.kind == "control" else FROM_SLAVE if PLUGINS else {}
        if suffix == "request":
            if stem not in requests or not requests[stem](data):
                # An error would do as well; the strict variant closes.
                if has("strict-close") or FAULT == "ignores-invalid":
                    raise Invalid(kind)
                self.send(kind[:-7] + "response", {"error": "that is no request of ours", "seq": seq})
                return
            # Each request is a task of its own: nobody waits for the answer to another.
            if stem in FORWARDED or stem in ("assign_instance_command", "set_instance_config_field"):
                self.run(self.answer(stem, seq, data))
            else:
                self.answer_now(stem, seq, data)
        elif suffix == "event":
            if self.kind == "control" or stem not in EVENTS or ":" in stem and not PLUGINS or not EVENTS[stem](data):
                raise Invalid(kind)
            self.event(stem, data)
            if FAULT == "acknowledges-events":
                self.send(f"{stem}_response", {"seq": seq})
        elif suffix == "response":
            self.answered(stem, data)
        else:
            raise Invalid(kind)

    def answered(self, stem, data):
        form = RESULTS.get(stem, members(seq=integer))
        if "error" in data:
            form = ERROR
        key = (stem, int(data["seq"])) if integer(data.get("seq")) else None
        if FAULT == "first-come-first-answered":
            key = next((known for known in self.waiting if known[0] == stem), key)
        if key not in self.waiting:
            if has("ignores-unmatched"):
                return
            raise Invalid("nobody asked for that")
        if not form(data):
            raise Invalid("an answer of a strange form")
        answer = self.waiting.pop(key)
        if not answer.done():
            answer.set_result(data)

    # Requests

    def respond(self, stem, seq, data):
        kind = "slaves_response" if FAULT == "echoes-result-type" and stem == "list_slaves" else f"{stem}_response"
        for _ in range(2 if FAULT == "second-answer" and stem == "list_instances" else 1):
            self.send(kind, {**data, "seq": seq})

    def answer_now(self, stem, seq, data):
        try:
            self.respond(stem, seq, getattr(self, stem.replace(":", "_"))(data))
        except Failure as failure:
            error = {"text": str(failure)} if FAULT == "error-is-object" else str(failure)
            self.respond(stem, seq, {"error": error})

    async def answer(self, stem, seq, data):
        try:
            if stem in FORWARDED:
                link = slave_of(instance_of(data))
                if FAULT == "forwards-early" and stem == "start_instance":
                    self.respond(stem, seq, {})
                found = await link.ask(stem, data)
                found = {name: value for name, value in found.items() if name != "seq"}
                if FAULT == "forwards-early" and stem == "start_instance":
                    return
            else:
                found = await getattr(self, stem)(data)
            self.respond(stem, seq, found)
        except Failure as failure:
            error = {"text": str(failure)} if FAULT == "error-is-object" else str(failure)
            self.respond(stem, seq, {"error": error})

    def list_slaves(self, _):
        def told(slave_id, slave):
            said = slave.said
            agent = slave.token if FAULT == "shows-tokens" else said["agent"]
            return {"connected": slave.link is not None, "id": slave_id, "name": said["name"],
                    "version": said["version"], "agent": agent}
        return {"list": [told(*pair) for pair in reversed(slaves.items())]}

    def list_instances(self, _):
        def told(instance):
            entry = {"id": instance.id, "assigned_slave": instance.own["assigned_slave"], "name": instance.own["name"]}
            if FAULT == "leaves-out-null-slave" and entry["assigned_slave"] is None:
                del entry["assigned_slave"]
            return entry
        return {"list": [told(instance) for instance in reversed(instances.values())]}

    def set_instance_output_subscriptions(self, data):
        ids = {int(one) for one in data["instance_ids"]}
        self.subscribed = self.subscribed | ids if FAULT == "adds-subscriptions" else ids
        return {}

    def create_instance(self, data):
        made = Instance(data["serialized_config"])
        if made.id in instances:
            raise Failure(f"instance {made.id} is there already")
        instances[made.id] = made
        return {}

    def get_instance_config(self, data):
        return {"serialized_config": instance_of(data).told()}

    async def set_instance_config_field(self, data):
        instance = instance_of(data)
        instance.set(data["field"], data["value"])
        try:
            link = slave_of(instance)
        except Failure:
            return {}
        if FAULT != "no-slave-update":
            await self.assign(link, instance)
        return {}

    async def assign(self, link, instance):
        work = link.ask("assign_instance", {"serialized_config": instance.told(), "instance_id": instance.id})
        if FAULT == "answers-assign-early":
            return self.run(work)
        answer = await work
        if "error" in answer:
            raise Failure(answer["error"])

    async def assign_instance_command(self, data):
        instance, link = instance_of(data), link_of(data["slave_id"])
        instance.own["assigned_slave"] = int(data["slave_id"])
        await self.assign(link, instance)
        return {}

    # Events

    def event(self, stem, data):
        if stem == "update_instances":
            self.run(self.take_over(data["instances"]))
        elif stem == "instance_output":
            for link in list(links):
                if int(data["instance_id"]) in link.subscribed or FAULT == "leaks-output" and link.kind == "control":
                    link.send("instance_output_event", dict(data))
        elif stem == "global_chat:chat":
            for link in connected(but=None if FAULT == "announces-to-source" else self):
                link.send(f"{stem}_event", dict(data))
        elif stem == "research_sync:finished":
            technologies[data["name"]] = [data["name"], data["level"], None, True]
            for link in connected(but=self):
                link.send(f"{stem}_event", dict(data))
        elif stem == "subspace_storage:place":
            for name, count in data["items"]:
                items[name] = items.get(name, 0) + int(count)
            self.tell_storage([name for name, _ in data["items"]])

    async def take_over(self, reported):
        mine = [instance for instance in instances.values() if instance.own["assigned_slave"] == self.slave.said["id"]]
        for one in reported:
            with contextlib.suppress(Failure):
                instance = Instance(one["serialized_config"])
                if instance.id not in instances:
                    instance.own["assigned_slave"] = int(self.slave.said["id"])
                    instances[instance.id] = instance
                    mine.append(instance)
        if has("all-at-once"):
            await asyncio.gather(*(self.assign(self, instance) for instance in mine), return_exceptions=True)
            return
        with contextlib.suppress(Failure):
            for instance in mine:
                await self.assign(self, instance)

    # Plugins

    def tell_storage(self, names):
        told = [[name, items.get(name, 0)] for name in dict.fromkeys(names)]
        for link in connected():
            link.send("subspace_storage:update_storage_event", {"items": told})

    def subspace_storage_get_storage(self, _):
        return {"items": [[name, count] for name, count in items.items()]}

    def subspace_storage_remove(self, data):
        taken = []
        for name, count in data["items"]:
            found = min(int(count), items.get(name, 0))
            if found > 0:
                items[name] -= found
                taken.append([name, found])
        self.tell_storage([name for name, _ in taken])
        return {"items": taken}

    def research_sync_sync_technologies(self, data):
        for one in data["technologies"]:
            technologies.setdefault(one[0], one)
        return {"technologies": list(technologies.values())}


def refuse(word):
    raise ValueError(f"{word} is not JSON")


async def serve_client(ws):
    await Link(ws).serve()


def refuse_path(connection, request):
    path = request.path.partition("?")[0]
    if path != "/api/socket":
        return connection.respond(http.HTTPStatus.NOT_FOUND, "nothing here\n")
    return None


async def main(arguments):
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    server = await serve(serve_client, arguments.host, arguments.port, process_request=refuse_path, compression=None,
                         ping_interval=None, close_timeout=1, max_size=2 << 20)
    print(f"listening on port {server.sockets[0].getsockname()[1]}", flush=True)
    await stop.wait()
    for link in list(links):
        if FAULT != "no-close-at-stop":
            link.close("the master stops", 1001)
    server.close()
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(server.wait_closed(), 3)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--fault", choices=FAULTS)
    parser.add_argument("--variant", choices=VARIANTS, action="append", default=[])
    parser.add_argument("--edition", choices=["seed", "alpha0"], default="alpha0")
    parser.add_argument("--verbose", action="store_true", help="log to standard error")
    arguments = parser.parse_args()
    FAULT, VARIANT, EDITION = arguments.fault, set(arguments.variant), arguments.edition
    PLUGINS = "no-plugins" not in VARIANT
    TOKENS = {os.environ.get("CLUSTERIO_TOKEN", "flowproof:6f2c0e1d9b5a")}
    SECRET = os.environ.get("CLUSTERIO_SECRET")
    logging.disable(logging.NOTSET if arguments.verbose else logging.CRITICAL)
    asyncio.run(main(arguments))
