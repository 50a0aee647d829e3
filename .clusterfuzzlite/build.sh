#!/bin/bash -eu
cd "$SRC/flowproof"
fuzz/build.sh
