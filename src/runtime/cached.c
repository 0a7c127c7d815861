/*
 * The cached phase: the backbone is gone. Every rank holds the whole side network and the head, reads the activations of its
 * samples of each mini-batch from disk ahead of need, and all ranks sum their gradients: data parallelism.
 */
#include "train.h"
#include "pac/clock.h"

enum {
    MOST_SAMPLES = 16,      /* of one micro-batch, and */
    LEAST_BYTES = 16 << 20, /* of rows that it may read in any case */
    AHEAD = 2,              /* requests that the cache keeps outstanding */
};

/* One micro-batch's rows, where the backend reads them. */
typedef struct arrival {
    const float *part[2 * PAC_MAX_LAYERS + 3];
    pac_arena *rows; /* where they were brought to */
    int64_t ticket;  /* of bringing them, -1: nothing was copied */
    int64_t used;    /* ticket of the work that read them, -1: none */
} arrival;

struct cached {
    train *t;
    stage s; /* only side, work and widths are used: the loss needs them */
    micro x;
    pac_model *head; /* lm head; NULL with a classification head */
    reducer reduce;
    int64_t chunk;     /* samples of one micro-batch at most */
    int64_t *mine;     /* this rank's samples of the epoch, in order of use */
    int64_t *mine_end; /* [batches] end of each mini-batch's samples in `mine` */
    int64_t asked;     /* samples already asked of the cache */
    int64_t batch_asked;
    int64_t loaded, batch_loaded; /* samples taken from the cache */
    arrival arrival[2];           /* taken and used in turns: */
    int64_t arrivals, runs;
};

/*
 * Rows of at most half the head's size: bounds activations and read buffers, while the head, which every micro-batch reads
 * twice, is not read more often than that is worth. A device with memory of its own holds as many as there may be.
 */
int64_t cached_chunk(const pac_job *job, const cache_map *map)
{
    const pac_cache_layout *l = &map->shape;
    int64_t head = job->tune.head == PAC_HEAD_LM ? job->desc.vocab * job->desc.block[PAC_DEC].D * (int64_t)sizeof(float) : 0;
    int64_t most = head / 2 > LEAST_BYTES ? head / 2 : LEAST_BYTES;
    int64_t sample = pac_cache_bytes(l) / l->samples * (int64_t)sizeof(float) / (int64_t)pac_dtype_size(l->dtype);
    int64_t n = pac_space_zero_copy(job->be->space) ? most / (sample + 1) : MOST_SAMPLES;
    return n < 1 ? 1 : n < MOST_SAMPLES ? n : MOST_SAMPLES;
}

int64_t cached_chunk_end(int64_t from, int64_t end, int64_t most)
{
    int64_t left = end - from, chunks = (left + most - 1) / most;
    return chunks > 0 ? from + (left + chunks - 1) / chunks : end;
}

pac_err cached_head(const pac_job *job, pac_model **out)
{
    int64_t L = pac_depth(&job->desc);
    if (job->tune.head != PAC_HEAD_LM)
        return PAC_OK;
    return pac_model_load(&job->desc, job->be, L, L, PAC_LOAD_HEAD_ONLY | (job->shapes ? PAC_LOAD_SHAPES : 0), out);
}

static pac_err cached_local(cached *c)
{
    train *t = c->t;
    const pac_job *job = t->job;
    void *p;
    c->s = (stage){.job = job, .D = job->desc.block[PAC_ENC].D, .tuned = t->whole};
    c->s.R = c->s.D / job->tune.reduction;
    c->chunk = cached_chunk(job, &t->map);
    pac_cache_read_into(t->cache, job->be->space);
    for (int k = 0; k < 2; k++)
        PAC_TRY(pac_arena_new_in(job->be->space, PAC_MEM_ACTIVATIONS, &c->arrival[k].rows));
    pac_tune_reads(&job->desc, &job->tune, c->s.reads, &c->s.reads_final);
    PAC_TRY(pac_arena_new_in(job->be->space, PAC_MEM_WORK, &c->s.work));
    PAC_TRY(pac_arena_new_in(job->be->space, PAC_MEM_ACTIVATIONS, &c->x.arena));
    PAC_TRY(pac_mem_array(PAC_MEM_DATA, job->train.rows, sizeof(int64_t), &p));
    c->mine = p;
    PAC_TRY(pac_mem_array(PAC_MEM_DATA, train_batches(t), sizeof(int64_t), &p));
    c->mine_end = p;
    PAC_TRY(buckets_open(job, pac_world(), pac_tuned_params(t->whole), 0, pac_depth(&job->desc), &c->reduce.buckets));
    c->s.watch = buckets_watch(&c->reduce.buckets);
    return cached_head(job, &c->head);
}

pac_err cached_new(train *t, cached **out)
{
    void *p;
    PAC_TRY(pac_agree(pac_world(), pac_mem_alloc(PAC_MEM_OTHER, sizeof(cached), &p)));
    cached *c = p;
    c->t = t;
    reducer_for_world(t->job, &c->reduce);
    pac_err err = pac_agree(pac_world(), cached_local(c));
    if (err != PAC_OK)
        cached_free(&c);
    else
        *out = c;
    return err;
}

void cached_free(cached **cp)
{
    cached *c = *cp;
    if (c == NULL)
        return;
    pac_model_free(&c->head);
    for (int k = 0; k < 2; k++)
        pac_arena_free(&c->arrival[k].rows);
    pac_arena_free(&c->x.arena);
    reducer_free(&c->reduce);
    stage_drop_losses(&c->s);
    pac_arena_free(&c->s.work);
    pac_mem_free(c->mine);
    pac_mem_free(c->mine_end);
    pac_mem_free(c);
    *cp = NULL;
}

/* ---- which samples ---- */

pac_range cached_part(const pac_plan *plan, int64_t n, int64_t rank)
{
    return plan->cached_share != NULL ? pac_split_shares(n, plan->cached_share, plan->world, rank)
                                      : pac_split_even(n, plan->world, rank);
}

pac_err cached_owners(const pac_plan *plan, int64_t rows, int32_t *owner)
{
    void *p;
    int64_t n = plan->world;
    PAC_TRY(pac_mem_array(PAC_MEM_CACHE, n, sizeof(double), &p));
    double *due = p;
    for (int64_t i = 0; i < rows; i++) {
        int64_t next = 0;
        for (int64_t r = 0; r < n; r++) {
            due[r] += plan->cached_share != NULL ? plan->cached_share[r] : 1.0 / (double)n;
            next = due[r] > due[next] + 1e-9 ? r : next;
        }
        due[next] -= 1;
        owner[i] = (int32_t)next;
    }
    pac_mem_free(due);
    return PAC_OK;
}

/* Everywhere readable: a contiguous part of the mini-batch. Sharded: those that this rank owns. */
static void list_samples(cached *c)
{
    const train *t = c->t;
    int64_t n = 0, rank = pac_world_rank();
    for (int64_t i = 0; i < train_batches(t); i++) {
        pac_range b = train_batch(t, i);
        pac_range part = cached_part(t->plan, b.hi - b.lo, rank);
        for (int64_t j = b.lo; j < b.hi; j++) {
            int64_t owner = pac_cache_owner(t->cache, t->order[j]);
            bool in_part = j - b.lo >= part.lo && j - b.lo < part.hi;
            if (owner == rank || (owner < 0 && in_part))
                c->mine[n++] = t->order[j];
        }
        c->mine_end[i] = n;
    }
}

/* The next chunk after `from` inside mini-batch i. */
static int64_t chunk_end(const cached *c, int64_t i, int64_t from)
{
    return cached_chunk_end(from, c->mine_end[i], c->chunk);
}

/* Ask for one more chunk, if there is one; chunks never cross mini-batches. */
static pac_err ask_next(cached *c)
{
    int64_t batches = train_batches(c->t);
    while (c->batch_asked < batches && c->asked == c->mine_end[c->batch_asked])
        c->batch_asked++;
    if (c->batch_asked == batches)
        return PAC_OK;
    int64_t end = chunk_end(c, c->batch_asked, c->asked), from = c->asked;
    c->asked = end;
    return pac_cache_prefetch(c->t->cache, c->mine + from, end - from);
}

/* ---- one mini-batch ---- */

pac_err cached_bring(const pac_job *job, const cache_map *map, const int64_t *sample, int64_t n, pac_arena *rows,
                     const float **part, int64_t *ticket)
{
    const pac_space *space = job->be->space;
    const pac_cache_layout *l = &map->shape;
    const float *from = part[0];
    int64_t floats = 0;
    float *to;
    *ticket = -1;
    if (pac_space_zero_copy(space))
        return PAC_OK;
    for (int64_t p = 0; p < l->parts; p++)
        for (int64_t i = 0; i < n; i++)
            floats += l->len[l->stack[p]][sample[i]] * l->D;
    pac_arena_reset(rows);
    PAC_TRY(pac_arena_floats(rows, floats, &to));
    PAC_TRY(space->upload_start(to, from, (size_t)floats * sizeof *to, ticket));
    for (int64_t p = 0; p < l->parts; p++)
        part[p] = to + (part[p] - from);
    return PAC_OK;
}

static void bind_parts(const stage *s, micro *x, const cache_map *map, const float *const *part)
{
    x->acts = (pac_acts){.final = map->final >= 0 ? part[map->final] : NULL};
    for (int stack = PAC_ENC; stack <= PAC_DEC; stack++)
        for (int64_t i = 0; i <= s->job->desc.layers[stack]; i++)
            if (map->part[stack][i] >= 0)
                x->acts.b[stack][i] = part[map->part[stack][i]];
}

pac_err cached_micro(stage *s, micro *x, const pac_model *head, const cache_map *map, const float *const *part,
                     const int64_t *sample, int64_t n, float scale)
{
    const pac_job *job = s->job;
    pac_side *side = pac_tuned_side(s->tuned);
    pac_side_state none = {0}, out;
    pac_arena_reset(x->arena);
    PAC_TRY(pac_batch_gather(&job->train, sample, n, &job->batching, x->arena, &x->batch));
    bind_parts(s, x, map, part);
    PAC_TRY(micro_drop(job, x, s->drop_key));
    pac_pass p = micro_pass(x, s->work, true);
    p.watch = s->watch;
    PAC_TRY(pac_side_fwd(side, &p, &x->acts, &none, &out, &x->h, true, &x->saved));
    PAC_TRY(stage_loss(s, x, head, scale, true));
    return pac_side_bwd(side, &p, &x->acts, &none, x->dh, &out, x->saved);
}

/* Are rows brought while the micro-batch before is computed? */
static bool ahead(const cached *c)
{
    return !pac_space_zero_copy(c->t->job->be->space);
}

static pac_err wait_for(const pac_space *space, int64_t *ticket)
{
    int64_t t = *ticket;
    *ticket = -1;
    return t >= 0 ? space->wait(t) : PAC_OK;
}

/*
 * Take the next micro-batch's rows from the cache and start to bring them. The cache then reads into the buffer of the one
 * before, which must have been brought (or, where it is read in place, used); rows go where those before that one were.
 */
static pac_err load_next(cached *c)
{
    const train *t = c->t;
    const pac_space *space = t->job->be->space;
    arrival *a = &c->arrival[c->arrivals % 2], *last = &c->arrival[(c->arrivals + 1) % 2];
    while (c->batch_loaded < train_batches(t) && c->loaded == c->mine_end[c->batch_loaded])
        c->batch_loaded++;
    if (c->batch_loaded == train_batches(t))
        return PAC_OK;
    PAC_TRY(wait_for(space, ahead(c) ? &last->ticket : &last->used));
    PAC_TRY(wait_for(space, &a->used));
    PAC_TRY(pac_cache_take(t->cache, a->part));
    PAC_TRY(ask_next(c));
    int64_t from = c->loaded;
    c->loaded = chunk_end(c, c->batch_loaded, from);
    PAC_TRY(cached_bring(t->job, &t->map, c->mine + from, c->loaded - from, a->rows, a->part, &a->ticket));
    c->arrivals++;
    return PAC_OK;
}

static pac_err run_chunk(cached *c, const int64_t *sample, int64_t n, float scale)
{
    const pac_space *space = c->t->job->be->space;
    if (c->arrivals == c->runs)
        PAC_TRY(load_next(c));
    arrival *a = &c->arrival[c->runs++ % 2];
    if (a->ticket >= 0)
        PAC_TRY(space->follow(a->ticket));
    pac_err err = cached_micro(&c->s, &c->x, c->head, &c->t->map, a->part, sample, n, scale);
    pac_comm_away(false); /* lent behind a layer that started a sum */
    PAC_TRY(err);
    if (space != NULL)
        PAC_TRY(pac_space_mark(space, &a->used));
    return ahead(c) ? load_next(c) : PAC_OK;
}

static pac_err cached_step(cached *c, int64_t i, int64_t epoch, epoch_result *out)
{
    train *t = c->t;
    const pac_job *job = t->job;
    double started = pac_now(), loss = 0;
    pac_range r = train_batch(t, i);
    int64_t counted = loss_count(job, &job->train, t->order + r.lo, r.hi - r.lo), tokens = train_tokens(t, r);
    float scale = counted > 0 ? 1.0f / (float)counted : 0;
    for (int64_t to, from = i == 0 ? 0 : c->mine_end[i - 1]; from < c->mine_end[i]; from = to) {
        to = chunk_end(c, i, from);
        if (to == c->mine_end[i])
            buckets_last(&c->reduce.buckets);
        PAC_TRY(run_chunk(c, c->mine + from, to - from, scale));
    }
    PAC_TRY(stage_take_loss(&c->s, &loss));
    PAC_TRY(train_update(t, &c->reduce, pac_tuned_params(t->whole), loss, tokens, "cached", epoch, started, &loss));
    out->loss += loss * (double)(r.hi - r.lo);
    out->samples += r.hi - r.lo;
    out->tokens += tokens;
    return PAC_OK;
}

/* --steps ended the epoch early: take what was asked, so that the next epoch starts clean. */
static pac_err drain(cached *c)
{
    const float *part[2 * PAC_MAX_LAYERS + 3];
    const pac_space *space = c->t->job->be->space;
    for (int k = 0; k < 2; k++) {
        PAC_TRY(wait_for(space, &c->arrival[k].ticket));
        PAC_TRY(wait_for(space, &c->arrival[k].used));
    }
    while (c->loaded < c->asked) {
        while (c->mine_end[c->batch_loaded] <= c->loaded)
            c->batch_loaded++;
        c->loaded = chunk_end(c, c->batch_loaded, c->loaded);
        PAC_TRY(pac_cache_take(c->t->cache, part));
    }
    return PAC_OK;
}

pac_err cached_epoch(cached *c, int64_t epoch, epoch_result *out)
{
    train *t = c->t;
    double start = t->phase_started = pac_now();
    *out = (epoch_result){.phase = "cached"};
    list_samples(c);
    c->asked = c->batch_asked = c->loaded = c->batch_loaded = c->arrivals = c->runs = 0;
    for (int k = 0; k < 2; k++)
        c->arrival[k].ticket = c->arrival[k].used = -1;
    for (int k = 0; k < AHEAD; k++)
        PAC_TRY(ask_next(c));
    for (int64_t i = 0; i < train_batches(t) && !train_done(t); i++) {
        pac_set_phase("cached epoch", t->step);
        stage_set_step(&c->s, t->step);
        PAC_TRY(cached_step(c, i, epoch, out));
    }
    PAC_TRY(drain(c));
    out->loss /= out->samples > 0 ? (double)out->samples : 1;
    out->seconds = pac_now() - start;
    return PAC_OK;
}
