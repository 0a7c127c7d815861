/*
 * Sums that go on behind the computation against sums one after the other: the same bits, in whole and in tiny blocks, whoever
 * starts late and whoever looks after messages meanwhile. A steady step allocates nothing.
 */
#include "../../src/parallel/internal.h"
#include "check.h"

#include "pac/clock.h"

#include <string.h>

enum { PIECES = 9, MOST = 1 << 18 };

static float ahead[MOST], behind[MOST];
static int64_t rank, size;

/* Rounding depends on the order of additions. */
static float value(int64_t i, int64_t round)
{
    return (float)((i * 2654435761u + (uint64_t)(rank * 97 + round)) % 1000003) * (rank % 2 == 0 ? 1e-3f : -1.7e-7f);
}

static int64_t piece(int64_t i, int64_t *at)
{
    const int64_t n[PIECES] = {1, 0, 3, 1000, 65536, 7, 131072, 5, 2};
    *at = 0;
    for (int64_t k = 0; k < i; k++)
        *at += n[k];
    return n[i];
}

static void step(pac_sums *s, int64_t round)
{
    int64_t at, n;
    for (int64_t i = 0; i < MOST; i++)
        ahead[i] = behind[i] = value(i, round);
    for (int64_t i = 0; i < PIECES; i++) {
        n = piece(i, &at);
        if ((rank + i + round) % 4 == 0)
            pac_sleep(2e-3); /* computes */
        CHECK_OK(pac_sums_start(s, ahead + at, n));
        CHECK_OK(pac_comm_progress());
    }
    CHECK_OK(pac_sums_finish(s));
    for (int64_t i = 0; i < PIECES; i++) {
        n = piece(i, &at);
        CHECK_OK(pac_sum_f32(pac_world(), behind + at, n));
    }
    for (int64_t i = 0; i < MOST; i++)
        CHECK(memcmp(&ahead[i], &behind[i], sizeof *ahead) == 0, "element %d of step %d: %.9g instead of %.9g", (int)i,
              (int)round, ahead[i], behind[i]);
    CHECK(size == 1 || ahead[7] != value(7, round), "nothing was added");
}

static void test_steps(size_t block)
{
    pac_sums *s;
    pac_block_bytes = block;
    CHECK_OK(pac_sums_new(pac_world(), &s));
    step(s, 0);
    int64_t blocks = pac_mem_blocks();
    pac_mem_fail_at(1);
    for (int64_t round = 1; round < 3; round++)
        step(s, round);
    pac_mem_fail_at(0);
    CHECK(pac_mem_blocks() == blocks, "allocations in the steady state");
    pac_sums_free(&s);
    CHECK(s == NULL, "freed");
}

/* What is told of time: sums were under way longer than they were waited for, where the others came late. */
static void test_seconds(void)
{
    pac_sums *s;
    pac_comm_seconds before = pac_comm_spent();
    CHECK_OK(pac_sums_new(pac_world(), &s));
    CHECK_OK(pac_barrier(pac_world()));
    CHECK_OK(pac_sums_start(s, ahead, 1000));
    for (double until = pac_now() + 0.05; pac_now() < until;)
        CHECK_OK(pac_comm_progress());
    CHECK_OK(pac_sums_finish(s));
    pac_comm_seconds after = pac_comm_spent();
    double under_way = after.sums - before.sums, waited = after.sums_waited - before.sums_waited;
    CHECK(size == 1 ? under_way == 0 : under_way > 0.04 && waited < under_way, "%g s under way, %g waited for", under_way,
          waited);
    CHECK(pac_sums_start(s, ahead, -1) == PAC_EINVAL, "a negative size");
    pac_sums_free(&s);
}

int main(int argc, char **argv)
{
    CHECK_OK(pac_world_init(&argc, &argv));
    size_t whole = pac_block_bytes;
    rank = pac_world_rank();
    size = pac_world_size();
    test_steps(whole);
    test_steps(40000);
    pac_block_bytes = whole;
    test_seconds();
    pac_world_done();
    CHECK(pac_mem_blocks() == 0, "%d blocks leaked", (int)pac_mem_blocks());
    return 0;
}
