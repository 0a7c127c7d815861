#!/bin/sh
# usage: table.sh PAC.jsonl TORCH.jsonl     lines of cuda_steps beside those of torch_step.py, as a table: milliseconds, and PyTorch's over ours
set -eu
awk '
function field(name,  s) {
    s = $0
    if (!sub(".*\"" name "\": *\"?", "", s)) return ""
    sub("[\",}].*", "", s)
    return s
}
function times(ours, theirs) { return ours > 0 && theirs != "" ? sprintf("%.2f", theirs / ours) : "" }
{ key = field("model") " | " field("precision") }
FILENAME == ARGV[1] {
    if (!(key in hybrid)) order[++n] = key
    hybrid[key] = field("hybrid_ms"); cached[key] = field("cached_ms"); fed[key] = field("fed_ms"); device = field("device")
    next
}
{ torch_hybrid[key] = field("hybrid_ms"); torch_cached[key] = field("cached_ms"); torch = field("by") " " field("torch") }
END {
    print "Device: " device (torch != "" ? "; " torch : "") ".\n"
    print "| model | precision | hybrid pac ms | PyTorch ms | times | cached pac ms | PyTorch ms | times | fed pac ms | times |"
    print "|---|---|---|---|---|---|---|---|---|---|"
    for (i = 1; i <= n; i++) {
        k = order[i]
        print "| " k " | " hybrid[k] " | " torch_hybrid[k] " | " times(hybrid[k], torch_hybrid[k]) " | " cached[k] " | " torch_cached[k] \
            " | " times(cached[k], torch_cached[k]) " | " fed[k] " | " times(fed[k], torch_cached[k]) " |"
    }
}' "$1" "$2"
