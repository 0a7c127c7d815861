/*
 * A peer that never answers: with a deadline of half a second every kind of wait ends with PAC_EPEER and a message that names
 * this rank, the peer, the phase and the step; pac_world_abort() then ends all ranks, the silent one too, with its status.
 * In a chain the silent rank is named, and the one that waits for it is not blamed.
 * Argument: what to wait in (receive, send, posted, sum, sums, gather, exchange, done; chain at 3 ranks), or end: no wait, the
 * last rank ends with 42.
 */
#include "../../src/parallel/internal.h"
#include "check.h"

#include "pac/clock.h"

#include <string.h>

enum { FLOATS = 1 << 20 }; /* far more than MPI buffers */

static float rows[FLOATS];

static void expect_lost(pac_err err, double started, const char *const *words, size_t nwords)
{
    double waited = pac_now() - started;
    CHECK(err == PAC_EPEER, "%s: %s", pac_err_name(err), pac_err_message());
    CHECK(waited > 0.4 && waited < 10, "%.1f s", waited);
    for (size_t i = 0; i < nwords; i++)
        CHECK(strstr(pac_err_message(), words[i]) != NULL, "'%s' is not in: %s", words[i], pac_err_message());
    CHECK(pac_agree(pac_world(), err) == PAC_EPEER, "agreement with the lost is not waited for");
}

/* One message from stage 0 (rank 0) to stage 1 (rank 1) or back; the peer does not take part. */
static pac_err wait_in_link(bool send, bool posted)
{
    int64_t rank[2] = {0, 1}, off[2] = {0, FLOATS};
    double share[2] = {1, 1}, bytes[2] = {0};
    pac_stage_plan stages[2] = {{0, 1, 1, rank, share, bytes}, {1, 2, 1, rank + 1, share, bytes}};
    pac_plan plan = {.world = 2, .layers = 2, .microbatches = 8, .stages = 2, .stage = stages};
    pac_layout l = {.plan = &plan, .P = 2, .M = 8};
    pac_link *k;
    pac_slot slot = {1, off};
    float *data[1] = {rows};
    CHECK_OK(pac_link_new(&l, 1, &k));
    if (posted) {
        CHECK_OK(pac_link_post(k, 1, &slot, 1, data, 7));
        for (int i = 0; i < 100; i++)
            CHECK_OK(pac_comm_progress());
        return pac_link_take(k, 7);
    }
    if (!send)
        return pac_link_recv(k, 1, &slot, 1, data, 7);
    CHECK_OK(pac_link_send(k, 1, &slot, 1, (const float *const *)data, 7));
    return pac_link_flush(k, 7);
}

/* The last rank (2) is stuck, rank 1 waits for it alone, rank 0 for everybody and fails first. */
static void wait_in_chain(void)
{
    const char *const words[] = {"all of ranks 0 1 2", "lost: rank 2 (", "rank 1 (", "waits for rank 2 (", "micro-batch 3"};
    if (pac_world_rank() == 0)
        expect_lost(pac_sum_f32(pac_world(), rows, FLOATS), pac_now(), words, sizeof words / sizeof words[0]);
    if (pac_world_rank() == 0)
        return;
    MPI_Request never;
    pac_awaited awaited = {.what = "rows of micro-batch", .number = 3, .peer = 2, .bytes = 4};
    pac_set_timeout(20);
    CHECK(MPI_Irecv(rows, 1, MPI_FLOAT, 2, 9, MPI_COMM_WORLD, &never) == MPI_SUCCESS, "receive");
    pac_err err = pac_wait(&never, &awaited, MPI_STATUS_IGNORE);
    CHECK(false, "rank 0 did not end this wait: %s", pac_err_name(err));
}

/* Started, looked after, and waited for. */
static pac_err wait_in_sums(void)
{
    pac_sums *s;
    CHECK_OK(pac_sums_new(pac_world(), &s));
    CHECK_OK(pac_sums_start(s, rows, FLOATS / 2));
    for (int i = 0; i < 100; i++)
        CHECK_OK(pac_comm_progress());
    CHECK_OK(pac_sums_start(s, rows + FLOATS / 2, FLOATS / 2));
    return pac_sums_finish(s);
}

static pac_err wait_in_gather(void)
{
    size_t counts[8];
    for (int i = 0; i < 8; i++)
        counts[i] = 1000000;
    return pac_allgatherv(pac_world(), rows, counts[0], rows, counts);
}

static pac_err wait_in_exchange(void)
{
    size_t counts[8];
    for (int i = 0; i < 8; i++)
        counts[i] = 100000;
    return pac_alltoallv(pac_world(), rows, counts, rows + FLOATS / 2, counts);
}

int main(int argc, char **argv)
{
    CHECK_OK(pac_world_init(&argc, &argv));
    const char *what = argc > 1 ? argv[1] : "";
    bool last = pac_world_rank() == pac_world_size() - 1;
    CHECK_OK(pac_barrier(pac_world()));
    if (strcmp(what, "end") == 0 && last)
        pac_world_abort(42);
    if (last || strcmp(what, "end") == 0) /* stuck outside of MPI */
        pac_sleep(60);
    pac_set_timeout(0.5);
    pac_set_phase("hybrid epoch 1", 12);
    double started = pac_now();
    const char *const link[] = {"rank 0 (",      "rank 1 (",      "hybrid epoch 1", "step 12",
                                "micro-batch 7", "4194304 bytes", "lost: rank 1 ("};
    const char *const exchange[] = {"rank 0 (", "rank 1 (", "hybrid epoch 1", "step 12", "exchange", "lost: rank 1 ("};
    const char *const gather[] = {"rank 0 (", "all of ranks 0 1", "step 12", "a gather", "lost: rank 1 ("};
    const char *const sum[] = {"rank 0 (", "all of ranks 0 1", "hybrid epoch 1", "step 12", "a sum", "lost: rank 1 ("};
    if (strcmp(what, "receive") == 0)
        expect_lost(wait_in_link(false, false), started, link, sizeof link / sizeof link[0]);
    else if (strcmp(what, "send") == 0)
        expect_lost(wait_in_link(true, false), started, link, sizeof link / sizeof link[0]);
    else if (strcmp(what, "posted") == 0)
        expect_lost(wait_in_link(false, true), started, link, sizeof link / sizeof link[0]);
    else if (strcmp(what, "sums") == 0)
        expect_lost(wait_in_sums(), started, sum, sizeof sum / sizeof sum[0]);
    else if (strcmp(what, "exchange") == 0)
        expect_lost(wait_in_exchange(), started, exchange, sizeof exchange / sizeof exchange[0]);
    else if (strcmp(what, "gather") == 0)
        expect_lost(wait_in_gather(), started, gather, sizeof gather / sizeof gather[0]);
    else if (strcmp(what, "sum") == 0)
        expect_lost(pac_sum_f32(pac_world(), rows, FLOATS), started, sum, sizeof sum / sizeof sum[0]);
    else if (strcmp(what, "chain") == 0)
        wait_in_chain();
    else if (strcmp(what, "done") == 0)
        pac_world_done(); /* aborts with 75 by itself */
    else
        CHECK(false, "unknown argument '%s'", what);
    fprintf(stderr, "%s\n", pac_err_message());
    pac_world_abort(pac_err_exit_code(PAC_EPEER));
}
