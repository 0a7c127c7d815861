/* Flows with max-min fair rates; time jumps from one arrival, or end of a latency, to the next. */
#include "network.h"

#include <math.h>
#include <string.h>

static const double same = 1e-12; /* moments that differ by rounding only */

static pac_err array(int64_t n, size_t size, void *out)
{
    void *p;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, n, size, &p));
    memcpy(out, &p, sizeof p);
    return PAC_OK;
}

pac_err pac_network_open(const pac_profile *p, pac_network *out)
{
    pac_network n = {.p = p};
    pac_err err;
    PAC_GO(array(p->devices, sizeof *n.free_out, &n.free_out));
    PAC_GO(array(p->devices, sizeof *n.free_in, &n.free_in));
    PAC_GO(array(p->devices, sizeof *n.uses_out, &n.uses_out));
    PAC_GO(array(p->devices, sizeof *n.uses_in, &n.uses_in));
    PAC_GO(array(p->devices * p->devices, sizeof *n.head, &n.head));
    *out = n;
    return PAC_OK;
out:
    pac_network_close(&n);
    return err;
}

void pac_network_close(pac_network *n)
{
    pac_mem_free(n->flow);
    pac_mem_free(n->open);
    pac_mem_free(n->arrived);
    pac_mem_free(n->free_out);
    pac_mem_free(n->free_in);
    pac_mem_free(n->uses_out);
    pac_mem_free(n->uses_in);
    pac_mem_free(n->head);
    *n = (pac_network){0};
}

static double pair_limit(const pac_network *n, const pac_flow *f)
{
    return n->p->bandwidth[f->from * n->p->devices + f->to];
}

pac_err pac_network_send(pac_network *n, const pac_flow *f)
{
    PAC_CHECK(f->from != f->to && f->bytes > 0, PAC_EINVAL, "a message of %g bytes from device %lld to %lld", f->bytes,
              (long long)f->from, (long long)f->to);
    PAC_CHECK(pair_limit(n, f) > 0, PAC_EINVAL, "no link from device %lld to %lld", (long long)f->from, (long long)f->to);
    PAC_TRY(pac_mem_grow(PAC_MEM_OTHER, (void **)&n->flow, &n->flows_room, n->flows + 1, sizeof *n->flow));
    PAC_TRY(pac_mem_grow(PAC_MEM_OTHER, (void **)&n->open, &n->open_room, n->flows + 1, sizeof *n->open));
    pac_flow *to = &n->flow[n->flows++];
    *to = *f;
    to->start = n->now;
    to->ready = n->now + n->p->latency[f->from * n->p->devices + f->to];
    to->left = f->bytes;
    to->flows = false;
    to->end = INFINITY;
    n->changed = true;
    return PAC_OK;
}

/* ---- rates ---- */

/* The first message of each pair flows once its latency is over: n->open lists them. Returns how many. */
static int64_t find_flowing(pac_network *n)
{
    int64_t flowing = 0;
    n->round++;
    for (int64_t i = 0; i < n->flows; i++) {
        pac_flow *f = &n->flow[i];
        int64_t *head = &n->head[f->from * n->p->devices + f->to];
        bool first = *head != n->round;
        *head = n->round;
        f->flows = first && f->ready <= n->now;
        f->end = first && !f->flows ? f->ready : INFINITY;
        if (f->flows)
            n->open[flowing++] = i;
    }
    return flowing;
}

static void open_ports(pac_network *n, int64_t flowing)
{
    for (int64_t d = 0; d < n->p->devices; d++) {
        double port = n->p->device[d].port;
        n->free_out[d] = n->free_in[d] = port > 0 ? port : INFINITY;
        n->uses_out[d] = n->uses_in[d] = 0;
    }
    for (int64_t i = 0; i < flowing; i++) {
        n->uses_out[n->flow[n->open[i]].from]++;
        n->uses_in[n->flow[n->open[i]].to]++;
    }
}

/* The rate at which the first port is used up if the rates of all that are left rise together. */
static double first_port(const pac_network *n)
{
    double level = INFINITY;
    for (int64_t d = 0; d < n->p->devices; d++) {
        if (n->uses_out[d] > 0)
            level = fmin(level, n->free_out[d] / (double)n->uses_out[d]);
        if (n->uses_in[d] > 0)
            level = fmin(level, n->free_in[d] / (double)n->uses_in[d]);
    }
    return level;
}

/* What everyone at a flow's ports could get if all got the same. */
static double port_limit(const pac_network *n, const pac_flow *f)
{
    return fmin(n->free_out[f->from] / (double)n->uses_out[f->from], n->free_in[f->to] / (double)n->uses_in[f->to]);
}

static void fix_rate(pac_network *n, pac_flow *f, double rate)
{
    f->rate = rate;
    f->end = n->now + f->left / rate;
    n->uses_out[f->from]--;
    n->uses_in[f->to]--;
    if (isfinite(n->free_out[f->from]))
        n->free_out[f->from] = fmax(n->free_out[f->from] - rate, 0);
    if (isfinite(n->free_in[f->to]))
        n->free_in[f->to] = fmax(n->free_in[f->to] - rate, 0);
}

/*
 * Fix those of n->open[0..left) whose pair is used up before the first port is, or with `ports` those at the ports that are
 * used up first. Returns how many are left.
 */
static int64_t fix_rates(pac_network *n, int64_t left, double level, bool ports)
{
    int64_t kept = 0;
    for (int64_t i = 0; i < left; i++) {
        pac_flow *f = &n->flow[n->open[i]];
        if (!ports && pair_limit(n, f) <= level)
            fix_rate(n, f, pair_limit(n, f));
        else if (ports && port_limit(n, f) <= level * (1 + 1e-9))
            fix_rate(n, f, level);
        else
            n->open[kept++] = n->open[i];
    }
    return kept;
}

static void share_ports(pac_network *n)
{
    int64_t left = find_flowing(n);
    open_ports(n, left);
    while (left > 0) {
        double level = first_port(n);
        int64_t kept = fix_rates(n, left, level, false);
        left = kept < left ? kept : fix_rates(n, left, level, true);
    }
    n->changed = false;
}

/* ---- time ---- */

double pac_network_next(pac_network *n)
{
    double next = INFINITY;
    if (n->changed)
        share_ports(n);
    for (int64_t i = 0; i < n->flows; i++)
        next = fmin(next, n->flow[i].end);
    return fmax(next, n->now);
}

pac_err pac_network_advance(pac_network *n, double now)
{
    int64_t kept = 0;
    double until = now + same * now;
    if (n->changed)
        share_ports(n);
    PAC_TRY(pac_mem_grow(PAC_MEM_OTHER, (void **)&n->arrived, &n->arrivals_room, n->arrivals + n->flows, sizeof *n->arrived));
    for (int64_t i = 0; i < n->flows; i++) {
        pac_flow *f = &n->flow[i];
        n->changed = n->changed || f->end <= until;
        if (f->flows && f->end <= until) {
            f->end = now;
            n->arrived[n->arrivals++] = *f;
            continue;
        }
        if (f->flows)
            f->left -= f->rate * (now - n->now);
        else if (f->end <= until)
            f->ready = now;
        n->flow[kept++] = *f;
    }
    n->flows = kept;
    n->now = now;
    return PAC_OK;
}

bool pac_network_take(pac_network *n, pac_flow *out)
{
    if (n->taken == n->arrivals) {
        n->taken = n->arrivals = 0;
        return false;
    }
    *out = n->arrived[n->taken++];
    return true;
}
