#!/usr/bin/env python3
"""An independent cow peer: python3 peer.py URL [--edition seed|cow2] [--variant NAME]... [--fault NAME]

Written from the protocol's description. Ids are strings of digits, items and groups are listed once the projects are
answered, syncinfo comes last and only when both lists hold something, the gone are announced as deleted. It reads
stimuli from standard input, one JSON object a line: change, delete, command, sync, close.
"""
import argparse
import asyncio
import json
import os
import signal
import sys
import threading
import time

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidURI, WebSocketException

VARIANTS = """always-syncinfo any-herd empty-lists last-wins lists-at-once merges-on-top no-commands no-deltas number-ids
    own-number pushes-dirty quiet-gone sends-the-dead wants-no-dead""".split()
FAULTS = """always-alpha answers-for-others asks-too-much equal-too flush-all forgets-newer
    lists-without-time mixes-projects no-announcement no-return old-id pongs-pongs project-missing sends-to-all
    sends-too-little skips-last sync-to-other untold-deletion wrong-counts""".split()
HERD = ("socketservers", "peers", "users", "projects")
variants, fault, edition = set(), None, "seed"


def now():
    return int(time.time() * 1000)


def digits(value):
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)) and value == int(value) and value > 0:
        return str(int(value))
    return value if isinstance(value, str) and value.isascii() and value.isdigit() and value != "0" else None


def record_id(value):
    if isinstance(value, bool):
        return None
    return str(value) if isinstance(value, (int, float)) else value if isinstance(value, str) and value else None


def when(value):
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) != float("inf")
    return value if good and value == value else 0


class Peer:
    def __init__(self, url):
        self.url, self.ws, self.id, self.old = url, None, None, None
        self.stores = {}            # (kind, project) -> {id: record}
        self.over = False
        self.orders = asyncio.Queue()

    # --- what it says

    async def say(self, action, payload, target=None):
        if self.ws is None or self.id is None:
            return
        sender = self.old if fault == "old-id" and self.old else self.id
        message = {"action": action, "sender": int(sender) if "number-ids" in variants else sender, "payload": payload}
        if target is not None:
            message["target"] = int(target) if "number-ids" in variants else target
        await self.ws.send(json.dumps(message))

    def about(self, key):
        kind, project = key
        if project is None or fault == "project-missing":
            return {"syncType": kind}
        return {"syncType": kind, "project": project}

    def store(self, key):
        if fault == "mixes-projects" and key[1] is not None:
            key = (key[0], "all")
        return self.stores.setdefault(key, {})

    def out(self, record):
        return {name: value for name, value in record.items() if name != "dirty"} | {"status": "clean"}

    async def send_list(self, key):
        entries = [{"_id": one["_id"], "timestamp": when(one.get("updated")), "deleted": one["deleted"]}
                   for one in self.store(key).values()]
        if fault == "skips-last":
            entries = entries[:-1]
        if fault == "lists-without-time":
            for entry in entries:
                del entry["timestamp"]
        await self.say("newList", {**self.about(key), "list": entries})

    async def send_project_lists(self, project):
        for kind in ("groups", "items"):
            await self.send_list((kind, project))

    async def give(self, key, ids):
        store = self.store(key)
        found = [self.out(store[one]) for one in ids if one in store]
        if edition == "cow2":
            if found or "empty-lists" in variants:
                await self.say("requestedRecords", {**self.about(key), "list": found})
            return
        for record in found:
            await self.say("updatedRecord", {**self.about(key), "record": record})

    async def join(self):
        data = {"family": "alpha", "userid": None}
        made = now()
        own = {"_id": self.id, "created": made, "updated": made, "deleted": False, "data": data}
        self.store(("peers", None))[self.id] = own
        if fault != "no-announcement":
            number = {"_id": int(self.id)} if "own-number" in variants else {}
            await self.say("updatedRecord", {"syncType": "peers", "record": self.out(own) | number})
        for kind in HERD:
            await self.send_list((kind, None))
        if "lists-at-once" in variants:
            for project in list(self.store(("projects", None))):
                await self.send_project_lists(project)

    # --- what it hears

    def alpha(self):
        family = [one for one in self.store(("peers", None)).values()
                  if not one["deleted"] and one.get("data", {}).get("family") == "alpha"]
        family.sort(key=lambda one: (when(one.get("created")), len(one["_id"]), one["_id"]))
        return family[0]["_id"] if family else None

    def key(self, payload):
        kind = payload.get("syncType")
        if kind in ("items", "groups"):
            project = record_id(payload.get("project"))
            return (kind, project) if project else None
        return (kind, None) if isinstance(kind, str) and kind in HERD else None

    async def merge(self, key, records, sync):
        for record in records:
            if not isinstance(record, dict) or record_id(record.get("_id")) is None:
                continue
            record = dict(record, _id=record_id(record["_id"]))
            record["deleted"] = record.get("deleted") in (True, "true")
            if not isinstance(record.get("data"), dict):
                record["data"] = {}
            store = self.store(key)
            known = store.get(record["_id"])
            if known is None:
                store[record["_id"]] = record
                if key[0] == "projects" and not record["deleted"] and sync:
                    await self.send_project_lists(record["_id"])
                continue
            newer = when(record.get("updated")) > when(known.get("updated"))
            if fault == "forgets-newer":
                newer = False
            if "last-wins" in variants:
                newer = True
            deltas = {}
            for one in (known, record):
                listed = one.get("deltas") if isinstance(one.get("deltas"), list) else []
                for delta in listed:
                    if isinstance(delta, dict) and when(delta.get("timestamp")):
                        deltas.setdefault(delta["timestamp"], delta)
            if newer:
                kept = dict(known, **record) if "merges-on-top" in variants else record
                store[record["_id"]] = kept
            if deltas and "no-deltas" not in variants:
                store[record["_id"]]["deltas"] = [deltas[time] for time in sorted(deltas)]
                if "pushes-dirty" in variants and len(deltas) > len(record.get("deltas") or []):
                    # Ours has more of the history than came, which the others are told unasked.
                    await self.give(key, [record["_id"]])

    async def answer(self, asker, key, payload):
        listed, dead = {}, set()
        for entry in payload["list"]:
            if isinstance(entry, dict) and record_id(entry.get("_id")):
                if entry.get("deleted") in (True, "true") and "wants-no-dead" in variants:
                    dead.add(record_id(entry["_id"]))
                listed[record_id(entry["_id"])] = max(when(entry.get("timestamp")), listed.get(entry["_id"], 0))
        store, send, want = self.store(key), [], []
        for one, record in store.items():
            mine = when(record.get("updated"))
            if one not in listed and record["deleted"] and "sends-the-dead" not in variants:
                continue
            if one not in listed or mine > listed[one] or (fault == "equal-too" and mine == listed[one]):
                send.append(one)
            elif mine < listed[one] or fault == "asks-too-much":
                want.append(one)
        want += [one for one in listed if one not in store and one not in dead]
        if fault == "sends-too-little":
            send = send[1:]
        target = None if fault == "sends-to-all" else asker
        about = {**self.about(key), **({"project": payload["project"]} if key[1] is not None and fault != "project-missing" else {})}
        if want or "empty-lists" in variants:
            await self.say("wantedList", {**about, "list": want}, target)
        if send or "empty-lists" in variants:
            records = [self.out(store[one]) for one in send]
            if edition == "cow2":
                await self.say("missingRecords", {**about, "list": records}, target)
            else:
                await self.say("missingItems", {**about, "items": records}, target)
        if (want and send) or "always-syncinfo" in variants:
            receive = [None] * len(want) if edition == "cow2" else want
            if fault == "wrong-counts":
                send = send + ["one more"]
            to = "4711" if fault == "sync-to-other" else asker
            await self.say("syncinfo", {**about, "syncinfo": {"IWillSent": send, "IShallReceive": receive}}, to)

    async def command(self, sender, target, payload):
        name = payload.get("command")
        named = self.id in (digits(payload.get("targetuser")), digits(payload.get("target")), target)
        if "no-commands" in variants or not isinstance(name, str):
            return
        if name == "ping" or (name == "pong" and fault == "pongs-pongs"):
            await self.say("command", {"command": "pong"}, sender)
        elif name == "kickPeer" and named:
            self.over = True
            await self.ws.close(1000)
        elif name == "purgePeer" and named:
            self.stores = {key: store for key, store in self.stores.items() if key[0] in ("peers", "socketservers")}
        elif name == "flushProject":
            project = record_id(payload.get("projectid"))
            for key in [key for key in self.stores if key[0] == "items"]:
                if key[1] == project or fault == "flush-all":
                    del self.stores[key]

    async def hear(self, text):
        try:
            message = json.loads(text) if isinstance(text, str) else None
        except (ValueError, RecursionError):
            return
        if not isinstance(message, dict) or not isinstance(message.get("payload"), dict):
            return
        action, payload = message.get("action"), message["payload"]
        if "sender" not in message and action == "connected":
            if self.id is None and digits(payload.get("peerID")):
                if payload.get("server_key") not in (None, "", "cow") and "any-herd" not in variants:
                    self.over = True
                    await self.ws.close(1000)
                    return
                self.id = digits(payload["peerID"])
                await self.join()
            return
        if "sender" not in message and action == "peerGone":
            gone = self.store(("peers", None)).get(digits(payload.get("gonePeerID")))
            if gone and self.id and gone["_id"] != self.id and not gone["deleted"]:
                gone.update(deleted=True, updated=max(now(), when(gone.get("updated")) + 1))
                if "quiet-gone" not in variants:
                    await self.say("updatedRecord", {"syncType": "peers", "record": self.out(gone)})
            return
        sender, target = digits(message.get("sender")), digits(message.get("target"))
        if self.id is None or sender is None or sender == self.id:
            return
        key, mine = self.key(payload), target == self.id
        if action == "command":
            if mine or message.get("target") is None:
                await self.command(sender, target, payload)
        elif key is None:
            return
        elif action == "newList" and isinstance(payload.get("list"), list):
            if self.alpha() == self.id or fault == "always-alpha":
                await self.answer(sender, key, payload)
        elif action == "wantedList" and isinstance(payload.get("list"), list):
            if mine or (fault == "answers-for-others" and target):
                ids = dict.fromkeys(one for one in map(record_id, payload["list"]) if one)
                await self.give(key, ids)
        elif action in ("missingItems", "missingRecords"):
            records = payload.get("items" if action == "missingItems" else "list")
            if mine and isinstance(records, list):
                await self.merge(key, records, True)
        elif action == "updatedRecord":
            await self.merge(key, [payload.get("record")], False)
        elif action == "requestedRecords" and isinstance(payload.get("list"), list):
            await self.merge(key, payload["list"], False)
        elif action == "syncinfo" and mine and key == ("projects", None) and "lists-at-once" not in variants:
            for project in list(self.store(key)):
                await self.send_project_lists(project)

    # --- what it is told to do

    async def obey(self, line):
        try:
            order = json.loads(line)
            given = order.get("with") or {}
            if order["does"] == "close":
                self.over = True
                await self.ws.close(1000)
            elif order["does"] == "command":
                payload = {name: value for name, value in given.items() if name != "to"}
                await self.say("command", payload, digits(given.get("to")))
            elif order["does"] == "sync":
                await self.send_list(self.key(given))
            elif order["does"] in ("change", "delete"):
                key, one = self.key(given), given["_id"]
                record = self.store(key).setdefault(one, {"_id": one, "created": now(), "updated": 0, "data": {}})
                record["updated"] = max(now(), when(record["updated"]) + 1)
                record["deleted"] = order["does"] == "delete"
                record["data"] = given.get("data", record["data"])
                if fault != "untold-deletion" or not record["deleted"]:
                    await self.say("updatedRecord", {**self.about(key), "record": self.out(record)})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            print(f"stimulus ignored: {error!r}", file=sys.stderr)

    async def work(self):
        while True:
            await self.obey(await self.orders.get())

    async def run(self):
        read_orders(self.orders)
        while not self.over:
            try:
                async with connect(self.url, subprotocols=["connect"], compression=None, proxy=None, max_size=1 << 20,
                                   open_timeout=5, close_timeout=1, ping_interval=None) as ws:
                    self.ws, self.id = ws, None
                    self.stores.pop(("peers", None), None)
                    working = asyncio.create_task(self.work())
                    try:
                        async for text in ws:
                            await self.hear(text)
                    finally:
                        working.cancel()
            except InvalidURI:
                raise
            except (OSError, WebSocketException, asyncio.TimeoutError, ConnectionClosed):
                pass
            self.old, self.ws, self.id = self.old or self.id, None, None
            if fault == "no-return":
                await asyncio.sleep(3600)
            if not self.over:
                await asyncio.sleep(2)


def read_orders(orders):
    loop = asyncio.get_running_loop()

    def work():
        rest = b""
        while chunk := os.read(0, 65536):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                loop.call_soon_threadsafe(orders.put_nowait, line)

    threading.Thread(target=work, daemon=True).start()


async def main(arguments):
    running = asyncio.create_task(Peer(arguments.url).run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        pass


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--edition", choices=("seed", "cow2"), default="seed")
    parser.add_argument("--variant", choices=VARIANTS, action="append", default=[])
    parser.add_argument("--fault", choices=FAULTS)
    arguments = parser.parse_args()
    variants, fault, edition = set(arguments.variant), arguments.fault, arguments.edition
    asyncio.run(main(arguments))
