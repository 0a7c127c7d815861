#!/bin/sh
# usage: run.sh GLUE_DIR MODEL_DIR [SEEDS]
# Tunes all-MiniLM-L6-v2 (MODEL_DIR, from data/fetch_minilm.sh) on GLUE's tasks with every technique and seed (default "0 1 2"), one
# process each, and prints the table. TASKS="mrpc stsb" and ONLY="full parallel-k8-separate" run some, OPTIONS="..." goes to pac train,
# PAC names another program. A run whose result is there is not repeated; PyTorch's results are read
# from TORCH (torch.jsonl beside).
set -eu
glue=$(cd "$1" && pwd) model=$(cd "$2" && pwd) seeds=${3:-0 1 2}
cd "$(dirname "$0")/../.."
out=runs/glue
pac=${PAC:-build/pac}
joined="full adapters lora parallel-k8"
separate="full-separate adapters-separate lora-separate parallel-k8-separate"

# settings TASK CONFIGURATION: what differs between the techniques
settings() {
    case $2 in
    full*) echo "technique.name=full train.weight_decay=0.01 train.lr=$([ "$1" = sst2 ] && echo 5e-5 || echo 1e-4)" ;;
    adapters*) echo "technique.name=adapters technique.width=24 train.lr=1e-3" ;;
    lora*) echo "technique.name=lora technique.rank=32 technique.alpha=32 train.lr=1e-3" ;;
    parallel-k8*)
        echo "technique.name=parallel technique.reduction=8 technique.gate=learned technique.merge=add technique.init=random"
        case $2 in
        *-separate) echo "technique.up=zero train.lr=1e-3" ;;
        *) echo "technique.up=random train.lr=3e-3" ;;
        esac
        ;;
    *) echo "run.sh: no configuration $2" >&2; return 2 ;;
    esac
    case $2 in *-separate) echo "task.pairs=separate" ;; esac
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
    train=$glue/$folder/train.tsv
    [ -f "$train" ] || train=$glue/$folder/train_subset.tsv
    dev=$glue/$folder/dev.tsv
}

# run_one TASK CONFIGURATION SEED
run_one() {
    run=$out/$1/$2/seed-$3
    [ -s "$run/result.json" ] && return
    mkdir -p "$run"
    files "$1"
    values=$(settings "$1" "$2")
    sets=
    for value in $values; do sets="$sets --set $value"; done
    case $2 in parallel-*) sets="$sets --set cache.dir=$run/cache" ;; esac
    # shellcheck disable=SC2086
    "$pac" train experiments/glue/run.yaml --quiet --set "model.path=$model" --set "task.name=$1" \
        --set "task.train=$train" --set "task.eval=$dev" --set "train.epochs=$epochs" --set "train.seed=$3" \
        --set "output=$run" $sets ${OPTIONS:-} >"$run/summary.txt"
    echo "$1 $2, seed $3: $(grep -o '"eval":{[^}]*}' "$run/result.json")"
}

for seed in $seeds; do
    for task in ${TASKS:-mrpc stsb sst2 qnli}; do
        all="$joined $separate"
        [ "$task" = sst2 ] && all=$joined
        for name in ${ONLY:-$all}; do run_one "$task" "$name" "$seed"; done
    done
done
python3 experiments/summarise.py "$out" --plot "$out/glue.svg" --torch "${TORCH:-experiments/glue/torch.jsonl}"
