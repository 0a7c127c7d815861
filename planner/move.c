/*
 * Seconds of the redistribution as src/cache/move.c and src/parallel do it, in closed form: the planner asks for every set of
 * devices. All ranks work through rounds of bounded blocks in step. In a round of `allgather` everybody sends his block to
 * everybody else at once, what MPI_Iallgatherv does; those whose stream has ended send nothing any more. In a round of `shard`
 * rank r exchanges with r + 1, then with r + 2, and so on (pac_alltoallv()). What was learnt follows as broadcasts.
 */
#include "move.h"

#include "cost.h"

#include <math.h>
#include <stdlib.h>

static int64_t rounds_of(double bytes, double block)
{
    return bytes > 0 ? (int64_t)ceil(bytes / block) : 0;
}

/* Messages along a binary tree of n. */
static double levels(int64_t n)
{
    return ceil(log2((double)n));
}

static pac_link_cost slowest_of(const pac_profile *p, const pac_move *m)
{
    return pac_slowest_link(p, m->device, m->n, m->device, m->n);
}

/* ---- allgather ---- */

/* Seconds in which those members that still have something send `each` bytes to everybody else. */
static double spread(const pac_profile *p, const pac_move *m, double each, double ended)
{
    double worst = 0;
    int64_t senders = 0;
    for (int64_t i = 0; i < m->n; i++)
        senders += m->held[i] > ended;
    for (int64_t i = 0; i < m->n; i++) {
        bool sends = m->held[i] > ended;
        double port = p->device[m->device[i]].port;
        int64_t messages = senders - sends; /* that it receives */
        if (sends && m->n - 1 > messages)
            messages = m->n - 1;
        if (port > 0)
            worst = fmax(worst, (double)messages * each / port);
        for (int64_t k = 0; k < m->n && sends; k++)
            if (k != i)
                worst = fmax(worst, each / p->bandwidth[m->device[i] * p->devices + m->device[k]]);
    }
    return worst;
}

static int by_bytes(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double allgather_seconds(const pac_profile *p, const pac_move *m)
{
    double sorted[PAC_MAX_DEVICES], sum = 0, ended = 0;
    for (int64_t i = 0; i < m->n; i++)
        sorted[i] = m->held[i];
    qsort(sorted, (size_t)m->n, sizeof *sorted, by_bytes);
    for (int64_t i = 0; i < m->n; i++)
        if (sorted[i] > ended) {
            sum += spread(p, m, sorted[i] - ended, ended);
            ended = sorted[i];
        }
    return sum + (double)rounds_of(ended, PAC_REDISTRIBUTE_BLOCK) * slowest_of(p, m).latency;
}

/* ---- shard ---- */

/* One message with both ports for itself. */
static double message(const pac_profile *p, const pac_move *m, int64_t i, int64_t k, double block)
{
    int64_t from = m->device[i], to = m->device[k];
    double bytes = m->held[i] * m->share[k], rate = p->bandwidth[from * p->devices + to];
    if (p->device[from].port > 0)
        rate = fmin(rate, p->device[from].port);
    if (p->device[to].port > 0)
        rate = fmin(rate, p->device[to].port);
    return (double)rounds_of(bytes, block) * p->latency[from * p->devices + to] + bytes / rate;
}

/* Each member goes on when what it sent and what it received have arrived; a message waits for both ends. */
static double shard_seconds(const pac_profile *p, const pac_move *m, double block)
{
    double at[PAC_MAX_DEVICES] = {0}, then[PAC_MAX_DEVICES], worst = 0;
    for (int64_t shift = 1; shift < m->n; shift++) {
        for (int64_t i = 0; i < m->n; i++) {
            int64_t to = (i + shift) % m->n, from = (i + m->n - shift) % m->n;
            then[i] =
                fmax(fmax(at[i], at[to]) + message(p, m, i, to, block), fmax(at[from], at[i]) + message(p, m, from, i, block));
        }
        for (int64_t i = 0; i < m->n; i++)
            at[i] = then[i];
    }
    for (int64_t i = 0; i < m->n; i++)
        worst = fmax(worst, at[i]);
    return worst;
}

/* ---- both ---- */

/* The ranks agree on what was read and stored before every round and at the end. */
static double agreements(const pac_profile *p, const pac_move *m, double block)
{
    double longest = 0;
    for (int64_t i = 0; i < m->n; i++)
        for (int64_t k = 0; k < m->n; k++)
            if (i != k)
                longest = fmax(longest, m->held[i] * (m->share != NULL ? m->share[k] : 1));
    return (double)(rounds_of(longest, block) + 1) * levels(m->n) * slowest_of(p, m).latency;
}

/* Seconds in which the slowest device writes what it received. */
static double writing(const pac_profile *p, const pac_move *m)
{
    double all = 0, worst = 0;
    for (int64_t i = 0; i < m->n; i++)
        all += m->held[i];
    for (int64_t i = 0; i < m->n; i++) {
        double speed = p->device[m->device[i]].disk_write, received = (all - m->held[i]) * (m->share != NULL ? m->share[i] : 1);
        if (speed > 0)
            worst = fmax(worst, fmax(received, 0) / speed);
    }
    return worst;
}

double pac_move_seconds(const pac_profile *p, const pac_move *m)
{
    if (m->n < 2)
        return 0;
    double block = m->share != NULL ? (double)PAC_REDISTRIBUTE_BLOCK / (double)m->n : PAC_REDISTRIBUTE_BLOCK;
    double messages = m->share != NULL ? shard_seconds(p, m, block) : allgather_seconds(p, m);
    pac_link_cost link = slowest_of(p, m);
    double broadcast = levels(m->n) * (link.latency + m->learnt * (1 + p->optimizer_states) / link.bandwidth);
    return messages + agreements(p, m, block) + writing(p, m) + broadcast;
}
