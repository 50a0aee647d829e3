#!/usr/bin/env python3
"""An independent ptpchat server and client over TCP (edition tcp-2016-04).

    python3 stream.py --listen PORT                 a server: it relays, has no user and belongs to no channel
    python3 stream.py --connect tcp://HOST:PORT     a client; it reads stimuli from standard input, one JSON object a line:
    {"does":"message","with":{"channel":"lobby","channel_id":"...","text":"hello","to":"NODE ID"}}

The README tells the rest.
"""
import argparse
import asyncio
import base64
import datetime
import json
import os
import re
import signal
import sys
import threading
import urllib.parse
import uuid

VERBS = set("HELLO ACK NACK JOIN CHANNEL LEAVE GETCERTIFICATE CERTIFICATE GETKEY KEY MESSAGE CONNECT ROUTING".split())
ACKED = {"MESSAGE", "GETCERTIFICATE", "CERTIFICATE", "GETKEY", "KEY"}
ONE_HOP = {"HELLO", "ACK", "ROUTING"}
FLOODS = {"JOIN", "CHANNEL", "LEAVE"}
LONGEST = 99_999  # the authors' server reads no more and closes
DEEPEST = 64
ROUTING_EVERY = 3.0

VARIANTS = "answer-hello keep-alive names one-write-a-byte routing-once string-hops strict".split()
FAULTS = """ack-again-not ack-join close-on-bad-json close-on-empty deaf-after-bad-field double-flood drop-extra flood-back
    forgets-flood hello-once-late hops-of-two little-endian lowers-flood lower-ttl-not no-ack-message no-hello
    no-nack only-version-4 one-read-one-frame routing-keeps-gone sender-missing text-hops ttl-of-hello""".split()
NEEDED = {
    "JOIN": ["channel_id"], "LEAVE": ["channel_id"], "CHANNEL": ["channel_id", "members"],
    "CERTIFICATE": ["certificate"], "GETKEY": ["channel_id"], "KEY": ["channel_id", "key"],
    "MESSAGE": ["channel_id", "message"], "ACK": ["msg_id"], "NACK": ["msg_id"],
}


def guid(text):
    """The GUID of an id with or without a name before it, in lower case, or None."""
    text = text.rsplit("@", 1)[-1] if isinstance(text, str) else ""
    shape = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
    return text.lower() if re.fullmatch(shape, text) and text.strip("0-") else None


def deep(text):
    most = level = 0
    for c in re.sub(r'"(\\.|[^"\\])*"?', "", text):
        level += (c in "[{") - (c in "]}")
        most = max(most, level)
    return most > DEEPEST


def refuse(word):
    raise ValueError(f"{word} is not JSON")


class Link:
    """A connection to a neighbour."""

    def __init__(self, node, reader, writer):
        self.node, self.reader, self.writer = node, reader, writer
        self.peer = None        # its id as it writes it
        self.greeted = False

    def send(self, message):
        body = json.dumps(message, ensure_ascii=False, indent=None if message["msg_type"] == "ACK" else 1).encode()
        order = "little" if self.node.fault == "little-endian" else "big"
        data = len(body).to_bytes(4, order) + body
        if self.writer.is_closing():
            return
        if "one-write-a-byte" in self.node.variants:
            for place in range(0, len(data), 7):
                self.writer.write(data[place:place + 7])
        else:
            self.writer.write(data)

    async def run(self):
        try:
            while True:
                if self.node.fault == "one-read-one-frame":
                    data = await self.reader.read(LONGEST)
                    if not data:
                        return
                    length, body = int.from_bytes(data[:4], "big"), data[4:]
                    if length != len(body):
                        continue
                else:
                    length = int.from_bytes(await self.reader.readexactly(4), "big")
                    if length > LONGEST:
                        return
                    body = await self.reader.readexactly(length)
                if length == 0:
                    if self.node.fault == "close-on-empty":
                        return
                elif not self.take(body):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.node.gone(self)
            self.writer.close()

    def take(self, body):
        """Reads one frame; False ends the connection."""
        try:
            text = body.decode()
            if deep(text):
                return True
            message = json.loads(text, parse_constant=refuse)
        except ValueError:
            return self.node.fault != "close-on-bad-json"
        if isinstance(message, dict):
            self.node.received(self, message)
        return True


class Node:
    def __init__(self, options):
        self.options = options
        self.server = options.listen is not None
        self.variants, self.fault = set(options.variant), options.fault
        own = str(uuid.uuid4())
        self.id = f"python@{own}" if "names" in self.variants else own
        self.links = []
        self.far = {}           # learnt from ROUTING: guid -> (hops, link)
        self.floods = set()
        self.ghosts = []
        self.done = set()

    # --- Life

    async def run(self):
        self.loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(name, stop.set)
        self.tasks = [self.loop.create_task(self.tell_routes()), self.loop.create_task(self.keep_alive())]
        if self.server:
            async def accepted(reader, writer):
                link = Link(self, reader, writer)
                self.links.append(link)
                # Whoever accepts may speak first.
                if "answer-hello" not in self.variants:
                    self.greet(link)
                await link.run()

            server = await asyncio.start_server(accepted, "127.0.0.1", self.options.listen)
            async with server:
                await stop.wait()
            return
        address = urllib.parse.urlsplit(self.options.connect)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        link = Link(self, reader, writer)
        self.links.append(link)
        self.greet(link)
        self.listen()
        running = self.loop.create_task(link.run())
        await asyncio.wait([running, self.loop.create_task(stop.wait())], return_when=asyncio.FIRST_COMPLETED)

    def listen(self):
        def work():
            rest = b""
            while chunk := os.read(0, 65536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self.loop.call_soon_threadsafe(self.stimulus, line)

        threading.Thread(target=work, daemon=True).start()

    def gone(self, link):
        self.links.remove(link)
        self.far = {node: way for node, way in self.far.items() if way[1] is not link}
        if link.peer and self.fault == "routing-keeps-gone":
            self.ghosts.append(link.peer)

    async def keep_alive(self):
        while "keep-alive" in self.variants:
            await asyncio.sleep(1)
            for link in self.links:
                link.writer.write(bytes(4))

    # --- Making messages

    def make(self, verb, data, target=None, msg_id=None):
        hops = 1 if verb in ONE_HOP else 32
        if self.fault == "hops-of-two" and verb == "ACK" or self.fault == "ttl-of-hello" and verb == "HELLO":
            hops = 2
        message = {"msg_data": data, "msg_type": verb, "msg_id": msg_id or str(uuid.uuid4()), "sender_id": self.id,
                   "flood": verb in FLOODS and self.fault != "lowers-flood", "ttl": hops}
        if self.fault == "text-hops":
            message["ttl"] = str(hops)
        if self.fault == "sender-missing" and verb == "ACK":
            del message["sender_id"]
        if target:
            message["target_id"] = target
        return message

    def greet(self, link):
        if link.greeted or self.fault == "no-hello":
            return
        link.greeted = True
        kind = "server" if self.server else "client"
        hello = self.make("HELLO", {"attributes": {"node_type": kind}, "version": "stream.py 1"})
        if self.fault == "hello-once-late":
            self.loop.call_later(3, link.send, hello)
        else:
            link.send(hello)

    def routes(self):
        near = [link.peer for link in self.links if link.peer] + self.ghosts
        hops = 2 if self.fault == "hops-of-two" else 1
        nodes = [{"node_id": node, "ttl": str(hops) if "string-hops" in self.variants else hops} for node in near]
        direct = {guid(node) for node in near}
        nodes += [{"node_id": node, "ttl": far + 1} for node, (far, _) in self.far.items() if node not in direct]
        return self.make("ROUTING", {"nodes": nodes})

    async def tell_routes(self):
        while "routing-once" not in self.variants:
            await asyncio.sleep(ROUTING_EVERY)
            for link in [link for link in self.links if link.peer]:
                link.send(self.routes())

    # --- Receiving

    def sound(self, message):
        verb, data = message.get("msg_type"), message.get("msg_data")
        if not isinstance(verb, str) or verb.upper() not in VERBS:
            return None
        verb = verb.upper()
        if not isinstance(data, dict) and not (data is None and verb in ("HELLO", "GETCERTIFICATE")):
            return None
        if not isinstance(message.get("ttl"), int) or isinstance(message["ttl"], bool):
            return None
        if not isinstance(message.get("flood"), bool) or guid(message.get("sender_id")) is None:
            return None
        if guid(message.get("msg_id")) is None:
            return None
        if self.fault == "only-version-4" and guid(message["msg_id"])[14] != "4":
            return None
        if not isinstance(message.get("target_id"), str | None):
            return None
        if "strict" in self.variants and verb in ACKED and not message.get("target_id"):
            return None
        for name in NEEDED.get(verb, []):
            value = data.get(name)
            fits = guid(value) if name.endswith("_id") else isinstance(value, list if name == "members" else str)
            if not fits:
                return None
        if self.fault == "drop-extra" and len(set(message) - {"msg_type", "msg_data", "ttl", "flood", "sender_id",
                                                              "target_id", "msg_id"}):
            return None
        return verb

    def received(self, link, message):
        verb = self.sound(message)
        if verb is None:
            return
        data, own = message.get("msg_data") or {}, guid(self.id)
        if guid(message["sender_id"]) == own:
            return  # it has come round
        if verb == "HELLO":
            link.peer = message["sender_id"]
            self.greet(link)
            if "routing-once" in self.variants and self.server:
                link.send(self.routes())
            return
        if verb == "ROUTING":
            self.learn(link, data)
            return
        msg_id = message["msg_id"]
        if verb in ACKED and not (self.fault == "no-ack-message" and verb == "MESSAGE"):
            if not (self.fault == "ack-again-not" and msg_id in self.done):
                link.send(self.make("ACK", {"msg_id": msg_id}))
        if verb == "JOIN" and self.fault == "ack-join":
            link.send(self.make("ACK", {"msg_id": msg_id}))
        self.done.add(msg_id)
        target = message.get("target_id")
        if message["flood"]:
            self.flood(link, message)
        elif target and guid(target) != own:
            self.forward(link, message)
            return
        if verb == "GETCERTIFICATE" and not self.server:
            body = base64.b64encode(os.urandom(64)).decode()
            answer = {"certificate": body, "recipient_id": message["sender_id"]}
            link.send(self.make("CERTIFICATE", answer, message["sender_id"], msg_id))

    def learn(self, link, data):
        nodes = data.get("nodes")
        for entry in nodes if isinstance(nodes, list) else []:
            if not isinstance(entry, dict) or guid(entry.get("node_id")) is None:
                continue
            if not re.fullmatch(r"\d{1,3}", str(entry.get("ttl"))):
                continue
            node, hops = guid(entry["node_id"]), int(entry["ttl"]) + 1
            if node != guid(self.id) and hops < self.far.get(node, (1000, None))[0]:
                self.far[node] = (hops, link)

    # --- Passing on

    def way(self, target):
        for link in self.links:
            if link.peer and guid(link.peer) == guid(target):
                return link
        return self.far.get(guid(target), (0, None))[1]

    def forward(self, link, message):
        way = self.way(message["target_id"])
        left = message["ttl"] if self.fault == "lower-ttl-not" else message["ttl"] - 1
        if way is None or left <= 0:
            if message["msg_type"] not in ("ACK", "NACK") and self.fault != "no-nack":
                link.send(self.make("NACK", {"msg_id": message["msg_id"]}, message["sender_id"]))
            return
        way.send({**message, "ttl": left})

    def flood(self, link, message):
        if message["msg_id"] in self.floods and self.fault != "double-flood":
            return
        self.floods.add(message["msg_id"])
        if message["ttl"] <= 1 or self.fault == "forgets-flood":
            return
        for other in self.links:
            if (other is not link or self.fault == "flood-back") and other.peer:
                other.send({**message, "ttl": message["ttl"] - 1})

    # --- What the user wants

    def stimulus(self, line):
        try:
            wish = json.loads(line)
            do, given = wish["does"], wish.get("with") or {}
            if do == "message":
                wanted = given.get("to") or []
                now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
                for one in [wanted] if isinstance(wanted, str) else wanted:
                    data = {"attachment": None, "message": base64.b64encode(given["text"].encode()).decode(),
                            "channel": given["channel"], "channel_id": given["channel_id"], "timestamp": now,
                            "recipient": [{"node_id": one}]}
                    self.links[0].send(self.make("MESSAGE", data, one))
            elif do in ("join", "leave"):
                data = {"channel": given.get("channel", "?"), "channel_id": given["channel_id"]}
                self.links[0].send(self.make(do.upper(), data))
            else:
                raise KeyError(do)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            print(f"cannot do {line!r}: {error}", file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--listen", type=int, metavar="PORT")
    how.add_argument("--connect", metavar="URL")
    parser.add_argument("--variant", choices=VARIANTS, action="append", default=[])
    parser.add_argument("--fault", choices=FAULTS)
    asyncio.run(Node(parser.parse_args()).run())


if __name__ == "__main__":
    main()
