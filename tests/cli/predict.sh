#!/bin/sh
# pac predict and what people type: every line is answered by one line, whatever is in it; what cannot be answered (numbers that are
# not finite, an output that is full, a model without text) ends the command and says so.
set -u
. "$(dirname "$0")/lib.sh"
cases=$(dirname "$fixtures")/../unit/cases
: >"$dir/stderr"

# typed LINES OPTION...: printf's lines to predict; the answers are in $dir/stdout.
typed() {
    printf "$1" >"$dir/typed"
    shift
    command="predict $*"
    status=0
    if [ "$ranks" = 1 ]; then
        "$pac" predict --quiet "$@" <"$dir/typed" >"$dir/stdout" 2>"$dir/stderr" || status=$?
    else
        "$run" "$ranks" "$pac" predict --quiet "$@" <"$dir/typed" >"$dir/stdout" 2>"$dir/stderr" || status=$?
    fi
}

# answered N WORDS: N lines, the last of which begins with WORDS.
answered() {
    [ "$status" = 0 ] || wrong "ended with $status"
    [ "$(wc -l <"$dir/stdout")" = "$1" ] || { wrong "not $1 answers:"; cat "$dir/stdout"; }
    tail -n 1 "$dir/stdout" | grep -q "^$2" || { wrong "the last answer is not $2:"; cat "$dir/stdout"; }
}

# ---- a model without a tokenizer: ids ----
ids=$fixtures/t5v10
typed '3 4 1\n' --model "$ids" --max-new 3 --json
answered 1 '{"text":'
typed '3 4 1\r\n3  4\t1' --model "$ids" --max-new 3 # the last line without an end
answered 2 '[0-9]'
typed '\n3 4 1\n3 x\n3 -4\n3 64\n99999999999999999999\n' --model "$ids" --max-new 3
answered 6 'error: "99999999999999999999" is no id'
typed 'a\303\251\303\251\303\251\303\251\303\251\303\251\303\251\303\251\303\251\303\251\303\251\303\251\n\377\n' --model "$ids" --json # quoted up to half a letter
answered 2 '{"error":"byte 1 (0xff) of the line is not UTF-8"}'
typed '3\0004\n' --model "$ids"
answered 1 'error: byte 2 of the line is 0'
typed '' --model "$ids"
[ "$status" = 0 ] && [ ! -s "$dir/stdout" ] || wrong "no line was answered"

# ---- text ----
sed 's/"vocab_size": *[0-9]*/"vocab_size": 400/; s/"eos_token_id": *[0-9]*/"eos_token_id": 2/' "$fixtures/tiny/bart/config.json" >"$dir/config.json"
"$pac" init-model "$dir/config.json" "$dir/bart" --quiet >/dev/null || failed=1
cp "$cases"/bpe/* "$dir/bart"
chmod u+w "$dir/bart/vocab.json"
typed 'a\n' --model "$dir/bart" --max-new 2 --json
said=$(sed 's/.*"output_ids":\[\([0-9]*\).*/\1/' "$dir/stdout")
feed=$(grep -o '"Ċ":[0-9]*' "$cases/bpe/vocab.json" | sed 's/.*://') # a line feed changes places with what the model says
sed "s/:$said\([,}]\)/:@\1/; s/:$feed\([,}]\)/:$said\1/; s/:@\([,}]\)/:$feed\1/" "$cases/bpe/vocab.json" >"$dir/bart/vocab.json"
typed 'a\nb\n\n' --model "$dir/bart" --max-new 2
answered 3 ''
typed 'a\n' --model "$dir/bart" --max-new 2 --json
answered 1 '{"text":".*\\n'
long=$(awk 'BEGIN { for (i = 0; i < 700; i++) printf "a b " }')
typed "$long"'\na\n' --model "$dir/bart" --max-new 2 # more than the model's 32 positions: cut
answered 2 ''

# ---- labels are not cut; those that no position is left for are refused ----
printf '{"input_ids":[3,1],"labels":[%s1]}\n' "$(awk 'BEGIN { for (i = 0; i < 40; i++) printf "5," }')" >"$dir/labels.jsonl"
works predict --model "$ids" --input "$dir/labels.jsonl" --logits "$dir/logits" --max-new 2
head -c 200 "$dir/logits" | grep -q '"shape":\[41,64\]' || wrong "not 41 rows of logits"
expect 3 "labels.jsonl: row 1 has 41 labels; the model has 32 positions" predict --model "$fixtures/tiny/bart" --input "$dir/labels.jsonl" --logits "$dir/logits"

# ---- options that mean nothing here ----
expect 2 "--beams 4611686018427387905: at most half of the vocabulary" predict --model "$ids" --beams 4611686018427387905
expect 2 "no model that writes text (" predict --model "$fixtures/tiny/bert"

# ---- numbers that are not finite: no answer looks like one ----
# damage FILE: its last number is not a number
damage() {
    chmod u+w "$1"
    printf '\000\000\300\177' | dd of="$1" bs=1 seek=$(($(wc -c <"$1") - 4)) conv=notrunc 2>/dev/null
}
works train "$yaml" --quiet --set 'technique={name: lora, rank: 2}' --set cache=none --set train.epochs=1
printf '{"input_ids":[3,1]}\n' >"$dir/row.jsonl"
works predict --model "$ids" --adapters "$dir/out/adapters" --input "$dir/row.jsonl" --beams 2
damage "$dir/out/adapters/adapters.safetensors"
for beams in 1 2; do
    expect 5 "not finite" predict --model "$ids" --adapters "$dir/out/adapters" --input "$dir/row.jsonl" --beams $beams
done
works eval "$yaml" --quiet --set "task.eval=$tokens" --adapters "$dir/out/adapters" --json
grep -q '"loss":null' "$dir/stdout" || wrong "a loss that is a number"

printf 'sentence\tlabel\na day\t1\nthe man\t0\n' >"$dir/sst2.tsv"
sed 's/"vocab_size": *[0-9]*/"vocab_size": 400/' "$fixtures/tiny/bert/config.json" >"$dir/config.json"
"$pac" init-model "$dir/config.json" "$dir/bert" --quiet >/dev/null || failed=1
cp "$cases/wordpiece/vocab.txt" "$dir/bert"
sed -e "s#path: .*#path: $dir/bert}#" -e "s#task: .*#task: {name: sst2, train: $dir/sst2.tsv, eval: $dir/sst2.tsv}#" "$yaml" >"$dir/classes.yaml"
set -- --set 'technique={name: lora, rank: 2}' --set head=classification --set cache=none --set train.epochs=1 --set "output=$dir/classes"
works train "$dir/classes.yaml" --quiet "$@"
typed 'a day\nthe\n' --model "$dir/bert" --adapters "$dir/classes/adapters"
answered 2 'negative\|positive'
expect 2 "--max-new: these adapters answer with a class" predict --model "$dir/bert" --adapters "$dir/classes/adapters" --max-new 3
works export --adapters "$dir/classes/adapters" --format merged "$dir/merged"
expect 2 "no model that writes text (BertForSequenceClassification)" predict --model "$dir/merged"
damage "$dir/classes/adapters/adapters.safetensors"
typed 'a day\n' --model "$dir/bert" --adapters "$dir/classes/adapters" --json
[ "$status" = 5 ] && grep -q 'not finite' "$dir/stderr" && [ ! -s "$dir/stdout" ] || wrong "ended with $status instead of 5"
works eval "$dir/classes.yaml" --quiet "$@" --adapters "$dir/classes/adapters" --predictions "$dir/answers.jsonl"
grep -q '"scores":\[[^,]*,[^,]*\],' "$dir/answers.jsonl" && grep -q 'null' "$dir/answers.jsonl" || { wrong "not two scores:"; cat "$dir/answers.jsonl"; }

# ---- input and output ----
cp "$dir/answers.jsonl" "$dir/kept.jsonl"
expect 2 "answers.jsonl is read and would be replaced" eval "$dir/classes.yaml" --set "task.eval=$dir/answers.jsonl" --predictions "$dir/answers.jsonl"
expect 2 "model.safetensors is read and would be replaced" predict --model "$dir/bert" --input "$dir/answers.jsonl" --logits "$dir/bert/model.safetensors"
cmp -s "$dir/answers.jsonl" "$dir/kept.jsonl" || wrong "replaced what it reads"
if [ "$ranks" = 1 ]; then
    command="predict < a directory"
    status=0
    "$pac" predict --quiet --model "$ids" <"$dir" >"$dir/stdout" 2>"$dir/stderr" || status=$?
    [ "$status" = 3 ] && grep -q 'standard input: cannot read' "$dir/stderr" || wrong "ended with $status instead of 3"
    command="predict > a full disk"
    for options in --json --quiet; do
        status=0
        printf '3 4 1\n3 4 1\n' | "$pac" predict $options --model "$ids" >/dev/full 2>"$dir/stderr" || status=$?
        [ "$status" = 4 ] && grep -q 'standard output: no space left' "$dir/stderr" || wrong "ended with $status instead of 4"
    done
fi
exit $failed
