#!/bin/sh
# usage: steps.sh [TORCH.jsonl]      pac's step times on the GPU, T5-Base and T5-Large, batch 16, 128/1, random weights; MODELS="t5-small" and
# PRECISIONS="f32" measure some. Medians of 20 hybrid and 70 cached steps; beside them those of torch_step.py, where the file has them.
# Not the same work: pac's hybrid steps also fill the cache ("hybrid, no cache": they do not), and its cached steps read the file; PyTorch
# does neither, its rows lie on the GPU. cuda_steps.c is the comparison without files.
set -eu
torch=${1:-/dev/null}
cd "$(dirname "$0")/../.."
pac=${PAC:-build/pac}
out=runs/cuda-bench
mkdir -p "$out"
"$pac" info --json 2>/dev/null | grep -q '"cuda":"[^"]' || { echo "steps.sh: $pac sees no CUDA device; nothing was measured"; exit 77; }

# 400 rows of 128 random tokens and a target of one
awk 'BEGIN { srand(1); for (i = 0; i < 400; i++) { s = ""; for (j = 0; j < 128; j++) s = s (j ? "," : "") int(2 + rand() * 31000)
    print "{\"input_ids\":[" s "],\"labels\":[" int(2 + rand() * 31000) "]}" } }' >"$out/rows.jsonl"

# median PHASE FILE: milliseconds, the first five steps left out
median() {
    grep "\"phase\":\"$1\"" "$2" | grep '"event":"step"' | sed 's/.*"seconds":\([0-9.e-]*\).*/\1/' | tail -n +6 | sort -g |
        awk '{ t[NR] = $1 } END { if (NR) printf "%.3f", 1000 * t[int((NR + 1) / 2)] }'
}
# of_torch MODEL PRECISION FIELD
of_torch() {
    grep "\"model\": \"$1\", \"precision\": \"$2\"" "$torch" | tail -1 | sed -n "s/.*\"$3\": \([0-9.]*\).*/\1/p"
}
times() { # PAC TORCH
    [ -n "$1" ] && [ -n "$2" ] && awk "BEGIN { printf \"%.2f\", $2 / $1 }"
    return 0
}

echo "| model | precision | hybrid pac ms | hybrid, no cache | PyTorch ms | times | cached pac ms | PyTorch ms | times |"
echo "|---|---|---|---|---|---|---|---|---|"
for model in ${MODELS:-t5-base t5-large}; do
    [ -d "$out/$model" ] || "$pac" init-model "$model" "$out/$model" --seed 1 >/dev/null
    for precision in ${PRECISIONS:-f32 tf32 bf16}; do
        run=$out/$model-$precision
        rm -rf "$run"
        cat >"$out/run.yaml" <<YAML
model: {path: $out/$model}
task: {name: tokens, train: $out/rows.jsonl, eval: $out/rows.jsonl, max_source: 128, max_target: 1}
technique: {name: parallel, reduction: 8, gate: learned, layers: all, merge: none, init: random}
system: {name: standalone}
train: {epochs: 4, batch: 16, microbatches: 1, optimizer: adamw, lr: 1.0e-3, clip: 0.0}
cache: {dir: $run/cache}
backend: cuda
precision: $precision
output: $run
YAML
        "$pac" train "$out/run.yaml" --quiet >"$out/said" 2>&1 || { cat "$out/said"; exit 1; }
        hybrid=$(median hybrid "$run/metrics.jsonl") cached=$(median cached "$run/metrics.jsonl")
        "$pac" train "$out/run.yaml" --quiet --set cache=none --set train.epochs=1 --set "output=$run/plain" >"$out/said" 2>&1 || { cat "$out/said"; exit 1; }
        plain=$(median hybrid "$run/plain/metrics.jsonl")
        h=$(of_torch "$model" "$precision" hybrid_ms) c=$(of_torch "$model" "$precision" cached_ms)
        echo "| $model | $precision | $hybrid | $plain | $h | $(times "$plain" "$h") | $cached | $c | $(times "$cached" "$c") |"
    done
done
