#!/bin/sh
# Pages generated from tables must be what the program prints now.
set -eu
train=$BITNET_BIN_DIR/bitnet-train
status=0
check() { # check FILE OPTION
    "$train" "$2" >now.txt
    if ! diff -u "$BITNET_SOURCE_DIR/$1" now.txt; then
        echo "$1 is out of date: build/bin/bitnet-train $2 >$1" >&2
        status=1
    fi
}
check docs/config.md --config-reference
check docs/config.schema.json --config-schema
exit $status
