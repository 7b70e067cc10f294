#!/bin/sh
# Torments bitnet-train and checks that nothing is lost; docs/reliability.md has
# the figures of earlier runs.
#
#   scripts/reliability.sh kill [N]        N kills (200) each with SIGKILL and SIGTERM
#   scripts/reliability.sh faults [K [WORK]]
#                                          every allocation and file operation, and every K-th (1)
#                                          HDF5 call, failing once; of WORK alone ("export*", say)
#   scripts/reliability.sh full            a real, small, full disk (needs root for mount)
#   scripts/reliability.sh soak [MINUTES]  (30) training with checkpoints, evaluation and pauses
#
# BITNET_BUILD names a build tree (build/); what is written goes below it.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=${BITNET_BUILD:-$root/build}
build=$(cd "$build" && pwd)
work=$build/reliability-${1:-none}
export BITNET_SOURCE_DIR="$root" BITNET_BIN_DIR="$build/bin"
mkdir -p "$work"
cd "$work"
case ${1:-none} in
kill)
    BITNET_KILLS=${2:-200} exec "$build/bin/tests/test_train_kill"
    ;;
faults)
    export BITNET_FAULT_STRIDE="${2:-1}"
    exec "$build/bin/tests/test_train_faults" ${3:+"$3"}
    ;;
full)
    exec unshare -m "$root/tests/reliability/full_disk.sh"
    ;;
soak)
    exec python3 "$root/tests/reliability/soak.py" --minutes "${2:-30}"
    ;;
*)
    echo "usage: $0 kill [N] | faults [K [WORK]] | full | soak [MINUTES]" >&2
    exit 2
    ;;
esac
