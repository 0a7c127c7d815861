/*
 * A pipeline stage. With parallel adapters: backbone blocks without gradients (backbone.c), then the side network over the rows
 * they leave. With the other techniques the backbone itself carries gradients: through.c.
 */
#include "stage.h"

#include "pac/rng.h"

#include <string.h>

/* ---- making and freeing ---- */

static pac_err stage_parts(stage *s, stage_use use)
{
    const pac_job *job = s->job;
    PAC_TRY(pac_arena_new_in(job->be->space, PAC_MEM_WORK, &s->work));
    bool taken = use != STAGE_BACKBONE && job->tune.kind == PAC_TECH_FULL;
    int flags = (job->tune.head == PAC_HEAD_LM ? PAC_LOAD_HEAD : 0) | (taken ? PAC_LOAD_TAKEN : 0) |
                (job->shapes ? PAC_LOAD_SHAPES : 0);
    PAC_TRY(pac_model_load(&job->desc, job->be, s->first, s->last, flags, &s->model));
    if (use == STAGE_BACKBONE)
        return PAC_OK;
    PAC_TRY(pac_tuned_new(&job->desc, &job->tune, job->be, s->first, s->last, use == STAGE_LEARNS, &s->tuned));
    PAC_TRY(pac_tuned_attach(s->tuned, s->model));
    pac_tune_reads(&job->desc, &job->tune, s->reads, &s->reads_final);
    if (s->through && job->cfg.train.recompute && use == STAGE_LEARNS)
        return pac_arena_new_in(job->be->space, PAC_MEM_ACTIVATIONS, &s->again);
    return PAC_OK;
}

pac_err stage_new(const pac_job *job, int64_t first, int64_t last, stage_use use, stage **out)
{
    void *p;
    PAC_TRY(pac_mem_alloc(PAC_MEM_OTHER, sizeof(stage), &p));
    stage *s = p;
    *s = (stage){.job = job, .first = first, .last = last, .D = job->desc.block[PAC_ENC].D};
    if (use != STAGE_BACKBONE)
        s->through = pac_technique_through(job->tune.kind);
    s->R = use != STAGE_BACKBONE && !s->through ? s->D / job->tune.reduction : 0;
    pac_err err = stage_parts(s, use);
    if (err != PAC_OK)
        stage_free(&s);
    else
        *out = s;
    return err;
}

void stage_drop_halves(stage *s)
{
    pac_tuned_free(&s->half[PAC_ENC]);
    pac_tuned_free(&s->half[PAC_DEC]);
}

void stage_drop_slots(stage *s)
{
    for (int64_t i = 0; i < s->slots; i++)
        micro_free(&s->slot[i]);
    pac_mem_free(s->slot);
    s->slot = NULL;
    s->slots = 0;
    pac_arena_free(&s->apart);
}

void stage_free(stage **sp)
{
    stage *s = *sp;
    if (s == NULL)
        return;
    stage_drop_slots(s);
    stage_drop_losses(s);
    stage_drop_halves(s);
    pac_tuned_free(&s->tuned);
    pac_model_free(&s->model);
    pac_arena_free(&s->work);
    pac_arena_free(&s->again);
    pac_mem_free(s);
    *sp = NULL;
}

pac_err micro_new(const stage *s, micro *x)
{
    const pac_space *space = s->job->be->space;
    PAC_TRY(pac_arena_new_in(space, PAC_MEM_ACTIVATIONS, &x->arena));
    return space != NULL ? pac_arena_new_staging(space, PAC_MEM_COMM, &x->staging) : PAC_OK;
}

void micro_free(micro *x)
{
    pac_arena_free(&x->arena);
    pac_arena_free(&x->staging);
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
    while (s->slots < n)
        PAC_TRY(micro_new(s, &s->slot[s->slots++]));
    return PAC_OK;
}

bool may_free(pac_err err)
{
    return err == PAC_OK || pac_world_size() == 1;
}

pac_err stage_fill(stage *s, const pac_params *from)
{
    return pac_params_copy(pac_tuned_params(s->tuned), from);
}

pac_err stage_set_halves(stage *s)
{
    const pac_job *job = s->job;
    int64_t E = job->desc.layers[PAC_ENC];
    int64_t cut = s->last < E ? s->last : s->first > E ? s->first : E;
    const int64_t bound[3] = {s->first, cut, s->last};
    for (int stack = PAC_ENC; stack <= PAC_DEC; stack++) {
        if (bound[stack] == bound[stack + 1])
            continue;
        PAC_TRY(pac_tuned_new(&job->desc, &job->tune, job->be, bound[stack], bound[stack + 1], false, &s->half[stack]));
        PAC_TRY(pac_params_copy(pac_tuned_params(s->half[stack]), pac_tuned_params(s->tuned)));
    }
    return PAC_OK;
}

void stage_set_step(stage *s, int64_t step)
{
    s->drop_key = pac_rng_u64(s->job->cfg.train.seed, PAC_STREAM_DROPOUT, (uint64_t)step);
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

pac_err micro_shape(stage *s, micro *x, const pac_dataset *data, const int64_t *sample, int64_t n, const pac_layout *l)
{
    pac_arena_reset(x->arena);
    if (x->staging != NULL)
        pac_arena_reset(x->staging);
    const pac_stage_plan *group = &l->plan->stage[l->stage];
    *x = (micro){
        .arena = x->arena, .staging = x->staging, .n = n, .own = pac_split_shares(n, group->share, group->ranks, l->member)};
    PAC_TRY(whole_offsets(s, x, data, sample));
    x->batch = (pac_batch){
        .B = x->own.hi - x->own.lo, .soff = x->woff[PAC_ENC] + x->own.lo, .toff = x->woff[PAC_DEC] + x->own.lo};
    return PAC_OK;
}

pac_err micro_begin(stage *s, micro *x, const pac_dataset *data, const int64_t *sample, int64_t n, const pac_layout *l)
{
    PAC_TRY(micro_shape(s, x, data, sample, n, l));
    PAC_TRY(pac_batch_gather(data, sample + x->own.lo, x->own.hi - x->own.lo, &s->job->batching, x->arena, &x->batch));
    return micro_drop(s->job, x, s->drop_key);
}

static pac_err row_keys(const pac_batch *b, const int64_t *off, pac_arena *arena, const uint64_t **out)
{
    void *p;
    PAC_TRY(pac_arena_get(arena, (size_t)(off[b->B] + 1) * sizeof(uint64_t), &p));
    uint64_t *key = p;
    for (int64_t i = 0; i < b->B; i++)
        for (int64_t n = off[i]; n < off[i + 1]; n++)
            key[n] = pac_rng_u64((uint64_t)b->sample[i], PAC_STREAM_DROPOUT, (uint64_t)(n - off[i]));
    *out = key;
    return PAC_OK;
}

pac_err micro_drop(const pac_job *job, micro *x, uint64_t key)
{
    if (job->cfg.train.dropout == 0)
        return PAC_OK;
    x->drop = (pac_dropout){.p = (float)job->cfg.train.dropout, .key = key};
    PAC_TRY(row_keys(&x->batch, x->batch.soff, x->arena, &x->drop.row[PAC_ENC]));
    return row_keys(&x->batch, x->batch.toff, x->arena, &x->drop.row[PAC_DEC]);
}

pac_pass micro_pass(micro *x, pac_arena *work, bool training)
{
    bool drops = training && x->drop.p > 0;
    return (pac_pass){.batch = &x->batch, .drop = drops ? &x->drop : NULL, .keep = x->arena, .work = work};
}

int64_t head_rows(const pac_job *job, const pac_batch *b)
{
    return (pac_last_stack(&job->desc) == PAC_DEC ? b->toff : b->soff)[b->B];
}

stack_part stage_part(const stage *s, const micro *x, pac_stack stack)
{
    pac_layer_span all = pac_span_of_stack(&s->job->desc, stack);
    stack_part p = {.stack = stack, .base = all.first, .end = all.last + 1};
    p.lo = s->first > p.base ? s->first : p.base;
    p.hi = s->last < p.end ? s->last : p.end;
    p.N = (stack == PAC_ENC ? x->batch.soff : x->batch.toff)[x->batch.B];
    return p;
}

/* ---- forward and backward ---- */

pac_err stage_tail(stage *s, micro *x, float scale)
{
    if (!s->through) {
        pac_pass p = micro_pass(x, s->work, true);
        p.watch = s->watch;
        PAC_TRY(pac_side_fwd(pac_tuned_side(s->tuned), &p, &x->acts, &x->in.side, &x->out.side, &x->h, true, &x->saved));
    }
    return s->last == pac_depth(&s->job->desc) ? stage_loss(s, x, s->model, scale, true) : PAC_OK;
}

pac_err stage_fwd(stage *s, micro *x, float scale)
{
    PAC_TRY(s->through ? through_fwd(s, x) : stage_backbones(s, x, 1));
    PAC_TRY(stage_tail(s, x, scale));
    pac_model_rest(s->model);
    return PAC_OK;
}

pac_err stage_bwd(stage *s, micro *x)
{
    if (s->through)
        return through_bwd(s, x);
    pac_pass p = micro_pass(x, s->work, true);
    p.watch = s->watch;
    return pac_side_bwd(pac_tuned_side(s->tuned), &p, &x->acts, &x->dout.side, x->dh, &x->din.side, x->saved);
}

/* ---- several micro-batches whose backbone is done ---- */

bool stage_by_layers(const stage *s, int64_t microbatches)
{
    bool whole = s->first == 0 && s->last == pac_depth(&s->job->desc);
    return s->job->desc.stream && whole && microbatches > 1;
}

pac_err stage_apart_begin(stage *s, micro *x, pac_arena **own)
{
    if (s->apart == NULL)
        PAC_TRY(pac_arena_new_in(s->job->be->space, PAC_MEM_ACTIVATIONS, &s->apart));
    *own = x->arena;
    x->arena = s->apart;
    return PAC_OK;
}

void stage_apart_end(stage *s, micro *x, pac_arena *own)
{
    x->arena = own;
    pac_arena_reset(s->apart);
}
