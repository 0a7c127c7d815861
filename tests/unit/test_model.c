/* Model directories: reading config.json, loading slices, hostile files, random models, identities, counts. */
#include "pac/model.h"
#include "pac/rng.h"
#include "pac/safetensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define OK(expr)                                                                                                               \
    do {                                                                                                                       \
        if ((expr) != PAC_OK)                                                                                                  \
            fail_msg("%s: %s", #expr, pac_err_message());                                                                      \
    } while (0)

/* A T5 with d 8, heads x width 6, 2 + 1 blocks. */
static const char tiny[] =
    "{\"model_type\": \"t5\", \"vocab_size\": 11, \"d_model\": 8, \"d_kv\": 3, \"num_heads\": 2, \"d_ff\": 12,"
    " \"num_layers\": 2, \"num_decoder_layers\": 1, \"feed_forward_proj\": \"relu\"%s}";

enum { PATH = 256 };

typedef struct place {
    char dir[PATH], config[PATH], weights[PATH], source[PATH];
} place;

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
}

static void put_config(const char *path, const char *more)
{
    char text[1024];
    snprintf(text, sizeof text, tiny, more);
    put(path, text);
}

static int set_up(void **state)
{
    place *p = calloc(1, sizeof *p);
    if (p == NULL)
        return -1;
    strcpy(p->dir, "/tmp/pac-model-XXXXXX");
    if (mkdtemp(p->dir) == NULL)
        return -1;
    snprintf(p->config, PATH, "%.200s/config.json", p->dir);
    snprintf(p->weights, PATH, "%.200s/model.safetensors", p->dir);
    snprintf(p->source, PATH, "%.200s/source.json", p->dir);
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    place *p = *state;
    unlink(p->config);
    unlink(p->weights);
    unlink(p->source);
    rmdir(p->dir);
    free(p);
    return 0;
}

static void make_tiny(const place *p, const char *more, uint64_t seed)
{
    unlink(p->weights);
    unlink(p->config);
    put_config(p->source, more);
    OK(pac_model_init(p->source, p->dir, seed));
}

static const pac_backend *reference(void)
{
    const pac_backend *be;
    OK(pac_backend_find("ref", &be));
    return be;
}

/* ---- config.json ---- */

static void refused(const place *p, const char *config, const char *part)
{
    pac_model_desc d;
    put(p->config, config);
    assert_int_equal(pac_model_describe(p->dir, &d), PAC_EDATA);
    if (strstr(pac_err_message(), part) == NULL || strstr(pac_err_message(), "config.json") == NULL)
        fail_msg("'%s' does not mention config.json and '%s'", pac_err_message(), part);
}

static void refused_more(const place *p, const char *more, const char *part)
{
    char text[1024];
    snprintf(text, sizeof text, tiny, more);
    refused(p, text, part);
}

static void test_bad_configs_are_refused(void **state)
{
    const place *p = *state;
    pac_model_desc d;
    assert_int_equal(pac_model_describe(p->dir, &d), PAC_EIO);
    refused(p, "", "JSON");
    refused(p, "[1, 2]", "object");
    refused(p, "{}", "model_type");
    refused(p, "{\"model_type\": \"gpt2\"}", "\"t5\"");
    refused(p, "{\"model_type\": \"t5\"}", "vocab_size is missing");
    refused(p, "{\"model_type\": \"t5\", \"vocab_size\": -4}", "vocab_size");
    refused(p, "{\"model_type\": \"t5\", \"vocab_size\": 1.5}", "integer");
    refused(p, "{\"model_type\": \"t5\", \"vocab_size\": 99999999999999999999}", "JSON");
    refused(p, "{\"model_type\": \"t5\", \"vocab_size\": 9223372036854775807}", "vocab_size");
    refused(
        p,
        "{\"model_type\": \"t5\", \"vocab_size\": 11, \"num_layers\": 1, \"d_ff\": 1, \"d_model\": 1048576, \"d_kv\": 1048576,"
        " \"num_heads\": 1048576}",
        "num_heads");
    refused_more(p, ", \"is_gated_act\": true", "is_gated_act");
    refused_more(p, ", \"dense_act_fn\": \"silu\"", "dense_act_fn");
    refused_more(p, ", \"is_encoder_decoder\": false", "is_encoder_decoder");
    refused_more(p, ", \"tie_word_embeddings\": \"yes\"", "tie_word_embeddings");
    refused_more(p, ", \"layer_norm_epsilon\": 0", "layer_norm_epsilon");
    refused_more(p, ", \"eos_token_id\": 11", "eos_token_id");
    refused_more(p, ", \"relative_attention_num_buckets\": 0", "buckets");
    refused_more(p, ", \"relative_attention_max_distance\": 16", "max_distance");
    refused_more(p, ", \"d_model\": 8", "JSON"); /* twice */
}

static void test_defaults_of_the_config(void **state)
{
    const place *p = *state;
    pac_model_desc d;
    put_config(p->config, ", \"eos_token_id\": [3, 4], \"pad_token_id\": 2, \"dropout_rate\": 0.5, \"unknown\": {}");
    OK(pac_model_describe(p->dir, &d));
    assert_true(d.eos_id == 3 && d.pad_id == 2 && d.start_id == 2);
    assert_true(d.tied && d.layers[PAC_ENC] == 2 && d.layers[PAC_DEC] == 1);
    assert_true(fabsf(d.head_scale - 1 / sqrtf(8)) < 1e-7f && fabsf(d.block[0].eps - 1e-6f) < 1e-12f);
    assert_true(d.block[0].buckets == 32 && d.block[0].max_distance == 128 && d.block[0].scale == 1.0f);
    assert_true(!d.block[0].causal && !d.block[0].cross && d.block[1].causal && d.block[1].cross);
}

/* ---- counts ---- */

static void described(const place *p, int64_t width, int64_t ff, int64_t layers, int64_t heads, const char *more,
                      pac_model_desc *d)
{
    char text[512];
    snprintf(
        text, sizeof text,
        "{\"model_type\": \"t5\", \"vocab_size\": 32128, \"d_model\": %lld, \"d_kv\": 64, \"d_ff\": %lld, \"num_layers\": %lld,"
        " \"num_heads\": %lld%s}",
        (long long)width, (long long)ff, (long long)layers, (long long)heads, more);
    put(p->config, text);
    OK(pac_model_describe(p->dir, d));
}

static void test_published_counts(void **state)
{
    const place *p = *state;
    pac_model_desc d;
    described(p, 512, 2048, 6, 8, "", &d);
    assert_int_equal(pac_model_parameters(&d), 60506624);
    described(p, 1024, 4096, 24, 16, "", &d);
    assert_int_equal(pac_model_parameters(&d), 737668096);
    described(p, 768, 2048, 12, 12, ", \"feed_forward_proj\": \"gated-gelu\", \"tie_word_embeddings\": false", &d);
    assert_int_equal(pac_model_parameters(&d), 247577856); /* flan-t5-base */
    described(p, 768, 3072, 12, 12, "", &d);
    assert_int_equal(pac_model_parameters(&d), 222903552);
    assert_int_equal(pac_model_slice_bytes(&d, 0, 24, true), 4 * INT64_C(222903552));
    /* A middle encoder layer: attention, feed-forward, two norms and the stack's table. */
    assert_int_equal(pac_model_slice_bytes(&d, 3, 4, false), 4 * (4 * 768 * 768 + 2 * 768 * 3072 + 2 * 768 + 32 * 12));
    /* A slice over the border of the stacks holds the embedding once. */
    int64_t both = pac_model_slice_bytes(&d, 0, 13, false), enc = pac_model_slice_bytes(&d, 0, 12, false);
    int64_t dec = pac_model_slice_bytes(&d, 12, 13, false);
    assert_int_equal(both, enc + dec - 4 * INT64_C(32128) * 768);
}

/* ---- loading ---- */

static void refused_weights(const pac_model_desc *d, const char *a, const char *b)
{
    pac_model *m = NULL;
    assert_int_equal(pac_model_load(d, reference(), 0, 3, PAC_LOAD_HEAD, &m), PAC_EDATA);
    assert_null(m);
    if (strstr(pac_err_message(), a) == NULL || strstr(pac_err_message(), b) == NULL)
        fail_msg("'%s' does not mention '%s' and '%s'", pac_err_message(), a, b);
    assert_int_equal(pac_mem_current(PAC_MEM_WEIGHTS), 0);
}

/* Write the model again with tensor `name` renamed, or of another type or shape. */
static void spoil(const place *p, const char *name, const char *new_name, pac_dtype type, int ndim)
{
    pac_st *f = NULL;
    OK(pac_st_open(p->weights, &f));
    int64_t n = pac_st_count(f);
    pac_st_entry *e = calloc((size_t)n, sizeof *e);
    char **copy = calloc((size_t)n, sizeof *copy);
    assert_true(e != NULL && copy != NULL);
    for (int64_t i = 0; i < n; i++) {
        pac_tensor t;
        pac_st_view(f, i, &t);
        size_t bytes = (size_t)pac_tensor_elements(&t) * sizeof(float);
        copy[i] = malloc(bytes + 1);
        assert_non_null(copy[i]);
        memcpy(copy[i], t.data, bytes);
        t.data = copy[i];
        e[i] = (pac_st_entry){.name = pac_st_name(f, i), .tensor = t};
        if (strcmp(e[i].name, name) == 0) {
            e[i].name = new_name;
            e[i].tensor.dtype = type;
            if (ndim == 1)
                e[i].tensor.shape[0] *= e[i].tensor.shape[1];
            e[i].tensor.ndim = ndim;
        }
    }
    OK(pac_st_write(p->weights, e, n, NULL));
    for (int64_t i = 0; i < n; i++)
        free(copy[i]);
    free(copy);
    free(e);
    pac_st_close(&f);
}

static void test_bad_weights_are_refused(void **state)
{
    const place *p = *state;
    const char *q = "encoder.block.1.layer.0.SelfAttention.q.weight";
    pac_model_desc d;
    make_tiny(p, "", 1);
    OK(pac_model_describe(p->dir, &d));
    spoil(p, q, "nonsense", PAC_F32, 2);
    refused_weights(&d, q, "missing");
    make_tiny(p, "", 1);
    spoil(p, q, q, PAC_I32, 2);
    refused_weights(&d, q, "i32");
    make_tiny(p, "", 1);
    spoil(p, q, q, PAC_F32, 1);
    refused_weights(&d, q, "shape [48]; config.json asks for [6, 8]");
    unlink(p->weights);
    pac_model *m = NULL;
    assert_int_not_equal(pac_model_load(&d, reference(), 0, 3, 0, &m), PAC_OK);
}

static void test_other_names_of_the_embedding(void **state)
{
    const place *p = *state;
    pac_model_desc d;
    pac_model *m = NULL;
    make_tiny(p, "", 1);
    OK(pac_model_describe(p->dir, &d));
    spoil(p, "shared.weight", "encoder.embed_tokens.weight", PAC_F32, 2);
    OK(pac_model_load(&d, reference(), 0, 3, PAC_LOAD_HEAD, &m));
    pac_model_free(&m);
}

static void test_slices_hold_only_their_own(void **state)
{
    const place *p = *state;
    pac_model_desc d;
    pac_model *m = NULL;
    pac_arena *work = NULL;
    float x[8] = {0}, logits[11];
    int64_t off[2] = {0, 1};
    int32_t id = 10;
    pac_batch b = {.B = 1, .soff = off, .toff = off, .sids = &id, .tids = &id};
    make_tiny(p, "", 1);
    OK(pac_model_describe(p->dir, &d));
    OK(pac_arena_new(PAC_MEM_WORK, &work));
    OK(pac_model_load(&d, reference(), 1, 2, PAC_LOAD_HEAD, &m));
    assert_int_equal(pac_mem_current(PAC_MEM_WEIGHTS), pac_model_slice_bytes(&d, 1, 2, true));
    assert_true(pac_model_block_weights(m, 0) == NULL && pac_model_block_weights(m, 1) != NULL);
    assert_int_equal(pac_model_embed(m, PAC_ENC, &b, x), PAC_EINVAL);
    assert_int_equal(pac_model_block(m, 2, &b, x, x, x, work), PAC_EINVAL);
    assert_int_equal(pac_model_final(m, PAC_DEC, x, x, 1), PAC_EINVAL);
    assert_int_equal(pac_model_logits(m, logits, x, 1), PAC_EINVAL);
    OK(pac_model_final(m, PAC_ENC, x, x, 1));
    pac_model_free(&m);
    assert_int_equal(pac_model_load(&d, reference(), 2, 4, 0, &m), PAC_EINVAL);
    OK(pac_model_load(&d, reference(), 0, 0, PAC_LOAD_HEAD_ONLY, &m));
    assert_int_equal(pac_mem_current(PAC_MEM_WEIGHTS), 11 * 8 * 4);
    OK(pac_model_logits(m, logits, x, 1));
    pac_model_free(&m);
    OK(pac_model_load(&d, reference(), 0, 3, 0, &m));
    OK(pac_model_embed(m, PAC_ENC, &b, x));
    id = 11;
    assert_int_equal(pac_model_embed(m, PAC_DEC, &b, x), PAC_EDATA);
    id = -1;
    assert_int_equal(pac_model_embed(m, PAC_ENC, &b, x), PAC_EDATA);
    pac_model_free(&m);
    pac_arena_free(&work);
    assert_int_equal(pac_mem_current(PAC_MEM_WEIGHTS), 0);
}

/* The model's tensors stored as `type`, and what a loaded block then holds. */
static void check_converted(const place *p, pac_dtype type, float tolerance)
{
    static const char name[] = "encoder.block.0.layer.0.SelfAttention.q.weight";
    float want[48];
    bool found;
    pac_tensor t;
    pac_st *f = NULL;
    pac_model *m = NULL;
    pac_model_desc d;
    uint16_t half[48];
    make_tiny(p, "", 3);
    OK(pac_model_describe(p->dir, &d));
    OK(pac_st_open(p->weights, &f));
    pac_st_find(f, name, &found, &t);
    memcpy(want, t.data, sizeof want);
    OK(pac_from_f32(half, want, type, 48));
    int64_t n = pac_st_count(f);
    pac_st_entry *e = calloc((size_t)n, sizeof *e);
    assert_non_null(e);
    for (int64_t i = 0; i < n; i++) {
        e[i].name = pac_st_name(f, i);
        pac_st_view(f, i, &e[i].tensor);
        if (strcmp(e[i].name, name) == 0) {
            e[i].tensor.dtype = type;
            e[i].tensor.data = half;
        }
    }
    OK(pac_st_write(p->weights, e, n, NULL)); /* the old file stays mapped until f is closed */
    free(e);
    pac_st_close(&f);
    OK(pac_model_load(&d, reference(), 0, 1, 0, &m));
    const float *got = pac_model_block_weights(m, 0)->self.q.w;
    for (int i = 0; i < 48; i++)
        assert_true(fabsf(got[i] - want[i]) <= tolerance * fabsf(want[i]));
    assert_int_equal(pac_mem_current(PAC_MEM_WEIGHTS), pac_model_slice_bytes(&d, 0, 1, false));
    pac_model_free(&m);
    assert_int_equal(pac_mem_current(PAC_MEM_WEIGHTS), 0);
}

static void test_half_precision_is_converted(void **state)
{
    check_converted(*state, PAC_BF16, 0x1p-8f);
    check_converted(*state, PAC_F16, 0x1p-10f);
}

/* Resident bytes of this process. */
static int64_t resident(void)
{
    long long pages = 0, ignored;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%lld %lld", &ignored, &pages), 2);
    fclose(f);
    return pages * sysconf(_SC_PAGESIZE);
}

static void test_freeing_gives_memory_back(void **state)
{
    const place *p = *state;
    enum { V = 100000, D = 64 };
    const int64_t bytes = INT64_C(4) * V * D, most = bytes * 9 / 10;
    pac_model_desc d;
    pac_model *m = NULL;
    pac_arena *work = NULL;
    float h[D] = {1}, *logits;
    put(p->source,
        "{\"model_type\": \"t5\", \"vocab_size\": 100000, \"d_model\": 64, \"d_kv\": 8, \"num_heads\": 1, \"d_ff\": 8,"
        " \"num_layers\": 1}");
    OK(pac_model_init(p->source, p->dir, 1));
    OK(pac_model_describe(p->dir, &d));
    OK(pac_arena_new(PAC_MEM_WORK, &work));
    OK(pac_arena_floats(work, V, &logits));
    memset(logits, 0, V * sizeof *logits);
    int64_t before = resident();
    OK(pac_model_load(&d, reference(), 0, 0, PAC_LOAD_HEAD_ONLY, &m));
    OK(pac_model_logits(m, logits, h, 1)); /* reads every weight */
    int64_t loaded = resident();
    pac_model_free(&m);
    assert_true(loaded - before > most);
    assert_true(loaded - resident() > most);
    pac_arena_free(&work);
}

/* ---- random models ---- */

static double deviation_of(const pac_st *f, const char *name, int64_t n)
{
    bool found;
    pac_tensor t;
    double sum = 0;
    pac_st_find(f, name, &found, &t);
    assert_true(found && t.dtype == PAC_F32 && pac_tensor_elements(&t) == n);
    for (int64_t i = 0; i < n; i++)
        sum += (double)((const float *)t.data)[i] * ((const float *)t.data)[i];
    return sqrt(sum / (double)n);
}

static void test_random_model_has_the_scales_of_hugging_face(void **state)
{
    const place *p = *state;
    pac_st *f = NULL;
    put(p->source,
        "{\"model_type\": \"t5\", \"vocab_size\": 300, \"d_model\": 64, \"d_kv\": 16, \"num_heads\": 8, \"d_ff\": 256,"
        " \"num_layers\": 1, \"feed_forward_proj\": \"gated-gelu\", \"tie_word_embeddings\": false}");
    OK(pac_model_init(p->source, p->dir, 5));
    OK(pac_st_open(p->weights, &f));
    assert_true(fabs(deviation_of(f, "shared.weight", 300 * 64) - 1) < 0.03);
    assert_true(fabs(deviation_of(f, "lm_head.weight", 300 * 64) - 1) < 0.03);
    assert_true(fabs(deviation_of(f, "encoder.block.0.layer.0.SelfAttention.q.weight", 128 * 64) * 32 - 1) < 0.04);
    assert_true(fabs(deviation_of(f, "decoder.block.0.layer.1.EncDecAttention.k.weight", 128 * 64) * 8 - 1) < 0.04);
    assert_true(fabs(deviation_of(f, "decoder.block.0.layer.0.SelfAttention.o.weight", 128 * 64) * sqrt(128) - 1) < 0.04);
    assert_true(fabs(deviation_of(f, "decoder.block.0.layer.2.DenseReluDense.wi_1.weight", 256 * 64) * 8 - 1) < 0.04);
    assert_true(fabs(deviation_of(f, "decoder.block.0.layer.2.DenseReluDense.wo.weight", 256 * 64) * 16 - 1) < 0.04);
    assert_true(deviation_of(f, "decoder.final_layer_norm.weight", 64) == 1);
    pac_st_close(&f);
}

static void test_init_leaves_models_alone(void **state)
{
    const place *p = *state;
    make_tiny(p, "", 1);
    assert_int_equal(pac_model_init(p->source, p->dir, 2), PAC_EIO); /* weights are there */
    unlink(p->weights);
    OK(pac_model_init(p->source, p->dir, 2)); /* the same configuration: an interrupted run goes on */
    unlink(p->weights);
    put_config(p->source, ", \"pad_token_id\": 3");
    assert_int_equal(pac_model_init(p->source, p->dir, 2), PAC_EIO); /* another configuration */
    assert_int_equal(pac_model_init("t5-gigantic", p->dir, 2), PAC_EUSAGE);
    assert_non_null(strstr(pac_err_message(), "flan-t5-small"));
    assert_int_equal(pac_model_init("/nonexistent/config.json", p->dir, 2), PAC_EIO);
    unlink(p->config);
    put(p->source, "{\"model_type\": 3}");
    assert_int_equal(pac_model_init(p->source, p->dir, 2), PAC_EDATA);
    assert_int_not_equal(access(p->config, F_OK), 0); /* nothing half-made stays */
    put(p->config, "{\"model_type\": 3}");
    assert_int_equal(pac_model_init(p->config, p->dir, 2), PAC_EDATA);
    assert_int_equal(access(p->config, F_OK), 0); /* but what was there does */
    put_config(p->config, "");
    OK(pac_model_init(p->config, p->dir, 2));
}

static void test_identity_is_of_the_content(void **state)
{
    const place *p = *state;
    uint64_t a, b, c, d;
    make_tiny(p, "", 1);
    OK(pac_model_identity(p->dir, &a));
    make_tiny(p, "", 1);
    OK(pac_model_identity(p->dir, &b));
    make_tiny(p, "", 2);
    OK(pac_model_identity(p->dir, &c));
    make_tiny(p, ", \"unknown\": 1", 1);
    OK(pac_model_identity(p->dir, &d));
    assert_true(a == b && a != c && a != d);
    unlink(p->weights);
    assert_int_not_equal(pac_model_identity(p->dir, &a), PAC_OK);
}

/* Every allocation fails once, in turn: an error, nothing leaked, until loading succeeds. */
static void test_loading_survives_failing_allocations(void **state)
{
    const place *p = *state;
    pac_model_desc d;
    pac_model *m = NULL;
    make_tiny(p, "", 1);
    OK(pac_model_describe(p->dir, &d));
    int64_t blocks = pac_mem_blocks(), k = 0;
    pac_err err;
    do {
        pac_mem_fail_at(++k);
        err = pac_model_load(&d, reference(), 0, 3, PAC_LOAD_HEAD, &m);
        if (err != PAC_OK) {
            assert_int_equal(err, PAC_ENOMEM);
            assert_true(m == NULL && pac_mem_blocks() == blocks && pac_mem_current(PAC_MEM_WEIGHTS) == 0);
        }
    } while (err != PAC_OK && k < 1000);
    pac_mem_fail_at(0);
    assert_true(k > 3 && k < 1000);
    pac_model_free(&m);
    assert_int_equal(pac_mem_blocks(), blocks);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_bad_configs_are_refused),
        TEST(test_defaults_of_the_config),
        TEST(test_published_counts),
        TEST(test_bad_weights_are_refused),
        TEST(test_other_names_of_the_embedding),
        TEST(test_slices_hold_only_their_own),
        TEST(test_half_precision_is_converted),
        TEST(test_freeing_gives_memory_back),
        TEST(test_random_model_has_the_scales_of_hugging_face),
        TEST(test_init_leaves_models_alone),
        TEST(test_identity_is_of_the_content),
        TEST(test_loading_survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
