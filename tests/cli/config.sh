#!/bin/sh
# RUN.yaml and --set: what is wrong ends with 2 and is said with file, line and the nearest known key.
set -u
. "$(dirname "$0")/lib.sh"

# bad WORDS: the file from standard input is refused with WORDS behind its name.
bad() {
    cat >"$dir/bad.yaml"
    expect 2 "bad.yaml$1" train "$dir/bad.yaml"
}

bad ":4: unknown key 'train.batsh'; did you mean 'batch'?" <<YAML
model: {path: m}
task: {name: tokens, train: t}
train:
  batsh: 8
YAML
bad ":2: unknown key 'modle'; did you mean 'model'?" <<YAML
task: {name: tokens, train: t}
modle: {path: m}
YAML
bad ":4: train.epochs: 'two' is not a whole number" <<YAML
model: {path: m}
task: {name: tokens, train: t}
train:
  epochs: two
YAML
bad ":1: model: " <<YAML
model: [a, b]
task: {name: tokens, train: t}
YAML
bad ":3: task.name: unknown task \"mprc\"" <<YAML
model: {path: m}
task:
  name: mprc
  train: t
YAML
bad ":2: key 'output' is given twice, first in line 1" <<YAML
output: a
output: b
YAML
bad ": task.name is missing" <<YAML
model: {path: m}
YAML
bad ":2:" <<YAML
model: {path: m
task: [
YAML
bad ": empty" </dev/null
printf 'model: {path: \001}\n' | bad ":1"
expect 3 "none.yaml: cannot open: No such file or directory" train "$dir/none.yaml"
expect 3 "Is a directory" train "$dir"

# set_to WORDS KEY=VALUE: the override is refused.
set_to() {
    expect 2 "$1" train "$yaml" --set "$2"
}
set_to "unknown key 'train.lrr'; did you mean 'train.lr'?" train.lrr=3
set_to "train.lr: 'abc' is not a number" train.lr=abc
set_to "train.lr: expected a number, not a list" 'train.lr=[1,2]'
set_to "train.batch: 0 is not between 1 and" train.batch=0
set_to "train.batch" train.batch=99999999999999999999
set_to "no value" train.epochs=
set_to "expected key.path=value" epochs
set_to "expected key.path=value" =3
set_to "did you mean 'cpu'?" backend=cpuu
set_to "known are: mrpc stsb sst2 qnli seq2seq tokens" task.name=mprc
for later in model.dtype=nf4 model.dtype=int8; do
    set_to "not built yet" "$later"
done

# Values that are right alone and do not fit the model, the task or the ranks.
set_to "technique.reduction: 3 must divide" technique.reduction=3
set_to "technique.layers: 9, but" 'technique.layers=[9]'
set_to "task tokens has no classes" head=classification
set_to "a list of 2 budgets for $ranks ranks" 'system.memory=[1MiB,2MiB]'
set_to "system.groups needs 4 ranks, there are $ranks" 'system.groups=[2,2]'
expect 2 "task.eval is not set" eval "$yaml"
PAC_TIMEOUT=soon
export PAC_TIMEOUT
expect 2 "PAC_TIMEOUT=soon: seconds above 0 expected" train "$yaml"
exit $failed
