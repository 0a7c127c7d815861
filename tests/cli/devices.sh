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

# The baselines leave nobody out, however slow.
cat >"$dir/slow.yaml" <<YAML
devices:
  - {name: fast, flops: 1 TFLOP/s, memory: 8 GiB, memory_bandwidth: 100 GB/s}
  - {name: slow, flops: 10 GFLOP/s, memory: 8 GiB, memory_bandwidth: 1 GB/s, count: 2}
network: {bandwidth: 10 Mbit/s, latency: 1 ms}
YAML
for system in pac eddl ecofl; do
    works plan "$shape" --devices "$dir/slow.yaml" --rows 1000 --set system.name=$system
    if [ $system = pac ]; then
        grep -q '^left out: slow-0' "$dir/stdout" || wrong "takes devices that only slow it down: the test shows nothing"
    else
        ! grep -q '^left out: ' "$dir/stdout" || wrong "leaves out devices"
    fi
    grep -q '^devices by rank: 0 fast, 1 slow-0, 2 slow-1$' "$dir/stdout" || wrong "does not say which rank is which device"
done

# What was given must fit as well: budgets, disks; the words of a simulation. Without a cache there are no cached epochs.
small="$shape --devices $clusters/nano4.yaml --rows 1000 --set system.groups=[2,2]"
# shellcheck disable=SC2086
works plan $small
# shellcheck disable=SC2086
expect 4 "the plan does not fit" plan $small --set system.memory=100MiB -o "$dir/bad.yaml"
grep -q '(100.0 MiB) lacks' "$dir/stderr" || wrong "does not say by how much"
[ ! -e "$dir/bad.yaml" ] || wrong "wrote a plan that does not fit"
sed 's/memory: 8 GiB,/& disk_space: 1 MB,/' "$dir/slow.yaml" >"$dir/disks.yaml"
for how in 'system.groups=[1,2]' system.planner=paper; do
    expect 4 'the cache does not fit' plan "$shape" --devices "$dir/disks.yaml" --rows 1000 --set "$how"
    works plan "$shape" --devices "$dir/disks.yaml" --rows 1000 --set "$how" --set cache=none -o "$dir/plan.yaml"
    grep -q 'every epoch runs the backbone' "$dir/stdout" || wrong "speaks of a cache that there is not"
    grep -q '^cached: false' "$dir/plan.yaml" || wrong "the plan file speaks of a cache that there is not"
done
grep -q "equation 6" "$dir/stdout" || wrong "does not say by what the paper's planner ranks"
sed 's/count: 4/&, disk_space: 2 GiB/' "$clusters/nano4.yaml" >"$dir/disks.yaml"
works plan "$shape" --devices "$dir/disks.yaml" --rows 1000
ways=$(grep '^no cache: ' "$dir/stdout" | grep -o 'cache\.[a-z]*=[a-z0-9]*') || wrong "does not say what would make room for the cache"
for way in $ways; do
    works plan "$shape" --devices "$dir/disks.yaml" --rows 1000 --set "$way"
    ! grep -q 'no cache: the disk' "$dir/stdout" || wrong "$way does not make room"
done
cat >"$dir/disks.yaml" <<YAML
devices:
  - {name: fast, type: laptop, flops: 700 GFLOP/s, disk_space: 5.1 GB}
  - {name: slow, type: laptop, flops: 100 GFLOP/s, disk_space: 5.1 GB}
network: {bandwidth: 1 Gbit/s, latency: 1 ms}
YAML
works plan "$shape" --devices "$dir/disks.yaml" --rows 1000 --set system.name=eddl
ways=$(grep 'no cache: ' "$dir/stdout" | grep -o 'cache\.[a-z]*=[a-z0-9]*') || wrong "does not say what would make room for the cache"
for way in $ways; do
    works plan "$shape" --devices "$dir/disks.yaml" --rows 1000 --set system.name=eddl --set "$way"
    ! grep -q 'no cache: the disk' "$dir/stdout" || wrong "$way does not make room for unequal parts"
done

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
expect 4 'no plan was found that fits' plan "$shape" --devices "$clusters/nano4.yaml" --set system.memory=100MiB
expect 4 'no plan was found that fits' plan "$shape" --devices "$clusters/nano4.yaml" --set technique.name=full --set cache=none --set system.memory=300MiB

# What help shows works as it is printed, in a clone; profiles need no weights, data or tokenizer either.
mkdir "$dir/clone"
ln -s "$(cd "$root/experiments" && pwd)" "$dir/clone/experiments"
program=$(cd "$(dirname "$pac")" && pwd)/$(basename "$pac")
for name in plan simulate; do
    "$pac" $name --help | sed '1,/^examples:/d; s/^ *pac/"$program"/' >"$dir/examples"
    command="$name --help" # quotes and comments in it are the shell's
    (cd "$dir/clone" && set -e && . "$dir/examples") >"$dir/stdout" 2>"$dir/stderr" || wrong "an example does not work"
    [ "$(grep -c program "$dir/examples")" -ge 3 ] || wrong "no examples"
    ! grep -q 'is not there' "$dir/stderr" || wrong "an example forecasts without --rows"
done

# The walk-through prints what pac prints today, and shows its chart.
walk="experiments/clusters/run.yaml --devices experiments/clusters/two-orin-two-laptops.yaml --rows 2000"
command="plan and simulate of experiments/clusters/README.md"
# shellcheck disable=SC2086
(cd "$dir/clone" && "$program" plan $walk && "$program" simulate $walk --set technique.name=full -o full.svg) >"$dir/stdout" 2>"$dir/stderr"
grep -vxF -f "$clusters/README.md" "$dir/stdout" >"$dir/stale"
[ ! -s "$dir/stale" ] || wrong "the walk-through does not say: $(head -n 1 "$dir/stale")"
# shellcheck disable=SC2086
(cd "$dir/clone" && "$program" simulate $walk --set train.microbatches=8 -o chart.svg) >"$dir/stdout" 2>"$dir/stderr"
cmp -s "$dir/clone/chart.svg" "$clusters/../../docs/simulator.svg" || wrong "docs/simulator.svg is of another version: $(sed -n 's/^This one is //p' "$clusters/../../docs/simulator.md")"
cmp -s "$dir/clone/full.svg" "$clusters/full.svg" || wrong "full.svg is of another version: pac simulate ... -o full.svg"

# What is assumed or not taken is said.
works plan "$shape" --profile "$dir/profile.yaml" --rows 1000
grep -q 'an epoch 1000 samples' "$dir/stdout" || wrong "does not take --rows"
works plan "$shape" --profile "$dir/profile.yaml" --quiet
! grep -q '^candidate' "$dir/stdout" || wrong "explains, though quiet"
grep -q "pac: warning: task.train: $dir/none.jsonl is not there: .* only 32 rows; --rows N" "$dir/stderr" || wrong "forecasts 32 rows silently"
works plan "$shape" --devices "$clusters/nano4.yaml" --rows 1000 --set system.memory=64GiB
grep -q 'as if nano-0 had 65536.0 MiB; its description .* has 2560.0 MiB' "$dir/stderr" || wrong "gives devices more memory than they have"
sed 's/count: 4/&, memory: 256 MiB/' "$clusters/nano4.yaml" >"$dir/tight.yaml"
expect 4 'the plan does not fit' plan "$shape" --devices "$dir/tight.yaml" --rows 1000 --set 'system.groups=[2,2]'
has=$(grep -o 'lacks [0-9.]* MiB' "$dir/stderr" | awk '{ printf "%s%dMiB", n++ ? "," : "", 256 + $2 }')
grep -qF "system.memory=[$has]" "$dir/stderr" || wrong "what is lacking and the line to paste are not the same: $has"
works plan "$shape" --devices "$dir/tight.yaml" --rows 1000 --set 'system.groups=[2,2]' --set "$(grep -o 'system.memory=[^'"'"']*' "$dir/stderr" | head -n 1)"
expect 2 'a cluster file is wanted here' plan "$shape" --devices 4
expect 2 'the name of a cluster file is empty' plan "$shape" --devices ''
expect 2 'are for pac plan RUN.yaml --devices FILE' estimate "$shape" --devices "$clusters/nano4.yaml"
expect 2 '--rows is for --devices FILE' profile "$shape" --rows 10
expect 3 'shape:t5-base is a model without files' plan "$shape" --devices "$clusters/nano4.yaml" --set model.path=models/none

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
