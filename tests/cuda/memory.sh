#!/bin/sh
# usage: memory.sh PAC RUN_SH     what `estimate` says of a device's memory is what a run's ledger reaches there: never less, and within 5 %
set -u
pac=$1 run=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0
cat >"$dir/shape.json" <<JSON
{"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "vocab_size": 2000, "d_model": 256, "d_kv": 32, "d_ff": 512,
 "num_layers": 2, "num_decoder_layers": 2, "num_heads": 8, "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128,
 "layer_norm_epsilon": 1e-06, "feed_forward_proj": "relu", "tie_word_embeddings": true, "pad_token_id": 0, "eos_token_id": 1,
 "decoder_start_token_id": 0}
JSON
"$pac" init-model "$dir/shape.json" "$dir/model" --seed 1 >/dev/null || exit 1
awk 'BEGIN { srand(1); for (i = 0; i < 8; i++) { s = ""; for (j = 0; j < 24; j++) s = s (j ? "," : "") int(2 + rand() * 1900)
    print "{\"input_ids\":[" s "],\"labels\":[" int(2 + rand() * 1900) ", 1]}" } }' >"$dir/rows.jsonl"

# number KEY FILE: the largest value of that key
number() { grep -o "\"$1\": *[0-9]*" "$2" | sed 's/.*: *//' | sort -n | tail -1; }

try() { # PRECISION TECHNIQUE-AS-YAML CACHE-AS-YAML
    cat >"$dir/run.yaml" <<YAML
model: {path: $dir/model}
task: {name: tokens, train: $dir/rows.jsonl, max_source: 24, max_target: 4}
technique: $2
system: {name: standalone}
train: {epochs: 2, batch: 4, microbatches: 1, seed: 3}
cache: $3
backend: cuda
precision: $1
output: $dir/out
YAML
    rm -rf "$dir/out" "$dir/cache"
    "$pac" estimate "$dir/run.yaml" --json >"$dir/estimate" || exit 1
    "$run" 1 "$pac" train "$dir/run.yaml" --quiet --json >"$dir/json" 2>"$dir/log" || { cat "$dir/log"; exit 1; }
    said=$(number device "$dir/estimate") took=$(number device "$dir/json")
    echo "$1 $2: estimated $said, ledger $took"
    awk "BEGIN { exit !($said >= $took && $said <= 1.05 * $took) }" || { echo "not between the ledger and 5 % above"; failed=1; }
}
of_cached() { grep -o '"phase": *"cached"[^}]*"device": *[0-9]*' "$dir/json" | sed 's/.*: *//'; }
loss() { sed -n 's/.*"epochs":.*"loss": *\([0-9.]*\).*/\1/p' "$dir/json"; }

try f32 '{name: parallel, reduction: 4, layers: all}' "{dir: $dir/cache}"
apart=$(of_cached) apart_loss=$(loss)
try bf16 '{name: parallel, reduction: 4, layers: all}' "{dir: $dir/cache}"
try f16 '{name: lora, rank: 4, alpha: 8}' none

if "$pac" info --json | grep -q emulated; then
    # One memory for both: the cache's rows are read where the reader put them, so they are not on the device a second time.
    export PAC_EMU_INTEGRATED=1
    "$run" 1 "$pac" train "$dir/run.yaml" --quiet --json --set precision=f32 --set technique.name=parallel --set "technique.layers=all" \
        --set technique.reduction=4 --set "cache.dir=$dir/shared" --set "output=$dir/out2" >"$dir/json" 2>"$dir/log" || { cat "$dir/log"; exit 1; }
    echo "integrated: $(of_cached) bytes of $apart in the cached phase, loss $(loss) and $apart_loss"
    [ "$(loss)" = "$apart_loss" ] || { echo "another loss"; failed=1; }
    [ "$(of_cached)" -lt "$apart" ] || { echo "rows are there twice"; failed=1; }
    unset PAC_EMU_INTEGRATED
fi
exit $failed
