#!/bin/sh
# Adapters from the command line: trained over a base, used, written alone and for
# PEFT, merged; and what is refused.
# usage: test_adapter_cli.sh BIN_DIR TESTS_DIR (in a scratch folder)
set -u

bin=$1
tests=$2
. "$tests/cli/cli.sh"

rm -rf out other first second peft residual learned still ./*.h5 ./*.json text.txt new.txt
make_training config.json
"$bin/bitnet-train" config.json --quiet --max-steps 60 --set training.learning_rate=0.01 \
    >/dev/null || exit 1
"$bin/bitnet-train" config.json --quiet --output-dir other --seed 7 >/dev/null || exit 1
sed 's/river/train/; s/stones/rails/' text.txt >new.txt

loss_of() { # loss_of MODEL [ARGS...]: on new.txt
    run eval "$@" --data new.txt --json
    expect 0
    loss=$(number loss o)
}

# ---- training ----
run train config.json --base out --output-dir first --max-steps 60 --quiet \
    --set training.learning_rate=0.02 --set adapter.r=4 --set data.train=new.txt
expect 0
stdout_has '"trainable_parameters": 2176' # 4 * (4 * (32 + 32) + 3 * (32 + 64))
run train config.json --base out --set adapter.r=4 --dry-run
expect 0 'adapters              2176'

# ---- in use ----
loss_of out
before=$loss
loss_of out --adapter first
adapted=$loss
below "$adapted" "$before"
run export out -o packed.h5 --quiet
expect 0
loss_of packed.h5 --adapter first
same "$loss" "$adapted"
run generate out --adapter first -p 'line 3' -n 8 --greedy --quiet
expect 0
run train config.json --base out --output-dir second --max-steps 20 --quiet --seed 9 \
    --set training.learning_rate=0.02 --set adapter.target_modules=q_proj
expect 0
loss_of out --adapter second
second=$loss
loss_of out --adapter first --adapter second # the sum
[ "$loss" != "$adapted" ] && [ "$loss" != "$second" ] || fail "the sum is one of them"
loss_of out --adapter first --adapter second:0
same "$loss" "$adapted"
loss_of out --adapter first:0.0 --adapter second:1
same "$loss" "$second"
loss_of packed.h5 --adapter first:0.5 --adapter second:-2e-1
run generate out --adapter first --adapter second:0.5 -p 'line 3' -n 8 --greedy --quiet
expect 0
cp -r first first:0 # a path, not a factor
loss_of out --adapter first:0
same "$loss" "$adapted"
rm -r first:0
run eval out --adapter first --adapter second:x --data new.txt
refused 66 'second:x'
run generate out --adapter missing -p x -n 1
refused 66 missing

# ---- alone, and for PEFT ----
run adapter first --base out -o first.h5
expect 0 'first.h5: 2176 parameters, rank 4, base SHA-256'
run adapter first.h5 --base packed.h5 -o peft --format peft --quiet
expect 0
run adapter peft --base out -o back.h5 --quiet --json
expect 0
stdout_has '"parameters": 2176'
for adapter in first.h5 peft back.h5; do
    loss_of out --adapter $adapter
    same "$loss" "$adapted"
done

# ---- merged ----
run adapter first --base out -o merged.h5 --format merged --data new.txt --json
expect 0 'loss on new.txt: base '
same "$(number base_loss o)" "$before"
same "$(number adapter_loss o)" "$adapted"
merged=$(number merged_loss o)
below "$merged" "$before"
loss_of merged.h5
same "$loss" "$merged"
run export merged.h5 -o merged.packed.h5 --quiet
expect 0
loss_of merged.packed.h5
same "$loss" "$merged"

# Learned scales and wide codes are in the packed base only: with no change to add,
# the merged model is the base.
wide='--set quantization.weight_bits=4 --set quantization.scale_estimator=learned'
# shellcheck disable=SC2086 # several words
{
    run train config.json --output-dir learned --quiet $wide
    expect 0
    run export learned -o learned.h5 --quiet
    expect 0
    run train config.json --base learned.h5 --output-dir still --max-steps 1 --quiet $wide \
        --set training.learning_rate=0
    expect 0
}
run adapter still --base learned.h5 -o same.h5 --format merged --json
expect 0
same "$(number merged_loss o)" "$(number base_loss o)"
[ ! -e same.h5.unverified ] || fail "a temporary file is left"

# ---- resumed over the same base in another file ----
run train config.json --base out --output-dir residual --stop-after 3 --quiet \
    --set adapter.init_lora_weights=residual
expect 75
run train config.json --base packed.h5 --output-dir residual --resume auto --quiet \
    --set adapter.init_lora_weights=residual
expect 0

# ---- refusals ----
run eval other --adapter first --data new.txt
refused 65 'is not the model that the adapter was trained on'
run adapter first.h5 --base other -o x.h5
refused 65 'is not the model that the adapter was trained on'
run adapter peft --base other -o x.h5
refused 65 'is not the model that the adapter was trained on'
run eval first --data new.txt
refused 65 'holds adapters, no model'
run eval out --adapter other --data new.txt
refused 65 'holds a model, no adapters'
run train config.json --base missing --output-dir x
expect 66 missing
run train config.json --base out --output-dir x --set adapter.target_modules=nothing
expect 78 'adapter.target_modules'
run train config.json --base packed.h5 --output-dir x --set adapter.init_lora_weights=residual
expect 78 'packed.h5 is a packed file'
run train config.json --base out --output-dir x --set model.hidden_size=64
expect 78 'model.hidden_size: expected 32, as the base'
run adapter first -o x.h5
refused 2 '--base MODEL is missing'
run adapter first --base out
refused 2 '-o PATH is missing'
run adapter first --base out -o x.h5 --format gguf
refused 2 'expected hdf5, peft or merged'
run adapter first --base out -o out
refused 2 'is a folder'
run adapter first --base out -o x.h5 --data new.txt
refused 2 '--data goes with --format merged'
[ ! -e x.h5 ] || fail "a refused request left a file"
finish
