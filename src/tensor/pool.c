/*
 * The pool: a counter of runs that the threads watch, and a count of parts that are not done yet, which the caller watches.
 * Whoever watches spins first, since kernels follow one another within microseconds, and then sleeps on a condition.
 *
 * Part i is thread i's, unless that thread has not begun by the time the caller is done with its own: another program, or a
 * thread that reads ahead, may have its core. The caller then does that part too, and the thread, when it comes, finds nothing
 * to do. Who does a part changes no number: parts are the same.
 */
#include "kernels.h"

#include "pac/ops.h"
#include "pac/pool.h"
#include "pac/thread.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { SPINS = 8000 }; /* some 100 to 400 microseconds: a sleeping thread takes longer to wake than most kernels take */

static struct {
    int64_t threads;
    bool fine;                       /* grains are ignored */
    pthread_t thread[PAC_POOL_MOST]; /* [1, threads) */
    pthread_mutex_t owner;           /* held during a run */
    pthread_mutex_t lock;            /* of what follows */
    pthread_cond_t begun, done;
    atomic_uint run;                     /* counts runs */
    atomic_uint begun_in[PAC_POOL_MOST]; /* the last run in which somebody began the part */
    atomic_llong unfinished;             /* parts other than the caller's own */
    atomic_bool stop;
    pac_part_fn *fn; /* of a run in which one has begun a part */
    void *user;
    int64_t n, parts;
} pool = {.threads = 1,
          .owner = PTHREAD_MUTEX_INITIALIZER,
          .lock = PTHREAD_MUTEX_INITIALIZER,
          .begun = PTHREAD_COND_INITIALIZER,
          .done = PTHREAD_COND_INITIALIZER};

static _Thread_local int64_t part;
static _Thread_local bool inside;

static void pause_briefly(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int64_t bound(int64_t n, int64_t parts, int64_t i)
{
    return n / parts * i + (n % parts < i ? n % parts : i);
}

static void work_on(int64_t i)
{
    part = i;
    inside = true;
    pool.fn(pool.user, bound(pool.n, pool.parts, i), bound(pool.n, pool.parts, i + 1));
    inside = false;
    part = 0;
}

/* ---- the other threads ---- */

/* A run other than the one last seen; runs in between have ended without this thread. */
static unsigned await_run(unsigned seen)
{
    unsigned run;
    for (int i = 0; i < SPINS; i++) {
        run = atomic_load_explicit(&pool.run, memory_order_acquire);
        if (run != seen)
            return run;
        pause_briefly();
    }
    pthread_mutex_lock(&pool.lock);
    while ((run = atomic_load(&pool.run)) == seen)
        pthread_cond_wait(&pool.begun, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
    return run;
}

/*
 * Is part i of this run the calling thread's? A run ends when all its parts are done, so whoever comes later finds them begun,
 * in this run or in one after it.
 */
static bool claim(int64_t i, unsigned run)
{
    unsigned last = atomic_load(&pool.begun_in[i]);
    return (int)(run - last) > 0 && atomic_compare_exchange_strong(&pool.begun_in[i], &last, run);
}

static void finish(void)
{
    if (atomic_fetch_sub(&pool.unfinished, 1) > 1)
        return;
    pthread_mutex_lock(&pool.lock); /* the caller is either still to look at the count, or asleep */
    pthread_cond_signal(&pool.done);
    pthread_mutex_unlock(&pool.lock);
}

static void *thread_main(void *number)
{
    int64_t i = (int64_t)(intptr_t)number;
    for (unsigned seen = 0;;) {
        seen = await_run(seen);
        if (atomic_load(&pool.stop))
            break;
        if (claim(i, seen)) {
            work_on(i);
            finish();
        }
    }
    inside = true; /* its own scratch only */
    pac_backend_release();
    return NULL;
}

/* ---- the caller ---- */

/* Parts beyond the last count as begun. */
static unsigned begin(pac_part_fn *fn, void *user, int64_t n, int64_t parts)
{
    unsigned run = atomic_load(&pool.run) + 1;
    pool.fn = fn;
    pool.user = user;
    pool.n = n;
    pool.parts = parts;
    for (int64_t i = parts; i < pool.threads; i++)
        atomic_store(&pool.begun_in[i], run);
    atomic_store(&pool.unfinished, parts - 1);
    pthread_mutex_lock(&pool.lock);
    atomic_store_explicit(&pool.run, run, memory_order_release);
    pthread_cond_broadcast(&pool.begun);
    pthread_mutex_unlock(&pool.lock);
    return run;
}

static void await_parts(void)
{
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&pool.unfinished, memory_order_acquire) == 0)
            return;
        pause_briefly();
    }
    pthread_mutex_lock(&pool.lock);
    while (atomic_load(&pool.unfinished) > 0)
        pthread_cond_wait(&pool.done, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
}

int64_t pac_pool_parts(int64_t n, int64_t grain)
{
    if (n <= 0 || inside)
        return n > 0;
    int64_t most = grain > 0 && !pool.fine ? n / grain : n;
    return most < 1 ? 1 : most < pool.threads ? most : pool.threads;
}

/* The pool is the caller's. */
static void run_parts(pac_part_fn *fn, void *user, int64_t n, int64_t parts, bool take_over)
{
    unsigned run = begin(fn, user, n, parts);
    work_on(0);
    for (int64_t i = 1; i < parts && take_over; i++)
        if (claim(i, run)) {
            work_on(i);
            atomic_fetch_sub(&pool.unfinished, 1);
        }
    await_parts();
}

void pac_pool_run(int64_t n, int64_t grain, pac_part_fn *fn, void *user)
{
    int64_t parts = pac_pool_parts(n, grain);
    if (parts == 0)
        return;
    if (parts == 1 || pthread_mutex_trylock(&pool.owner) != 0) {
        fn(user, 0, n);
        return;
    }
    run_parts(fn, user, n, parts, true);
    if (pac_scratch_grew())
        run_parts(pac_scratch_level, NULL, pool.threads, pool.threads, false);
    pthread_mutex_unlock(&pool.owner);
}

void pac_pool_run_each(pac_part_fn *fn, void *user)
{
    if (inside || pool.threads == 1 || pthread_mutex_trylock(&pool.owner) != 0) {
        fn(user, 0, 1);
        return;
    }
    run_parts(fn, user, pool.threads, pool.threads, false);
    pthread_mutex_unlock(&pool.owner);
}

void pac_pool_ignore_grain(void)
{
    pool.fine = true;
}

int64_t pac_pool_part(void)
{
    return part;
}

bool pac_pool_inside(void)
{
    return inside;
}

/* ---- starting and stopping ---- */

void pac_pool_stop(void)
{
    if (pool.threads == 1)
        return;
    atomic_store(&pool.stop, true);
    (void)begin(NULL, NULL, 0, 1);
    for (int64_t i = 1; i < pool.threads; i++)
        pthread_join(pool.thread[i], NULL);
    pool.threads = 1;
    atomic_store(&pool.stop, false);
    atomic_store(&pool.run, 0);
    for (int64_t i = 0; i < PAC_POOL_MOST; i++)
        atomic_store(&pool.begun_in[i], 0);
}

static int64_t asked_for(int64_t n)
{
    const char *text = getenv("OPENBLAS_NUM_THREADS");
    long set = text != NULL ? strtol(text, NULL, 10) : 0;
    n = set > 0 ? set : n;
    return n < 1 ? 1 : n > PAC_POOL_MOST ? PAC_POOL_MOST : n;
}

int64_t pac_pool_set_threads(int64_t n)
{
    n = asked_for(n);
    if (n == pool.threads)
        return n;
    pac_pool_stop();
    while (pool.threads < n &&
           pac_thread_start(&pool.thread[pool.threads], thread_main, (void *)(intptr_t)pool.threads, "the pool") == PAC_OK)
        pool.threads++;
    return pool.threads;
}

int64_t pac_pool_threads(void)
{
    return pool.threads;
}
