/*
 * The cached phase, dry: the whole side network and the head over rows that were never read. The buffers of the cache's reader
 * are stood in for by blocks of their sizes.
 */
#include "estimate.h"
#include "pac/rng.h"

enum { BUFFERS = 2 }; /* of the reader: one in use, one being filled */

typedef struct phase {
    dry *d;
    stage s; /* as in cached.c: tuned, work and widths */
    micro x;
    pac_arena *rows[2]; /* of two micro-batches, where the backend reads them */
    int64_t brought;
    pac_model *head;
    pac_optimizer *opt;
    void *lookup, *record, *lists, *buffer[BUFFERS];
    int64_t buffer_bytes; /* of each */
    int64_t chunk;
} phase;

/* Where records lie, a record as it is read, this rank's samples in order. */
static pac_err new_reader(phase *f, int64_t stages)
{
    const train *t = &f->d->t;
    int64_t rows = t->job->train.rows, capacity = 0;
    PAC_TRY(pac_mem_array(PAC_MEM_CACHE, rows, (size_t)(8 + 16 * stages), &f->lookup));
    PAC_TRY(pac_mem_grow(PAC_MEM_CACHE, &f->record, &capacity, f->d->record, 1));
    return pac_mem_array(PAC_MEM_DATA, rows + train_batches(t), sizeof(int64_t), &f->lists);
}

static pac_err keep_best(phase *f)
{
    void *p;
    if (!f->d->t.job->cfg.train.keep_best)
        return PAC_OK;
    PAC_TRY(pac_mem_array(PAC_MEM_TUNED, pac_tuned_params(f->s.tuned)->total, sizeof(float), &p));
    f->d->best = p;
    return PAC_OK;
}

static pac_err load(phase *f, int64_t stages)
{
    const pac_job *job = f->d->t.job;
    int64_t L = pac_depth(&job->desc);
    f->s = (stage){.job = job, .D = job->desc.block[PAC_ENC].D};
    f->s.R = f->s.D / job->tune.reduction;
    f->chunk = cached_chunk(job, &f->d->t.map);
    PAC_TRY(pac_tuned_new(&job->desc, &job->tune, job->be, 0, L, true, &f->s.tuned));
    PAC_TRY(pac_optimizer_new(&job->cfg.train.optimizer, job->be->space, pac_tuned_params(f->s.tuned)->total, &f->opt));
    pac_tune_reads(&job->desc, &job->tune, f->s.reads, &f->s.reads_final);
    PAC_TRY(pac_arena_new_in(job->be->space, PAC_MEM_WORK, &f->s.work));
    PAC_TRY(pac_arena_new_in(job->be->space, PAC_MEM_ACTIVATIONS, &f->x.arena));
    for (int k = 0; k < 2; k++)
        PAC_TRY(pac_arena_new_in(job->be->space, PAC_MEM_ACTIVATIONS, &f->rows[k]));
    PAC_TRY(new_reader(f, stages));
    PAC_TRY(keep_best(f));
    return cached_head(job, &f->head);
}

/* While one buffer is in use the next is being filled: both reach the size of the largest micro-batch. */
static pac_err reserve(phase *f, int64_t bytes)
{
    if (bytes <= f->buffer_bytes)
        return PAC_OK;
    f->buffer_bytes = bytes;
    for (int b = 0; b < BUFFERS; b++) {
        pac_mem_free(f->buffer[b]);
        f->buffer[b] = NULL;
        PAC_TRY(pac_mem_alloc(PAC_MEM_CACHE, (size_t)bytes, &f->buffer[b]));
    }
    return PAC_OK;
}

/* Rows of the samples, part after part, as the reader lays them out. */
static pac_err read_chunk(phase *f, const int64_t *sample, int64_t n, const float **part)
{
    const pac_cache_layout *l = &f->d->t.map.shape;
    int64_t rows[2] = {0, 0}, sum = 0;
    for (int64_t i = 0; i < n; i++)
        for (int s = 0; s < 2; s++)
            rows[s] += l->len[s][sample[i]];
    for (int64_t p = 0; p < l->parts; p++)
        sum += rows[l->stack[p]] * l->D * (int64_t)sizeof(float);
    PAC_TRY(reserve(f, sum));
    const float *at = f->buffer[0];
    for (int64_t p = 0; p < l->parts; p++) {
        part[p] = at;
        at += rows[l->stack[p]] * l->D;
    }
    return PAC_OK;
}

/* Samples [from, to) of the order, one device's of a mini-batch, in micro-batches. */
static pac_err run_part(phase *f, int64_t from, int64_t to)
{
    const float *part[2 * PAC_MAX_LAYERS + 3];
    const train *t = &f->d->t;
    double loss;
    int64_t ticket;
    for (int64_t i = from, n; i < to; i += n) {
        n = cached_chunk_end(i, to, f->chunk) - i;
        PAC_TRY(read_chunk(f, t->order + i, n, part));
        PAC_TRY(cached_bring(t->job, &t->map, t->order + i, n, f->rows[f->brought++ % 2], part, &ticket));
        PAC_TRY(cached_micro(&f->s, &f->x, f->head, &t->map, part, t->order + i, n, 1));
    }
    return stage_take_loss(&f->s, &loss);
}

static pac_err run_epochs(phase *f, int64_t rank)
{
    train *t = &f->d->t;
    int64_t steps = 0, heaviest = 0;
    for (int64_t epoch = 1; epoch < t->job->cfg.train.epochs; epoch++) {
        pac_rng_permutation(t->job->cfg.train.seed, (uint64_t)epoch, t->job->train.rows, t->order);
        for (int64_t i = 0; i < train_batches(t); i++) {
            pac_range r = train_batch(t, i), part = cached_part(t->plan, r.hi - r.lo, rank);
            int64_t tokens = train_tokens(t, (pac_range){r.lo + part.lo, r.lo + part.hi});
            if (steps++ >= f->d->most && tokens <= heaviest)
                continue;
            heaviest = tokens > heaviest ? tokens : heaviest;
            PAC_TRY(run_part(f, r.lo + part.lo, r.lo + part.hi));
        }
    }
    return PAC_OK;
}

/* Operations of a micro-batch that was run: its backward and the head once more, the rest is what remains. */
static pac_err count_micro(phase *f, pac_flop *sum)
{
    pac_side_state none = {0}, state;
    pac_pass p = micro_pass(&f->x, f->s.work, true);
    double all = pac_backend_counted(true);
    PAC_TRY(pac_side_bwd(pac_tuned_side(f->s.tuned), &p, &f->x.acts, &none, f->x.dh, &state, f->x.saved));
    double back = pac_backend_counted(true);
    PAC_TRY(stage_loss(&f->s, &f->x, f->head, 1, false));
    double head = pac_backend_counted(true);
    PAC_TRY(stage_loss(&f->s, &f->x, f->head, 1, true));
    double head_back = pac_backend_counted(true) - head;
    sum->forward += all - back - head_back;
    sum->backward += back + head_back;
    sum->head_forward += head;
    sum->head_backward += head_back;
    return PAC_OK;
}

/* The first mini-batch, all devices' parts. */
static pac_err count_step(phase *f, pac_flop *out)
{
    const float *part[2 * PAC_MAX_LAYERS + 3];
    const train *t = &f->d->t;
    pac_range r = train_batch(t, 0);
    pac_flop sum = {0};
    int64_t ticket;
    for (int64_t i = r.lo, n; i < r.hi; i += n) {
        n = cached_chunk_end(i, r.hi, f->chunk) - i;
        PAC_TRY(read_chunk(f, t->order + i, n, part));
        PAC_TRY(cached_bring(t->job, &t->map, t->order + i, n, f->rows[f->brought++ % 2], part, &ticket));
        pac_backend_counted(true);
        PAC_TRY(cached_micro(&f->s, &f->x, f->head, &t->map, part, t->order + i, n, 1));
        PAC_TRY(count_micro(f, &sum));
    }
    *out = sum;
    return PAC_OK;
}

static void release(phase *f)
{
    pac_model_free(&f->head);
    stage_drop_losses(&f->s);
    for (int k = 0; k < 2; k++)
        pac_arena_free(&f->rows[k]);
    pac_arena_free(&f->x.arena);
    pac_arena_free(&f->s.work);
    pac_optimizer_free(&f->opt);
    pac_tuned_free(&f->s.tuned);
    for (int i = 0; i < BUFFERS; i++)
        pac_mem_free(f->buffer[i]);
    pac_mem_free(f->lookup);
    pac_mem_free(f->record);
    pac_mem_free(f->lists);
    pac_mem_free(f->d->best);
    f->d->best = NULL;
}

pac_err dry_cached(dry *d, const pac_plan *plan, int64_t rank, pac_flop *flop, pac_footprint *out)
{
    phase f = {.d = d};
    pac_err err;
    d->t.plan = plan;
    pac_backend_count_device_release();
    pac_mem_reset_peaks();
    PAC_GO(load(&f, plan->stages));
    PAC_GO(run_epochs(&f, rank));
    *out = dry_peaks();
    pac_cross_force(PAC_CROSS_PLAIN); /* as published */
    err = flop != NULL ? count_step(&f, flop) : PAC_OK;
    pac_cross_force(PAC_CROSS_CHEAPER);
out:
    release(&f);
    return err;
}
