#!/bin/sh
# usage: stream.sh [DIR]      (runs/bench)     BUILD names the build directory
# The hybrid step with the backbone in memory and streamed, T5-Base, batch 16: peak resident size and seconds, with the model's file in the
# system's cache and with its pages dropped all the while. Needs python3.
set -eu
cd "$(dirname "$0")/../.."
dir=${1:-runs/bench} build=${BUILD:-build}
mkdir -p "$dir"
[ -f "$dir/t5-base/model.safetensors" ] || "$build/pac" init-model t5-base "$dir/t5-base" --seed 1 --quiet
python3 - "$dir" <<'PY'
import json, random, sys
draw = random.Random(1)
with open(sys.argv[1] + "/stream.jsonl", "w") as f:
    for _ in range(16 * 7):
        f.write(json.dumps({"input_ids": [draw.randrange(5, 30000) for _ in range(128)], "labels": [draw.randrange(5, 30000)]}) + "\n")
PY
cat >"$dir/stream.yaml" <<YAML
model: {path: $dir/t5-base}
task: {name: tokens, train: $dir/stream.jsonl, max_source: 128, max_target: 1}
technique: {name: parallel, reduction: 8, init: random}
system: {name: standalone}
train: {epochs: 2, batch: 16, microbatches: 1, optimizer: sgd, lr: 1.0e-4, clip: 0.0}
cache: {dir: $dir/stream-cache}
output: $dir/stream-run
YAML

# The pages of the model's file that no process has mapped leave the system's cache, every tenth of a second.
forget() {
    exec python3 -c '
import os, sys, time
f = os.open(sys.argv[1], os.O_RDONLY)
while True:
    os.posix_fadvise(f, 0, 0, os.POSIX_FADV_DONTNEED)
    time.sleep(0.1)' "$dir/t5-base/model.safetensors"
}

# measure NAME SET...
measure() {
    name=$1
    shift
    "$build/pac" train "$dir/stream.yaml" --json --quiet --steps 7 "$@" >"$dir/stream.json"
    python3 - "$name" "$dir" <<'PY'
import json, statistics, sys
name, folder = sys.argv[1:]
result = json.load(open(folder + "/stream.json"))
steps = [json.loads(line) for line in open(folder + "/stream-run/metrics.jsonl")]
seconds = [s["seconds"] for s in steps if s["event"] == "step" and s["phase"] == "hybrid"][2:]
memory = next(m for m in result["memory"] if m["phase"] == "hybrid")
print(f"| {name} | {memory['peak_rss'] / 2**20:.0f} | {statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f}) |")
PY
}

echo "| backbone | peak resident MiB | s a step (min to max) |"
echo "|---|---|---|"
measure "in memory" --set model.stream=false
measure "streamed" --set model.stream=true
measure "streamed, 4 micro-batches" --set model.stream=true --set train.microbatches=4
forget &
forgets=$!
trap 'kill $forgets' EXIT
measure "streamed, 4 micro-batches, cold file" --set model.stream=true --set train.microbatches=4
