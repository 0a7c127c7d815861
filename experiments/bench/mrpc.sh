#!/bin/sh
# usage: MRPC=train.tsv SPIECE=spiece.model PYTHON=... mrpc.sh [DIR] [options]     three epochs of MRPC, T5-Base with random weights: pac beside PEFT
# Bounded in time: rows and steps are extrapolated by tokens and said to be; --rows 0 --steps 0 runs it all (an hour). `mrpc.sh --help`.
set -eu
mrpc=$(realpath "${MRPC:?names train.tsv of MRPC}") spiece=$(realpath "${SPIECE:?names spiece.model of T5}")
cd "$(dirname "$0")/../.."
export PYTHONDONTWRITEBYTECODE=1
exec python3 experiments/bench/mrpc.py "$@" --mrpc "$mrpc" --spiece "$spiece"
