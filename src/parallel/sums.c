/*
 * Sums that go on behind the computation: MPI_Iallreduce for each range, in blocks as pac_sum_f32() has them, waited for at the
 * end.
 *
 * The same calls of the same sizes in the same order, so the result has the bits of sums one after the other: what a rank does
 * meanwhile changes when a message moves, not what is added to what.
 */
#include "internal.h"

#include "pac/clock.h"

typedef struct part {
    MPI_Request request;
    size_t bytes;
} part;

struct pac_sums {
    pac_comm *c; /* borrowed */
    part *v;
    int64_t count, capacity;
    double started; /* the first of those under way */
};

pac_comm_seconds pac_waited;

pac_comm_seconds pac_comm_spent(void)
{
    return pac_waited;
}

pac_err pac_sums_new(pac_comm *c, pac_sums **out)
{
    void *p;
    PAC_TRY(pac_mem_alloc(PAC_MEM_COMM, sizeof(pac_sums), &p));
    *(pac_sums *)p = (pac_sums){.c = c};
    *out = p;
    return PAC_OK;
}

void pac_sums_free(pac_sums **sp)
{
    pac_sums *s = *sp;
    if (s == NULL)
        return;
    pac_mem_free(s->v);
    pac_mem_free(s);
    *sp = NULL;
}

static pac_err start_block(pac_sums *s, float *x, int64_t n)
{
    void *v = s->v;
    PAC_TRY(pac_mem_grow(PAC_MEM_COMM, &v, &s->capacity, s->count + 1, sizeof *s->v));
    s->v = v;
    part *p = &s->v[s->count];
    *p = (part){.request = MPI_REQUEST_NULL, .bytes = (size_t)n * sizeof *x};
    PAC_MPI(MPI_Iallreduce(MPI_IN_PLACE, x, (int)n, MPI_FLOAT, MPI_SUM, s->c->mpi, &p->request));
    s->count++;
    pac_under_way++;
    return PAC_OK;
}

pac_err pac_sums_start(pac_sums *s, float *x, int64_t n)
{
    PAC_CHECK(n >= 0, PAC_EINVAL, "a sum of %lld elements", (long long)n);
    if (s->c->size == 1)
        return PAC_OK;
    int64_t block = pac_block_bytes < sizeof *x ? 1 : (int64_t)(pac_block_bytes / sizeof *x);
    if (s->count == 0)
        s->started = pac_now();
    for (int64_t at = 0; at < n; at += block)
        PAC_TRY(start_block(s, x + at, n - at < block ? n - at : block));
    return PAC_OK;
}

pac_err pac_sums_finish(pac_sums *s)
{
    double start = pac_now();
    if (s->count == 0)
        return PAC_OK;
    for (int64_t i = 0; i < s->count; i++) {
        pac_awaited awaited = {.what = "a sum", .number = -1, .peer = -1, .comm = s->c, .bytes = s->v[i].bytes};
        PAC_TRY(pac_wait(&s->v[i].request, &awaited, MPI_STATUS_IGNORE));
    }
    pac_under_way -= s->count;
    s->count = 0;
    pac_waited.sums += pac_now() - s->started;
    pac_waited.sums_waited += pac_now() - start;
    return PAC_OK;
}
