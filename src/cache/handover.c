/*
 * The thread that writes: the caller lends it the rows of a part and goes on; the thread converts, checks and writes.
 *
 * Rows are borrowed, not copied: the training step keeps them anyway until its backward pass is through, so that no memory is
 * needed for what is under way, and the step waits only if the disk is slower than the step. A ticket is the number of parts
 * lent so far; settling one waits until the thread has taken that many. The thread sleeps while nothing is lent. It is the only
 * one that touches the file between pac_cache_create() and pac_cache_finish(). After its first error it takes what is lent
 * without looking, and the next call of the caller returns the error.
 */
#include "internal.h"

#include "pac/clock.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { QUEUE = 256 };

typedef struct lent_part {
    int64_t part, n;
    const int64_t *sample;
    const float *rows;
} lent_part;

struct cache_handover {
    cache_writer *writer; /* the thread's while it runs */
    pthread_t thread;
    bool running;
    pthread_mutex_t lock; /* of all below */
    pthread_cond_t work, progress;
    lent_part queue[QUEUE];
    int64_t lent, done;
    bool stop, told;
    pac_err err; /* the first */
    char message[1024];
    double seconds, waited;
};

/* ---- the thread ---- */

static void take(cache_handover *h)
{
    const lent_part q = h->queue[h->done % QUEUE];
    pthread_mutex_unlock(&h->lock);
    double start = pac_now();
    pac_err err = cache_writer_add(h->writer, q.part, q.sample, q.n, q.rows);
    double seconds = pac_now() - start;
    pthread_mutex_lock(&h->lock);
    h->seconds += seconds;
    h->err = err;
    if (err != PAC_OK)
        snprintf(h->message, sizeof h->message, "%s", pac_err_message());
}

static void *write_lent(void *user)
{
    cache_handover *h = user;
    pthread_mutex_lock(&h->lock);
    while (!h->stop) {
        if (h->done == h->lent) {
            pthread_cond_wait(&h->work, &h->lock);
            continue;
        }
        if (h->err == PAC_OK)
            take(h);
        h->done++;
        pthread_cond_signal(&h->progress);
    }
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

static void stop_thread(cache_handover *h)
{
    if (!h->running)
        return;
    pthread_mutex_lock(&h->lock);
    h->stop = true;
    pthread_cond_signal(&h->work);
    pthread_mutex_unlock(&h->lock);
    pthread_join(h->thread, NULL);
    h->running = false;
}

/* ---- the caller ---- */

/* Under the lock. */
static void wait_for(cache_handover *h, int64_t done)
{
    if (h->done >= done)
        return;
    double start = pac_now();
    while (h->done < done)
        pthread_cond_wait(&h->progress, &h->lock);
    h->waited += pac_now() - start;
}

/* Under the lock: the thread's error in its own words, afterwards that there was one. */
static pac_err tell(cache_handover *h)
{
    if (h->err == PAC_OK)
        return PAC_OK;
    bool told = h->told;
    h->told = true;
    pac_err err = told ? pac_fail(h->err, "%s: an earlier write failed", cache_writer_path(h->writer))
                       : pac_fail(h->err, "%s", h->message);
    return cache_advise(err);
}

static pac_err check_lent(const pac_cache *c, int64_t part, const int64_t *sample, int64_t n)
{
    const pac_cache_layout *l = &c->l;
    PAC_CHECK(c->writing != NULL, PAC_EINVAL, "the cache is not open for writing");
    PAC_CHECK(part >= 0 && part < l->parts, PAC_EINVAL, "part %lld of %lld", (long long)part, (long long)l->parts);
    for (int64_t i = 0; i < n; i++)
        PAC_CHECK(sample[i] >= 0 && sample[i] < l->samples, PAC_EINVAL, "sample %lld of %lld", (long long)sample[i],
                  (long long)l->samples);
    return PAC_OK;
}

static pac_err start(cache_handover *h)
{
    if (!h->running)
        PAC_TRY(pac_thread_start(&h->thread, write_lent, h, "the activation cache"));
    h->running = true;
    return PAC_OK;
}

pac_err pac_cache_lend(pac_cache *c, int64_t part, const int64_t *sample, int64_t n, const float *rows, int64_t *ticket)
{
    PAC_TRY(check_lent(c, part, sample, n));
    cache_handover *h = c->writing;
    PAC_TRY(start(h));
    pthread_mutex_lock(&h->lock);
    wait_for(h, h->lent - QUEUE + 1);
    if (n > 0) {
        h->queue[h->lent++ % QUEUE] = (lent_part){part, n, sample, rows};
        pthread_cond_signal(&h->work);
    }
    if (ticket != NULL)
        *ticket = h->lent;
    pac_err err = tell(h);
    pthread_mutex_unlock(&h->lock);
    return err;
}

pac_err pac_cache_settle(pac_cache *c, int64_t ticket)
{
    cache_handover *h = c->writing;
    PAC_CHECK(h != NULL, PAC_EINVAL, "the cache is not open for writing");
    pthread_mutex_lock(&h->lock);
    wait_for(h, ticket < h->lent ? ticket : h->lent);
    pac_err err = tell(h);
    pthread_mutex_unlock(&h->lock);
    return err;
}

pac_err pac_cache_append(pac_cache *c, int64_t part, const int64_t *sample, int64_t n, const float *rows)
{
    int64_t ticket = 0;
    PAC_TRY(pac_cache_lend(c, part, sample, n, rows, &ticket));
    return pac_cache_settle(c, ticket);
}

void cache_handover_times(cache_handover *h, pac_cache_times *t)
{
    pthread_mutex_lock(&h->lock);
    t->write = h->seconds;
    t->write_waited = h->waited;
    pthread_mutex_unlock(&h->lock);
}

/* ---- begin and end ---- */

static void free_handover(cache_handover **hp)
{
    cache_handover *h = *hp;
    pthread_mutex_destroy(&h->lock);
    pthread_cond_destroy(&h->work);
    pthread_cond_destroy(&h->progress);
    pac_mem_free(h);
    *hp = NULL;
}

void cache_handover_drop(cache_handover **h)
{
    if (*h == NULL)
        return;
    stop_thread(*h);
    cache_writer_drop(&(*h)->writer);
    free_handover(h);
}

static pac_err open_writer(pac_cache *c)
{
    void *p;
    PAC_TRY(pac_mem_alloc(PAC_MEM_CACHE, sizeof(cache_handover), &p));
    cache_handover *h = p;
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->work, NULL);
    pthread_cond_init(&h->progress, NULL);
    pac_err err = cache_writer_open(c, &h->writer);
    if (err != PAC_OK)
        free_handover(&h);
    c->writing = h;
    return err;
}

static pac_err clear_directory(const char *dir)
{
    PAC_TRY(cache_make_dir(dir));
    return pac_node_rank() == 0 ? cache_remove_files(dir, false) : PAC_OK;
}

/* Leaves no file behind when it fails on any rank. Collective. */
static pac_err open_writers(pac_cache *c)
{
    pac_err local = open_writer(c), err = pac_agree(pac_world(), local);
    if (err == PAC_OK || local != PAC_OK)
        return err;
    char path[CACHE_PATH];
    cache_path(path, c->dir, false, pac_world_rank());
    unlink(path);
    return err;
}

pac_err pac_cache_create(const char *dir, const pac_cache_layout *l, const pac_cache_id *id, pac_cache **out)
{
    pac_cache *c = NULL;
    pac_err err;
    PAC_GO(pac_agree(pac_world(), cache_new(dir, l, id, &c)));
    PAC_GO(pac_agree(pac_world(), clear_directory(dir)));
    PAC_GO(pac_bcast(pac_world(), &c->h.run, sizeof c->h.run, 0));
    PAC_GO(open_writers(c));
    *out = c;
    return PAC_OK;
out:
    cache_free(&c);
    return err;
}

/* The last of the file is written here, after the thread. */
static pac_err finish(pac_cache *c)
{
    PAC_TRY(pac_cache_settle(c, INT64_MAX));
    cache_handover *h = c->writing;
    stop_thread(h);
    cache_handover_times(h, &c->times);
    double begin = pac_now();
    h->err = cache_writer_finish(&h->writer, &c->times.bytes_written);
    double last = pac_now() - begin;
    c->times.write += last;
    c->times.write_waited += last;
    if (h->writer == NULL) { /* also when the last bytes of the file were not written */
        pac_err err = h->err;
        free_handover(&c->writing);
        return cache_advise(err);
    }
    h->told = true;
    return cache_advise(h->err);
}

pac_err pac_cache_finish(pac_cache *c)
{
    return pac_agree(pac_world(), finish(c));
}
