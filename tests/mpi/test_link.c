/*
 * Links between stages of every shape that the ranks allow: unequal shares, samples of unequal (and zero) length, several
 * micro-batches in flight, both directions at once. Each number is a function of where it belongs, so a receiver checks every
 * one.
 */
#include "../../src/parallel/internal.h"
#include "check.h"

#include <math.h>
#include <string.h>

enum { MICROBATCHES = 5, SLOTS = 3, MOST_SAMPLES = 16, MOST_FLOATS = 1 << 16 };

typedef struct shape {
    int64_t groups[4];
    double share[4]; /* by rank */
} shape;

static const shape shapes[] = {
    {{1}, {1}},
    {{2}, {.3, .7}},
    {{1, 1}, {1, 1}},
    {{2, 1}, {.25, .75, 1}},
    {{1, 2}, {1, .6, .4}},
    {{1, 1, 1}, {1, 1, 1}},
    {{2, 2}, {.5, .5, .2, .8}},
    {{2, 2}, {.999, .001, .001, .999}}, /* ranks without a sample */
    {{3, 1}, {.2, .5, .3, 1}},
    {{1, 3}, {1, .1, .1, .8}},
    {{2, 1, 1}, {.4, .6, 1, 1}},
    {{1, 2, 1}, {1, .35, .65, 1}},
    {{1, 1, 1, 1}, {1, 1, 1, 1}},
};

/* What one stage boundary carries for one micro-batch: two slots follow the source rows, one the target rows. */
typedef struct crossing {
    int64_t n, off[2][MOST_SAMPLES + 1];
    pac_slot slots[SLOTS];
    pac_range own;
    float *data[SLOTS];
} crossing;

static float buffers[2][MICROBATCHES][SLOTS][MOST_FLOATS]; /* [sent, received] */
static double plan_share[4], plan_bytes[4];
static int64_t plan_rank[4];
static int64_t scale; /* of the lengths: 50 makes messages that MPI does not buffer */

static int64_t make_plan(const shape *s, bool reversed, pac_stage_plan *stages, pac_plan *out)
{
    int64_t ranks = 0, p = 0;
    for (int64_t i = 0; i < 4; i++)
        ranks += s->groups[i];
    for (int64_t i = 0, at = 0; i < 4 && s->groups[i] > 0; at += s->groups[i++], p++)
        stages[p] = (pac_stage_plan){p, p + 1, s->groups[i], plan_rank + at, plan_share + at, plan_bytes + at};
    for (int64_t i = 0; i < ranks; i++) {
        plan_rank[i] = reversed ? ranks - 1 - i : i;
        plan_share[i] = s->share[i];
    }
    *out = (pac_plan){.world = ranks, .layers = p, .microbatches = MICROBATCHES, .stages = p, .stage = stages};
    return ranks;
}

/* Micro-batch m at the boundary above `stage`: sizes differ by m, lengths by sample, some are 0. */
static void describe(const pac_layout *l, int64_t m, crossing *c)
{
    c->n = (m * 5 + 3) % (MOST_SAMPLES + 1) + (m == 3 ? -1 : 0);
    for (int64_t i = 0; i < c->n; i++) {
        c->off[0][i + 1] = c->off[0][i] + (i * 7 + m) % 5 * scale;
        c->off[1][i + 1] = c->off[1][i] + ((i * 3 + m) % 3 + (i == 2 ? 40 : 0)) * scale;
    }
    const int64_t width[SLOTS] = {8, 3, 17};
    for (int64_t s = 0; s < SLOTS; s++)
        c->slots[s] = (pac_slot){width[s], c->off[s == 2]};
    const pac_stage_plan *p = &l->plan->stage[l->stage];
    c->own = pac_split_shares(c->n, p->share, p->ranks, l->member);
}

/* The number at element e of the whole micro-batch's slot s, sent by stage `from` for micro-batch m. */
static float expected(int64_t round, int64_t from, int64_t m, int64_t s, int64_t e)
{
    return (float)(((round * 4 + from) * 8 + m) * 4 + s) + (float)(e % 4096) / 4096;
}

static int64_t first_element(const crossing *c, int64_t s)
{
    return c->slots[s].off[c->own.lo] * c->slots[s].width;
}

static int64_t elements(const crossing *c, int64_t s)
{
    return c->slots[s].off[c->own.hi] * c->slots[s].width - first_element(c, s);
}

static void send_one(const pac_layout *l, pac_link *k, int64_t m, int64_t round)
{
    crossing c = {0};
    describe(l, m, &c);
    for (int64_t s = 0; s < SLOTS; s++) {
        c.data[s] = buffers[0][m][s];
        for (int64_t e = 0; e < elements(&c, s); e++)
            c.data[s][e] = expected(round, l->stage, m, s, first_element(&c, s) + e);
    }
    CHECK_OK(pac_link_send(k, c.n, c.slots, SLOTS, (const float *const *)c.data, m));
}

/* Room that shows what was written. */
static void clear_room(const pac_layout *l, int64_t m, crossing *c)
{
    describe(l, m, c);
    for (int64_t s = 0; s < SLOTS; s++) {
        c->data[s] = buffers[1][m][s];
        for (int64_t e = 0; e <= elements(c, s); e++)
            c->data[s][e] = NAN;
    }
}

static void post_one(const pac_layout *l, pac_link *k, int64_t m)
{
    crossing c = {0};
    clear_room(l, m, &c);
    CHECK_OK(pac_link_post(k, c.n, c.slots, SLOTS, c.data, m));
}

static void check_received(const pac_layout *l, int64_t from, int64_t m, int64_t round)
{
    crossing c = {0};
    describe(l, m, &c);
    for (int64_t s = 0; s < SLOTS; s++)
        c.data[s] = buffers[1][m][s];
    for (int64_t s = 0; s < SLOTS; s++) {
        for (int64_t e = 0; e < elements(&c, s); e++)
            CHECK(c.data[s][e] == expected(round, from, m, s, first_element(&c, s) + e),
                  "micro-batch %d slot %d element %d: %g", (int)m, (int)s, (int)e, c.data[s][e]);
        CHECK(isnan(c.data[s][elements(&c, s)]), "written past the end of slot %d", (int)s);
    }
}

static void receive_one(const pac_layout *l, pac_link *k, int64_t from, int64_t m, int64_t round)
{
    crossing c = {0};
    clear_room(l, m, &c);
    CHECK_OK(pac_link_recv(k, c.n, c.slots, SLOTS, c.data, m));
    check_received(l, from, m, round);
}

/* Asked for one ahead, as the pipeline does; all at once in round 1 (the list grows), and taken in reverse when `backwards`. */
static void receive_ahead(const pac_layout *l, pac_link *k, int64_t from, int64_t round, bool backwards)
{
    int64_t posted = 0;
    for (int64_t i = 0; i < MICROBATCHES; i++) {
        int64_t m = backwards ? MICROBATCHES - 1 - i : i;
        while (posted < MICROBATCHES && (backwards || round == 1 || posted < i + 2))
            post_one(l, k, posted++);
        CHECK_OK(pac_comm_progress());
        CHECK_OK(pac_link_take(k, m));
        check_received(l, from, m, round);
    }
}

/* Forwards: all micro-batches are sent before the next stage takes the first; received newest first when `backwards`. */
static void test_one_direction(const pac_layout *l, pac_link *next, pac_link *previous, int64_t round, bool backwards)
{
    if (previous != NULL && round % 3 == 1)
        receive_ahead(l, previous, l->stage - 1, round, backwards);
    for (int64_t i = 0; previous != NULL && round % 3 != 1 && i < MICROBATCHES; i++)
        receive_one(l, previous, l->stage - 1, backwards ? MICROBATCHES - 1 - i : i, round);
    for (int64_t m = 0; next != NULL && m < MICROBATCHES; m++)
        send_one(l, next, m, round);
    if (next == NULL)
        return;
    CHECK_OK(pac_link_flush(next, 2));
    memset(buffers[0][2], 0, sizeof buffers[0][2]); /* done with: may be touched */
    CHECK_OK(pac_link_flush(next, -1));
}

/* Both neighbours send to one another before either receives. */
static void test_both_directions(const pac_layout *l, pac_link *next, pac_link *previous, int64_t round)
{
    for (int64_t m = 0; m < MICROBATCHES; m++) {
        if (next != NULL)
            send_one(l, next, m, round);
        if (previous != NULL)
            send_one(l, previous, m, round); /* the same numbers: `from` is this stage */
        if (next != NULL)
            receive_one(l, next, l->stage + 1, m, round);
        if (previous != NULL)
            receive_one(l, previous, l->stage - 1, m, round);
        if (next != NULL)
            CHECK_OK(pac_link_flush(next, m));
        if (previous != NULL)
            CHECK_OK(pac_link_flush(previous, m));
    }
}

static void test_shape(const pac_plan *plan)
{
    pac_layout l;
    pac_link *next = NULL, *previous = NULL, *none = NULL;
    CHECK_OK(pac_layout_new(plan, &l));
    CHECK(plan->stage[l.stage].rank[l.member] == pac_world_rank(), "place in the plan");
    CHECK(pac_comm_rank(l.group) == l.member && pac_comm_size(l.group) == plan->stage[l.stage].ranks, "group");
    if (l.stage + 1 < l.P)
        CHECK_OK(pac_link_new(&l, l.stage + 1, &next));
    if (l.stage > 0)
        CHECK_OK(pac_link_new(&l, l.stage - 1, &previous));
    CHECK(pac_link_new(&l, l.P, &none) == PAC_EINVAL && pac_link_new(&l, l.stage, &none) == PAC_EINVAL, "no such link");
    test_both_directions(&l, next, previous, 0);
    test_one_direction(&l, next, previous, 1, false);
    int64_t blocks = pac_mem_blocks();
    pac_mem_fail_at(1); /* the lists have grown to their size: a steady step allocates nothing */
    for (int64_t round = 2; round < 5; round++) {
        test_both_directions(&l, next, previous, round);
        test_one_direction(&l, next, previous, round, round % 2 == 0);
    }
    pac_mem_fail_at(0);
    CHECK(pac_mem_blocks() == blocks, "allocations in the steady state");
    pac_link_free(&next);
    pac_link_free(&previous);
    pac_layout_free(&l);
}

/* Ranks of some stages add up what they hold: every two of them, with nothing between. */
static void test_holders(const pac_plan *plan)
{
    pac_layout l;
    CHECK_OK(pac_layout_new(plan, &l));
    for (int64_t a = 0; a < l.P; a++) {
        for (int64_t b = a; b < l.P; b++) {
            bool in[PAC_MAX_DEVICES] = {false};
            pac_comm *holders = NULL;
            in[a] = in[b] = true;
            CHECK_OK(pac_layout_stages(&l, in, &holders));
            CHECK((holders != NULL) == in[l.stage], "inside or not");
            int64_t count = 1, wanted = plan->stage[a].ranks + (b > a ? plan->stage[b].ranks : 0);
            if (holders != NULL)
                CHECK_OK(pac_sum_i64(holders, &count, 1));
            CHECK(holders == NULL || count == wanted, "%d ranks instead of %d", (int)count, (int)wanted);
            pac_comm_free(&holders);
        }
    }
    pac_layout_free(&l);
}

static void test_wrong_plans(pac_plan *plan)
{
    pac_layout l = {.P = 77};
    plan->world++;
    CHECK(pac_layout_new(plan, &l) == PAC_ECONFIG, "a plan for another number of ranks");
    CHECK(strstr(pac_err_message(), "mpirun -np") != NULL, "says what to do: %s", pac_err_message());
    plan->world--;
    int64_t kept = plan->stage[0].rank[0];
    plan->stage[0].rank[0] = plan->world;
    CHECK(pac_layout_new(plan, &l) == PAC_ECONFIG, "a rank that does not exist");
    plan->stage[0].rank[0] = plan->stage[plan->stages - 1].rank[plan->stage[plan->stages - 1].ranks - 1];
    CHECK(plan->world == 1 || pac_layout_new(plan, &l) == PAC_ECONFIG, "a rank in no stage");
    plan->stage[0].rank[0] = kept;
    CHECK(l.P == 77, "nothing changed");
}

int main(int argc, char **argv)
{
    CHECK_OK(pac_world_init(&argc, &argv));
    size_t whole = pac_block_bytes;
    int tried = 0;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        pac_stage_plan stages[4];
        pac_plan plan;
        for (int reversed = 0; reversed < 2; reversed++) {
            if (make_plan(&shapes[i], reversed, stages, &plan) != pac_world_size())
                continue;
            for (scale = 1; scale <= 50; scale += 49) {
                pac_block_bytes = whole;
                test_shape(&plan);
                pac_block_bytes = scale == 1 ? 20 : 5000; /* five numbers a message; several large ones */
                test_shape(&plan);
            }
            test_holders(&plan);
            test_wrong_plans(&plan);
            tried++;
        }
    }
    CHECK(tried > 0, "no shape for %d ranks", (int)pac_world_size());
    pac_world_done();
    CHECK(pac_mem_blocks() == 0, "%d blocks leaked", (int)pac_mem_blocks());
    return 0;
}
