#!/usr/bin/env python3
"""An independent ptpchat node over UDP: python3 node.py PORT [PEER,PEER...] [--edition E] [--role node|server]

It binds 127.0.0.1:PORT and greets the peers named (`ip:port`, with commas between). It reads stimuli from standard
input, one JSON object a line:
    {"does":"connect","with":{"to":"127.0.0.3","through":"127.0.0.1:9001"}}
    {"does":"join","with":{"channel":"lobby","channel_id":"...","target":"127.0.0.2:9001"}}
The others are create, leave, message, certificate and key. The README tells the rest.
"""
import argparse
import asyncio
import base64
import datetime
import ipaddress
import json
import os
import random
import re
import signal
import sys
import threading
import uuid

SEED, MARCH = "seed", "udp-2016-03"
VERBS = set("HELLO ACK JOIN CHANNEL LEAVE GETCERTIFICATE CERTIFICATE GETKEY KEY MESSAGE RELAY CONNECT ROUTING".split())
ACKED = {"MESSAGE", "GETCERTIFICATE", "CERTIFICATE", "GETKEY", "KEY"}
# A peer that has not greeted for so long is no longer listed, and is forgotten after as long again.
DEAD = 20.0
ROUTING_EVERY = 4.0
PENDING = 45.0
LONGEST_SENT = 1400
DEEPEST = 64

VARIANTS = """answer-at-once ask-certificates ask-from-ordinary bare-port-first compact every-half-second every-two-seconds
    extra-members fourth-to-new-port greet-listed hello-object hello-without-data long-patience no-routing
    old-tables relay-messages resend strict-content""".split()
FAULTS = """a-comes-from-elsewhere a-does-not-come ack-ack ack-from-elsewhere ack-hello ack-join ack-to-known ack-wrong-id
    asks-with-number b-changes-dst b-changes-port b-silent b-tells-address bom broken-connect die-on-bad-list
    die-on-bad-utf8 die-on-deep die-on-no-verb drop-extra-members drop-unknown-fields forget-never forget-soon
    forward-messages greet-once-a-while hello-fast hello-slow hello-text lower-verbs new-id no-ack-getkey no-ack-key
    no-certificate no-greeting-back no-leave no-rejoin once-only-ack prefix reflect routing-big routing-users
    s-believes-source s-no-swap-back s-no-swap s-tells-port stale-listed stay-at-old-address wrong-addresses
    zero-version""".split()


def guid(text):
    """The GUID in lower case, or None."""
    shape = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
    if not isinstance(text, str) or not re.fullmatch(shape, text) or not text.strip("0-"):
        return None
    return text.lower()


def is_base64(text):
    if not isinstance(text, str):
        return False
    try:
        base64.b64decode(text, validate=True)
    except ValueError:
        return False
    return True


def ip_of(text):
    if not isinstance(text, str) or not re.fullmatch(r"\d{1,3}(\.\d{1,3}){3}", text):
        return None
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        return None


def port_of(text):
    if not isinstance(text, str) or not re.fullmatch(r"[1-9][0-9]{0,4}", text) or int(text) > 65535:
        return None
    return int(text)


def address_of(text):
    """(ip, port) of "ip:port", or None."""
    if not isinstance(text, str) or text.count(":") != 1:
        return None
    ip, port = text.split(":")
    ip, port = ip_of(ip), port_of(port)
    return (ip, port) if ip and port else None


def written(address):
    return f"{address[0]}:{address[1]}"


def depth(text):
    """How deep brackets nest, counted on the text, for a parser that recurses cannot be asked."""
    deep = most = 0
    inside = escaped = False
    for c in text:
        if inside:
            if escaped:
                escaped = False
            elif c == "\\":
                escaped = True
            elif c == '"':
                inside = False
        elif c == '"':
            inside = True
        elif c in "[{":
            deep += 1
            most = max(most, deep)
        elif c in "]}":
            deep -= 1
    return most


def lowered(thing):
    """The authors' programs read keys in any case; so does this one. Of two that are alike the later counts."""
    return {key.lower(): value for key, value in thing.items()} if isinstance(thing, dict) else thing


def refuse(word):
    raise ValueError(f"{word} is not JSON")


class Malformed(Exception):
    """A datagram that is no message."""


class Peer:
    def __init__(self, address, configured=False):
        self.address = address
        self.configured = configured
        self.node_id = None
        self.heard = None       # when it greeted last
        self.since = None       # since when we know it
        self.greeting = None    # the task that greets it
        self.certificate = None


class Socket(asyncio.DatagramProtocol):
    """One UDP socket: the ordinary one, or one opened for CONNECT."""

    def __init__(self, node):
        self.node = node
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, source):
        self.node.received(self, data, source)

    def error_received(self, error):
        pass  # somebody is out of reach; the others are not

    @property
    def port(self):
        return self.transport.get_extra_info("sockname")[1]


class Node:
    def __init__(self, options):
        self.options = options
        self.edition = options.edition
        self.server = options.role == "server"
        self.variants = set(options.variant)
        self.fault = options.fault
        self.id = str(uuid.UUID(int=random.getrandbits(128), version=4))
        self.peers = {}         # by node id, or by address where none was given
        self.listed = {}        # learnt from ROUTING: node id -> address
        self.channels = {}      # channel id -> {"name", "members", "mine", "closed", "key"}
        self.pending = {}       # CONNECT at S: B's IP and A's address -> where A asked from
        self.asking = {}        # CONNECT at A: claimed port -> {"socket", "dst", "done"}
        self.answering = {}     # CONNECT at B: A's address -> socket
        self.unacked = {}       # msg_id -> task that sends it again
        self.done = set()       # msg_ids that were acted upon
        self.kept_secrets = None
        self.lock = threading.Lock()
        self.sockets = []
        self.tasks = set()

    # --- Life

    async def run(self):
        self.loop = asyncio.get_running_loop()
        self.ordinary = await self.open(self.options.port)
        for peer in filter(None, (self.options.peers or "").split(",")):
            address = address_of(peer.strip())
            if address is None:
                sys.exit(f"{peer} is no address")
            self.learn(address, configured=True)
        if self.edition == MARCH:
            # The package takes long to load, and nobody who greets waits for it.
            self.task(asyncio.to_thread(self.secrets))
        self.task(self.tell_routes())
        self.task(self.tell_channels())
        self.listen()
        stop = asyncio.Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(name, stop.set)
        await stop.wait()

    def task(self, work):
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def open(self, port=0):
        _, socket = await self.loop.create_datagram_endpoint(lambda: Socket(self), local_addr=("127.0.0.1", port))
        self.sockets.append(socket)
        return socket

    def listen(self):
        def work():
            rest = b""
            while chunk := os.read(0, 65536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self.loop.call_soon_threadsafe(self.stimulus, line)
            # Standard input may end; the node goes on.

        threading.Thread(target=work, daemon=True).start()

    def now(self):
        return self.loop.time()

    # --- Sending

    def send(self, verb, data, to, socket=None, raw_data=False):
        message = {}
        if data is not None or raw_data:
            message["msg_data"] = data
        message["msg_type"] = verb.lower() if self.fault == "lower-verbs" and verb == "ACK" else verb
        if "extra-members" in self.variants:
            message["ttl"] = 32
            message["program"] = "node.py"
        if "compact" in self.variants:
            text = json.dumps(message, separators=(",", ":"), ensure_ascii=False)
        else:
            text = json.dumps(message, indent=1) + "\r\n"
        if self.fault == "broken-connect" and verb == "CONNECT":
            text = text.rstrip()[:-1]
        body = text.encode()
        if self.fault == "bom":
            body = b"\xef\xbb\xbf" + body
        if self.fault == "prefix":
            body = len(body).to_bytes(4, "big") + body
        transport = (socket or self.ordinary).transport
        if not transport.is_closing():
            transport.sendto(body, to)

    def say(self, verb, data, to, socket=None):
        """Sends what is acknowledged; where it has an id, again until it is."""
        self.send(verb, data, to, socket)
        msg_id = data.get("msg_id")
        if "resend" in self.variants and msg_id:
            async def again():
                for _ in range(4):
                    await asyncio.sleep(1.0)
                    self.send(verb, data, to, socket)

            self.unacked[msg_id] = self.task(again())

    def hello(self, to, socket=None):
        march = {"node_id": self.id, "version": "node.py; 1"}
        if self.fault == "new-id":
            march["node_id"] = str(uuid.uuid4())
        if self.fault == "zero-version":
            march["version"] = 0
        if self.edition == MARCH:
            self.send("HELLO", march, to, socket)
        elif self.fault == "hello-text":
            self.send("HELLO", "None", to, socket)
        elif "hello-object" in self.variants:
            self.send("HELLO", march, to, socket)
        elif "hello-without-data" in self.variants:
            self.send("HELLO", None, to, socket)
        else:
            self.send("HELLO", None, to, socket, raw_data=True)

    def pause(self):
        if self.fault == "hello-slow":
            return 2.9
        if self.fault == "hello-fast":
            return 0.2
        if "every-two-seconds" in self.variants:
            return 2.0
        if "every-half-second" in self.variants:
            return 0.5
        return random.uniform(0.6, 1.9)

    async def greet(self, peer):
        if not peer.configured and "answer-at-once" not in self.variants:
            await asyncio.sleep(min(self.pause(), 1.9))
        rounds = 0
        while True:
            silent = self.now() - (peer.heard or peer.since)
            patience = {"forget-soon": 2.0, "forget-never": 1e9}.get(self.fault, DEAD * 2)
            if "long-patience" in self.variants:
                patience = 120.0
            if silent > patience and not peer.configured:
                if self.fault != "stale-listed":
                    self.peers = {key: one for key, one in self.peers.items() if one is not peer}
                return
            self.hello(peer.address)
            rounds += 1
            if self.fault == "greet-once-a-while" and rounds % 8 == 0:
                await asyncio.sleep(5)
            await asyncio.sleep(self.pause())

    async def knock(self, socket, to):
        """Greets through a socket opened for CONNECT until nobody has been heard there for long."""
        socket.heard = self.now()
        while self.now() - socket.heard < DEAD:
            self.hello(to, socket)
            await asyncio.sleep(self.pause())
        socket.transport.close()

    # --- Who is there

    def learn(self, address, node_id=None, configured=False):
        key = node_id or address
        peer = self.peers.get(key)
        if peer is None and node_id and address in self.peers:
            # It was known by its address only.
            peer = self.peers.pop(address)
            self.peers[key] = peer
        if peer is None:
            peer = Peer(address, configured)
            self.peers[key] = peer
            peer.since = self.now()
            if self.fault != "no-greeting-back" or configured:
                peer.greeting = self.task(self.greet(peer))
        peer.node_id = node_id or peer.node_id
        return peer

    def alive(self):
        limit = {"stale-listed": 1e9}.get(self.fault, 90.0 if "old-tables" in self.variants else DEAD)
        return [peer for peer in self.peers.values() if peer.heard is not None and self.now() - peer.heard < limit]

    def find(self, whom):
        """The address of somebody named by id, address or IP."""
        if address := address_of(whom):
            return address
        if ip := ip_of(whom):
            known = [peer for peer in self.alive() if peer.address[0] == ip]
            return max(known, key=lambda peer: peer.heard).address if known else None
        for peer in self.peers.values():
            if peer.node_id and peer.node_id.lower() == whom.lower():
                return peer.address
        return self.listed.get(whom.lower())

    # --- Receiving

    def read(self, data):
        if self.fault == "die-on-bad-utf8":
            try:
                data.decode()
            except UnicodeDecodeError:
                os._exit(3)
        try:
            text = data.decode()
            if self.fault == "die-on-deep" and depth(text) > 1000:
                os._exit(3)
            if depth(text) > DEEPEST:
                raise Malformed("too deep")
            message = json.loads(text, parse_constant=refuse)
        except ValueError as error:
            raise Malformed(error) from error
        if not isinstance(message, dict):
            raise Malformed("no object")
        if self.fault == "drop-extra-members" and set(message) - {"msg_type", "msg_data"}:
            raise Malformed("more members")
        message = lowered(message)
        verb = message.get("msg_type")
        if self.fault == "die-on-no-verb" and verb is None:
            os._exit(3)
        if not isinstance(verb, str) or verb.upper() not in VERBS:
            raise Malformed("no verb")
        content = lowered(message.get("msg_data"))
        verb = verb.upper()
        if verb != "HELLO" and content is not None and not isinstance(content, dict):
            raise Malformed("msg_data")
        return verb, content

    def received(self, socket, data, source):
        if socket.transport.is_closing():
            return
        if socket is not self.ordinary:
            socket.heard = self.now()
        try:
            verb, data = self.read(data)
        except Malformed:
            return
        handler = getattr(self, f"on_{verb.lower()}", None)
        if verb == "HELLO":
            self.on_hello(data if isinstance(data, dict) else {}, source, socket)
            return
        if verb in ("RELAY",) or not data and verb != "GETCERTIFICATE":
            if self.edition == MARCH or verb not in ACKED - {"MESSAGE"}:
                return
        data = data or {}
        if not self.sound(verb, data):
            return
        if verb in ACKED:
            self.acknowledge(verb, data, source, socket)
        elif verb == "ACK" and self.fault == "ack-ack" or verb == "JOIN" and self.fault == "ack-join":
            self.send("ACK", {"msg_id": data.get("msg_id")}, source, socket)
        msg_id = guid(data.get("msg_id"))
        if verb in ACKED and msg_id:
            if (verb, msg_id) in self.done:
                return
            self.done.add((verb, msg_id))
        if handler:
            handler(data, source, socket)

    def sound(self, verb, data):
        """Whether a message has what it must have. The seed shows content for two verbs only, and nothing is asked of the
        others there."""
        ids = {"ACK": [], "ROUTING": [], "CONNECT": [], "MESSAGE": ["channel_id"]}
        if self.edition == MARCH or "strict-content" in self.variants:
            ids.update({
                "JOIN": ["channel_id", "node_id", "msg_id"], "LEAVE": ["channel_id", "node_id", "msg_id"],
                "CHANNEL": ["channel_id", "node_id", "msg_id"], "GETCERTIFICATE": ["msg_id", "node_id"],
                "CERTIFICATE": ["msg_id", "node_id", "recipient_id"],
                "GETKEY": ["msg_id", "node_id", "channel_id"],
                "KEY": ["msg_id", "node_id", "recipient_id", "channel_id"],
                "MESSAGE": ["msg_id", "node_id", "channel_id"],
            })
        if self.edition == SEED and "strict-content" in self.variants:
            ids["MESSAGE"] = ["channel_id"]
        if any(guid(data.get(name)) is None for name in ids.get(verb, [])):
            return False
        if verb == "MESSAGE" and not isinstance(data.get("message"), str):
            return False
        known = {"msg_id", "node_id", "recipient", "timestamp", "channel", "channel_id", "message", "attachment"}
        if verb == "MESSAGE" and self.fault == "drop-unknown-fields" and set(data) - known:
            return False
        if verb == "MESSAGE" and self.edition == MARCH:
            recipients = data.get("recipient")
            if not isinstance(recipients, list):
                return False
            attachment = data.get("attachment")
            return attachment is None or isinstance(attachment, list)
        if self.edition == MARCH or "strict-content" in self.variants:
            if verb == "CERTIFICATE":
                return is_base64(data.get("certificate"))
            if verb == "KEY":
                return is_base64(data.get("key")) and isinstance(data.get("cipher"), str)
            if verb == "CHANNEL":
                return isinstance(data.get("members"), list)
        return True

    def acknowledge(self, verb, data, source, socket):
        if self.fault in ("no-ack-key", "no-ack-getkey") and verb == self.fault.removeprefix("no-ack-").upper():
            return
        msg_id = data.get("msg_id")
        if self.fault == "once-only-ack" and (verb, guid(msg_id)) in self.done:
            return
        if self.fault == "ack-wrong-id":
            msg_id = str(uuid.uuid4())
        if self.fault == "ack-to-known" and (peer := self.peers.get(guid(data.get("node_id")))):
            source = peer.address
        if self.fault == "ack-from-elsewhere":
            async def elsewhere():
                other = await self.open()
                self.send("ACK", {"msg_id": msg_id}, source, other)

            self.task(elsewhere())
        elif isinstance(msg_id, str):
            self.send("ACK", {"msg_id": msg_id}, source, socket)
        else:
            self.send("ACK", None, source, socket, raw_data=True)

    def on_hello(self, data, source, socket):
        node_id = data.get("node_id") if guid(data.get("node_id")) else None
        if self.edition == MARCH and node_id is None:
            return
        if node_id and node_id.lower() == self.id:
            return
        if self.fault == "ack-hello":
            self.send("ACK", None, source, socket, raw_data=True)
        if socket is not self.ordinary:
            return  # it is greeted through that socket already
        new = (node_id or source) not in self.peers
        peer = self.learn(source, node_id)
        peer.heard = self.now()
        if self.fault != "stay-at-old-address":
            peer.address = source
        if new and "ask-certificates" in self.variants:
            data = {"msg_id": str(uuid.uuid4())}
            self.say("GETCERTIFICATE", {**data, "node_id": self.id} if self.edition == MARCH else data, source)

    def on_ack(self, data, source, socket):
        task = self.unacked.pop(guid(data.get("msg_id")), None)
        if task:
            task.cancel()

    # --- ROUTING

    async def tell_routes(self):
        if "no-routing" in self.variants:
            return
        while True:
            await asyncio.sleep(ROUTING_EVERY)
            alive = self.alive()
            for peer in alive:
                self.send("ROUTING", self.routes(alive, peer), peer.address)

    def routes(self, alive, to):
        others = [peer for peer in alive if peer is not to]
        random.shuffle(others)
        nodes, size = [], 120
        for peer in others:
            entry = {"address": written(peer.address)}
            if self.fault == "wrong-addresses":
                entry["address"] = f"{peer.address[0]}:{self.ordinary.port}"
            if peer.node_id:
                entry["node_id"] = peer.node_id
            elif self.edition == MARCH:
                continue
            size += len(json.dumps(entry)) + 20
            if size > LONGEST_SENT and self.fault != "routing-big":
                break
            nodes.append(entry)
        if self.fault == "routing-users":
            return {"users": nodes}
        return {"nodes": nodes, "node_id": self.id} if self.edition == MARCH else {"nodes": nodes}

    def on_routing(self, data, source, socket):
        nodes = data.get("nodes")
        if not isinstance(nodes, list):
            if self.fault == "die-on-bad-list":
                os._exit(3)
            return
        for entry in nodes:
            entry = lowered(entry)
            if not isinstance(entry, dict) or not (address := address_of(entry.get("address"))):
                continue
            node_id = guid(entry.get("node_id"))
            if node_id == self.id:
                continue
            if node_id:
                self.listed[node_id] = address
            own = (written(address) == f"127.0.0.1:{self.ordinary.port}")
            known = any(peer.address == address for peer in self.peers.values())
            if "greet-listed" in self.variants and not own and not known:
                self.learn(address, node_id)

    # --- Channels

    def about(self, channel_id, **more):
        channel = self.channels.get(channel_id, {})
        if self.edition == SEED:
            return {"channel_id": channel_id}
        return {"channel": channel.get("name", "?"), "channel_id": channel_id, "msg_id": str(uuid.uuid4()),
                "node_id": self.id, **more}

    def members(self, channel_id):
        """The addresses of the other members."""
        found = [self.find(member) for member in self.channels[channel_id]["members"] if member != self.id]
        return [address for address in dict.fromkeys(found) if address]

    def tell_channel(self, channel_id, to):
        channel = self.channels[channel_id]
        if self.edition == SEED:
            self.send("CHANNEL", {"channel_id": channel_id}, to)
            return
        members = [{"node_id": member} for member in channel["members"] if guid(member)]
        self.send("CHANNEL", self.about(channel_id, members=members, closed=channel["closed"]), to)

    async def tell_channels(self):
        while True:
            await asyncio.sleep(3)
            for channel_id, channel in self.channels.items():
                if channel["mine"] and self.edition == MARCH:
                    for to in self.members(channel_id):
                        self.tell_channel(channel_id, to)

    def member(self, data, source):
        """How a member is remembered: greetings of the seed tell no id."""
        return guid(data.get("node_id")) if self.edition == MARCH else written(source)

    def on_join(self, data, source, socket):
        channel = self.channels.get(guid(data.get("channel_id")))
        who = self.member(data, source)
        if channel and who not in channel["members"]:
            channel["members"].append(who)

    def on_leave(self, data, source, socket):
        channel = self.channels.get(guid(data.get("channel_id")))
        who = self.member(data, source)
        if channel and who in channel["members"]:
            channel["members"].remove(who)

    def on_channel(self, data, source, socket):
        channel_id, members = guid(data.get("channel_id")), data.get("members")
        if self.edition == SEED or not isinstance(members, list):
            return
        listed = [guid(lowered(one).get("node_id")) for one in members if isinstance(one, dict)]
        channel = self.channels.get(channel_id)
        if channel is None and self.id in listed and self.fault != "no-leave":
            self.channels[channel_id] = {"name": data.get("channel")}
            self.send("LEAVE", self.about(channel_id), source)
            del self.channels[channel_id]
        elif channel is not None:
            channel["members"] += [one for one in listed if one and one not in channel["members"]]
            if self.id not in listed and self.fault != "no-rejoin":
                self.send("JOIN", self.about(channel_id), source)

    # --- Certificates and keys

    def secrets(self):
        """Certificate and key."""
        with self.lock:
            if self.kept_secrets is None:
                import secrets_of_node
                self.kept_secrets = secrets_of_node.Secrets(self.id)
            return self.kept_secrets

    def on_getcertificate(self, data, source, socket):
        if self.edition == MARCH and self.fault != "no-certificate":
            answer = {"certificate": self.secrets().certificate, "recipient_id": data["node_id"], "node_id": self.id,
                      "msg_id": data["msg_id"]}
            self.say("CERTIFICATE", answer, source, socket)

    def on_certificate(self, data, source, socket):
        peer = self.peers.get(guid(data.get("node_id")))
        if peer and is_base64(data.get("certificate")):
            peer.certificate = data["certificate"]

    def on_getkey(self, data, source, socket):
        channel = self.channels.get(guid(data.get("channel_id")))
        peer = self.peers.get(guid(data.get("node_id")))
        if self.edition == SEED or not channel or not channel.get("key") or not peer or not peer.certificate:
            return
        if peer.node_id.lower() not in channel["members"]:
            return
        cipher, sealed = self.secrets().seal(base64.b64decode(peer.certificate), channel["key"])
        if cipher:
            data = self.about(guid(data["channel_id"]), recipient_id=data["node_id"], cipher=cipher,
                              key=base64.b64encode(sealed).decode())
            self.say("KEY", data, source, socket)

    # --- MESSAGE

    def on_message(self, data, source, socket):
        forwards = self.fault == "forward-messages" or "relay-messages" in self.variants and self.server
        if forwards:
            for peer in self.alive():
                if peer.address != source:
                    self.send("MESSAGE", data, peer.address)

    # --- CONNECT

    def on_connect(self, data, source, socket):
        dst, src = data.get("dst"), data.get("src")
        if ip_of(dst) and port_of(src):
            self.first_step(ip_of(dst), port_of(src), source)
        elif address_of(dst) and port_of(src):
            self.third_step(address_of(dst), port_of(src), source)
        elif address_of(dst) and ip_of(src):
            self.second_step(address_of(dst), source)
        elif address_of(dst) and address_of(src):
            self.fourth_step(address_of(dst), address_of(src), source)

    def first_step(self, ip, port, source):
        """S: A wants to talk to the node at `ip`."""
        known = [peer for peer in self.alive() if peer.address[0] == ip]
        if not self.server:
            return
        if self.fault == "reflect" and not known:
            self.send("CONNECT", {"dst": f"{source[0]}:{port}", "src": ip}, source)
        if not known:
            return
        target = max(known, key=lambda peer: peer.heard)
        asker = (source[0], source[1] if self.fault == "s-believes-source" else port)
        self.pending[asker] = (source, self.now())
        src = written(target.address) if self.fault == "s-tells-port" else ip
        second = {"src": src, "dst": written(asker)}
        if self.fault == "s-no-swap":
            second = {"src": written(asker), "dst": ip}
        self.send("CONNECT", second, target.address)

    def third_step(self, asker, port, source):
        """S: B answers for `asker`, who may have asked."""
        if not self.server:
            return
        asked_from, when = self.pending.get(asker, (None, 0))
        if asked_from is None or self.now() - when > PENDING:
            known = [peer for peer in self.alive() if peer.address[0] == asker[0]]
            if not known:
                return
            asked_from = max(known, key=lambda peer: peer.heard).address
        if "fourth-to-new-port" in self.variants:
            asked_from = asker
        fourth = {"src": written(asker), "dst": f"{source[0]}:{port}"}
        if self.fault == "s-no-swap-back":
            fourth = {"src": fourth["dst"], "dst": fourth["src"]}
        self.send("CONNECT", fourth, asked_from)

    def second_step(self, asker, source):
        """B: somebody at `asker` wants to talk to us, says S."""
        if self.server or self.fault == "b-silent" or source not in [peer.address for peer in self.peers.values()]:
            return
        self.task(self.answer(asker, source))

    async def answer(self, asker, source):
        new = asker not in self.answering
        if new or self.fault == "b-changes-port":
            # Taken at once, so that a repetition in the meantime finds it.
            self.answering[asker] = self.loop.create_future()
            socket = await self.open()
            self.answering[asker].set_result(socket)
        socket = await self.answering[asker]
        dst = written((asker[0], asker[1] + 1)) if self.fault == "b-changes-dst" else written(asker)
        src = f"127.0.0.1:{socket.port}" if self.fault == "b-tells-address" else str(socket.port)
        if new and "bare-port-first" not in self.variants:
            # It may knock before it answers.
            self.task(self.knock(socket, asker))
            await asyncio.sleep(0.05)
        self.send("CONNECT", {"src": src, "dst": dst}, source)
        if new and "bare-port-first" in self.variants:
            self.task(self.knock(socket, asker))

    def fourth_step(self, target, own, source):
        """A: S tells where B is."""
        asked = self.asking.get(own[1])
        if asked is None or asked["done"] or self.fault == "a-does-not-come":
            return
        asked["done"] = True
        socket = asked["socket"]
        if self.fault == "a-comes-from-elsewhere":
            socket = self.ordinary

        self.task(self.knock(socket, target))

    async def ask(self, ip, through):
        socket = await self.open()
        socket.heard = self.now()
        asked = {"socket": socket, "done": False}
        self.asking[socket.port] = asked
        src = socket.port if self.fault == "asks-with-number" else str(socket.port)
        for _ in range(4):
            # Asked from the new port, which opens the way for the answer too.
            asking = self.ordinary if "ask-from-ordinary" in self.variants else socket
            self.send("CONNECT", {"src": src, "dst": ip}, through, asking)
            await asyncio.sleep(1.8)
            if asked["done"]:
                return
        socket.transport.close()
        del self.asking[socket.port]

    # --- What the user wants

    def stimulus(self, line):
        try:
            wish = json.loads(line)
            do, given = wish["does"], wish.get("with") or {}
            getattr(self, f"do_{do}")(given)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            print(f"cannot do {line!r}: {error}", file=sys.stderr, flush=True)

    def do_connect(self, given):
        through = given.get("through")
        address = self.find(through) if through else next(iter(self.peers.values())).address
        self.task(self.ask(given["to"], address))

    def do_create(self, given):
        channel_id = given.get("channel_id") or str(uuid.uuid4())
        closed = bool(given.get("closed"))
        self.channels[channel_id] = {"name": given["channel"], "members": [self.id], "mine": True, "closed": closed,
                                     "key": os.urandom(32) if closed else None}
        for peer in self.alive():
            self.tell_channel(channel_id, peer.address)

    def do_join(self, given):
        channel_id = given["channel_id"]
        target = self.find(given["target"]) if given.get("target") else None
        self.channels.setdefault(channel_id, {"name": given["channel"], "members": [self.id], "mine": False,
                                              "closed": False, "key": None})
        for to in [target] if target else [peer.address for peer in self.alive()]:
            self.send("JOIN", self.about(channel_id), to)

    def do_leave(self, given):
        channel_id = given["channel_id"]
        for to in self.members(channel_id):
            self.send("LEAVE", self.about(channel_id), to)
        del self.channels[channel_id]

    def do_message(self, given):
        channel_id = given["channel_id"]
        wanted = given.get("to") or []
        wanted = [wanted] if isinstance(wanted, str) else wanted
        to = [self.find(one) for one in wanted]
        if not to and channel_id not in self.channels:
            return  # it is no member and knows nobody to tell
        to = [one for one in to if one] or self.members(channel_id)
        ids = [peer.node_id for peer in self.peers.values() if peer.address in to and peer.node_id]
        if self.edition == SEED:
            data = {"message": given["text"], "channel_id": channel_id}
        else:
            now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
            data = {"message": base64.b64encode(given["text"].encode()).decode(), "recipient":
                    [{"node_id": one} for one in ids], "timestamp": now, **self.about(channel_id)}
            data["channel"] = given.get("channel") or data["channel"]
        for one in to:
            self.say("MESSAGE", data, one)

    def do_certificate(self, given):
        to = self.find(given["of"])
        data = {"msg_id": str(uuid.uuid4())}
        if to:
            self.say("GETCERTIFICATE", {**data, "node_id": self.id} if self.edition == MARCH else data, to)

    def do_key(self, given):
        to = self.find(given["of"])
        self.channels.setdefault(given["channel_id"], {"name": given["channel"], "members": [self.id], "mine": False,
                                                       "closed": True, "key": None})
        if to:
            data = self.about(given["channel_id"])
            data.setdefault("msg_id", str(uuid.uuid4()))
            self.say("GETKEY", data, to)

    def do_stop(self, given):
        for channel_id in list(self.channels):
            self.do_leave({"channel_id": channel_id})
        self.loop.call_later(0.1, os._exit, 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("peers", nargs="?", help="ip:port,ip:port")
    parser.add_argument("--edition", choices=[SEED, MARCH], default=SEED)
    parser.add_argument("--role", choices=["node", "server"], default="node")
    parser.add_argument("--variant", choices=VARIANTS, action="append", default=[])
    parser.add_argument("--fault", choices=FAULTS)
    asyncio.run(Node(parser.parse_args()).run())


if __name__ == "__main__":
    main()
