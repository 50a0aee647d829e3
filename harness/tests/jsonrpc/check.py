"""check.py FLOWPROOF: an existing server passes, and each fault of a wrong one is found under its requirement.

Run it with a Python that has the packages of requirements.txt.
"""

import json
import subprocess
import sys
from pathlib import Path

from wrong import FAULTS

HERE = Path(__file__).parent
# What a fault breaks besides: single answers to a batch look like answers to what nobody asked.
MAY = {"batch-one-by-one": {"JSONRPC-RESP-3"}}


def accused(flowproof, command):
    """What a run says is broken, and which flows could not be judged."""
    words = [flowproof, "--corpus", HERE / "jsonrpc", "test", "jsonrpc", "--exec", command, "--format", "json", "--jobs", "8"]
    ran = subprocess.run(words, capture_output=True, text=True)
    if ran.returncode not in (0, 1):
        sys.exit(f"{command}: exit code {ran.returncode}\n{ran.stdout}{ran.stderr}")
    report = json.loads(ran.stdout)
    findings = [
        (finding["requirement"], flow["name"], finding["message"])
        for flow in report["flows"]
        for finding in flow["findings"]
        if finding["verdict"] == "broken"
    ]
    unjudged = [flow["name"] for flow in report["flows"] if flow["verdict"] in ("inconclusive", "error", "skip")]
    return findings, unjudged, report["summary"]["pass"]


def main():
    flowproof = Path(sys.argv[1]).resolve()
    only = sys.argv[2:]
    wrong = 0
    for name in ["existing.py", "wrong.py"]:
        if only:
            break
        findings, unjudged, passed = accused(flowproof, f"{sys.executable} {HERE / name} {{port}}")
        print(f"{name}: {passed} flows passed")
        for finding in findings + unjudged:
            print("  ", finding)
        wrong += len(findings) + len(unjudged)
    for fault, requirement in FAULTS.items():
        if only and fault not in only:
            continue
        findings, _, _ = accused(flowproof, f"{sys.executable} {HERE / 'wrong.py'} {{port}} --fault {fault}")
        ids = {finding[0] for finding in findings}
        strays = ids - {requirement} - MAY.get(fault, set())
        said = "caught" if requirement in ids else "MISSED"
        print(f"{said}  {requirement:<18} {fault}{'  also accused: ' + ' '.join(sorted(strays)) if strays else ''}")
        for finding in findings:
            if finding[0] in strays:
                print("  ", finding)
        wrong += (requirement not in ids) + len(strays)
    if not only:
        # The same the other way round: faults planted in the server that keeps the rules.
        words = [flowproof, "--corpus", HERE / "jsonrpc", "sinners", "jsonrpc", "--exec", f"{sys.executable} {HERE / 'existing.py'} {{port}}"]
        wrong += subprocess.run(words).returncode
    sys.exit(1 if wrong else 0)


main()
