/*
 * A streamed slice gives what a resident one gives, and holds no more than two of its blocks: in the ledger, and in pages of
 * this process.
 */
#include "tiny_model.h"

#include "pac/mem.h"

#include <sys/mman.h>
#include <sys/stat.h>

/* Blocks of 768 KiB and 1 MiB, a table of 1 MiB */
#define WIDE_T5                                                                                                                \
    "{\"model_type\": \"t5\", \"vocab_size\": 1024, \"d_model\": 256, \"d_kv\": 64, \"num_heads\": 2, \"d_ff\": 512,"          \
    " \"num_layers\": 6, \"num_decoder_layers\": 4"
#define WIDE_BERT                                                                                                              \
    "{\"model_type\": \"bert\", \"vocab_size\": 1024, \"hidden_size\": 256, \"num_hidden_layers\": 6,"                         \
    " \"num_attention_heads\": 4, \"intermediate_size\": 512, \"max_position_embeddings\": 64"

enum { SAMPLES = 3, LENGTH = 7, ROWS = SAMPLES * LENGTH, WIDTH = 256 };

typedef struct rows {
    int32_t ids[ROWS];
    int64_t off[SAMPLES + 1];
    pac_batch batch;
    float b[16][ROWS * WIDTH]; /* every block's output */
    float logits[ROWS * 1024];
} rows;

static void fill(rows *r)
{
    for (int i = 0; i < ROWS; i++)
        r->ids[i] = (i * 379) % 1024;
    for (int i = 0; i <= SAMPLES; i++)
        r->off[i] = i * LENGTH;
    r->batch = (pac_batch){.B = SAMPLES, .soff = r->off, .toff = r->off, .sids = r->ids, .tids = r->ids};
}

/* All layers [0, L); *most: resident bytes behind any of them. */
static void run(const place *p, const pac_model *m, int64_t L, rows *r, int64_t *most)
{
    static float x[ROWS * WIDTH], enc[ROWS * WIDTH];
    pac_arena *work;
    OK(pac_arena_new(PAC_MEM_WORK, &work));
    OK(pac_model_embed(m, PAC_ENC, &r->batch, x));
    for (int64_t l = 0; l < L; l++) {
        if (l == 6) {
            OK(pac_model_final(m, PAC_ENC, enc, x, ROWS));
            OK(pac_model_embed(m, PAC_DEC, &r->batch, x));
        }
        OK(pac_model_block(m, l, &r->batch, enc, r->b[l], x, work));
        memcpy(x, r->b[l], sizeof x);
        *most = resident_bytes(p->weights) > *most ? resident_bytes(p->weights) : *most;
    }
    if (L > 6)
        OK(pac_model_logits(m, r->logits, x, ROWS));
    pac_arena_free(&work);
}

static void compare(const place *p, const char *config, int64_t L)
{
    static rows plain, streamed;
    pac_model_desc d;
    pac_model *m = NULL;
    int64_t blocks = pac_mem_blocks(), bytes = pac_mem_current(PAC_MEM_WEIGHTS), all = 0, part = 0;
    int head = L > 6 ? PAC_LOAD_HEAD : 0;
    make(p, config, &d);
    memset(&plain, 0, sizeof plain);
    memset(&streamed, 0, sizeof streamed);
    fill(&plain);
    fill(&streamed);
    OK(pac_model_load(&d, backend("ref"), 0, L, head, &m));
    run(p, m, L, &plain, &all);
    pac_model_free(&m);

    d.stream = true;
    pac_mem_reset_peaks();
    OK(pac_model_load(&d, backend("ref"), 0, L, head, &m));
    for (int pass = 0; pass < 3; pass++) {
        memset(streamed.b, 0, sizeof streamed.b);
        run(p, m, L, &streamed, &part);
        assert_memory_equal(streamed.b, plain.b, sizeof plain.b);
        assert_memory_equal(streamed.logits, plain.logits, sizeof plain.logits);
        pac_model_rest(m);
    }
    const int64_t room = pac_model_stream_bytes(&d), riders = pac_model_slice_bytes(&d, 0, L, head != 0);
    const int64_t table = 4 * 1024 * WIDTH, slack = 1 << 19; /* ends of pages, neighbours of what is touched */
    assert_true(room > 0 && pac_mem_peak(PAC_MEM_WEIGHTS) <= bytes + room + riders + table);
    assert_true(all > 2 * (room + table));
    if (part > room + riders + slack)
        fail_msg("%lld bytes resident, expected at most %lld", (long long)part, (long long)(room + riders + slack));
    pac_model_free(&m);
    assert_int_equal(resident_bytes(p->weights), 0);
    assert_int_equal(pac_mem_current(PAC_MEM_WEIGHTS), bytes);
    pac_backend_release();
    assert_int_equal(pac_mem_blocks(), blocks);
}

static void test_layers_come_and_go(void **state)
{
    compare(*state, WIDE_T5 "}", 10);
    compare(*state, WIDE_BERT "}", 6);
}

/* The ledger of a slice without values moves as that of one with them. */
static void test_dry_ledger(void **state)
{
    const place *p = *state;
    pac_model_desc d;
    pac_backend const *be[2] = {backend("ref"), &pac_backend_count};
    int64_t peak[2];
    make(p, WIDE_T5 "}", &d);
    d.stream = true;
    for (int k = 0; k < 2; k++) {
        static rows r;
        static float x[ROWS * WIDTH];
        pac_model *m = NULL;
        pac_arena *work;
        fill(&r);
        pac_mem_reset_peaks();
        OK(pac_arena_new(PAC_MEM_WORK, &work));
        OK(pac_model_load(&d, be[k], 2, 9, k == 1 ? PAC_LOAD_SHAPES : 0, &m));
        for (int64_t l = 2; l < 9; l++)
            OK(pac_model_block(m, l, &r.batch, x, x, x, work));
        pac_model_free(&m);
        pac_arena_free(&work);
        peak[k] = pac_mem_peak(PAC_MEM_WEIGHTS);
    }
    assert_int_equal(peak[0], peak[1]);
}

static void test_what_is_refused(void **state)
{
    const place *p = *state;
    pac_model_desc d;
    pac_model *m = NULL;
    make(p, T5 "}", &d);
    d.stream = true;
    assert_int_equal(pac_model_load(&d, backend("ref"), 0, 4, PAC_LOAD_TAKEN, &m), PAC_EINVAL);
    OK(pac_model_load(&d, backend("ref"), 0, 4, 0, &m));
    float w[3 * 2 * 8] = {0};
    assert_int_equal(pac_model_take(m, "encoder.block.0.layer.0.SelfAttention.q.weight", w, NULL), PAC_EINVAL);
    pac_model_free(&m);
    d.dtype = PAC_BF16;
    assert_int_equal(pac_model_load(&d, backend("ref"), 0, 4, 0, &m), PAC_EINVAL);
}

/* The file is cut short while it is in use: an error that names the model, where the system can tell. */
static void test_a_file_that_shrinks(void **state)
{
    const place *p = *state;
    static rows r;
    static float x[ROWS * WIDTH];
    pac_model_desc d;
    pac_model *m = NULL;
    pac_arena *work;
    struct stat s;
    void *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED || madvise(page, 4096, 22 /* MADV_POPULATE_READ */) != 0)
        skip(); /* an older system has only a signal to tell it by */
    munmap(page, 4096);
    make(p, WIDE_T5 "}", &d);
    d.stream = true;
    fill(&r);
    OK(pac_arena_new(PAC_MEM_WORK, &work));
    OK(pac_model_load(&d, backend("ref"), 0, 6, 0, &m));
    assert_int_equal(stat(p->weights, &s), 0);
    OK(pac_model_block(m, 0, &r.batch, NULL, x, x, work));
    assert_int_equal(truncate(p->weights, s.st_size / 4096 / 8 * 4096), 0);
    pac_err err = PAC_OK;
    for (int64_t l = 2; l < 6 && err == PAC_OK; l++) /* layer 1 may have been read already */
        err = pac_model_block(m, l, &r.batch, NULL, x, x, work);
    assert_int_equal(err, PAC_EIO);
    assert_non_null(strstr(pac_err_message(), p->dir));
    pac_model_free(&m);
    pac_arena_free(&work);
}

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_layers_come_and_go), TEST(test_dry_ledger), TEST(test_what_is_refused),
                                       TEST(test_a_file_that_shrinks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
