#!/bin/sh
# usage: manpage.sh PAC > docs/pac.1     (PAC: the built program)
#
# The man page, made from what the program says of itself: pac --help and pac COMMAND --help. A test compares docs/pac.1 with
# this output, so the page is true to the command table (src/cli/commands.c, src/cli/args.c).
set -eu
export LC_ALL=C
pac=$1
version=$("$pac" --version | sed -n '1s/^pac \([^ ]*\).*/\1/p')

# Text that troff must not read as commands: backslashes, and dots and quotes at the start of a line.
plain() {
    sed -e 's/\\/\\e/g' -e "s/^\([.']\)/\\\\\&\1/" -e 's/-/\\-/g'
}

printf '.\\" Made by scripts/manpage.sh from the help of the program; do not edit.\n'
printf '.TH PAC 1 "" "pac %s"\n' "$version"
printf '.SH NAME\npac \\- fine-tune a personal language model on a few trusted devices together\n'
printf '.SH SYNOPSIS\n[\\fBmpirun \\-np\\fR \\fIN\\fR] \\fBpac\\fR \\fICOMMAND\\fR [arguments]\n.br\n\\fBpac \\-\\-version\\fR\n'
printf '.SH COMMANDS\n'
for command in $("$pac" --help | awk '/^  [a-z]/ { print $1 }'); do
    "$pac" "$command" --help | plain | awk '
        NR == 1 { sub(/^pac /, ""); sub(/: /, "\n"); split($0, head, "\n"); print ".SS " head[1]; print head[2]; next }
        /^usage: / { sub(/^usage: /, ""); print ".PP\n.nf\n\\fB" $0 "\\fR\n.fi"; next }
        /^(options|examples):$/ { part = $0; if (part == "examples:") print ".PP\nExamples:\n.PP\n.nf"; next }
        $0 == "" { next }
        part == "options:" {
            sub(/^ +/, "")
            if (match($0, /  +/)) print ".TP\n\\fB" substr($0, 1, RSTART - 1) "\\fR\n" substr($0, RSTART + RLENGTH)
            else print ".TP\n" $0
            next
        }
        part == "examples:" { print }
        END { print ".fi" }'
done
cat <<'TROFF'
.SH EXIT STATUS
.TP
0
done
.TP
2
usage or configuration; a command, option or value that is not built yet
.TP
3
a data or model file is wrong, or an output cannot be written
.TP
4
it does not fit in memory or on disk; the message says by how much and what would
.TP
5
the loss is not finite
.TP
70
internal error
.TP
75
a peer was lost or did not answer in time
.SH ENVIRONMENT
.TP
PAC_TIMEOUT
seconds after which a wait for another rank fails (600)
.TP
OPENBLAS_NUM_THREADS
threads of each rank
.SH FILES
RUN.yaml, plan.yaml, profile.yaml, adapters, metrics and the cache are described in docs/formats.md.
TROFF
