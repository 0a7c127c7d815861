/*
 * Which tensors of a model file a slice of layers needs: a walk over the family's rules. Everything that must know the tensors
 * of a model (loading, byte counts, parameter counts, random initialisation) reads this one list.
 */
#include "stream.h"

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
    case 'P':
        return d->max_positions + d->position_offset;
    case 'Y':
        return d->types;
    default:
        return 1;
    }
}

/* prefix + the first alternative of `names` with '#' replaced by the block's number. */
static void expand(char *out, size_t size, const char *prefix, const char *names, int64_t block)
{
    size_t n = (size_t)snprintf(out, size, "%s", prefix);
    for (const char *p = names; *p != '\0' && *p != '|' && n + 1 < size; p++) {
        if (*p == '#')
            n += (size_t)snprintf(out + n, size - n, "%lld", (long long)block);
        else
            n += (size_t)snprintf(out + n, size - n, "%c", *p);
    }
}

/* The alternative behind the first of `names`, or NULL. */
static const char *next_name(const char *names)
{
    const char *bar = strchr(names, '|');
    return bar != NULL ? bar + 1 : NULL;
}

bool pac_tensor_name(const pac_model_desc *d, const pac_tensor_need *t, int k, char *out, size_t size)
{
    static const char *const bare[] = {"", NULL};
    const char *const *prefixes = t->rule->flags & PAC_T_BARE ? bare : d->family->prefixes;
    for (const char *names = t->rule->names; names != NULL; names = next_name(names))
        for (int i = 0; prefixes[i] != NULL; i++)
            if (k-- == 0) {
                expand(out, size, prefixes[i], names, t->block);
                return true;
            }
    return false;
}

static bool listed(const walk *w, const char *name)
{
    for (int64_t i = 0; i < w->count; i++)
        if (strcmp(w->list[i].name, name) == 0)
            return true;
    return false;
}

/* The layers that use a tensor of rule `r`. */
static pac_layer_span use_of(const pac_model_desc *d, const pac_tensor_rule *r, int64_t block)
{
    pac_layer_span s = pac_span_of_stack(d, r->stack);
    switch (r->scope) {
    case PAC_T_BLOCK:
        return (pac_layer_span){s.first + block, s.first + block};
    case PAC_T_FIRST:
        return (pac_layer_span){s.first, s.first};
    case PAC_T_STACK:
        return s;
    default:
        return (pac_layer_span){s.last, s.last};
    }
}

/* How random values of a tensor are drawn. */
static void set_values(pac_tensor_need *t, const pac_model_desc *d)
{
    const char *how = t->rule->values;
    if (*how == '=') {
        t->all = how[1] == '1';
    } else if (*how == '~') {
        t->deviation = d->init_std;
    } else {
        double product = 1;
        for (const char *p = how; *p != '\0'; p++)
            product *= (double)size_of_letter(d, t->rule->stack, *p);
        t->deviation = 1 / sqrt(product);
    }
}

static pac_err add(walk *w, const pac_tensor_rule *r, int64_t block)
{
    void *list = w->list;
    PAC_TRY(pac_mem_grow(PAC_MEM_OTHER, &list, &w->capacity, w->count + 1, sizeof *w->list));
    w->list = list;
    pac_tensor_need t = {.rule = r, .block = block, .use = use_of(w->d, r, block), .n = 1};
    pac_tensor_name(w->d, &t, 0, t.name, sizeof t.name);
    for (const char *p = r->dims; *p != '\0'; p++) {
        t.shape[t.ndim] = size_of_letter(w->d, r->stack, *p);
        t.n *= t.shape[t.ndim++];
    }
    set_values(&t, w->d);
    t.repeated = r->scope != PAC_T_BLOCK && listed(w, t.name);
    w->list[w->count++] = t;
    return PAC_OK;
}

static pac_err add_scope(walk *w, pac_stack stack, pac_tensor_scope scope, int64_t block)
{
    for (const pac_tensor_rule *r = w->d->family->rules; r->names != NULL; r++)
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

static pac_err add_tail(walk *w, pac_tensor_scope scope)
{
    return add_scope(w, pac_last_stack(w->d), scope, 0);
}

static pac_err add_slice(walk *w, int64_t first, int64_t last, int parts)
{
    int64_t E = w->d->layers[PAC_ENC], L = pac_depth(w->d);
    PAC_CHECK(first >= 0 && first <= last && last <= L, PAC_EINVAL, "layers [%lld, %lld) of a model of %lld", (long long)first,
              (long long)last, (long long)L);
    PAC_TRY(add_stack(w, PAC_ENC, first, last));
    PAC_TRY(add_stack(w, PAC_DEC, first - E, last - E));
    if (last == L && (parts & PAC_TENSORS_HEAD))
        PAC_TRY(add_tail(w, PAC_T_HEAD));
    return last == L && (parts & PAC_TENSORS_DENSE) ? add_tail(w, PAC_T_DENSE) : PAC_OK;
}

pac_err pac_tensors_of(const pac_model_desc *d, int64_t first, int64_t last, int parts, pac_tensor_need **out, int64_t *count)
{
    walk w = {.d = d};
    pac_err err = add_slice(&w, first, last, parts);
    if (err != PAC_OK) {
        pac_mem_free(w.list);
        return err;
    }
    *out = w.list;
    *count = w.count;
    return PAC_OK;
}

bool pac_tensor_packs(const pac_model_desc *d, const pac_tensor_need *t)
{
    bool table = t->rule->scope != PAC_T_BLOCK && t->rule->dims[0] != 'V';
    return d->dtype == PAC_BF16 && t->ndim == 2 && t->rule->scope != PAC_T_DENSE && !table;
}

bool pac_tensor_streams(const pac_tensor_need *t)
{
    return t->rule->scope == PAC_T_BLOCK || (t->ndim == 2 && t->rule->dims[0] == 'V');
}

bool pac_tensor_multiplies(const pac_tensor_need *t)
{
    return t->ndim == 2 && (t->rule->scope == PAC_T_BLOCK || t->rule->scope == PAC_T_HEAD);
}

int64_t pac_tensor_bytes(const pac_model_desc *d, const pac_tensor_need *t)
{
    return t->n * (int64_t)pac_dtype_size(pac_tensor_packs(d, t) ? PAC_BF16 : PAC_F32);
}

/* Parameters of a slice, and its bytes. */
static pac_err sum_up(const pac_model_desc *d, int64_t first, int64_t last, int parts, int64_t *parameters, int64_t *bytes)
{
    pac_tensor_need *list = NULL;
    int64_t count = 0;
    *parameters = *bytes = 0;
    PAC_TRY(pac_tensors_of(d, first, last, parts, &list, &count));
    for (int64_t i = 0; i < count; i++) {
        const pac_tensor_need *t = &list[i];
        *parameters += t->repeated || (t->rule->flags & PAC_T_BUFFER) ? 0 : t->n;
        *bytes += t->repeated || (d->stream && pac_tensor_streams(t)) ? 0 : pac_tensor_bytes(d, t);
        *bytes += d->rounded && !d->stream && pac_tensor_multiplies(t) ? t->n * (int64_t)sizeof(uint16_t) : 0;
    }
    pac_mem_free(list);
    return PAC_OK;
}

int64_t pac_model_parameters(const pac_model_desc *d)
{
    int64_t n, bytes;
    return sum_up(d, 0, pac_depth(d), PAC_TENSORS_HEAD, &n, &bytes) == PAC_OK ? n : -1;
}

int64_t pac_model_slice_bytes(const pac_model_desc *d, int64_t first, int64_t last, bool with_head)
{
    int64_t n, bytes;
    return sum_up(d, first, last, with_head ? PAC_TENSORS_HEAD : 0, &n, &bytes) == PAC_OK ? bytes : -1;
}

int64_t pac_model_stream_bytes(const pac_model_desc *d)
{
    int64_t most = 0;
    pac_model_desc plain = *d;
    plain.stream = false;
    for (int stack = PAC_ENC; stack <= PAC_DEC; stack++) {
        pac_layer_span s = pac_span_of_stack(d, (pac_stack)stack);
        int64_t middle = (s.first + s.last) / 2, bytes; /* has the fewest riders */
        if (s.last < s.first || !d->stream)
            continue;
        bytes = pac_model_slice_bytes(&plain, middle, middle + 1, false);
        most = bytes > most ? bytes : most;
    }
    return d->stream ? 2 * most + pac_stream_table_bytes(d->vocab * d->block[PAC_ENC].D * (int64_t)sizeof(float)) : 0;
}

/* ---- every tensor once, with all its uses ---- */

static void add_use(pac_weight *w, pac_layer_span use)
{
    for (int i = 0; i < w->uses; i++)
        if (w->use[i].first == use.first && w->use[i].last == use.last)
            return;
    w->use[w->uses++] = use;
}

static pac_weight weight_of(const pac_tensor_need *list, int64_t count, int64_t i)
{
    const pac_tensor_need *t = &list[i];
    bool in_block = t->rule->scope == PAC_T_BLOCK;
    pac_weight w = {.name = t->name,
                    .ndim = t->ndim,
                    .n = t->n,
                    .layer = in_block ? t->use.first : -1,
                    .slot = in_block ? t->rule->slot : 0,
                    .buffer = (t->rule->flags & PAC_T_BUFFER) != 0};
    memcpy(w.shape, t->shape, sizeof w.shape);
    for (add_use(&w, t->use); ++i < count;)
        if (list[i].repeated && strcmp(list[i].name, w.name) == 0)
            add_use(&w, list[i].use);
    return w;
}

pac_err pac_model_walk(const pac_model_desc *d, bool with_head, pac_err (*visit)(void *ctx, const pac_weight *w), void *ctx)
{
    pac_tensor_need *list = NULL;
    int64_t count = 0;
    pac_err err = pac_tensors_of(d, 0, pac_depth(d), with_head ? PAC_TENSORS_HEAD : 0, &list, &count);
    for (int64_t i = 0; i < count && err == PAC_OK; i++)
        if (!list[i].repeated) {
            pac_weight w = weight_of(list, count, i);
            err = visit(ctx, &w);
        }
    pac_mem_free(list);
    return err;
}
