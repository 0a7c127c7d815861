#!/bin/sh
# usage: run.sh DATA_DIR [SEEDS]
# Tunes us-bart to British pronunciation with every technique and seed (default "0 1 2"), one process each, and prints the table.
# DATA_DIR holds models/us-bart and pronounce/{train,dev}.jsonl (README.md). ONLY="lora full" runs some configurations, OPTIONS="..."
# goes to pac train, PAC names another program. A run whose result is there is not repeated; PyTorch's results are read
# from TORCH (torch.jsonl beside).
set -eu
data=$(cd "$1" && pwd) seeds=${2:-0 1 2}
cd "$(dirname "$0")/../.."
out=runs/pronounce
pac=${PAC:-build/pac}

# settings CONFIGURATION: what differs between the techniques
settings() {
    side="technique.name=parallel technique.gate=learned technique.merge=add technique.init=random technique.up=zero train.lr=3e-3"
    case $1 in
    full) echo "technique.name=full train.lr=1e-3" ;;
    adapters) echo "technique.name=adapters technique.width=8 train.lr=3e-3" ;;
    lora) echo "technique.name=lora technique.rank=32 technique.alpha=32 train.lr=3e-3" ;;
    parallel-k8) echo "$side technique.reduction=8" ;;
    parallel-k2) echo "$side technique.reduction=2" ;;
    *) echo "run.sh: no configuration $1" >&2; return 2 ;;
    esac
}

for seed in $seeds; do
    for name in ${ONLY:-full adapters lora parallel-k8 parallel-k2}; do
        run=$out/$name/seed-$seed
        [ -s "$run/result.json" ] && continue
        mkdir -p "$run"
        values=$(settings "$name")
        sets=
        for value in $values; do sets="$sets --set $value"; done
        case $name in parallel-*) sets="$sets --set cache.dir=$run/cache" ;; esac
        # shellcheck disable=SC2086
        "$pac" train experiments/pronounce/run.yaml --quiet --set "model.path=$data/models/us-bart" \
            --set "task.train=$data/pronounce/train.jsonl" --set "task.eval=$data/pronounce/dev.jsonl" \
            --set "train.seed=$seed" --set "output=$run" $sets ${OPTIONS:-} >"$run/summary.txt"
        echo "$name, seed $seed: $(grep -o '"eval":{[^}]*}' "$run/result.json")"
    done
done
python3 experiments/summarise.py "$out" --plot "$out/pronounce.svg" --torch "${TORCH:-experiments/pronounce/torch.jsonl}"
