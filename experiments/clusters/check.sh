#!/bin/sh
# usage: check.sh [PAC] > table.md
# How far derived times are from measured ones: T5-Small with random weights on one core of this machine, described by three numbers; each
# technique's mini-batch in processor time (which other work on the machine disturbs least) beside the forecast, as Markdown. The rate is
# calibrated on LoRA, so the other rows are forecasts. Needs GNU time, taskset, 1 GB of memory and two minutes.
set -eu
cd "$(dirname "$0")/../.."
pac=${1:-build/pac}
out=runs/clusters-check
mkdir -p "$out"
[ -d "$out/model" ] || "$pac" init-model t5-small "$out/model" --seed 1 --quiet >"$out/log" 2>&1
awk 'function ids(n,   i, s) {
    for (i = 0; i < n; i++) s = s (i ? "," : "") int(3 + 30000 * rand())
    return "[" s "]"
}
BEGIN { srand(1); for (r = 0; r < 96; r++) print "{\"input_ids\":" ids(128) ",\"labels\":" ids(16) "}" }' >"$out/train.jsonl"
cat >"$out/run.yaml" <<YAML
model: {path: $out/model}
task: {name: tokens, train: $out/train.jsonl, max_source: 128, max_target: 16}
train: {epochs: 1, batch: 16, microbatches: 1}
cache: none
output: $out/run
YAML

# forecast TECHNIQUE FLOPS: seconds of a mini-batch.
forecast() {
    echo "devices: [{name: core, flops: $2, half_size: 16, memory: 8 GiB, memory_bandwidth: 12 GB/s}]" >"$out/core.yaml"
    "$pac" plan "$out/run.yaml" --devices "$out/core.yaml" --set "technique.name=$1" --set 'system.groups=[1]' --json |
        sed 's/.*"hybrid_step_s":\([0-9.e+-]*\).*/\1/'
}
# processor TECHNIQUE STEPS: seconds of processor time of a run of so many mini-batches.
processor() {
    rm -rf "$out/run"
    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 /usr/bin/time -f '%U %S' -o "$out/time" taskset -c 0 "$pac" train "$out/run.yaml" --quiet --set 'system.groups=[1]' \
        --set "technique.name=$1" --steps "$2" >"$out/log" 2>&1
    awk '{ print $1 + $2 }' "$out/time"
}
measured() {
    processor "$1" 1 >"$out/one"
    processor "$1" 5 | awk -v one="$(cat "$out/one")" '{ print ($1 - one) / 4 }'
}

lora=$(measured lora)
# The rate at which LoRA takes what it took, by bisection.
rate=$(lo=10 hi=1000; for _ in 1 2 3 4 5 6 7 8 9 10; do
    mid=$(((lo + hi) / 2))
    if awk -v f="$(forecast lora "$mid GFLOP/s")" -v m="$lora" 'BEGIN { exit !(f > m) }'; then lo=$mid; else hi=$mid; fi
done; echo "$hi")
echo "| technique | forecast at $rate GFLOP/s | measured | ratio |"
echo "|---|---|---|---|"
for technique in lora full adapters parallel; do
    if [ "$technique" = lora ]; then m=$lora; else m=$(measured "$technique"); fi
    awk -v t="$technique" -v f="$(forecast "$technique" "$rate GFLOP/s")" -v m="$m" \
        'BEGIN { printf "| %s%s | %.2f s | %.2f s | %.2f |\n", t, t == "lora" ? " (calibrated)" : "", f, m, f / m }'
done
