/* Writing profile.yaml, for people and for `pac plan --profile`. */
#include "cost.h"
#include "file.h"
#include "profile_fields.h"

#include <string.h>

enum { DIGITS = 7 };

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

/* One field a line. */
static void emit_fields(pac_emitter *e, const char *indent, const pac_number_field *f, const void *record)
{
    for (; f->key != NULL; f++) {
        pac_emit(e, "%s%s: ", indent, f->key);
        pac_emit_number(e, *pac_field_of(f, record), DIGITS);
        pac_emit(e, "%s%s\n", *f->why != '\0' ? " # " : "", f->why);
    }
}

/* All fields in one line; those that need not be there are left out where they are 0. */
static void emit_inline(pac_emitter *e, const pac_number_field *f, const void *record)
{
    const char *before = "";
    for (; f->key != NULL; f++) {
        double x = *pac_field_of(f, record);
        if (x == 0 && !f->needed)
            continue;
        pac_emit(e, "%s%s: ", before, f->key);
        pac_emit_number(e, x, DIGITS);
        before = ", ";
    }
}

static void emit_head(pac_emitter *e, const pac_profile *p)
{
    pac_emit(e, "# A profile of pac: what layers, devices and links cost. Seconds, bytes, bytes per second. docs/formats.md "
                "has the rules.\n");
    if (p->derived[0] != '\0') {
        pac_emit(e, "# Nothing here was measured: times follow from shapes and from the devices' descriptions.\n");
        emit_text_field(e, "derived", p->derived);
    }
    emit_text_field(e, "model", p->model);
    if (p->shape[0] != '\0')
        emit_text_field(e, "shape", p->shape);
    emit_text_field(e, "technique", p->technique);
    if (p->setting[0] != '\0')
        emit_text_field(e, "setting", p->setting);
    emit_text_field(e, "optimizer", p->optimizer);
    pac_emit(e, "layers: {encoder: %lld, decoder: %lld}\n", (long long)p->layers_enc, (long long)p->layers_dec);
    emit_number_field(e, "tokens: {source: ", p->source_tokens, ", target: ");
    emit_number_field(e, "", p->target_tokens, "");
    if (p->max_source > 0)
        pac_emit(e, ", max_source: %lld, max_target: %lld", (long long)p->max_source, (long long)p->max_target);
    pac_emit(e, "} # of a sample, on average%s\n", p->max_source > 0 ? "; task.max_*" : "");
    emit_fields(e, "", pac_profile_numbers, p);
}

static void emit_layers(pac_emitter *e, const pac_profile *p)
{
    int64_t L = pac_profile_layers(p);
    pac_emit(e,
             "bytes: # a layer a line, with embedding, norm and head where they ride along; activations, work: of a sample\n");
    for (int64_t l = 0; l < L; l++) {
        pac_emit(e, "  - {");
        emit_inline(e, pac_layer_numbers, &p->layer[l]);
        pac_emit(e, "}\n");
    }
    pac_emit(e, "boundary: # bytes of a sample that cross in front of each layer, and behind the last\n  forward: ");
    pac_emit_numbers(e, p->boundary_fwd, L + 1, DIGITS, 12);
    pac_emit(e, "\n  backward: ");
    pac_emit_numbers(e, p->boundary_bwd, L + 1, DIGITS, 13);
    pac_emit(e, "\n");
}

static void emit_curve(pac_emitter *e, const char *key, const pac_cost_curve *c)
{
    static const char *const name[] = {"tokens", "forward", "backward"};
    const double *const column[] = {c->tokens, c->fwd, c->bwd};
    if (c->points == 0)
        return;
    pac_emit(e, "      %s:\n", key);
    for (int i = 0; i < 3; i++) {
        pac_emit(e, "        %s: ", name[i]);
        pac_emit_numbers(e, column[i], c->points, DIGITS, 8 + (int)strlen(name[i]) + 3);
        pac_emit(e, "\n");
    }
    if (c->spread > 0)
        emit_number_field(e, "        spread: ", c->spread, "\n");
}

static void emit_device(pac_emitter *e, const pac_device *d)
{
    pac_emit(e, "  - name: ");
    pac_emit_text(e, d->name);
    pac_emit(e, "\n    interface: ");
    pac_emit_text(e, d->interface);
    emit_number_field(e, "\n    memory: ", d->memory, " # budget in bytes\n");
    emit_fields(e, "    ", pac_device_numbers, d);
    pac_emit(e, "    times: # seconds at so many tokens\n");
    for (int k = 0; k < PAC_COST_NKINDS; k++)
        emit_curve(e, pac_kind_keys[k], &d->cost[k]);
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
