/* Reading profile.yaml: what was measured, in seconds, bytes and bytes per second. Whatever does not fit is refused with its
 * line. */
#include "file.h"
#include "profile_fields.h"

#include "cost.h"

#include <stdio.h>
#include <string.h>

enum { MOST_LAYERS = 4096, MOST_KEYS = 32, MOST_LATENCY = 10 /* seconds */, MOST_LENGTH = 1 << 30 };

#define AT(record, field, needed, why)                                                                                         \
    {                                                                                                                          \
#field, offsetof(record, field), needed, why                                                                           \
    }

const pac_number_field pac_profile_numbers[] = {
    AT(pac_profile, optimizer_states, true, "bytes for each byte that learns"),
    {"cached_bytes", offsetof(pac_profile, cached_step_bytes_read), true, "read from the cache for a sample"},
    AT(pac_profile, cache_row, false, "of a row of them: of its type"),
    AT(pac_profile, gradient_bytes, false, "of a gradient's element in an all-reduce; 0: 4, as the runtime sends them"),
    AT(pac_profile, fixed, false, "bytes on every device, whatever its stage"),
    AT(pac_profile, cached_fixed, false, "bytes of a device in the cached phase, and"),
    AT(pac_profile, cached_sample, false, "for each sample of its part of a mini-batch"),
    {NULL, 0, false, NULL}};

const pac_number_field pac_layer_numbers[] = {AT(pac_layer_bytes, weights, true, ""),
                                              AT(pac_layer_bytes, shared, false, ""),
                                              AT(pac_layer_bytes, shared_tuned, false, ""),
                                              AT(pac_layer_bytes, tuned, true, ""),
                                              AT(pac_layer_bytes, activations, true, ""),
                                              AT(pac_layer_bytes, work, false, ""),
                                              {NULL, 0, false, NULL}};

const pac_number_field pac_device_numbers[] = {
    AT(pac_device, disk_write, true, "bytes per second; 0: not measured"),
    AT(pac_device, disk_read, true, ""),
    AT(pac_device, disk_space, false, "bytes free where the cache will be"),
    AT(pac_device, port, false, "bytes per second of all its links together; 0: no limit"),
    AT(pac_device, update, false, "seconds for each byte that learns"),
    AT(pac_device, overhead, false, "seconds of a micro-batch, each way"),
    {NULL, 0, false, NULL}};

const char *const pac_kind_keys[PAC_COST_NKINDS + 1] = {
    [PAC_COST_ENC_BLOCK] = "encoder_block",
    [PAC_COST_DEC_BLOCK] = "decoder_block",
    [PAC_COST_ENC_EMBED] = "encoder_embedding",
    [PAC_COST_DEC_EMBED] = "decoder_embedding",
    [PAC_COST_HEAD] = "head",
    [PAC_COST_ENC_SIDE] = "encoder_side",
    [PAC_COST_DEC_SIDE] = "decoder_side",
};

static const char *const profile_texts[] = {"derived", "model", "shape",    "technique", "setting",   "optimizer", "layers",
                                            "tokens",  "bytes", "boundary", "devices",   "bandwidth", "latency",   NULL};
static const char *const layers_keys[] = {"encoder", "decoder", NULL};
static const char *const tokens_keys[] = {"source", "target", "max_source", "max_target", NULL};
static const char *const direction_keys[] = {"forward", "backward", NULL};
static const char *const no_texts[] = {NULL};
static const char *const device_texts[] = {"name", "interface", "memory", "times", NULL};
static const char *const curve_keys[] = {"tokens", "forward", "backward", "spread", NULL};

static pac_err field_text(const pac_yaml_node *root, const char *key, char *out, size_t bytes)
{
    const pac_yaml_node *n;
    PAC_TRY(pac_field(root, "", key, &n));
    return pac_read_text(n, key, out, bytes);
}

static pac_err optional_text(const pac_yaml_node *root, const char *key, char *out, size_t bytes)
{
    return pac_yaml_get(root, key) != NULL ? field_text(root, key, out, bytes) : PAC_OK;
}

static pac_err optional_count(const pac_yaml_node *n, const char *what, const char *key, int64_t *out)
{
    return pac_yaml_get(n, key) != NULL ? pac_read_count(n, what, key, 0, MOST_LENGTH, out) : PAC_OK;
}

/* A map of number fields and `others`. */
static pac_err want_fields(const pac_yaml_node *n, const char *what, const char *const *others, const pac_number_field *f)
{
    const char *keys[MOST_KEYS] = {NULL};
    int count = 0;
    while (*others != NULL)
        keys[count++] = *others++;
    for (; f->key != NULL; f++)
        keys[count++] = f->key;
    return pac_want_map(n, what, keys);
}

static pac_err read_fields(const pac_yaml_node *n, const char *what, const pac_number_field *f, void *record)
{
    for (; f->key != NULL; f++)
        if (f->needed || pac_yaml_get(n, f->key) != NULL)
            PAC_TRY(pac_read_number(n, what, f->key, 0, pac_field_of(f, record)));
    return PAC_OK;
}

static pac_err field_map(const pac_yaml_node *root, const char *key, const char *const *keys, const pac_yaml_node **out)
{
    PAC_TRY(pac_field(root, "", key, out));
    return pac_want_map(*out, key, keys);
}

static pac_err read_head(const pac_yaml_node *root, pac_profile *p)
{
    const pac_yaml_node *layers, *tokens;
    PAC_TRY(optional_text(root, "derived", p->derived, sizeof p->derived));
    PAC_TRY(optional_text(root, "shape", p->shape, sizeof p->shape));
    PAC_TRY(optional_text(root, "setting", p->setting, sizeof p->setting));
    PAC_TRY(field_text(root, "model", p->model, sizeof p->model));
    PAC_TRY(field_text(root, "technique", p->technique, sizeof p->technique));
    PAC_TRY(field_text(root, "optimizer", p->optimizer, sizeof p->optimizer));
    PAC_TRY(read_fields(root, "", pac_profile_numbers, p));
    PAC_TRY(field_map(root, "layers", layers_keys, &layers));
    PAC_TRY(pac_read_count(layers, "layers", "encoder", 0, MOST_LAYERS, &p->layers_enc));
    PAC_TRY(pac_read_count(layers, "layers", "decoder", 0, MOST_LAYERS, &p->layers_dec));
    if (pac_profile_layers(p) == 0)
        return pac_yaml_fail(layers, "layers: the model has none");
    PAC_TRY(field_map(root, "tokens", tokens_keys, &tokens));
    PAC_TRY(optional_count(tokens, "tokens", "max_source", &p->max_source));
    PAC_TRY(optional_count(tokens, "tokens", "max_target", &p->max_target));
    PAC_TRY(pac_read_number(tokens, "tokens", "source", 1, &p->source_tokens));
    return pac_read_number(tokens, "tokens", "target", 0, &p->target_tokens);
}

static pac_err read_layer(const pac_yaml_node *n, const char *what, pac_layer_bytes *b)
{
    PAC_TRY(want_fields(n, what, no_texts, pac_layer_numbers));
    PAC_TRY(read_fields(n, what, pac_layer_numbers, b));
    if (b->shared > b->weights)
        return pac_yaml_fail(n, "%s.shared: more than weights, of which it is a part", what);
    if (b->shared_tuned > b->tuned)
        return pac_yaml_fail(n, "%s.shared_tuned: more than tuned, of which it is a part", what);
    return PAC_OK;
}

static pac_err read_layers(const pac_yaml_node *root, pac_profile *p)
{
    int64_t L = pac_profile_layers(p);
    const pac_yaml_node *bytes, *boundary, *fwd, *bwd;
    PAC_TRY(pac_field(root, "", "bytes", &bytes));
    PAC_TRY(pac_want_list(bytes, "bytes", L, L));
    for (int64_t l = 0; l < L; l++) {
        char what[32];
        snprintf(what, sizeof what, "bytes[%lld]", (long long)l);
        PAC_TRY(read_layer(pac_yaml_item(bytes, l), what, &p->layer[l]));
    }
    PAC_TRY(field_map(root, "boundary", direction_keys, &boundary));
    PAC_TRY(pac_field(boundary, "boundary", "forward", &fwd));
    PAC_TRY(pac_field(boundary, "boundary", "backward", &bwd));
    PAC_TRY(pac_read_numbers(fwd, "boundary.forward", L + 1, 0, PAC_LARGEST, p->boundary_fwd));
    return pac_read_numbers(bwd, "boundary.backward", L + 1, 0, PAC_LARGEST, p->boundary_bwd);
}

static pac_err read_curve(const pac_yaml_node *n, const char *what, pac_cost_curve *c)
{
    const pac_yaml_node *tokens, *fwd, *bwd;
    PAC_TRY(pac_want_map(n, what, curve_keys));
    PAC_TRY(pac_field(n, what, "tokens", &tokens));
    PAC_TRY(pac_field(n, what, "forward", &fwd));
    PAC_TRY(pac_field(n, what, "backward", &bwd));
    PAC_TRY(pac_want_list(tokens, "tokens", 1, PAC_MAX_POINTS));
    c->points = pac_yaml_count(tokens);
    PAC_TRY(pac_read_numbers(tokens, "tokens", c->points, 0, 1e9, c->tokens));
    PAC_TRY(pac_read_numbers(fwd, "forward", c->points, 0, PAC_LARGEST, c->fwd));
    PAC_TRY(pac_read_numbers(bwd, "backward", c->points, 0, PAC_LARGEST, c->bwd));
    if (pac_yaml_get(n, "spread") != NULL)
        PAC_TRY(pac_read_number(n, what, "spread", 0, &c->spread));
    for (int64_t i = 0; i < c->points; i++)
        if (!(c->tokens[i] > (i == 0 ? 0 : c->tokens[i - 1])))
            return pac_yaml_fail(pac_yaml_item(tokens, i), "%s.tokens must increase and be above 0", what);
    return PAC_OK;
}

/* Kinds that the model does not have may be absent; a block of a stack that it has may not. */
static pac_err read_times(const pac_yaml_node *n, const pac_profile *p, pac_device *d)
{
    PAC_TRY(pac_want_map(n, "times", pac_kind_keys));
    for (int k = 0; k < PAC_COST_NKINDS; k++) {
        const pac_yaml_node *curve = pac_yaml_get(n, pac_kind_keys[k]);
        bool needed = (k == PAC_COST_ENC_BLOCK && p->layers_enc > 0) || (k == PAC_COST_DEC_BLOCK && p->layers_dec > 0);
        if (curve == NULL && needed)
            return pac_yaml_fail(n, "times.%s is missing", pac_kind_keys[k]);
        if (curve != NULL)
            PAC_TRY(read_curve(curve, pac_kind_keys[k], &d->cost[k]));
    }
    return PAC_OK;
}

static pac_err read_device(const pac_yaml_node *n, const pac_profile *p, int64_t i)
{
    pac_device *d = &p->device[i];
    const pac_yaml_node *name, *memory, *times;
    char what[32];
    snprintf(what, sizeof what, "devices[%lld]", (long long)i);
    PAC_TRY(want_fields(n, what, device_texts, pac_device_numbers));
    PAC_TRY(pac_field(n, what, "name", &name));
    PAC_TRY(pac_read_text(name, "name", d->name, sizeof d->name));
    PAC_TRY(pac_field(n, what, "memory", &memory));
    PAC_TRY(pac_yaml_bytes(memory, "memory", &d->memory));
    PAC_TRY(read_fields(n, what, pac_device_numbers, d));
    if (pac_yaml_get(n, "interface") != NULL)
        PAC_TRY(pac_read_text(pac_yaml_get(n, "interface"), "interface", d->interface, sizeof d->interface));
    PAC_TRY(pac_field(n, what, "times", &times));
    return read_times(times, p, d);
}

/* One row for each device; a divisor is at least 1 but on the diagonal, which nobody uses. */
static pac_err read_matrix(const pac_yaml_node *root, const char *key, int64_t n, bool divisor, double most, double *out)
{
    const pac_yaml_node *rows;
    PAC_TRY(pac_field(root, "", key, &rows));
    PAC_TRY(pac_want_list(rows, key, n, n));
    for (int64_t i = 0; i < n; i++) {
        const pac_yaml_node *row = pac_yaml_item(rows, i);
        PAC_TRY(pac_read_numbers(row, divisor ? "bandwidth (bytes per second)" : "latency (seconds)", n, 0, most, &out[i * n]));
        for (int64_t j = 0; j < n; j++)
            if (divisor && i != j && out[i * n + j] < 1)
                return pac_yaml_fail(pac_yaml_item(row, j), "%s from %lld to %lld must be at least 1 (bytes per second)", key,
                                     (long long)i, (long long)j);
    }
    return PAC_OK;
}

static pac_err read_profile(const pac_yaml_node *root, pac_profile *p)
{
    const pac_yaml_node *devices;
    PAC_TRY(want_fields(root, "", profile_texts, pac_profile_numbers));
    PAC_TRY(read_head(root, p));
    PAC_TRY(pac_field(root, "", "devices", &devices));
    PAC_TRY(pac_want_list(devices, "devices", 1, PAC_MAX_DEVICES));
    PAC_TRY(pac_profile_alloc(pac_profile_layers(p), pac_yaml_count(devices), p));
    PAC_TRY(read_layers(root, p));
    for (int64_t i = 0; i < p->devices; i++)
        PAC_TRY(read_device(pac_yaml_item(devices, i), p, i));
    PAC_TRY(read_matrix(root, "bandwidth", p->devices, true, PAC_LARGEST, p->bandwidth));
    return read_matrix(root, "latency", p->devices, false, MOST_LATENCY, p->latency);
}

pac_err pac_profile_read(const char *path, pac_profile *out)
{
    pac_yaml *doc;
    pac_profile p = {0};
    PAC_TRY(pac_yaml_open(path, &doc));
    pac_err err = read_profile(pac_yaml_root(doc), &p);
    pac_yaml_close(&doc);
    snprintf(p.path, sizeof p.path, "%.255s", path);
    if (err != PAC_OK)
        pac_profile_free(&p);
    else
        *out = p;
    return err;
}
