#!/bin/sh
# usage: run.sh GLUE_DIR SPIECE_MODEL [OPTION...]
# Trains a random T5-Small on GLUE_DIR/MRPC on four ranks of this machine (RANKS=n: another number); the table of epochs shows
# what cached epochs gain. GLUE's files and T5's spiece.model are yours to bring (README.md).
set -eu
cd "$(dirname "$0")/../.."
glue=$1 spiece=$2
shift 2
out=runs/mrpc-t5small
mkdir -p "$out"
[ -f "$out/model/model.safetensors" ] || build/pac init-model t5-small "$out/model" --seed 1
cp "$spiece" "$out/model/spiece.model"
sh scripts/mpirun.sh "${RANKS:-4}" build/pac train experiments/mrpc-t5small/run.yaml --set "task.train=$glue/MRPC/train.tsv" "$@"
