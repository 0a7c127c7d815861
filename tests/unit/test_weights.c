/* Weights by name: who uses one, taking them with gradients, with values and without; dropout behind the embedding. */
#include "tiny_model.h"

/* ---- who uses a weight ---- */

typedef struct found {
    const char *name;
    pac_weight w;
    int64_t n; /* elements of all that learn */
} found;

static pac_err look(void *ctx, const pac_weight *w)
{
    found *f = ctx;
    if (strcmp(w->name, f->name) == 0)
        f->w = *w;
    f->n += w->buffer ? 0 : w->n;
    return PAC_OK;
}

static pac_weight weight(const pac_model_desc *d, const char *name, bool with_head)
{
    found f = {.name = name};
    OK(pac_model_walk(d, with_head, look, &f));
    if (with_head)
        assert_int_equal(f.n, pac_model_parameters(d));
    assert_true(f.w.n > 0);
    return f.w;
}

static bool spans(const pac_weight *w, int i, int64_t first, int64_t last)
{
    return i < w->uses && w->use[i].first == first && w->use[i].last == last;
}

static void test_uses_of_weights(void **state)
{
    const place *p = *state;
    pac_model_desc d;
    make(p, T5 "}", &d);
    pac_weight w = weight(&d, "shared.weight", true);
    assert_true(w.uses == 3 && spans(&w, 0, 0, 0) && spans(&w, 1, 2, 2) && spans(&w, 2, 3, 3) && w.layer == -1);
    w = weight(&d, "shared.weight", false);
    assert_int_equal(w.uses, 2);
    w = weight(&d, "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", true);
    assert_true(w.uses == 1 && spans(&w, 0, 2, 3));
    w = weight(&d, "decoder.block.1.layer.1.EncDecAttention.q.weight", true);
    assert_true(w.uses == 1 && spans(&w, 0, 3, 3) && w.layer == 3 && w.slot == offsetof(pac_block_weights, cross.q.w));
    make(p, BART "}", &d); /* its only decoder layer has the embedding and the head */
    w = weight(&d, "model.shared.weight", true);
    assert_true(w.uses == 2 && spans(&w, 0, 0, 0) && spans(&w, 1, 2, 2) && !w.buffer);
    w = weight(&d, "final_logits_bias", true);
    assert_true(w.uses == 1 && spans(&w, 0, 2, 2) && w.buffer);
    make(p, BERT "}", &d);
    w = weight(&d, "embeddings.token_type_embeddings.weight", true);
    assert_true(w.uses == 1 && spans(&w, 0, 0, 0) && w.shape[0] == 2 && w.shape[1] == D);
}

/* ---- taking weights ---- */

typedef struct owner {
    pac_model *m;
    float *w, *g; /* room for the largest */
    int64_t taken;
} owner;

static pac_err take(void *ctx, const pac_weight *w)
{
    owner *o = ctx;
    if (!w->buffer) {
        OK(pac_model_take(o->m, w->name, o->w, o->g));
        o->taken += w->n;
    }
    return PAC_OK;
}

static void test_taking_weights(void **state)
{
    const place *p = *state;
    pac_model_desc d;
    owner o = {0};
    static float w[V * D], g[V * D], x[D], y[V], h[D] = {1};
    int64_t off[2] = {0, 1};
    int32_t id = 3;
    pac_batch b = {.B = 1, .soff = off, .sids = &id, .toff = off, .tids = &id, .A = 1};
    make(p, T5 "}", &d);
    OK(pac_model_load(&d, backend("ref"), 0, 4, PAC_LOAD_HEAD, &o.m));
    int64_t all = pac_mem_current(PAC_MEM_WEIGHTS);
    assert_int_equal(pac_model_take(o.m, "shared.wait", w, g), PAC_EINVAL);
    OK(pac_model_take(o.m, "shared.weight", w, g));
    assert_int_equal(pac_mem_current(PAC_MEM_WEIGHTS), all - (int64_t)sizeof w);
    w[3 * D] = 50; /* embeddings of both stacks and the head follow */
    OK(pac_model_embed(o.m, PAC_ENC, &b, x));
    assert_true(x[0] == 50);
    OK(pac_model_embed(o.m, PAC_DEC, &b, x));
    assert_true(x[0] == 50);
    OK(pac_model_logits(o.m, y, h, 1));
    assert_true(fabsf(y[3] - 50 / sqrtf(D)) < 1e-5f);
    pac_model_head_bwd(o.m, y, h, 1);
    assert_true(fabsf(g[3 * D] - y[3] / sqrtf(D)) < 1e-5f && g[3 * D + 1] == 0);
    static float more[V * D];
    o.w = more;
    o.g = NULL;
    OK(pac_model_walk(&d, true, take, &o));
    assert_int_equal(pac_mem_current(PAC_MEM_WEIGHTS), 0);
    assert_ptr_equal(pac_model_block_tunable(o.m, 3)->cross.v.w, more);
    assert_null(pac_model_block_tunable(o.m, 3)->cross.v.dw);
    assert_null(pac_model_block_tunable(o.m, 4));
    pac_model_free(&o.m);
    assert_int_equal(pac_mem_current(PAC_MEM_WEIGHTS), 0);
}

static void test_a_model_of_shapes_only(void **state)
{
    const place *p = *state;
    pac_model_desc d;
    owner o = {0};
    pac_arena *work = NULL;
    int64_t off[2] = {0, 3};
    int32_t ids[3] = {0};
    float x[3 * D], y[3 * D];
    pac_batch b = {.B = 1, .soff = off, .sids = ids, .toff = off, .tids = ids, .A = 1};
    const pac_backend *count = &pac_backend_count;
    put(p->config, BART "}"); /* there are no weights */
    OK(pac_model_describe(p->dir, &d));
    OK(pac_arena_new(PAC_MEM_WORK, &work));
    OK(pac_model_load(&d, count, 0, 3, PAC_LOAD_HEAD | PAC_LOAD_SHAPES, &o.m));
    assert_int_equal(pac_mem_current(PAC_MEM_WEIGHTS), pac_model_slice_bytes(&d, 0, 3, true));
    pac_backend_counted(true);
    OK(pac_model_embed(o.m, PAC_ENC, &b, x));
    OK(pac_model_block(o.m, 0, &b, NULL, y, x, work));
    assert_true(pac_backend_counted(true) == 2.0 * 3 * (4 * D * D + 2 * D * 12 + 2 * 3 * D));
    o.w = o.g = x;
    OK(pac_model_walk(&d, true, take, &o));
    assert_int_equal(o.taken, pac_model_parameters(&d));
    assert_int_equal(pac_mem_current(PAC_MEM_WEIGHTS), V * 4); /* the bias of the logits */
    pac_model_free(&o.m);
    pac_arena_free(&work);
    assert_int_equal(pac_mem_current(PAC_MEM_WEIGHTS), 0);
}

/* ---- dropout ---- */

/* The backward drops what the forward dropped: g = sum of dy where y is not 0, over 1 - p. */
static void check_dropped(const float *y, const float *kept, const float *dy, const float *g)
{
    int dropped = 0;
    for (int c = 0; c < D; c++) {
        float sum = 0;
        for (int n = 0; n < 6; n++) {
            int i = n * D + c;
            assert_true(y[i] == 0 || fabsf(y[i] - 2 * kept[i]) < 1e-6f);
            dropped += y[i] == 0;
            sum += y[i] == 0 ? 0 : 2 * dy[i];
        }
        assert_true(fabsf(sum - g[c]) < 1e-5f);
    }
    assert_true(dropped > 6 && dropped < 42); /* of 48, with p = 1/2 */
}

static void test_dropout_behind_the_embedding(void **state)
{
    const place *p = *state;
    pac_model_desc d;
    pac_model *m = NULL;
    pac_arena *keep = NULL;
    pac_norm_saved saved;
    int64_t off[2] = {0, 6};
    int32_t ids[6] = {2, 5, 5, 9, 1, 12};
    uint64_t row[6] = {11, 12, 13, 14, 15, 16};
    float kept[6 * D], y[6 * D], dy[6 * D], dx[6 * D], w[D], g[D] = {0}, ones[D], unread[D] = {0};
    pac_batch b = {.B = 1, .soff = off, .sids = ids, .toff = off, .tids = ids, .A = 1};
    const pac_dropout drop = {.p = 0.5f, .key = 3, .row = {row, row}};
    make(p, BERT "}", &d);
    OK(pac_arena_new(PAC_MEM_ACTIVATIONS, &keep));
    OK(pac_model_load(&d, backend("ref"), 0, 2, 0, &m));
    OK(pac_model_take(m, "embeddings.LayerNorm.weight", ones, unread)); /* a norm learns as a whole or not at all */
    OK(pac_model_take(m, "embeddings.LayerNorm.bias", w, g));
    for (int c = 0; c < D; c++)
        w[c] = 5; /* nothing is 0 by itself */
    pac_pass pass = {.batch = &b, .drop = &drop, .keep = keep};
    OK(pac_model_embed(m, PAC_ENC, &b, kept));
    OK(pac_model_embed_fwd(m, PAC_ENC, &pass, y, &saved));
    for (int i = 0; i < 6 * D; i++)
        dx[i] = dy[i] = (float)(i % 7) - 2.5f;
    OK(pac_model_embed_bwd(m, PAC_ENC, &pass, dx, &saved));
    check_dropped(y, kept, dy, g);
    pac_model_free(&m);
    pac_arena_free(&keep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_uses_of_weights),
        TEST(test_taking_weights),
        TEST(test_a_model_of_shapes_only),
        TEST(test_dropout_behind_the_embedding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
