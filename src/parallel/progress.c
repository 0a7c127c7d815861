/*
 * Messages move on while this rank computes. MPI moves them only within its calls, so a thread makes one every 2 ms where there
 * are other nodes; and whoever has a moment may look by himself.
 *
 * MPI belongs to the main thread; it lends it while it computes (pac_comm_away()), with something under way, and takes it back.
 * So calls never meet (MPI_THREAD_SERIALIZED), and a thread without work sleeps.
 */
#include "internal.h"

#include "pac/clock.h"
#include "pac/thread.h"

#include <pthread.h>
#include <sched.h>

enum { LOOKS = 4 };                                               /* what arrives may let the next message go */
static const double look_every = 1e-4, thread_looks_every = 2e-3; /* seconds */

static struct {
    pthread_t thread;
    pthread_mutex_t lock; /* held by whoever calls MPI, while it is lent */
    pthread_cond_t wake;
    bool running, away, end;
    double last;
} state = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

int64_t pac_under_way;

static int look(void)
{
    int found, rc = MPI_SUCCESS;
    for (int i = 0; i < LOOKS && rc == MPI_SUCCESS; i++)
        rc = MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, pac_world_roll(), &found, MPI_STATUS_IGNORE);
    return rc;
}

pac_err pac_comm_progress(void)
{
    double now = pac_now();
    if (pac_under_way == 0 || now - state.last < look_every)
        return PAC_OK;
    state.last = now;
    int rc = look();
    return rc == MPI_SUCCESS ? PAC_OK : pac_mpi_fail(rc, "MPI_Iprobe");
}

/* An error shows again when what failed is waited for. */
static void *work(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&state.lock);
    while (!state.end) {
        while (!state.away && !state.end)
            pthread_cond_wait(&state.wake, &state.lock);
        if (state.end)
            break;
        look();
        pthread_mutex_unlock(&state.lock);
        pac_sleep(thread_looks_every);
        pthread_mutex_lock(&state.lock);
    }
    pthread_mutex_unlock(&state.lock);
    return NULL;
}

/* Where the program runs with a real-time priority, a thread of the same one would wait for those that compute. */
static void raise_priority(void)
{
    int policy;
    struct sched_param p;
    if (pthread_getschedparam(pthread_self(), &policy, &p) != 0 || (policy != SCHED_RR && policy != SCHED_FIFO))
        return;
    p.sched_priority++;
    pthread_setschedparam(state.thread, policy, &p); /* where it may not, messages move later */
}

void pac_comm_away(bool away)
{
    bool useless =
        pac_under_way == 0 || pac_node_count() == 1; /* in memory, whoever receives copies: looks between layers do */
    if (away == state.away || (away && useless))
        return;
    if (!state.running && pac_thread_start(&state.thread, work, NULL, "messages") != PAC_OK)
        return; /* messages move on between layers */
    if (!state.running)
        raise_priority();
    state.running = true;
    pthread_mutex_lock(&state.lock);
    state.away = away;
    if (away)
        pthread_cond_signal(&state.wake);
    pthread_mutex_unlock(&state.lock);
}

void pac_progress_end(void)
{
    if (!state.running)
        return;
    pthread_mutex_lock(&state.lock);
    state.away = false;
    state.end = true;
    pthread_cond_signal(&state.wake);
    pthread_mutex_unlock(&state.lock);
    pthread_join(state.thread, NULL);
    state.running = state.end = false;
}
