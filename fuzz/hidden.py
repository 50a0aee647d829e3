#!/usr/bin/env python3
"""Faults that only a wrong sequence or a hostile value reveals, over the network.

Each is planted in a program of ours (`flowproof serve --sinner`). `flowproof fuzz` has to find it from nothing within a
minute; the flow that it writes has to fail against that program, and to pass against one without the fault, so that
nothing else can be what it shows.

    fuzz/hidden.py [--at-once N] FLOWPROOF [PROTOCOL/FAULT ...]
"""

import argparse
import concurrent.futures
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
FAULTS = {
    "clusterio": [
        "dies-on-malformed",
        "dies-on-wire-error",
        "master-wants-successors",
        "serves-unregistered",
        "slave-wants-successors",
    ],
    "cow": [
        "dies-of-bad-json",
        "dies-of-bad-frames",
        "dies-of-binary",
        "passes-forged",
        "passes-made-up-notices",
    ],
    "hangout": [
        "claimed-sender-kept",
        "dies-of-bad-json",
        "dies-of-deep-nesting",
        "dies-of-wrong-shape",
        "own-types-relayed",
    ],
    "polfan": [
        "closes-after-error",
        "errors-for-all",
        "errors-without-ref",
        "events-as-commands",
        "keeps-null-refs",
    ],
    "ptpchat": [
        "deaf-after-bad-input",
        "dies-of-bad-field",
        "dies-of-bad-head",
        "dies-of-channel",
        "dies-of-malformed",
    ],
}
# What a campaign may take.
MINUTE = 60


def serve(flowproof, protocol, role, settings, *more):
    """The command that starts a program of ours, as `--exec` takes it."""
    known = next(one for one in settings["role"] if one["name"] == role)
    edition = settings.get("default-edition")
    listens = known.get("listens", False) or settings["transport"]["kind"] == "udp"
    place = "--listen 127.0.0.1:{port}" if listens else "--url {url}"
    command = [flowproof, "serve", protocol, "--role", role, place, *more]
    setup = ROOT / "corpus" / protocol / "setup.toml"
    if setup.exists():
        command += ["--setup", str(setup)]
    return " ".join(command)


def find(flowproof, fault):
    """What is to be told of a fault, and whether all is well."""
    protocol, name = fault.split("/")
    planted = tomllib.loads((ROOT / "corpus" / protocol / "sinners" / f"{name}.toml").read_text())
    settings = tomllib.loads((ROOT / "corpus" / protocol / "protocol.toml").read_text())
    role = planted["role"]
    faulty = serve(flowproof, protocol, role, settings, "--sinner", name)
    honest = serve(flowproof, protocol, role, settings)
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        fuzz = [flowproof, "fuzz", protocol, "--exec", faulty, "--role", role, "--only-changed"]
        fuzz += ["--time", f"{MINUTE}s", "--findings", "1", "--seed", "7", "--jobs", "1", "--out", folder]
        campaign = subprocess.run(fuzz, capture_output=True, text=True)
        took = time.monotonic() - began
        found = [
            (one, flow)
            for flow in sorted(pathlib.Path(folder, "findings").glob("*.flow"))
            for one in [json.loads(flow.with_suffix(".json").read_text())]
            if one["standing"] in ("confirmed", "once")
        ]
        if not found:
            return f"{fault}: not found in {took:.0f} s\n{campaign.stdout}{campaign.stderr}", False
        finding, flow = found[0]
        for command, whom in [(faulty, "the faulty one"), (honest, "an honest one")]:
            # What only should be counts, too.
            test = [flowproof, "test", protocol, "--exec", command, "--role", role, "--strict", "--flow", str(flow)]
            again = subprocess.run(test, capture_output=True, text=True)
            if (again.returncode == 0) == (command == faulty):
                text = f"{flow.read_text()}ends with {again.returncode} against {whom}\n{again.stdout}{again.stderr}"
                return f"{fault}: {text}", False
        sends = finding.get("sends", sum(1 for line in flow.read_text().splitlines() if "->" in line))
        return f"{fault}: {finding['identity']['rule']} after {took:.1f} s, {sends} messages", True


def main():
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("flowproof", type=lambda path: str(pathlib.Path(path).resolve()))
    words.add_argument("--at-once", type=int, default=2)
    words.add_argument("faults", nargs="*")
    words = words.parse_intermixed_args()
    every = [f"{protocol}/{name}" for protocol, names in FAULTS.items() for name in names]
    missed = 0
    with concurrent.futures.ThreadPoolExecutor(words.at_once) as pool:
        for text, well in pool.map(lambda fault: find(words.flowproof, fault), words.faults or every):
            print(text, flush=True)
            missed += not well
    sys.exit(bool(missed))


main()
