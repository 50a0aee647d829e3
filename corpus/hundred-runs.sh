#!/bin/bash
# Every flow of ptpchat so often over real sockets, against the reference: hundred-runs.sh [FLOWPROOF [TIMES [JOBS]]]
# All six pairs of edition and role run at once, which keeps the machine busy: with 17 TIMES each, the protocol runs 102
# times in half an hour. Nobody may be accused, whatever the clock does. A flow that did not end alike every time is told
# as racy, and is inconclusive.
set -u
flowproof=${1:-flowproof} times=${2:-17} jobs=${3:-16} wrong=0 running=()
for edition in seed udp-2016-03 tcp-2016-04; do
  for role in node server; do
    where='--listen 127.0.0.1:{port}'
    if [ "$role $edition" = 'node tcp-2016-04' ]; then where='--url {url}'; fi
    (
      "$flowproof" test ptpchat --quiet --strict --role "$role" --edition "$edition" --repeat "$times" --jobs "$jobs" \
        --exec "$flowproof serve ptpchat --role $role --edition $edition $where" || { echo "WRONG $role $edition"; exit 1; }
    ) &
    running+=($!)
  done
done
for one in "${running[@]}"; do wait "$one" || wrong=1; done
exit $wrong
