#!/bin/sh
# Plans for devices that are not here: no weights, no data, no mpirun. Unequal devices get unequal parts; what does not fit is refused
# with the reason; cluster files that are wrong end with 2 and their line.
set -u
. "$(dirname "$0")/lib.sh"
root=$(dirname "$fixtures")/../..
clusters=$root/experiments/clusters

cat >"$dir/shape.yaml" <<YAML
model: {path: "shape:t5-base"}
task: {name: tokens, train: $dir/none.jsonl, max_source: 128, max_target: 4}
train: {epochs: 3, batch: 16}
output: $dir/out
YAML
shape=$dir/shape.yaml

# Every cluster that ships has a plan, and it names devices of that cluster.
for cluster in "$clusters"/*.yaml; do
    [ "$cluster" != "$clusters/run.yaml" ] || continue
    works plan "$shape" --devices "$cluster" --rows 1000 --json
    grep -q '"stages":\[{"layers":\[0,' "$dir/stdout" || wrong "no stages"
    grep -q "\"derived\":\"$cluster\"" "$dir/stdout" || wrong "does not say what it was derived from"
done

# Two Orin Nanos and two laptops, as in the walk-through: an Orin gets more than a laptop, of samples or of layers.
household=$clusters/two-orin-two-laptops.yaml
works plan "$shape" --devices "$household" --rows 3668
grep -q 'described and not measured' "$dir/stdout" || wrong "passes for a measurement"
grep -q 'an epoch 3668 samples' "$dir/stdout" || wrong "does not take --rows"
column() { awk -v name="$1" -v field="$2" '$3 == name { print $field }' "$dir/stdout"; }
works plan "$clusters/run.yaml" --devices "$household" --set system.name=eddl
awk -v orin="$(column orin-0 4)" -v anna="$(column anna 4)" 'BEGIN { exit !(orin > 1.5 * anna && anna > 0) }' ||
    wrong "shares: $(column orin-0 4) % of an Orin, $(column anna 4) % of a laptop"
works plan "$clusters/run.yaml" --devices "$household" --set system.name=ecofl
layers() { column "$1" 2 | awk -F- '{ print $2 - $1 + 1 }'; }
awk -v orin="$(layers orin-1)" -v ben="$(layers ben)" 'BEGIN { exit !(orin > 2 * ben && ben > 0) }' ||
    wrong "layers: $(layers orin-1) of an Orin, $(layers ben) of the older laptop"

# A plan that was written is one that estimate accepts.
works plan "$shape" --devices "$clusters/nano4.yaml" -o "$dir/plan.yaml"
works estimate "$shape" --plan "$dir/plan.yaml"

# A derived profile says so, and plans as the cluster does.
works profile "$shape" --devices "$clusters/nano4.yaml" -o "$dir/profile.yaml"
grep -q '^derived: ' "$dir/profile.yaml" || wrong "the profile does not say that it was derived"
grep -q 'Nothing here was measured' "$dir/profile.yaml" || wrong "the profile passes for a measurement"

# Twice the speed is half the time, or nearly.
step() {
    printf 'devices: [{name: a, flops: %s, memory: 64 GiB, memory_bandwidth: 1e15}]\n' "$1" >"$dir/one.yaml"
    works plan "$shape" --devices "$dir/one.yaml" --json
    sed 's/.*"hybrid_step_s":\([0-9.e+-]*\).*/\1/' "$dir/stdout"
}
step 1e11 >"$dir/slow"
step 2e11 >"$dir/fast"
awk -v s="$(cat "$dir/slow")" -v f="$(cat "$dir/fast")" 'BEGIN { exit !(s > 1.99 * f && s < 2.01 * f) }' ||
    wrong "one device: $(cat "$dir/slow") s and, twice as fast, $(cat "$dir/fast") s"

# Impossible: by how much, and what would help.
expect 4 'lacks' plan "$shape" --devices "$clusters/nano4.yaml" --set system.memory=100MiB
expect 4 'smallest change' plan "$shape" --devices "$clusters/nano4.yaml" --set technique.name=full --set cache=none --set system.memory=300MiB

# Wrong files and options.
printf 'devices:\n  - {name: a, type: jetson-nan}\n' >"$dir/wrong.yaml"
expect 2 "wrong.yaml:2: type: no device is called 'jetson-nan'; did you mean 'jetson-nano'?" plan "$shape" --devices "$dir/wrong.yaml"
printf 'devices:\n  - {name: a, type: jetson-nano, memroy: 1 GiB}\n' >"$dir/wrong.yaml"
expect 2 "did you mean 'memory'?" profile "$shape" --devices "$dir/wrong.yaml"
expect 3 'none.yaml' plan "$shape" --devices "$dir/none.yaml"
expect 2 'give one of them' plan "$shape" --devices "$clusters/nano4.yaml" --profile "$dir/profile.yaml"
expect 2 '--devices' plan "$shape"
expect 3 "$dir/file/plan.yaml" plan "$shape" --devices "$clusters/nano4.yaml" -o "$dir/file/plan.yaml"

# A description of one's own.
mkdir "$dir/mine"
printf 'flops: 1 TFLOP/s\nmemory: 32 GiB\nmemory_bandwidth: 100 GB/s\n' >"$dir/mine/workstation.yaml"
printf 'devices: [{name: w, type: workstation}]\n' >"$dir/one.yaml"
expect 2 "did you mean" plan "$shape" --devices "$dir/wrong.yaml"
PAC_DEVICES=$dir/mine
export PAC_DEVICES
works plan "$shape" --devices "$dir/one.yaml"
exit "$failed"
