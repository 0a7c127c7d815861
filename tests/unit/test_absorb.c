/*
 * Cross-attention without keys and values: the same rows and gradients as with them, for every technique and backend of the
 * host, at ragged lengths; when it is taken, and what it keeps.
 */
#include "tiny_block.h"

#include "pac/packed.h"

enum { MOST_T = 16, MOST_S = 128 };

/* Sequences of 0 to 5 targets, 1 to 41 sources; the last batch is one whose shape alone makes the choice. */
typedef struct lengths {
    int64_t B, toff[6], soff[6];
} lengths;

static const lengths ragged[] = {
    {5, {0, 1, 3, 6, 10, 15}, {0, 1, 42, 44, 75, 92}},
    {4, {0, 5, 5, 6, 8}, {0, 3, 10, 11, 14}},
    {1, {0, 1}, {0, 1}},
    {3, {0, 1, 2, 3}, {0, 37, 78, 113}},
};

typedef struct trial {
    tiny t;
    pac_lora key; /* a low-rank change of k too */
    const pac_backend *be;
    pac_arena *keep, *work;
    pac_batch batch;
    float x[MOST_T * D], enc[MOST_S * D], r[MOST_T * D], y[MOST_T * D], dx[MOST_T * D], denc[MOST_S * D];
} trial;

static void trial_new(trial *t, const pac_backend *be, pac_block_cfg cfg, technique how, const lengths *l)
{
    *t = (trial){.be = be, .batch = {.B = l->B, .soff = l->soff, .toff = l->toff}};
    OK(pac_arena_new(PAC_MEM_ACTIVATIONS, &t->keep));
    OK(pac_arena_new(PAC_MEM_WORK, &t->work));
    tiny_new(&t->t, cfg, how);
    if (how == LORA)
        tiny_lora(&t->t, &t->key, &t->t.w.cross.k, D, I);
    tiny_random(t->x, MOST_T * D, 2);
    tiny_random(t->enc, MOST_S * D, 3);
    tiny_random(t->r, MOST_T * D, 4);
    tiny_random(t->denc, MOST_S * D, 5); /* gradients add to it */
}

static void trial_free(trial *t)
{
    pac_arena_free(&t->keep);
    pac_arena_free(&t->work);
}

static void run(trial *t, pac_cross way, bool want_denc)
{
    pac_block_io io = {.be = t->be,
                       .work = t->work,
                       .batch = &t->batch,
                       .stack = PAC_DEC,
                       .bias_table = t->t.bias_table,
                       .dbias_table = t->t.dbias_table,
                       .enc = t->enc};
    pac_block_saved *saved;
    pac_cross_force(way);
    OK(pac_block_fwd(t->y, t->x, &t->t.cfg, &t->t.w, &io, t->keep, &saved));
    pac_cross_force(PAC_CROSS_CHEAPER); /* the backward knows what its forward was */
    OK(pac_block_bwd(t->dx, want_denc ? t->denc : NULL, t->r, &t->t.cfg, &t->t.w, &io, saved));
    assert_int_equal(pac_arena_mark(t->work), 0);
}

static void near_to(const float *a, const float *b, int64_t n, double bound, const char *what)
{
    double size = 0, off = 0;
    for (int64_t i = 0; i < n; i++) {
        size = fmax(size, fabs((double)a[i]));
        off = fmax(off, fabs((double)a[i] - (double)b[i]));
    }
    if (!(off <= bound * (1 + size)))
        fail_msg("%s: off by %g of %g", what, off, size);
}

/* Within 2e-5 of the size of the array: sums of some hundred products in another order. */
static void same(const float *a, const float *b, int64_t n, const char *what)
{
    near_to(a, b, n, 2e-5, what);
}

static void compare(const pac_backend *be, pac_block_cfg cfg, technique how, const lengths *l, bool want_denc)
{
    static trial a, b;
    trial_new(&a, be, cfg, how, l);
    trial_new(&b, be, cfg, how, l);
    run(&a, PAC_CROSS_PLAIN, want_denc);
    run(&b, PAC_CROSS_ABSORBED, want_denc);
    same(a.y, b.y, l->toff[l->B] * D, "y");
    same(a.dx, b.dx, l->toff[l->B] * D, "dx");
    same(a.denc, b.denc, MOST_S * D, "denc");
    same(a.t.g, b.t.g, a.t.n, "gradients");
    trial_free(&a);
    trial_free(&b);
}

static void equals_the_plain_way(void **state)
{
    (void)state;
    const pac_block_cfg kind[] = {tiny_t5(true, true), tiny_bart(true, true)};
    for (const pac_backend *const *be = pac_backend_all(); *be != NULL; be++)
        for (int k = 0; k < 2; k++)
            for (technique how = FROZEN; how <= ADAPTERS; how++)
                for (size_t l = 0; l < sizeof ragged / sizeof *ragged; l++)
                    compare(*be, kind[k], how, &ragged[l], how != ADAPTERS);
}

/* ---- packed matrices ---- */

/* Those of cross-attention in bf16, packed for the backend. */
static void pack(trial *t, pac_packed *to[4])
{
    pac_linear *w[] = {&t->t.w.cross.q, &t->t.w.cross.k, &t->t.w.cross.v, &t->t.w.cross.o};
    for (int i = 0; i < 4; i++) {
        OK(pac_packed_new(t->be, w[i]->w, PAC_F32, i < 3 ? I : D, i < 3 ? D : I, &to[i]));
        w[i]->packed = to[i];
    }
}

/* On processors with native products a whole matrix serves every head; a head's own part lies on a diagonal. */
static void equals_the_plain_way_packed(void **state)
{
    (void)state;
    static trial t[2];
    for (const pac_backend *const *be = pac_backend_all(); *be != NULL; be++)
        for (size_t l = 0; l < sizeof ragged / sizeof *ragged; l++) {
            for (int way = 0; way < 2; way++) {
                pac_packed *packed[4];
                trial_new(&t[way], *be, tiny_t5(true, true), FROZEN, &ragged[l]);
                pack(&t[way], packed);
                run(&t[way], way == 0 ? PAC_CROSS_PLAIN : PAC_CROSS_ABSORBED, true);
                for (int i = 0; i < 4; i++)
                    pac_packed_free(&packed[i]);
            }
            near_to(t[0].y, t[1].y, ragged[l].toff[ragged[l].B] * D, 0.03, "y");
            near_to(t[0].dx, t[1].dx, ragged[l].toff[ragged[l].B] * D, 0.03, "dx");
            near_to(t[0].denc, t[1].denc, MOST_S * D, 0.03, "denc");
            trial_free(&t[0]);
            trial_free(&t[1]);
        }
}

/* The last of the ragged batches has few targets and many sources: k and v of all sources are not kept. */
static void taken_where_it_is_cheaper(void **state)
{
    (void)state;
    static trial t[3];
    size_t kept[3];
    const pac_backend *be;
    OK(pac_backend_find("cpu", &be));
    for (int way = 0; way < 3; way++) {
        trial_new(&t[way], be, tiny_t5(true, false), FULL, &ragged[3]);
        run(&t[way], (pac_cross)way, true);
        kept[way] = pac_arena_mark(t[way].keep);
        trial_free(&t[way]);
    }
    int64_t S = ragged[3].soff[3];
    assert_memory_equal(t[PAC_CROSS_CHEAPER].y, t[PAC_CROSS_ABSORBED].y, sizeof t[0].y);
    assert_memory_equal(t[PAC_CROSS_CHEAPER].t.g, t[PAC_CROSS_ABSORBED].t.g, sizeof t[0].t.g);
    assert_int_equal(kept[PAC_CROSS_CHEAPER], kept[PAC_CROSS_ABSORBED]);
    assert_true(kept[PAC_CROSS_PLAIN] - kept[PAC_CROSS_ABSORBED] >= (size_t)(2 * S * I) * sizeof(float));
}

/* Operations of a decoder block's forward with T targets for each of 16 sources of S rows. */
static double flop(const pac_block_cfg *cfg, int64_t T, int64_t S, pac_cross way)
{
    int64_t toff[17], soff[17];
    pac_arena *work;
    static pac_block_weights w;
    for (int64_t i = 0; i <= 16; i++) {
        toff[i] = i * T;
        soff[i] = i * S;
    }
    pac_batch batch = {.B = 16, .soff = soff, .toff = toff};
    OK(pac_arena_new(PAC_MEM_WORK, &work));
    pac_block_io io = {.be = &pac_backend_count, .work = work, .batch = &batch, .stack = PAC_DEC};
    pac_cross_force(way);
    pac_backend_counted(true);
    OK(pac_block_fwd(NULL, NULL, cfg, &w, &io, NULL, NULL));
    double n = pac_backend_counted(true);
    pac_cross_force(PAC_CROSS_CHEAPER);
    pac_arena_free(&work);
    return n;
}

static void saves_what_it_says(void **state)
{
    (void)state;
    const pac_block_cfg base = {.D = 768, .H = 12, .K = 64, .F = 3072, .cross = true, .causal = true},
                        side = {.D = 96, .H = 12, .K = 8, .F = 384, .cross = true, .causal = true};
    const double I2 = 768.0 * 768, pairs = 16 * 128;
    assert_true(flop(&base, 1, 128, PAC_CROSS_PLAIN) - flop(&base, 1, 128, PAC_CROSS_CHEAPER) ==
                4 * ((16 * 128 - 16) * I2 + pairs * 768 - pairs * 12 * 768));
    assert_true(flop(&base, 1, 128, PAC_CROSS_CHEAPER) < 0.08 * flop(&base, 1, 128, PAC_CROSS_PLAIN));
    assert_true(flop(&side, 1, 128, PAC_CROSS_CHEAPER) < 0.5 * flop(&side, 1, 128, PAC_CROSS_PLAIN));
    /* as many targets as sources: the plain way */
    assert_true(flop(&base, 128, 128, PAC_CROSS_CHEAPER) == flop(&base, 128, 128, PAC_CROSS_PLAIN));
    assert_true(flop(&side, 10, 128, PAC_CROSS_CHEAPER) == flop(&side, 10, 128, PAC_CROSS_PLAIN));
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    static trial t;
    const pac_backend *be;
    OK(pac_backend_find("ref", &be));
    pac_err err = PAC_ENOMEM;
    int64_t blocks = pac_mem_blocks();
    for (int64_t k = 1; err != PAC_OK; k++) {
        pac_block_saved *saved = NULL;
        trial_new(&t, be, tiny_bart(true, true), LORA, &ragged[0]);
        pac_block_io io = {.be = be, .work = t.work, .batch = &t.batch, .stack = PAC_DEC, .enc = t.enc};
        pac_cross_force(PAC_CROSS_ABSORBED);
        pac_mem_fail_at(k);
        err = pac_block_fwd(t.y, t.x, &t.t.cfg, &t.t.w, &io, t.keep, &saved);
        if (err == PAC_OK)
            err = pac_block_bwd(t.dx, t.denc, t.r, &t.t.cfg, &t.t.w, &io, saved);
        pac_mem_fail_at(0);
        assert_true(err == PAC_OK || err == PAC_ENOMEM);
        trial_free(&t);
        assert_int_equal(pac_mem_blocks(), blocks);
    }
    pac_cross_force(PAC_CROSS_CHEAPER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_plain_way),      cmocka_unit_test(equals_the_plain_way_packed),
        cmocka_unit_test(taken_where_it_is_cheaper), cmocka_unit_test(saves_what_it_says),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
