/*
 * What differs between model families: configurations and what is refused, published counts, tensor names that files use,
 * random values, positions and types.
 */
#include "tiny_model.h"

/* ---- configurations ---- */

static void test_what_is_not_supported_is_refused(void **state)
{
    const place *p = *state;
    static const char *const cases[][2] = {
        {BART ", \"normalize_before\": true}", "normalize_before"},
        {BART ", \"add_final_layer_norm\": true}", "add_final_layer_norm"},
        {BART ", \"normalize_embedding\": false}", "normalize_embedding"},
        {BART ", \"static_position_embeddings\": true}", "static_position_embeddings"},
        {BART ", \"is_encoder_decoder\": false}", "is_encoder_decoder"},
        {BART ", \"activation_function\": \"mish\"}", "\"gelu\""},
        {BART ", \"encoder_attention_heads\": 3}", "JSON"},
        {"{\"model_type\": \"bart\", \"vocab_size\": 13, \"d_model\": 8}", "encoder_layers is missing"},
        {"{\"model_type\": \"bart\", \"vocab_size\": 13, \"d_model\": 8, \"encoder_layers\": 1, \"decoder_layers\": 1,"
         " \"encoder_ffn_dim\": 4, \"encoder_attention_heads\": 3}",
         "does not divide"},
        {BART ", \"decoder_start_token_id\": 13}", "decoder_start_token_id"},
        {BERT ", \"position_embedding_type\": \"relative_key\"}", "position_embedding_type"},
        {BERT ", \"is_decoder\": true}", "is_decoder"},
        {BERT ", \"add_cross_attention\": true}", "add_cross_attention"},
        {BERT ", \"type_vocab_size\": 0}", "type_vocab_size"},
        {BERT ", \"layer_norm_eps\": -1}", "layer_norm_eps"},
        {DISTILBERT ", \"activation\": 3}", "activation"},
        {DISTILBERT ", \"pad_token_id\": 99}", "pad_token_id"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        pac_model_desc d;
        put(p->config, cases[i][0]);
        assert_int_equal(pac_model_describe(p->dir, &d), PAC_EDATA);
        if (strstr(pac_err_message(), cases[i][1]) == NULL || strstr(pac_err_message(), "config.json") == NULL)
            fail_msg("'%s' does not mention config.json and '%s'", pac_err_message(), cases[i][1]);
    }
}

static void test_what_the_config_says(void **state)
{
    const place *p = *state;
    pac_model_desc d;
    put(p->config, BART ", \"scale_embedding\": true, \"pad_token_id\": 0, \"bos_token_id\": 1, \"eos_token_id\": 3,"
                        " \"decoder_start_token_id\": 1, \"activation_function\": \"relu\"}");
    OK(pac_model_describe(p->dir, &d));
    assert_true(d.pad_id == 0 && d.eos_id == 3 && d.start_id == 1 && d.tied && d.lm && d.pad_frozen && !d.head_first);
    assert_true(fabsf(d.embed_scale - sqrtf(8)) < 1e-6f && d.position_offset == 2 && d.max_positions == 6);
    assert_true(d.block[0].K == 4 && d.block[1].K == 2 && fabsf(d.block[1].scale - sqrtf(0.5f)) < 1e-6f);
    assert_true(d.block[0].act == PAC_ACT_RELU && d.block[1].F == 10 && d.block[1].cross && !d.block[0].causal);
    assert_true(d.block[0].post_norm && d.block[0].biases && !d.final_norm[0] && d.block[0].eps == 1e-5f);
    put(p->config, BERT "}");
    OK(pac_model_describe(p->dir, &d));
    assert_true(!d.lm && d.head_first && d.head_act == PAC_ACT_TANH && d.types == 2 && d.layers[PAC_DEC] == 0);
    assert_true(d.block[0].eps == 1e-12f && d.block[0].act == PAC_ACT_GELU && d.embed_norm && d.position_offset == 0);
    put(p->config, DISTILBERT ", \"sinusoidal_pos_embds\": true}");
    OK(pac_model_describe(p->dir, &d));
    assert_true(!d.lm && d.head_first && d.head_act == PAC_ACT_RELU && d.types == 0 && d.layers[PAC_DEC] == 0);
}

/* ---- counts ---- */

static int64_t count_of(const place *p, const char *config)
{
    pac_model_desc d;
    put(p->config, config);
    OK(pac_model_describe(p->dir, &d));
    return pac_model_parameters(&d);
}

static int64_t bart_count(const place *p, int width, int layers, int heads)
{
    char text[512];
    snprintf(
        text, sizeof text,
        "{\"model_type\": \"bart\", \"vocab_size\": 50265, \"d_model\": %d, \"encoder_layers\": %d, \"decoder_layers\": %d,"
        " \"encoder_attention_heads\": %d, \"decoder_attention_heads\": %d, \"encoder_ffn_dim\": %d,"
        " \"decoder_ffn_dim\": %d}",
        width, layers, layers, heads, heads, 4 * width, 4 * width);
    return count_of(p, text);
}

static int64_t bert_count(const place *p, int width, int layers, int heads)
{
    char text[512];
    snprintf(text, sizeof text,
             "{\"model_type\": \"bert\", \"vocab_size\": 30522, \"hidden_size\": %d, \"num_hidden_layers\": %d,"
             " \"num_attention_heads\": %d, \"intermediate_size\": %d}",
             width, layers, heads, 4 * width);
    return count_of(p, text);
}

/* A pooler is counted with the classification head that it begins, not here. */
static void test_published_counts(void **state)
{
    const place *p = *state;
    assert_int_equal(bart_count(p, 768, 6, 12), 139420416);
    assert_int_equal(bart_count(p, 1024, 12, 16), 406291456);
    assert_int_equal(bert_count(p, 384, 6, 12) + 384 * 385, 22713216); /* all-MiniLM-L6-v2: 22.7 M with its pooler */
    assert_int_equal(bert_count(p, 768, 12, 12) + 768 * 769, 109482240);
    assert_int_equal(bert_count(p, 1024, 24, 16) + 1024 * 1025, 335141888);
    assert_int_equal(count_of(p, "{\"model_type\": \"distilbert\", \"vocab_size\": 30522, \"dim\": 768, \"n_layers\": 6,"
                                 " \"n_heads\": 12, \"hidden_dim\": 3072}"),
                     66362880);
}

/* ---- names in files ---- */

typedef void renamer(char *out, size_t size, const char *name);

static void without_model(char *out, size_t size, const char *name)
{
    snprintf(out, size, "%s", strncmp(name, "model.", 6) == 0 ? name + 6 : name);
}

static void without_bias(char *out, size_t size, const char *name)
{
    snprintf(out, size, "%s", strcmp(name, "final_logits_bias") == 0 ? "something.else" : name);
}

static void with_bert(char *out, size_t size, const char *name)
{
    const char *norm = strstr(name, "LayerNorm.");
    if (norm == NULL)
        snprintf(out, size, "bert.%s", name);
    else
        snprintf(out, size, "bert.%.*s.%s", (int)(norm - name) + 9, name, strstr(norm, "weight") != NULL ? "gamma" : "beta");
}

static void without_distilbert(char *out, size_t size, const char *name)
{
    snprintf(out, size, "%s", strncmp(name, "distilbert.", 11) == 0 ? name + 11 : name);
}

static void without_dense(char *out, size_t size, const char *name)
{
    snprintf(out, size, "%s", strstr(name, "pre_classifier") != NULL ? strstr(name, "classifier") : name);
}

static void half_a_dense(char *out, size_t size, const char *name)
{
    snprintf(out, size, "%s", strcmp(name, "pooler.dense.bias") == 0 ? "pooler.dense.wrong" : name);
}

static void nothing_useful(char *out, size_t size, const char *name)
{
    snprintf(out, size, "x.%s", name);
}

/* Writes the model's tensors again under other names. */
static void rename_tensors(const place *p, renamer *rename)
{
    pac_st *f = NULL;
    OK(pac_st_open(p->weights, &f));
    int64_t n = pac_st_count(f);
    pac_st_entry *e = calloc((size_t)n, sizeof *e);
    char(*names)[160] = calloc((size_t)n, sizeof *names);
    assert_true(e != NULL && names != NULL);
    for (int64_t i = 0; i < n; i++) {
        rename(names[i], sizeof names[i], pac_st_name(f, i));
        e[i].name = names[i];
        pac_st_view(f, i, &e[i].tensor);
    }
    OK(pac_st_write(p->weights, e, n, NULL)); /* the old file stays mapped until f is closed */
    free(e);
    free(names);
    pac_st_close(&f);
}

static void loads(const pac_model_desc *d)
{
    pac_model *m = NULL;
    OK(pac_model_load(d, backend("ref"), 0, d->layers[0] + d->layers[1], PAC_LOAD_HEAD, &m));
    pac_model_free(&m);
}

static void test_names_that_files_use(void **state)
{
    const place *p = *state;
    pac_model_desc d;
    pac_model *m = NULL;
    make(p, BART "}", &d);
    rename_tensors(p, without_model);
    loads(&d);
    rename_tensors(p, without_bias); /* BartModel's files have no bias of the logits */
    loads(&d);
    make(p, BERT "}", &d);
    rename_tensors(p, with_bert);
    loads(&d);
    make(p, DISTILBERT "}", &d);
    rename_tensors(p, without_distilbert);
    loads(&d);
    rename_tensors(p, nothing_useful);
    assert_int_equal(pac_model_load(&d, backend("ref"), 0, 2, 0, &m), PAC_EDATA);
    assert_non_null(strstr(pac_err_message(), "distilbert.embeddings.word_embeddings.weight is missing"));
}

static void check_dense(const pac_model_desc *d, bool expected)
{
    float w[D * D], b[D], sum = 0;
    bool found = !expected;
    OK(pac_model_head_dense(d, &found, w, b));
    assert_int_equal(found, expected);
    for (int i = 0; i < D * D && found; i++)
        sum += w[i] * w[i];
    assert_true(!found || (sum > 0 && b[0] == 0));
}

static void test_a_head_of_the_checkpoint(void **state)
{
    const place *p = *state;
    pac_model_desc d;
    float w[D * D], b[D];
    bool found;
    make(p, T5 "}", &d);
    check_dense(&d, false);
    make(p, DISTILBERT "}", &d);
    check_dense(&d, true);
    rename_tensors(p, without_dense);
    check_dense(&d, false);
    make(p, BERT "}", &d);
    check_dense(&d, true);
    rename_tensors(p, with_bert);
    check_dense(&d, true);
    make(p, BERT "}", &d);
    rename_tensors(p, half_a_dense);
    assert_int_equal(pac_model_head_dense(&d, &found, w, b), PAC_EDATA);
    assert_non_null(strstr(pac_err_message(), "pooler.dense.bias"));
}

static void test_random_values(void **state)
{
    const place *p = *state;
    pac_model_desc d;
    pac_model *m = NULL;
    make(p, BART ", \"init_std\": 0.5}", &d);
    OK(pac_model_load(&d, backend("ref"), 0, 3, PAC_LOAD_HEAD, &m));
    const pac_block_weights *w = pac_model_block_weights(m, 2);
    double sum = 0;
    for (int i = 0; i < 10 * D; i++)
        sum += (double)w->wi.w[i] * w->wi.w[i];
    assert_true(fabs(sqrt(sum / (10 * D)) - 0.5) < 0.15);
    assert_true(w->wi.b[3] == 0 && w->cross.norm.w[7] == 1 && w->cross.norm.b[0] == 0);
    pac_model_free(&m);
}

/* ---- embeddings ---- */

static void test_positions_and_types(void **state)
{
    const place *p = *state;
    pac_model_desc d;
    pac_model *m = NULL;
    int64_t off[2] = {0, 7}, none[2] = {0, 0}, apart[3] = {0, 4, 7};
    int32_t ids[7] = {1, 2, 3, 4, 5, 6, 7}, types[7] = {0, 0, 0, 0, 1, 1, 2};
    float x[7 * D];
    pac_batch b = {.B = 1, .soff = off, .sids = ids, .stypes = types, .toff = none, .A = 2, .aoff = apart};
    make(p, BERT "}", &d);
    OK(pac_model_load(&d, backend("ref"), 0, 1, 0, &m));
    assert_int_equal(pac_model_embed(m, PAC_ENC, &b, x), PAC_EDATA);
    assert_non_null(strstr(pac_err_message(), "token type 2; the model has 2"));
    types[6] = 0;
    OK(pac_model_embed(m, PAC_ENC, &b, x));
    b.aoff = NULL;
    b.A = 1;
    assert_int_equal(pac_model_embed(m, PAC_ENC, &b, x), PAC_EDATA);
    assert_non_null(strstr(pac_err_message(), "7 tokens; the model has 6 positions: set task.max_source to at most 6"));
    b.stypes = NULL; /* a model without decoder, a batch without types */
    off[1] = 6;
    OK(pac_model_embed(m, PAC_ENC, &b, x));
    assert_int_equal(pac_model_embed(m, PAC_DEC, &b, x), PAC_EINVAL);
    pac_model_free(&m);
}

/* A token at a time, at its position, is embedded as in the whole sequence. */
static void test_embedding_by_steps(void **state)
{
    const place *p = *state;
    pac_model_desc d;
    pac_model *m = NULL;
    int64_t off[2] = {0, 6}, one[2] = {0, 1};
    int32_t ids[6] = {2, 5, 5, 9, 1, 12};
    float whole[6 * D], row[D];
    pac_batch b = {.B = 1, .soff = off, .sids = ids, .toff = off, .tids = ids, .A = 1}, step = b;
    make(p, BART "}", &d);
    OK(pac_model_load(&d, backend("ref"), 2, 3, 0, &m));
    OK(pac_model_embed(m, PAC_DEC, &b, whole));
    step.toff = one;
    for (int t = 0; t < 6; t++) {
        step.tids = &ids[t];
        OK(pac_model_embed_step(m, &step, t, row));
        assert_memory_equal(row, whole + (ptrdiff_t)t * D, sizeof row);
    }
    assert_int_equal(pac_model_embed_step(m, &step, 6, row), PAC_EDATA);
    pac_model_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_what_is_not_supported_is_refused),
        TEST(test_what_the_config_says),
        TEST(test_published_counts),
        TEST(test_names_that_files_use),
        TEST(test_a_head_of_the_checkpoint),
        TEST(test_random_values),
        TEST(test_positions_and_types),
        TEST(test_embedding_by_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
