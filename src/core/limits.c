/*
 * Limits of memory, read where Linux keeps them: /proc/meminfo, the control groups that /proc/self/cgroup and mountinfo lead
 * to, and getrlimit(). A file that is missing or says "max" is no limit.
 */
#include "pac/limits.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

enum { LINE = 4096, PATH = 4 * LINE };
static const double no_limit = 1e18; /* version 1 writes "none" as the largest number of pages */

typedef struct listing {
    const char *root;
    pac_limit *out;
    int64_t count;
} listing;

/* ---- numbers in files ---- */

/* The number that the file begins with, else -1. */
static double number_in(const char *path)
{
    double x = -1;
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return -1;
    if (fscanf(f, "%lf", &x) != 1)
        x = -1;
    fclose(f);
    return x;
}

/* The number behind `key` at the begin of a line, else -1. */
static double number_after(const char *path, const char *key)
{
    char line[LINE];
    double x = -1;
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return -1;
    while (x < 0 && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, key, strlen(key)) == 0 && sscanf(line + strlen(key), "%lf", &x) != 1)
            x = -1;
    fclose(f);
    return x;
}

/* FNV-1a; never 0. */
static uint64_t place_of(const char *text)
{
    uint64_t h = 14695981039346656037u;
    for (; *text != '\0'; text++)
        h = (h ^ (unsigned char)*text) * 1099511628211u;
    return h | 1;
}

static void add(listing *l, double bytes, uint64_t place, const char *what, const char *where)
{
    if (l->count == PAC_MOST_LIMITS || !(bytes < no_limit))
        return;
    pac_limit *x = &l->out[l->count++];
    *x = (pac_limit){.bytes = bytes > 0 ? bytes : 0, .place = place};
    snprintf(x->what, sizeof x->what, "%.48s%.60s", what, where);
}

/* ---- the machine ---- */

static void machine(listing *l)
{
    char path[PATH];
    snprintf(path, sizeof path, "%s/proc/meminfo", l->root);
    double kib = number_after(path, "MemAvailable:");
    if (kib >= 0)
        add(l, 1024 * kib, place_of("/"), "available memory of the machine", "");
}

/* ---- control groups ---- */

/* A hierarchy of groups: version 2, or one of version 1's. */
typedef struct hierarchy {
    const char *type, *controller; /* of the mount in mountinfo; of the line in /proc/self/cgroup */
} hierarchy;

/* Is `word` one of the list "a,b,c"? */
static bool listed(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = list; at != NULL; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, word, n) == 0 && (at[n] == ',' || at[n] == '\0'))
            return true;
    }
    return false;
}

/* This process's group below the hierarchy's root: "number:controllers:path". */
static bool own_group(const char *root, const hierarchy *v, char path[LINE])
{
    char line[LINE], name[PATH];
    bool found = false;
    snprintf(name, sizeof name, "%s/proc/self/cgroup", root);
    FILE *f = fopen(name, "r");
    while (f != NULL && !found && fgets(line, sizeof line, f) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':'), *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        if (group == NULL)
            continue;
        *controllers++ = *group++ = '\0';
        found = *v->controller == '\0' ? *controllers == '\0' : listed(controllers, v->controller);
        if (found)
            snprintf(path, LINE, "%s", group);
    }
    if (f != NULL)
        fclose(f);
    return found;
}

/* Where the hierarchy is mounted, and which of its groups is the mount's root: fields 5 and 4, the type behind " - ". */
static bool mounted(const char *root, const hierarchy *v, char at[LINE], char group[LINE])
{
    char line[LINE], name[PATH], type[64], options[LINE];
    bool found = false;
    snprintf(name, sizeof name, "%s/proc/self/mountinfo", root);
    FILE *f = fopen(name, "r");
    while (f != NULL && !found && fgets(line, sizeof line, f) != NULL) {
        const char *behind = strstr(line, " - ");
        if (behind == NULL || sscanf(behind, " - %63s %*s %4095s", type, options) != 2 || strcmp(type, v->type) != 0)
            continue;
        found = (*v->controller == '\0' || listed(options, v->controller)) &&
                sscanf(line, "%*s %*s %*s %4095s %4095s", group, at) == 2;
    }
    if (f != NULL)
        fclose(f);
    return found;
}

/* A group's folder, and its name for people. */
typedef void visit(void *ctx, const char *folder, const char *group);

/* From the process's own group up to the one that is mounted. A group outside the mount (a container's view) has no files here.
 */
static void walk_up(const char *root, const hierarchy *v, visit *f, void *ctx)
{
    char group[LINE], at[LINE], top[LINE], folder[PATH];
    if (!own_group(root, v, group) || !mounted(root, v, at, top))
        return;
    size_t above = strcmp(top, "/") == 0 ? 0 : strlen(top);
    bool below = strncmp(group, top, above) == 0 && (group[above] == '/' || group[above] == '\0');
    char *path = below ? group + above : group + strlen(group);
    if (strcmp(path, "/") == 0)
        *path = '\0';
    for (;;) {
        snprintf(folder, sizeof folder, "%s%s%s", root, at, path);
        f(ctx, folder, *path == '\0' ? "/" : path);
        char *slash = strrchr(path, '/');
        if (slash == NULL)
            return;
        *slash = '\0';
    }
}

/* ---- memory of control groups ---- */

static const struct memory_files {
    hierarchy h;
    const char *limit[3];
    const char *usage, *cache; /* file; key in memory.stat */
} memory_files[] = {
    {{"cgroup2", ""}, {"memory.max", "memory.high", NULL}, "memory.current", "inactive_file "},
    {{"cgroup", "memory"}, {"memory.limit_in_bytes", NULL}, "memory.usage_in_bytes", "total_inactive_file "},
};

typedef struct group_listing {
    listing *l;
    const struct memory_files *files;
} group_listing;

static void memory_of_group(void *ctx, const char *folder, const char *group)
{
    const group_listing *g = ctx;
    char path[PATH], what[64];
    snprintf(path, sizeof path, "%.16000s/%s", folder, g->files->usage);
    double used = number_in(path);
    snprintf(path, sizeof path, "%.16000s/memory.stat", folder);
    double cache = number_after(path, g->files->cache);
    used = used > 0 ? used - (cache > 0 && cache < used ? cache : 0) : 0;
    for (const char *const *limit = g->files->limit; *limit != NULL; limit++) {
        snprintf(path, sizeof path, "%.16000s/%s", folder, *limit);
        double bytes = number_in(path);
        snprintf(what, sizeof what, "%s of control group ", *limit);
        if (bytes >= 0 && bytes < no_limit)
            add(g->l, bytes - used, place_of(path), what, group);
    }
}

/* ---- processor time of control groups ---- */

typedef struct quota {
    double cores, period;
} quota;

static void keep_least(quota *least, double used, double period)
{
    if (used <= 0 || period <= 0 || used / period >= least->cores)
        return;
    *least = (quota){.cores = used / period, .period = 1e-6 * period};
}

static void quota_v2(void *ctx, const char *folder, const char *group)
{
    char path[PATH];
    double used, period;
    (void)group;
    snprintf(path, sizeof path, "%.16000s/cpu.max", folder);
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return;
    if (fscanf(f, "%lf %lf", &used, &period) == 2) /* "max": none */
        keep_least(ctx, used, period);
    fclose(f);
}

static void quota_v1(void *ctx, const char *folder, const char *group)
{
    char path[PATH];
    (void)group;
    snprintf(path, sizeof path, "%.16000s/cpu.cfs_quota_us", folder);
    double used = number_in(path);
    snprintf(path, sizeof path, "%.16000s/cpu.cfs_period_us", folder);
    keep_least(ctx, used, number_in(path));
}

double pac_limits_cores(const char *root, double *period)
{
    quota least = {.cores = INFINITY};
    walk_up(root, &(hierarchy){"cgroup2", ""}, quota_v2, &least);
    walk_up(root, &(hierarchy){"cgroup", "cpu"}, quota_v1, &least);
    *period = least.period;
    return least.cores;
}

/* ---- resource limits: of this process alone, so what it holds already is taken off ---- */

static void resources(listing *l)
{
    static const struct {
        int resource;
        const char *name, *used;
    } all[] = {{RLIMIT_AS, "RLIMIT_AS (ulimit -v)", "VmSize:"}, {RLIMIT_DATA, "RLIMIT_DATA (ulimit -d)", "VmData:"}};
    char path[PATH];
    snprintf(path, sizeof path, "%s/proc/self/status", l->root);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct rlimit r;
        double used = number_after(path, all[i].used);
        if (getrlimit((__rlimit_resource_t)all[i].resource, &r) == 0 && r.rlim_cur != RLIM_INFINITY)
            add(l, (double)r.rlim_cur - (used > 0 ? 1024 * used : 0), 0, all[i].name, "");
    }
}

int64_t pac_limits_read(const char *root, pac_limit out[PAC_MOST_LIMITS])
{
    listing l = {.root = root, .out = out};
    machine(&l);
    for (size_t i = 0; i < sizeof memory_files / sizeof memory_files[0]; i++)
        walk_up(root, &memory_files[i].h, memory_of_group, &(group_listing){&l, &memory_files[i]});
    resources(&l);
    return l.count;
}
