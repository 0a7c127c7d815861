#!/bin/sh
# usage: run.sh MODEL MODEL_DIR GLUE_DIR [SEEDS]
# The paper's Table 3: MODEL (t5-base, bart-large or t5-large; MODEL_DIR holds its real checkpoint) on GLUE's four tasks with the four
# techniques and several seeds (default "0 1 2"), and the table beside the paper's. TASKS="mrpc" and ONLY="lora parallel" run some;
# LAUNCH="mpirun -np 4 --hostfile hosts" (or srun ...) starts pac on several machines; OPTIONS="--set ..." goes to pac train; PAC names
# another program. A run whose result is there is not repeated.
set -eu
shape=$1 model=$(cd "$2" && pwd) glue=$(cd "$3" && pwd) seeds=${4:-0 1 2}
cd "$(dirname "$0")/../.."
out=runs/table3/$shape
pac=${PAC:-build/pac}
[ -f "experiments/table3/$shape.yaml" ] || { echo "run.sh: MODEL is t5-base, bart-large or t5-large, not $shape" >&2; exit 2; }

# config TECHNIQUE > RUN.yaml: the model's file; the other techniques have their own keys, rate 3e-4 and batch 100
config() {
    case $1 in
    parallel) cat "experiments/table3/$shape.yaml" && return ;;
    full) technique='{name: full}' ;;
    adapters) technique='{name: adapters, width: auto}' ;;
    lora) technique='{name: lora, rank: 32, alpha: 32}' ;;
    *) echo "run.sh: no technique $1" >&2; return 2 ;;
    esac
    sed -e "s/^technique:.*/technique: $technique/" -e 's/batch: [0-9]*/batch: 100/' -e 's/lr: 3.0e-3/lr: 3.0e-4/' \
        -e '/^cache:/d' "experiments/table3/$shape.yaml"
}

# files TASK: where GLUE keeps it, and its epochs
files() {
    case $1 in
    mrpc) folder=MRPC epochs=3 ;;
    stsb) folder=STS-B epochs=3 ;;
    sst2) folder=SST-2 epochs=1 ;;
    qnli) folder=QNLI epochs=1 ;;
    *) echo "run.sh: no task $1" >&2; return 2 ;;
    esac
}

# run_one TASK TECHNIQUE SEED
run_one() {
    run=$out/$1/$2/seed-$3
    [ -s "$run/result.json" ] && return
    mkdir -p "$run"
    files "$1"
    config "$2" >"$run/wanted.yaml"
    cached=
    [ "$2" = parallel ] && cached="--set cache.dir=$run/cache"
    # shellcheck disable=SC2086
    ${LAUNCH:-} "$pac" train "$run/wanted.yaml" --quiet --set "model.path=$model" --set "task.name=$1" \
        --set "task.train=$glue/$folder/train.tsv" --set "task.eval=$glue/$folder/dev.tsv" --set "train.epochs=$epochs" \
        --set "train.seed=$3" --set "output=$run" $cached ${OPTIONS:-} >"$run/summary.txt"
    echo "$1 $2, seed $3: $(grep -o '"eval":{[^}]*}' "$run/result.json")"
}

for seed in $seeds; do
    for task in ${TASKS:-mrpc stsb sst2 qnli}; do
        for technique in ${ONLY:-full adapters lora parallel}; do run_one "$task" "$technique" "$seed"; done
    done
done
python3 experiments/summarise.py "$out" --paper "$shape" --plot "$out/table3.svg"
