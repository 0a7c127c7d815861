/*
 * A pipeline stage: backbone blocks without gradients, then the side network over the rows they leave.
 *
 * Only the b_i that the side network reads are kept with the micro-batch; all other backbone rows pass through two scratch
 * buffers.
 */
#include "stage.h"

#include <string.h>

/* ---- making and freeing ---- */

pac_err stage_new(const pac_job *job, int64_t first, int64_t last, bool tuned, stage **out)
{
    void *p;
    pac_err err = PAC_OK;
    PAC_TRY(pac_mem_alloc(PAC_MEM_OTHER, sizeof(stage), &p));
    stage *s = p;
    *s = (stage){.job = job, .first = first, .last = last, .D = job->desc.block[PAC_ENC].D};
    s->R = tuned ? s->D / job->side.reduction : 0;
    if (tuned)
        pac_side_reads(&job->desc, &job->side, s->reads, &s->reads_final);
    PAC_GO(pac_arena_new(PAC_MEM_WORK, &s->work));
    PAC_GO(pac_model_load(&job->desc, job->be, first, last, job->side.head == PAC_HEAD_LM ? PAC_LOAD_HEAD : 0, &s->model));
    if (tuned)
        PAC_GO(pac_side_new(&job->desc, &job->side, job->be, first, last, &s->side));
    *out = s;
    return PAC_OK;
out:
    stage_free(&s);
    return err;
}

void stage_free(stage **sp)
{
    stage *s = *sp;
    if (s == NULL)
        return;
    for (int64_t i = 0; i < s->slots; i++)
        pac_arena_free(&s->slot[i].arena);
    pac_mem_free(s->slot);
    pac_side_free(&s->side);
    pac_side_free(&s->half[PAC_ENC]);
    pac_side_free(&s->half[PAC_DEC]);
    pac_model_free(&s->model);
    pac_arena_free(&s->work);
    pac_mem_free(s);
    *sp = NULL;
}

pac_err stage_reserve(stage *s, int64_t n)
{
    if (n <= s->slots)
        return PAC_OK;
    void *slots;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, n, sizeof(micro), &slots));
    if (s->slots > 0)
        memcpy(slots, s->slot, (size_t)s->slots * sizeof(micro));
    pac_mem_free(s->slot);
    s->slot = slots;
    while (s->slots < n) {
        PAC_TRY(pac_arena_new(PAC_MEM_ACTIVATIONS, &s->slot[s->slots].arena));
        s->slots++;
    }
    return PAC_OK;
}

bool may_free(pac_err err)
{
    return err == PAC_OK || pac_world_size() == 1;
}

static pac_err copy_by_name(pac_params *to, const pac_params *from)
{
    for (int64_t i = 0, j = 0; i < to->count; i++) { /* both are in canonical order */
        while (j < from->count && strcmp(from->v[j].name, to->v[i].name) != 0)
            j++;
        PAC_CHECK(j < from->count, PAC_EINTERNAL, "parameter %s is not in the whole network", to->v[i].name);
        memcpy(to->v[i].w, from->v[j].w, (size_t)to->v[i].n * sizeof(float));
    }
    return PAC_OK;
}

pac_err stage_set_halves(stage *s, pac_side *whole)
{
    const pac_job *job = s->job;
    int64_t E = job->desc.layers[PAC_ENC];
    int64_t cut = s->last < E ? s->last : s->first > E ? s->first : E;
    const int64_t bound[3] = {s->first, cut, s->last};
    for (int stack = PAC_ENC; stack <= PAC_DEC; stack++) {
        if (bound[stack] == bound[stack + 1])
            continue;
        PAC_TRY(pac_side_new(&job->desc, &job->side, job->be, bound[stack], bound[stack + 1], &s->half[stack]));
        PAC_TRY(copy_by_name(pac_side_params(s->half[stack]), pac_side_params(whole)));
    }
    s->R = s->D / job->side.reduction;
    pac_side_reads(&job->desc, &job->side, s->reads, &s->reads_final);
    return PAC_OK;
}

/* ---- a micro-batch ---- */

static pac_err whole_offsets(const stage *s, micro *x, const pac_dataset *data, const int64_t *sample)
{
    bool shift = s->job->batching.shift_source;
    for (int stack = PAC_ENC; stack <= PAC_DEC; stack++) {
        const int64_t *rows = stack == PAC_ENC || shift ? data->soff : data->toff;
        void *p;
        PAC_TRY(pac_arena_get(x->arena, (size_t)(x->n + 1) * sizeof(int64_t), &p));
        int64_t *off = p;
        off[0] = 0;
        for (int64_t i = 0; i < x->n; i++)
            off[i + 1] = off[i] + rows[sample[i] + 1] - rows[sample[i]];
        x->woff[stack] = off;
    }
    return PAC_OK;
}

pac_err micro_begin(stage *s, micro *x, const pac_dataset *data, const int64_t *sample, int64_t n, const pac_layout *l)
{
    pac_arena_reset(x->arena);
    const pac_stage_plan *group = &l->plan->stage[l->stage];
    *x = (micro){.arena = x->arena, .n = n, .own = pac_split_shares(n, group->share, group->ranks, l->member)};
    PAC_TRY(whole_offsets(s, x, data, sample));
    return pac_batch_gather(data, sample + x->own.lo, x->own.hi - x->own.lo, &s->job->batching, x->arena, &x->batch);
}

/* ---- forward ---- */

/* Where block output i goes: kept when the side network reads it or a boundary hands it on, else one of two scratch buffers. */
static pac_err output_rows(stage *s, micro *x, pac_stack stack, int64_t i, bool leaves, int64_t N, float *scratch, float **y)
{
    if (s->reads[stack][i] || leaves)
        return pac_arena_floats(x->arena, N * s->D, y);
    *y = scratch + (i % 2) * N * s->D;
    return PAC_OK;
}

static pac_err stack_entry(stage *s, micro *x, pac_stack stack, bool embeds, int64_t N, float *scratch, float **rows)
{
    if (!embeds) {
        *rows = x->in.hidden;
        return PAC_OK;
    }
    PAC_TRY(output_rows(s, x, stack, 0, false, N, scratch, rows));
    PAC_TRY(pac_model_embed(s->model, stack, &x->batch, *rows));
    if (s->reads[stack][0])
        x->acts.b[stack][0] = *rows;
    return PAC_OK;
}

static pac_err stack_exit(stage *s, micro *x, pac_stack stack, float *rows, int64_t N)
{
    float *y;
    PAC_TRY(pac_arena_floats(x->arena, N * s->D, &y));
    PAC_TRY(pac_model_final(s->model, stack, y, rows, N));
    if (stack == PAC_ENC)
        x->out.enc_out = y;
    else
        x->acts.final = y;
    return PAC_OK;
}

pac_err stage_backbone(stage *s, micro *x, pac_stack stack)
{
    int64_t E = s->job->desc.layers[PAC_ENC], L = E + s->job->desc.layers[PAC_DEC];
    int64_t base = stack == PAC_ENC ? 0 : E, end = stack == PAC_ENC ? E : L;
    int64_t lo = s->first > base ? s->first : base, hi = s->last < end ? s->last : end;
    const int64_t *off = stack == PAC_ENC ? x->batch.soff : x->batch.toff;
    int64_t N = off[x->batch.B];
    if (stack == PAC_DEC && x->out.enc_out == NULL)
        x->out.enc_out = x->in.enc_out;
    if (lo >= hi)
        return PAC_OK;
    size_t mark = pac_arena_mark(s->work);
    float *rows, *next, *scratch;
    PAC_TRY(pac_arena_floats(s->work, 2 * N * s->D, &scratch));
    PAC_TRY(stack_entry(s, x, stack, lo == base, N, scratch, &rows));
    for (int64_t layer = lo; layer < hi; layer++) {
        int64_t i = layer - base + 1;
        PAC_TRY(output_rows(s, x, stack, i, layer + 1 == hi, N, scratch, &next));
        PAC_TRY(pac_model_block(s->model, layer, &x->batch, x->out.enc_out, next, rows, s->work));
        if (s->reads[stack][i])
            x->acts.b[stack][i] = next;
        rows = next;
    }
    if (hi == end)
        PAC_TRY(stack_exit(s, x, stack, rows, N));
    else
        x->out.hidden = rows;
    pac_arena_release(s->work, mark);
    return PAC_OK;
}

pac_err stage_fwd(stage *s, micro *x, float scale)
{
    int64_t L = s->job->desc.layers[PAC_ENC] + s->job->desc.layers[PAC_DEC];
    PAC_TRY(stage_backbone(s, x, PAC_ENC));
    PAC_TRY(stage_backbone(s, x, PAC_DEC));
    PAC_TRY(pac_side_fwd(s->side, &x->batch, &x->acts, &x->in.side, &x->out.side, &x->h, true, x->arena, s->work, &x->saved));
    return s->last == L ? stage_loss(s, x, s->model, scale, true) : PAC_OK;
}

pac_err stage_bwd(stage *s, micro *x)
{
    return pac_side_bwd(s->side, &x->batch, &x->acts, &x->dout.side, x->dh, &x->din.side, x->arena, s->work, x->saved);
}
