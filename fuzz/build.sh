#!/usr/bin/env bash
# Builds every fuzz target into $OUT, each with its seed corpus and its dictionary, as OSS-Fuzz and ClusterFuzzLite want
# it. Runs in their containers and without: then OUT is a folder of your choice, and nightly Rust and cargo-fuzz must be
# there. SANITIZER is `address` (by default), `none`, or what else cargo-fuzz knows.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${OUT:?name the folder for the programs: OUT=DIR fuzz/build.sh}"
mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)

toolchain=()
if [ -z "${RUSTUP_TOOLCHAIN:-}" ] && [ -z "${FUZZING_ENGINE:-}" ]; then toolchain=(+nightly); fi
cargo "${toolchain[@]}" fuzz build --fuzz-dir fuzz --features libfuzzer -O --sanitizer "${SANITIZER:-address}"

built=${CARGO_TARGET_DIR:-target}/$(rustc -vV | sed -n 's/^host: //p')/release
seeds=$(mktemp -d)
trap 'rm -rf "$seeds"' EXIT
FLOWPROOF_SEEDS="$seeds" "$built/flow_parser"
for target in $(cargo "${toolchain[@]}" fuzz list --fuzz-dir fuzz); do
    cp "$built/$target" "$OUT/$target"
    if [ -d "$seeds/$target" ]; then
        (cd "$seeds/$target" && python3 -m zipfile -c "$OUT/${target}_seed_corpus.zip" ./*)
    fi
    if [ -f "$seeds/$target.dict" ]; then cp "$seeds/$target.dict" "$OUT/$target.dict"; fi
done
