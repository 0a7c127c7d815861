#!/bin/sh
# usage: experiments/quickstart/measure.sh [OPTION...]
# Is the demonstration a real transfer? Tunes with three seeds on the shipped backbone and on random backbones of the same shape, and
# prints exact match on the held-out rows beside the majority class and the untuned model. OPTIONs go to pac train.
set -eu
cd "$(dirname "$0")/../.."
out=runs/quickstart-measure
rm -rf "$out"
mkdir -p "$out"

# value KEY < one line of JSON: the number behind the last "KEY":{"exact_match":
value() {
    sed -n "s/.*\"$1\":{\"exact_match\":\([0-9.eE+-]*\).*/\1/p"
}

# tune MODEL SEED OPTION...
tune() {
    model=$1 seed=$2
    shift 2
    build/pac train experiments/quickstart/run.yaml --quiet --json --set "model.path=$model" --set "train.seed=$seed" \
        --set system.memory=auto --set "output=$out/run" --set "cache.dir=$out/cache" "$@"
}

awk -F'"target": "' '{ split($2, a, "\""); n[a[1]]++ } END { for (w in n) if (n[w] > m) { m = n[w]; best = w }; \
    printf "majority class (%s)     %.4f of %d rows\n", best, m / NR, NR }' data/demo/dev.jsonl

for backbone in shipped random; do
    sum=0
    for seed in 0 1 2; do
        model=data/demo/model
        if [ "$backbone" = random ]; then
            model=$out/random-$seed
            build/pac init-model data/demo/model/config.json "$model" --seed "$seed" >/dev/null
            cp data/demo/model/spiece.model "$model/"
        fi
        result=$(tune "$model" "$seed" "$@" 2>/dev/null)
        before=$(echo "$result" | value eval_before)
        after=$(echo "$result" | value eval)
        echo "$backbone backbone, seed $seed: untuned $before, tuned $after"
        sum=$(echo "$sum $after" | awk '{ print $1 + $2 }')
    done
    echo "$backbone backbone, mean of 3 seeds  $(echo "$sum" | awk '{ printf "%.4f", $1 / 3 }')"
done
