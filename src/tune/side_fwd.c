/*
 * The side network's forward over a slice of layers: a_0 = first(b_0); a <- mix(a, Down(b_i)), then a small transformer block;
 * a final norm per stack; up to the model's width and merged with the backbone's output. Layers without a side layer pass the
 * state on. Source: method.md section 2 (eq. 1 of the paper; Sung et al. 2022, ladder side tuning).
 *
 * A decoding step is the same forward with a key/value cache in each block: everything else is row by row.
 */
#include "side.h"

struct pac_side_kv {
    int64_t layers; /* of the slice */
    pac_kv **layer; /* [layers], NULL: no side layer */
};

typedef struct run {
    pac_side *s;
    const pac_pass *pass;
    const pac_batch *batch;
    const pac_acts *acts;
    pac_arena *keep, *work;
    pac_side_saved *saved; /* NULL: evaluation */
    pac_side_kv *kv;       /* NULL: whole sequences */
    float *a;              /* [N, R] state of the current stack */
    bool borrowed;         /* a belongs to the caller: not written in place */
    float *enc;            /* [S, R] side encoder output */
} run;

static int64_t rows_of(const run *r, pac_stack stack)
{
    return stack == PAC_ENC ? r->batch->soff[r->batch->B] : r->batch->toff[r->batch->B];
}

/* b_i of the stack; a missing one is a fault of the caller. */
static pac_err row(const run *r, pac_stack stack, int64_t i, const float **b)
{
    *b = r->acts->b[stack][i];
    PAC_CHECK(*b != NULL, PAC_EINVAL, "the side network needs row block %lld of stack %d", (long long)i, (int)stack);
    return PAC_OK;
}

/* a_0 = W_first b_0 */
static pac_err first_fwd(run *r, pac_stack stack)
{
    const float *b;
    int64_t N = rows_of(r, stack);
    PAC_TRY(row(r, stack, 0, &b));
    PAC_TRY(pac_arena_floats(r->keep, N * r->s->R, &r->a));
    r->borrowed = false;
    pac_linear_fwd(r->s->be, r->a, b, &r->s->stacks[stack].first, N, r->s->D, r->s->R);
    return PAC_OK;
}

/* z = g a + (1 - g) Down(b), or a + Down(b) */
static pac_err mix(run *r, pac_stack stack, int64_t index, const side_layer *l, layer_saved *save, float **z)
{
    const pac_side *s = r->s;
    const float *b;
    float *d;
    bool gate = s->opts.gate == PAC_GATE_LEARNED;
    int64_t N = rows_of(r, stack);
    PAC_TRY(row(r, stack, index + 1, &b));
    PAC_TRY(pac_arena_floats(save != NULL && gate ? r->keep : r->work, N * s->R, &d));
    *z = r->a;
    if (save != NULL || r->borrowed)
        PAC_TRY(pac_arena_floats(r->keep, N * s->R, z));
    pac_linear_fwd(s->be, d, b, &l->down, N, s->D, s->R);
    if (gate)
        s->be->gate_fwd(*z, r->a, d, l->gate.w, N, s->R, 1, PAC_GATE_TEMPERATURE);
    else
        s->be->add(*z, r->a, d, N * s->R);
    if (save != NULL) {
        save->a = r->a;
        save->d = d;
    }
    return PAC_OK;
}

static pac_err layer_fwd(run *r, pac_stack stack, int64_t index, int64_t layer)
{
    const pac_side *s = r->s;
    const side_layer *l = &s->layers[layer - s->first];
    layer_saved *save = r->saved != NULL ? &r->saved->layer[layer - s->first] : NULL;
    float *z, *y;
    PAC_CHECK(r->enc != NULL || r->kv != NULL || !s->cfg[stack].cross, PAC_EINVAL, "layer %lld needs the side encoder's output",
              (long long)layer);
    PAC_TRY(mix(r, stack, index, l, save, &z));
    y = z;
    if (save != NULL)
        PAC_TRY(pac_arena_floats(r->keep, rows_of(r, stack) * s->R, &y));
    pac_block_io io = {.be = s->be,
                       .work = r->work,
                       .batch = r->batch,
                       .stack = stack,
                       .bias_table = s->stacks[stack].table.w,
                       .enc = stack == PAC_DEC ? r->enc : NULL,
                       .drop = r->pass->drop,
                       .layer = layer,
                       .kv = r->kv != NULL ? r->kv->layer[layer - s->first] : NULL};
    PAC_TRY(
        pac_block_fwd(y, z, &s->cfg[stack], &l->block, &io, save != NULL ? r->keep : NULL, save != NULL ? &save->block : NULL));
    r->a = y;
    r->borrowed = false;
    return PAC_OK;
}

/* The stack's final norm, where the family has one. */
static pac_err norm_fwd(run *r, pac_stack stack)
{
    const pac_side *s = r->s;
    const pac_block_cfg *c = &s->cfg[stack];
    int64_t N = rows_of(r, stack);
    float *y, *mean = NULL, *rstd = NULL;
    if (!s->desc.final_norm[stack])
        return PAC_OK;
    PAC_TRY(pac_arena_floats(r->keep, N * s->R, &y));
    if (r->saved != NULL) {
        PAC_TRY(pac_arena_floats(r->keep, N, &mean));
        PAC_TRY(pac_arena_floats(r->keep, N, &rstd));
        r->saved->norm_in[stack] = r->a;
        r->saved->mean[stack] = mean;
        r->saved->rstd[stack] = rstd;
    }
    pac_norm_fwd(s->be, c->norm, y, mean, rstd, r->a, &s->stacks[stack].norm, N, s->R, c->eps);
    r->a = y;
    return PAC_OK;
}

const float *pac_side_merged(const pac_side *s, const pac_acts *acts)
{
    pac_stack top = pac_last_stack(&s->desc);
    return s->desc.final_norm[top] ? acts->final : acts->b[top][s->desc.layers[top]];
}

/* h = Up(a), merged with the backbone's output f: none, f + up, g f + (1 - g) up. */
static pac_err tail_fwd(run *r, float **h)
{
    const pac_side *s = r->s;
    int64_t N = rows_of(r, pac_last_stack(&s->desc)), D = s->D;
    const float *f = pac_side_merged(s, r->acts);
    float *up;
    PAC_CHECK(s->opts.merge == PAC_MERGE_NONE || f != NULL, PAC_EINVAL, "merging needs the backbone's final output");
    PAC_TRY(pac_arena_floats(r->keep, N * D, &up));
    pac_linear_fwd(s->be, up, r->a, &s->tail.up, N, s->R, D);
    *h = up;
    if (r->saved != NULL) {
        r->saved->a = r->a;
        r->saved->up = up;
    }
    if (s->opts.merge == PAC_MERGE_ADD) {
        s->be->add(up, f, up, N * D);
    } else if (s->opts.merge == PAC_MERGE_GATED) {
        if (r->saved != NULL)
            PAC_TRY(pac_arena_floats(r->keep, N * D, h));
        s->be->gate_fwd(*h, f, up, s->tail.merge.w, N, D, D, PAC_GATE_TEMPERATURE);
    }
    return PAC_OK;
}

/* One layer with its riders: the stack's first projection before its first block, the final norm after its last. */
static pac_err step(run *r, int64_t layer)
{
    int64_t index;
    pac_stack stack = stack_of_layer(&r->s->desc, layer, &index);
    size_t mark = pac_arena_mark(r->work);
    if (index == 0)
        PAC_TRY(first_fwd(r, stack));
    PAC_CHECK(r->a != NULL, PAC_EINVAL, "layer %lld needs the side state of the layer before", (long long)layer);
    if (r->s->opts.has_layer[layer])
        PAC_TRY(layer_fwd(r, stack, index, layer));
    pac_arena_release(r->work, mark);
    if (index < r->s->desc.layers[stack] - 1)
        return PAC_OK;
    PAC_TRY(norm_fwd(r, stack));
    if (stack == PAC_ENC && pac_last_stack(&r->s->desc) == PAC_DEC) {
        r->enc = r->a;
        r->a = NULL;
    }
    return PAC_OK;
}

static pac_err begin_saving(run *r)
{
    void *saved, *layers;
    int64_t n = r->s->last - r->s->first;
    PAC_TRY(pac_arena_get(r->keep, sizeof *r->saved, &saved));
    PAC_TRY(pac_arena_get(r->keep, (size_t)n * sizeof(layer_saved), &layers));
    r->saved = saved;
    *r->saved = (pac_side_saved){.layer = layers};
    for (int64_t i = 0; i < n; i++)
        r->saved->layer[i] = (layer_saved){0};
    return PAC_OK;
}

/* All layers of the slice from the state `in`; behind the last one the tail. */
static pac_err run_slice(run *r, const pac_side_state *in, pac_side_state *out, float **h)
{
    pac_side *s = r->s;
    bool whole = s->last == pac_depth(&s->desc) && s->last > s->first;
    float *top = NULL;
    if (in != NULL) {
        r->a = in->a;
        r->enc = in->enc;
        r->borrowed = true;
    }
    for (int64_t l = s->first; l < s->last; l++) {
        PAC_TRY(step(r, l));
        PAC_TRY(pac_watch_tell(r->pass->watch, l, false));
    }
    if (whole)
        PAC_TRY(tail_fwd(r, &top));
    if (out != NULL)
        *out = whole ? (pac_side_state){0} : (pac_side_state){.a = r->a, .enc = r->enc};
    if (h != NULL)
        *h = top;
    return PAC_OK;
}

pac_err pac_side_fwd(pac_side *s, const pac_pass *p, const pac_acts *acts, const pac_side_state *in, pac_side_state *out,
                     float **h, bool keep_for_bwd, pac_side_saved **saved)
{
    run r = {.s = s, .pass = p, .batch = p->batch, .acts = acts, .keep = p->keep, .work = p->work};
    if (keep_for_bwd)
        PAC_TRY(begin_saving(&r));
    PAC_TRY(run_slice(&r, in, out, h));
    if (r.saved != NULL) {
        r.saved->enc = r.enc;
        *saved = r.saved;
    }
    return PAC_OK;
}

/* ---- one position at a time ---- */

pac_err pac_side_kv_new(pac_side *s, const pac_batch *batch, const float *enc, int64_t beams, int64_t capacity,
                        pac_arena *arena, pac_arena *work, pac_side_kv **out)
{
    void *p, *list;
    PAC_CHECK(s->first >= s->desc.layers[PAC_ENC], PAC_EINVAL, "layer %lld is no decoder layer", (long long)s->first);
    PAC_TRY(pac_arena_get(arena, sizeof(pac_side_kv), &p));
    PAC_TRY(pac_arena_get(arena, (size_t)(s->last - s->first) * sizeof(pac_kv *), &list));
    pac_side_kv *kv = p;
    *kv = (pac_side_kv){.layers = s->last - s->first, .layer = list};
    pac_block_io io = {.be = s->be, .work = work, .batch = batch, .stack = PAC_DEC, .enc = enc};
    for (int64_t i = 0; i < kv->layers; i++) {
        kv->layer[i] = NULL;
        if (s->opts.has_layer[s->first + i])
            PAC_TRY(pac_kv_new(&s->cfg[PAC_DEC], &s->layers[i].block, &io, beams, capacity, arena, &kv->layer[i]));
    }
    *out = kv;
    return PAC_OK;
}

pac_err pac_side_kv_reorder(pac_side_kv *kv, const pac_backend *be, const int64_t *parent, pac_arena *work)
{
    for (int64_t i = 0; i < kv->layers; i++)
        if (kv->layer[i] != NULL)
            PAC_TRY(pac_kv_reorder(kv->layer[i], be, parent, work));
    return PAC_OK;
}

pac_err pac_side_step(pac_side *s, const pac_pass *p, const pac_acts *acts, pac_side_kv *kv, const pac_side_state *in,
                      pac_side_state *out, float **h)
{
    run r = {.s = s, .pass = p, .batch = p->batch, .acts = acts, .keep = p->keep, .work = p->work, .kv = kv};
    return run_slice(&r, in, out, h);
}
