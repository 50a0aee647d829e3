#!/usr/bin/env python3
"""Tests the relay and the peer with flowproof: python3 check.py [--flowproof PATH] [NAME]...

The conforming programs and the lawful variants must not be accused of a MUST, and of a SHOULD only where the tables
below say so; each planted fault must be reported under its requirement and no other that is not named beside it.
Prints a table; the exit status is 1 when a row is wrong. A NAME picks rows: `relay`, `peer`, `fault`, `variant/echo` ...
"""
import argparse
import json
import os
import shlex
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PEER = ["ALPHA-17"]  # what the peer does poorly on purpose: syncinfo comes last

# Each row: role, name, switches, edition, requirements that must be accused, requirements that may be.
ROWS = [("relay", "plain", [], "seed", [], ["ROB-2"]), ("peer", "plain", [], "seed", [], PEER),
        ("peer", "cow2", ["--edition", "cow2"], "cow2", [], PEER)]
RELAY_VARIANTS = {
    "as-it-came": [], "echo": [], "forgiving": [], "loose-targets": [], "needs-subprotocol": [],
    "passes-more": ["ROUTE-9", "ROUTE-10"],
}
PEER_VARIANTS = {
    "always-syncinfo": [], "any-herd": [], "last-wins": ["SYNC-6"], "lists-at-once": [], "merges-on-top": [],
    "no-commands": ["CMD-3", "CMD-5", "CMD-8", "CMD-9"], "no-deltas": ["SYNC-15"], "number-ids": [], "quiet-gone": [],
}
RELAY_FAULTS = {
    "broadcast-to-first": ["ROUTE-3"], "dies-on-junk": ["ROB-1"], "drops-unknown-actions": ["ROUTE-5"],
    "drops-unknown-members": ["ROUTE-5"], "gone-to-nobody": ["GONE-1", "GONE-7"], "gone-twice": ["GONE-2"],
    "hello-late": ["CONN-1"], "no-hello-key": ["CONN-2"], "reorders": ["ROUTE-6"], "targeted-to-all": ["ROUTE-2"],
    "unknown-target-closes": ["ROUTE-7"],
}
PEER_FAULTS = {
    "always-alpha": ["ALPHA-2"], "answers-for-others": ["SYNC-2"], "asks-too-much": ["ALPHA-13"],
    "equal-too": ["ALPHA-13"], "flush-all": ["CMD-9"], "forgets-newer": ["SYNC-11"],
    "lists-without-time": ["LIST-3"], "mixes-projects": ["SYNC-7"], "no-announcement": ["CONN-12"],
    "no-return": ["CONN-10"], "old-id": ["CONN-11"], "pongs-pongs": ["CMD-11"], "project-missing": ["LIST-4"],
    "sends-to-all": ["ALPHA-9"], "sends-too-little": ["ALPHA-8"], "skips-last": ["LIST-5"],
    "sync-to-other": ["ALPHA-10"], "untold-change": ["SYNC-14"], "wrong-counts": ["ALPHA-5"],
}
ROWS += [("relay", f"variant/{name}", ["--variant", name], "seed", [], may + ["ROB-2"])
         for name, may in RELAY_VARIANTS.items()]
ROWS += [("peer", f"variant/{name}", ["--variant", name], "seed", [], may + PEER) for name, may in PEER_VARIANTS.items()]
ROWS += [("relay", f"fault/{name}", ["--fault", name], "seed", must[:1], must[1:] + ["ROB-2"])
         for name, must in RELAY_FAULTS.items()]
ROWS += [("peer", f"fault/{name}", ["--fault", name], "seed", must[:1], must[1:] + PEER)
         for name, must in PEER_FAULTS.items()]


def run(arguments, row):
    role, name, switches, edition, must, may = row
    hole = "{url}" if role == "peer" else "{port}"
    program = shlex.join([arguments.python, os.path.join(HERE, f"{role}.py"), *switches]) + f" {hole}"
    command = [arguments.flowproof, "test", "cow", "--role", role, "--edition", edition, "--exec", program, "--format",
               "json", "--jobs", str(arguments.jobs)]
    if name != "plain" and role == "relay":
        for topic in ("connect/", "gone/after", "gone/last", "gone/new", "gone/several", "route/", "robust/"):
            command += ["--filter", topic]
    began = time.monotonic()
    ran = subprocess.run(command, capture_output=True, text=True)
    try:
        report = json.loads(ran.stdout)
    except ValueError:
        return False, f"no report, exit status {ran.returncode}: {ran.stderr.strip()}"
    accused = {finding["requirement"] for flow in report["flows"] for finding in flow["findings"]
               if finding["verdict"] == "broken"}
    accused = {str(requirement).removeprefix("COW-") for requirement in accused}
    unclear = [flow for flow in report["flows"] if flow["verdict"] in ("error", "inconclusive")]
    says = []
    if missed := set(must) - accused:
        says.append("MISSED " + " ".join(sorted(missed)))
    if stray := accused - set(must) - set(may):
        says.append("STRAY " + " ".join(sorted(stray)))
    says += [f"{flow['verdict'].upper()} {flow['name']}: {flow['reason']}" for flow in unclear[:3] if not must]
    about = " ".join(sorted(accused)) or "nobody accused"
    about += f"  ({report['summary']['pass']} pass, {time.monotonic() - began:.0f} s)"
    return not says, "; ".join([about, *says])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--flowproof", default="flowproof", help="the command [default: flowproof]")
    parser.add_argument("--python", default=sys.executable, help="a Python with the packages of requirements.txt")
    parser.add_argument("--jobs", type=int, default=16, help="flows side by side in each run")
    arguments = parser.parse_args()
    wrong = rows = 0
    for row in ROWS:
        full = f"{row[0]}/{row[1]}"
        if arguments.names and not any(name == full or name in full.split("/") or name in full for name in arguments.names):
            continue
        rows += 1
        right, about = run(arguments, row)
        wrong += not right
        print(f"{'ok   ' if right else 'WRONG'}  {full:<36} {about}", flush=True)
    if not rows:
        sys.exit("no row has such a name")
    print(f"{rows} rows, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
