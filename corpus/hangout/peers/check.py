#!/usr/bin/env python3
"""Tests the two peers with flowproof: python3 check.py [--flowproof PATH] [NAME]...

The conforming peers and the lawful variants must not be accused of a MUST, and of a SHOULD only where the table
below says so; each planted fault must be reported under its requirement and no other. Prints a table; the exit
status is 1 when a row is wrong. A NAME picks rows: `server`, `client`, `server/greet`, `fault`, `variant` ...
"""
import argparse
import concurrent.futures
import json
import os
import shlex
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOPICS = "address changes connect props relay robust sender sync table wire".split()

# Another lawful way than the default one, and the SHOULDs that it leaves.
VARIANTS = {
    "announce-everything": [], "check-per-connection": [], "entries-left-out": ["META-5"], "global-ping": [],
    "greet": [], "late-check": [], "nested-values": ["PROP-7"], "no-echo": ["RELAY-7"], "no-limit": ["PROP-9"],
    "no-version": ["META-8"], "refuse-malformed": [], "relay-own-types": ["RELAY-9"], "short-tokens": ["TOKEN-3"],
}
# Each planted fault and its requirement.
SERVER_FAULTS = {
    "array-becomes-properties": "ROBUST-6", "array-wildcard-ignored": "ADDR-3", "binary-frames": "WIRE-2",
    "changes-name-nobody": "CHG-4", "changes-name-one-writer": "CHG-4", "changes-repeat-closed": "CHG-6",
    "changes-skip-newcomer": "SYNC-8", "compose-values": "PROP-2", "deaf-after-malformed": "ROBUST-5",
    "duplicates-delivered": "ADDR-4", "exit-on-deep": "ROBUST-4", "exit-on-malformed": "ROBUST-1",
    "exit-on-wrong-shape": "ROBUST-2", "first-address-only": "ADDR-2", "gone-in-indexes": "META-6",
    "idle-sync": "SYNC-7", "index-always-first": "META-2", "keep-forged-server": "FROM-2",
    "keep-forged-token": "FROM-2", "limit-20": "PROP-8", "loose-server-address": "ADDR-6",
    "metadata-before-changes": "SYNC-5", "metadata-is-difference": "META-4", "no-echo": "RELAY-7",
    "no-pong": "PING-2", "null-becomes-object": "RELAY-5", "ping-every-30s": "PING-1", "relay-late": "RELAY-1",
    "relay-own-types": "RELAY-9", "relay-to-everybody": "RELAY-2", "replace-properties": "PROP-4",
    "server-answers": "PROP-12", "string-token-ignored": "ADDR-1", "stringify-numbers": "PROP-5",
    "strip-variation-selector": "PROP-2", "sync-every-write": "SYNC-4", "sync-late-after-write": "SYNC-3",
    "trim-values": "PROP-2", "unknown-closes-sender": "ADDR-5", "version-changes": "META-8",
    "write-by-relay": "PROP-11", "write-to-everybody": "PROP-3",
}
CLIENT_FAULTS = {
    "binary-frames": "WIRE-2", "exit-on-malformed": "CLIENT-6", "exit-on-unknown-sender": "CLIENT-6",
    "exit-on-unknown-type": "CLIENT-6", "forget-properties": "CLIENT-7", "invent-address": "CLIENT-3",
    "no-pong": "CLIENT-4", "omit-payload": "CLIENT-1", "properties-as-array": "CLIENT-2",
    "send-metadata": "CLIENT-5", "two-objects": "WIRE-1", "use-old-token": "CLIENT-7",
}
SLOW = ["server", "variant/global-ping", "fault/ping-every-30s"]  # rows that run the ping flows too


def rows():
    """Name, role, switches, requirements that must be accused, requirements that may be."""
    yield "server", "server", [], [], []
    yield "client", "client", [], [], []
    for name, leaves in VARIANTS.items():
        yield f"variant/{name}", "server", ["--variant", name], [], leaves
    for name, breaks in SERVER_FAULTS.items():
        yield f"fault/{name}", "server", ["--fault", name], [breaks], []
    for name, breaks in CLIENT_FAULTS.items():
        yield f"client-fault/{name}", "client", ["--fault", name], [breaks], []


def run(arguments, row):
    name, role, switches, must, may = row
    hole = "{url}" if role == "client" else "{port}"
    peer = shlex.join([arguments.python, os.path.join(HERE, f"{role}.py"), *switches]) + f" {hole}"
    command = [arguments.flowproof, "test", "hangout", "--role", role, "--exec", peer, "--format", "json",
               "--jobs", str(arguments.jobs)]
    if role == "server" and name not in SLOW:
        for topic in [*TOPICS, "ping/answers-pings"]:
            command += ["--filter", topic if "/" in topic else f"{topic}/"]
    began = time.monotonic()
    ran = subprocess.run(command, capture_output=True, text=True)
    try:
        report = json.loads(ran.stdout)
    except ValueError:
        return name, False, f"no report, exit status {ran.returncode}: {ran.stderr.strip()}"
    if arguments.reports:
        os.makedirs(arguments.reports, exist_ok=True)
        with open(os.path.join(arguments.reports, name.replace("/", "-") + ".json"), "w") as file:
            json.dump(report, file, indent=1)
    accused = {finding["requirement"] for flow in report["flows"] for finding in flow["findings"]
               if finding["verdict"] == "broken"}
    accused = {str(requirement).removeprefix("HANGOUT-") for requirement in accused}
    unclear = [flow for flow in report["flows"] if flow["verdict"] in ("error", "inconclusive")]
    says = []
    if missed := set(must) - accused:
        says.append("MISSED " + " ".join(sorted(missed)))
    if stray := accused - set(must) - set(may):
        says.append("STRAY " + " ".join(sorted(stray)))
    says += [f"{flow['verdict'].upper()} {flow['name']}: {flow['reason']}" for flow in unclear[:3] if not must]
    if ran.returncode not in (0, 1):
        says.append(f"exit status {ran.returncode}")
    about = " ".join(sorted(accused)) or "nobody accused"
    summary = report["summary"]
    about += f"  ({summary['pass']} pass, {time.monotonic() - began:.0f} s)"
    return name, not says, "; ".join([about, *says])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--flowproof", default="flowproof", help="the command [default: flowproof]")
    parser.add_argument("--python", default=sys.executable, help="a Python with the packages of requirements.txt")
    parser.add_argument("--jobs", type=int, default=16, help="flows side by side in each run")
    parser.add_argument("--runs", type=int, default=1, help="runs side by side")
    parser.add_argument("--reports", metavar="DIR", help="keep the JSON reports here")
    arguments = parser.parse_args()
    wanted = [row for row in rows()
              if not arguments.names or any(row[0] == name or name in row[0].split("/") for name in arguments.names)]
    if not wanted:
        sys.exit("no row has such a name")
    wrong = 0
    with concurrent.futures.ThreadPoolExecutor(arguments.runs) as pool:
        for name, right, about in pool.map(lambda row: run(arguments, row), wanted):
            wrong += not right
            print(f"{'ok   ' if right else 'WRONG'}  {name:<40} {about}", flush=True)
    print(f"{len(wanted)} rows, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
