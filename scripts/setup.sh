# shellcheck shell=bash
# shellcheck disable=SC2034 # the variables are for those who source this
# setup.sh - sourced by quickstart.sh, test.sh and prepare_corpus.sh: messages
# and installing what is missing. Defines functions only.

BITNET_EXIT_NO_INPUT=66  # the programs' exit codes: input missing,
BITNET_EXIT_NO_DEVICE=69 # something the machine has to offer is missing

step() {
    printf '\n==> %s\n' "$*"
}

fail() { # fail STATUS LINE...
    local status=$1
    shift
    printf 'error: %s\n' "$1" >&2
    shift
    [ $# -eq 0 ] || printf '       %s\n' "$@" >&2
    exit "$status"
}

# Tools count as installed however they came; libraries as dpkg says.
have_package() {
    case $1 in
    gcc | cmake | make | clang) ! command -v "$1" >/dev/null 2>&1 || return 0 ;;
    pkg-config) ! command -v pkg-config >/dev/null 2>&1 || return 0 ;;
    ninja-build) ! command -v ninja >/dev/null 2>&1 || return 0 ;;
    bible-kjv) ! command -v bible >/dev/null 2>&1 || return 0 ;;
    esac
    # shellcheck disable=SC2016 # dpkg-query's own placeholder
    dpkg-query -W -f='${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo -n env DEBIAN_FRONTEND=noninteractive "$@"
    fi
}

# install_packages PACKAGE...: returns 0 when all are there in the end. Needs
# neither network nor root when nothing is missing.
install_packages() {
    local missing=() package
    for package in "$@"; do
        have_package "$package" || missing+=("$package")
    done
    if [ ${#missing[@]} -eq 0 ]; then
        echo "installed already: $*"
        return 0
    fi
    if [ "$(id -u)" -ne 0 ] && ! sudo -n true 2>/dev/null; then
        echo "missing: ${missing[*]} (installing needs root: sudo apt-get install ${missing[*]})" >&2
        return 1
    fi
    echo "installing: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    as_root apt-get -qq update || echo "apt-get update failed, trying the lists there are" >&2
    as_root apt-get -qq install -y --no-install-recommends "${missing[@]}" </dev/null || return 1
    hash -r # commands that were looked up before
}

# What to install where there is no apt; the check is CMake's.
explain_other_system() {
    cat >&2 <<'TEXT'
This is not a Debian-like system (no apt-get), so nothing was installed. Needed:
  tools       gcc or clang (C11), cmake >= 3.22, make or ninja, pkg-config
  libraries   OpenBLAS, LAPACKE, HDF5 (C library, "hdf5.pc"), cJSON, PCRE2, utf8proc, an OpenCL ICD loader with headers
              (or -DBITNET_OPENCL=OFF)
  tests       cmocka, python3 with h5py and numpy, a CPU OpenCL driver such as PoCL
  text        any plain text file in place of Debian's bible-kjv:
              BITNET_QUICKSTART_ARGS='--set data.train=FILE' ./quickstart.sh
TEXT
}

# True when a build can be tried without apt.
have_build_tools() {
    local tool module
    for tool in cc cmake pkg-config; do
        command -v "$tool" >/dev/null 2>&1 || return 1
    done
    for module in openblas lapacke hdf5 libcjson libpcre2-8 libutf8proc OpenCL "$@"; do
        pkg-config --exists "$module" || return 1
    done
}

# require_packages PKG-CONFIG-MODULES -- PACKAGE...: stops with a message
# unless everything is there. The modules are what a system without apt is
# asked for beyond those of every build.
require_packages() {
    local modules=()
    while [ "$1" != -- ]; do
        modules+=("$1")
        shift
    done
    shift
    if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg-query >/dev/null 2>&1; then
        if have_build_tools "${modules[@]}"; then
            echo "no apt-get here, but the tools and libraries are installed"
            return 0
        fi
        explain_other_system
        exit "$BITNET_EXIT_NO_DEVICE"
    fi
    install_packages "$@" || fail "$BITNET_EXIT_NO_DEVICE" "packages could not be installed" \
        "needed: $*" "with root and a network: apt-get install $*"
}

BITNET_BUILD_PACKAGES=(gcc libc6-dev make cmake pkg-config libopenblas-dev liblapacke-dev libhdf5-dev libcjson-dev
    libpcre2-dev libutf8proc-dev ocl-icd-opencl-dev)
BITNET_TEST_PACKAGES=(libcmocka-dev clang python3 python3-venv python3-h5py python3-numpy pocl-opencl-icd
    oclgrind libsimde-dev gcc-aarch64-linux-gnu libc6-dev-arm64-cross gcc-arm-linux-gnueabihf
    libc6-dev-armhf-cross qemu-user strace valgrind)
