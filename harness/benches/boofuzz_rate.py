#!/usr/bin/env python3
"""boofuzz with its defaults against a hangout server, for comparison: boofuzz_rate.py PORT SECONDS

Sends envelopes like those that `flowproof fuzz hangout` sends, and prints how many messages it sent in a second.
"""

import os
import socket
import struct
import sys
import tempfile
import threading
import time

from boofuzz import Request, Session, Static, String, Target
from boofuzz.connections import ITargetConnection


class WebSocket(ITargetConnection):
    """What boofuzz has no connection for: an opening handshake, and one text frame for what is sent."""

    def __init__(self, port):
        self.port = port
        self.sent = 0

    def open(self):
        self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        self.socket.sendall(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.socket.recv(4096)

    def close(self):
        self.socket.close()

    def recv(self, max_bytes):
        return self.socket.recv(max_bytes)

    def send(self, data):
        size = len(data)
        if size < 126:
            head = struct.pack(">BB", 0x81, 0x80 | size)
        elif size < 65536:
            head = struct.pack(">BBH", 0x81, 0x80 | 126, size)
        else:
            head = struct.pack(">BBQ", 0x81, 0x80 | 127, size)
        # A mask of zeros changes nothing.
        self.socket.sendall(head + bytes(4) + data)
        self.sent += 1
        return size

    @property
    def info(self):
        return f"127.0.0.1:{self.port}"


def main():
    port, seconds = int(sys.argv[1]), float(sys.argv[2])
    # It writes what it did below the folder that it runs in.
    os.chdir(tempfile.mkdtemp())
    # What it tells goes nowhere; the result goes where this was called from.
    told = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    connection = WebSocket(port)
    session = Session(target=Target(connection=connection))
    parts = [
        Static(default_value='{"to":"'),
        String(default_value="*"),
        Static(default_value='","packet":{"type":"'),
        String(default_value="chat"),
        Static(default_value='","chat":"'),
        String(default_value="hello"),
        Static(default_value='"}}'),
    ]
    session.connect(Request("envelope", children=tuple(parts)))
    threading.Thread(target=session.fuzz, daemon=True).start()
    began = time.monotonic()
    time.sleep(seconds)
    rate = connection.sent / (time.monotonic() - began)
    os.write(told, f"{rate:.1f}\n".encode())
    os._exit(0)


main()
