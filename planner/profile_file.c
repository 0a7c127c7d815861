/* profile.yaml: what was measured, in seconds, bytes and bytes per second, for people and for `pac plan --profile`. */
#include "file.h"
#include "plan_alloc.h"

#include "cost.h"

#include <stdio.h>
#include <string.h>

enum { MOST_LAYERS = 4096, DIGITS = 7 };

static const char *const profile_keys[] = {"model",     "technique", "optimizer", "optimizer_states", "layers",
                                           "tokens",    "bytes",     "boundary",  "cached_bytes",     "devices",
                                           "bandwidth", "latency",   NULL};
static const char *const layers_keys[] = {"encoder", "decoder", NULL};
static const char *const tokens_keys[] = {"source", "target", NULL};
static const char *const bytes_keys[] = {"weights", "shared", "tuned", "shared_tuned", "activations", NULL};
static const char *const direction_keys[] = {"forward", "backward", NULL};
static const char *const device_keys[] = {"name", "memory", "disk_write", "disk_read", "times", NULL};
static const char *const curve_keys[] = {"tokens", "forward", "backward", NULL};

/* In the order of pac_cost_kind. */
static const char *const kind_keys[PAC_COST_NKINDS + 1] = {
    [PAC_COST_ENC_BLOCK] = "encoder_block",
    [PAC_COST_DEC_BLOCK] = "decoder_block",
    [PAC_COST_ENC_EMBED] = "encoder_embedding",
    [PAC_COST_DEC_EMBED] = "decoder_embedding",
    [PAC_COST_HEAD] = "head",
    [PAC_COST_ENC_SIDE] = "encoder_side",
    [PAC_COST_DEC_SIDE] = "decoder_side",
};

/* ---- reading ---- */

static pac_err field_text(const pac_yaml_node *root, const char *key, char *out, size_t bytes)
{
    const pac_yaml_node *n;
    PAC_TRY(pac_field(root, "", key, &n));
    return pac_read_text(n, key, out, bytes);
}

static pac_err field_map(const pac_yaml_node *root, const char *key, const char *const *keys, const pac_yaml_node **out)
{
    PAC_TRY(pac_field(root, "", key, out));
    return pac_want_map(*out, key, keys);
}

static pac_err read_head(const pac_yaml_node *root, pac_profile *p)
{
    const pac_yaml_node *layers, *tokens;
    PAC_TRY(field_text(root, "model", p->model, sizeof p->model));
    PAC_TRY(field_text(root, "technique", p->technique, sizeof p->technique));
    PAC_TRY(field_text(root, "optimizer", p->optimizer, sizeof p->optimizer));
    PAC_TRY(pac_read_number(root, "", "optimizer_states", 0, &p->optimizer_states));
    PAC_TRY(pac_read_number(root, "", "cached_bytes", 0, &p->cached_step_bytes_read));
    PAC_TRY(field_map(root, "layers", layers_keys, &layers));
    PAC_TRY(pac_read_count(layers, "layers", "encoder", 0, MOST_LAYERS, &p->layers_enc));
    PAC_TRY(pac_read_count(layers, "layers", "decoder", 0, MOST_LAYERS, &p->layers_dec));
    if (pac_profile_layers(p) == 0)
        return pac_yaml_fail(layers, "layers: the model has none");
    PAC_TRY(field_map(root, "tokens", tokens_keys, &tokens));
    PAC_TRY(pac_read_number(tokens, "tokens", "source", 0, &p->source_tokens));
    return pac_read_number(tokens, "tokens", "target", 0, &p->target_tokens);
}

static pac_err read_layers(const pac_yaml_node *root, pac_profile *p)
{
    int64_t L = pac_profile_layers(p);
    const pac_yaml_node *bytes, *boundary, *fwd, *bwd;
    PAC_TRY(pac_field(root, "", "bytes", &bytes));
    PAC_TRY(pac_want_list(bytes, "bytes", L, L));
    for (int64_t l = 0; l < L; l++) {
        const pac_yaml_node *n = pac_yaml_item(bytes, l);
        char what[32];
        snprintf(what, sizeof what, "bytes[%lld]", (long long)l);
        PAC_TRY(pac_want_map(n, what, bytes_keys));
        PAC_TRY(pac_read_number(n, what, "weights", 0, &p->layer[l].weights));
        if (pac_yaml_get(n, "shared") != NULL)
            PAC_TRY(pac_read_number(n, what, "shared", 0, &p->layer[l].shared));
        if (p->layer[l].shared > p->layer[l].weights)
            return pac_yaml_fail(n, "%s.shared: more than weights, of which it is a part", what);
        PAC_TRY(pac_read_number(n, what, "tuned", 0, &p->layer[l].tuned));
        PAC_TRY(pac_read_number(n, what, "activations", 0, &p->layer[l].activations));
        if (pac_yaml_get(n, "shared_tuned") != NULL)
            PAC_TRY(pac_read_number(n, what, "shared_tuned", 0, &p->layer[l].shared_tuned));
        if (p->layer[l].shared_tuned > p->layer[l].tuned)
            return pac_yaml_fail(n, "%s.shared_tuned: more than tuned, of which it is a part", what);
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
    for (int64_t i = 0; i < c->points; i++)
        if (!(c->tokens[i] > (i == 0 ? 0 : c->tokens[i - 1])))
            return pac_yaml_fail(pac_yaml_item(tokens, i), "%s.tokens must increase and be above 0", what);
    return PAC_OK;
}

/* Kinds that the model does not have may be absent; a block of a stack that it has may not. */
static pac_err read_times(const pac_yaml_node *n, const pac_profile *p, pac_device *d)
{
    PAC_TRY(pac_want_map(n, "times", kind_keys));
    for (int k = 0; k < PAC_COST_NKINDS; k++) {
        const pac_yaml_node *curve = pac_yaml_get(n, kind_keys[k]);
        bool needed = (k == PAC_COST_ENC_BLOCK && p->layers_enc > 0) || (k == PAC_COST_DEC_BLOCK && p->layers_dec > 0);
        if (curve == NULL && needed)
            return pac_yaml_fail(n, "times.%s is missing", kind_keys[k]);
        if (curve != NULL)
            PAC_TRY(read_curve(curve, kind_keys[k], &d->cost[k]));
    }
    return PAC_OK;
}

static pac_err read_device(const pac_yaml_node *n, const pac_profile *p, int64_t i)
{
    pac_device *d = &p->device[i];
    const pac_yaml_node *name, *memory, *times;
    char what[32];
    snprintf(what, sizeof what, "devices[%lld]", (long long)i);
    PAC_TRY(pac_want_map(n, what, device_keys));
    PAC_TRY(pac_field(n, what, "name", &name));
    PAC_TRY(pac_read_text(name, "name", d->name, sizeof d->name));
    PAC_TRY(pac_field(n, what, "memory", &memory));
    PAC_TRY(pac_yaml_bytes(memory, "memory", &d->memory));
    PAC_TRY(pac_read_number(n, what, "disk_write", 0, &d->disk_write));
    PAC_TRY(pac_read_number(n, what, "disk_read", 0, &d->disk_read));
    PAC_TRY(pac_field(n, what, "times", &times));
    return read_times(times, p, d);
}

/* One row for each device; a divisor is at least 1 but on the diagonal, which nobody uses. */
static pac_err read_matrix(const pac_yaml_node *root, const char *key, int64_t n, bool divisor, double *out)
{
    const pac_yaml_node *rows;
    PAC_TRY(pac_field(root, "", key, &rows));
    PAC_TRY(pac_want_list(rows, key, n, n));
    for (int64_t i = 0; i < n; i++) {
        const pac_yaml_node *row = pac_yaml_item(rows, i);
        PAC_TRY(pac_read_numbers(row, key, n, 0, PAC_LARGEST, &out[i * n]));
        for (int64_t j = 0; j < n; j++)
            if (divisor && i != j && out[i * n + j] < 1)
                return pac_yaml_fail(pac_yaml_item(row, j), "%s from %lld to %lld must be at least 1", key, (long long)i,
                                     (long long)j);
    }
    return PAC_OK;
}

static pac_err read_profile(const pac_yaml_node *root, pac_profile *p)
{
    const pac_yaml_node *devices;
    PAC_TRY(pac_want_map(root, "", profile_keys));
    PAC_TRY(read_head(root, p));
    PAC_TRY(pac_field(root, "", "devices", &devices));
    PAC_TRY(pac_want_list(devices, "devices", 1, PAC_MAX_DEVICES));
    PAC_TRY(pac_profile_alloc(pac_profile_layers(p), pac_yaml_count(devices), p));
    PAC_TRY(read_layers(root, p));
    for (int64_t i = 0; i < p->devices; i++)
        PAC_TRY(read_device(pac_yaml_item(devices, i), p, i));
    PAC_TRY(read_matrix(root, "bandwidth", p->devices, true, p->bandwidth));
    return read_matrix(root, "latency", p->devices, false, p->latency);
}

pac_err pac_profile_read(const char *path, pac_profile *out)
{
    pac_yaml *doc;
    pac_profile p = {0};
    PAC_TRY(pac_yaml_open(path, &doc));
    pac_err err = read_profile(pac_yaml_root(doc), &p);
    pac_yaml_close(&doc);
    if (err != PAC_OK)
        pac_profile_free(&p);
    else
        *out = p;
    return err;
}

/* ---- writing ---- */

static void emit_text_field(pac_emitter *e, const char *key, const char *value)
{
    pac_emit(e, "%s: ", key);
    pac_emit_text(e, value);
    pac_emit(e, "\n");
}

static void emit_number_field(pac_emitter *e, const char *before, double x, const char *after)
{
    pac_emit(e, "%s", before);
    pac_emit_number(e, x, DIGITS);
    pac_emit(e, "%s", after);
}

static void emit_head(pac_emitter *e, const pac_profile *p)
{
    pac_emit(e, "# A profile of pac: what layers, devices and links cost. Seconds, bytes, bytes per second. docs/formats.md "
                "has the rules.\n");
    emit_text_field(e, "model", p->model);
    emit_text_field(e, "technique", p->technique);
    emit_text_field(e, "optimizer", p->optimizer);
    emit_number_field(e, "optimizer_states: ", p->optimizer_states, " # bytes for each byte that learns\n");
    pac_emit(e, "layers: {encoder: %lld, decoder: %lld}\n", (long long)p->layers_enc, (long long)p->layers_dec);
    emit_number_field(e, "tokens: {source: ", p->source_tokens, ", target: ");
    emit_number_field(e, "", p->target_tokens, "} # of a sample, on average\n");
    emit_number_field(e, "cached_bytes: ", p->cached_step_bytes_read, " # read from the cache for a sample\n");
}

static void emit_layers(pac_emitter *e, const pac_profile *p)
{
    int64_t L = pac_profile_layers(p);
    pac_emit(e, "bytes: # a layer a line, with embedding, norm and head where they ride along; activations: of a sample\n");
    for (int64_t l = 0; l < L; l++) {
        emit_number_field(e, "  - {weights: ", p->layer[l].weights, "");
        if (p->layer[l].shared > 0)
            emit_number_field(e, ", shared: ", p->layer[l].shared, "");
        if (p->layer[l].shared_tuned > 0)
            emit_number_field(e, ", shared_tuned: ", p->layer[l].shared_tuned, "");
        pac_emit(e, ", tuned: ");
        emit_number_field(e, "", p->layer[l].tuned, ", activations: ");
        emit_number_field(e, "", p->layer[l].activations, "}\n");
    }
    pac_emit(e, "boundary: # bytes of a sample that cross in front of each layer, and behind the last\n  forward: ");
    pac_emit_numbers(e, p->boundary_fwd, L + 1, DIGITS, 12);
    pac_emit(e, "\n  backward: ");
    pac_emit_numbers(e, p->boundary_bwd, L + 1, DIGITS, 13);
    pac_emit(e, "\n");
}

static void emit_curve(pac_emitter *e, const char *key, const pac_cost_curve *c)
{
    const double *const column[] = {c->tokens, c->fwd, c->bwd};
    if (c->points == 0)
        return;
    pac_emit(e, "      %s:\n", key);
    for (int i = 0; i < 3; i++) {
        pac_emit(e, "        %s: ", curve_keys[i]);
        pac_emit_numbers(e, column[i], c->points, DIGITS, 8 + (int)strlen(curve_keys[i]) + 3);
        pac_emit(e, "\n");
    }
}

static void emit_device(pac_emitter *e, const pac_device *d)
{
    pac_emit(e, "  - name: ");
    pac_emit_text(e, d->name);
    emit_number_field(e, "\n    memory: ", d->memory, " # budget in bytes\n");
    emit_number_field(e, "    disk_write: ", d->disk_write, "\n");
    emit_number_field(e, "    disk_read: ", d->disk_read, "\n    times: # seconds at so many samples\n");
    for (int k = 0; k < PAC_COST_NKINDS; k++)
        emit_curve(e, kind_keys[k], &d->cost[k]);
}

static void emit_matrix(pac_emitter *e, const char *head, const double *x, int64_t n)
{
    pac_emit(e, "%s\n", head);
    for (int64_t i = 0; i < n; i++) {
        pac_emit(e, "  - ");
        pac_emit_numbers(e, &x[i * n], n, DIGITS, 5);
        pac_emit(e, "\n");
    }
}

pac_err pac_profile_write(const pac_profile *p, const char *path)
{
    pac_emitter e = {0};
    emit_head(&e, p);
    emit_layers(&e, p);
    pac_emit(&e, "devices: # in the order of ranks; disk: bytes per second, 0: not measured\n");
    for (int64_t i = 0; i < p->devices; i++)
        emit_device(&e, &p->device[i]);
    emit_matrix(&e, "bandwidth: # bytes per second, row: from, column: to", p->bandwidth, p->devices);
    emit_matrix(&e, "latency: # seconds", p->latency, p->devices);
    return pac_emit_save(&e, path);
}
