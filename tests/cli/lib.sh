# Read by the tests of this folder: sh NAME.sh PAC RUN_SH FIXTURES RANKS
# One rank is started without mpirun, as a person does; more by RUN_SH. Every command has 30 seconds.
pac=$1 run=$2 fixtures=$3 ranks=$4
tokens=$(dirname "$fixtures")/../mpi/tokens.jsonl
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0
export PAC_TEST_SECONDS=30
: >"$dir/file" # a path below a file can never be written, whoever tries

cat >"$dir/run.yaml" <<YAML
model: {path: $fixtures/t5v10}
task: {name: tokens, train: $tokens, max_source: 24, max_target: 6}
technique: {name: parallel, reduction: 4}
train: {epochs: 2, batch: 8}
cache: {dir: $dir/cache}
output: $dir/out
YAML
yaml=$dir/run.yaml

start() {
    if [ "$ranks" = 1 ]; then
        timeout --kill-after=5 30 "$pac" "$@"
    else
        "$run" "$ranks" "$pac" "$@"
    fi >"$dir/stdout" 2>"$dir/stderr" </dev/null
}

wrong() {
    echo "pac $command: $1"
    sed 's/^/    /' "$dir/stderr"
    failed=1
}

# expect STATUS WORDS ARGUMENT...: ends with STATUS; the error is said once and contains WORDS; nothing on standard output.
expect() {
    wanted=$1 words=$2
    shift 2
    command=$*
    status=0
    start "$@" || status=$?
    [ "$status" = "$wanted" ] || wrong "ended with $status instead of $wanted"
    [ "$(grep -c '^pac: error: ' "$dir/stderr")" = 1 ] || wrong "the error is not said once"
    grep '^pac: error: ' "$dir/stderr" | grep -qF -- "$words" || wrong "does not say '$words'"
    [ ! -s "$dir/stdout" ] || wrong "wrote to standard output"
    ! grep -qiE 'segmentation|sanitizer|assert|ORTE_ERROR' "$dir/stderr" || wrong "crashed"
    ! grep -q 'blocks of memory not freed' "$dir/stderr" || wrong "leaks"
}

# works ARGUMENT...: ends with 0 and says no error.
works() {
    command=$*
    status=0
    start "$@" || status=$?
    [ "$status" = 0 ] || wrong "ended with $status"
    ! grep -q '^pac: error: ' "$dir/stderr" || wrong "says an error"
}
