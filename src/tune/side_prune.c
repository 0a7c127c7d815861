/*
 * Structural pruning of the backbone into the side network, by a score of every weight: its magnitude, or whatever a second
 * model of the same shape has in its place (Fisher information).
 *
 * Every matrix of a block has rows and columns along an axis: the stack's channels, the encoder's channels, the inner rows of
 * an attention, the feed-forward units. An axis keeps its most important 1/k; a table says which matrix has which axes, and the
 * rest is one function for "importance along an axis" and one for "cut". The rule in words: tests/golden/README.md.
 */
#include "params.h"
#include "side.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* CHANNELS: of the block's own stack. SOURCE: of the encoder, which cross-attention reads. */
typedef enum axis { CHANNELS, SOURCE, SELF, CROSS, FF, AXES } axis;

typedef struct cut {
    size_t linear; /* offset in pac_block_weights */
    axis rows, cols;
} cut;

static const cut cuts[] = {
    {offsetof(pac_block_weights, self.q), SELF, CHANNELS},   {offsetof(pac_block_weights, self.k), SELF, CHANNELS},
    {offsetof(pac_block_weights, self.v), SELF, CHANNELS},   {offsetof(pac_block_weights, self.o), CHANNELS, SELF},
    {offsetof(pac_block_weights, cross.q), CROSS, CHANNELS}, {offsetof(pac_block_weights, cross.k), CROSS, SOURCE},
    {offsetof(pac_block_weights, cross.v), CROSS, SOURCE},   {offsetof(pac_block_weights, cross.o), CHANNELS, CROSS},
    {offsetof(pac_block_weights, wi), FF, CHANNELS},         {offsetof(pac_block_weights, wg), FF, CHANNELS},
    {offsetof(pac_block_weights, wo), CHANNELS, FF},
};

static const size_t norms[] = {
    offsetof(pac_block_weights, self.norm),
    offsetof(pac_block_weights, cross.norm),
    offsetof(pac_block_weights, ff_norm),
};

enum { CUTS = sizeof cuts / sizeof cuts[0], NORMS = sizeof norms / sizeof norms[0] };

/* The kept indices of an axis, ascending; kept NULL: all of them. */
typedef struct selection {
    int64_t size, n;
    int64_t *kept;
} selection;

static int64_t at(const selection *s, int64_t i)
{
    return s->kept != NULL ? s->kept[i] : i;
}

static const pac_linear *linear_at(const pac_block_weights *b, size_t offset)
{
    return (const pac_linear *)(const void *)((const char *)b + offset);
}

/* ---- importance ---- */

/* imp[i] += sum of |score| over row or column i, over what the other axis has selected. */
static void add_importance(double *imp, const float *w, int64_t rows, int64_t cols, bool of_rows, const selection *other)
{
    for (int64_t i = 0; i < (of_rows ? rows : cols); i++)
        for (int64_t j = 0; j < other->n; j++)
            imp[i] += fabs((double)(of_rows ? w[i * cols + at(other, j)] : w[at(other, j) * cols + i]));
}

static void importance(double *imp, axis of, const pac_block_weights *score, const selection sel[AXES])
{
    for (int i = 0; i < CUTS; i++) {
        const cut *c = &cuts[i];
        const float *w = linear_at(score, c->linear)->w;
        if (w != NULL && (c->rows == of || c->cols == of))
            add_importance(imp, w, sel[c->rows].size, sel[c->cols].size, c->rows == of,
                           &sel[c->rows == of ? c->cols : c->rows]);
    }
}

static void everything(const pac_model_desc *d, pac_stack stack, selection sel[AXES])
{
    const pac_block_cfg *b = &d->block[stack];
    const int64_t size[AXES] = {b->D, d->block[PAC_ENC].D, b->H * b->K, b->H * b->K, b->F};
    for (int i = 0; i < AXES; i++)
        sel[i] = (selection){.size = size[i], .n = size[i]};
}

static pac_err stack_importance(const pac_side *s, const pac_model *score, double *imp, pac_arena *work)
{
    for (int64_t l = s->first, i; l < s->last; l++) {
        pac_block_weights b;
        selection all[AXES];
        pac_stack stack = stack_of_layer(&s->desc, l, &i);
        size_t mark = pac_arena_mark(work);
        PAC_TRY(pac_model_read_block(score, l, work, &b));
        everything(&s->desc, stack, all);
        importance(imp + stack * s->D, CHANNELS, &b, all);
        pac_arena_release(work, mark);
    }
    return PAC_OK;
}

pac_err pac_tuned_importance(const pac_tuned *t, const pac_model *score, double *imp)
{
    const pac_side *s = t->side;
    int64_t D = t->desc.block[pac_last_stack(&t->desc)].D;
    memset(imp, 0, (size_t)(2 * D) * sizeof *imp);
    if (s == NULL || s->opts.init == PAC_INIT_RANDOM)
        return PAC_OK;
    pac_arena *work;
    PAC_TRY(pac_arena_new(PAC_MEM_WORK, &work));
    pac_err err = stack_importance(s, score, imp, work);
    pac_arena_free(&work);
    return err;
}

/* ---- selection ---- */

typedef struct ranked {
    double importance;
    int64_t i;
} ranked;

static int most_important(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->importance != y->importance)
        return x->importance > y->importance ? -1 : 1;
    return x->i < y->i ? -1 : x->i > y->i;
}

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* kept[0..n) = the n most important of [base, base + size), ascending; of equals the lower. */
static void select_from(int64_t *kept, int64_t n, const double *imp, int64_t base, int64_t size, ranked *scratch)
{
    for (int64_t i = 0; i < size; i++)
        scratch[i] = (ranked){.importance = imp[base + i], .i = base + i};
    qsort(scratch, (size_t)size, sizeof *scratch, most_important);
    for (int64_t i = 0; i < n; i++)
        kept[i] = scratch[i].i;
    qsort(kept, (size_t)n, sizeof *kept, ascending);
}

/* The most important 1/k of each of `groups` equal parts of the axis (heads; else one group). */
static pac_err choose(selection *s, const double *imp, int64_t groups, int64_t k, pac_arena *work)
{
    void *kept, *scratch;
    int64_t size = s->size / groups, n = size / k;
    PAC_TRY(pac_arena_get(work, (size_t)(groups * n) * sizeof(int64_t), &kept));
    PAC_TRY(pac_arena_get(work, (size_t)size * sizeof(ranked), &scratch));
    for (int64_t g = 0; g < groups; g++)
        select_from((int64_t *)kept + g * n, n, imp, g * size, size, scratch);
    s->kept = kept;
    s->n = groups * n;
    return PAC_OK;
}

/* Select an axis inside one block, after the channels. */
static pac_err choose_inner(selection sel[AXES], axis of, const pac_block_weights *score, int64_t groups, int64_t k,
                            pac_arena *work)
{
    void *imp;
    PAC_TRY(pac_arena_get(work, (size_t)sel[of].size * sizeof(double), &imp));
    memset(imp, 0, (size_t)sel[of].size * sizeof(double));
    importance(imp, of, score, sel);
    return choose(&sel[of], imp, groups, k, work);
}

/* ---- cutting ---- */

static void cut_vector(float *dst, const float *src, const selection *s)
{
    for (int64_t i = 0; src != NULL && dst != NULL && i < s->n; i++)
        dst[i] = src[at(s, i)];
}

static void cut_matrix(float *dst, const float *src, const selection *rows, const selection *cols)
{
    for (int64_t i = 0; src != NULL && dst != NULL && i < rows->n; i++)
        for (int64_t j = 0; j < cols->n; j++)
            dst[i * cols->n + j] = src[at(rows, i) * cols->size + at(cols, j)];
}

/* The parameters, and their values as the host may write them. */
typedef struct target {
    const pac_params *params;
    float *values; /* [params->total] */
} target;

/* Where the value of a weight of the side network is written. */
static float *own(const target *t, const float *w)
{
    return w != NULL ? t->values + (w - t->params->w) : NULL;
}

static void cut_block(const target *t, const pac_block_weights *to, const pac_block_weights *from, const selection sel[AXES])
{
    for (int i = 0; i < CUTS; i++) {
        const pac_linear *dst = linear_at(to, cuts[i].linear), *src = linear_at(from, cuts[i].linear);
        cut_matrix(own(t, dst->w), src->w, &sel[cuts[i].rows], &sel[cuts[i].cols]);
        cut_vector(own(t, dst->b), src->b, &sel[cuts[i].rows]);
    }
    for (int i = 0; i < NORMS; i++) {
        const pac_norm *dst = (const pac_norm *)(const void *)((const char *)to + norms[i]);
        const pac_norm *src = (const pac_norm *)(const void *)((const char *)from + norms[i]);
        cut_vector(own(t, dst->w), src->w, &sel[CHANNELS]);
        cut_vector(own(t, dst->b), src->b, &sel[CHANNELS]);
    }
}

/* The backbone, and the score of each of its weights in a model of the same shape (itself: magnitudes). */
typedef struct source {
    const pac_model *model, *score;
    const double *imp; /* [2 * D] of channels */
} source;

static pac_err prune_layer(const pac_side *s, const target *t, const source *from, int64_t layer, const selection channels[2],
                           pac_arena *work)
{
    pac_block_weights b, score;
    selection sel[AXES];
    int64_t index, k = s->opts.reduction;
    pac_stack stack = stack_of_layer(&s->desc, layer, &index);
    int64_t H = s->desc.block[stack].H;
    PAC_TRY(pac_model_read_block(from->model, layer, work, &b));
    PAC_TRY(pac_model_read_block(from->score, layer, work, &score));
    everything(&s->desc, stack, sel);
    sel[CHANNELS] = channels[stack];
    sel[SOURCE] = channels[PAC_ENC];
    PAC_TRY(choose_inner(sel, SELF, &score, H, k, work));
    if (s->desc.block[stack].cross)
        PAC_TRY(choose_inner(sel, CROSS, &score, H, k, work));
    PAC_TRY(choose_inner(sel, FF, &score, 1, k, work));
    cut_block(t, &s->layers[layer - s->first].block, &b, sel);
    return PAC_OK;
}

static pac_err prune_stack(const pac_side *s, const target *t, const pac_model *model, pac_stack stack,
                           const selection *channels, pac_arena *work)
{
    const side_stack *st = &s->stacks[stack];
    const float *table, *norm;
    int64_t n = s->desc.block[stack].buckets * s->desc.block[stack].H;
    PAC_TRY(pac_model_read_riders(model, stack, work, &table, &norm));
    if (st->table.w != NULL && table != NULL)
        memcpy(own(t, st->table.w), table, (size_t)n * sizeof *table);
    cut_vector(own(t, st->norm.w), norm, channels);
    return PAC_OK;
}

static pac_err prune(const pac_side *s, const target *t, const source *from, pac_arena *work)
{
    selection channels[2];
    for (int i = 0; i < 2; i++) {
        channels[i] = (selection){.size = s->D};
        PAC_TRY(choose(&channels[i], from->imp + i * s->D, 1, s->opts.reduction, work));
    }
    for (int64_t l = s->first; l < s->last; l++) {
        size_t mark = pac_arena_mark(work);
        if (s->opts.has_layer[l])
            PAC_TRY(prune_layer(s, t, from, l, channels, work));
        pac_arena_release(work, mark);
    }
    PAC_TRY(prune_stack(s, t, from->model, PAC_ENC, &channels[PAC_ENC], work));
    return prune_stack(s, t, from->model, PAC_DEC, &channels[PAC_DEC], work);
}

pac_err pac_tuned_prune(pac_tuned *t, const pac_model *model, const pac_model *score, const double *imp)
{
    const source from = {model, score, imp};
    pac_arena *work = NULL;
    PAC_CHECK(t->side != NULL && model != NULL && score != NULL && imp != NULL, PAC_EINVAL,
              "pruning needs a side network, the backbone, and its importances");
    target to = {.params = &t->params};
    PAC_TRY(pac_arena_new(PAC_MEM_WORK, &work));
    pac_err err = pac_params_open(to.params, &to.values);
    if (err == PAC_OK) {
        err = prune(t->side, &to, &from, work);
        pac_err closed = pac_params_close(to.params, to.values, err == PAC_OK);
        err = err != PAC_OK ? err : closed;
    }
    pac_arena_free(&work);
    return err;
}
