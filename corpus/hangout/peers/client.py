#!/usr/bin/env python3
"""An independent hangout v1 client: python3 client.py URL [--fault NAME] [--verbose]

It reads stimuli from standard input, one JSON object a line:
    {"does":"send","with":{"to":"*","type":"chat","payload":{"type":"text","message":"hi"}}}
    {"does":"properties","with":{"name":"Alice"}}
    {"does":"close"}
The README tells the rest.
"""
import argparse
import asyncio
import collections
import json
import os
import secrets
import signal
import sys
import threading

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidURI, WebSocketException
from websockets.frames import Opcode

FAULTS = """binary-frames exit-on-malformed exit-on-unknown-sender exit-on-unknown-type forget-properties
    invent-address no-pong omit-payload properties-as-array send-metadata two-objects use-old-token""".split()
FAULT = None  # the one requirement this run breaks, or None


def refuse(word):
    raise ValueError(f"{word} is not JSON")


def read(text):
    return json.loads(text, parse_constant=refuse)


class Client:
    def __init__(self, url):
        self.url = url
        self.stimuli = collections.deque()  # None at its end: standard input has ended
        self.arrived = asyncio.Event()
        self.properties = {}    # kept to be sent again after a reconnect
        self.table = None       # the last valid metadata of this connection
        self.old_token = None   # the own token of the connection before
        self.opened = 0         # how many connections there were
        self.finished = False   # an orderly close was asked for

    # --- Standard input. A thread, because it may be a terminal, a pipe or a file.

    def listen(self, loop):
        def add(line):
            self.stimuli.append(line)
            self.arrived.set()

        def work():
            rest = b""
            # os.read, because a buffered reader cannot be left waiting when the program ends.
            while chunk := os.read(0, 65536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    loop.call_soon_threadsafe(add, line)
            if rest:
                loop.call_soon_threadsafe(add, rest)
            loop.call_soon_threadsafe(add, None)

        threading.Thread(target=work, daemon=True).start()

    def input_ended(self):
        return bool(self.stimuli) and self.stimuli[0] is None

    # --- Sending

    async def send(self, ws, to, kind, payload):
        # Key order and blanks are free: the packet comes first and its payload before the type.
        packet = {kind: payload, "type": kind}
        if FAULT == "omit-payload" and kind != "properties":
            del packet[kind]
        text = json.dumps({"packet": packet, "to": to}, indent=1)
        if FAULT == "two-objects":
            text += text
        await ws.send(text.encode() if FAULT == "binary-frames" else text)

    async def send_properties(self, ws, properties):
        if FAULT == "properties-as-array":
            properties = [[name, value] for name, value in properties.items()]
        await self.send(ws, ["server"], "properties", properties)  # an array is as good as the bare string

    async def act(self, ws, line):
        """Do what one line asks for. A line that makes no sense is noted and passed over."""
        try:
            stimulus = read(line)
            does, given = stimulus["does"], stimulus.get("with")
            if does == "close":
                self.finished = True
                await ws.close(1000)
            elif does == "properties" and isinstance(given, dict):
                for name, value in given.items():
                    self.properties[name] = value
                    if value is None:  # null deletes the name
                        del self.properties[name]
                await self.send_properties(ws, given)
            elif does == "send":
                to, kind, payload = given["to"], given["type"], given["payload"]
                if not all(isinstance(address, str) for address in (to if isinstance(to, list) else [to])):
                    raise ValueError("no address")
                # The payload key must not collide, and two types belong to the server.
                if not isinstance(kind, str) or kind in ("", "from", "type", "metadata", "changes"):
                    raise ValueError("no type for a client")
                await self.send(ws, to, kind, payload)
            else:
                raise ValueError("unknown")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            print(f"stimulus ignored ({type(error).__name__}: {error}): {line[:200]!r}", file=sys.stderr)

    async def send_all(self, ws):
        """Work off the stimuli in order. One that a lost connection interrupts is done again on the next."""
        while not self.finished:
            while self.stimuli and not self.input_ended():
                if self.stimuli[0].strip():
                    await self.act(ws, self.stimuli[0])
                self.stimuli.popleft()
                if self.finished:
                    return
            self.arrived.clear()
            await self.arrived.wait()

    # --- Receiving

    async def receive(self, ws, message):
        """Take in one message. Anything that is no proper packet is ignored."""
        try:
            packet = read(message) if isinstance(message, str) else None
        except (ValueError, RecursionError):
            packet = None
        sender, kind = (packet.get("from"), packet.get("type")) if isinstance(packet, dict) else (None, None)
        if not isinstance(sender, str) or not isinstance(kind, str):
            if FAULT == "exit-on-malformed":
                os._exit(1)
            return
        if sender != "server":
            if FAULT == "exit-on-unknown-sender" and sender not in (self.table or {}).get("indexes", []):
                os._exit(1)
            if verbose and kind not in ("metadata", "changes"):
                print(json.dumps(packet), flush=True)
        elif kind == "metadata":
            await self.take_table(ws, packet.get("metadata"))
        elif kind != "changes" and FAULT == "exit-on-unknown-type":
            os._exit(1)

    async def take_table(self, ws, table):
        # One wrong member, and the old table is kept whole. "version" explains nothing and is not needed.
        if not isinstance(table, dict) or not isinstance(table.get("index"), str) or \
                not isinstance(table.get("indexes"), list) or not isinstance(table.get("properties"), dict):
            return
        first, self.table = self.table is None, table
        if first and FAULT == "invent-address":
            await self.send(ws, secrets.token_hex(16), "chat", {"type": "text", "message": "who is there?"})
        if first and FAULT == "use-old-token" and self.old_token:
            await self.send(ws, self.old_token, "chat", {"type": "text", "message": "note to self"})

    # --- Connections

    async def run(self):
        self.listen(asyncio.get_running_loop())
        while not self.finished and not (self.opened and self.input_ended()):
            try:
                # proxy=None: what the environment says about proxies is not for us.
                async with connect(self.url, compression=None, proxy=None, max_size=16 << 20, open_timeout=5,
                                   close_timeout=2, ping_interval=10, ping_timeout=None) as ws:
                    await self.converse(ws)
            except InvalidURI:
                raise
            except (OSError, WebSocketException, asyncio.TimeoutError) as error:
                if verbose:
                    print(f"connection: {error!r}", file=sys.stderr)
            if not self.finished:
                await asyncio.sleep(0.5)

    async def converse(self, ws):
        if FAULT == "no-pong":
            send_frame = ws.protocol.send_frame
            ws.protocol.send_frame = lambda frame: None if frame.opcode is Opcode.PONG else send_frame(frame)
        self.opened += 1
        self.old_token, self.table = (self.table or {}).get("index"), None
        if self.properties and FAULT != "forget-properties":
            await self.send_properties(ws, self.properties)
        if FAULT == "send-metadata":
            await self.send(ws, "*", "metadata", {})
        sending = asyncio.create_task(self.send_all(ws))
        try:
            async for message in ws:
                await self.receive(ws, message)
        except asyncio.CancelledError:  # SIGTERM
            await ws.close(1001)
            raise
        except ConnectionClosed:
            pass
        finally:
            sending.cancel()
            await asyncio.wait([sending])
            if not sending.cancelled() and not isinstance(sending.exception(), (ConnectionClosed, type(None))):
                raise sending.exception()


async def main(arguments):
    running = asyncio.create_task(Client(arguments.url).run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        pass


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--fault", choices=FAULTS)
    parser.add_argument("--verbose", action="store_true", help="print relayed packets and connection errors")
    arguments = parser.parse_args()
    FAULT, verbose = arguments.fault, arguments.verbose
    asyncio.run(main(arguments))
