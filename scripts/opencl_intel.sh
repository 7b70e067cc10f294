#!/bin/bash
# opencl_intel.sh [BUILD [TEST...]] - the OpenCL tests on a second implementation:
# Intel's runtime for CPUs, from PyPI (833 MB the first time), in a virtual
# environment below BUILD. The system's drivers are left out. Results:
# docs/opencl.md.
set -euo pipefail
build=$(cd "${1:-build}" && pwd)
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- opencl_backend opencl_parity opencl_products opencl_train opencl_fallback
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$build/venv-opencl-intel
work=$build/tests-tmp/opencl-intel

if [ ! -e "$venv/lib/libintelocl.so" ]; then
    python3 -m venv "$venv"
    # the second holds libraries that the first needs and does not ask for
    "$venv/bin/pip" install --quiet 'intel-opencl-rt==2026.2.0' 'intel-cmplr-lib-rt==2026.2.0'
fi
mkdir -p "$work/vendors" "$work/cache"
echo "$venv/lib/libintelocl.so" >"$work/vendors/intel.icd"
export OCL_ICD_VENDORS=$work/vendors BITNET_CACHE_DIR=$work/cache
export LD_LIBRARY_PATH=$venv/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export BITNET_SOURCE_DIR=$root BITNET_BIN_DIR=$build/bin
cd "$work"

"$build/bin/bitnet-train" --list-devices | grep '^opencl:' || {
    echo "opencl_intel.sh: the runtime offers no device" >&2
    exit 69
}
failed=0
for name; do
    if "$build/bin/tests/$name" >"$name.log" 2>&1; then
        echo "passed $name"
    else
        echo "FAILED $name, see $work/$name.log"
        failed=1
    fi
done
exit $failed
