/* The frozen backbone against Hugging Face: every row the side network may read, logits and loss; whole and layer by layer. */
#include "golden.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct fixture {
    const char *model;
    const pac_backend *be;
    pac_model_desc d;
    pac_st *want;
    pac_batch batch;
    pac_arena *keep, *work;
} fixture;

static void open_fixture(fixture *f, const char *model, const pac_backend *be)
{
    *f = (fixture){.model = model, .be = be};
    OK(pac_model_describe(golden_path(model, NULL), &f->d));
    f->want = golden_open(model, "backbone.safetensors");
    f->batch = golden_batch(f->want);
    OK(pac_arena_new(PAC_MEM_ACTIVATIONS, &f->keep));
    OK(pac_arena_new(PAC_MEM_WORK, &f->work));
}

static void close_fixture(fixture *f)
{
    pac_arena_free(&f->keep);
    pac_arena_free(&f->work);
    pac_st_close(&f->want);
}

static void check_rows(const fixture *f, const char *stack, int64_t i, const float *x, int64_t N)
{
    char name[64], what[128];
    snprintf(name, sizeof name, "b.%s.%lld", stack, (long long)i);
    snprintf(what, sizeof what, "%s %s %s", f->model, f->be->name, name);
    golden_near(what, x, golden_f32(f->want, name, N * f->d.block[0].D), N * f->d.block[0].D, 1e-5);
}

static void check_whole(fixture *f)
{
    int64_t L = f->d.layers[0] + f->d.layers[1], S = f->batch.soff[f->batch.B], T = f->batch.toff[f->batch.B];
    int64_t D = f->d.block[0].D, V = f->d.vocab;
    pac_model *m = NULL;
    pac_acts acts;
    float *final_enc, *logits;
    OK(pac_model_load(&f->d, f->be, 0, L, PAC_LOAD_HEAD, &m));
    golden_rows(&f->d, m, &f->batch, &acts, &final_enc, f->keep, f->work);
    for (int64_t i = 0; i <= f->d.layers[PAC_ENC]; i++)
        check_rows(f, "enc", i, acts.b[PAC_ENC][i], S);
    for (int64_t i = 0; i <= f->d.layers[PAC_DEC]; i++)
        check_rows(f, "dec", i, acts.b[PAC_DEC][i], T);
    golden_near("final.enc", final_enc, golden_f32(f->want, "final.enc", S * D), S * D, 1e-5);
    golden_near("final.dec", acts.final, golden_f32(f->want, "final.dec", T * D), T * D, 1e-5);
    OK(pac_arena_floats(f->keep, T * V, &logits));
    OK(pac_model_logits(m, logits, acts.final, T, f->work));
    golden_near("logits", logits, golden_f32(f->want, "logits", T * V), T * V, 1e-5);
    double want = *golden_f32(f->want, "loss", 1), loss = golden_lm_loss(f->be, logits, &f->batch, V);
    assert_true(fabs(loss - want) <= 1e-5 * want);
    pac_model_free(&m);
}

/* Each layer loaded alone gives the same bits as in the whole model. */
static void check_layers(fixture *f)
{
    int64_t E = f->d.layers[0], L = E + f->d.layers[1], D = f->d.block[0].D;
    pac_model *whole = NULL;
    pac_acts acts;
    float *final_enc, *y;
    OK(pac_model_load(&f->d, f->be, 0, L, 0, &whole));
    golden_rows(&f->d, whole, &f->batch, &acts, &final_enc, f->keep, f->work);
    for (int64_t l = 0; l < L; l++) {
        pac_model *m = NULL;
        int s = l < E ? PAC_ENC : PAC_DEC;
        int64_t i = l - (s == PAC_DEC ? E : 0), N = s == PAC_ENC ? f->batch.soff[f->batch.B] : f->batch.toff[f->batch.B];
        OK(pac_arena_floats(f->keep, N * D, &y));
        OK(pac_model_load(&f->d, f->be, l, l + 1, 0, &m));
        if (i == 0) {
            OK(pac_model_embed(m, (pac_stack)s, &f->batch, y));
            assert_memory_equal(y, acts.b[s][0], (size_t)(N * D) * sizeof *y);
        } else {
            assert_int_equal(pac_model_embed(m, (pac_stack)s, &f->batch, y), PAC_EINVAL);
        }
        memcpy(y, acts.b[s][i], (size_t)(N * D) * sizeof *y);
        OK(pac_model_block(m, l, &f->batch, final_enc, y, y, f->work)); /* in place */
        assert_memory_equal(y, acts.b[s][i + 1], (size_t)(N * D) * sizeof *y);
        pac_model_free(&m);
    }
    pac_model_free(&whole);
}

static void test_backbone_agrees(void **state)
{
    (void)state;
    const pac_backend *be[2];
    int n = golden_backends(be);
    for (const char *const *model = golden_models; *model != NULL; model++)
        for (int i = 0; i < n; i++) {
            fixture f;
            open_fixture(&f, *model, be[i]);
            check_whole(&f);
            check_layers(&f);
            close_fixture(&f);
        }
    assert_int_equal(pac_mem_current(PAC_MEM_WEIGHTS), 0);
}

static void copy_file(const char *from, const char *to)
{
    char block[4096];
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    assert_non_null(in);
    assert_non_null(out);
    for (size_t n; (n = fread(block, 1, sizeof block, in)) > 0;)
        assert_int_equal(fwrite(block, 1, n, out), n);
    fclose(in);
    assert_int_equal(fclose(out), 0);
}

/* Published v1.1 configs and those that transformers 5 writes describe the same model. */
static void test_both_config_dialects(void **state)
{
    (void)state;
    pac_model_desc v10, v11, v5;
    char dir[] = "/tmp/pac-golden-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/config.json", dir);
    copy_file(golden_path("t5v11", "config_transformers5.json"), path);
    OK(pac_model_describe(dir, &v5));
    unlink(path);
    rmdir(dir);
    OK(pac_model_describe(golden_path("t5v10", NULL), &v10));
    OK(pac_model_describe(golden_path("t5v11", NULL), &v11));
    assert_true(v10.tied && !v11.tied && !v5.tied);
    assert_true(fabsf(v10.head_scale - 1 / sqrtf(32)) < 1e-7f && v11.head_scale == 1.0f && v5.head_scale == 1.0f);
    assert_true(!v10.block[0].gated && v11.block[0].gated && v5.block[0].gated);
    assert_true(v11.block[0].act == PAC_ACT_GELU_NEW && v5.block[0].act == PAC_ACT_GELU_NEW);
    assert_true(v10.layers[PAC_ENC] == 2 && v10.layers[PAC_DEC] == 3 && v5.layers[PAC_ENC] == 3 && v5.layers[PAC_DEC] == 2);
    assert_int_equal(pac_model_parameters(&v5), pac_model_parameters(&v11));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_backbone_agrees), cmocka_unit_test(test_both_config_dialects)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
