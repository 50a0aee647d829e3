#!/usr/bin/env python3
"""Tests the foreign peers of the corpus: check-peers.py [--flowproof PATH] [--nightly] [PROTOCOL[/NAME]]...

Each `PROTOCOL/peers/rows.toml` says which program plays a role, and in rows what is to be said of it: a conforming peer
and a lawful variant are accused of nothing, a planted fault is reported under its requirement and no other. Prints one
line for each row; the exit status is 1 when a row is wrong. Rows that take long or add little wait for --nightly.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import shlex
import subprocess
import sys
import time
import tomllib

CORPUS = pathlib.Path(__file__).resolve().parent


def rows(names):
    """The rows that the names of the command line pick, each with its protocol and the program of its role."""
    for file in sorted(CORPUS.glob("*/peers/rows.toml")):
        protocol = file.parent.parent.name
        table = tomllib.loads(file.read_text(encoding="utf-8"))
        for row in table["row"]:
            label = f"{protocol}/{row['name']}"
            if not names or any(label == name or label.startswith(f"{name}/") or name in label.split("/")[1:]
                                for name in names):
                yield {**table["role"][row["role"]], **row, "protocol": protocol, "label": label, "folder": file.parent}


def run(arguments, row):
    """Whether flowproof says of a peer what its row says, and a line about it."""
    script, *rest = shlex.split(row["program"]) + shlex.split(row.get("switches", ""))
    # Holes such as {port} stay as they are: flowproof fills them.
    program = shlex.join([arguments.python, str(row["folder"] / script)]) + "".join(
        f" {word}" if word.startswith("{") else f" {shlex.quote(word)}" for word in rest)
    command = [arguments.flowproof, "test", row["protocol"], "--role", row["role"], "--exec", program, "--format", "json",
               "--jobs", str(arguments.jobs)]
    command += ["--edition", row["edition"]] if "edition" in row else []
    command += ["--driver", row["driver"]] if "driver" in row else []
    for part in row.get("filter", []):
        command += ["--filter", part]
    for name, value in row.get("variables", {}).items():
        command += ["--var", f"{name}={value}"]
    began = time.monotonic()
    ran = subprocess.run(command, capture_output=True, text=True)
    try:
        report = json.loads(ran.stdout)
    except ValueError:
        return False, f"no report, exit status {ran.returncode}: {ran.stderr.strip()}"
    if arguments.reports:
        os.makedirs(arguments.reports, exist_ok=True)
        name = row["label"].replace("/", "-") + ".json"
        pathlib.Path(arguments.reports, name).write_text(ran.stdout, encoding="utf-8")
    flows = report["flows"]
    accused = {finding["requirement"] for flow in flows for finding in flow["findings"]
               if finding["verdict"] == "broken"}
    accused = {str(requirement) for requirement in accused}
    breaks, may = set(row.get("breaks", [])), set(row.get("may", []))
    says = []
    if missed := breaks - accused:
        says.append("MISSED " + " ".join(sorted(missed)))
    if stray := accused - breaks - may:
        says.append("STRAY " + " ".join(sorted(stray)))
    if not breaks:
        unclear = [flow for flow in flows if flow["verdict"] in ("error", "inconclusive")]
        says += [f"{flow['verdict'].upper()} {flow['name']}: {flow['reason']}" for flow in unclear[:3]]
    if ran.returncode not in (0, 1):
        says.append(f"exit status {ran.returncode}: {ran.stderr.strip()}")
    about = " ".join(sorted(accused)) or "nobody accused"
    about += f"  ({report['summary']['pass']} pass, {time.monotonic() - began:.0f} s)"
    return not says, "; ".join([about, *says])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="hangout, hangout/fault/no-echo, fault ...")
    parser.add_argument("--flowproof", default="flowproof", help="the command [default: flowproof]")
    parser.add_argument("--python", default=sys.executable, help="a Python with the packages of requirements.txt")
    parser.add_argument("--jobs", type=int, default=16, help="flows side by side in each run")
    parser.add_argument("--runs", type=int, default=1, help="runs side by side")
    parser.add_argument("--reports", metavar="DIR", help="keep the JSON reports here")
    parser.add_argument("--nightly", action="store_true", help="all rows")
    arguments = parser.parse_args()
    wanted = [row for row in rows(arguments.names) if arguments.nightly or arguments.names or not row.get("nightly")]
    if not wanted:
        sys.exit("no row has such a name")
    wrong = 0
    with concurrent.futures.ThreadPoolExecutor(arguments.runs) as pool:
        for row, (right, about) in zip(wanted, pool.map(lambda row: run(arguments, row), wanted)):
            wrong += not right
            print(f"{'ok   ' if right else 'WRONG'}  {row['label']:<44} {about}", flush=True)
    print(f"{len(wanted)} rows, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
