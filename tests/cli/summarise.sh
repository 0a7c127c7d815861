#!/bin/sh
# usage: summarise.sh ROOT     experiments/summarise.py on results written here: means and spreads by hand; a run that diverged or never ended
# is named and not counted. Skipped (77) without python3.
set -u
summarise=$1/experiments/summarise.py
command -v python3 >/dev/null || { echo "skipped: python3 is not installed"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0

# result CONFIGURATION SEED JSON
result() {
    mkdir -p "$dir/runs/$1/seed-$2"
    echo "$3" >"$dir/runs/$1/seed-$2/result.json"
}

# says WORDS: the table, or (said) a message
says() {
    grep -qF -- "$1" "$dir/$2" || { echo "does not say '$1':"; cat "$dir/$2"; failed=1; }
}

for technique in full adapters lora; do
    result mrpc/$technique 0 '{"eval": {"accuracy": 0.7, "f1": 0.8, "loss": 1}}'
    result mrpc/$technique 1 '{"eval": {"accuracy": 0.8, "f1": 0.9, "loss": 1}}'
done
result mrpc/parallel-k8 0 '{"eval": {"accuracy": 0.75, "f1": 0.875}}'
result mrpc/lora 2 '{"eval": {"accuracy": null, "f1": null, "loss": null}}'
result mrpc/lora 3 '{"eval"'
result mrpc/lora x '{"eval": {"accuracy": 1}}'
result mine/other 0 '{"eval": {"accuracy": 0.5}}'
echo '{"task": "mrpc", "technique": "lora", "seed": 0, "accuracy": 0.8, "f1": 0.9}' >"$dir/torch.jsonl"
python3 "$summarise" "$dir/runs" --torch "$dir/torch.jsonl" >"$dir/table" 2>"$dir/said" || failed=1
says '| mrpc/full | accuracy, f1 | 75.00 ± 7.07 / 85.00 ± 7.07 (2) |  |  |' table
says '| mrpc/lora | accuracy, f1 | 75.00 ± 7.07 / 85.00 ± 7.07 (2) | 80.00 / 90.00 (1) | -5.00 |' table
says '| mine/other | accuracy | 50.00 (1) |  |  |' table
says 'mrpc/parallel-k8: +1.25 points from the mean of full, adapters, lora (80.00)' table
says 'lora/seed-2/result.json: a run without metrics, left out' said
says 'lora/seed-3/result.json: not the result of a finished run, left out' said
says 'lora/seed-x/result.json: not the result of a finished run, left out' said
echo '{"technique": "lora"}' >>"$dir/torch.jsonl"
! python3 "$summarise" "$dir/runs" --torch "$dir/torch.jsonl" >/dev/null 2>"$dir/said" || failed=1
says 'torch.jsonl:2: not a line of a torch_*.py script' said
exit $failed
