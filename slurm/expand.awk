# usage: awk -f expand.awk GRID > cells.tsv
#
# A grid (README.md) to its cells: every model x task x cell row x seed, a line each, with tabs between
#     name  nodes  time  model  task  technique  system  seed  settings
# Settings are "key=value ..." for --set, the last one wins: model, task, technique, system, row. $NAME is a variable of the environment.
# What is wrong is named with file and line; exit status 2.

function fault(text)
{
    print FILENAME ":" FNR ": " text > "/dev/stderr"
    failed = 1
    exit 2
}

# Fields from the n-th on, joined; each must be key=value.
function settings(n,  i, out)
{
    out = ""
    for (i = n; i <= NF; i++) {
        if ($i !~ /^[a-z_.]+=./)
            fault("'" $i "': key=value is expected (values without spaces)")
        out = out (out == "" ? "" : " ") environment($i)
    }
    return out
}

function environment(text,  name)
{
    while (match(text, /\$[A-Za-z_][A-Za-z_0-9]*/)) {
        name = substr(text, RSTART + 1, RLENGTH - 1)
        if (!(name in ENVIRON))
            fault("the environment variable " name " is not set")
        if (ENVIRON[name] ~ /[ \t$]/)
            fault("the environment variable " name " contains a space or a $")
        text = substr(text, 1, RSTART - 1) ENVIRON[name] substr(text, RSTART + RLENGTH)
    }
    return text
}

function join(a, b) { return a == "" ? b : b == "" ? a : a " " b }

function check_name(name)
{
    if (name !~ /^[A-Za-z0-9_.]+(-[A-Za-z0-9_.]+)*$/)
        fault("'" name "': a name of letters, digits and _ . - is expected")
}

function whole(text)
{
    if (text !~ /^[0-9]+$/)
        fault("'" text "': a whole number is expected")
    return text
}

{ sub(/#.*/, "") }
NF == 0 { next }
$1 == "run" && NF == 2 { run = environment($2); next }
$1 == "nodes" && NF == 2 { nodes = whole($2); next }
$1 == "time" && NF == 2 { time = $2; next }
$1 == "seeds" && NF > 1 { for (i = 2; i <= NF; i++) seed[++seeds] = whole($i); next }
$1 == "model" && NF > 1 { check_name($2); model[++models] = $2; model_set[models] = settings(3); next }
$1 == "task" && NF > 1 { check_name($2); task[++tasks] = $2; task_set[tasks] = settings(3); next }
$1 == "technique" && NF > 2 { check_name($2); technique_set[$2] = settings(3); next }
$1 == "system" && NF > 2 {
    check_name($2)
    if ($3 ~ /^nodes=/) {
        system_nodes[$2] = whole(substr($3, 7))
        $3 = ""
        $0 = $0
    }
    system_set[$2] = settings(3)
    next
}
$1 == "cell" && NF > 2 {
    check_name($2); check_name($3)
    technique[++cells] = $2; system_of[cells] = $3; cell_set[cells] = settings(4)
    next
}
{ fault("'" $0 "': run FILE, nodes N, time T, seeds S..., model|task|technique|system NAME key=value..., cell TECHNIQUE SYSTEM key=value... are known") }

END {
    if (failed)
        exit 2
    if (run == "" || nodes == "" || models == 0 || tasks == 0 || cells == 0)
        fault("run, nodes, a model, a task and a cell are needed")
    if (seeds == 0)
        seed[++seeds] = 0
    print "# " run
    for (m = 1; m <= models; m++)
        for (t = 1; t <= tasks; t++)
            for (c = 1; c <= cells; c++)
                for (s = 1; s <= seeds; s++) {
                    sets = join(model_set[m], task_set[t])
                    sets = join(join(sets, "technique.name=" technique[c]), technique_set[technique[c]])
                    sets = join(join(sets, "system.name=" system_of[c]), system_set[system_of[c]])
                    sets = join(join(sets, cell_set[c]), "train.seed=" seed[s])
                    n = system_of[c] in system_nodes ? system_nodes[system_of[c]] : nodes
                    printf "%s-%s-%s-%s-s%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", model[m], task[t], technique[c], system_of[c], seed[s],
                        n, time == "" ? "-" : time, model[m], task[t], technique[c], system_of[c], seed[s], sets
                }
}
