#!/bin/bash
# Every flow of ptpchat so often over real sockets, against the reference: hundred-runs.sh [FLOWPROOF [TIMES [JOBS]]]
# Run it while the machine is busy with other things: nobody may be accused, whatever the clock does. A flow that did
# not end alike every time is told as racy, and is inconclusive.
set -u
flowproof=${1:-flowproof} times=${2:-100} jobs=${3:-48} wrong=0
for edition in seed udp-2016-03 tcp-2016-04; do
  for role in node server; do
    where='--listen 127.0.0.1:{port}'
    if [ "$role $edition" = 'node tcp-2016-04' ]; then where='--url {url}'; fi
    "$flowproof" test ptpchat --quiet --strict --role "$role" --edition "$edition" --repeat "$times" --jobs "$jobs" \
      --exec "$flowproof serve ptpchat --role $role --edition $edition $where" || { wrong=1; echo "WRONG $role $edition"; }
  done
done
exit $wrong
