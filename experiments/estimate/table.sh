#!/bin/sh
# usage: table.sh > table.md
# Estimates under the paper's conditions (batch 16, 128 source tokens and 1 target token, f32, SGD) beside its Fig. 3 and Table 1,
# as Markdown. No model is needed: shapes are enough. Takes a second.
set -eu
cd "$(dirname "$0")/../.."

# estimate SHAPE TECHNIQUE: what of the result stands in front of the devices.
estimate() {
    build/pac estimate --shape "$1" --technique "$2" --batch 16 --source 128 --target 1 --set train.optimizer=sgd --json | sed 's/,"plan":.*//'
}
# of KEY: the first number of that name in standard input.
of() {
    sed "s/.*$1\":\([0-9.e+-]*\).*/\1/"
}
calc() {
    awk "BEGIN { printf \"$1\", $2 }"
}

# flop SHAPE TECHNIQUE PAPER_FORWARD PAPER_BACKWARD
flop() {
    json=$(estimate "$1" "$2")
    forward=$(echo "$json" | of 'flop":{"forward')
    backward=$(echo "$json" | of 'flop":{"forward":[0-9.e+-]*,"backward')
    head=$(echo "$json" | of '"head":{"forward')
    head_backward=$(echo "$json" | of '"head":{"forward":[0-9.e+-]*,"backward')
    echo "| $1 | $2 | $(calc %.4f "($forward - $head) / 1e12") | $(calc %.4f "$forward / 1e12") | $3 |" \
        "$(calc %.4f "($backward - $head_backward) / 1e12") | $(calc %.4f "$backward / 1e12") | $4 |"
}

# bytes TECHNIQUE PAPER_WEIGHTS PAPER_ACTIVATIONS PAPER_GRADIENTS PAPER_TOTAL
bytes() {
    json=$(estimate t5-large "$1" | sed 's/.*"bytes"//')
    weights=$(echo "$json" | of weights) tuned=$(echo "$json" | of tuned) gradients=$(echo "$json" | of gradients)
    activations=$(echo "$json" | of activations) total=$(echo "$json" | of total)
    echo "| $1 | $(calc %.2f "($weights + $tuned) / 2^30") | $2 | $(calc %.2f "$gradients / 2^30") | $4 |" \
        "$(calc %.2f "$activations / 2^30") | $3 | $(calc %.2f "$total / 2^30") | $5 |"
}

echo "| model | technique | forward without head | forward | Fig. 3 | backward without head | backward | Fig. 3 |"
echo "|---|---|---|---|---|---|---|---|"
flop t5-base full .419 .837
flop t5-base adapters .468 .386
flop t5-base lora .496 .395
flop t5-base inference .419 0
flop t5-base parallel - -
flop bart-large full .741 1.481
flop bart-large adapters .836 .665
flop bart-large lora .869 .691
flop bart-large inference .741 0
flop bart-large parallel - -
flop t5-large full 1.480 2.960
flop t5-large adapters 1.702 1.357
flop t5-large lora 1.744 1.378
flop t5-large inference 1.480 0
flop t5-large parallel - -
echo
echo "| T5-Large | weights | Table 1 | gradients | Table 1 | activations | Table 1 | total | Table 1 |"
echo "|---|---|---|---|---|---|---|---|---|"
bytes full 2.75 5.33 2.75 10.83
bytes adapters 2.80 4.04 .05 6.89
bytes lora 2.78 4.31 .04 7.13
bytes inference 2.75 0 0 2.75
bytes parallel - - - -
