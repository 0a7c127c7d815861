#!/bin/sh
# usage: decode.sh PAC RUN_SH CHECK FIXTURES MODEL TECHNIQUE [BACKEND]
# Text that is written with keys and values kept equals what the whole sequences give (check_written.c): on one stage, on several, on
# several ranks of a stage, greedy and in beams. TECHNIQUE: none (the model alone), or it is trained first, so that answers end early.
set -eu
pac=$1 run=$2 check=$3 fixtures=$4 model=$5 technique=$6 backend=${7-auto}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
end=$(sed -n 's/.*"eos_token_id": *\([0-9]*\).*/\1/p' "$fixtures/$model/config.json")

# the same rows for a smaller vocabulary and another end
sed "s/,/,,/g; s/\([[,]\)5\([2-9][],]\)/\14\2/g; s/\([[,]\)6\([0-9][],]\)/\13\2/g; s/,,/,/g; s/,1]/,$end]/g" \
    "$(dirname "$0")/tokens.jsonl" >"$dir/data.jsonl"
sed 's/,"labels":.*/}/' "$dir/data.jsonl" >"$dir/rows.jsonl"

case $technique in
none) options= ;;
parallel) options="reduction: 4, gate: learned, layers: all, merge: add, init: magnitude" ;;
list) technique=parallel options="reduction: 2, gate: none, layers: [2], merge: gated, init: random" ;;
lora) options="rank: 4, alpha: 8" ;;
adapters) options="width: 4" ;;
full) options="" ;;
esac
tuned=
if [ "$technique" != none ]; then
    cat >"$dir/run.yaml" <<YAML
model: {path: $fixtures/$model}
task: {name: tokens, train: $dir/data.jsonl, max_source: 24, max_target: 6}
technique: {name: $technique, $options}
system: {groups: [1]}
train: {epochs: 12, batch: 8, lr: 1.0e-2, seed: 3}
cache: none
backend: $backend
output: $dir/out
YAML
    "$run" 1 "$pac" train "$dir/run.yaml" --quiet >"$dir/log" 2>&1 || { cat "$dir/log"; exit 1; }
    tuned="--adapters $dir/out/adapters"
fi
failed=0
for how in "1 1" "3 1" "7 1" "1 4" "3 3" "7 2"; do
    ranks=${how% *} beams=${how#* }
    # shellcheck disable=SC2086
    "$run" $ranks "$pac" predict --model "$fixtures/$model" $tuned --input "$dir/rows.jsonl" --max-new 12 --beams $beams --quiet --backend $backend \
        --logits "$dir/logits.safetensors" >"$dir/answers.jsonl" 2>"$dir/log" || { cat "$dir/log"; exit 1; }
    ! grep 'not freed' "$dir/log" || failed=1
    echo "on $ranks ranks, $beams beams:"
    "$check" "$dir/answers.jsonl" "$dir/logits.safetensors" "$end" 12 || failed=1
done
exit $failed
