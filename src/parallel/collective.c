/*
 * Collectives with 64-bit counts: everything is cut into blocks of pac_block_bytes, so that no count of MPI (an int) overflows
 * and the scratch of the MPI library stays small.
 *
 * Reductions and broadcasts are the non-blocking MPI ones plus the wait with its deadline (the gather: gather.c). Exchanges of
 * unequal pieces between pairs are point-to-point messages straight into their final place: no displacement (an int as well) is
 * needed and a late peer is named.
 */
#include "internal.h"

#include <string.h>

size_t pac_block_bytes = (size_t)16 << 20;

enum { TAG_SHIFT = 1, TAG_TEXT };

static pac_err wait_for_all(pac_comm *c, MPI_Request *request, const char *what, size_t bytes)
{
    pac_awaited awaited = {.what = what, .number = -1, .peer = -1, .comm = c, .bytes = bytes};
    return pac_wait(request, &awaited, MPI_STATUS_IGNORE);
}

/* ---- reductions, broadcast, barrier ---- */

static pac_err reduce_blocks(pac_comm *c, void *x, int64_t n, size_t size, MPI_Datatype type, MPI_Op op, const char *what)
{
    PAC_CHECK(n >= 0, PAC_EINVAL, "%s of %lld elements", what, (long long)n);
    if (c->size == 1)
        return PAC_OK;
    int64_t block = pac_block_bytes < size ? 1 : (int64_t)(pac_block_bytes / size);
    for (int64_t at = 0; at < n; at += block) {
        int64_t count = n - at < block ? n - at : block;
        MPI_Request request;
        PAC_MPI(MPI_Iallreduce(MPI_IN_PLACE, (char *)x + (size_t)at * size, (int)count, type, op, c->mpi, &request));
        PAC_TRY(wait_for_all(c, &request, what, (size_t)count * size));
    }
    return PAC_OK;
}

pac_err pac_sum_f32(pac_comm *c, float *x, int64_t n)
{
    return reduce_blocks(c, x, n, sizeof *x, MPI_FLOAT, MPI_SUM, "a sum");
}

pac_err pac_sum_f64(pac_comm *c, double *x, int64_t n)
{
    return reduce_blocks(c, x, n, sizeof *x, MPI_DOUBLE, MPI_SUM, "a sum");
}

pac_err pac_max_f64(pac_comm *c, double *x, int64_t n)
{
    return reduce_blocks(c, x, n, sizeof *x, MPI_DOUBLE, MPI_MAX, "a maximum");
}

pac_err pac_sum_i64(pac_comm *c, int64_t *x, int64_t n)
{
    return reduce_blocks(c, x, n, sizeof *x, MPI_INT64_T, MPI_SUM, "a sum");
}

pac_err pac_bcast(pac_comm *c, void *data, size_t bytes, int64_t root)
{
    PAC_CHECK(root >= 0 && root < c->size, PAC_EINVAL, "broadcast from rank %lld of %d", (long long)root, c->size);
    if (c->size == 1)
        return PAC_OK;
    for (size_t at = 0; at < bytes; at += pac_block_bytes) {
        size_t count = bytes - at < pac_block_bytes ? bytes - at : pac_block_bytes;
        MPI_Request request;
        PAC_MPI(MPI_Ibcast((char *)data + at, (int)count, MPI_BYTE, (int)root, c->mpi, &request));
        PAC_TRY(wait_for_all(c, &request, "a broadcast", count));
    }
    return PAC_OK;
}

pac_err pac_barrier(pac_comm *c)
{
    if (c->size == 1)
        return PAC_OK;
    MPI_Request request;
    PAC_MPI(MPI_Ibarrier(c->mpi, &request));
    return wait_for_all(c, &request, "a barrier", 0);
}

/* ---- exchanges of unequal pieces ---- */

/* One side of an exchange: bytes to or from a member. */
typedef struct piece {
    char *data;
    size_t bytes;
    int member;
} piece;

static size_t next_block(const piece *p)
{
    return p->bytes < pac_block_bytes ? p->bytes : pac_block_bytes;
}

static pac_err wait_for_piece(pac_comm *c, MPI_Request *request, const char *what, int member, size_t bytes)
{
    if (*request == MPI_REQUEST_NULL)
        return PAC_OK;
    pac_awaited awaited = {.what = what, .number = -1, .peer = c->world[member], .bytes = bytes};
    MPI_Status status;
    int count;
    PAC_TRY(pac_wait(request, &awaited, &status));
    PAC_MPI(MPI_Get_count(&status, MPI_BYTE, &count));
    PAC_CHECK((size_t)count == bytes, PAC_EINTERNAL, "%d bytes from rank %d instead of %zu", count, awaited.peer, bytes);
    return PAC_OK;
}

/*
 * Send one piece and receive another, block by block. Both are posted before either is waited for, and a block only depends on
 * the blocks before it, so a ring of such exchanges cannot deadlock.
 */
static pac_err exchange(pac_comm *c, piece out, piece in, int tag)
{
    while (out.bytes > 0 || in.bytes > 0) {
        MPI_Request sent = MPI_REQUEST_NULL, received = MPI_REQUEST_NULL;
        size_t nout = next_block(&out), nin = next_block(&in);
        if (nin > 0)
            PAC_MPI(MPI_Irecv(in.data, (int)nin, MPI_BYTE, in.member, tag, c->mpi, &received));
        if (nout > 0)
            PAC_MPI(MPI_Isend(out.data, (int)nout, MPI_BYTE, out.member, tag, c->mpi, &sent));
        PAC_TRY(wait_for_piece(c, &received, "receiving its piece of an exchange", in.member, nin));
        if (sent != MPI_REQUEST_NULL) {
            pac_awaited awaited = {"sending a piece of an exchange", -1, c->world[out.member], NULL, nout};
            PAC_TRY(pac_wait(&sent, &awaited, MPI_STATUS_IGNORE));
        }
        out = (piece){out.data + nout, out.bytes - nout, out.member};
        in = (piece){in.data + nin, in.bytes - nin, in.member};
    }
    return PAC_OK;
}

/* The piece of `member` among consecutive pieces of the given sizes. */
static piece piece_of(const void *base, const size_t *counts, int member, int peer)
{
    size_t at = 0;
    for (int i = 0; i < member; i++)
        at += counts[i];
    return (piece){(char *)(uintptr_t)base + at, counts[member], peer};
}

pac_err pac_alltoallv(pac_comm *c, const void *send, const size_t *send_counts, void *recv, const size_t *recv_counts)
{
    piece from = piece_of(send, send_counts, c->rank, c->rank), to = piece_of(recv, recv_counts, c->rank, c->rank);
    PAC_CHECK(from.bytes == to.bytes, PAC_EINVAL, "%zu bytes to itself where %zu are expected", from.bytes, to.bytes);
    if (from.bytes > 0)
        memcpy(to.data, from.data, from.bytes);
    for (int shift = 1; shift < c->size; shift++) {
        int target = (c->rank + shift) % c->size, source = (c->rank + c->size - shift) % c->size;
        PAC_TRY(
            exchange(c, piece_of(send, send_counts, target, target), piece_of(recv, recv_counts, source, source), TAG_SHIFT));
    }
    return PAC_OK;
}

/* ---- text ---- */

/* Length of every rank's text at every rank, in one allocation that the caller frees. */
static pac_err gather_lengths(pac_comm *c, int64_t length, int64_t **out)
{
    void *lengths = NULL;
    pac_err err = pac_agree(c, pac_mem_array(PAC_MEM_COMM, c->size, sizeof(int64_t), &lengths));
    if (err == PAC_OK) {
        ((int64_t *)lengths)[c->rank] = length;
        err = pac_sum_i64(c, lengths, c->size);
    }
    if (err != PAC_OK) {
        pac_mem_free(lengths);
        return err;
    }
    *out = lengths;
    return PAC_OK;
}

static pac_err move_text(pac_comm *c, const char *mine, const int64_t *lengths, char *text)
{
    piece nothing = {0};
    if (c->rank != 0)
        return exchange(c, (piece){(char *)(uintptr_t)mine, (size_t)lengths[c->rank], 0}, nothing, TAG_TEXT);
    memcpy(text, mine, (size_t)lengths[0]);
    text += lengths[0];
    for (int r = 1; r < c->size; r++) {
        PAC_TRY(exchange(c, nothing, (piece){text, (size_t)lengths[r], r}, TAG_TEXT));
        text += lengths[r];
    }
    return PAC_OK;
}

pac_err pac_gather_text(pac_comm *c, const char *mine, char **out)
{
    pac_err err;
    int64_t *lengths, total = 0;
    void *text = NULL;
    PAC_TRY(gather_lengths(c, (int64_t)strlen(mine), &lengths));
    for (int r = 0; r < c->size; r++)
        total += lengths[r];
    PAC_GO(pac_agree(c, c->rank == 0 ? pac_mem_alloc(PAC_MEM_OTHER, (size_t)total + 1, &text) : PAC_OK));
    PAC_GO(move_text(c, mine, lengths, text));
    *out = text;
    text = NULL;
out:
    pac_mem_free(text);
    pac_mem_free(lengths);
    return err;
}
