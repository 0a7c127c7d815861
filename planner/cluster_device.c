/*
 * What a device is: the keys of a description, one row of a table each, and where descriptions lie. A cluster file's own keys
 * override those of the type that it names.
 */
#include "cluster.h"
#include "file.h"
#include "places.h"

#include <dirent.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_TYPES = 256, PATH = 4096 };

/* No whole number of seconds is a plausible overhead: who writes 300 means microseconds. */
#define WORK                                                                                                                   \
    {                                                                                                                          \
        1e6, 1e16, false                                                                                                       \
    }
#define WORK_OR_NONE                                                                                                           \
    {                                                                                                                          \
        1e6, 1e16, true                                                                                                        \
    }
#define OVERHEAD                                                                                                               \
    {                                                                                                                          \
        0, 0.9, true                                                                                                           \
    }
#define DISK                                                                                                                   \
    {                                                                                                                          \
        1e4, 1e12, true                                                                                                        \
    }

/* Without or_none: must be given, here or by the type. */
static const struct {
    const char *key;
    pac_quantity quantity;
    pac_limits range;
    size_t at;
} fields[] = {
    {"flops", PAC_Q_FLOPS, WORK, offsetof(pac_machine, flops)},
    {"memory", PAC_Q_BYTES, {1 << 20, 1e14, false}, offsetof(pac_machine, memory)},
    {"memory_bandwidth", PAC_Q_RATE, {1e6, 1e15, false}, offsetof(pac_machine, memory_bandwidth)},
    {"peak", PAC_Q_FLOPS, WORK_OR_NONE, offsetof(pac_machine, peak)},
    {"flops_backward", PAC_Q_FLOPS, WORK_OR_NONE, offsetof(pac_machine, flops_backward)},
    {"half_size", PAC_Q_NUMBER, {0, 1e5, true}, offsetof(pac_machine, half_size)},
    {"launch", PAC_Q_SECONDS, {0, 0.1, true}, offsetof(pac_machine, launch)},
    {"overhead", PAC_Q_SECONDS, OVERHEAD, offsetof(pac_machine, overhead)},
    {"block_overhead", PAC_Q_SECONDS, OVERHEAD, offsetof(pac_machine, block_overhead)},
    {"block_overhead_backward", PAC_Q_SECONDS, OVERHEAD, offsetof(pac_machine, block_overhead_backward)},
    {"side_overhead", PAC_Q_SECONDS, OVERHEAD, offsetof(pac_machine, side_overhead)},
    {"side_overhead_backward", PAC_Q_SECONDS, OVERHEAD, offsetof(pac_machine, side_overhead_backward)},
    {"disk_write", PAC_Q_RATE, DISK, offsetof(pac_machine, disk_write)},
    {"disk_read", PAC_Q_RATE, DISK, offsetof(pac_machine, disk_read)},
    {"disk_space", PAC_Q_BYTES, {1e4, 1e16, true}, offsetof(pac_machine, disk_space)},
    {"port", PAC_Q_RATE, {PAC_SLOWEST_LINK, PAC_FASTEST_LINK, true}, offsetof(pac_machine, port)},
};

enum { NFIELDS = sizeof fields / sizeof fields[0] };

#define DEVICE_KEYS                                                                                                            \
    "flops", "memory", "memory_bandwidth", "peak", "flops_backward", "half_size", "launch", "overhead", "block_overhead",      \
        "block_overhead_backward", "side_overhead", "side_overhead_backward", "disk_write", "disk_read", "disk_space", "port"
const char *const pac_device_keys[] = {DEVICE_KEYS, NULL};
const char *const pac_entry_keys[] = {"name", "type", "count", DEVICE_KEYS, NULL};

static double *field_of(pac_machine *m, int i)
{
    return (double *)(void *)((char *)m + fields[i].at);
}

pac_err pac_read_machine(const pac_yaml_node *map, const char *what, pac_machine *m)
{
    for (int i = 0; i < NFIELDS; i++) {
        const pac_yaml_node *n = pac_yaml_get(map, fields[i].key);
        char path[128];
        snprintf(path, sizeof path, "%s%s%s", what, *what == '\0' ? "" : ".", fields[i].key);
        if (n != NULL)
            PAC_TRY(pac_read_quantity(n, path, fields[i].quantity, fields[i].range, field_of(m, i)));
    }
    return PAC_OK;
}

pac_err pac_check_machine(const pac_yaml_node *n, const char *what, pac_machine *m)
{
    for (int i = 0; i < NFIELDS; i++)
        if (*field_of(m, i) == 0 && !fields[i].range.or_none)
            return pac_yaml_fail(n, "%s.%s is missing: give it, or a type that has it", what, fields[i].key);
    if (m->flops_backward == 0)
        m->flops_backward = m->flops;
    if (m->peak > 0 && (m->flops > m->peak || m->flops_backward > m->peak))
        return pac_yaml_fail(n, "%s: flops is above peak, what the device could do at best (%g FLOP/s)", what, m->peak);
    return PAC_OK;
}

/* ---- types ---- */

typedef struct type_list {
    char name[MOST_TYPES][64];
    const char *word[MOST_TYPES + 1];
    int n;
} type_list;

/* "devices" beside the folder of the file; "" where there is no room. */
static void beside(const char *near, char out[static PATH])
{
    const char *slash = strrchr(near, '/');
    int n =
        slash == NULL ? snprintf(out, PATH, "../devices") : snprintf(out, PATH, "%.*s/../devices", (int)(slash - near), near);
    if (n < 0 || n >= PATH)
        out[0] = '\0';
}

/* The folder number i, NULL after the last; "" where there is none. */
static const char *folder(int i, const char *near, char buf[static PATH])
{
    static const char *const always[] = {PAC_DEVICES_SOURCE, PAC_DEVICES_INSTALLED, NULL};
    if (i == 0) {
        beside(near, buf);
        return buf;
    }
    if (i > 1)
        return always[i - 2];
    const char *set = getenv("PAC_DEVICES");
    return set != NULL ? set : "";
}

static void list_folder(const char *path, type_list *out)
{
    DIR *d = opendir(path);
    const struct dirent *e;
    while (d != NULL && out->n < MOST_TYPES && (e = readdir(d)) != NULL) {
        size_t n = strlen(e->d_name);
        if (n <= 5 || n - 5 >= sizeof out->name[0] || strcmp(e->d_name + n - 5, ".yaml") != 0)
            continue;
        memcpy(out->name[out->n], e->d_name, n - 5);
        out->name[out->n][n - 5] = '\0';
        out->word[out->n] = out->name[out->n];
        out->n++;
    }
    if (d != NULL)
        closedir(d);
}

static pac_err unknown_type(const pac_yaml_node *n, const char *near, const char *type)
{
    type_list all = {.n = 0};
    char buf[PATH];
    const char *at;
    for (int i = 0; (at = folder(i, near, buf)) != NULL; i++)
        if (*at != '\0')
            list_folder(at, &all);
    const char *nearest = pac_nearest(type, all.word);
    if (nearest != NULL)
        return pac_yaml_fail(n, "type: no device is called '%.60s'; did you mean '%s'?", type, nearest);
    return pac_yaml_fail(
        n, "type: no device is called '%.60s': it would be %.60s.yaml in experiments/devices/ or in PAC_DEVICES", type, type);
}

static bool is_name(const char *s)
{
    return s[0] != '\0' && s[0] != '.' &&
           s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")] == '\0';
}

static pac_err read_description(const char *path, pac_machine *m)
{
    pac_yaml *doc;
    PAC_TRY(pac_yaml_open(path, &doc));
    const pac_yaml_node *root = pac_yaml_root(doc);
    pac_err err = pac_want_map(root, "", pac_device_keys);
    if (err == PAC_OK)
        err = pac_read_machine(root, "", m);
    pac_yaml_close(&doc);
    return err;
}

pac_err pac_read_type(const pac_yaml_node *n, const char *near, pac_machine *m)
{
    char buf[PATH], path[PATH + 80];
    const char *at;
    PAC_TRY(pac_read_text(n, "type", m->type, sizeof m->type));
    if (!is_name(m->type))
        return pac_yaml_fail(n, "type: '%.60s' is not a name of letters, digits, '-', '_' and '.'", m->type);
    for (int i = 0; (at = folder(i, near, buf)) != NULL; i++) {
        if (*at == '\0' || strlen(at) >= PATH)
            continue;
        snprintf(path, sizeof path, "%s/%s.yaml", at, m->type);
        if (access(path, F_OK) == 0)
            return read_description(path, m);
    }
    return unknown_type(n, near, m->type);
}
