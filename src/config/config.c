/*
 * RUN.yaml and --set overrides into a pac_config.
 *
 * The file and each override are sources, later ones stronger. For every key of the table the strongest source that has it is
 * read, so a value that is overridden is never looked at; then keys that nobody knows are refused, then missing ones. Whoever
 * gives a section as a whole (`--set 'train={epochs: 1}'`) gives its keys one by one.
 */
#include "internal.h"

#include "pac/mem.h"

#include <stdio.h>
#include <string.h>

enum { MOST_KEYS = 32, LONGEST_NAME = 64 };

typedef struct source {
    char path[LONGEST_NAME]; /* "train.lr", "train"; "" for the file */
    pac_yaml *doc;
} source;

typedef struct sources {
    source *v;
    int64_t n;
} sources;

static const char *const sections[] = {"model", "task",    "technique", "head",   "system", "train",
                                       "cache", "backend", "precision", "output", NULL};

void pac_config_defaults(pac_config *c)
{
    *c = (pac_config){
        .model = {.dtype = PAC_F32},
        .task = {.max_source = 128, .max_target = 8},
        .technique = {.kind = PAC_TECH_PARALLEL,
                      .reduction = 8,
                      .gate = PAC_GATE_LEARNED,
                      .merge = PAC_MERGE_AUTO,
                      .init = PAC_INIT_MAGNITUDE,
                      .all_layers = true,
                      .rank = 32,
                      .alpha = 32},
        .head = PAC_HEAD_LM,
        .system = {.kind = PAC_SYS_PAC, .memory_auto = true},
        .train = {.epochs = 3,
                  .batch = 16,
                  .optimizer = {.kind = PAC_ADAMW, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f},
                  .lr = -1,
                  .warmup = 0.1,
                  .linear = true,
                  .clip = 1.0,
                  .bucket = 1 << 20,
                  .overlap = true},
        .cache = {.on = true, .dir = "cache", .dtype = PAC_F32, .redistribute = PAC_REDIST_ALLGATHER},
        .backend = "auto",
        .precision = "f32",
    };
}

/* ---- names ---- */

/* The keys of a section without its name, or whole names for section "". */
static void names_in(const char *section, const char *names[MOST_KEYS + 1])
{
    size_t letters = strlen(section), n = 0;
    for (const pac_key *k = pac_keys; k->name != NULL && n < MOST_KEYS; k++)
        if (letters > 0 && strncmp(k->name, section, letters) == 0 && k->name[letters] == '.')
            names[n++] = k->name + letters + 1;
    names[n] = NULL;
}

static bool is_one_of(const char *word, const char *const *names)
{
    for (; *names != NULL; names++)
        if (strcmp(word, *names) == 0)
            return true;
    return false;
}

static pac_err check_section(const pac_yaml_node *n, const char *section)
{
    const char *names[MOST_KEYS + 1];
    names_in(section, names);
    if (names[0] == NULL || (strcmp(section, "cache") == 0 && pac_yaml_kind_of(n) == PAC_YAML_SCALAR))
        return PAC_OK; /* head, backend, output; cache: none */
    return pac_yaml_known_keys(n, section, names);
}

/* "sytem.groups": the section that is meant, with the key if it has that or one like it. */
static pac_err unknown_section(const source *s, const char *section, const char *key)
{
    const char *names[MOST_KEYS + 1], *nearest = pac_nearest(section, sections), *known = NULL;
    if (nearest == NULL)
        return pac_fail(PAC_ECONFIG, "--set: unknown key '%s'", s->path);
    names_in(nearest, names);
    if (key != NULL)
        known = is_one_of(key, names) ? key : pac_nearest(key, names);
    return pac_fail(PAC_ECONFIG, "--set: unknown key '%s'; did you mean '%s%s%s'?", s->path, nearest, known != NULL ? "." : "",
                    known != NULL ? known : "");
}

static pac_err unknown_flag(const source *s, const char *section, const char *key, const char *const *known)
{
    const char *nearest = pac_nearest(key, known);
    if (nearest != NULL)
        return pac_fail(PAC_ECONFIG, "--set: unknown key '%s'; did you mean '%s.%s'?", s->path, section, nearest);
    return pac_fail(PAC_ECONFIG, "--set: unknown key '%s'", s->path);
}

/* Keys that no row of the table has. */
static pac_err check_names(const source *s)
{
    const pac_yaml_node *root = pac_yaml_root(s->doc);
    if (*s->path == '\0') {
        PAC_TRY(pac_yaml_known_keys(root, "", sections));
        for (int64_t i = 0; i < pac_yaml_count(root); i++)
            PAC_TRY(check_section(pac_yaml_item(root, i), pac_yaml_key(root, i)));
        return PAC_OK;
    }
    char section[LONGEST_NAME];
    const char *names[MOST_KEYS + 1], *dot = strchr(s->path, '.');
    snprintf(section, sizeof section, "%.*s", dot != NULL ? (int)(dot - s->path) : LONGEST_NAME, s->path);
    if (!is_one_of(section, sections))
        return unknown_section(s, section, dot != NULL ? dot + 1 : NULL);
    if (dot == NULL)
        return check_section(root, section);
    names_in(section, names);
    return is_one_of(dot + 1, names) ? PAC_OK : unknown_flag(s, section, dot + 1, names);
}

/* ---- sources ---- */

static pac_err add_override(sources *all, const char *text)
{
    source *s = &all->v[all->n];
    const char *equals = strchr(text, '=');
    PAC_CHECK(equals != NULL && equals > text, PAC_ECONFIG, "--set %s: expected key.path=value, such as train.lr=1e-3", text);
    PAC_CHECK(equals - text < LONGEST_NAME, PAC_ECONFIG, "--set %.80s: no key is so long", text);
    PAC_CHECK(equals[1] != '\0', PAC_ECONFIG, "--set %s: no value behind '='", text);
    PAC_TRY(pac_yaml_parse("--set", equals + 1, &s->doc));
    snprintf(s->path, sizeof s->path, "%.*s", (int)(equals - text), text);
    all->n++;
    return PAC_OK;
}

static pac_err open_sources(const char *path, const char *const *sets, int64_t n, sources *all)
{
    void *v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, n + 1, sizeof(source), &v));
    *all = (sources){.v = v};
    if (path != NULL) {
        PAC_TRY(pac_yaml_open(path, &all->v[0].doc));
        all->n = 1;
    }
    for (int64_t i = 0; i < n; i++)
        PAC_TRY(add_override(all, sets[i]));
    return PAC_OK;
}

static void close_sources(sources *all)
{
    for (int64_t i = 0; i < all->n; i++)
        pac_yaml_close(&all->v[i].doc);
    pac_mem_free(all->v);
    *all = (sources){0};
}

/* What a source says about "train.lr": it may be the value itself, the section, or the file. */
static const pac_yaml_node *find_in(const source *s, const char *name)
{
    size_t letters = strlen(s->path);
    const pac_yaml_node *n = pac_yaml_root(s->doc);
    if (letters > 0 && strcmp(s->path, name) == 0)
        return n;
    if (letters > 0) {
        if (strncmp(s->path, name, letters) != 0 || name[letters] != '.')
            return NULL;
        return pac_yaml_get(n, name + letters + 1);
    }
    const char *dot = strchr(name, '.');
    if (dot == NULL)
        return pac_yaml_get(n, name);
    char section[LONGEST_NAME];
    snprintf(section, sizeof section, "%.*s", (int)(dot - name), name);
    n = pac_yaml_get(n, section);
    return n != NULL ? pac_yaml_get(n, dot + 1) : NULL;
}

/* The strongest source that says something about `name`, -1: none. */
static int64_t strength_of(const sources *all, const char *name)
{
    int64_t i = all->n - 1;
    while (i >= 0 && find_in(&all->v[i], name) == NULL)
        i--;
    return i;
}

static const pac_yaml_node *find(const sources *all, const char *name)
{
    int64_t i = strength_of(all, name);
    return i >= 0 ? find_in(&all->v[i], name) : NULL;
}

/* `cache: none` switches it off; a later source that says anything else about the cache switches it on again. */
static pac_err read_cache_switch(const sources *all, pac_config *c)
{
    for (int64_t i = all->n - 1; i >= 0; i--) {
        const pac_yaml_node *n = find_in(&all->v[i], "cache");
        if (n == NULL && strncmp(all->v[i].path, "cache.", 6) == 0)
            return PAC_OK;
        if (n == NULL)
            continue;
        if (pac_yaml_kind_of(n) == PAC_YAML_MAP)
            return PAC_OK;
        if (pac_yaml_kind_of(n) != PAC_YAML_SCALAR || strcmp(pac_yaml_text(n), "none") != 0)
            return pac_yaml_fail(n, "cache: expected none or a map such as {dir: cache}");
        c->cache.on = false;
        return PAC_OK;
    }
    return PAC_OK;
}

/* ---- reading ---- */

static pac_err read_values(const sources *all, pac_config *c)
{
    for (const pac_key *k = pac_keys; k->name != NULL; k++) {
        const pac_yaml_node *n = find(all, k->name);
        if (n != NULL)
            PAC_TRY(k->type->read(k, n, (char *)c + k->offset));
    }
    return read_cache_switch(all, c);
}

static pac_err check_required(const sources *all, const char *path)
{
    for (const pac_key *k = pac_keys; k->name != NULL; k++)
        PAC_CHECK(!k->required || find(all, k->name) != NULL, PAC_ECONFIG, "%s: %s is missing: add it, or --set %s=...", path,
                  k->name, k->name);
    return PAC_OK;
}

/*
 * A key of another technique is a mistake, unless technique.name was overridden later: then it belonged to the technique that
 * the file had.
 */
static pac_err check_technique(const sources *all, const pac_config *c)
{
    int64_t named = strength_of(all, "technique.name");
    for (const pac_key *k = pac_keys; k->name != NULL; k++) {
        bool has = k->only == 0 || (k->only & 1 << c->technique.kind);
        int64_t strength = has ? -1 : strength_of(all, k->name);
        if (strength >= 0 && strength >= named)
            return pac_yaml_fail(find(all, k->name), "%s: technique %s has no such key; take it out", k->name,
                                 pac_technique_name(c->technique.kind));
    }
    return PAC_OK;
}

/* `cache` is on by default only where a technique can be cached; asking for it elsewhere is a mistake. */
static pac_err check_cache(const sources *all, pac_config *c)
{
    if (!pac_technique_through(c->technique.kind) || !c->cache.on)
        return PAC_OK;
    int64_t named = strength_of(all, "technique.name");
    c->cache.on = false;
    for (const pac_key *k = pac_keys; k->name != NULL; k++) {
        int64_t asked = strncmp(k->name, "cache.", 6) == 0 ? strength_of(all, k->name) : -1;
        if (asked >= 0 && asked >= named)
            return pac_yaml_fail(
                find(all, k->name),
                "%s: technique %s changes what the backbone computes, so nothing can be cached; use cache: none", k->name,
                pac_technique_name(c->technique.kind));
    }
    return PAC_OK;
}

static pac_err check_together(const pac_config *c)
{
    PAC_CHECK(!c->train.keep_best || c->train.eval_each_epoch, PAC_ECONFIG,
              "%s: train.keep: best needs train.eval_every: epoch: else there is one evaluation only", c->path);
    PAC_CHECK(!c->train.keep_best || c->task.eval[0] != '\0', PAC_ECONFIG,
              "%s: train.keep: best needs task.eval: nothing else tells which epoch is best", c->path);
    PAC_CHECK(!c->task.split_paper || c->task.eval[0] != '\0', PAC_ECONFIG,
              "%s: task.split: paper needs task.eval: the split is of both files", c->path);
    PAC_CHECK(!c->train.recompute || pac_technique_through(c->technique.kind) || c->technique.init == PAC_INIT_FISHER,
              PAC_ECONFIG,
              "%s: train.recompute: technique %s keeps nothing of the backbone that could be made again; take it out", c->path,
              pac_technique_name(c->technique.kind));
    PAC_CHECK(c->model.dtype == PAC_F32 || c->technique.kind != PAC_TECH_FULL, PAC_ECONFIG,
              "%s: model.dtype: %s with technique full: weights that learn are f32; set model.dtype: f32, or another technique",
              c->path, pac_dtype_name(c->model.dtype));
    PAC_CHECK(!c->model.stream || !pac_technique_through(c->technique.kind), PAC_ECONFIG,
              "%s: model.stream: technique %s sends gradients through the backbone, which must stay in memory for that; use "
              "technique parallel, or take it out",
              c->path, pac_technique_name(c->technique.kind));
    PAC_CHECK(
        !c->model.stream || c->model.dtype == PAC_F32, PAC_ECONFIG,
        "%s: model.stream: layers are read as the model's file has them, in f32; model.dtype: %s packs them in memory: use one "
        "of the two",
        c->path, pac_dtype_name(c->model.dtype));
    PAC_CHECK(!c->model.stream || c->technique.init != PAC_INIT_FISHER || c->technique.kind != PAC_TECH_PARALLEL, PAC_ECONFIG,
              "%s: model.stream: technique.init: fisher is a pass of full tuning, which needs the backbone in memory; use "
              "magnitude or random",
              c->path);
    PAC_CHECK(c->system.ngroups == 0 || c->system.kind == PAC_SYS_PAC, PAC_ECONFIG,
              "%s: system.groups: only system pac takes given groups; the others are plans of their own", c->path);
    PAC_CHECK(c->train.microbatches <= c->train.batch, PAC_ECONFIG,
              "%s: train.microbatches: %lld is more than train.batch, which is %lld", c->path, (long long)c->train.microbatches,
              (long long)c->train.batch);
    return PAC_OK;
}

static pac_err read_all(const char *path, const sources *all, pac_config *c)
{
    PAC_TRY(read_values(all, c));
    for (int64_t i = 0; i < all->n; i++)
        PAC_TRY(check_names(&all->v[i]));
    PAC_TRY(check_required(all, path));
    if (c->output[0] == '\0')
        snprintf(c->output, sizeof c->output, "runs/%s", c->task.name);
    if (c->train.lr < 0) /* method.md: what the paper's quality runs used */
        c->train.lr = pac_technique_through(c->technique.kind) ? 3e-4 : 3e-3;
    PAC_TRY(check_technique(all, c));
    PAC_TRY(check_cache(all, c));
    return check_together(c);
}

pac_err pac_config_read(const char *path, const char *const *sets, int64_t n, pac_config *out)
{
    const char *name = path != NULL ? path : "--set";
    PAC_CHECK(strlen(name) < sizeof out->path, PAC_ECONFIG, "%.80s...: path too long", name);
    sources all = {0};
    void *p = NULL;
    pac_err err;
    PAC_GO(pac_mem_alloc(PAC_MEM_OTHER, sizeof(pac_config), &p));
    pac_config *c = p;
    pac_config_defaults(c);
    snprintf(c->path, sizeof c->path, "%s", name);
    PAC_GO(open_sources(path, sets, n, &all));
    PAC_GO(read_all(name, &all, c));
    *out = *c;
out:
    close_sources(&all);
    pac_mem_free(p);
    return err;
}

/* ---- writing ---- */

/* A text that is not given has no YAML form and is left out; `cache: none` has no keys. */
static bool is_written(const pac_key *k, const pac_config *c)
{
    if (strncmp(k->name, "cache.", 6) == 0 && !c->cache.on)
        return false;
    bool is_text = k->type == &pac_type_text || k->type == &pac_type_task;
    if (k->only != 0 && !(k->only & 1 << c->technique.kind))
        return false;
    return !is_text || *((const char *)c + k->offset) != '\0';
}

static pac_err write_all(const pac_config *c, pac_config_out *out)
{
    char section[LONGEST_NAME] = "";
    for (const pac_key *k = pac_keys; k->name != NULL; k++) {
        if (!is_written(k, c))
            continue;
        const char *dot = strchr(k->name, '.');
        size_t letters = dot != NULL ? (size_t)(dot - k->name) : 0;
        if (dot != NULL && (strncmp(section, k->name, letters) != 0 || section[letters] != '\0')) {
            snprintf(section, sizeof section, "%.*s", (int)letters, k->name);
            PAC_TRY(pac_config_print(out, "%s:\n", section));
        }
        PAC_TRY(pac_config_print(out, "%s%s: ", dot != NULL ? "  " : "", dot != NULL ? dot + 1 : k->name));
        PAC_TRY(k->type->write(k, (const char *)c + k->offset, out));
        PAC_TRY(pac_config_print(out, "\n"));
    }
    return c->cache.on ? PAC_OK : pac_config_print(out, "cache: none\n");
}

pac_err pac_config_text(const pac_config *c, char **out)
{
    pac_config_out text = {0};
    pac_err err = write_all(c, &text);
    if (err != PAC_OK) {
        pac_mem_free(text.s);
        return err;
    }
    *out = text.s;
    return PAC_OK;
}
