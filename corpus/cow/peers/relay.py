#!/usr/bin/env python3
"""An independent cow relay: python3 relay.py PORT [--variant NAME]... [--fault NAME]

Written from the protocol's description. It re-encodes what it passes on, does not echo, and sends away whoever sends
text that is no JSON. The README tells the rest.
"""
import argparse
import asyncio
import json
import signal
import sys
import time

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Response
from websockets.datastructures import Headers

VARIANTS = "as-it-came echo forgiving loose-targets needs-subprotocol passes-more".split()
FAULTS = """broadcast-to-first dies-on-junk drops-unknown-actions drops-unknown-members gone-to-nobody gone-twice
    hello-late no-hello-key reorders targeted-to-all unknown-target-closes""".split()
variants, fault = set(), None
peers = {}  # id -> connection
last = broadcasts = 0
waiting = set()


def new_id():
    global last
    last = max(last + 1, int(time.time() * 1000))
    return last


def names(target):
    """The id that a target names, or None."""
    if isinstance(target, bool) or target is None:
        return None
    if isinstance(target, int):
        return target
    if isinstance(target, float) and target.is_integer():
        return int(target)
    if isinstance(target, str):
        if target.isascii() and target.isdigit() and str(int(target)) == target:
            return int(target)
        if "loose-targets" in variants:
            digits = target.lstrip()
            while digits and not digits.isdigit():
                digits = digits[:-1]
            return int(digits) if digits else None
    return None


async def tell(ws, text):
    try:
        await ws.send(text)
    except ConnectionClosed:
        pass


async def later(to, text):
    await asyncio.sleep(0.02)
    await asyncio.gather(*(tell(peers[peer], text) for peer in to if peer in peers))


async def route(own, text, message):
    global broadcasts
    if message.get("action") in ("connected", "peerGone") and "passes-more" not in variants:
        return
    sender = names(message.get("sender"))
    if sender != own and sender in peers and "passes-more" not in variants:
        return
    if fault == "drops-unknown-members":
        message = {key: message[key] for key in ("action", "sender", "target", "payload") if key in message}
    if fault == "drops-unknown-actions" and message.get("action") not in (
            "command", "newList", "syncinfo", "wantedList", "missingItems", "updatedRecord"):
        return
    if "as-it-came" not in variants:
        text = json.dumps(message, ensure_ascii=False)
    target = message.get("target")
    loosely = "loose-targets" in variants and not target and not isinstance(target, (list, dict))
    if target is None or loosely or fault == "targeted-to-all":
        to = [peer for peer in peers if peer != own or "echo" in variants]
        if fault == "broadcast-to-first":
            to = to[:1]
        if fault == "reorders":
            # Every third broadcast is left to a task that begins later.
            broadcasts += 1
            if broadcasts % 3 == 0:
                late = asyncio.create_task(later(to, text))
                waiting.add(late)
                late.add_done_callback(waiting.discard)
                return
        await asyncio.gather(*(tell(peers[peer], text) for peer in to if peer in peers))
        return
    peer = peers.get(names(target))
    if peer is not None:
        await tell(peer, text)
    elif fault == "unknown-target-closes":
        await peers[own].close(1008)


async def connection(ws):
    own = new_id()
    hello = {"peerID": own, "server_ip": "127.0.0.1", "server_key": "cow",
             "server_version": "0.1"}
    if fault == "no-hello-key":
        del hello["server_key"]
    if fault == "hello-late":
        await asyncio.sleep(2.6)
    await tell(ws, json.dumps({"payload": hello, "action": "connected"}))
    peers[own] = ws
    try:
        async for text in ws:
            if isinstance(text, bytes):
                continue
            try:
                message = json.loads(text, parse_constant=lambda word: 1 / 0)
            except (ValueError, RecursionError, ZeroDivisionError):
                if fault == "dies-on-junk":
                    sys.exit(1)
                if "forgiving" not in variants:
                    await ws.close(1007)
                    break
                continue
            if isinstance(message, dict) and (isinstance(message.get("action"), str) or "passes-more" in variants):
                await route(own, text, message)
    except ConnectionClosed:
        pass
    finally:
        peers.pop(own, None)
        notice = json.dumps({"action": "peerGone", "payload": {"gonePeerID": own}})
        if fault != "gone-to-nobody":
            for _ in range(2 if fault == "gone-twice" else 1):
                await asyncio.gather(*(tell(peer, notice) for peer in list(peers.values())))


def check(ws, request):
    offered = ",".join(request.headers.get_all("Sec-WebSocket-Protocol")).lower()
    if "needs-subprotocol" in variants and "connect" not in [one.strip() for one in offered.split(",")]:
        return Response(501, "Not Implemented", Headers())
    return None


def select(ws, offered):
    return next((one for one in offered if one.lower() == "connect"), None)


async def main(arguments):
    stop = asyncio.get_running_loop().create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, lambda: stop.done() or stop.set_result(None))
    async with serve(connection, "127.0.0.1", arguments.port, compression=None, max_size=1 << 20, ping_interval=20,
                     ping_timeout=10, process_request=check, select_subprotocol=select, close_timeout=1):
        print(f"listening on ws://127.0.0.1:{arguments.port}/", flush=True)
        await stop


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--variant", choices=VARIANTS, action="append", default=[])
    parser.add_argument("--fault", choices=FAULTS)
    arguments = parser.parse_args()
    variants, fault = set(arguments.variant), arguments.fault
    asyncio.run(main(arguments))
