/*
 * The all-gather of unequal pieces: MPI_Iallgatherv in bounded rounds, each completed by the wait with its deadline.
 *
 * In a round every rank contributes its next K bytes, K * ranks <= pac_block_bytes, so no count overflows an int and the
 * scratch of the MPI library stays small. As long as every displacement fits in an int as well, a round lands at its final
 * place; a larger result is gathered into a buffer of one round and copied from there, so memory stays bounded whatever the
 * size.
 */
#include "internal.h"

#include <limits.h>
#include <string.h>

size_t pac_direct_bytes = INT_MAX;

/* One gather: the result, the bytes that each rank gives, and what one rank gives in one round. */
typedef struct gathering {
    pac_comm *c;
    char *out;
    const size_t *counts; /* [ranks] */
    size_t k;
} gathering;

/* What `rank` still gives when each has given `at` bytes, at most one round. */
static size_t in_round(const gathering *g, int rank, size_t at)
{
    size_t left = g->counts[rank] > at ? g->counts[rank] - at : 0;
    return left < g->k ? left : g->k;
}

/* Every rank's piece of the round lies, or shall lie, at base + displs[rank]. */
static pac_err run_round(const gathering *g, char *base, size_t bytes)
{
    pac_comm *c = g->c;
    MPI_Request request;
    PAC_MPI(MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, base, c->counts, c->displs, MPI_BYTE, c->mpi, &request));
    pac_awaited awaited = {.what = "a gather", .number = -1, .peer = -1, .comm = c, .bytes = bytes};
    return pac_wait(&request, &awaited, MPI_STATUS_IGNORE);
}

static pac_err round_in_place(const gathering *g, size_t at)
{
    size_t start = 0, bytes = 0;
    for (int r = 0; r < g->c->size; r++) {
        size_t n = in_round(g, r, at);
        g->c->counts[r] = (int)n;
        g->c->displs[r] = n > 0 ? (int)(start + at) : 0;
        start += g->counts[r];
        bytes += n;
    }
    return run_round(g, g->out, bytes);
}

static pac_err round_by_buffer(const gathering *g, size_t at, char *buffer)
{
    pac_comm *c = g->c;
    size_t start = 0, bytes = 0;
    for (int r = 0; r < c->size; r++) {
        size_t n = in_round(g, r, at);
        c->counts[r] = (int)n;
        c->displs[r] = (int)bytes;
        if (r == c->rank && n > 0)
            memcpy(buffer + bytes, g->out + start + at, n);
        start += g->counts[r];
        bytes += n;
    }
    PAC_TRY(run_round(g, buffer, bytes));
    start = 0;
    for (int r = 0; r < c->size; r++) {
        if (r != c->rank && c->counts[r] > 0)
            memcpy(g->out + start + at, buffer + c->displs[r], (size_t)c->counts[r]);
        start += g->counts[r];
    }
    return PAC_OK;
}

static pac_err gather_by_buffer(const gathering *g, size_t longest)
{
    pac_err err;
    void *buffer = NULL;
    PAC_GO(pac_agree(g->c, pac_mem_array(PAC_MEM_COMM, g->c->size, g->k, &buffer)));
    for (size_t at = 0; at < longest; at += g->k)
        PAC_GO(round_by_buffer(g, at, buffer));
    err = PAC_OK;
out:
    if (!pac_wait_failed()) /* else the peers may still write to it */
        pac_mem_free(buffer);
    return err;
}

pac_err pac_allgatherv(pac_comm *c, const void *mine, size_t bytes, void *out, const size_t *counts)
{
    PAC_CHECK(counts[c->rank] == bytes, PAC_EINVAL, "%zu bytes to gather where %zu were announced", bytes, counts[c->rank]);
    size_t total = 0, longest = 0, own = 0;
    for (int r = 0; r < c->size; r++) {
        own += r < c->rank ? counts[r] : 0;
        total += counts[r];
        longest = counts[r] > longest ? counts[r] : longest;
    }
    if (bytes > 0 && (char *)out + own != mine)
        memcpy((char *)out + own, mine, bytes);
    if (c->size == 1)
        return PAC_OK;
    size_t k = pac_block_bytes / (size_t)c->size;
    gathering g = {.c = c, .out = out, .counts = counts, .k = k > 0 ? k : 1};
    if (total > pac_direct_bytes)
        return gather_by_buffer(&g, longest);
    for (size_t at = 0; at < longest; at += g.k)
        PAC_TRY(round_in_place(&g, at));
    return PAC_OK;
}
