#!/usr/bin/env python3
"""Faults that only a wrong sequence or a hostile value reveals, over the network.

Each is planted in a server of ours (`flowproof serve --sinner`). `flowproof fuzz` has to find it from nothing within a
minute; the flow that it writes has to fail against that server, and to pass against one without the fault.

    fuzz/hidden.py FLOWPROOF [PROTOCOL/FAULT ...]
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
FAULTS = [
    "clusterio/dies-on-malformed",
    "clusterio/dies-on-wire-error",
    "cow/dies-of-bad-json",
    "cow/dies-of-binary",
    "cow/passes-made-up-notices",
    "hangout/claimed-sender-kept",
    "hangout/dies-of-bad-json",
    "hangout/dies-of-wrong-shape",
    "polfan/closes-after-error",
    "ptpchat/dies-of-malformed",
]
# What a campaign may take.
MINUTE = 60


def serve(flowproof, protocol, role, *more):
    """Starts a server and reads its address, which is the first thing that it says."""
    command = [flowproof, "serve", protocol, "--role", role, *more]
    setup = ROOT / "corpus" / protocol / "setup.toml"
    if setup.exists():
        command += ["--setup", str(setup)]
    program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for line in program.stdout:
        for word in line.split():
            if "://" in word:
                return program, word
    raise SystemExit(f"{' '.join(command)} tells no address")


def stop(program):
    program.kill()
    program.wait()


def test(flowproof, protocol, role, flow, url):
    # What only should be counts, too.
    command = [flowproof, "test", protocol, url, "--role", role, "--strict", "--flow", str(flow)]
    return subprocess.run(command, capture_output=True, text=True)


def find(flowproof, fault):
    """Why a fault counts as missed; nothing when all is well."""
    protocol, name = fault.split("/")
    planted = tomllib.loads((ROOT / "corpus" / protocol / "sinners" / f"{name}.toml").read_text())
    settings = tomllib.loads((ROOT / "corpus" / protocol / "protocol.toml").read_text())
    role = planted["role"]
    wanted = {planted["requirement"], settings["survival"].get(role)}
    with tempfile.TemporaryDirectory() as folder:
        # A program that dies is started anew by the campaign.
        command = f"{flowproof} serve {protocol} --role {role} --sinner {name} --listen 127.0.0.1:{{port}}"
        setup = ROOT / "corpus" / protocol / "setup.toml"
        if setup.exists():
            command += f" --setup {setup}"
        began = time.monotonic()
        fuzz = [flowproof, "fuzz", protocol, "--exec", command, "--role", role, "--only-changed"]
        fuzz += ["--time", f"{MINUTE}s", "--findings", "1", "--seed", "7", "--jobs", "1", "--out", folder]
        campaign = subprocess.run(fuzz, capture_output=True, text=True)
        took = time.monotonic() - began
        found = [
            (one, flow)
            for flow in sorted(pathlib.Path(folder, "findings").glob("*.flow"))
            for one in [json.loads(flow.with_suffix(".json").read_text())]
            if one["identity"]["rule"] in wanted and one["standing"] in ("confirmed", "once")
        ]
        if not found:
            return f"not found in {took:.0f} s\n{campaign.stdout}{campaign.stderr}"
        finding, flow = found[0]
        for faulty in (True, False):
            more = ["--sinner", name] if faulty else []
            program, url = serve(flowproof, protocol, role, *more)
            try:
                again = test(flowproof, protocol, role, flow, url)
            finally:
                stop(program)
            if (again.returncode == 0) == faulty:
                whom = "the faulty server" if faulty else "an honest server"
                return f"{flow.read_text()}ends with {again.returncode} against {whom}\n{again.stdout}"
        sent = sum(1 for line in flow.read_text().splitlines() if "->" in line)
        print(f"{fault}: {finding['identity']['rule']} after {took:.1f} s, {sent} messages in the flow", flush=True)
    return None


def main():
    flowproof, faults = sys.argv[1], sys.argv[2:] or FAULTS
    missed = {fault: why for fault in faults if (why := find(flowproof, fault))}
    for fault, why in missed.items():
        print(f"{fault}: {why}")
    sys.exit(bool(missed))


main()
