#!/usr/bin/env python3
"""An independent clusterio slave or control: python3 client.py slave|control URL [--variant NAME]... [--fault NAME]

What it is to do comes as one JSON object a line on standard input:
    {"does":"request","with":{"type":"list_slaves","data":{}}}       asks; the type is the stem
    {"does":"tell","with":{"type":"global_chat:chat_event","data":{}}}, {"does":"output","with":{}}, {"does":"chat","with":{}}
    {"does":"quit"}
A control leaves with status 1 when a request of its own failed. The README lists variants and faults.
"""
import argparse
import asyncio
import contextlib
import json
import logging
import math
import os
import signal
import sys
import threading

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode

VARIANTS = """answers-late busy cut-at-close empty-names ignores-unmatched latin-names negative-id no-close-back
    number-words one-command open own-events reports-changes strict-close unnumbered-handshake""".split()
FAULTS = """acknowledges-events answers-by-another-name answers-for-unknown answers-twice binary-frames close-without-reason
    counts-from-zero dies-on-malformed error-with-result forgets-assigned id-as-text ignores-close ignores-errors
    ignores-invalid ignores-refusal lingers matches-in-order metrics-as-object no-pong no-report no-token
    registers-again registers-twice registers-unasked reports-early same-number silent-quit stale-number takes-any-name
    talks-after-close wants-own-version""".split()
ROLE, FAULT, VARIANT, EDITION = None, None, set(), "alpha0"
LIMIT = 1 << 53

OF_INSTANCE = {"instance_id": "integer"}
OUTPUT = {"source": "text", "received": "number", "format": "text", "type": "text", "message": "text",
          "time": "text?", "level": "text?", "file": "text?", "action": "text?"}
# What the master may ask and tell a slave, by type without its suffix.
REQUESTS = {"assign_instance": {"instance_id": "integer", "serialized_config": "object"}, "start_instance": OF_INSTANCE,
            "create_save": OF_INSTANCE, "stop_instance": OF_INSTANCE, "delete_instance": OF_INSTANCE,
            "send_rcon": {"instance_id": "integer", "command": "text"}, "statistics_exporter:get_metrics": {}}
SLAVE_EVENTS = {"global_chat:chat": {"instance_name": "text", "content": "text"},
                "research_sync:progress": {"technologies": "list"},
                "research_sync:finished": {"name": "text", "level": "integer"},
                "subspace_storage:update_storage": {"items": "list"}}
CONTROL_EVENTS = {"instance_output": {"instance_id": "integer", "output": OUTPUT}}
# What answers hold besides `seq`.
ANSWERS = {"list_slaves": {"list": [{"agent": "text", "version": "text", "name": "text", "id": "integer", "connected": "flag"}]},
           "list_instances": {"list": [{"name": "text", "id": "integer", "assigned_slave": "integer or null"}]},
           "get_instance_config": {"serialized_config": "object"}, "send_rcon": {"result": "text"},
           "research_sync:sync_technologies": {"technologies": "list"}, "subspace_storage:remove": {"items": "list"},
           "subspace_storage:get_storage": {"items": "list"}}


class Invalid(Exception):
    """A message that costs the link."""


class Failure(Exception):
    """A request that cannot be done."""


def integer(value):
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return False
    return abs(value) <= LIMIT and value == int(value)


def suits(form, value):
    if isinstance(form, dict):
        if not isinstance(value, dict) or (EDITION == "alpha0" and "open" not in VARIANT and set(value) - set(form)):
            return False
        return all(suits(one.rstrip("?") if isinstance(one, str) else one, value[name]) if name in value
                   else isinstance(one, str) and one.endswith("?") for name, one in form.items())
    if isinstance(form, list):
        return isinstance(value, list) and all(suits(form[0], item) for item in value)
    return {"integer": integer(value), "text": isinstance(value, str), "object": isinstance(value, dict),
            "list": isinstance(value, list), "flag": isinstance(value, bool),
            "number": isinstance(value, (int, float)) and not isinstance(value, bool),
            "integer or null": value is None or integer(value)}[form]


def refuse(word):
    raise ValueError(f"{word} is not JSON")


def usable(name):
    """Whether a directory can have that name."""
    if not isinstance(name, str) or name.strip(" .") == "" or len(name.encode()) > 200:
        return False
    if any(ord(letter) < 32 or letter in '<>:"/\\|?*' for letter in name) or name[-1] in " .":
        return False
    stem = name.split(".")[0].upper()
    return stem not in ("CON", "PRN", "AUX", "NUL") and not (stem[:3] in ("COM", "LPT") and stem[3:].isdigit())


class Client:
    def __init__(self, ws):
        self.ws, self.state, self.number, self.status = ws, "hello", 0, 0
        self.waiting, self.tasks, self.answered, self.gone = {}, set(), 0, False
        self.instances = {}  # id -> {"name", "running", "config"}
        if ROLE == "slave":
            local = {"groups": [{"fields": {"name": "of our own", "id": 2000000017}, "name": "instance"}]}
            self.instances[2000000017] = {"name": "of our own", "running": False, "config": local}

    # Going out

    async def send(self, kind, data):
        if self.gone:
            return None
        self.number += 1
        if FAULT == "same-number" and kind.endswith("_request"):
            self.number = 2
        whole = {"type": kind, "data": data, "seq": self.number - (FAULT == "counts-from-zero")}
        if "unnumbered-handshake" in VARIANT and kind.startswith("register"):
            del whole["seq"]
        if "open" in VARIANT:
            whole["note"] = "a member of our own"
            if kind.endswith("_response") and "error" not in data or kind.startswith("register"):
                data["note"] = "another"
        written = json.dumps(whole, indent="\t", ensure_ascii="latin-names" not in VARIANT)
        if "number-words" in VARIANT:
            # The number of the message stands last.
            start, end = written.rsplit('"seq": ', 1)
            written = f'{start}"seq": {end.rstrip("}").strip()}e0' + "\n}"
        with contextlib.suppress(ConnectionClosed):
            await self.ws.send(written.encode() if FAULT == "binary-frames" and kind.endswith("_response") else written)
        return self.number - (FAULT == "counts-from-zero")

    def run(self, work):
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def close(self, reason, status):
        self.status = self.status or status
        if self.gone:
            return
        if FAULT != "silent-quit" or reason != "quit":
            await self.send("close", {} if FAULT == "close-without-reason" else {"reason": reason})
        if FAULT == "talks-after-close":
            await self.send("weather:report_event", {})
        self.gone = True
        if FAULT == "lingers":
            await asyncio.sleep(30)
        if "cut-at-close" in VARIANT:
            await asyncio.sleep(0.05)
            self.ws.transport.abort()
        else:
            await self.ws.close(1001 if reason == "quit" else 1002)

    # Coming in

    async def serve(self):
        if FAULT == "registers-unasked":
            await self.register()
        if "busy" in VARIANT:
            self.run(self.busy())
        with contextlib.suppress(ConnectionClosed):
            async for message in self.ws:
                if self.gone:
                    break
                try:
                    if not await self.take(message):
                        break
                except Invalid as reason:
                    if FAULT == "ignores-invalid" and self.state == "ready":
                        continue
                    handshake = self.state != "ready"
                    await self.close("Invalid handshake" if handshake else f"Invalid message: {reason}", 1)
        if self.state != "ready":
            self.status = self.status or 1
        self.gone = True
        if "no-close-back" in VARIANT:
            self.ws.transport.abort()
        with contextlib.suppress(ConnectionClosed):
            await asyncio.wait_for(self.ws.close(), 2)
        return self.status

    async def busy(self):
        while not self.gone:
            with contextlib.suppress(ConnectionClosed):
                await self.ws.ping()
            await asyncio.sleep(0.1)

    async def take(self, message):
        try:
            whole = json.loads(message, parse_constant=refuse)
        except (ValueError, RecursionError):
            if FAULT == "dies-on-malformed":
                os._exit(70)
            raise Invalid("not JSON") from None
        if not suits({"seq": "integer", "type": "text", "data": "object"}, whole):
            raise Invalid("no message")
        kind, seq, data = whole["type"], int(whole["seq"]), whole["data"]
        if kind == "close":
            if FAULT == "ignores-close" and self.state == "ready" or FAULT == "ignores-refusal" and self.state != "ready":
                if self.state != "ready":
                    await self.send("update_instances_event", {"instances": []})
                return True
            self.status = self.status or int(self.state != "ready" or bool(self.waiting))
            return False
        if self.state == "hello":
            if kind != "hello" or not suits({"version": "text"}, data):
                raise Invalid(kind)
            if FAULT == "wants-own-version" and data["version"] != "2.0.0-alpha":
                raise Invalid(kind)
            self.state = "registering"
            if FAULT != "registers-unasked":
                await self.register()
            if FAULT == "registers-twice":
                await self.register()
            if FAULT == "reports-early":
                await self.report()
        elif self.state == "registering":
            if kind != "ready" or not suits({}, data):
                raise Invalid(kind)
            self.state = "ready"
            if ROLE == "slave" and EDITION == "alpha0" and FAULT not in ("no-report", "reports-early"):
                await self.report()
            if FAULT == "registers-again":
                await self.register()
            if "own-events" in VARIANT:
                self.run(self.tell_weather())
        elif kind.endswith("_request"):
            await self.asked(kind[:-8], seq, data)
        elif kind.endswith("_event"):
            forms = SLAVE_EVENTS if ROLE == "slave" else CONTROL_EVENTS
            form = forms.get(kind[:-6])
            if form is None or not suits(form, data):
                raise Invalid(kind)
            if FAULT == "acknowledges-events":
                await self.send(f"{kind[:-6]}_response", {"seq": seq})
        elif kind.endswith("_response"):
            self.told(kind[:-9], data)
        else:
            raise Invalid(kind)
        return True

    async def register(self):
        said = {"version": "2.0.0-alpha", "agent": "" if "empty-names" in VARIANT else "a client in Python"}
        if ROLE == "slave":
            said |= {"id": -41 if "negative-id" in VARIANT else 41, "name": "" if "empty-names" in VARIANT else "north ☃"}
            if FAULT == "id-as-text":
                said["id"] = "41"
        if EDITION == "alpha0" and FAULT != "no-token":
            said["token"] = os.environ.get("CLUSTERIO_TOKEN", "flowproof:6f2c0e1d9b5a")
        await self.send(f"register_{ROLE}", said)

    async def report(self):
        await self.send("update_instances_event", {
            "instances": [{"serialized_config": one["config"]} for one in self.instances.values()]})

    async def tell_weather(self):
        while not self.gone:
            await self.send("weather:report_event", {"sky": "clear"})
            await asyncio.sleep(0.4)

    # Requests of the master

    async def asked(self, stem, seq, data):
        if ROLE == "control" or stem not in REQUESTS or not suits(REQUESTS[stem], data):
            if "strict-close" in VARIANT or FAULT == "ignores-invalid":
                raise Invalid(stem)
            await self.send(f"{stem}_response", {"error": "that is no request of ours", "seq": seq})
            return
        if "answers-late" in VARIANT:
            self.run(self.answer(stem, seq, data, 0.04 / (1 + seq % 3)))
        else:
            await self.answer(stem, seq, data, 0)

    async def answer(self, stem, seq, data, pause):
        if pause:
            await asyncio.sleep(pause)
        try:
            found = self.do(stem, data)
        except Failure as failure:
            found = {"error": str(failure)}
            if FAULT == "error-with-result":
                found["result"] = ""
        if FAULT == "stale-number":
            seq -= 1
        kind = "metrics_response" if FAULT == "answers-by-another-name" and ":" in stem else f"{stem}_response"
        for _ in range(2 if FAULT == "answers-twice" else 1):
            await self.send(kind, {"seq": seq, **found})
        if "reports-changes" in VARIANT and stem in ("assign_instance", "delete_instance"):
            await self.report()

    def do(self, stem, data):
        if stem == "statistics_exporter:get_metrics":
            return {"results": {}} if FAULT == "metrics-as-object" else {"results": [["up", 1], {"any": None}]}
        known = self.instances.get(int(data["instance_id"]))
        if stem == "assign_instance":
            return self.assign(int(data["instance_id"]), data["serialized_config"])
        if known is None:
            if FAULT == "answers-for-unknown":
                return {"result": ""} if stem == "send_rcon" else {}
            raise Failure("no such instance here")
        if known["running"] == (stem in ("start_instance", "create_save", "delete_instance")):
            raise Failure("it runs" if known["running"] else "it does not run")
        if stem == "delete_instance":
            del self.instances[int(data["instance_id"])]
        elif stem in ("start_instance", "stop_instance"):
            known["running"] = stem == "start_instance"
        return {"result": "so be it\n"} if stem == "send_rcon" else {}

    def assign(self, instance_id, config):
        groups = config.get("groups")
        if not isinstance(groups, list):
            raise Failure("the configuration has no groups")
        fields = next((group.get("fields") for group in groups
                       if isinstance(group, dict) and group.get("name") == "instance"), None)
        name = fields.get("name", "New Instance") if isinstance(fields, dict) else "New Instance"
        if instance_id not in self.instances:
            if not usable(name) and FAULT != "takes-any-name":
                raise Failure(f"no directory can be called {name}")
            if FAULT == "forgets-assigned":
                return {}
            self.instances[instance_id] = {"running": False}
        self.instances[instance_id] |= {"name": name, "config": config}
        return {}

    # Requests of its own

    def told(self, stem, data):
        form = {"seq": "integer", **({"error": "text"} if "error" in data else ANSWERS.get(stem, {}))}
        key = (stem, int(data["seq"])) if integer(data.get("seq")) else None
        if key not in self.waiting or FAULT == "matches-in-order" and key != next(iter(self.waiting)):
            if "ignores-unmatched" in VARIANT:
                return
            raise Invalid("nobody asked for that")
        if not suits(form, data):
            raise Invalid("an answer of a strange form")
        del self.waiting[key]
        failed = "error" in data
        if failed and ROLE == "control" and FAULT != "ignores-errors":
            self.status = 1
        if "one-command" in VARIANT and not self.waiting:
            self.run(self.close("error" if failed else "quit", self.status))

    async def obey(self, does, given):
        if self.state != "ready":
            return
        if does == "request":
            seq = await self.send(f"{given['type']}_request", given.get("data", {}))
            self.waiting[given["type"], seq] = True
        elif does == "tell":
            await self.send(given["type"], given.get("data", {}))
        elif does == "output":
            await self.send("instance_output_event", given)
        elif does == "chat":
            await self.send("global_chat:chat_event", given)
        elif does == "quit":
            await self.close("quit", 0)


async def main(arguments):
    loop, orders = asyncio.get_running_loop(), asyncio.Queue()

    def listen():
        for line in sys.stdin:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(orders.put_nowait, line)

    threading.Thread(target=listen, daemon=True).start()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, orders.put_nowait, '{"does": "quit"}')
    async with connect(arguments.url, compression="deflate" if arguments.variant else None, ping_interval=None,
                       close_timeout=1, max_size=2 << 20, additional_headers={"x-agent": "python"}) as ws:
        if FAULT == "no-pong":
            send_frame = ws.protocol.send_frame
            ws.protocol.send_frame = lambda frame: None if frame.opcode is Opcode.PONG else send_frame(frame)
        client = Client(ws)

        async def follow():
            while True:
                order = json.loads(await orders.get())
                while client.state != "ready" and order["does"] != "quit":
                    await asyncio.sleep(0.01)
                if order["does"] == "quit" and client.state != "ready":
                    await client.close("quit", 0)
                await client.obey(order["does"], order.get("with") or {})

        following = asyncio.create_task(follow())
        status = await client.serve()
        following.cancel()
    return status


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["slave", "control"])
    parser.add_argument("url")
    parser.add_argument("--fault", choices=FAULTS)
    parser.add_argument("--variant", choices=VARIANTS, action="append", default=[])
    parser.add_argument("--edition", choices=["seed", "alpha0"], default="alpha0")
    arguments = parser.parse_args()
    ROLE, FAULT, VARIANT, EDITION = arguments.role, arguments.fault, set(arguments.variant), arguments.edition
    logging.disable(logging.CRITICAL)
    try:
        ended = asyncio.run(main(arguments))
    except (OSError, ConnectionClosed) as error:
        print(f"no link: {error}", file=sys.stderr)
        ended = 1
    sys.stdout.flush()
    os._exit(ended)
