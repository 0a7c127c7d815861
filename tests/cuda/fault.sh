#!/bin/sh
# usage: fault.sh PAC_EMU RUN_SH FIXTURES
# A kernel that fails on one rank ends the run with that fault, and not with advice about a norm that is not finite: the kernel of the
# gradient's norm, behind the last wait of a step, on a stage that has no loss to wait for; and it ends all ranks.
set -u
pac=$1 run=$2 fixtures=$3
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cat >"$dir/run.yaml" <<YAML
model: {path: $fixtures/t5v10}
task: {name: tokens, train: $(dirname "$0")/../mpi/tokens.jsonl, max_source: 8, max_target: 2}
technique: {name: parallel, reduction: 4}
train: {epochs: 1, batch: 8, microbatches: 2, seed: 3}
system: {groups: [1, 1]}
backend: cuda
cache: none
output: $dir/out
YAML
failed=0
for rank in 0 1; do
    # shellcheck disable=SC2016
    PAC_TEST_SECONDS=30 "$run" 2 sh -c 'rank=$1; shift; [ "$OMPI_COMM_WORLD_RANK" != "$rank" ] || export PAC_EMU_REFUSE=squares_kernel; exec "$@"' \
        sh $rank "$pac" train "$dir/run.yaml" --quiet >"$dir/log" 2>&1
    status=$?
    cat "$dir/log"
    case $status in
    0) echo "rank $rank: the fault is not noticed" && failed=1 ;;
    124 | 137) echo "rank $rank: the other rank waits for ever" && failed=1 ;;
    esac
    # by all ranks together, in the step in which it failed
    grep -q "rank $rank .*squares_kernel" "$dir/log" || { echo "rank $rank: it and the kernel that failed are not named"; failed=1; }
    ! grep -q 'not finite' "$dir/log" || { echo "rank $rank: a fault is told as a norm"; failed=1; }
done
exit $failed
