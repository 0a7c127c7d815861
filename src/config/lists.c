/*
 * Configuration values that are a word or a list: technique.layers, system.memory, system.groups. They fill several fields, so
 * their field is the whole configuration.
 */
#include "internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { LEAST_BARE = 1 << 20 }; /* bytes that a size without a unit is at least */

/* "name[3]", counted from 1. */
static const char *item_name(const pac_key *k, int64_t i, char *buf, size_t size)
{
    snprintf(buf, size, "%s[%" PRId64 "]", k->name, i + 1);
    return buf;
}

/* `word`: *count = 0; else a list of k->min..k->max whole numbers. */
static pac_err read_integers(const pac_key *k, const pac_yaml_node *n, const char *word, int64_t room, int64_t *count,
                             int64_t *list)
{
    char name[64];
    if (pac_yaml_kind_of(n) == PAC_YAML_SCALAR && strcmp(pac_yaml_text(n), word) == 0) {
        *count = 0;
        return PAC_OK;
    }
    int64_t items = pac_yaml_count(n);
    if (pac_yaml_kind_of(n) != PAC_YAML_LIST || items < 1 || items > room)
        return pac_yaml_fail(n, "%s: expected '%s' or a list such as [2, 1, 1] of at most %" PRId64 " numbers", k->name, word,
                             room);
    for (int64_t i = 0; i < items; i++)
        PAC_TRY(
            pac_yaml_int(pac_yaml_item(n, i), item_name(k, i, name, sizeof name), (int64_t)k->min, (int64_t)k->max, &list[i]));
    *count = items;
    return PAC_OK;
}

static pac_err write_integers(const char *word, int64_t count, const int64_t *list, pac_config_out *out)
{
    if (count == 0)
        return pac_config_print(out, "%s", word);
    for (int64_t i = 0; i < count; i++)
        PAC_TRY(pac_config_print(out, "%s%" PRId64, i == 0 ? "[" : ", ", list[i]));
    return pac_config_print(out, "]");
}

static pac_err read_layers(const pac_key *k, const pac_yaml_node *n, void *field)
{
    pac_config *c = field;
    const int64_t *list = c->technique.layers;
    PAC_TRY(read_integers(k, n, "all", PAC_MAX_LAYERS, &c->technique.nlayers, c->technique.layers));
    for (int64_t i = 1; i < c->technique.nlayers; i++)
        if (list[i] <= list[i - 1])
            return pac_yaml_fail(pac_yaml_item(n, i), "%s: %" PRId64 " after %" PRId64 ": layers must rise", k->name, list[i],
                                 list[i - 1]);
    c->technique.all_layers = c->technique.nlayers == 0;
    return PAC_OK;
}

static pac_err write_layers(const pac_key *k, const void *field, pac_config_out *out)
{
    const pac_config *c = field;
    (void)k;
    return write_integers("all", c->technique.all_layers ? 0 : c->technique.nlayers, c->technique.layers, out);
}

static pac_err read_groups(const pac_key *k, const pac_yaml_node *n, void *field)
{
    pac_config *c = field;
    return read_integers(k, n, "auto", PAC_MAX_DEVICES, &c->system.ngroups, c->system.groups);
}

static pac_err write_groups(const pac_key *k, const void *field, pac_config_out *out)
{
    const pac_config *c = field;
    (void)k;
    return write_integers("auto", c->system.ngroups, c->system.groups, out);
}

static pac_err read_size(const pac_yaml_node *n, const char *name, double *out)
{
    double v = 0;
    PAC_TRY(pac_yaml_bytes(n, name, &v));
    if (v < 1)
        return pac_yaml_fail(n, "%s: a budget of no memory", name);
    const char *text = pac_yaml_text(n);
    if (v < LEAST_BARE && strpbrk(text, "BkKMGT") == NULL) /* who writes 3 means GiB */
        return pac_yaml_fail(
            n, "%s: '%.60s' would be bytes, less than 1 MiB: check the unit (such as %.60s GiB; B where bytes are meant)", name,
            text, text);
    *out = v;
    return PAC_OK;
}

static pac_err read_memory(const pac_key *k, const pac_yaml_node *n, void *field)
{
    char name[64];
    pac_config *c = field;
    if (pac_yaml_kind_of(n) == PAC_YAML_LIST) {
        int64_t items = pac_yaml_count(n);
        if (items < 1 || items > PAC_MAX_DEVICES)
            return pac_yaml_fail(n, "%s: expected auto, a size, or a list of 1 to %d sizes", k->name, PAC_MAX_DEVICES);
        for (int64_t i = 0; i < items; i++)
            PAC_TRY(read_size(pac_yaml_item(n, i), item_name(k, i, name, sizeof name), &c->system.memory[i]));
        c->system.nmemory = items;
        c->system.memory_auto = false;
        return PAC_OK;
    }
    c->system.memory_auto = pac_yaml_kind_of(n) == PAC_YAML_SCALAR && strcmp(pac_yaml_text(n), "auto") == 0;
    c->system.nmemory = c->system.memory_auto ? 0 : 1;
    return c->system.memory_auto ? PAC_OK : read_size(n, k->name, &c->system.memory[0]);
}

static pac_err write_memory(const pac_key *k, const void *field, pac_config_out *out)
{
    const pac_config *c = field;
    (void)k;
    if (c->system.memory_auto)
        return pac_config_print(out, "auto");
    for (int64_t i = 0; i < c->system.nmemory; i++)
        PAC_TRY(pac_config_print(out, "%s%.17g B", i == 0 ? "[" : ", ", c->system.memory[i]));
    return pac_config_print(out, "]");
}

const pac_key_type pac_type_layers = {read_layers, write_layers};
const pac_key_type pac_type_groups = {read_groups, write_groups};
const pac_key_type pac_type_memory = {read_memory, write_memory};
