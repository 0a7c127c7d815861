#!/bin/sh
# usage: precision.sh PAC RUN_SH FIXTURES     `precision` on a device and where it has no meaning
set -eu
pac=$1 run=$2 fixtures=$3
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
tokens=$(dirname "$0")/../mpi/tokens.jsonl
cat >"$dir/run.yaml" <<YAML
model: {path: $fixtures/t5v10}
task: {name: tokens, train: $tokens, max_source: 16, max_target: 8}
technique: {name: lora}
system: {groups: [1]}
train: {epochs: 1, batch: 8, seed: 3}
output: $dir/out
YAML
loss() { sed -n 's/.*"epochs":.*"loss": *\([0-9.]*\).*/\1/p' "$dir/json"; }

# Every frozen matrix is rounded in the 16-bit modes, however small.
for precision in f32 f16 bf16; do
    "$run" 1 "$pac" train "$dir/run.yaml" --quiet --json --set backend=cuda --set precision=$precision >"$dir/json" 2>"$dir/log" || { cat "$dir/log"; exit 1; }
    echo "$precision: loss $(loss)"
    if [ $precision = f32 ]; then
        exact=$(loss)
    else
        awk "BEGIN { d = $(loss) - $exact; exit !(d < 0.02 && d > -0.02 && d != 0) }" || { echo "$precision is the same as f32, or far from it"; exit 1; }
    fi
done
# A device that this program has no kernels for is no device to auto, and an error to cuda.
if "$pac" info --json 2>/dev/null | grep -q 'emulated'; then
    PAC_EMU_NO_KERNELS=1 "$run" 1 "$pac" train "$dir/run.yaml" --quiet --json --set backend=auto >"$dir/json" 2>"$dir/log" || { cat "$dir/log"; exit 1; }
    ! grep -q '"device": *"cuda' "$dir/json" || { echo "auto took a device without kernels"; exit 1; }
    if PAC_EMU_NO_KERNELS=1 "$pac" train "$dir/run.yaml" --quiet --set backend=cuda >"$dir/log" 2>&1; then echo "ran without kernels"; exit 1; fi
    grep -q 'no kernels for CUDA device 0 (compute capability 9.0): build it with -Dgpu_arch=90' "$dir/log" || { cat "$dir/log"; exit 1; }
fi
if "$pac" train "$dir/run.yaml" --quiet --set backend=cpu --set precision=tf32 >"$dir/log" 2>&1; then echo "tf32 on the processor"; exit 1; fi
grep -q 'precision: tf32 needs backend cuda' "$dir/log" || { cat "$dir/log"; exit 1; }
