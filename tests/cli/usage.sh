#!/bin/sh
# Command lines: what is wrong ends with 2 and names the nearest known word; --help and --version work everywhere.
set -u
. "$(dirname "$0")/lib.sh"

expect 2 "unknown command 'tarin': did you mean train?" tarin "$yaml"
expect 2 "unknown command 'xyzzy'" xyzzy
expect 2 "train: an argument is missing; usage: " train
expect 2 "unexpected argument 'b'; usage: " train a b
expect 2 "unknown option --stesp: did you mean --steps?" train "$yaml" --stesp 3
expect 2 "unknown option --xyzzy (pac train --help lists them)" train "$yaml" --xyzzy
expect 2 "unknown option --adapters" train "$yaml" --adapters x
expect 2 "unknown option -x" train "$yaml" -x
expect 2 "--steps: 'x' is not a whole number" train "$yaml" --steps x
expect 2 "--steps: '0' is not a whole number of at least 1" train "$yaml" --steps 0
expect 2 "--steps needs a value" train "$yaml" --steps
expect 2 "--beams: '0' is not a whole number of at least 1" predict --model m --beams 0
expect 2 "--beams 33: at most half of the vocabulary (32)" predict --model "$fixtures/t5v10" --beams 33
expect 2 "--max-new 9000000000000000000: at most 1048576" predict --model "$fixtures/t5v10" --max-new 9000000000000000000
expect 2 "--max-new 33: the model's positions are 32" predict --model "$fixtures/tiny/bart" --max-new 33
expect 2 "--json takes no value" train "$yaml" --json=3
expect 2 "predict: --model DIR is needed" predict
expect 2 "plan: --profile FILE is needed" plan "$yaml"
expect 2 "simulate: --devices FILE or --profile FILE is needed" simulate "$yaml"
expect 2 "simulate: --devices FILE or --profile FILE, not both" simulate "$yaml" --devices c.yaml --profile p.yaml
expect 2 "'show' is neither info nor verify" cache show "$dir"
expect 2 "unknown shape 't5-smal'" init-model t5-smal "$dir/model"

expect 2 "not built yet" train "$yaml" --resume

works --version
works --help
for name in train profile plan simulate estimate eval predict init-model cache export report info; do
    works "$name" --help
    grep -q "usage: .*pac $name" "$dir/stdout" || wrong "no usage"
    grep -q '^examples:' "$dir/stdout" || wrong "no examples"
done
works info
works info --json
status=0
start || status=$?
[ "$status" = 2 ] || { command=; wrong "without arguments: $status instead of 2"; }

# a result that does not reach standard output is no success (mpirun reads what its ranks print: one rank only)
if [ "$ranks" = 1 ]; then
    for command in info --help "estimate --shape t5-small --json"; do
        status=0
        # shellcheck disable=SC2086
        "$pac" $command >/dev/full 2>"$dir/stderr" || status=$?
        [ "$status" = 4 ] && grep -q 'standard output: no space left' "$dir/stderr" || wrong "on a full disk: $status instead of 4"
        status=0
        # shellcheck disable=SC2086
        "$pac" $command >&- 2>"$dir/stderr" || status=$?
        [ "$status" = 3 ] && grep -q 'standard output: cannot write' "$dir/stderr" || wrong "without an output: $status instead of 3"
    done
fi
exit $failed
