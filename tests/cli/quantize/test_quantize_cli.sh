#!/bin/sh
# From a float model to a ternary one: bitnet-quantize, then bitnet-train
# --init-from, bitnet-eval and bitnet-export on what it wrote.
# usage: test_quantize_cli.sh BIN_DIR TESTS_DIR (in a scratch folder)
set -u

bin=$1
tests=$2
. "$tests/cli/cli.sh"

rm -rf float out tuned taught again resumed other ./*.h5 ./*.json text.txt
make_training config.json
"$bin/bitnet-train" config.json --quiet --output-dir float --max-steps 60 \
    --set training.learning_rate=0.01 --set quantization.weight_bits=none >/dev/null || exit 1
"$bin/bitnet-train" config.json --quiet --max-steps 2 >/dev/null || exit 1

# ---- the methods: each better than the one before, on what calibrates them ----
error_sum() {
    sed -n 's/^ *"error": \([-0-9.e+]*\),*$/\1/p' o | awk '{ s += $1 } END { print s }'
}
last=1000
for method in rtn calibrated gptq; do
    run quantize float -o $method.h5 --method $method --calibration text.txt --json
    expect 0 'error of its output' "with $method" '7 ternary layers'
    below "$(error_sum)" "$last"
    last=$(error_sum)
    loss=$(number loss_after o)
    below "$(number loss_before o)" "$loss"
    # The checkpoint, and the packed file of it, have the loss that was reported.
    run export $method.h5 -o packed.h5 --quiet
    expect 0
    for file in $method.h5 packed.h5; do
        run eval $file --validation-split --json
        expect 0
        same "$(number loss o)" "$loss"
    done
done
cp gptq.h5 before.h5
run quantize float -o gptq.h5 --calibration text.txt --threads 1 --quiet
expect 0
loss_of() { # loss_of MODEL: on what training held out
    "$bin/bitnet-eval" "$1" --validation-split --json | grep '"loss"'
}
printed=$(loss_of before.h5)
[ -n "$printed" ] && [ "$(loss_of gptq.h5)" = "$printed" ] ||
    fail "another number of threads gives another model"
run quantize float -o row.h5 --method rtn --set quantization.weight_scale=row
expect 0 'error of its weight'

# ---- going on from it ----
run train config.json --init-from gptq.h5 --output-dir tuned --max-steps 20 --quiet
expect 0
below "$(number val_loss o)" "$loss"
run train config.json --init-from float --output-dir tuned --overwrite --max-steps 1 --quiet
expect 0
run train config.json --init-from out --output-dir tuned --resume auto --max-steps 3 --quiet
expect 0
run train config.json --init-from float --output-dir other --set model.intermediate_size=96
expect 78 'mlp.gate_proj.weight: expected [96, 32] as the config asks, found [64, 32]'
[ ! -e other/config.json ] || fail "the folder was taken"
run train config.json --init-from packed.h5 --output-dir other
expect 65 'packed.h5: a packed model has no shadow weights'
run train config.json --init-from float --output-dir other --set adapter.base=gptq.h5
expect 78 'training.init_from: expected null with adapter.base'
run train config.json --init-from nowhere --output-dir other
expect 66 nowhere

# ---- with a teacher ----
taught() { # taught FOLDER OPTION...: a run in which the float model teaches
    folder=$1
    shift
    run train config.json --init-from gptq.h5 --output-dir "$folder" --overwrite --max-steps 20 \
        --quiet --set distillation.teacher=float --set distillation.hidden_weight=0.5 \
        --set distillation.attention_weight=0.5 "$@"
}
same_result() { # same_result A B: steps and held-out loss of two runs
    for key in steps val_loss train_loss; do
        first=$(number $key "$1/summary.json")
        [ -n "$first" ] && [ "$first" = "$(number $key "$2/summary.json")" ] ||
            fail "$key of $1 and $2 differ"
    done
}
taught taught --threads 1
expect 0
below "$(number val_loss o)" "$loss"
taught again --threads 3
expect 0
same_result taught again
taught resumed --stop-after 9
expect 75
run train config.json --init-from gptq.h5 --output-dir resumed --resume auto --max-steps 20 \
    --quiet --set distillation.teacher=float --set distillation.hidden_weight=0.5 \
    --set distillation.attention_weight=0.5
expect 0
same_result taught resumed
run train config.json --output-dir other --overwrite --max-steps 2 --quiet \
    --set distillation.teacher=packed.h5
expect 0
# A model has nothing to learn from itself.
first_loss() { # first_loss OPTION...: of the float model's first step
    run train config.json --init-from float --output-dir other --overwrite --max-steps 1 --quiet \
        --set quantization.weight_bits=none "$@"
    expect 0
    number train_loss o
}
alone=$(first_loss)
with_itself=$(first_loss --set distillation.teacher=float --set distillation.hidden_weight=1)
same "$with_itself" "$alone"
relations() { # relations OPTION...: the first loss with the other model's relations
    first_loss --set distillation.teacher=gptq.h5 --set distillation.logits_weight=0 \
        --set distillation.attention_weight=1 "$@"
}
last=$(relations)
below "$alone" "$last"
[ "$(relations --set distillation.attention_layer=0)" = "$last" ] || fail "layer 0 is not the last"
below "$last" "$(relations --set distillation.attention_weight=2)"
[ "$(relations --set distillation.attention_heads=4)" != "$last" ] || fail "heads make no difference"
same "$(first_loss --set distillation.teacher=float --set distillation.attention_weight=1)" "$alone"

teacher() { # teacher STATUS TEXT OPTION...: refused
    want=$1 text=$2
    shift 2
    run train config.json --output-dir other --overwrite --max-steps 1 \
        --set distillation.teacher=float "$@"
    expect "$want" "$text"
}
teacher 66 'distillation.teacher: nowhere' --set distillation.teacher=nowhere
teacher 78 'expected logits_weight, hidden_weight or attention_weight above 0' --set distillation.logits_weight=0
teacher 78 'has hidden_size 32' --set model.hidden_size=64 --set distillation.hidden_weight=1
teacher 78 'attention_layer: expected a layer of both models, found 1' \
    --set distillation.attention_weight=1 --set distillation.attention_layer=1
teacher 78 'attention_heads: expected a divisor of 32' \
    --set distillation.attention_weight=1 --set distillation.attention_heads=5
teacher 78 'has 16 positions' --set model.max_position_embeddings=32 --set training.seq_len=32
teacher 78 'gives 256 logits' --set model.vocab_size=300

if "$bin/bitnet-train" --list-devices | grep -q '^opencl'; then
    teacher 2 'no kernel for distill_kl' --device opencl
fi

# ---- the command line ----
run quantize --help
expect 0
stdout_has 'Usage: bitnet-quantize' --method 'Exit codes'
run quantize
refused 2 --help
run quantize float
refused 2 '-o FILE'
run quantize float -o x.h5 --method best
refused 2 'rtn, calibrated or gptq'
run quantize float -o x.h5 --tokens 0
refused 2 '--tokens 0'
run quantize float -o x.h5 --damping -1
refused 2 '--damping -1'
run quantize out -o x.h5
refused 65 'quantization.weight_bits: expected none, found ternary'
run quantize float -o x.h5 --set quantization.weight_bits=none
refused 78 'expected ternary layers, found none'
run quantize float -o x.h5 --set 'quantization.rules=[{"match":"q_prj","group_size":32}]'
refused 78 'quantization.rules[0].match: "q_prj" matches none'
run quantize float -o x.h5 --calibration nowhere.txt
refused 66 nowhere.txt
run quantize float -o out
refused 2 'is a folder'
[ ! -e x.h5 ] || fail "a refused request left a file"
finish
