/*
 * Parallel adapters against PyTorch: logits, losses, the gradient of every parameter and ten steps of AdamW and SGD, for every
 * fixture and backend; and the network cut into slices in every possible way against the network as a whole.
 */
#include "golden.h"

#include <math.h>

enum { STEPS = 10, MAX_SLICES = 8 };

static const struct {
    const char *model, *file;
} variants[] = {
    {"t5v10", "learned_all_none_lm.safetensors"},   {"t5v10", "none_all_add_lm.safetensors"},
    {"t5v10", "learned_list_gated_lm.safetensors"}, {"t5v10", "none_list_add_cls.safetensors"},
    {"t5v10", "learned_all_none_reg.safetensors"},  {"t5v11", "none_all_none_lm.safetensors"},
    {"t5v11", "learned_list_add_lm.safetensors"},   {"t5v11", "none_all_gated_lm.safetensors"},
    {"t5v11", "learned_all_gated_cls.safetensors"}, {"t5v11", "none_list_none_reg.safetensors"},
};

enum { VARIANTS = sizeof variants / sizeof variants[0] };

typedef struct fixture {
    const char *name;
    const pac_backend *be;
    pac_model_desc d;
    pac_tune_opts o;
    pac_st *f;
    pac_batch batch;
    pac_model *model;
    pac_acts acts;
    pac_arena *rows, *keep, *work;
    int64_t L, T;
} fixture;

static void read_options(fixture *x)
{
    const int32_t *v = golden_tensor(x->f, "options").data, *has = golden_tensor(x->f, "has_layer").data;
    x->o = (pac_tune_opts){.gate = (pac_gate)v[0],
                           .merge = (pac_merge)v[1],
                           .head = (pac_head)v[2],
                           .classes = v[3],
                           .reduction = v[4],
                           .init = PAC_INIT_RANDOM};
    for (int64_t l = 0; l < x->L; l++)
        x->o.has_layer[l] = has[l] != 0;
}

static void open_fixture(fixture *x, int variant, const pac_backend *be)
{
    float *final_enc;
    *x = (fixture){.name = variants[variant].file, .be = be};
    OK(pac_model_describe(golden_path(variants[variant].model, NULL), &x->d));
    x->L = x->d.layers[0] + x->d.layers[1];
    x->f = golden_open(variants[variant].model, variants[variant].file);
    x->batch = golden_batch(x->f);
    x->T = x->batch.toff[x->batch.B];
    read_options(x);
    OK(pac_arena_new(PAC_MEM_ACTIVATIONS, &x->rows));
    OK(pac_arena_new(PAC_MEM_ACTIVATIONS, &x->keep));
    OK(pac_arena_new(PAC_MEM_WORK, &x->work));
    OK(pac_model_load(&x->d, be, 0, x->L, PAC_LOAD_HEAD, &x->model));
    golden_rows(&x->d, x->model, &x->batch, &x->acts, &final_enc, x->rows, x->work);
}

static void close_fixture(fixture *x)
{
    pac_model_free(&x->model);
    pac_arena_free(&x->rows);
    pac_arena_free(&x->keep);
    pac_arena_free(&x->work);
    pac_st_close(&x->f);
}

static const float *of_param(const fixture *x, const char *prefix, const pac_param *p)
{
    char name[128];
    snprintf(name, sizeof name, "%s%s", prefix, p->name);
    return golden_f32(x->f, name, p->n);
}

/* The slice of the fixture's side network, its parameters as stored. */
static pac_tuned *make_side(const fixture *x, int64_t first, int64_t last)
{
    pac_tuned *s = NULL;
    OK(pac_tuned_new(&x->d, &x->o, x->be, first, last, true, &s));
    pac_params *p = pac_tuned_params(s);
    for (int64_t i = 0; i < p->count; i++)
        memcpy(p->v[i].w, of_param(x, "", &p->v[i]), (size_t)p->v[i].n * sizeof(float));
    return s;
}

/* Loss of class logits [B, classes], which become their gradient. */
static double cls_loss(const fixture *x, float *logits)
{
    int64_t B = x->batch.B;
    float each[64];
    double sum = 0;
    if (x->o.classes > 1) {
        x->be->xent(each, logits, x->batch.cls, B, x->o.classes, 1.0f / (float)B, true);
        for (int64_t b = 0; b < B; b++)
            sum += each[b];
        return sum / (double)B;
    }
    for (int64_t b = 0; b < B; b++) {
        double e = (double)logits[b] - x->batch.value[b];
        sum += e * e;
        logits[b] = (float)(2 * e / (double)B);
    }
    return sum / (double)B;
}

/* The pass of a case: activations and results in keep. */
#define PASS(x) ((pac_pass){.batch = &(x)->batch, .keep = (x)->keep, .work = (x)->work})

/* Logits and loss from h; dh. `s` holds the classification head, if there is one. */
static double loss_of(fixture *x, pac_tuned *s, const float *h, float *dh, bool check)
{
    bool lm = x->o.head == PAC_HEAD_LM;
    int64_t N = lm ? x->T : x->batch.B, V = lm ? x->d.vocab : x->o.classes;
    float *logits;
    OK(pac_arena_floats(x->keep, N * V, &logits));
    if (lm)
        OK(pac_model_logits(x->model, logits, h, N, x->work));
    else
        OK(pac_cls_fwd(s, &PASS(x), logits, h));
    if (check)
        golden_near("logits", logits, golden_f32(x->f, "logits", N * V), N * V, 1e-5);
    double loss = lm ? golden_lm_loss(x->be, logits, &x->batch, V) : cls_loss(x, logits);
    if (lm)
        OK(pac_model_logits_bwd(x->model, dh, logits, N, x->work));
    else
        OK(pac_cls_bwd(s, &PASS(x), dh, logits, h));
    return loss;
}

/* Forward and backward of the whole network; gradients accumulate. */
static double pass(fixture *x, pac_tuned *s, bool check)
{
    pac_side_saved *saved;
    float *h, *dh;
    pac_side_state out;
    pac_arena_reset(x->keep);
    OK(pac_side_fwd(pac_tuned_side(s), &PASS(x), &x->acts, NULL, &out, &h, true, &saved));
    assert_true(out.a == NULL && out.enc == NULL);
    OK(pac_arena_floats(x->keep, x->T * x->d.block[0].D, &dh));
    double loss = loss_of(x, s, h, dh, check);
    OK(pac_side_bwd(pac_tuned_side(s), &PASS(x), &x->acts, NULL, dh, NULL, saved));
    return loss;
}

static void near_loss(const fixture *x, double got, double want)
{
    if (!(fabs(got - want) <= 1e-5 * fabs(want)))
        fail_msg("%s %s: loss %.9g, expected %.9g", x->name, x->be->name, got, want);
}

static void check_gradients(fixture *x)
{
    pac_tuned *s = make_side(x, 0, x->L);
    pac_params *p = pac_tuned_params(s);
    char what[256];
    near_loss(x, pass(x, s, true), *golden_f32(x->f, "loss", 1));
    for (int64_t i = 0; i < p->count; i++) {
        snprintf(what, sizeof what, "%s %s grad.%s", x->name, x->be->name, p->v[i].name);
        golden_near(what, p->v[i].g, of_param(x, "grad.", &p->v[i]), p->v[i].n, 1e-4);
    }
    pac_tuned_free(&s);
}

/* Every stored parameter has its counterpart: as many gradients in the file as parameters here. */
static void check_names(fixture *x)
{
    pac_tuned *s = make_side(x, 0, x->L);
    int64_t stored = 0;
    for (int64_t i = 0; i < pac_st_count(x->f); i++)
        stored += strncmp(pac_st_name(x->f, i), "grad.", 5) == 0;
    assert_int_equal(pac_tuned_params(s)->count, stored);
    assert_int_equal(pac_tuned_params(s)->total, pac_tune_parameters(&x->d, &x->o) + pac_head_parameters(&x->d, &x->o));
    pac_tuned_free(&s);
}

static double distance_between(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sqrt(sum);
}

/* Ten steps: the losses on the way, and the distance from PyTorch's end as a part of the way that each parameter went. */
static void check_training(fixture *x, pac_optimizer_kind kind)
{
    const char *prefix = kind == PAC_ADAMW ? "adamw." : "sgd.";
    char name[32];
    pac_optimizer *opt = NULL;
    pac_tuned *s = make_side(x, 0, x->L);
    pac_params *p = pac_tuned_params(s);
    snprintf(name, sizeof name, "%slosses", prefix);
    const float *losses = golden_f32(x->f, name, STEPS);
    snprintf(name, sizeof name, "%slr", prefix);
    float lr = *golden_f32(x->f, name, 1);
    OK(pac_optimizer_new(&(pac_optimizer_opts){.kind = kind, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f}, p->total, &opt));
    for (int i = 0; i < STEPS; i++) {
        near_loss(x, pass(x, s, false), losses[i]);
        pac_optimizer_step(opt, x->be, p, lr, 1.0f);
    }
    for (int64_t i = 0; i < p->count; i++) {
        const pac_param *q = &p->v[i];
        const float *want = of_param(x, prefix, q);
        double moved = distance_between(want, of_param(x, "", q), q->n), off = distance_between(q->w, want, q->n);
        if (!(off <= 1e-3 * moved))
            fail_msg("%s %s %s%s: %.3g of the way off", x->name, x->be->name, prefix, q->name, off / moved);
    }
    pac_optimizer_free(&opt);
    pac_tuned_free(&s);
}

static void test_variants_agree(void **state)
{
    (void)state;
    const pac_backend *be[2];
    int n = golden_backends(be);
    for (int v = 0; v < VARIANTS; v++)
        for (int i = 0; i < n; i++) {
            fixture x;
            open_fixture(&x, v, be[i]);
            check_names(&x);
            check_gradients(&x);
            check_training(&x, PAC_ADAMW);
            check_training(&x, PAC_SGD);
            close_fixture(&x);
        }
}

/* ---- slices ---- */

typedef struct chain {
    int n;
    int64_t first[MAX_SLICES + 1];
    pac_tuned *side[MAX_SLICES];
    pac_side_state in[MAX_SLICES + 1]; /* in[i + 1] is slice i's out */
    pac_side_saved *saved[MAX_SLICES];
    float *h;
} chain;

/* Rows outside the slice are absent, as in a pipeline stage. */
static pac_acts rows_in_slice(const fixture *x, int64_t first, int64_t last)
{
    pac_acts a = {0};
    int64_t E = x->d.layers[0];
    for (int64_t l = first; l < last; l++) {
        int s = l < E ? PAC_ENC : PAC_DEC;
        int64_t i = s == PAC_ENC ? l : l - E;
        a.b[s][i + 1] = x->o.has_layer[l] ? x->acts.b[s][i + 1] : NULL;
        if (i == 0)
            a.b[s][0] = x->acts.b[s][0];
    }
    a.final = last == x->L ? x->acts.final : NULL;
    return a;
}

static void chain_fwd(fixture *x, chain *c, unsigned cuts, bool keep)
{
    *c = (chain){0};
    for (int64_t first = 0, last; first < x->L; first = last) {
        for (last = first + 1; last < x->L && !(cuts >> (last - 1) & 1); last++)
            continue;
        pac_acts acts = rows_in_slice(x, first, last);
        int i = c->n++;
        c->first[i + 1] = last;
        c->side[i] = make_side(x, first, last);
        assert_int_equal(pac_tuned_params(c->side[i])->total, pac_tune_slice_parameters(&x->d, &x->o, first, last));
        OK(pac_side_fwd(pac_tuned_side(c->side[i]), &PASS(x), &acts, &c->in[i], &c->in[i + 1], &c->h, keep, &c->saved[i]));
        assert_true((c->h != NULL) == (last == x->L));
    }
}

static void chain_bwd(fixture *x, chain *c, const float *dh)
{
    pac_side_state d = {0};
    for (int i = c->n - 1; i >= 0; i--) {
        pac_side_state din;
        pac_acts acts = rows_in_slice(x, c->first[i], c->first[i + 1]);
        OK(pac_side_bwd(pac_tuned_side(c->side[i]), &PASS(x), &acts, &d, i == c->n - 1 ? dh : NULL, &din, c->saved[i]));
        assert_true((din.a != NULL) == (c->in[i].a != NULL) && (din.enc != NULL) == (c->in[i].enc != NULL));
        d = din;
    }
}

static void sum_gradients(const chain *c, const pac_params *whole, float *sum)
{
    memset(sum, 0, (size_t)whole->total * sizeof *sum);
    for (int i = 0; i < c->n; i++) {
        const pac_params *p = pac_tuned_params(c->side[i]);
        for (int64_t j = 0; j < p->count; j++)
            for (int64_t k = 0; k < whole->count; k++)
                if (strcmp(p->v[j].name, whole->v[k].name) == 0)
                    for (int64_t e = 0; e < p->v[j].n; e++)
                        sum[whole->v[k].w - whole->w + e] += p->v[j].g[e];
    }
}

static void check_cuts(fixture *x, unsigned cuts)
{
    int64_t n = x->T * x->d.block[0].D;
    pac_tuned *whole = make_side(x, 0, x->L);
    pac_params *p = pac_tuned_params(whole);
    float *h, *dh, *sum;
    pac_side_saved *saved;
    chain c, eval;
    pac_arena_reset(x->keep);
    OK(pac_side_fwd(pac_tuned_side(whole), &PASS(x), &x->acts, NULL, NULL, &h, true, &saved));
    OK(pac_arena_floats(x->keep, n, &dh));
    for (int64_t i = 0; i < n; i++)
        dh[i] = sinf((float)i);
    OK(pac_side_bwd(pac_tuned_side(whole), &PASS(x), &x->acts, NULL, dh, NULL, saved));
    chain_fwd(x, &c, cuts, true);
    assert_memory_equal(c.h, h, (size_t)n * sizeof *h);
    chain_bwd(x, &c, dh);
    chain_fwd(x, &eval, cuts, false);
    assert_memory_equal(eval.h, h, (size_t)n * sizeof *h);
    OK(pac_arena_floats(x->keep, p->total, &sum));
    sum_gradients(&c, p, sum);
    for (int64_t i = 0; i < p->count; i++)
        if (strncmp(p->v[i].name, "head.", 5) != 0)
            golden_near(p->v[i].name, sum + (p->v[i].w - p->w), p->v[i].g, p->v[i].n, 1e-6);
    for (int i = 0; i < c.n; i++) {
        pac_tuned_free(&c.side[i]);
        pac_tuned_free(&eval.side[i]);
    }
    pac_tuned_free(&whole);
}

static void test_slices_equal_the_whole(void **state)
{
    (void)state;
    const pac_backend *be[2];
    golden_backends(be);
    for (int v = 0; v < VARIANTS; v++) {
        fixture x;
        open_fixture(&x, v, be[1]);
        for (unsigned cuts = 0; cuts < 1u << (x.L - 1); cuts++)
            check_cuts(&x, cuts);
        close_fixture(&x);
    }
    assert_int_equal(pac_mem_current(PAC_MEM_TUNED), 0);
    assert_int_equal(pac_mem_current(PAC_MEM_GRADIENTS), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_variants_agree), cmocka_unit_test(test_slices_equal_the_whole)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
