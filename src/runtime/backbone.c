/*
 * The frozen backbone of a stage with parallel adapters: only the b_i that the side network reads are kept with a micro-batch,
 * all other rows pass through two scratch buffers. Micro-batches may go through it layer by layer, so that a streamed layer is
 * read once for all of them.
 *
 * On a device alone, scratch of a block lies behind those rows, where the activations of the side network come after it. In a
 * pipeline with several micro-batches in flight that would be scratch in each.
 */
#include "stage.h"

/* Where block output i goes: kept when the side network reads it or a boundary hands it on, else one of two scratch buffers. */
static pac_err output_rows(stage *s, micro *x, pac_stack stack, int64_t i, bool leaves, int64_t N, float **y)
{
    if (s->reads[stack][i] || leaves)
        return pac_arena_floats(x->arena, N * s->D, y);
    *y = x->scratch + (i % 2) * N * s->D;
    return PAC_OK;
}

/* Rows that the side network will read, or the last stack's output (i = -1). */
static pac_err leave_rows(const stage *s, micro *x, pac_stack stack, int64_t i, const float *rows)
{
    if (i < 0)
        x->acts.final = rows;
    else
        x->acts.b[stack][i] = rows;
    return s->sink != NULL && !s->holds ? s->sink(s->sink_user, x, stack, i, rows) : PAC_OK;
}

/* What was held: all rows of a micro-batch, together. */
static pac_err hand_out(const stage *s, micro *x)
{
    const int64_t *layers = s->job->desc.layers;
    for (int stack = PAC_ENC; stack <= PAC_DEC && s->sink != NULL; stack++)
        for (int64_t i = 0; i <= layers[stack]; i++)
            if (x->acts.b[stack][i] != NULL)
                PAC_TRY(s->sink(s->sink_user, x, stack, i, x->acts.b[stack][i]));
    if (s->sink != NULL && x->acts.final != NULL)
        return s->sink(s->sink_user, x, (int)pac_last_stack(&s->job->desc), -1, x->acts.final);
    return PAC_OK;
}

static pac_err stack_entry(stage *s, micro *x, const stack_part *p)
{
    pac_stack stack = p->stack;
    PAC_TRY(pac_arena_floats(s->work, 2 * p->N * s->D, &x->scratch)); /* takes no pages where all rows are kept */
    if (p->lo > p->base) {
        x->rows = x->in.hidden;
        return PAC_OK;
    }
    PAC_TRY(output_rows(s, x, stack, 0, false, p->N, &x->rows));
    PAC_TRY(pac_model_embed(s->model, stack, &x->batch, x->rows));
    return s->reads[stack][0] ? leave_rows(s, x, stack, 0, x->rows) : PAC_OK;
}

static pac_err through_layer(stage *s, micro *x, const stack_part *p, int64_t layer)
{
    float *next;
    int64_t i = layer - p->base + 1;
    PAC_TRY(output_rows(s, x, p->stack, i, layer + 1 == p->hi, p->N, &next));
    PAC_TRY(pac_model_block(s->model, layer, &x->batch, x->out.enc_out, next, x->rows,
                            s->alone && s->slots == 1 ? x->arena : s->work));
    x->rows = next;
    PAC_TRY(pac_watch_tell(s->watch, layer, false));
    return s->reads[p->stack][i] ? leave_rows(s, x, p->stack, i, next) : PAC_OK;
}

/* The stack's final norm; without one, rows that are kept anyway are the output as they are. */
static pac_err final_rows(stage *s, micro *x, pac_stack stack, int64_t N)
{
    const pac_model_desc *d = &s->job->desc;
    float *y = x->rows;
    if (d->final_norm[stack] || !s->reads[stack][d->layers[stack]]) {
        PAC_TRY(pac_arena_floats(x->arena, N * s->D, &y));
        PAC_TRY(pac_model_final(s->model, stack, y, x->rows, N));
    }
    if (stack == PAC_DEC || d->layers[PAC_DEC] == 0)
        return leave_rows(s, x, stack, -1, y);
    x->out.enc_out = y;
    return PAC_OK;
}

static pac_err stack_exit(stage *s, micro *x, const stack_part *p)
{
    if (p->hi == p->end)
        return final_rows(s, x, p->stack, p->N);
    x->out.hidden = x->rows;
    return PAC_OK;
}

/* The layers of `stack` in this slice, each for all micro-batches. */
static pac_err through_stack(stage *s, micro *x, int64_t n, pac_stack stack)
{
    for (int64_t m = 0; m < n; m++)
        if (stack == PAC_DEC && x[m].out.enc_out == NULL)
            x[m].out.enc_out = x[m].in.enc_out;
    stack_part p = stage_part(s, x, stack);
    if (p.lo >= p.hi)
        return PAC_OK;
    size_t mark = pac_arena_mark(s->work);
    for (int64_t m = 0; m < n; m++) {
        p = stage_part(s, &x[m], stack);
        PAC_TRY(stack_entry(s, &x[m], &p));
    }
    for (int64_t layer = p.lo; layer < p.hi; layer++)
        for (int64_t m = 0; m < n; m++) {
            p = stage_part(s, &x[m], stack);
            PAC_TRY(through_layer(s, &x[m], &p, layer));
        }
    for (int64_t m = 0; m < n; m++) {
        p = stage_part(s, &x[m], stack);
        PAC_TRY(stack_exit(s, &x[m], &p));
    }
    pac_arena_release(s->work, mark);
    return PAC_OK;
}

pac_err stage_backbone(stage *s, micro *x, pac_stack stack)
{
    return through_stack(s, x, 1, stack);
}

pac_err stage_backbones(stage *s, micro *x, int64_t n)
{
    s->holds = n > 1;
    PAC_TRY(through_stack(s, x, n, PAC_ENC));
    PAC_TRY(through_stack(s, x, n, PAC_DEC));
    s->holds = false;
    pac_model_rest(s->model);
    for (int64_t m = 0; m < n && n > 1; m++)
        PAC_TRY(hand_out(s, &x[m]));
    return PAC_OK;
}
