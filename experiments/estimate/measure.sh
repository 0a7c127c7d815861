#!/bin/sh
# usage: measure.sh [MODEL...] > table.md        (default: t5-base bart-large)
# Trains two steps of batch 16 (128 source tokens; 128 and 1 target tokens) of each technique with random weights, one process after
# the other, and compares the ledger's peak and the resident size with the estimate made before, as Markdown. Parallel adapters run
# a cached epoch too. Needs 8 GiB of memory for BART-Large, 3 GB of disk in runs/estimate, and minutes. TARGETS="1" measures less.
set -eu
cd "$(dirname "$0")/../.."
out=runs/estimate
log=$out/log
mkdir -p "$out"
[ $# -gt 0 ] || set -- t5-base bart-large

# tokens TARGET: 32 samples of 128 source ids and TARGET labels.
tokens() {
    awk -v target="$1" 'function ids(n,   i, s) {
        for (i = 0; i < n; i++) s = s (i ? "," : "") int(3 + 30000 * rand())
        return "[" s "]"
    }
    BEGIN { srand(1); for (r = 0; r < 32; r++) print "{\"input_ids\":" ids(128) ",\"labels\":" ids(target) "}" }'
}

# measured PHASE: the ledger's peak.
measured() {
    grep '"event": *"memory"' "$out/run/metrics.jsonl" | grep "\"phase\": *\"$1\"" | sed 's/.*"ledger": *\([0-9]*\).*/\1/' |
        sort -n | tail -n 1
}
# resident PHASE: the largest resident size.
resident() {
    sed 's/{"rank"/\n&/g' "$out/run/result.json" | grep "\"phase\": *\"$1\"" | sed 's/.*"peak_rss": *\([0-9]*\).*/\1/' | sort -n | tail -n 1
}

# row MODEL TARGET TECHNIQUE OPTIMIZER PHASE ESTIMATED
row() {
    awk -v e="$6" -v m="$(measured "$5")" -v r="$(resident "$5")" -v name="| $1 | $2 | $3 | $4 | $5 |" 'BEGIN {
        printf "%s %.1f | %.1f | %+.2f %% | %.1f | %+.1f |\n", name, e / 2^20, m / 2^20, 100 * (e / m - 1), r / 2^20, (r - m) / 2^20 }'
}

# measure MODEL TARGET TECHNIQUE OPTIMIZER
measure() {
    rm -rf "$out/run" "$out/cache"
    tokens "$2" >"$out/tokens.jsonl"
    cat >"$out/run.yaml" <<YAML
model: {path: $out/$1}
task: {name: tokens, train: $out/tokens.jsonl, max_source: 128, max_target: 128}
technique: {name: $3}
train: {epochs: $([ "$3" = parallel ] && echo 2 || echo 1), batch: 16, microbatches: 1, optimizer: $4, lr: 1.0e-6}
output: $out/run
YAML
    [ "$3" = parallel ] && echo "cache: {dir: $out/cache}" >>"$out/run.yaml" || echo "cache: none" >>"$out/run.yaml"
    build/pac estimate "$out/run.yaml" --json >"$out/estimate.json"
    build/pac train "$out/run.yaml" --set 'system.groups=[1]' >>"$log" 2>&1
    row "$1" "$2" "$3" "$4" hybrid "$(sed 's/.*"phase":{[^}]*"total":\([0-9]*\)}.*/\1/' "$out/estimate.json")"
    [ "$3" != parallel ] || row "$1" "$2" "$3" "$4" cached "$(sed 's/.*"cached":{[^}]*}[^}]*},"bytes":{[^}]*"total":\([0-9]*\)}.*/\1/' "$out/estimate.json")"
    rm -rf "$out/run/adapters"
}

echo "MiB, $(date +%Y-%m-%d)"
echo
echo "| model | target | technique | optimizer | phase | estimate | ledger | estimate / ledger | resident | resident - ledger |"
echo "|---|---|---|---|---|---|---|---|---|---|"
for model in "$@"; do
    [ -f "$out/$model/model.safetensors" ] || build/pac init-model "$model" "$out/$model" --seed 1 >>"$log"
    for target in ${TARGETS:-1 128}; do
        for technique in full adapters lora parallel; do
            measure "$model" "$target" "$technique" sgd
        done
    done
    measure "$model" 1 lora adamw
done
