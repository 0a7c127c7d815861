#!/bin/sh
# usage: run.sh [--check]: the table to standard output, the plot to runs/paper/table2/table2.svg; table2.py says what is simulated, README.md what came out.
exec python3 "$(dirname "$0")/table2.py" "$@"
