/*
 * Every technique on every family against PyTorch, Hugging Face and PEFT: logits, losses, the gradient of every parameter and
 * ten steps of AdamW and SGD; the checkpoint's own head; evaluation without gradients; and the model cut into slices in every
 * possible way against the whole.
 */
#include "network.h"

#include <math.h>

enum { STEPS = 10 };

static const struct {
    const char *model;
    const char *files[12]; /* NULL behind the last */
} fixtures[] = {
    {"tiny/t5v10", {"full_lm", "adapters_lm", "adapters_cls", "lora_lm", "lora_reg"}},
    {"tiny/t5v11", {"full_lm", "full_reg", "adapters_lm", "lora_cls"}},
    {"tiny/bart",
     {"full_lm", "full_cls", "adapters_lm", "adapters_reg", "lora_lm", "lora_cls", "parallel_learned_all_add_lm",
      "parallel_none_list_none_cls", "parallel_learned_list_gated_reg"}},
    {"tiny/bert",
     {"full_cls", "full_separate_reg", "adapters_reg", "lora_cls", "lora_separate_cls3", "parallel_learned_all_add_cls",
      "parallel_none_all_gated_reg", "parallel_learned_all_add_separate_cls2", "parallel_none_list_none_separate_reg"}},
    {"tiny/distilbert",
     {"full_reg", "full_separate_cls2", "adapters_cls", "lora_reg", "lora_separate_cls2", "parallel_learned_all_none_cls"}},
    {"t5v10", {"learned_all_none_lm", "none_all_add_lm", "learned_list_gated_lm", "none_list_add_cls", "learned_all_none_reg"}},
    {"t5v11", {"none_all_none_lm", "learned_list_add_lm", "none_all_gated_lm", "learned_all_gated_cls", "none_list_none_reg"}},
};

/* All relative. Our arithmetic is float32, PyTorch's float64. */
static const struct {
    double forward;  /* logits and the first loss: some dozen roundings of 6e-8 through 4 to 6 layers */
    double gradient; /* of each tensor's norm: small gradients are sums of larger ones that cancel */
    double losses;   /* on the way: of what the parameters are off, a loss sees a part in first order */
    double trained;  /* of the way each tensor went: PyTorch's own float32 strays by up to 1e-4 (README.md) */
    double nothing;  /* true gradients of 0, against the norm of the whole gradient: pure rounding */
    double slices;   /* sums of the slices' gradients: another order of the same float32 additions */
} allowed = {.forward = 1e-5, .gradient = 1e-4, .losses = 5e-5, .trained = 1e-3, .nothing = 1e-6, .slices = 1e-6};

/* What a failure is about: model, fixture and backend. */
static char about[256];

static pac_st *open_file(const char *model, const char *file, const pac_backend *be)
{
    char name[128];
    snprintf(about, sizeof about, "%s %s %s", model, file, be->name);
    snprintf(name, sizeof name, "%s.safetensors", file);
    return golden_open(model, name);
}

static const float *stored(const network *x, const char *prefix, const pac_param *p)
{
    char name[160];
    snprintf(name, sizeof name, "%s%s", prefix, p->name);
    return golden_f32(x->f, name, p->n);
}

static bool undetermined(const network *x, const pac_param *p)
{
    char name[160];
    bool found;
    pac_tensor t;
    snprintf(name, sizeof name, "undetermined.%s", p->name);
    pac_st_find(x->f, name, &found, &t);
    return found;
}

static void near_loss(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance * fabs(want)))
        fail_msg("%s: loss %.9g, expected %.9g", about, got, want);
}

static void near_param(const char *prefix, const pac_param *p, const float *got, const float *want, double tolerance)
{
    char what[512];
    snprintf(what, sizeof what, "%s %s%s", about, prefix, p->name);
    golden_near(what, got, want, p->n, tolerance);
}

/* Forward, loss, backward; `check`: the logits too. */
static double whole_pass(network *x, bool check)
{
    int64_t n;
    float *dh, *h = network_forward(x, true), *logits = network_logits(x, h, &n);
    if (check)
        golden_near(about, golden_read(x->be, logits, n), golden_f32(x->f, "logits", n), n, allowed.forward);
    double loss = network_loss(x, logits, h, &dh);
    network_backward(x, dh);
    return loss;
}

/* ---- one fixture ---- */

/* Every stored parameter has its counterpart, and the counts say so. */
static void check_names(const network *x)
{
    int64_t n = 0;
    const pac_params *p = pac_tuned_params(x->tuned[0]);
    for (int64_t i = 0; i < pac_st_count(x->f); i++)
        n += strncmp(pac_st_name(x->f, i), "grad.", 5) == 0;
    assert_int_equal(p->count, n);
    assert_int_equal(p->total, pac_tune_parameters(&x->d, &x->o) + pac_head_parameters(&x->d, &x->o));
}

static void check_gradients(const char *model, const pac_st *f, const pac_backend *be)
{
    network x;
    network_open(&x, model, f, be, 0, true);
    const pac_params *p = pac_tuned_params(x.tuned[0]);
    check_names(&x);
    near_loss(whole_pass(&x, true), *golden_f32(f, "loss", 1), allowed.forward);
    double norm = sqrt(be->sumsq(p->g, p->total));
    for (int64_t i = 0; i < p->count; i++) {
        const pac_param *q = &p->v[i];
        if (!undetermined(&x, q))
            near_param("grad.", q, golden_read(be, q->g, q->n), stored(&x, "grad.", q), allowed.gradient);
        else if (!(sqrt(be->sumsq(q->g, q->n)) <= allowed.nothing * norm))
            fail_msg("%s: the gradient of %s should be 0", about, q->name);
    }
    network_close(&x);
}

static double distance_between(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sqrt(sum);
}

/* The distance from PyTorch's end as a part of the way that each parameter went. */
static void check_ends(const network *x, const pac_params *p, const float *start, const char *prefix)
{
    for (int64_t i = 0; i < p->count; i++) {
        const pac_param *q = &p->v[i];
        const float *want = stored(x, prefix, q);
        double moved = distance_between(want, start + (q->w - p->w), q->n),
               off = distance_between(golden_read(x->be, q->w, q->n), want, q->n);
        if (!undetermined(x, q) && !(off <= allowed.trained * moved))
            fail_msg("%s %s%s: %.3g of the way off", about, prefix, q->name, off / moved);
    }
}

static void check_training(const char *model, const pac_st *f, const pac_backend *be, pac_optimizer_kind kind)
{
    const char *prefix = kind == PAC_ADAMW ? "adamw." : "sgd.";
    char name[32];
    network x;
    pac_optimizer *opt = NULL;
    pac_arena *arena;
    float *start;
    network_open(&x, model, f, be, 0, true);
    pac_params *p = pac_tuned_params(x.tuned[0]);
    OK(pac_arena_new(PAC_MEM_WORK, &arena));
    OK(pac_arena_floats(arena, p->total, &start));
    OK(pac_download(p->space, start, p->w, p->total));
    snprintf(name, sizeof name, "%slosses", prefix);
    const float *losses = golden_f32(f, name, STEPS);
    snprintf(name, sizeof name, "%slr", prefix);
    float lr = *golden_f32(f, name, 1);
    OK(pac_optimizer_new(&(pac_optimizer_opts){.kind = kind, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f}, p->space, p->total,
                         &opt));
    for (int i = 0; i < STEPS; i++) {
        near_loss(whole_pass(&x, false), losses[i], i == 0 ? allowed.forward : allowed.losses);
        pac_optimizer_step(opt, be, p, lr, 1.0f);
    }
    check_ends(&x, p, start, prefix);
    pac_optimizer_free(&opt);
    pac_arena_free(&arena);
    network_close(&x);
}

/* Without gradients and with nothing kept, the same bits. */
static void check_evaluation(const char *model, const pac_st *f, const pac_backend *be)
{
    network x, y;
    int64_t n;
    network_open(&x, model, f, be, 0, true);
    network_open(&y, model, f, be, 0, false);
    float *a = network_logits(&x, network_forward(&x, true), &n), *b = network_logits(&y, network_forward(&y, false), &n);
    assert_null(pac_tuned_params(y.tuned[0])->g);
    assert_memory_equal(golden_read(be, a, n), golden_read(be, b, n), (size_t)n * sizeof *a);
    network_close(&x);
    network_close(&y);
}

/* Where a checkpoint has the head's first layer, a head starts from it. */
static void check_head_of_checkpoint(const char *model, const pac_st *f, const pac_backend *be)
{
    network x;
    network_open(&x, model, f, be, 0, true);
    pac_params *p = pac_tuned_params(x.tuned[0]);
    bool wanted = strstr(model, "bert") != NULL && !x.o.separate;
    OK(pac_tuned_init(x.tuned[0], x.model[0], NULL));
    for (int64_t i = 0; wanted && i < p->count; i++)
        if (strncmp(p->v[i].name, "head.dense.", 11) == 0)
            assert_memory_equal(golden_read(be, p->v[i].w, p->v[i].n), stored(&x, "", &p->v[i]),
                                (size_t)p->v[i].n * sizeof(float));
    network_close(&x);
}

/* ---- all fixtures ---- */

typedef void checker(const char *model, const pac_st *f, const pac_backend *be);

/* backends: of the last of golden_backends(), where there are more; 0: all. all: also fixtures that main() was not asked for */
static void for_each_fixture(checker *check, int backends, bool all)
{
    static const pac_mem_tag tags[] = {PAC_MEM_TUNED, PAC_MEM_GRADIENTS, PAC_MEM_WEIGHTS, PAC_MEM_OPTIMIZER};
    const pac_backend *be[GOLDEN_BACKENDS];
    int64_t before[4];
    int n = golden_backends(be);
    for (int i = 0; i < 4; i++)
        before[i] = pac_mem_current(tags[i]);
    for (size_t m = 0; m < sizeof fixtures / sizeof fixtures[0]; m++)
        for (const char *const *file = fixtures[m].files; *file != NULL; file++)
            for (int i = backends > 0 && backends < n ? n - backends : 0; i < n && (all || golden_chosen(*file)); i++) {
                pac_st *f = open_file(fixtures[m].model, *file, be[i]);
                check(fixtures[m].model, f, be[i]);
                pac_st_close(&f);
            }
    for (int i = 0; i < 4; i++)
        assert_int_equal(pac_mem_current(tags[i]), before[i]);
}

static void train_adamw(const char *model, const pac_st *f, const pac_backend *be)
{
    check_training(model, f, be, PAC_ADAMW);
}

static void train_sgd(const char *model, const pac_st *f, const pac_backend *be)
{
    check_training(model, f, be, PAC_SGD);
}

static void test_gradients(void **state)
{
    (void)state;
    for_each_fixture(check_gradients, 0, true);
}

static void test_training(void **state)
{
    (void)state;
    for_each_fixture(train_adamw, 2, false);
    for_each_fixture(train_sgd, 2, false);
}

static void test_evaluation(void **state)
{
    (void)state;
    for_each_fixture(check_evaluation, 1, true);
}

static void test_head_of_checkpoint(void **state)
{
    (void)state;
    for_each_fixture(check_head_of_checkpoint, 1, true);
}

/* ---- slices ---- */

/* Tied embeddings and position-bias tables are in several slices: their gradients add up to the whole's. */
static void add_gradients(const network *x, const pac_params *whole, float *sum)
{
    for (int i = 0; i < x->slices; i++) {
        const pac_params *p = pac_tuned_params(x->tuned[i]);
        int64_t from = 0;
        for (int64_t j = 0; j < p->count; j++) {
            const pac_param *q = pac_params_find(whole, p->v[j].name, &from);
            assert_non_null(q);
            x->be->axpy(sum + (q->w - whole->w), p->v[j].g, q->n, 1.0f);
        }
    }
}

static void check_slices(const network *whole, const float *h, double loss, network *x)
{
    const pac_params *p = pac_tuned_params(whole->tuned[0]);
    int64_t N = x->rows[x->d.layers[PAC_DEC] > 0 ? PAC_DEC : PAC_ENC];
    float *sum;
    assert_true(whole_pass(x, false) == loss);
    const float *again = network_forward(x, false);
    assert_memory_equal(golden_read(x->be, again, N * x->D), golden_read(x->be, h, N * x->D), (size_t)(N * x->D) * sizeof *h);
    OK(pac_arena_floats(x->keep, p->total, &sum));
    x->be->zero(sum, p->total);
    add_gradients(x, p, sum);
    for (int64_t i = 0; i < p->count; i++)
        if (!undetermined(whole, &p->v[i]))
            near_param("sum of slices, grad.", &p->v[i], golden_read(x->be, sum + (p->v[i].w - p->w), p->v[i].n),
                       golden_read(x->be, p->v[i].g, p->v[i].n), allowed.slices);
}

static void check_cuts(const char *model, const pac_st *f, const pac_backend *be)
{
    network whole, x;
    int64_t n;
    float *dh;
    network_open(&whole, model, f, be, 0, true);
    float *h = network_forward(&whole, true), *logits = network_logits(&whole, h, &n);
    double loss = network_loss(&whole, logits, h, &dh);
    network_backward(&whole, dh);
    for (unsigned cuts = 1; cuts < 1u << (whole.L - 1); cuts++) {
        network_open(&x, model, f, be, cuts, true);
        check_slices(&whole, h, loss, &x);
        network_close(&x);
    }
    network_close(&whole);
}

static void test_slices_equal_the_whole(void **state)
{
    (void)state;
    for_each_fixture(check_cuts, 1, false);
}

int main(int argc, char **argv)
{
    int skipped = golden_arguments(argc, argv);
    if (skipped != 0)
        return skipped;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gradients), cmocka_unit_test(test_training),
                                       cmocka_unit_test(test_evaluation), cmocka_unit_test(test_head_of_checkpoint),
                                       cmocka_unit_test(test_slices_equal_the_whole)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
