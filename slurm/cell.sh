#!/bin/sh
# usage: sbatch --array=... slurm/cell.sh DIR PAC      (submit.sh does it)
#
# One cell of a grid: a line of DIR/cells.tsv, one rank on each node of the job. Leaves DIR/runs/NAME (what pac train writes) and
# DIR/status/NAME: exit status, seconds and a word on it. It ends with pac's status: 0 done, 2 configuration, 3 data or file, 4 does not fit,
# 5 not finite, 70 a fault of pac, 75 a lost peer, or the time limit of the job.
set -u
out=$1 pac=$2
run=$(sed -n '1s/^# //p' "$out/cells.tsv")
cell=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" "$out/cells.tsv")
name=$(echo "$cell" | cut -f1)
begin=$(date +%s)

# A word on an exit status of pac.
meaning() {
    case $1 in
    0) echo "done" ;;
    2) echo "wrong configuration" ;;
    3) echo "wrong data or file" ;;
    4) echo "does not fit" ;;
    5) echo "loss not finite" ;;
    70) echo "fault of pac" ;;
    75) echo "lost peer" ;;
    134 | 135 | 136 | 139) echo crashed ;; # abort, bus error, floating point, segmentation
    *) echo killed ;;
    esac
}

# Every rank that fails leaves its own status; srun gives the largest, which may be that of a rank that was ended because another one failed.
# A lost peer (75) is said to be the reason only where nothing else is known.
first_reason() {
    codes=$(cat "$ranks".* 2>/dev/null | sort -n)
    [ -n "$codes" ] || codes=$1
    { echo "$codes" | grep -vx 75; echo "$codes"; } | head -1
}

finish() {
    rm -f "$ranks".*
    printf '%s\t%s\t%s\n' "$1" "$(($(date +%s) - begin))" "$2" >"$out/status/$name"
    echo "cell $name: $2 ($1)"
    exit "$1"
}

# The notice before the time limit (USR1), or scancel (TERM).
stopped() {
    [ -z "$step" ] || { kill -TERM "$step" 2>/dev/null; wait "$step"; }
    remove_cache
    finish 75 "$1"
}

# A run that ended well removed its own.
remove_cache() {
    srun --quiet --ntasks-per-node=1 rm -rf "$cache"
}

[ -n "$name" ] || { echo "cell: $out/cells.tsv has no cell $SLURM_ARRAY_TASK_ID" >&2; exit 2; }
step=''
trap 'stopped "time limit"' USR1
trap 'stopped "cancelled"' TERM
ranks=$out/status/.$name # and the rank
rm -f "$out/status/$name" "$ranks".*
cache=${PAC_SCRATCH:-${TMPDIR:-/tmp}}/pac-cache-$SLURM_JOB_ID # on each node, best a disk of its own

set -- --set "cache.dir=$cache"
for setting in $(echo "$cell" | cut -f9); do
    set -- "$@" --set "$setting"
done
echo "cell $name on $SLURM_JOB_NODELIST: $run $*"
# One kind of PMIx fence for all: with the default of Slurm 22.05 (ring where there is data, tree where there is none) a message may reach a
# rank that is still in MPI_Init, and Open MPI 4.1 crashes there (seen in 4 of 100 starts on three nodes over TCP).
export SLURM_PMIX_FENCE="${SLURM_PMIX_FENCE-tree}"
# shellcheck disable=SC2016
srun --mpi=pmix --ntasks-per-node=1 --cpu-bind=none --kill-on-bad-exit=1 sh -c '"$@"; s=$?; [ $s = 0 ] || echo $s >"$0.$SLURM_PROCID"; exit $s' \
    "$ranks" "$pac" train "$run" "$@" --set "output=$out/runs/$name" --quiet &
step=$!
wait "$step"
status=$?
[ "$status" = 0 ] || status=$(first_reason "$status")
[ "$status" = 0 ] || remove_cache
finish "$status" "$(meaning "$status")"
