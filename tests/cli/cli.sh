# shellcheck shell=sh
# shellcheck disable=SC2154 # $bin is the caller's
# cli.sh - sourced by the tests of command lines, which set $bin: running a
# program, what is expected of it, and a small training to do it on.

failures=0
unset OPENBLAS_CORETYPE

run() { # run NAME ARGS...: bitnet-NAME; $status; stdout in o, stderr in e
    program=bitnet-$1
    shift
    command="$program $*"
    "$bin/$program" "$@" >o 2>e </dev/null
    status=$?
}

fail() {
    failures=$((failures + 1))
    printf 'FAILED: %s: %s\n--- stdout:\n%s\n--- stderr:\n%s\n' "$command" "$1" \
        "$(head -c 2000 o)" "$(head -c 2000 e)"
}

expect() { # expect STATUS TEXT...: exit status, and each text in stderr
    want=$1
    shift
    [ "$status" -eq "$want" ] || fail "exit status $status, expected $want"
    for text in "$@"; do
        grep -qF -- "$text" e || fail "stderr lacks: $text"
    done
}

stdout_has() {
    for text in "$@"; do
        grep -qF -- "$text" o || fail "stdout lacks: $text"
    done
}

refused() { # refused STATUS TEXT...: that, one line of stderr, nothing on stdout
    expect "$@"
    [ "$(wc -l <e)" -eq 1 ] || fail "the message is not one line"
    [ ! -s o ] || fail "stdout is not empty"
    grep -q "^$program: " e || fail "the message does not start with the program's name"
}

number() { # number KEY FILE: of a JSON with one key a line
    sed -n "s/^ *\"$1\": \([-0-9.e+]*\),*$/\1/p" "$2" | head -1
}

# Of two numbers; one that is not there fails.
below() { # below A B
    [ -n "$1" ] && [ -n "$2" ] && awk "BEGIN { exit !($1 < $2) }" || fail "'$1' is not below '$2'"
}
same() { # same A B: within 1e-6
    [ -n "$1" ] && [ -n "$2" ] && awk "BEGIN { d = $1 - $2; exit !(d * d < 1e-12) }" ||
        fail "'$1' is not '$2'"
}

make_text() { # make_text LINES: on stdout
    i=0
    while [ $i -lt "$1" ]; do
        echo "line $i: the river runs over stones and under the mountain"
        i=$((i + 1))
    done
}

# 9 kB of text, and a configuration that trains on it in well under a second.
make_training() { # make_training CONFIG: that file, and text.txt
    make_text 150 >text.txt
    cat >"$1" <<'JSON'
{ "model": { "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
             "num_attention_heads": 2, "max_position_embeddings": 16 },
  "quantization": { "group_size": 32 },
  "data": { "train": "text.txt" },
  "training": { "seq_len": 16, "batch_size": 2, "max_steps": 12, "warmup_steps": 2,
                "log_interval": 4, "eval_interval": 6 },
  "output_dir": "out" }
JSON
}

finish() { # the end of a test
    [ "$failures" -eq 0 ] && exit 0
    echo "$failures failures"
    exit 1
}
