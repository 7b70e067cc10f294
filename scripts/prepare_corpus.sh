#!/bin/bash
# prepare_corpus.sh [FILE] - the default training text, data/kjv.txt: the King
# James text of Debian's package bible-kjv, one verse per line, references
# stripped, 7-bit ASCII. Does nothing when the file is there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/setup.sh

out=${1:-data/kjv.txt}
first='In the beginning God created the heaven and the earth.'
least=4000000

if [ -s "$out" ]; then
    echo "$out is there: $(wc -c <"$out") bytes"
    exit 0
fi

other_text() {
    fail "$BITNET_EXIT_NO_INPUT" "$1" \
        "any text of a megabyte or more does as well:" \
        "bitnet-train configs/small.json --set data.train=FILE" \
        "BITNET_QUICKSTART_ARGS='--set data.train=FILE' ./quickstart.sh"
}

if ! command -v bible >/dev/null 2>&1; then
    command -v apt-get >/dev/null 2>&1 || other_text "no package bible-kjv on this system"
    install_packages bible-kjv || other_text "the package bible-kjv could not be installed"
fi

mkdir -p "$(dirname "$out")"
temporary=$(mktemp "$out.XXXXXX")
trap 'rm -f "$temporary"' EXIT

# "Ge1:1 In the beginning ...", "1Sm1:1 Now there was ..."; not a terminal on
# either side, so no pager and no line editing.
LC_ALL=C TERM=dumb PAGER=cat bible -f gen1:1-rev22:21 </dev/null |
    LC_ALL=C sed -E 's/^[1-3]?[A-Za-z]+[0-9]+:[0-9]+ //; s/[[:space:]]+$//' >"$temporary" ||
    other_text "the command bible failed"

[ "$(head -n 1 "$temporary")" = "$first" ] ||
    other_text "unexpected output of the command bible: first line '$(head -n 1 "$temporary")'"
[ "$(wc -c <"$temporary")" -gt "$least" ] ||
    other_text "unexpected output of the command bible: $(wc -c <"$temporary") bytes, not over $least"
! LC_ALL=C grep -q '[^ -~]' "$temporary" ||
    other_text "unexpected output of the command bible: not plain ASCII"
! LC_ALL=C grep -qE '^[1-3]?[A-Za-z]+[0-9]+:[0-9]+' "$temporary" ||
    other_text "unexpected output of the command bible: verse references left over"

chmod 644 "$temporary"
mv "$temporary" "$out"
trap - EXIT
echo "$out written: $(wc -l <"$out") lines, $(wc -c <"$out") bytes"
