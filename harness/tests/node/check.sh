#!/usr/bin/env bash
# What flowproof writes, before the programs that read it: a browser, the AsyncAPI parser, a validator of JUnit's schema.
# check.sh PATH-OF-FLOWPROOF [FOLDER-FOR-SCREENSHOTS]; installs what it needs.
set -euo pipefail
flowproof=$(realpath "$1")
screenshots=${2:+$(realpath -m "$2")}
cd "$(dirname "$0")"

if ! command -v chromium >/dev/null || ! command -v xmllint >/dev/null; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends chromium libxml2-utils >/dev/null
fi
npm ci --ignore-scripts --no-audit --no-fund --silent

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# One run with failures, one without: both are valid.
"$flowproof" test hangout --role server --sinner closed-always-empty --format junit >"$scratch/red.xml" || [ $? -eq 1 ]
"$flowproof" test hangout --filter connect/ --format junit >"$scratch/green.xml"
xmllint --noout --schema ../report_formats/junit-10.xsd "$scratch/red.xml" "$scratch/green.xml"

# A picture of each flow of a protocol is XML.
"$flowproof" list hangout | sed -n 's/^  \([^ ]*\).*/\1/p' | while read -r flow; do
    "$flowproof" show hangout "$flow" --as svg >"$scratch/flow.svg"
    xmllint --noout "$scratch/flow.svg"
done

node asyncapi.mjs "$flowproof"
node mermaid.mjs "$flowproof"
node browser.mjs "$flowproof" ${screenshots:+"$screenshots"}
node har.mjs "$flowproof"
