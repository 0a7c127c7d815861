/* Initialisation by pruning on weight magnitude, against the fixtures: the whole network, and cut into slices. */
#include "golden.h"

enum { K = 4 };

static pac_tune_opts options(const pac_model_desc *d)
{
    pac_tune_opts o = {.reduction = K, .gate = PAC_GATE_LEARNED, .init = PAC_INIT_MAGNITUDE, .seed = 7};
    for (int64_t l = 0; l < d->layers[0] + d->layers[1]; l++)
        o.has_layer[l] = true;
    return o;
}

/* imp [2 * D] += the part of layers [first, last) */
static void add_part(const pac_model_desc *d, const pac_backend *be, int64_t first, int64_t last, double *imp)
{
    pac_tune_opts o = options(d);
    pac_tuned *s = NULL;
    pac_model *m = NULL;
    double part[2 * 64];
    OK(pac_tuned_new(d, &o, be, first, last, true, &s));
    OK(pac_model_load(d, be, first, last, 0, &m));
    OK(pac_tuned_importance(s, m, part));
    for (int64_t i = 0; i < 2 * d->block[0].D; i++)
        imp[i] += part[i];
    pac_model_free(&m);
    pac_tuned_free(&s);
}

/* Parameters that have a counterpart equal the fixture's; those of the whole network appear `*seen` times. */
static void check_slice(const pac_model_desc *d, const pac_backend *be, int64_t first, int64_t last, const double *imp,
                        const pac_st *f, int64_t *seen)
{
    pac_tune_opts o = options(d);
    pac_tuned *s = NULL;
    pac_model *m = NULL;
    OK(pac_tuned_new(d, &o, be, first, last, true, &s));
    OK(pac_model_load(d, be, first, last, 0, &m));
    OK(pac_tuned_init(s, m, imp));
    const pac_params *p = pac_tuned_params(s);
    for (int64_t i = 0; i < p->count; i++) {
        bool found;
        pac_tensor t;
        pac_st_find(f, p->v[i].name, &found, &t);
        if (!found)
            continue;
        ++*seen;
        const float *want = golden_f32(f, p->v[i].name, p->v[i].n);
        if (memcmp(golden_read(be, p->v[i].w, p->v[i].n), want, (size_t)p->v[i].n * sizeof *want) != 0)
            fail_msg("%s, slice [%d, %d): %s differs", d->dir, (int)first, (int)last, p->v[i].name);
    }
    pac_model_free(&m);
    pac_tuned_free(&s);
    golden_forget();
}

static int64_t pruned_in_fixture(const pac_st *f)
{
    int64_t n = 0;
    for (int64_t i = 0; i < pac_st_count(f); i++)
        n += strncmp(pac_st_name(f, i), "select.", 7) != 0;
    return n;
}

static void check_model(const char *model, const pac_backend *be)
{
    pac_model_desc d;
    OK(pac_model_describe(golden_path(model, NULL), &d));
    pac_st *f = golden_open(model, "magnitude.safetensors");
    int64_t L = d.layers[0] + d.layers[1], seen = 0;
    double whole[2 * 64] = {0}, parts[2 * 64] = {0};
    add_part(&d, be, 0, L, whole);
    check_slice(&d, be, 0, L, whole, f, &seen);
    assert_int_equal(seen, pruned_in_fixture(f));
    for (int64_t l = 0; l < L; l++)
        add_part(&d, be, l, l + 1, parts);
    for (int64_t l = 0; l < L; l++)
        check_slice(&d, be, l, l + 1, parts, f, &seen);
    assert_true(seen > 2 * pruned_in_fixture(f)); /* tables are in several slices */
    pac_st_close(&f);
}

static void test_pruning_agrees(void **state)
{
    (void)state;
    const pac_backend *be[GOLDEN_BACKENDS];
    int n = golden_backends(be);
    for (const char *const *model = golden_models; *model != NULL; model++)
        for (int i = 0; i < n; i++)
            check_model(*model, be[i]);
}

int main(int argc, char **argv)
{
    int skipped = golden_arguments(argc, argv);
    if (skipped != 0)
        return skipped;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pruning_agrees)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
