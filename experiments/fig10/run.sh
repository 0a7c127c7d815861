#!/bin/sh
# usage: run.sh [--check]: the table to standard output; fig10.py says what is simulated, README.md what came out.
exec python3 "$(dirname "$0")/fig10.py" "$@"
