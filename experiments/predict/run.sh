#!/bin/sh
# usage: run.sh [RUN_DIR]      predicted against measured steps and bytes of plans drawn by a fixed seed; root, Linux, Python 3
# Four ranks of this machine with CPU quotas (QUOTAS: cores of each rank; together at most 90 % of the cores), a profile taken
# under them, PLANS plans (24) of STEPS steps (12) each. Prints the table.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
dir=$(mkdir -p "${1:-$root/runs/predict}" && cd "${1:-$root/runs/predict}" && pwd)
pac=${PAC:-$root/build/pac}
seed=${SEED:-7} plans=${PLANS:-24} steps=${STEPS:-12}
quotas=${QUOTAS:-$(awk "BEGIN { n = $(nproc); print 0.30 * n, 0.26 * n, 0.20 * n, 0.14 * n }")}

[ -d "$dir/model" ] || "$pac" init-model t5-small "$dir/model" --seed 1 --quiet
[ -f "$dir/train.jsonl" ] || python3 "$here/plans.py" rows "$dir/train.jsonl"
# shellcheck disable=SC2086
python3 "$here/plans.py" plans "$dir/plans" "$plans" 12 "$seed" $quotas
# shellcheck disable=SC2086
groups=$(sh "$here/quota.sh" make $quotas)
trap 'sh "$here/quota.sh" drop "$groups"' EXIT

# usage: ranks COMMAND...   pac on four ranks, each in its group, one thread each
ranks() {
    OPENBLAS_NUM_THREADS=1 sh "$root/scripts/mpirun.sh" 4 sh "$here/quota.sh" enter "$groups" "$pac" "$@" \
        --quiet --set model.path="$dir/model" --set task.train="$dir/train.jsonl"
}

[ -f "$dir/profile.yaml" ] || ranks profile "$here/run.yaml" -o "$dir/profile.yaml" --set output="$dir/none" >/dev/null
for plan in "$dir"/plans/plan-*.yaml; do
    run=$dir/runs/$(basename "$plan" .yaml)
    [ -f "$run/result.json" ] || ranks train "$here/run.yaml" --plan "$plan" --profile "$dir/profile.yaml" --steps "$steps" \
        --set output="$run" >/dev/null
    "$pac" simulate "$here/run.yaml" --plan "$run/plan.yaml" --profile "$dir/profile.yaml" --json --set model.path="$dir/model" \
        --set task.train="$dir/train.jsonl" >"$run/simulated.json"
done
python3 "$here/table.py" "$dir"/runs/plan-*
