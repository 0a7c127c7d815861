#!/bin/sh
# usage: run.sh PAC     slurm/ for real: a cluster of eight virtual nodes on this host runs the small grid of all techniques and systems,
# and accepts the paper's grid. Skipped (77) without Slurm or without root. Whatever happens, the cluster is stopped at the end.
set -u
pac=$(realpath "$1")
cd "$(dirname "$0")/../.." || exit 1
for tool in munged slurmctld slurmd sbatch srun; do
    command -v $tool >/dev/null || { echo "skipped: $tool is not installed (Debian: slurm-wlm)"; exit 77; }
done
[ "$(id -u)" = 0 ] || { echo "skipped: a cluster of one's own can be started by root only"; exit 77; }

dir=$(mktemp -d)
. tests/slurm/cluster.sh
trap 'stop_cluster; rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
failed=0
wrong() {
    echo "wrong: $*"
    failed=1
}
show() {
    sed 's/^/    /' "$@"
}

# ---- grids that are wrong: file, line, status 2 ----
# grid WORDS: the grid on standard input is refused.
grid() {
    cat >"$dir/bad.grid"
    status=0
    PAC=$pac slurm/submit.sh -o "$dir/bad" "$dir/bad.grid" >"$dir/said" 2>&1 || status=$?
    [ "$status" = 2 ] && grep -qF -- "$1" "$dir/said" || { wrong "a bad grid ended with $status, expected '$1':"; show "$dir/said"; }
}
all='run experiments/quickstart/run.yaml
nodes 3
model m
task t
cell full eddl'
echo "nodes three" | grid "bad.grid:1: 'three': a whole number"
printf '\n# only this\nmodels m\n' | grid "bad.grid:3: 'models m'"
echo "model a/b" | grid "bad.grid:1: 'a/b': a name"
echo "model a path" | grid "bad.grid:1: 'path': key=value"
echo 'model a model.path=$NO_SUCH_VARIABLE/x' | grid "bad.grid:1: the environment variable NO_SUCH_VARIABLE is not set"
echo "nodes 1" | grid "run, nodes, a model, a task and a cell are needed"
status=0
PAC=$pac slurm/submit.sh "$dir/none.grid" 2>/dev/null || status=$?
[ "$status" = 3 ] || wrong "a grid that is not there ended with $status"

start_cluster 8 || { echo "the cluster did not start:"; show "$dir"/cluster/*.out; exit 1; }
# All nodes are this host, with fewer cores: messages over the loopback, no spinning, one thread a rank.
export OMPI_MCA_btl=tcp,self OMPI_MCA_btl_tcp_if_include=lo OPENBLAS_NUM_THREADS=1
export PAC="$pac" PAC_SCRATCH="$dir"

# Wait until all jobs have ended, at most $1 seconds.
wait_jobs() {
    until_then=$(($(date +%s) + $1))
    while [ -n "$(squeue --noheader)" ]; do
        [ "$(date +%s)" -lt $until_then ] || { wrong "jobs have not ended:"; squeue; return 1; }
        sleep 0.3
    done
}

# submit WORDS ARGUMENT...: submits, and says WORDS.
submit() {
    words=$1
    shift
    slurm/submit.sh "$@" >"$dir/said" 2>&1 || wrong "submit.sh $* ended with $?"
    grep -qE -- "$words" "$dir/said" || { wrong "submit.sh $* does not say '$words':"; show "$dir/said"; }
}

# ---- the paper's grid: 120 cells, accepted by Slurm, not run ----
MODELS=models GLUE=glue submit 'using 8 processors on nodes n' --test-only -o "$dir/paper" slurm/paper.grid
[ "$(grep -c 'to start at' "$dir/said")" = 3 ] || { wrong "not three jobs would start:"; show "$dir/said"; }
[ "$(sed 1d "$dir/paper/cells.tsv" | wc -l)" = 120 ] || wrong "paper.grid has not 120 cells"
[ "$(cut -f2 "$dir/paper/cells.tsv" | grep -c '^1$')" = 36 ] || wrong "paper.grid has not 36 cells on one node"
sed 1d "$dir/paper/cells.tsv" | grep -- '-mrpc-' | cut -f1,9 >"$dir/settings"
while read -r name settings; do # pac takes the settings of every row: it gets as far as the model, which is not here (3)
    status=0
    # shellcheck disable=SC2046
    "$pac" estimate slurm/paper.yaml $(printf -- '--set %s ' $settings) >"$dir/said" 2>&1 || status=$?
    [ "$status" = 3 ] && grep -q 'config.json: cannot open' "$dir/said" || { wrong "settings of $name:"; show "$dir/said"; }
done <"$dir/settings"
[ "$(wc -l <"$dir/settings")" = 30 ] || wrong "not 30 cells of one task"
[ -z "$(squeue --noheader)" ] || wrong "--test-only has submitted something"

# ---- the small grid: every technique and system runs ----
head -400 data/demo/train.jsonl >"$dir/train.jsonl" # a part of the rows, to be quick
head -100 data/demo/dev.jsonl >"$dir/dev.jsonl"
sed "s|data/demo/train|$dir/train|; s|data/demo/dev|$dir/dev|" slurm/small.grid >"$dir/small.grid"
submit '7 cells on 3 nodes' -o "$dir/small" "$dir/small.grid"
wait_jobs 240
table=$dir/small/table.md
for row in 'full | standalone' 'full | ecofl' 'full | eddl' 'adapters | standalone' 'adapters | ecofl' 'adapters | eddl' 'lora | standalone' \
    'lora | ecofl' 'lora | eddl' 'parallel | pac'; do
    grep -qE "^\| $(echo "$row" | sed 's/|/\\|/') \| [0-9.]+ (s|min) \|$" "$table" || wrong "no time of $row in the table"
    name=demo-urgency-$(echo "$row" | sed 's/ | /-/')-s0
    grep -q "^0	[0-9]*	done$" "$dir/small/status/$name" || { wrong "$name: $(cat "$dir/small/status/$name")"; show "$dir/small/logs/"*.log; }
    grep -q "^| $name | demo/model | ${row%% *} | ${row##* } | seq2seq |.* | 1 | 2 | 0\.[0-9]" "$table" || wrong "$name is not in the table of pac report"
done
grep -q '^| run | model | technique | system | task | plan |.*exact' "$table" || wrong "the table has no results of pac report"
[ -f "$dir/small/report/loss.gp" ] || wrong "no plots of the runs"
[ $failed = 0 ] || show "$table" "$dir/small/logs/table.log"

# ---- again: nothing is left to do but the table; another grid is refused there ----
submit 'the table' -o "$dir/small" "$dir/small.grid"
! grep -q 'cells' "$dir/said" || wrong "cells that are done were submitted again"
wait_jobs 30
echo "$all" >"$dir/other.grid"
! slurm/submit.sh -o "$dir/small" "$dir/other.grid" 2>/dev/null || wrong "another grid was taken into the same directory"

# ---- cells that fail: pac's status is the job's, the table says it; the notice before the time limit ends a run with 75 ----
cat >"$dir/failing.grid" <<GRID
run   experiments/quickstart/run.yaml
nodes 2
model demo
task  data  task.train=none
task  fit   system.memory=[1MiB,1MiB]
task  long  train.epochs=100000 system.memory=auto
cell  parallel pac
GRID
submit '3 cells on 2 nodes' -o "$dir/failing" "$dir/failing.grid"
long=$(sed -n 's/^job \([0-9]*\): 3 cells.*/\1/p' "$dir/said")_3
is_learning() { grep -q '"step"' "$dir/failing/runs/demo-long-parallel-pac-s0/metrics.jsonl"; }
wait_for is_learning || { wrong "the long cell does not start:"; show "$dir"/failing/logs/*; }
scancel --batch --signal=USR1 "$long"
wait_jobs 60
for words in '3	data	wrong data or file' '4	fit	does not fit' '75	long	time limit'; do
    cell=$dir/failing/status/demo-$(echo "$words" | cut -f2)-parallel-pac-s0
    [ "$(cut -f1,3 "$cell")" = "$(echo "$words" | cut -f1,3)" ] || wrong "$(basename "$cell") is '$(cat "$cell")', not '$words'"
done
grep -qF '| parallel | pac | wrong data or file (3) | OOM | time limit (75) |' "$dir/failing/table.md" ||
    { wrong "the table of failing cells:"; show "$dir/failing/table.md" "$dir"/failing/logs/*; }
[ -z "$(ls -d "$dir"/pac-cache-* 2>/dev/null)" ] || wrong "caches are left: $(ls -d "$dir"/pac-cache-*)"

stop_cluster
[ -z "$(cluster_processes)" ] || wrong "processes are left"
exit $failed
