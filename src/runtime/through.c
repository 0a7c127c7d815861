/*
 * A micro-batch through the backbone of a slice with activations kept, and back: full, adapters and LoRA. Nothing here knows
 * which of them; they have hung their parameters on the blocks.
 *
 * With train.recompute a layer keeps only its input and is run again, with its activations, just before its backward: one more
 * forward of the slice for the activations of one layer instead of all.
 */
#include "stage.h"

struct trace {
    float **in;              /* [last - first] rows that each layer read */
    pac_block_saved **saved; /* [last - first]; NULL with recompute */
    pac_norm_saved embed[2], final[2];
    const float *enc; /* [S, D] encoder output that the decoder layers read */
};

static bool is_top(const stage *s, pac_stack stack)
{
    return stack == pac_last_stack(&s->job->desc);
}

static pac_err new_trace(const stage *s, micro *x)
{
    void *t, *in, *saved;
    int64_t n = s->last - s->first;
    PAC_TRY(pac_arena_get(x->arena, sizeof(trace), &t));
    PAC_TRY(pac_arena_get(x->arena, (size_t)(n + 1) * sizeof(float *), &in));
    PAC_TRY(pac_arena_get(x->arena, (size_t)(n + 1) * sizeof(pac_block_saved *), &saved));
    x->trace = t;
    *x->trace = (trace){.in = in, .saved = saved};
    return PAC_OK;
}

/* ---- forward ---- */

static pac_err layers_fwd(stage *s, micro *x, const stack_part *p, const pac_pass *pass, float **rows)
{
    trace *t = x->trace;
    pac_pass plain = *pass;
    bool recompute = s->again != NULL;
    if (recompute)
        plain.keep = NULL;
    for (int64_t l = p->lo; l < p->hi; l++) {
        float *y;
        PAC_TRY(pac_arena_floats(x->arena, p->N * s->D, &y));
        t->in[l - s->first] = *rows;
        PAC_TRY(pac_model_layer_fwd(s->model, l, recompute ? &plain : pass, t->enc, y, *rows, &t->saved[l - s->first]));
        PAC_TRY(pac_watch_tell(s->watch, l, false));
        *rows = y;
    }
    return PAC_OK;
}

static pac_err stack_fwd(stage *s, micro *x, pac_stack stack)
{
    stack_part p = stage_part(s, x, stack);
    pac_pass pass = micro_pass(x, s->work, true);
    float *rows = x->in.hidden, *y;
    if (p.lo >= p.hi)
        return PAC_OK;
    if (p.lo == p.base) {
        PAC_TRY(pac_arena_floats(x->arena, p.N * s->D, &rows));
        PAC_TRY(pac_model_embed_fwd(s->model, stack, &pass, rows, &x->trace->embed[stack]));
    }
    PAC_TRY(layers_fwd(s, x, &p, &pass, &rows));
    if (p.hi < p.end) {
        x->out.hidden = rows;
        return PAC_OK;
    }
    PAC_TRY(pac_arena_floats(x->arena, p.N * s->D, &y));
    PAC_TRY(pac_model_final_fwd(s->model, stack, &pass, y, rows, &x->trace->final[stack]));
    *(is_top(s, stack) ? &x->h : &x->out.enc_out) = y;
    return PAC_OK;
}

pac_err through_fwd(stage *s, micro *x)
{
    PAC_TRY(new_trace(s, x));
    PAC_TRY(stack_fwd(s, x, PAC_ENC));
    if (x->out.enc_out == NULL)
        x->out.enc_out = x->in.enc_out;
    x->trace->enc = x->out.enc_out;
    return stack_fwd(s, x, PAC_DEC);
}

/* ---- backward ---- */

/* d: gradient of the layer's output, then of its input. */
static pac_err layer_bwd(stage *s, micro *x, const pac_pass *pass, int64_t layer, const stack_part *p, float *d, float *denc)
{
    trace *t = x->trace;
    pac_block_saved *saved = t->saved[layer - s->first];
    if (s->again != NULL) {
        pac_pass once = *pass;
        float *y;
        pac_arena_reset(s->again);
        once.keep = s->again;
        PAC_TRY(pac_arena_floats(s->again, p->N * s->D, &y));
        PAC_TRY(pac_model_layer_fwd(s->model, layer, &once, t->enc, y, t->in[layer - s->first], &saved));
    }
    return pac_model_layer_bwd(s->model, layer, pass, t->enc, d, p->stack == PAC_DEC ? denc : NULL, d, saved);
}

/* dy: gradient of what the stack gives (its last rows, or its normed output); *dx: of what it read, NULL where it embeds. */
static pac_err stack_bwd(stage *s, micro *x, const stack_part *p, float *dy, float *denc, float **dx)
{
    pac_pass pass = micro_pass(x, s->work, true);
    if (p->hi == p->end)
        PAC_TRY(pac_model_final_bwd(s->model, p->stack, &pass, dy, dy, &x->trace->final[p->stack]));
    *dx = p->lo > p->base ? dy : NULL;
    for (int64_t l = p->hi - 1; l >= p->lo; l--) {
        PAC_TRY(layer_bwd(s, x, &pass, l, p, dy, denc));
        if (l == p->base) /* rides with it */
            PAC_TRY(pac_model_embed_bwd(s->model, p->stack, &pass, dy, &x->trace->embed[p->stack]));
        PAC_TRY(pac_watch_tell(s->watch, l, true));
    }
    return PAC_OK;
}

/* The gradient of the encoder's output: what later stages sent, or zero; decoder layers here add their part. */
static pac_err encoder_gradient(stage *s, micro *x, float **denc)
{
    int64_t n = x->batch.soff[x->batch.B] * s->D;
    *denc = x->dout.enc_out;
    if (*denc != NULL || s->last < s->job->desc.layers[PAC_ENC])
        return PAC_OK;
    PAC_TRY(pac_arena_floats(x->arena, n, denc));
    s->job->be->zero(*denc, n);
    return PAC_OK;
}

pac_err through_bwd(stage *s, micro *x)
{
    stack_part enc = stage_part(s, x, PAC_ENC), dec = stage_part(s, x, PAC_DEC);
    float *denc = NULL;
    if (!is_top(s, PAC_ENC))
        PAC_TRY(encoder_gradient(s, x, &denc));
    if (dec.lo < dec.hi)
        PAC_TRY(stack_bwd(s, x, &dec, dec.hi == dec.end ? x->dh : x->dout.hidden, denc, &x->din.hidden));
    x->din.enc_out = denc;
    if (enc.lo >= enc.hi)
        return PAC_OK;
    float *dy = enc.hi < enc.end ? x->dout.hidden : is_top(s, PAC_ENC) ? x->dh : denc;
    x->din.enc_out = NULL;
    return stack_bwd(s, x, &enc, dy, NULL, &x->din.hidden);
}
