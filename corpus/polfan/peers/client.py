#!/usr/bin/env python3
"""An independent polfan client: client.py URL [--token TOKEN] [--variant NAME]... [--fault NAME]

It reads stimuli from standard input, one JSON object a line:
    {"does": "JoinSpace", "with": {"id": "0b6f2a52-..."}}                     a command by WebSocket
    {"does": "api", "with": {"type": "GetSpaceRooms", "data": {...}}}         a command by POST /api
    {"does": "chain", "with": {"do": COMMAND, "then": COMMAND, "otherwise": COMMAND}}
In a chain a COMMAND is {"type": ..., "data": ..., "api": true or missing}; `then` follows a success, `otherwise` a
failure. The README tells the rest.
"""
import argparse
import asyncio
import itertools
import json
import os
import sys
import threading
import urllib.parse
import uuid

import aiohttp
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

VARIANTS = "ask-at-once more-in-the-query null-refs uuid-refs".split()
FAULTS = """answers-by-order encodes-twice fears-rubbish fears-strange-types forgets-losses hammers no-bearer
    number-refs one-ref raw-token user-names""".split()
VARIANT, FAULT = set(), None


class Failed(Exception):
    """A command that did not succeed."""


class Client:
    def __init__(self, url, token):
        parts = urllib.parse.urlsplit(url)
        shown = urllib.parse.quote(token, safe="&=+") if FAULT == "raw-token" else urllib.parse.quote_plus(token)
        query = ("client=py&locale=pl&" if "more-in-the-query" in VARIANT else "") + "token=" + shown
        self.url = urllib.parse.urlunsplit(parts._replace(query=query))
        scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
        self.api = urllib.parse.urlunsplit((scheme, parts.netloc, "/api", "", ""))
        self.token, self.numbers = token, itertools.count(1)
        self.pending = {}                   # ref -> what waits for the answer
        self.ready = asyncio.Event()
        self.channel = None
        self.tasks = set()

    # --- Commands

    def reference(self):
        if FAULT == "one-ref":
            return "ref"
        if FAULT == "number-refs":
            return next(self.numbers)
        return str(uuid.uuid4()).upper() if "uuid-refs" in VARIANT else str(next(self.numbers))

    def envelope(self, kind, data, reference):
        if FAULT == "user-names":
            kind = kind.replace("MemberPermissions", "UserPermissions").replace("GetSpaceRooms", "ListRooms")
        return json.dumps({"data": data, "meta": {"ref": reference, "type": kind}}, indent=2)

    async def command(self, type, data, api=False):
        """Sends a command; its answer, or Failed."""
        if api:
            return await self.post(type, data)
        await self.ready.wait()
        reference = self.reference()
        waiting = asyncio.get_running_loop().create_future()
        self.pending[reference] = waiting
        text = self.envelope(type, data, reference)
        try:
            await self.channel.send(json.dumps(text) if FAULT == "encodes-twice" else text)
        except ConnectionClosed:
            raise Failed("the connection is lost") from None
        return await waiting

    async def post(self, kind, data):
        headers = {"Authorization": f"{'Basic' if FAULT == 'no-bearer' else 'Bearer'} {self.token}",
                   "Content-Type": "application/json; charset=utf-8"}
        reference = None if "null-refs" in VARIANT else f"api-{next(self.numbers)}"
        async with aiohttp.ClientSession() as session:
            async with session.post(self.api, data=self.envelope(kind, data, reference).encode(),
                                    headers=headers) as response:
                event = json.loads(await response.read())
        if event["meta"]["type"] == "Error":
            raise Failed(event["data"].get("code"))
        return event

    async def chain(self, steps):
        try:
            await self.command(**steps["do"])
            follow = steps.get("then")
        except (Failed, aiohttp.ClientError, ValueError, KeyError, TypeError):
            follow = steps.get("otherwise")
        if follow:
            await self.command(**follow)

    async def obey(self, line):
        try:
            stimulus = json.loads(line)
            deed, given = stimulus["does"], stimulus.get("with") or {}
            if deed == "chain":
                await self.chain(given)
            elif deed == "api":
                await self.command(**given, api=True)
            else:
                await self.command(deed, given)
        except Failed as failed:
            print(f"failed: {failed}", file=sys.stderr)
        except (ValueError, KeyError, TypeError, aiohttp.ClientError) as error:
            print(f"{line!r}: {error!r}", file=sys.stderr)

    # --- Events

    def heard(self, text):
        if isinstance(text, bytes):
            return
        try:
            event = json.loads(text)
            meta = event["meta"]
            kind, reference = meta["type"], meta.get("ref")
        except (ValueError, KeyError, TypeError, RecursionError):
            if FAULT == "fears-rubbish":
                raise
            return
        if FAULT == "fears-strange-types" and not kind[:2] in ("Se", "Er", "Ok", "By", "Sp", "Ro", "Ne", "To", "Pe",
                                                               "Jo"):
            sys.exit(f"what is {kind}?")
        if kind == "Session":
            self.ready.set()
        if FAULT == "answers-by-order" and reference is not None:
            reference = next(iter(self.pending), None)
        waiting = self.pending.pop(reference, None) if isinstance(reference, (str, int)) else None
        if waiting is None or waiting.done():
            return
        if kind == "Error":
            waiting.set_exception(Failed(event.get("data", {}).get("code")))
        else:
            waiting.set_result(event)

    def lost(self):
        """What waits for an answer has failed."""
        self.ready.clear()
        if FAULT != "forgets-losses":
            for waiting in self.pending.values():
                if not waiting.done():
                    waiting.set_exception(Failed("the connection is lost"))
            self.pending.clear()

    async def run(self):
        pause = 1.0
        while True:
            barred = False
            try:
                async with connect(self.url, compression=None, open_timeout=10) as channel:
                    self.channel = channel
                    async for text in channel:
                        self.heard(text)
                        if self.ready.is_set():
                            pause = 1.0
                            if "ask-at-once" in VARIANT and not self.pending and next(self.numbers) == 1:
                                self.begin(self.command("GetComputedPermissions", {"names": None}))
                    barred = channel.close_code == 1008
            except InvalidStatus as refused:
                barred = refused.response.status_code in (401, 403)
            except (OSError, WebSocketException, EOFError):
                pass
            finally:
                self.lost()
            if FAULT == "hammers":
                pause = 0.05
            elif barred:
                pause = 60.0
            await asyncio.sleep(pause)
            pause = min(pause * 2, 30.0)

    def begin(self, work):
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.done)

    def done(self, task):
        self.tasks.discard(task)
        if not task.cancelled():
            task.exception()    # A failure has been told where it matters.


def listen(loop, client):
    """Standard input, in a thread, because it may be a terminal, a pipe or a file."""
    rest = b""
    while chunk := os.read(0, 65536):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in filter(None, lines):
            loop.call_soon_threadsafe(lambda line=line: client.begin(client.obey(line)))


async def work(given):
    client = Client(given.url, given.token)
    threading.Thread(target=listen, args=(asyncio.get_running_loop(), client), daemon=True).start()
    await client.run()


def main():
    global FAULT
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--token", default="tok bob&ół=#1+%/?")
    parser.add_argument("--variant", action="append", default=[], choices=VARIANTS)
    parser.add_argument("--fault", choices=FAULTS)
    given = parser.parse_args()
    VARIANT.update(given.variant)
    FAULT = given.fault
    try:
        asyncio.run(work(given))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
