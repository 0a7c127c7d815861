/*
 * Which tensors of a model file a slice of layers needs: a walk over the family's rules. Everything that must know the tensors
 * of a model (loading, byte counts, parameter counts, random initialisation) reads this one list.
 */
#include "family.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct walk {
    const pac_model_desc *d;
    pac_tensor_need *list;
    int64_t count, capacity;
} walk;

static bool has_tensor(const pac_model_desc *d, const pac_tensor_rule *r)
{
    switch (r->when) {
    case PAC_WHEN_GATED:
        return d->block[r->stack].gated;
    case PAC_WHEN_PLAIN:
        return !d->block[r->stack].gated;
    case PAC_WHEN_TIED:
        return d->tied;
    case PAC_WHEN_UNTIED:
        return !d->tied;
    default:
        return true;
    }
}

static int64_t size_of_letter(const pac_model_desc *d, pac_stack stack, char letter)
{
    const pac_block_cfg *b = &d->block[stack];
    switch (letter) {
    case 'V':
        return d->vocab;
    case 'D':
        return b->D;
    case 'I':
        return b->H * b->K;
    case 'F':
        return b->F;
    case 'H':
        return b->H;
    case 'K':
        return b->K;
    case 'R':
        return b->buckets;
    default:
        return 1;
    }
}

/* The pattern with '#' replaced by the block's number. */
static void expand(char *out, size_t size, const char *pattern, int64_t block)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%lld", (long long)block);
    size_t n = 0;
    for (const char *p = pattern; *p != '\0'; p++) {
        const char *piece = *p == '#' ? digits : p;
        size_t bytes = *p == '#' ? strlen(digits) : 1;
        for (size_t i = 0; i < bytes && n + 1 < size; i++)
            out[n++] = piece[i];
    }
    out[n] = '\0';
}

static bool listed(const walk *w, const char *name)
{
    for (int64_t i = 0; i < w->count; i++)
        if (strcmp(w->list[i].name, name) == 0)
            return true;
    return false;
}

static pac_err add(walk *w, const pac_tensor_rule *r, int64_t block)
{
    void *list = w->list;
    PAC_TRY(pac_mem_grow(PAC_MEM_OTHER, &list, &w->capacity, w->count + 1, sizeof *w->list));
    w->list = list;
    pac_tensor_need t = {.rule = r, .layer = -1, .n = 1};
    expand(t.name, sizeof t.name, r->name, block);
    if (r->alt != NULL)
        expand(t.alt, sizeof t.alt, r->alt, block);
    if (r->scope == PAC_T_BLOCK)
        t.layer = block + (r->stack == PAC_DEC ? w->d->layers[PAC_ENC] : 0);
    for (const char *p = r->dims; *p != '\0'; p++) {
        t.shape[t.ndim] = size_of_letter(w->d, r->stack, *p);
        t.n *= t.shape[t.ndim++];
    }
    if (r->divisor != NULL) {
        double product = 1;
        for (const char *p = r->divisor; *p != '\0'; p++)
            product *= (double)size_of_letter(w->d, r->stack, *p);
        t.deviation = 1 / sqrt(product);
    }
    t.repeated = r->scope != PAC_T_BLOCK && listed(w, t.name);
    w->list[w->count++] = t;
    return PAC_OK;
}

static pac_err add_scope(walk *w, pac_stack stack, pac_tensor_scope scope, int64_t block)
{
    for (const pac_tensor_rule *r = w->d->family->rules; r->name != NULL; r++)
        if (r->scope == scope && r->stack == stack && has_tensor(w->d, r))
            PAC_TRY(add(w, r, block));
    return PAC_OK;
}

/* Blocks [first, last) of one stack with the stack's riders. */
static pac_err add_stack(walk *w, pac_stack stack, int64_t first, int64_t last)
{
    int64_t depth = w->d->layers[stack];
    first = first < 0 ? 0 : first;
    last = last > depth ? depth : last;
    if (first >= last)
        return PAC_OK;
    if (first == 0)
        PAC_TRY(add_scope(w, stack, PAC_T_FIRST, 0));
    PAC_TRY(add_scope(w, stack, PAC_T_STACK, 0));
    for (int64_t i = first; i < last; i++)
        PAC_TRY(add_scope(w, stack, PAC_T_BLOCK, i));
    return last == depth ? add_scope(w, stack, PAC_T_LAST, 0) : PAC_OK;
}

static pac_err add_head(walk *w)
{
    PAC_TRY(add_scope(w, PAC_ENC, PAC_T_HEAD, 0));
    return add_scope(w, PAC_DEC, PAC_T_HEAD, 0);
}

static pac_err add_slice(walk *w, int64_t first, int64_t last, bool with_head)
{
    int64_t E = w->d->layers[PAC_ENC], L = E + w->d->layers[PAC_DEC];
    PAC_CHECK(first >= 0 && first <= last && last <= L, PAC_EINVAL, "layers [%lld, %lld) of a model of %lld", (long long)first,
              (long long)last, (long long)L);
    PAC_TRY(add_stack(w, PAC_ENC, first, last));
    PAC_TRY(add_stack(w, PAC_DEC, first - E, last - E));
    return with_head && last == L ? add_head(w) : PAC_OK;
}

static pac_err finish(walk *w, pac_err err, pac_tensor_need **out, int64_t *count)
{
    if (err != PAC_OK) {
        pac_mem_free(w->list);
        return err;
    }
    *out = w->list;
    *count = w->count;
    return PAC_OK;
}

pac_err pac_tensors_of(const pac_model_desc *d, int64_t first, int64_t last, bool with_head, pac_tensor_need **out,
                       int64_t *count)
{
    walk w = {.d = d};
    return finish(&w, add_slice(&w, first, last, with_head), out, count);
}

pac_err pac_tensors_of_head(const pac_model_desc *d, pac_tensor_need **out, int64_t *count)
{
    walk w = {.d = d};
    return finish(&w, add_head(&w), out, count);
}

static int64_t elements(const pac_model_desc *d, int64_t first, int64_t last, bool with_head)
{
    pac_tensor_need *list = NULL;
    int64_t count = 0, n = 0;
    if (pac_tensors_of(d, first, last, with_head, &list, &count) != PAC_OK)
        return -1;
    for (int64_t i = 0; i < count; i++)
        n += list[i].repeated ? 0 : list[i].n;
    pac_mem_free(list);
    return n;
}

int64_t pac_model_parameters(const pac_model_desc *d)
{
    return elements(d, 0, d->layers[PAC_ENC] + d->layers[PAC_DEC], true);
}

int64_t pac_model_slice_bytes(const pac_model_desc *d, int64_t first, int64_t last, bool with_head)
{
    int64_t n = elements(d, first, last, with_head);
    return n < 0 ? n : n * (int64_t)sizeof(float);
}
