/*
 * The side network's backward over a slice: side_fwd.c in reverse. The gradient of the running state is one buffer per stack,
 * updated in place; that of the side encoder output collects the part of every cross-attention. Nothing flows into the
 * backbone.
 */
#include "side.h"

typedef struct run {
    pac_side *s;
    const pac_pass *pass;
    const pac_batch *batch;
    const pac_acts *acts;
    const pac_side_saved *saved;
    pac_arena *keep, *work;
    float *da;   /* [N, R] gradient of the running state, NULL before it is known */
    float *denc; /* [S, R] gradient of the side encoder output */
} run;

static int64_t rows_of(const run *r, pac_stack stack)
{
    return stack == PAC_ENC ? r->batch->soff[r->batch->B] : r->batch->toff[r->batch->B];
}

/* A gradient buffer that starts as `from`, or zero. */
static pac_err start(run *r, pac_stack stack, const float *from, float **out)
{
    int64_t n = rows_of(r, stack) * r->s->R;
    PAC_TRY(pac_arena_floats(r->keep, n, out));
    if (from != NULL)
        r->s->be->copy(*out, from, n);
    else
        r->s->be->zero(*out, n);
    return PAC_OK;
}

/* h = up, f + up, or g f + (1 - g) up; up = Up(a) */
static pac_err tail_bwd(run *r, const float *dh)
{
    const pac_side *s = r->s;
    int64_t N = rows_of(r, pac_last_stack(&s->desc)), D = s->D;
    const float *dup = dh;
    PAC_CHECK(dh != NULL, PAC_EINVAL, "the slice with the last layer needs the gradient of its output");
    if (s->opts.merge == PAC_MERGE_GATED) {
        float *t;
        PAC_TRY(pac_arena_floats(r->work, N * D, &t));
        s->be->gate_bwd(NULL, t, s->tail.merge.dw, dh, pac_side_merged(s, r->acts), r->saved->up, s->tail.merge.w, N, D, D,
                        PAC_GATE_TEMPERATURE);
        dup = t;
    }
    PAC_TRY(pac_arena_floats(r->keep, N * s->R, &r->da));
    pac_linear_bwd(s->be, r->da, false, dup, r->saved->a, &s->tail.up, N, s->R, D);
    return PAC_OK;
}

static void norm_bwd(run *r, pac_stack stack)
{
    const pac_side *s = r->s;
    if (s->desc.final_norm[stack])
        pac_norm_bwd(s->be, s->cfg[stack].norm, r->da, r->da, r->saved->norm_in[stack], &s->stacks[stack].norm,
                     r->saved->mean[stack], r->saved->rstd[stack], rows_of(r, stack), s->R);
}

/* z = g a + (1 - g) d, or a + d; d = Down(b). On the way in da is the gradient of z. */
static pac_err mix_bwd(run *r, pac_stack stack, int64_t index, const side_layer *l, const layer_saved *save)
{
    const pac_side *s = r->s;
    int64_t N = rows_of(r, stack);
    float *dd = r->da;
    if (s->opts.gate == PAC_GATE_LEARNED) {
        PAC_TRY(pac_arena_floats(r->work, N * s->R, &dd));
        s->be->gate_bwd(r->da, dd, l->gate.dw, r->da, save->a, save->d, l->gate.w, N, s->R, 1, PAC_GATE_TEMPERATURE);
    }
    pac_linear_bwd(s->be, NULL, false, dd, r->acts->b[stack][index + 1], &l->down, N, s->D, s->R);
    return PAC_OK;
}

static pac_err layer_bwd(run *r, pac_stack stack, int64_t index, int64_t layer)
{
    const pac_side *s = r->s;
    const side_layer *l = &s->layers[layer - s->first];
    const layer_saved *save = &r->saved->layer[layer - s->first];
    bool dec = stack == PAC_DEC;
    pac_block_io io = {.be = s->be,
                       .work = r->work,
                       .batch = r->batch,
                       .stack = stack,
                       .bias_table = s->stacks[stack].table.w,
                       .dbias_table = s->stacks[stack].table.dw,
                       .enc = dec ? r->saved->enc : NULL,
                       .drop = r->pass->drop,
                       .layer = layer};
    PAC_TRY(pac_block_bwd(r->da, dec ? r->denc : NULL, r->da, &s->cfg[stack], &l->block, &io, save->block));
    return mix_bwd(r, stack, index, l, save);
}

static pac_err step(run *r, int64_t layer)
{
    const pac_side *s = r->s;
    int64_t index;
    pac_stack stack = stack_of_layer(&s->desc, layer, &index);
    size_t mark = pac_arena_mark(r->work);
    if (index == s->desc.layers[stack] - 1) {
        if (stack == PAC_ENC && pac_last_stack(&s->desc) == PAC_DEC) {
            r->da = r->denc; /* the encoder's output is the decoders' source */
            r->denc = NULL;
        }
        norm_bwd(r, stack);
    }
    if (s->opts.has_layer[layer])
        PAC_TRY(layer_bwd(r, stack, index, layer));
    if (index == 0) {
        /* a = first(b_0) */
        pac_linear_bwd(s->be, NULL, false, r->da, r->acts->b[stack][0], &s->stacks[stack].first, rows_of(r, stack), s->D, s->R);
        r->da = NULL;
    }
    pac_arena_release(r->work, mark);
    return PAC_OK;
}

pac_err pac_side_bwd(pac_side *s, const pac_pass *p, const pac_acts *acts, const pac_side_state *dout, const float *dh,
                     pac_side_state *din, const pac_side_saved *saved)
{
    int64_t E = s->desc.layers[PAC_ENC], L = pac_depth(&s->desc), index;
    pac_arena *work = p->work;
    run r = {.s = s, .pass = p, .batch = p->batch, .acts = acts, .saved = saved, .keep = p->keep, .work = work};
    if (s->last > s->first) {
        pac_stack stack = stack_of_layer(&s->desc, s->last - 1, &index);
        size_t mark = pac_arena_mark(work);
        if (s->desc.layers[PAC_DEC] > 0 && s->last >= E)
            PAC_TRY(start(&r, PAC_ENC, dout != NULL ? dout->enc : NULL, &r.denc));
        if (s->last == L)
            PAC_TRY(tail_bwd(&r, dh));
        else if (index < s->desc.layers[stack] - 1)
            PAC_TRY(start(&r, stack, dout != NULL ? dout->a : NULL, &r.da));
        pac_arena_release(work, mark);
    }
    for (int64_t l = s->last - 1; l >= s->first; l--) {
        PAC_TRY(step(&r, l));
        PAC_TRY(pac_watch_tell(p->watch, l, true));
    }
    if (din != NULL)
        *din = (pac_side_state){.a = r.da, .enc = r.denc};
    return PAC_OK;
}
