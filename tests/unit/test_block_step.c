/* Decoding one position at a time equals the causal forward of whole sequences: backbone kinds, ends, beams and their
 * reordering. */
#include "tiny_block.h"

#include <stdio.h>
#include <stdlib.h>

enum { SOURCES = 3, BEAMS = 2, SLOTS = SOURCES * BEAMS, LENGTH = 9, CAPACITY = 11, SOURCE_ROWS = 8 };

static const int64_t soff[SOURCES + 1] = {0, 2, 7, 8};

/* Slots of one block: what each has seen, row by row, and what the last step answered. */
typedef struct decoder {
    tiny t;
    const pac_backend *be;
    pac_arena *arena, *work;
    pac_kv *kv;
    float enc[SOURCE_ROWS * D];
    float x[SLOTS][LENGTH * D], y[SLOTS][D];
    bool ended[SLOTS];
    int64_t length; /* of the slots that go on */
} decoder;

static void decoder_new(decoder *d, const pac_backend *be, pac_block_cfg cfg, technique how)
{
    pac_batch batch = {.B = SOURCES, .soff = soff};
    *d = (decoder){.be = be};
    OK(pac_arena_new(PAC_MEM_ACTIVATIONS, &d->arena));
    OK(pac_arena_new(PAC_MEM_WORK, &d->work));
    tiny_new(&d->t, cfg, how);
    tiny_random(d->enc, SOURCE_ROWS * D, 5);
    pac_block_io io = {.be = be, .work = d->work, .batch = &batch, .stack = PAC_DEC, .enc = cfg.cross ? d->enc : NULL};
    OK(pac_kv_new(&cfg, &d->t.w, &io, BEAMS, CAPACITY, d->arena, &d->kv));
}

static void decoder_free(decoder *d)
{
    pac_arena_free(&d->arena);
    pac_arena_free(&d->work);
}

/* One more row, random, for every slot that goes on; in place as the backbone does it. */
static void step(decoder *d)
{
    int64_t toff[SLOTS + 1] = {0};
    float rows[SLOTS * D];
    for (int64_t s = 0; s < SLOTS; s++) {
        toff[s + 1] = toff[s] + !d->ended[s];
        if (d->ended[s])
            continue;
        float *x = d->x[s] + d->length * D;
        tiny_random(x, D, (uint64_t)(100 * (d->length + 1) + s));
        memcpy(rows + toff[s] * D, x, D * sizeof *x);
    }
    pac_batch batch = {.B = SLOTS, .toff = toff};
    pac_block_io io = {
        .be = d->be, .work = d->work, .batch = &batch, .stack = PAC_DEC, .bias_table = d->t.bias_table, .kv = d->kv};
    assert_int_equal(pac_kv_length(d->kv), d->length);
    OK(pac_block_fwd(rows, rows, &d->t.cfg, &d->t.w, &io, NULL, NULL));
    assert_int_equal(pac_arena_mark(d->work), 0);
    for (int64_t s = 0; s < SLOTS; s++)
        if (!d->ended[s])
            memcpy(d->y[s], rows + toff[s] * D, sizeof d->y[s]);
    d->length++;
}

/* The last row of the whole sequence of slot s. */
static void whole(decoder *d, int64_t s, float *last)
{
    float y[LENGTH * D];
    int64_t b = s / BEAMS, to[] = {0, d->length}, so[] = {0, soff[b + 1] - soff[b]};
    pac_batch batch = {.B = 1, .soff = so, .toff = to};
    pac_block_io io = {.be = d->be,
                       .work = d->work,
                       .batch = &batch,
                       .stack = PAC_DEC,
                       .bias_table = d->t.bias_table,
                       .enc = d->t.cfg.cross ? d->enc + soff[b] * D : NULL};
    OK(pac_block_fwd(y, d->x[s], &d->t.cfg, &d->t.w, &io, NULL, NULL));
    memcpy(last, y + (d->length - 1) * D, D * sizeof *y);
}

/* A row alone and a row among others are summed in another order: some roundings of sums of a few dozen products. */
static const float tolerance = 4e-6f;

static void check(decoder *d)
{
    float want[D];
    for (int64_t s = 0; s < SLOTS; s++) {
        if (d->ended[s])
            continue;
        whole(d, s, want);
        for (int64_t i = 0; i < D; i++)
            if (!(fabsf(d->y[s][i] - want[i]) <= tolerance * fmaxf(1, fabsf(want[i]))))
                fail_msg("%s, slot %lld, position %lld: %.9g, whole sequence %.9g", d->be->name, (long long)s,
                         (long long)d->length - 1, (double)d->y[s][i], (double)want[i]);
    }
}

static void reorder(decoder *d, const int64_t *parent)
{
    static float x[SLOTS][LENGTH * D];
    memcpy(x, d->x, sizeof x);
    OK(pac_kv_reorder(d->kv, d->be, parent, d->work));
    assert_int_equal(pac_arena_mark(d->work), 0);
    for (int64_t s = 0; s < SLOTS; s++)
        memcpy(d->x[s], x[parent[s]], sizeof x[s]);
}

static void decode(const pac_backend *be, pac_block_cfg cfg, technique how)
{
    static decoder d;
    const int64_t swap[SLOTS] = {1, 0, 3, 3, 4, 5}, fork[SLOTS] = {0, 0, 3, 2, 5, 4};
    decoder_new(&d, be, cfg, how);
    reorder(&d, swap); /* nothing is held yet */
    for (int64_t t = 0; t < LENGTH; t++) {
        step(&d);
        check(&d);
        if (t == 1 || t == 5)
            reorder(&d, swap);
        if (t == 3)
            reorder(&d, fork);
        if (t == 7)
            reorder(&d, fork); /* slot 1 had ended and goes on as slot 0 */
        d.ended[1] = t == 5 || t == 6;
        for (int64_t s = 4; s < SLOTS; s++)
            d.ended[s] = t >= 6; /* a whole source */
    }
    decoder_free(&d);
}

static void test_steps_equal_whole_sequences(void **state)
{
    (void)state;
    pac_block_cfg alone = tiny_bart(true, true);
    alone.cross = false;
    const pac_block_cfg kind[] = {tiny_t5(true, false), tiny_t5(true, true), tiny_bart(true, true), tiny_bart(true, false),
                                  alone};
    for (const pac_backend *const *be = pac_backend_all(); *be != NULL; be++)
        for (size_t i = 0; i < sizeof kind / sizeof *kind; i++)
            for (technique how = FROZEN; how <= ADAPTERS; how++)
                decode(*be, kind[i], how);
}

/* The shipped model's decoder: all its layers, step by step, against the whole sequence. */
static void test_layers_of_a_loaded_slice(void **state)
{
    (void)state;
    enum { T = 5, S = 3 };
    char dir[4096];
    static pac_model_desc desc;
    const pac_backend *be;
    pac_model *m = NULL;
    pac_arena *arena, *work;
    float *enc, *x, *whole, *row;
    const char *root = getenv("PAC_SOURCE_ROOT");
    snprintf(dir, sizeof dir, "%s/data/demo/model", root != NULL ? root : ".");
    OK(pac_backend_find("ref", &be));
    OK(pac_model_describe(dir, &desc));
    int64_t E = desc.layers[PAC_ENC], L = E + desc.layers[PAC_DEC], width = desc.block[PAC_DEC].D;
    OK(pac_model_load(&desc, be, E, L, 0, &m));
    OK(pac_arena_new(PAC_MEM_ACTIVATIONS, &arena));
    OK(pac_arena_new(PAC_MEM_WORK, &work));
    OK(pac_arena_floats(arena, S * width, &enc));
    OK(pac_arena_floats(arena, T * width, &x));
    OK(pac_arena_floats(arena, T * width, &whole));
    OK(pac_arena_floats(arena, width, &row));
    tiny_random(enc, S * width, 6);
    tiny_random(x, T * width, 7);
    int64_t so[] = {0, S}, to[] = {0, T}, one[] = {0, 1};
    pac_batch all = {.B = 1, .soff = so, .toff = to}, next = {.B = 1, .toff = one};
    pac_kv *kv[PAC_MAX_BLOCKS];
    memcpy(whole, x, (size_t)(T * width) * sizeof *x);
    for (int64_t l = E; l < L; l++) {
        OK(pac_model_kv_new(m, l, &all, enc, 1, T, arena, work, &kv[l]));
        OK(pac_model_block(m, l, &all, enc, whole, whole, work));
    }
    assert_int_equal(pac_model_kv_new(m, E - 1, &all, enc, 1, T, arena, work, &kv[0]), PAC_EINVAL);
    for (int64_t t = 0; t < T; t++) {
        memcpy(row, x + t * width, (size_t)width * sizeof *x);
        for (int64_t l = E; l < L; l++)
            OK(pac_model_step(m, l, &next, kv[l], row, row, work));
        for (int64_t i = 0; i < width; i++)
            assert_true(fabsf(row[i] - whole[t * width + i]) <= 1e-5f * fmaxf(1, fabsf(row[i])));
    }
    pac_model_free(&m);
    pac_arena_free(&arena);
    pac_arena_free(&work);
}

static void test_faults_of_the_caller(void **state)
{
    (void)state;
    static decoder d;
    const int64_t across[SLOTS] = {2, 1, 2, 3, 4, 5}, outside[SLOTS] = {-1, 1, 2, 3, 4, 5};
    const pac_backend *be;
    pac_kv *kv = NULL;
    OK(pac_backend_find("ref", &be));
    decoder_new(&d, be, tiny_t5(true, false), FROZEN);
    assert_int_equal(pac_kv_reorder(d.kv, be, across, d.work), PAC_EINVAL);
    assert_int_equal(pac_kv_reorder(d.kv, be, outside, d.work), PAC_EINVAL);
    int64_t two[SLOTS + 1] = {0, 2, 2, 2, 2, 2, 2}, none[SLOTS + 1] = {0};
    float x[2 * D] = {0};
    pac_batch batch = {.B = SLOTS, .toff = two};
    pac_block_io io = {.be = be, .work = d.work, .batch = &batch, .stack = PAC_DEC, .bias_table = d.t.bias_table, .kv = d.kv};
    pac_block_saved *saved = NULL;
    assert_int_equal(pac_block_fwd(x, x, &d.t.cfg, &d.t.w, &io, NULL, NULL), PAC_EINVAL);
    assert_int_equal(pac_block_fwd(x, x, &d.t.cfg, &d.t.w, &io, d.arena, &saved), PAC_EINVAL);
    batch.toff = none;
    for (int64_t t = 0; t < CAPACITY; t++) /* all have ended: steps without rows are allowed */
        OK(pac_block_fwd(x, x, &d.t.cfg, &d.t.w, &io, NULL, NULL));
    assert_int_equal(pac_block_fwd(x, x, &d.t.cfg, &d.t.w, &io, NULL, NULL), PAC_EINVAL);
    batch.B = SLOTS - 1;
    assert_int_equal(pac_block_fwd(x, x, &d.t.cfg, &d.t.w, &io, NULL, NULL), PAC_ESHAPE);
    pac_block_cfg encoder = tiny_t5(false, false);
    assert_int_equal(pac_kv_new(&encoder, &d.t.w, &io, 1, 1, d.arena, &kv), PAC_EINVAL);
    assert_int_equal(pac_kv_new(&d.t.cfg, &d.t.w, &io, 0, 1, d.arena, &kv), PAC_EINVAL);
    assert_int_equal(pac_kv_new(&d.t.cfg, &d.t.w, &io, 1, 0, d.arena, &kv), PAC_EINVAL);
    assert_null(kv);
    decoder_free(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps_equal_whole_sequences),
        cmocka_unit_test(test_layers_of_a_loaded_slice),
        cmocka_unit_test(test_faults_of_the_caller),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
