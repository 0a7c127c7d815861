/* The side network: published sizes, options, names and owners of parameters, initial values, blocks by central differences. */
#include "pac/rng.h"
#include "pac/tune.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OK(expr)                                                                                                               \
    do {                                                                                                                       \
        if ((expr) != PAC_OK)                                                                                                  \
            fail_msg("%s: %s", #expr, pac_err_message());                                                                      \
    } while (0)

static pac_model_desc t5(int64_t D, int64_t F, int64_t layers, int64_t H, int64_t K)
{
    pac_model_desc d = {.vocab = 32128, .layers = {layers, layers}, .final_norm = {true, true}, .tied = true, .head_scale = 1};
    for (int s = 0; s < 2; s++)
        d.block[s] = (pac_block_cfg){.D = D,
                                     .H = H,
                                     .K = K,
                                     .F = F,
                                     .norm = PAC_NORM_RMS,
                                     .eps = 1e-6f,
                                     .cross = s == PAC_DEC,
                                     .causal = s == PAC_DEC,
                                     .scale = 1,
                                     .buckets = 32,
                                     .max_distance = 128};
    return d;
}

static pac_model_desc bart_large(void)
{
    pac_model_desc d = t5(1024, 4096, 12, 16, 64);
    d.final_norm[0] = d.final_norm[1] = false;
    for (int s = 0; s < 2; s++) {
        d.block[s].norm = PAC_NORM_LAYER;
        d.block[s].post_norm = d.block[s].biases = true;
        d.block[s].act = PAC_ACT_GELU;
        d.block[s].scale = 0.125f;
        d.block[s].buckets = 0;
    }
    return d;
}

static pac_tune_opts all_layers(const pac_model_desc *d, int64_t k)
{
    pac_tune_opts o = {.reduction = k, .gate = PAC_GATE_NONE, .merge = PAC_MERGE_NONE, .init = PAC_INIT_RANDOM, .seed = 1};
    for (int64_t l = 0; l < d->layers[0] + d->layers[1]; l++)
        o.has_layer[l] = true;
    return o;
}

static const pac_backend *reference(void)
{
    const pac_backend *be;
    OK(pac_backend_find("ref", &be));
    return be;
}

static void test_published_sizes(void **state)
{
    (void)state;
    const struct {
        pac_model_desc d;
        int64_t parameters;
    } published[] = {
        {t5(512, 2048, 6, 8, 64), 1183616},
        {t5(768, 3072, 12, 12, 64), 5097216},
        {t5(1024, 4096, 24, 16, 64), 17718784},
        {bart_large(), 9097472},
    };
    for (size_t i = 0; i < sizeof published / sizeof published[0]; i++) {
        const pac_model_desc *d = &published[i].d;
        pac_tune_opts o = all_layers(d, 8);
        int64_t layers = d->layers[0] + d->layers[1], D = d->block[0].D, n = published[i].parameters;
        OK(pac_tune_check(d, &o));
        assert_int_equal(pac_tune_parameters(d, &o), n);
        o.merge = PAC_MERGE_ADD;
        assert_int_equal(pac_tune_parameters(d, &o), n);
        o.gate = PAC_GATE_LEARNED;
        assert_int_equal(pac_tune_parameters(d, &o), n + layers);
        o.merge = PAC_MERGE_GATED;
        o.head = PAC_HEAD_CLASSIFICATION;
        o.classes = 3;
        assert_int_equal(pac_tune_parameters(d, &o), n + layers + D);
        assert_int_equal(pac_head_parameters(d, &o), D * D + D + 3 * D + 3);
        assert_int_equal(pac_tune_slice_parameters(d, &o, 0, layers), n + layers + D + D * D + D + 3 * D + 3);
    }
}

static void bad(const pac_model_desc *d, const pac_tune_opts *o, pac_err code, const char *part)
{
    pac_tuned *s = NULL;
    assert_int_equal(pac_tune_check(d, o), code);
    assert_non_null(strstr(pac_err_message(), part));
    assert_int_equal(pac_tuned_new(d, o, reference(), 0, 1, true, &s), code);
    assert_null(s);
}

static void test_bad_options_are_refused(void **state)
{
    (void)state;
    pac_model_desc d = t5(16, 24, 2, 2, 8);
    pac_tune_opts o = all_layers(&d, 0);
    bad(&d, &o, PAC_ECONFIG, "technique.reduction");
    o.reduction = 3; /* divides F only */
    bad(&d, &o, PAC_ECONFIG, "technique.reduction");
    o.reduction = 16; /* divides D only */
    bad(&d, &o, PAC_ECONFIG, "technique.reduction");
    o = all_layers(&d, 8);
    o.has_layer[4] = true;
    bad(&d, &o, PAC_ECONFIG, "layer 5");
    o = (pac_tune_opts){.reduction = 8};
    bad(&d, &o, PAC_ECONFIG, "no layer");
    o = all_layers(&d, 8);
    o.head = PAC_HEAD_CLASSIFICATION;
    bad(&d, &o, PAC_ECONFIG, "class");
}

static void test_what_is_read(void **state)
{
    (void)state;
    pac_model_desc d = t5(16, 24, 2, 2, 8);
    pac_tune_opts o = {.reduction = 8};
    bool reads[2][PAC_MAX_LAYERS + 1], final;
    o.has_layer[1] = o.has_layer[2] = true;
    pac_tune_reads(&d, &o, reads, &final);
    assert_true(reads[PAC_ENC][0] && !reads[PAC_ENC][1] && reads[PAC_ENC][2] && !final);
    assert_true(reads[PAC_DEC][0] && reads[PAC_DEC][1] && !reads[PAC_DEC][2]);
    o.merge = PAC_MERGE_ADD;
    pac_tune_reads(&d, &o, reads, &final);
    assert_true(final);
}

static const pac_param *find(pac_tuned *s, const char *name)
{
    pac_params *p = pac_tuned_params(s);
    for (int64_t i = 0; i < p->count; i++)
        if (strcmp(p->v[i].name, name) == 0)
            return &p->v[i];
    return NULL;
}

static void test_names_and_owners(void **state)
{
    (void)state;
    pac_model_desc d = t5(16, 24, 3, 2, 8);
    pac_tune_opts o = all_layers(&d, 8);
    pac_tuned *s = NULL;
    o.has_layer[0] = false;
    o.gate = PAC_GATE_LEARNED;
    OK(pac_tuned_new(&d, &o, reference(), 0, 6, true, &s));
    const pac_param *table = find(s, "enc.bias_table"), *up = find(s, "up.weight"), *q = find(s, "dec.2.cross.q.weight");
    assert_true(table != NULL && table->use[0].first == 1 && table->use[0].last == 2 && table->shape[0] == 32 && table->shape[1] == 2);
    assert_true(up != NULL && up->use[0].first == 5 && up->use[0].last == 5 && up->shape[0] == 16 && up->shape[1] == 2);
    assert_true(q != NULL && q->use[0].first == 5 && q->n == 2 * 1 * 2);
    assert_true(find(s, "enc.first.bias")->use[0].last == 0 && find(s, "enc.norm.weight")->use[0].first == 2);
    assert_true(find(s, "enc.0.down.weight") == NULL && find(s, "enc.1.gate")->n == 1 &&
                find(s, "enc.1.cross.q.weight") == NULL);
    pac_tuned_free(&s);
    OK(pac_tuned_new(&d, &o, reference(), 0, 1, true, &s)); /* only the first projection */
    assert_int_equal(pac_tuned_params(s)->count, 2);
    pac_tuned_free(&s);
    OK(pac_tuned_new(&d, &o, reference(), 2, 4, true, &s)); /* over the border of the stacks */
    assert_true(find(s, "enc.bias_table") != NULL && find(s, "dec.bias_table") != NULL && find(s, "up.weight") == NULL);
    assert_true(find(s, "enc.norm.weight") != NULL && find(s, "dec.first.weight") != NULL &&
                find(s, "dec.norm.weight") == NULL);
    pac_tuned_free(&s);
}

/* Every slice draws what the whole network draws. */
static void test_random_values_do_not_depend_on_the_slice(void **state)
{
    (void)state;
    pac_model_desc d = t5(64, 96, 2, 2, 8);
    pac_tune_opts o = all_layers(&d, 8);
    pac_tuned *whole = NULL, *s = NULL;
    o.gate = PAC_GATE_LEARNED;
    OK(pac_tuned_new(&d, &o, reference(), 0, 4, true, &whole));
    OK(pac_tuned_init(whole, NULL, NULL));
    for (int64_t l = 0; l < 4; l++) {
        OK(pac_tuned_new(&d, &o, reference(), l, l + 1, true, &s));
        OK(pac_tuned_init(s, NULL, NULL));
        pac_params *p = pac_tuned_params(s);
        for (int64_t i = 0; i < p->count; i++)
            assert_memory_equal(p->v[i].w, find(whole, p->v[i].name)->w, (size_t)p->v[i].n * sizeof(float));
        pac_tuned_free(&s);
    }
    const pac_param *down = find(whole, "dec.1.down.weight"), *gate = find(whole, "dec.1.gate"),
                    *norm = find(whole, "dec.norm.weight");
    double sum = 0;
    for (int64_t i = 0; i < down->n; i++)
        sum += (double)down->w[i] * down->w[i];
    assert_true(fabs(sqrt(sum / (double)down->n) * 8 - 1) < 0.1); /* 64^-0.5 */
    assert_true(gate->w[0] == 0 && norm->w[0] == 1 && find(whole, "up.bias")->w[3] == 0);
    o.init = PAC_INIT_MAGNITUDE;
    OK(pac_tuned_new(&d, &o, reference(), 0, 1, true, &s));
    assert_int_equal(pac_tuned_init(s, NULL, NULL), PAC_EINVAL);
    pac_tuned_free(&s);
    pac_tuned_free(&whole);
}

static void test_faults_of_the_caller(void **state)
{
    (void)state;
    pac_model_desc d = t5(16, 24, 1, 2, 8);
    pac_tune_opts o = all_layers(&d, 8);
    pac_tuned *s = NULL;
    pac_arena *keep = NULL, *work = NULL;
    pac_side_state out;
    float *h, rows[16] = {0};
    int64_t off[2] = {0, 1};
    pac_batch b = {.B = 1, .soff = off, .toff = off};
    pac_acts acts = {.b = {{rows, rows}, {rows, rows}}};
    OK(pac_arena_new(PAC_MEM_ACTIVATIONS, &keep));
    OK(pac_arena_new(PAC_MEM_WORK, &work));
    OK(pac_tuned_new(&d, &o, reference(), 0, 2, true, &s));
    pac_pass pass = {.batch = &b, .keep = keep, .work = work};
    OK(pac_side_fwd(pac_tuned_side(s), &pass, &acts, NULL, &out, &h, false, NULL));
    acts.b[PAC_DEC][1] = NULL;
    assert_int_equal(pac_side_fwd(pac_tuned_side(s), &pass, &acts, NULL, &out, &h, false, NULL), PAC_EINVAL);
    pac_tuned_free(&s);
    OK(pac_tuned_new(&d, &o, reference(), 1, 2, true, &s));
    acts.b[PAC_DEC][1] = rows;
    assert_int_equal(pac_side_fwd(pac_tuned_side(s), &pass, &acts, NULL, &out, &h, false, NULL), PAC_EINVAL); /* no encoder output */
    pac_tuned_free(&s);
    pac_arena_free(&keep);
    pac_arena_free(&work);
}

/* ---- a block of the other kind (post-norm, LayerNorm, biases, gated), which no fixture has yet ---- */

enum { D = 6, H = 2, K = 3, F = 5, B = 2, T = 5, S = 7 };

static const int64_t toff[B + 1] = {0, 3, T}, soff[B + 1] = {0, 1, S};

typedef struct probe {
    pac_block_cfg cfg;
    pac_block_weights w;
    pac_block_io io;
    pac_batch batch;
    pac_arena *keep, *work;
    float x[T * D], enc[S * D], dy[T * D];
    float values[1024], grads[1024];
    int used;
} probe;

static float *take(probe *p, int n, float scale, float shift, float **grad)
{
    float *w = p->values + p->used;
    assert_true(p->used + n <= 1024);
    for (int i = 0; i < n; i++)
        w[i] = shift + scale * pac_rng_normal(9, PAC_STREAM_TEST, (uint64_t)(p->used + i));
    *grad = p->grads + p->used;
    p->used += n;
    return w;
}

static void fill_linear(probe *p, pac_linear *l, int out, int in)
{
    l->w = take(p, out * in, 0.6f, 0, &l->dw);
    if (p->cfg.biases)
        l->b = take(p, out, 0.4f, 0, &l->db);
}

static void fill_norm(probe *p, pac_norm *n)
{
    n->w = take(p, D, 0.2f, 1, &n->dw);
    if (p->cfg.norm == PAC_NORM_LAYER)
        n->b = take(p, D, 0.3f, 0, &n->db);
}

static void fill_attention(probe *p, pac_attn_weights *a)
{
    fill_norm(p, &a->norm);
    fill_linear(p, &a->q, H * K, D);
    fill_linear(p, &a->k, H * K, D);
    fill_linear(p, &a->v, H * K, D);
    fill_linear(p, &a->o, D, H * K);
}

static void make_probe(probe *p, pac_norm_kind norm, bool post, bool gated)
{
    *p = (probe){.cfg = {.D = D, .H = H, .K = K, .F = F, .norm = norm, .post_norm = post, .eps = 1e-5f, .act = PAC_ACT_GELU},
                 .batch = {.B = B, .soff = soff, .toff = toff}};
    p->cfg.gated = gated;
    p->cfg.biases = norm == PAC_NORM_LAYER;
    p->cfg.cross = p->cfg.causal = true;
    p->cfg.scale = 0.6f;
    fill_attention(p, &p->w.self);
    fill_attention(p, &p->w.cross);
    fill_norm(p, &p->w.ff_norm);
    fill_linear(p, &p->w.wi, F, D);
    if (gated)
        fill_linear(p, &p->w.wg, F, D);
    fill_linear(p, &p->w.wo, D, F);
    for (int i = 0; i < T * D; i++) {
        p->x[i] = pac_rng_normal(1, PAC_STREAM_TEST, (uint64_t)i);
        p->dy[i] = pac_rng_normal(2, PAC_STREAM_TEST, (uint64_t)i);
    }
    for (int i = 0; i < S * D; i++)
        p->enc[i] = pac_rng_normal(3, PAC_STREAM_TEST, (uint64_t)i);
    OK(pac_arena_new(PAC_MEM_ACTIVATIONS, &p->keep));
    OK(pac_arena_new(PAC_MEM_WORK, &p->work));
    p->io = (pac_block_io){.be = reference(), .work = p->work, .batch = &p->batch, .stack = PAC_DEC, .enc = p->enc};
}

/* <dy, block(x)> */
static double value(probe *p)
{
    float y[T * D];
    double sum = 0;
    OK(pac_block_fwd(y, p->x, &p->cfg, &p->w, &p->io, NULL, NULL));
    for (int i = 0; i < T * D; i++)
        sum += (double)y[i] * p->dy[i];
    return sum;
}

/* The gradient g[0..n) of value() in v[0..n) against central differences, as a part of its norm. */
static void check_differences(probe *p, const char *what, float *v, const float *g, int n)
{
    double off = 0, norm = 0;
    for (int i = 0; i < n; i++) {
        float at = v[i], h = 4e-3f;
        v[i] = at + h;
        double up = value(p);
        v[i] = at - h;
        double slope = (up - value(p)) / (2 * (double)h);
        v[i] = at;
        off += (slope - g[i]) * (slope - g[i]);
        norm += slope * slope;
    }
    if (!(sqrt(off) <= 2e-3 * sqrt(norm))) /* float32 forward, differences of second order */
        fail_msg("%s: %.3g off", what, sqrt(off / norm));
}

static void test_block_gradients(void **state)
{
    (void)state;
    for (int kind = 0; kind < 8; kind++) {
        probe p;
        pac_block_saved *saved;
        float y[T * D], again[T * D], dx[T * D], denc[S * D];
        make_probe(&p, kind & 1 ? PAC_NORM_LAYER : PAC_NORM_RMS, kind & 2, kind & 4);
        for (int i = 0; i < S * D; i++)
            denc[i] = 1; /* accumulates */
        OK(pac_block_fwd(y, p.x, &p.cfg, &p.w, &p.io, p.keep, &saved));
        memcpy(again, p.x, sizeof again);
        OK(pac_block_fwd(again, again, &p.cfg, &p.w, &p.io, NULL, NULL)); /* in place, nothing kept */
        assert_memory_equal(again, y, sizeof y);
        memcpy(dx, p.dy, sizeof dx);
        OK(pac_block_bwd(dx, denc, dx, &p.cfg, &p.w, &p.io, saved)); /* in place */
        for (int i = 0; i < S * D; i++)
            denc[i] -= 1;
        check_differences(&p, "dx", p.x, dx, T * D);
        check_differences(&p, "denc", p.enc, denc, S * D);
        check_differences(&p, "parameters", p.values, p.grads, p.used);
        pac_arena_free(&p.keep);
        pac_arena_free(&p.work);
    }
}

/* A frozen block passes the same gradient on and touches nothing else. */
static void test_frozen_block(void **state)
{
    (void)state;
    probe p;
    pac_block_saved *saved;
    float y[T * D], dx[T * D], frozen[T * D];
    make_probe(&p, PAC_NORM_RMS, false, true);
    OK(pac_block_fwd(y, p.x, &p.cfg, &p.w, &p.io, p.keep, &saved));
    OK(pac_block_bwd(dx, NULL, p.dy, &p.cfg, &p.w, &p.io, saved));
    pac_linear *linears[] = {&p.w.self.q,  &p.w.self.k,  &p.w.self.v, &p.w.self.o, &p.w.cross.q, &p.w.cross.k,
                             &p.w.cross.v, &p.w.cross.o, &p.w.wi,     &p.w.wg,     &p.w.wo};
    for (size_t i = 0; i < sizeof linears / sizeof linears[0]; i++)
        linears[i]->dw = linears[i]->db = NULL;
    p.w.self.norm.dw = p.w.cross.norm.dw = p.w.ff_norm.dw = NULL;
    memset(p.grads, 0, sizeof p.grads);
    OK(pac_block_bwd(frozen, NULL, p.dy, &p.cfg, &p.w, &p.io, saved));
    assert_memory_equal(frozen, dx, sizeof dx);
    for (int i = 0; i < p.used; i++)
        assert_true(p.grads[i] == 0);
    pac_arena_free(&p.keep);
    pac_arena_free(&p.work);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_sizes),
        cmocka_unit_test(test_bad_options_are_refused),
        cmocka_unit_test(test_what_is_read),
        cmocka_unit_test(test_names_and_owners),
        cmocka_unit_test(test_random_values_do_not_depend_on_the_slice),
        cmocka_unit_test(test_faults_of_the_caller),
        cmocka_unit_test(test_block_gradients),
        cmocka_unit_test(test_frozen_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
