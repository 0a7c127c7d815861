/* A message is of the ring, the member that it goes to and the round that this member has to go on with. */
#include "ring.h"

#include <math.h>

pac_err pac_ring_open(int64_t n, const int64_t *device, double bytes, pac_ring *out)
{
    pac_ring r = {.n = n, .device = device, .rounds = 2 * (n - 1), .each = bytes / (double)n};
    void *v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, 2 * n, sizeof(int64_t), &v));
    r.got = v;
    r.left = r.got + n;
    pac_err err = pac_mem_array(PAC_MEM_OTHER, 2 * n, sizeof(double), &v);
    if (err != PAC_OK) {
        pac_ring_close(&r);
        return err;
    }
    r.begin = v;
    r.end = r.begin + n;
    for (int64_t i = 0; i < n; i++)
        r.begin[i] = r.end[i] = NAN;
    *out = r;
    return PAC_OK;
}

void pac_ring_close(pac_ring *r)
{
    pac_mem_free(r->got);
    pac_mem_free(r->begin);
    *r = (pac_ring){0};
}

static void note_end(pac_ring *r, int64_t i, double now)
{
    if (r->got[i] == r->rounds && r->left[i] == 0)
        r->end[i] = now;
}

/* A part of no bytes is a message all the same. */
static pac_err pass_on(pac_ring *r, pac_network *net, int64_t i, int64_t round)
{
    int64_t next = (i + 1) % r->n;
    if (round >= r->rounds)
        return PAC_OK;
    r->left[i]++;
    return pac_network_send(net, &(pac_flow){.from = r->device[i],
                                             .to = r->device[next],
                                             .bytes = fmax(r->each, 1),
                                             .kind = PAC_RING_FLOW,
                                             .m = r->number,
                                             .member = next});
}

pac_err pac_ring_join(pac_ring *r, pac_network *net)
{
    if (++r->arrived < r->n)
        return PAC_OK;
    for (int64_t i = 0; i < r->n; i++) {
        r->begin[i] = net->now;
        PAC_TRY(pass_on(r, net, i, 0));
        note_end(r, i, net->now);
    }
    return PAC_OK;
}

pac_err pac_ring_arrived(pac_ring *r, pac_network *net, const pac_flow *f)
{
    int64_t to = f->member, from = (to + r->n - 1) % r->n;
    r->left[from]--;
    note_end(r, from, net->now);
    r->got[to]++;
    PAC_TRY(pass_on(r, net, to, r->got[to]));
    note_end(r, to, net->now);
    return PAC_OK;
}

static pac_err run_alone(pac_ring *r, pac_network *net)
{
    pac_flow f;
    for (int64_t i = 0; i < r->n; i++)
        PAC_TRY(pac_ring_join(r, net));
    while (net->flows > 0) {
        PAC_TRY(pac_network_advance(net, pac_network_next(net)));
        while (pac_network_take(net, &f))
            PAC_TRY(pac_ring_arrived(r, net, &f));
    }
    return PAC_OK;
}

pac_err pac_ring_seconds(const pac_profile *p, pac_ring *r, double *seconds)
{
    pac_network net;
    PAC_TRY(pac_network_open(p, &net));
    pac_err err = run_alone(r, &net);
    if (err == PAC_OK)
        *seconds = net.now;
    pac_network_close(&net);
    return err;
}
