/* Options: one table for all commands; a command names those it takes. */
#include "cli.h"
#include "pac/yaml.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum option_kind { FLAG, TEXT, NUMBER, SET } option_kind;

typedef struct option_row {
    const char *name, *metavar, *help;
    option_kind kind;
    size_t offset; /* into pac_args */
    bool not_built;
    int64_t min, built_to; /* of a NUMBER: the least, and the most that is built (0: any) */
} option_row;

#define AT(field) offsetof(pac_args, field)

static const option_row options[] = {
    {"help", NULL, "this text", FLAG, AT(help), false, 0, 0},
    {"quiet", NULL, "only errors and the result", FLAG, AT(quiet), false, 0, 0},
    {"json", NULL, "the result as one JSON object on standard output", FLAG, AT(json), false, 0, 0},
    {"set", "KEY.PATH=VALUE", "override the configuration (may be repeated)", SET, AT(sets), false, 0, 0},
    {"output", "FILE", "where to write (-o FILE)", TEXT, AT(output), false, 0, 0},
    {"plan", "FILE", "use this plan instead of planning", TEXT, AT(plan), false, 0, 0},
    {"profile", "FILE", "use this profile instead of measuring", TEXT, AT(profile), false, 0, 0},
    {"schedule", "NAME", "1f1b (what the runtime runs), gpipe or sequential", TEXT, AT(schedule), false, 0, 0},
    {"bytes", "NAME", "ledger (what a dry run takes) or profile (what the profile says of its layers)", TEXT, AT(bytes), false,
     0, 0},
    {"steps", "N", "stop after N optimizer steps", NUMBER, AT(steps), false, 1, 0},
    {"resume", NULL, "continue a stopped run", FLAG, AT(resume), true, 0, 0},
    {"devices", "FILE|N", "plan, profile, simulate: a cluster file of devices that are not here; estimate: N equal devices",
     TEXT, AT(devices), false, 0, 0},
    {"shape", "NAME", "a model without files: t5-large, bart-large, bert-base, ... or a config.json", TEXT, AT(shape), false, 0,
     0},
    {"technique", "NAME", "full, adapters, lora, parallel, or inference", TEXT, AT(technique), false, 0, 0},
    {"batch", "N", "train.batch", NUMBER, AT(batch), false, 1, 0},
    {"source", "N", "task.max_source", NUMBER, AT(source), false, 1, 0},
    {"target", "N", "task.max_target", NUMBER, AT(target), false, 1, 0},
    {"rows", "N", "rows of an epoch, where task.train is not here to count them", NUMBER, AT(rows), false, 1, 0},
    {"activations", "BYTES", "plan, simulate: of a sample, over all layers, where another program's count instead of pac's",
     NUMBER, AT(activations), false, 1, 0},
    {"adapters", "DIR", "adapters written by train", TEXT, AT(adapters), false, 0, 0},
    {"predictions", "FILE", "write what each row was answered, as JSON lines", TEXT, AT(predictions), false, 0, 0},
    {"model", "DIR", "a model directory in Hugging Face layout", TEXT, AT(model), false, 0, 0},
    {"input", "FILE", "JSON lines of text (text_pair) or input_ids (labels) instead of standard input", TEXT, AT(input), false,
     0, 0},
    {"logits", "FILE", "write logits.0, logits.1, ... and loss as safetensors", TEXT, AT(logits), false, 0, 0},
    {"beams", "N", "beam search with N beams (1: greedy)", NUMBER, AT(beams), false, 1, 0},
    {"max-new", "N", "at most N new tokens", NUMBER, AT(max_new), false, 1, 0},
    {"backend", "NAME", "auto, cpu, cuda, ref, or one kind of kernels: cpu-base, cpu-avx2, cpu-avx512, cpu-amx", TEXT,
     AT(backend), false, 0, 0},
    {"seed", "S", "seed of the random weights", NUMBER, AT(seed), false, 0, 0},
    {"format", "NAME", "peft or merged", TEXT, AT(format), false, 0, 0},
};

enum { NOPTIONS = sizeof options / sizeof options[0] };

/* Is `name` a word of the space-separated list? */
static bool takes(const command *c, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = c->options; (p = strstr(p, name)) != NULL; p += n)
        if ((p == c->options || p[-1] == ' ') && (p[n] == ' ' || p[n] == '\0'))
            return true;
    return false;
}

static const option_row *find_option(const command *c, const char *name, size_t n)
{
    for (int i = 0; i < NOPTIONS; i++)
        if (strlen(options[i].name) == n && memcmp(options[i].name, name, n) == 0 && takes(c, options[i].name))
            return &options[i];
    return NULL;
}

static pac_err unknown_option(const command *c, const char *arg)
{
    const char *known[NOPTIONS + 1];
    int n = 0;
    for (int i = 0; i < NOPTIONS; i++)
        if (takes(c, options[i].name))
            known[n++] = options[i].name;
    known[n] = NULL;
    char name[64];
    const char *letters = arg + strspn(arg, "-");
    snprintf(name, sizeof name, "%.*s", (int)strcspn(letters, "="), letters);
    const char *near = pac_nearest(name, known);
    if (near != NULL)
        return pac_fail(PAC_EUSAGE, "%s: unknown option %s: did you mean --%s?", c->name, arg, near);
    return pac_fail(PAC_EUSAGE, "%s: unknown option %s (pac %s --help lists them)", c->name, arg, c->name);
}

static pac_err store_number(const option_row *o, const char *value, int64_t *out)
{
    char *end;
    errno = 0;
    long long v = strtoll(value, &end, 10);
    PAC_CHECK(errno == 0 && end != value && *end == '\0' && v >= o->min, PAC_EUSAGE,
              "--%s: '%s' is not a whole number of at least %lld", o->name, value, (long long)o->min);
    PAC_CHECK(o->built_to == 0 || v <= o->built_to, PAC_ENOTBUILT, "--%s %lld: not built yet", o->name, v);
    *out = v;
    return PAC_OK;
}

static pac_err store(const option_row *o, const char *value, pac_args *a)
{
    char *field = (char *)a + o->offset;
    PAC_CHECK(!o->not_built, PAC_ENOTBUILT, "--%s: not built yet", o->name);
    switch (o->kind) {
    case FLAG:
        *(bool *)field = true;
        return PAC_OK;
    case TEXT:
        *(const char **)field = value;
        return PAC_OK;
    case NUMBER:
        return store_number(o, value, (int64_t *)field);
    case SET:
        PAC_CHECK(a->nsets < MAX_SETS, PAC_EUSAGE, "--set: at most %d times", MAX_SETS);
        a->sets[a->nsets++] = value;
        return PAC_OK;
    }
    return PAC_OK;
}

/* One argument at argv[*i]; moves *i past a separate value. */
static pac_err parse_option(const command *c, int argc, char **argv, int *i, pac_args *a)
{
    const char *arg = argv[*i], *name = arg + 2, *value = NULL;
    if (arg[1] != '-') {
        PAC_CHECK(strcmp(arg, "-o") == 0 || strcmp(arg, "-h") == 0, PAC_EUSAGE,
                  "%s: unknown option %s (pac %s --help lists them)", c->name, arg, c->name);
        name = arg[1] == 'o' ? "output" : "help";
    }
    const char *equals = strchr(name, '=');
    const option_row *o = find_option(c, name, equals != NULL ? (size_t)(equals - name) : strlen(name));
    if (o == NULL)
        return unknown_option(c, arg);
    if (o->kind != FLAG) {
        value = equals != NULL ? equals + 1 : *i + 1 < argc ? argv[++*i] : NULL;
        PAC_CHECK(value != NULL, PAC_EUSAGE, "--%s needs a value: --%s %s", o->name, o->name, o->metavar);
    } else {
        PAC_CHECK(equals == NULL, PAC_EUSAGE, "--%s takes no value", o->name);
    }
    return store(o, value, a);
}

pac_err parse_args(const command *c, int argc, char **argv, pac_args *out)
{
    pac_args a = {0};
    for (int i = 2; i < argc; i++) {
        if (argv[i][0] == '-' && argv[i][1] != '\0') {
            PAC_TRY(parse_option(c, argc, argv, &i, &a));
            continue;
        }
        PAC_CHECK(a.nwords < MAX_WORDS, PAC_EUSAGE, "%s: too many arguments", c->name);
        a.words[a.nwords++] = argv[i];
    }
    *out = a;
    PAC_CHECK(a.help || a.nwords >= c->min_words, PAC_EUSAGE, "%s: an argument is missing; usage: %s", c->name, c->usage);
    PAC_CHECK(a.help || a.nwords <= c->max_words, PAC_EUSAGE, "%s: unexpected argument '%s'; usage: %s", c->name,
              a.words[c->max_words], c->usage);
    return PAC_OK;
}

void print_command_help(const command *c)
{
    printf("pac %s: %s%s\n\nusage: %s\n\noptions:\n", c->name, c->summary, c->run == NULL ? " (not built yet)" : "", c->usage);
    for (int i = 0; i < NOPTIONS; i++) {
        char left[64];
        if (!takes(c, options[i].name))
            continue;
        snprintf(left, sizeof left, "--%s %s", options[i].name, options[i].metavar != NULL ? options[i].metavar : "");
        printf("  %-24s %s%s\n", left, options[i].help, options[i].not_built ? " (not built yet)" : "");
    }
    printf("\nexamples:\n");
    for (const char *p = c->examples; *p != '\0';) {
        size_t n = strcspn(p, "\n");
        printf("  %.*s\n", (int)n, p);
        p += n + (p[n] == '\n');
    }
}
