/*
 * The one place that waits for messages.
 *
 * A wait polls: a few tests at once, then it yields the core, then it sleeps for a small part of the time waited so far, so
 * that four ranks on two cores do not steal time from those that compute. A wait that passes its deadline names this rank, the
 * peer, the phase and the step, and who else is silent (roll.c). Nothing can be relied on afterwards: the caller reports and
 * calls pac_world_abort().
 */
#include "internal.h"

#include "pac/clock.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TESTS_PER_TURN = 8, SPINNING_TURNS = 32, TEXT_BYTES = 512 };
static const double yield_for = 1e-3, shortest_sleep = 2e-5, longest_sleep = 2.5e-4, listen_every = 0.05; /* seconds */

static struct {
    double timeout;
    char phase[128];
    int64_t step;
    bool failed;
} state = {.timeout = 600, .step = -1};

pac_err pac_wait_init(void)
{
    const char *text = getenv("PAC_TIMEOUT");
    if (text == NULL)
        return PAC_OK;
    char *end;
    double seconds = strtod(text, &end);
    PAC_CHECK(end != text && *end == '\0' && seconds > 0, PAC_EUSAGE, "PAC_TIMEOUT=%s: seconds above 0 expected", text);
    state.timeout = seconds;
    return PAC_OK;
}

double pac_set_timeout(double seconds)
{
    double before = state.timeout;
    state.timeout = seconds;
    return before;
}

void pac_set_phase(const char *phase, int64_t step)
{
    snprintf(state.phase, sizeof state.phase, "%s", phase);
    state.step = step;
}

bool pac_wait_failed(void)
{
    return state.failed;
}

/* ", in hybrid epoch 1, step 12" */
static void describe_phase(char *buf, size_t bytes)
{
    buf[0] = '\0';
    if (state.phase[0] != '\0' && state.step >= 0)
        snprintf(buf, bytes, ", in %s, step %lld", state.phase, (long long)state.step);
    else if (state.phase[0] != '\0')
        snprintf(buf, bytes, ", in %s", state.phase);
}

/* "rank 3 (nano3)" or "all of ranks 0 2 3" */
static void describe_peer(const pac_awaited *a, char *buf, size_t bytes)
{
    if (a->peer >= 0) {
        snprintf(buf, bytes, "rank %d (%s)", a->peer, pac_world_host_of(a->peer));
        return;
    }
    size_t used = (size_t)snprintf(buf, bytes, "all of ranks");
    for (int i = 0; i < a->comm->size && used + 16 < bytes; i++)
        used += (size_t)snprintf(buf + used, bytes - used, " %d", a->comm->world[i]);
}

/* "rank 3 (nano3): receiving rows of micro-batch 7 (4096 bytes), in hybrid epoch 1, step 12" */
static void describe(const pac_awaited *a, char *buf, size_t bytes)
{
    char phase[192], peer[256], number[32] = "";
    describe_phase(phase, sizeof phase);
    describe_peer(a, peer, sizeof peer);
    if (a->number >= 0)
        snprintf(number, sizeof number, " %lld", (long long)a->number);
    snprintf(buf, bytes, "%s: %s%s (%zu bytes)%s", peer, a->what, number, a->bytes, phase);
}

static void answer_roll_call(const pac_awaited *a)
{
    char text[TEXT_BYTES];
    describe(a, text, sizeof text);
    pac_roll_answer(text);
}

static pac_err deadline_passed(const pac_awaited *a, double waited)
{
    char text[TEXT_BYTES], others[1024];
    state.failed = true;
    describe(a, text, sizeof text);
    pac_roll_call(text, others, sizeof others);
    return pac_fail(PAC_EPEER, "rank %lld (%s) waited %.1f s (PAC_TIMEOUT) for %s%s", (long long)pac_world_rank(),
                    pac_world_host(), waited, text, others);
}

static void give_core_away(double waited)
{
    if (waited < yield_for) {
        sched_yield();
        return;
    }
    double pause = waited / 20;
    pac_sleep(pause < shortest_sleep ? shortest_sleep : pause > longest_sleep ? longest_sleep : pause);
}

pac_err pac_wait(MPI_Request *request, const pac_awaited *awaited, MPI_Status *status)
{
    double start = 0, listen_at = listen_every;
    for (int64_t turn = 0;; turn++) {
        for (int test = 0; test < TESTS_PER_TURN; test++) {
            int done;
            PAC_MPI(MPI_Test(request, &done, status));
            if (done)
                return PAC_OK;
        }
        if (turn < SPINNING_TURNS)
            continue;
        if (turn == SPINNING_TURNS)
            start = pac_now();
        double waited = pac_now() - start;
        if (waited > state.timeout)
            return deadline_passed(awaited, waited);
        if (waited > listen_at) {
            answer_roll_call(awaited);
            listen_at = waited + listen_every;
        }
        give_core_away(waited);
    }
}
