/* Collectives against sums done by hand, with whole buffers in one block and with blocks of a few bytes. */
#include "../../src/parallel/internal.h"
#include "check.h"

#include <string.h>

enum { MOST = 1000, MAX_RANKS = 8 };

static int64_t rank, size;

static void test_sums(int64_t n)
{
    float f[MOST];
    double d[MOST], m[MOST];
    int64_t k[MOST];
    for (int64_t i = 0; i < n; i++) {
        f[i] = (float)(i + rank);
        d[i] = (double)(i * (rank + 1));
        m[i] = rank == i % size ? (double)i : -1.0 - (double)rank;
        k[i] = (INT64_C(1) << 40) + i * rank;
    }
    CHECK_OK(pac_sum_f32(pac_world(), f, n));
    CHECK_OK(pac_sum_f64(pac_world(), d, n));
    CHECK_OK(pac_max_f64(pac_world(), m, n));
    CHECK_OK(pac_sum_i64(pac_world(), k, n));
    int64_t ranks = size * (size - 1) / 2; /* 0 + 1 + ... */
    for (int64_t i = 0; i < n; i++) {
        CHECK(f[i] == (float)(i * size + ranks), "f32 sum at %d of %d: %g", (int)i, (int)n, f[i]);
        CHECK(d[i] == (double)(i * (ranks + size)), "f64 sum at %d", (int)i);
        CHECK(m[i] == (double)i, "maximum at %d", (int)i);
        CHECK(k[i] == (INT64_C(1) << 40) * size + i * ranks, "i64 sum at %d", (int)i);
    }
}

static void test_broadcast(size_t bytes)
{
    for (int64_t root = 0; root < size; root++) {
        char data[MOST + 1];
        memset(data, rank == root ? 'a' + (int)root : '?', sizeof data);
        data[bytes] = '!';
        CHECK_OK(pac_bcast(pac_world(), data, bytes, root));
        for (size_t i = 0; i < bytes; i++)
            CHECK(data[i] == 'a' + root, "byte %zu of %zu from %d", i, bytes, (int)root);
        CHECK(data[bytes] == '!', "written past the end");
    }
    char x;
    CHECK(pac_bcast(pac_world(), &x, 1, size) == PAC_EINVAL, "root out of range");
}

/* Bytes that rank a has for rank b: unequal, some zero. */
static size_t bytes_between(int64_t a, int64_t b)
{
    return (size_t)((a * 37 + b * 11) % 5 * 13);
}

static char byte_of(int64_t a, int64_t b, size_t i)
{
    return (char)(a * 71 + b * 29 + (int64_t)i);
}

/* From a place of its own, or from its final place. */
static void test_allgatherv(bool in_place)
{
    size_t counts[MAX_RANKS], total = 0;
    char apart[MOST], all[MOST + 1], *mine = apart;
    for (int64_t r = 0; r < size; r++) {
        if (r == rank && in_place)
            mine = all + total;
        total += counts[r] = bytes_between(r, 3);
    }
    memset(all, '?', sizeof all);
    for (size_t i = 0; i < counts[rank]; i++)
        mine[i] = byte_of(rank, 3, i);
    all[total] = '!';
    CHECK_OK(pac_allgatherv(pac_world(), mine, counts[rank], all, counts));
    size_t at = 0;
    for (int64_t r = 0; r < size; r++)
        for (size_t i = 0; i < counts[r]; i++)
            CHECK(all[at++] == byte_of(r, 3, i), "byte %zu of rank %d", i, (int)r);
    CHECK(all[total] == '!', "written past the end");
    CHECK(pac_allgatherv(pac_world(), mine, counts[rank] + 1, all, counts) == PAC_EINVAL, "announced another size");
}

/* The buffer's allocation fails on the last rank: every rank sees it. */
static void test_allgatherv_without_memory(void)
{
    size_t counts[MAX_RANKS];
    char all[MAX_RANKS * 20] = {0};
    for (int64_t r = 0; r < size; r++)
        counts[r] = 20;
    if (rank == size - 1)
        pac_mem_fail_at(1);
    pac_err err = pac_allgatherv(pac_world(), all + rank * 20, 20, all, counts);
    pac_mem_fail_at(0);
    CHECK(err == (size > 1 ? PAC_ENOMEM : PAC_OK), "%s", pac_err_name(err));
}

static void test_alltoallv(void)
{
    size_t out[MAX_RANKS], in[MAX_RANKS], at = 0;
    char send[MOST], recv[MOST];
    for (int64_t r = 0; r < size; r++) {
        out[r] = bytes_between(rank, r);
        in[r] = bytes_between(r, rank);
        for (size_t i = 0; i < out[r]; i++)
            send[at++] = byte_of(rank, r, i);
    }
    memset(recv, 0, sizeof recv);
    CHECK_OK(pac_alltoallv(pac_world(), send, out, recv, in));
    at = 0;
    for (int64_t r = 0; r < size; r++)
        for (size_t i = 0; i < in[r]; i++)
            CHECK(recv[at++] == byte_of(r, rank, i), "byte %zu of rank %d", i, (int)r);
}

/* Rank 1 says nothing. */
static void line_of(int64_t r, char *buf, size_t bytes)
{
    snprintf(buf, bytes, "rank %d is here\n", (int)r);
    if (r == 1)
        buf[0] = '\0';
}

static void test_text(void)
{
    char mine[64], expected[512] = "", *all = NULL;
    for (int64_t r = 0; r < size; r++) {
        line_of(r, mine, sizeof mine);
        strcat(expected, mine);
    }
    line_of(rank, mine, sizeof mine);
    CHECK_OK(pac_gather_text(pac_world(), mine, &all));
    CHECK((all != NULL) == (rank == 0), "only at rank 0");
    CHECK(rank != 0 || strcmp(all, expected) == 0, "'%s' is not '%s'", all, expected);
    pac_mem_free(all);
}

/* The k-th allocation fails on the last rank: every rank sees it. */
static void test_text_without_memory(void)
{
    for (int64_t k = 1; k < 10; k++) {
        char *all = NULL;
        if (rank == size - 1)
            pac_mem_fail_at(k);
        pac_err err = pac_gather_text(pac_world(), "x", &all);
        pac_mem_fail_at(0);
        CHECK_OK(pac_agree_same(pac_world(), (uint64_t)err, "outcome"));
        pac_mem_free(all);
        if (err == PAC_OK) {
            CHECK(k > 1, "the first allocation did not matter");
            return;
        }
        CHECK(err == PAC_ENOMEM && all == NULL, "%s", pac_err_message());
    }
    CHECK(false, "never succeeds");
}

int main(int argc, char **argv)
{
    CHECK_OK(pac_world_init(&argc, &argv));
    rank = pac_world_rank();
    size = pac_world_size();
    const size_t direct = pac_direct_bytes;
    const size_t blocks[] = {pac_block_bytes, 4, 8, 12, 100}; /* some are no multiple of the element */
    for (size_t b = 0; b < sizeof blocks / sizeof blocks[0]; b++) {
        pac_block_bytes = blocks[b];
        const int64_t lengths[] = {0, 1, 2, 7, b == 0 ? MOST : 40};
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
            test_sums(lengths[i]);
            test_broadcast((size_t)lengths[i]);
        }
        test_allgatherv(true);
        pac_direct_bytes = 10; /* through the buffer */
        test_allgatherv(false);
        pac_direct_bytes = direct;
        test_alltoallv();
        test_text();
    }
    test_text_without_memory();
    pac_direct_bytes = 0;
    test_allgatherv_without_memory();
    CHECK_OK(pac_barrier(pac_world()));
    pac_world_done();
    CHECK(pac_mem_blocks() == 0, "%d blocks leaked", (int)pac_mem_blocks());
    return 0;
}
