/*
 * Reading ahead: a thread reads the next request while the caller computes with the last.
 *
 * Two buffers. Request k goes to buffer k % 2, which request k - 2 leaves when the caller takes k - 1; so up to two requests
 * wait or are read while one is in use. The thread calls neither MPI nor the log, and an error waits in its request for the
 * taker.
 */
#include "internal.h"

#include "pac/clock.h"

#include <stdio.h>
#include <string.h>

enum { AHEAD = 2, SLOTS = AHEAD + 1, BUFFERS = 2 };

typedef struct request {
    int64_t *sample;
    int64_t n, cap;
    pac_err err;
    char message[512];
} request;

struct cache_reader {
    pac_cache *c;
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows up to stop; buffers belong to the thread or the caller by turns */
    pthread_cond_t change;
    int64_t asked, done, taken, released; /* requests */
    int64_t announced;                    /* the thread's own */
    bool stop;
    request slot[SLOTS];
    float *buffer[BUFFERS];
    int64_t buffer_cap[BUFFERS];
    uint8_t *record;
    int64_t record_cap;
    double seconds, waited; /* the thread's at work, the caller's for it; under the lock */
    int64_t bytes;
};

/* ---- the thread ---- */

/* Rows of each stack in a request. */
static void count_rows(const pac_cache_layout *l, const request *q, int64_t rows[2])
{
    rows[0] = rows[1] = 0;
    for (int64_t i = 0; i < q->n; i++)
        for (int s = 0; s < 2; s++)
            rows[s] += l->len[s][q->sample[i]];
}

/* Where part p begins in a buffer: parts one after the other. */
static void place_parts(const pac_cache_layout *l, const request *q, int64_t *at)
{
    int64_t rows[2], sum = 0;
    count_rows(l, q, rows);
    for (int64_t p = 0; p < l->parts; p++) {
        at[p] = sum;
        sum += rows[l->stack[p]] * l->D;
    }
    at[l->parts] = sum;
}

/* The rows of a checked record to where they belong. */
static pac_err unpack_record(const cache_reader *r, const cache_file *f, const cache_record *rec, float *out, const int64_t *at,
                             const int64_t skip[2])
{
    const pac_cache_layout *l = &r->c->l;
    const uint8_t *has = f->sets.has + rec->set * l->parts, *rows = r->record + cache_sums_bytes(&f->sets, rec->set);
    for (int64_t p = 0; p < l->parts; p++) {
        if (!has[p])
            continue;
        int s = l->stack[p];
        PAC_TRY(cache_unpack_rows(l, rows, l->len[s][rec->sample], out + at[p] + skip[s] * l->D));
        rows += cache_part_bytes(l, p, rec->sample);
    }
    return PAC_OK;
}

static pac_err read_sample(cache_reader *r, int64_t sample, float *out, const int64_t *at, const int64_t skip[2])
{
    const pac_cache *c = r->c;
    for (int64_t k = c->at.start[sample]; k < c->at.start[sample + 1]; k++) {
        const cache_entry *e = &c->at.entry[k];
        const cache_file *f = &c->at.file[e->file];
        const cache_record record = {.sample = sample, .set = e->set, .offset = e->offset};
        PAC_TRY(cache_file_read(f, &c->l, &record, &r->record, &r->record_cap));
        PAC_TRY(unpack_record(r, f, &record, out, at, skip));
        r->bytes += cache_record_bytes(&c->l, &f->sets, e->set, sample);
    }
    return PAC_OK;
}

/* As large as it has been so far; the contents are not kept. */
static pac_err reserve(cache_reader *r, int64_t b, int64_t floats)
{
    void *p;
    if (floats <= r->buffer_cap[b])
        return PAC_OK;
    pac_space_free(r->c->reads_into, r->buffer[b]);
    r->buffer[b] = NULL;
    r->buffer_cap[b] = 0;
    PAC_TRY(pac_space_pinned_array(r->c->reads_into, PAC_MEM_CACHE, floats, sizeof(float), &p));
    r->buffer[b] = p;
    r->buffer_cap[b] = floats;
    return PAC_OK;
}

static pac_err read_request(cache_reader *r, const request *q, int64_t b)
{
    const pac_cache_layout *l = &r->c->l;
    int64_t at[CACHE_MAX_PARTS + 1], skip[2] = {0, 0};
    place_parts(l, q, at);
    PAC_TRY(reserve(r, b, at[l->parts]));
    for (int64_t i = 0; i < q->n; i++) {
        PAC_TRY(read_sample(r, q->sample[i], r->buffer[b], at, skip));
        for (int s = 0; s < 2; s++)
            skip[s] += l->len[s][q->sample[i]];
    }
    return PAC_OK;
}

/* The disk gets to know what this request needs, all at once, and the next behind it: so it is never idle in between. */
static void announce(const cache_reader *r, const request *q)
{
    const cache_lookup *at = &r->c->at;
    for (int64_t i = 0; i < q->n; i++)
        for (int64_t k = at->start[q->sample[i]]; k < at->start[q->sample[i] + 1]; k++) {
            const cache_entry *e = &at->entry[k];
            const cache_file *f = &at->file[e->file];
            pac_h5_array_will_read(f->rows, e->offset, cache_record_bytes(&r->c->l, &f->sets, e->set, q->sample[i]));
        }
}

static void serve(cache_reader *r)
{
    request *q = &r->slot[r->done % SLOTS];
    int64_t b = r->done % BUFFERS, asked = r->asked;
    pthread_mutex_unlock(&r->lock);
    double start = pac_now();
    for (; r->announced < asked; r->announced++)
        announce(r, &r->slot[r->announced % SLOTS]);
    q->err = read_request(r, q, b);
    if (q->err != PAC_OK)
        snprintf(q->message, sizeof q->message, "%s", pac_err_message());
    pthread_mutex_lock(&r->lock);
    r->seconds += pac_now() - start;
    r->done++;
    pthread_cond_broadcast(&r->change);
}

static void *read_ahead(void *user)
{
    cache_reader *r = user;
    pthread_mutex_lock(&r->lock);
    while (!r->stop) {
        if (r->done < r->asked && r->done < r->released + BUFFERS)
            serve(r);
        else
            pthread_cond_wait(&r->change, &r->lock);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* ---- the caller ---- */

void pac_cache_read_into(pac_cache *c, const pac_space *space)
{
    c->reads_into = space;
}

static void free_reader(cache_reader *r)
{
    for (int i = 0; i < SLOTS; i++)
        pac_mem_free(r->slot[i].sample);
    for (int i = 0; i < BUFFERS; i++)
        pac_space_free(r->c->reads_into, r->buffer[i]);
    pac_mem_free(r->record);
    pac_mem_free(r);
}

static pac_err start_reader(pac_cache *c)
{
    void *p;
    PAC_CHECK(c->at.start != NULL, PAC_EINVAL, "the cache is read before it is redistributed");
    PAC_TRY(pac_mem_alloc(PAC_MEM_CACHE, sizeof(cache_reader), &p));
    cache_reader *r = p;
    r->c = c;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->change, NULL);
    pac_err err = pac_thread_start(&r->thread, read_ahead, r, "the activation cache");
    if (err != PAC_OK)
        free_reader(r);
    else
        c->reader = r;
    return err;
}

static void note_times(const cache_reader *r, pac_cache_times *t)
{
    t->read += r->seconds;
    t->read_waited += r->waited;
    t->bytes_read += r->bytes;
}

void cache_reader_stop(cache_reader **rp)
{
    cache_reader *r = *rp;
    if (r == NULL)
        return;
    pthread_mutex_lock(&r->lock);
    r->stop = true;
    pthread_cond_broadcast(&r->change);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->thread, NULL);
    note_times(r, &r->c->times);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->change);
    free_reader(r);
    *rp = NULL;
}

static pac_err check_samples(const pac_cache *c, const int64_t *sample, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        PAC_CHECK(sample[i] >= 0 && sample[i] < c->l.samples, PAC_EINVAL, "sample %lld of %lld", (long long)sample[i],
                  (long long)c->l.samples);
        int64_t owner = pac_cache_owner(c, sample[i]);
        PAC_CHECK(owner < 0 || owner == pac_world_rank(), PAC_EINVAL, "sample %lld is held by rank %lld only",
                  (long long)sample[i], (long long)owner);
    }
    return PAC_OK;
}

pac_err pac_cache_prefetch(pac_cache *c, const int64_t *sample, int64_t n)
{
    PAC_CHECK(n >= 0, PAC_EINVAL, "%lld samples asked of the cache", (long long)n);
    PAC_TRY(check_samples(c, sample, n));
    if (c->reader == NULL)
        PAC_TRY(start_reader(c));
    cache_reader *r = c->reader;
    PAC_CHECK(r->asked - r->taken < AHEAD, PAC_EINVAL, "more than %d requests outstanding at the cache", AHEAD);
    request *q = &r->slot[r->asked % SLOTS]; /* free: only the caller moves `asked` and `taken` */
    PAC_TRY(pac_mem_grow(PAC_MEM_CACHE, (void **)&q->sample, &q->cap, n, sizeof(int64_t)));
    if (n > 0)
        memcpy(q->sample, sample, (size_t)n * sizeof *sample);
    q->n = n;
    pthread_mutex_lock(&r->lock);
    r->asked++;
    pthread_cond_broadcast(&r->change);
    pthread_mutex_unlock(&r->lock);
    return PAC_OK;
}

pac_err pac_cache_take(pac_cache *c, const float **part)
{
    cache_reader *r = c->reader;
    PAC_CHECK(r != NULL && r->taken < r->asked, PAC_EINVAL, "nothing was asked of the cache");
    pthread_mutex_lock(&r->lock);
    r->released = r->taken;
    pthread_cond_broadcast(&r->change);
    if (r->done <= r->taken) {
        double start = pac_now();
        while (r->done <= r->taken)
            pthread_cond_wait(&r->change, &r->lock);
        r->waited += pac_now() - start;
    }
    int64_t k = r->taken++;
    pthread_mutex_unlock(&r->lock);
    const request *q = &r->slot[k % SLOTS];
    PAC_CHECK(q->err == PAC_OK, q->err, "%s", q->message);
    int64_t at[CACHE_MAX_PARTS + 1];
    place_parts(&c->l, q, at);
    for (int64_t p = 0; p < c->l.parts; p++)
        part[p] = r->buffer[k % BUFFERS] + at[p];
    return PAC_OK;
}

pac_cache_times pac_cache_spent(const pac_cache *c)
{
    pac_cache_times t = c->times;
    cache_reader *r = c->reader;
    if (c->writing != NULL)
        cache_handover_times(c->writing, &t);
    if (r == NULL)
        return t;
    pthread_mutex_lock(&r->lock);
    note_times(r, &t);
    pthread_mutex_unlock(&r->lock);
    return t;
}
