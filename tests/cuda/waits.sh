#!/bin/sh
# usage: waits.sh PAC_EMU RUN_SH FIXTURES
# How often the host waits until the emulated device has nothing left to do: in a step that fills the cache no more often than in one
# that does not, and in a pipeline not once for each micro-batch's rows that leave for a neighbour.
set -u
pac=$1 run=$2 fixtures=$3
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0
export PAC_EMU_REPORT=1

idle() { # RANKS GROUPS CACHE OPTION...: of all ranks together
    ranks=$1 groups=$2 cache=$3
    shift 3
    cat >"$dir/run.yaml" <<YAML
model: {path: $fixtures/t5v10}
task: {name: tokens, train: $(dirname "$0")/../mpi/tokens.jsonl, max_source: 24, max_target: 6}
technique: {name: parallel, reduction: 4}
train: {epochs: 1, batch: 4, microbatches: 4, seed: 3, optimizer: sgd, lr: 0.05}
backend: cuda
cache: $cache
YAML
    rm -rf "$dir/out" "$dir/cache"
    "$run" "$ranks" "$pac" train "$dir/run.yaml" --quiet --json --set "output=$dir/out" --set "system.groups=[$groups]" "$@" \
        >"$dir/json" 2>"$dir/log" || { cat "$dir/log" >&2; return 1; }
    sed -n 's/^cuda-emu: .* waits, \([0-9]*\) of them.*/\1/p' "$dir/log" | awk '{ n += $1 } END { print n + 0 }'
}

steps=9 # of 4 micro-batches; then one of the last row
kept="{dir: $dir/cache, keep: true}" # an epoch alone fills a cache where it is kept
none=$(idle 1 1 none) || exit 1
cached=$(idle 1 1 "$kept") || exit 1
[ -n "$(find "$dir/cache" -type f -size +1k)" ] || { echo "the run that fills the cache left no cache"; failed=1; }
more=$(idle 1 1 none --set train.epochs=2) || exit 1
echo "an epoch of $((steps + 1)) steps: $((more - none)) waits"
[ "$more" -gt "$none" ] && [ $((more - none)) -le $((2 * (steps + 1))) ] || { echo "more than two waits a step: for its losses, and the gradient's norm"; failed=1; }
echo "without a cache $none waits, filling one $cached"
[ "$none" -gt 0 ] && [ "$cached" -ge "$none" ] && [ "$cached" -lt $((none + steps)) ] || { echo "the host waits for the rows of the cache"; failed=1; }
ahead=$(idle 2 1,1 none) || exit 1
at_once=$(idle 2 1,1 none --set train.overlap=false) || exit 1
echo "two stages: $ahead waits, $at_once where nothing overlaps"
[ "$ahead" -gt 0 ] && [ "$ahead" -le $((at_once - steps)) ] || { echo "the host waits for rows that leave"; failed=1; }
exit $failed
