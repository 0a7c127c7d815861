#!/bin/sh
# pac export: pac itself gets the same logits from the merged model as from model and adapters; PEFT's files have PEFT's names and
# shapes (fixtures/export, from the real PEFT); what cannot be exported is refused with the reason, and nothing is overwritten.
set -u
. "$(dirname "$0")/lib.sh"
tensors=$5 cases=$(dirname "$fixtures")/../unit/cases

check() {
    "$@" >"$dir/check" 2>&1 || { cat "$dir/check"; failed=1; }
}

# ids of one digit, so that every model knows them
sed 's/[0-9]\([0-9]\)/\1/g' "$tokens" >"$dir/ids.jsonl"
head -4 "$dir/ids.jsonl" >"$dir/four.jsonl"

# tuned MODEL TECHNIQUE NAME OPTION...: a short run that moves everything
tuned() {
    sed -e "s#path: .*#path: $1}#" -e "s#train: .*jsonl#train: $dir/ids.jsonl#" -e "s#^technique:.*#technique: $2#" "$yaml" >"$dir/$3.yaml"
    to=$3
    shift 3
    works train "$dir/$to.yaml" --quiet --set "output=$dir/$to" --set cache=none --set train.epochs=1 --set train.lr=0.01 "$@"
}

# ---- the same logits ----
for model in t5v10 t5v11 tiny/bart; do
    name=$(echo "$model" | tr / _)
    works predict --model "$fixtures/$model" --input "$dir/four.jsonl" --logits "$dir/untuned"
    tuned "$fixtures/$model" "{name: lora, rank: 2, alpha: 8}" "$name"
    works predict --model "$fixtures/$model" --adapters "$dir/$name/adapters" --input "$dir/four.jsonl" --logits "$dir/wanted"
    if "$tensors" near "$dir/untuned" "$dir/wanted" >/dev/null; then wrong "the adapters change nothing"; fi
    works export --adapters "$dir/$name/adapters" --format merged "$dir/$name.merged"
    works predict --model "$dir/$name.merged" --input "$dir/four.jsonl" --logits "$dir/got"
    check "$tensors" near "$dir/wanted" "$dir/got"
    works export --adapters "$dir/$name/adapters" --format peft --json "$dir/$name.peft"
    grep -q '"format":"peft","technique":"lora"' "$dir/stdout" || wrong "no JSON result"

    tuned "$fixtures/$model" "{name: full}" "full_$name"
    works predict --model "$fixtures/$model" --adapters "$dir/full_$name/adapters" --input "$dir/four.jsonl" --logits "$dir/wanted"
    works export --adapters "$dir/full_$name/adapters" --model "$fixtures/$model" --format merged "$dir/new/parents/full_$name/"
    works predict --model "$dir/new/parents/full_$name" --input "$dir/four.jsonl" --logits "$dir/got"
    check "$tensors" near "$dir/wanted" "$dir/got"
done

# ---- PEFT's names ----
# named MODEL LIST
named() {
    "$tensors" list "$dir/$1.peft/adapter_model.safetensors" | LC_ALL=C sort >"$dir/list"
    check diff "$dir/list" "$fixtures/export/$2.txt"
}
named t5v10 t5v10
named tiny_bart tiny_bart
grep -q '"task_type": "SEQ_2_SEQ_LM"' "$dir/t5v10.peft/adapter_config.json" || wrong "another task"
tr -d '\n ' <"$dir/t5v10.peft/adapter_config.json" | grep -q '"r":2,"lora_alpha":8,.*"target_modules":\["q","v"\]' || wrong "other modules"
{
    printf 'sentence\tlabel\n'
    printf 'a day\t1\nthe man\t0\na day\t1\nthe\t0\n'
} >"$dir/sst2.tsv"

# classes FAMILY: a small model with a tokenizer, as classifier
classes() {
    sed 's/"vocab_size": *[0-9]*/"vocab_size": 400/' "$fixtures/tiny/$1/config.json" >"$dir/config.json"
    "$pac" init-model "$dir/config.json" "$dir/m_$1" --quiet >/dev/null || failed=1
    case $1 in
    t5*) "$tensors" spiece "$dir/m_$1" ;;
    bart) cp "$cases"/bpe/* "$dir/m_$1" ;;
    *) cp "$cases/wordpiece/vocab.txt" "$dir/m_$1" ;;
    esac
    tuned "$dir/m_$1" "$2" "c_$1" --set task.name=sst2 --set "task.train=$dir/sst2.tsv" --set head=classification
}
lora="{name: lora, rank: 2}"
for family in t5v11 bart bert distilbert; do
    classes "$family" "$lora"
    works export --adapters "$dir/c_$family/adapters" --format peft "$dir/c_$family.peft"
    list=tiny_$family
    [ "$family" != bart ] || list=tiny_bart_cls
    named "c_$family" "$list"
    works export --adapters "$dir/c_$family/adapters" --format merged "$dir/c_$family.merged"
    grep -q 'ForSequenceClassification' "$dir/c_$family.merged/config.json" || wrong "another class"
    grep -q '"LABEL_1": 1' "$dir/c_$family.merged/config.json" || wrong "no classes"
done
check cmp "$dir/m_bart/merges.txt" "$dir/c_bart.merged/merges.txt"
check cmp "$dir/m_bert/vocab.txt" "$dir/c_bert.merged/vocab.txt"
"$tensors" list "$dir/c_bert.merged/model.safetensors" | grep -q '^bert.pooler.dense.weight' || wrong "no pooler"
"$tensors" list "$dir/c_t5v11.merged/model.safetensors" | grep -q '^transformer.encoder' || wrong "another prefix"

# ---- refused ----
ok=$dir/t5v10/adapters
expect 2 "--adapters DIR is needed" export --format peft "$dir/x"
expect 2 "--format peft or --format merged is needed" export --adapters "$ok" "$dir/x"
expect 2 "--format peft or --format merged is needed" export --adapters "$ok" --format gguf "$dir/x"
tuned "$fixtures/t5v10" "{name: parallel, reduction: 4}" side
expect 2 "a network of their own beside the backbone" export --adapters "$dir/side/adapters" --format merged "$dir/x"
expect 2 "PEFT knows no parallel adapters" export --adapters "$dir/side/adapters" --format peft "$dir/x"
tuned "$fixtures/t5v10" "{name: adapters, width: 2}" houlsby
expect 2 "not linear" export --adapters "$dir/houlsby/adapters" --format merged "$dir/x"
expect 2 "use --format merged" export --adapters "$dir/full_t5v10/adapters" --format peft "$dir/x"
printf 'Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t1\t2\ta day\tthe day\n0\t3\t4\tthe\ta man\n' >"$dir/mrpc.tsv"
tuned "$dir/m_bert" "{name: full}" pairs --set task.name=mrpc --set "task.train=$dir/mrpc.tsv" --set head=classification --set task.pairs=separate
expect 2 "no class whose head compares two sentences" export --adapters "$dir/pairs/adapters" --format merged "$dir/x"
expect 3 "trained on another backbone" export --adapters "$ok" --model "$fixtures/t5v11" --format peft "$dir/x"
expect 3 "none/adapters.json: cannot open" export --adapters "$dir/none" --format peft "$dir/x"

# ---- what is there stays ----
mkdir "$dir/taken" "$dir/empty"
echo mine >"$dir/taken/notes"
expect 3 "taken exists and is no empty directory" export --adapters "$ok" --format peft "$dir/taken"
expect 3 "file exists and is no empty directory" export --adapters "$ok" --format peft "$dir/file"
expect 3 "file/x: cannot create directory" export --adapters "$ok" --format peft "$dir/file/x"
[ "$(cat "$dir/taken/notes")" = mine ] || wrong "touched what was there"
works export --adapters "$ok" --format peft "$dir/empty"
[ -s "$dir/empty/adapter_config.json" ] || wrong "wrote nothing"
mkdir "$dir/behind"
ln -s behind "$dir/link"
works export --adapters "$ok" --format peft "$dir/link/"
[ -s "$dir/behind/adapter_config.json" ] && [ -L "$dir/link" ] || wrong "replaced a link instead of the directory behind it"
expect 2 "is not UTF-8" export --adapters "$ok" --format peft "$dir/$(printf '\377')"
if [ "$ranks" = 1 ]; then
    mkdir "$dir/here"
    command="export ."
    status=0
    program=$(realpath "$pac")
    (cd "$dir/here" && "$program" export --adapters "$ok" --format peft .) >"$dir/stdout" 2>"$dir/stderr" || status=$?
    [ "$status" = 2 ] && grep -q 'is the working directory' "$dir/stderr" || wrong "ended with $status instead of 2"

    # files end after 4 MiB: writing fails, or (the signal is not ignored) pac is killed in the middle of it
    sed 's/"d_ff": *[0-9]*/"d_ff": 20000/' "$fixtures/t5v10/config.json" >"$dir/config.json"
    "$pac" init-model "$dir/config.json" "$dir/wide" --quiet >/dev/null || failed=1
    for technique in lora full; do
        tuned "$dir/wide" "{name: $technique}" "wide_$technique" --steps 1
        set -- export --adapters "$dir/wide_$technique/adapters" --format merged
        command="$*, files end"
        status=0
        (trap '' XFSZ; ulimit -f 8192; "$pac" "$@" "$dir/x") 2>"$dir/stderr" || status=$?
        [ "$status" = 3 ] && grep -q 'File too large' "$dir/stderr" || wrong "ended with $status instead of 3"
        command="$*, killed"
        status=0
        (ulimit -c 0; ulimit -f 8192; exec "$pac" "$@" "$dir/killed") 2>"$dir/stderr" || status=$?
        [ "$status" -gt 128 ] && [ -d "$(echo "$dir/killed.tmp-"*)" ] || wrong "was not killed ($status)"
        [ ! -e "$dir/killed" ] || wrong "left half an export in its place"
        rm -rf "$dir"/killed.tmp-*
        works "$@" "$dir/killed"
        rm -rf "$dir/killed"
    done

    # a run that is killed while it saves over an earlier one leaves nothing that looks whole
    (ulimit -c 0; ulimit -f 8192; exec "$pac" train "$dir/wide_full.yaml" --quiet --set "output=$dir/wide_full" --set cache=none --steps 1) \
        >"$dir/stdout" 2>"$dir/stderr" && wrong "a second run was not killed"
    expect 3 "adapters.json: cannot open" export --adapters "$dir/wide_full/adapters" --format merged "$dir/x"
fi

# ---- damaged adapters ----
# damaged WORDS: the directory $dir/d is refused
damaged() {
    expect 3 "$1" export --adapters "$dir/d" --format merged "$dir/x"
    rm -rf "$dir/d"
    cp -R "$ok" "$dir/d"
}
cp -R "$ok" "$dir/d"
head -c 3000 "$ok/adapters.safetensors" >"$dir/d/adapters.safetensors"
damaged "d/adapters.safetensors: "
echo '{' >"$dir/d/adapters.json"
damaged "d/adapters.json:"
sed 's/"path": "[^"]*"/"path": 5/' "$ok/adapters.json" >"$dir/d/adapters.json"
damaged "d/adapters.json: model: no usable path; give --model DIR"
sed 's#"path": "[^"]*"#"path": "/nowhere/at/all"#' "$ok/adapters.json" >"$dir/d/adapters.json"
damaged "/nowhere/at/all, the model of these adapters, is not here: give --model DIR"
sed 's/"rank": 2/"rank": 3/' "$ok/adapters.json" >"$dir/d/adapters.json"
damaged "another shape"
sed 's/"rank": 2/"rank": 99999/' "$ok/adapters.json" >"$dir/d/adapters.json"
expect 2 "technique.rank" export --adapters "$dir/d" --format merged "$dir/x"
cp "$dir/full_t5v10/adapters/adapters.safetensors" "$dir/d"
cp "$ok/adapters.json" "$dir/d"
damaged "d/adapters.safetensors: "

[ ! -e "$dir/x" ] || { command=export; wrong "left something of a failed export"; }
for left in "$dir"/*.tmp-*; do
    [ ! -e "$left" ] || { command=export; wrong "left $left"; }
done
exit $failed
