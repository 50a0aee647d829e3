#!/usr/bin/env python3
"""An independent hangout v1 server: python3 server.py PORT [--fault NAME] [--variant NAME]... [--host ADDRESS]

It keeps every MUST and SHOULD of the specification, but wherever the text leaves a choice it
takes another lawful way than the reference. A variant takes yet another one. The README lists
those choices, the variants and the faults.
"""
import argparse
import asyncio
import json
import logging
import math
import os
import secrets
import signal
import unicodedata

from websockets.asyncio.server import broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode
from websockets.protocol import State

FAULTS = """array-becomes-properties array-wildcard-ignored binary-frames changes-name-nobody changes-name-one-writer
    changes-repeat-closed changes-skip-newcomer compose-values deaf-after-malformed duplicates-delivered exit-on-deep
    exit-on-malformed exit-on-wrong-shape first-address-only gone-in-indexes idle-sync index-always-first
    keep-forged-server keep-forged-token limit-20 loose-server-address metadata-before-changes metadata-is-difference
    no-echo no-pong null-becomes-object ping-every-30s relay-late relay-own-types relay-to-everybody replace-properties
    server-answers string-token-ignored stringify-numbers strip-variation-selector sync-every-write
    sync-late-after-write trim-values unknown-closes-sender version-changes write-by-relay write-to-everybody""".split()
VARIANTS = """announce-everything check-per-connection entries-left-out global-ping greet late-check nested-values no-echo
    no-limit no-version refuse-malformed relay-own-types short-tokens""".split()
FAULT = None  # the one requirement this run breaks, or None
VARIANT = set()  # the other lawful ways that this run takes

TICK = 0.5             # changes are collected for this long, from the first one on
MAX_MESSAGE = 4 << 20  # more than the reference takes: a text of 2 MiB is relayed here
MAX_BACKLOG = 8 << 20  # unsent bytes for one reader before whoever sends to it has to wait
PATIENCE = 1           # seconds a sender waits for a slow reader before that one is cut off

clients = {}           # token -> Client, in order of arrival
pending = {"properties": set(), "closed": set(), "opened": set()}  # the change set
changed = None         # asyncio.Event: the change set is not empty
started = 0            # when the server began, on the clock of the event loop
syncs, repeated = 0, set()  # only for faults: number of syncs, tokens named by the last one as closed


class Client:
    def __init__(self, ws):
        token = secrets.token_urlsafe(9) if "short-tokens" in VARIANT else secrets.token_hex(16)
        self.ws, self.token, self.properties, self.deaf = ws, token, {}, False
        self.pending = {"properties": set(), "closed": set(), "opened": set()}  # for check-per-connection

    def is_open(self):
        return self.ws.state is State.OPEN

    def backlog(self):
        return self.ws.transport.get_write_buffer_size()


# --- JSON. Python reads and writes more than JSON has (NaN, Infinity); both ways are barred.

def refuse(word):
    raise ValueError(f"{word} is not JSON")


def finite(digits):
    # 1e400 would become an infinity, which cannot be written out again.
    return float(digits) if math.isfinite(float(digits)) else refuse(digits)


def read(message):
    """The JSON value of a message (binary ones are read too); ValueError or RecursionError if there is none."""
    # Of duplicate keys the first one counts here, and key order is turned round on the way: both lawful.
    return json.loads(message if isinstance(message, str) else message.decode(), parse_constant=refuse,
                      parse_float=finite, object_pairs_hook=lambda pairs: dict(reversed(pairs)))


def emit(recipients, packet):
    # ASCII escapes carry a lone surrogate through unharmed. The line break at the end is lawful.
    # broadcast() never waits, keeps the order and leaves out connections that are closing.
    text = json.dumps(packet, allow_nan=False) + "\n"
    broadcast([client.ws for client in recipients], text, text=FAULT != "binary-frames")


# --- The table and its sync

def change_sets():
    return [client.pending for client in clients.values()] if "check-per-connection" in VARIANT else [pending]


def note(client, kind):
    if kind == "closed" or client.token in clients:
        for one in change_sets():
            one[kind].add(client.token)
        changed.set()


def leave(client):
    if clients.pop(client.token, None) is None:
        return
    # A peer that does not end the TCP connection after the Close frames is cut off.
    asyncio.get_running_loop().call_later(2, client.ws.transport.abort)
    for one in change_sets():
        one["properties"].discard(client.token)
        if client.token in one["opened"]:
            one["opened"].discard(client.token)  # came and went between two checks: nobody hears of it
        else:
            one["closed"].add(client.token)
            changed.set()


def table():
    return {"version": "peers\n", "indexes": [client.token for client in reversed(clients.values())],
            "properties": {client.token: client.properties for client in clients.values()
                           if client.properties or "entries-left-out" not in VARIANT}}


def sync(change_set=pending, only=None):
    global syncs, repeated
    lists = {kind: sorted(tokens) for kind, tokens in change_set.items()}
    for tokens in change_set.values():
        tokens.clear()
    if not any(lists.values()) and FAULT != "idle-sync":
        return
    syncs += 1
    told = [only] if only else list(clients.values())
    metadata = table()
    if "no-version" in VARIANT:
        del metadata["version"]
    if FAULT == "version-changes":
        metadata["version"] = f"peers {syncs}\n"
    if FAULT == "metadata-is-difference":
        named = set().union(*lists.values())
        metadata["properties"] = {t: p if t in named else {} for t, p in metadata["properties"].items()}
    if FAULT == "gone-in-indexes":
        metadata["indexes"] += lists["closed"]
    if FAULT in ("changes-name-nobody", "changes-name-one-writer"):
        del lists["properties"][FAULT == "changes-name-one-writer":]
    if FAULT == "changes-repeat-closed":
        lists["closed"], repeated = sorted(repeated.union(lists["closed"])), set(lists["closed"])
    for client in told:
        metadata["index"] = told[0].token if FAULT == "index-always-first" else client.token
        packets = [{"type": "changes", "changes": lists, "from": "server"},
                   {"type": "metadata", "metadata": metadata, "from": "server"}]
        if FAULT == "metadata-before-changes":
            packets.reverse()
        if FAULT == "changes-skip-newcomer" and client.token in lists["opened"]:
            del packets[0]
        for packet in packets:
            emit([client], packet)
        if client.backlog() > 4 * MAX_BACKLOG:
            client.ws.transport.abort()  # it reads nothing, and syncs alone have piled up


async def sync_forever():
    while True:
        try:
            await asyncio.wait_for(changed.wait(), 2 if FAULT == "idle-sync" else None)
            await asyncio.sleep(0.95 if "late-check" in VARIANT else TICK)
        except asyncio.TimeoutError:
            pass
        changed.clear()
        sync()


async def check_forever(client):
    """The check of one connection, on a phase of its own."""
    while True:
        await asyncio.sleep(TICK)
        if client.is_open():
            sync(client.pending, client)


async def sweep_forever():
    # A Close frame ends a connection for the others even if its TCP connection lingers on.
    while True:
        await asyncio.sleep(0.1)
        for client in [c for c in clients.values() if not c.is_open()]:
            leave(client)


# --- What clients send

def write(client, new):
    """Merge a properties object into a client's entry. A write without effect is not announced."""
    if isinstance(new, list) and FAULT == "array-becomes-properties":
        new = {str(i): value for i, value in enumerate(new)}
    if not isinstance(new, dict):
        return
    spoil = {"trim-values": str.strip, "strip-variation-selector": lambda s: s.replace("\ufe0f", ""),
             "compose-values": lambda s: unicodedata.normalize("NFC", s)}.get(FAULT, str)
    old, now = client.properties, {} if FAULT == "replace-properties" else dict(client.properties)
    for name, value in new.items():
        if value is None:
            now.pop(name, None)
        elif isinstance(value, str):
            now[name] = spoil(value)
        elif not isinstance(value, (dict, list)):
            now[name] = json.dumps(value) if FAULT == "stringify-numbers" else value
        elif "nested-values" in VARIANT:
            now[name] = value
    full = len(now) > (20 if FAULT == "limit-20" else math.inf if "no-limit" in VARIANT else 25)
    client.properties = {} if full else now
    # Compared as text, because True == 1 == 1.0 in Python though they differ in JSON.
    if full or "announce-everything" in VARIANT or json.dumps(old, sort_keys=True) != json.dumps(now, sort_keys=True):
        if FAULT == "sync-late-after-write":
            asyncio.get_running_loop().call_later(2, note, client, "properties")
        else:
            note(client, "properties")
        if FAULT == "sync-every-write":
            sync()


def addressees(sender, to):
    """The live connections that the addresses name, each of them once."""
    found = []
    for address in to:
        found += clients.values() if address == "*" else [clients[address]] if address in clients else []
    if found and FAULT == "relay-to-everybody":
        found = list(clients.values())
    if FAULT == "no-echo" or "no-echo" in VARIANT:
        found = [client for client in found if client is not sender]
    return found if FAULT == "duplicates-delivered" else list(dict.fromkeys(found))


async def handle(sender, message):
    """Act on one message. Returns a close code if the sender is to be cut off."""
    try:
        envelope = read(message)
    except (ValueError, RecursionError) as error:  # not JSON, or nested deeper than Python goes: ignored
        deep = isinstance(error, RecursionError)
        if FAULT == ("exit-on-deep" if deep else "exit-on-malformed"):
            os._exit(70)
        sender.deaf = FAULT == "deaf-after-malformed" and not deep
        return 1007 if "refuse-malformed" in VARIANT else None
    if not isinstance(envelope, dict):
        return os._exit(70) if FAULT == "exit-on-wrong-shape" else None
    to, packet = envelope.get("to"), envelope.get("packet")
    if to is not None and not isinstance(to, (str, list)):
        return 1008
    bare = isinstance(to, str)
    to = [to] if bare else to or []
    kind = packet.get("type") if isinstance(packet, dict) else packet
    if kind is None or kind == "" and isinstance(packet, dict):
        kind, packet = "ping", {"ping": {}}  # packet or type missing: what the original made of it
    if not all(isinstance(text, str) for text in [*to, kind]) or not isinstance(packet, dict):
        return None

    if "server" in to or FAULT == "loose-server-address" and bare and "server" in to[0] or FAULT == "write-by-relay":
        if kind == "properties":
            for client in list(clients.values()) if FAULT == "write-to-everybody" else [sender]:
                write(client, packet.get("properties"))
        elif FAULT == "server-answers":
            emit([sender], {"type": kind, kind: packet.get(kind), "from": sender.token})

    if kind in ("metadata", "changes") and FAULT != "relay-own-types" and "relay-own-types" not in VARIANT:
        return None
    if FAULT == "string-token-ignored" and bare and to != ["*"]:
        return None
    if FAULT == "array-wildcard-ignored" and not bare:
        to = [address for address in to if address != "*"]
    if FAULT == "first-address-only":
        del to[1:]
    if FAULT == "unknown-closes-sender" and any(a not in clients and a not in ("*", "server") for a in to):
        return 1008
    # Built anew: other members of the packet stay behind. No payload key in, none out.
    flat = {kind: packet[kind]} if kind in packet else {}
    if FAULT == "null-becomes-object" and kind in packet and packet[kind] is None:
        flat[kind] = {}
    flat.update({"type": kind, "from": sender.token})
    forged = packet.get("from")
    if isinstance(forged, str) and FAULT == ("keep-forged-server" if forged == "server" else "keep-forged-token"):
        flat["from"] = forged
    await relay(addressees(sender, to), flat)


async def relay(recipients, flat):
    loop = asyncio.get_running_loop()
    try:
        loop.call_later(1.5, emit, recipients, flat) if FAULT == "relay-late" else emit(recipients, flat)
    except RecursionError:
        return  # it could be read but not written: dropped
    deadline = loop.time() + PATIENCE
    for client in recipients:
        while client.is_open() and client.backlog() > MAX_BACKLOG:
            if loop.time() > deadline:
                client.ws.transport.abort()
            await asyncio.sleep(0.01)


# --- Connections

async def ping_forever(client):
    """One timer per connection. After three pings without any answer the fourth is a close."""
    loop, answers = asyncio.get_running_loop(), []
    due = loop.time()
    if "global-ping" in VARIANT:
        due = started + (due - started) // 20 * 20
    while True:
        due += 30 if FAULT == "ping-every-30s" else 20
        await asyncio.sleep(due - loop.time())
        if len(answers) == 3 and not any(answer.done() for answer in answers):
            return await client.ws.close(1008, "no pong")
        answers = answers[-2:] + [await client.ws.ping()]


async def serve_client(ws):
    client = Client(ws)
    if FAULT == "no-pong":
        send_frame = ws.protocol.send_frame
        ws.protocol.send_frame = lambda frame: None if frame.opcode is Opcode.PONG else send_frame(frame)
    clients[client.token] = client
    note(client, "opened")  # no greeting: the first sync tells the newcomer its token
    if "greet" in VARIANT:
        emit([client], {"type": "metadata", "metadata": table() | {"index": client.token}, "from": "server"})
    tasks = [asyncio.create_task(ping_forever(client))]
    if "check-per-connection" in VARIANT:
        tasks.append(asyncio.create_task(check_forever(client)))
    try:
        async for message in ws:
            code = None if client.deaf else await handle(client, message)
            if code:
                leave(client)
                await ws.close(code)
                break  # what came in behind is not looked at any more
    except ConnectionClosed:
        pass
    finally:
        for task in tasks:
            task.cancel()
        leave(client)


async def main(arguments):
    global changed, started
    started = asyncio.get_running_loop().time()
    changed, stop = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = await serve(serve_client, arguments.host, arguments.port, compression=None, ping_interval=None,
                         close_timeout=1, max_size=MAX_MESSAGE)
    print(f"listening on port {server.sockets[0].getsockname()[1]}", flush=True)
    tasks = [asyncio.create_task(work) for work in (sync_forever(), sweep_forever(), stop.wait())]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    server.close()  # Close 1001 to everybody
    await asyncio.wait([asyncio.ensure_future(server.wait_closed())], timeout=3)
    for task in done:
        task.result()  # a bug in a task ends the server with a traceback instead of being hidden


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--fault", choices=FAULTS)
    parser.add_argument("--variant", choices=VARIANTS, action="append", default=[])
    parser.add_argument("--verbose", action="store_true", help="log to standard error")
    arguments = parser.parse_args()
    FAULT, VARIANT = arguments.fault, set(arguments.variant)
    if not arguments.verbose:
        logging.disable(logging.CRITICAL)  # nobody may be reading standard error
    asyncio.run(main(arguments))
