/* Packed matrices on a shelf: made once by two processes, gone with their last user, made anew where a process died at it. */
#include "tiny_model.h"

#include "pac/mem.h"
#include "../../src/model/shelf.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* Matrices of 128 KiB and 256 KiB in bf16 */
#define WIDE_T5                                                                                                                \
    "{\"model_type\": \"t5\", \"vocab_size\": 512, \"d_model\": 256, \"d_kv\": 64, \"num_heads\": 4, \"d_ff\": 512,"           \
    " \"num_layers\": 2, \"num_decoder_layers\": 2"

enum { ROWS = 8, WIDTH = 256 };

static void describe(const place *p, pac_model_desc *d)
{
    make(p, WIDE_T5 "}", d);
    d->dtype = PAC_BF16;
}

/* The output of all encoder layers. */
static void encode(const pac_model_desc *d, int64_t last, float y[ROWS * WIDTH])
{
    int32_t ids[ROWS] = {3, 1, 4, 1, 5, 9, 2, 6};
    int64_t off[3] = {0, 5, ROWS};
    pac_batch b = {.B = 2, .soff = off, .toff = off, .sids = ids, .tids = ids};
    pac_model *m = NULL;
    pac_arena *work;
    OK(pac_arena_new(PAC_MEM_WORK, &work));
    OK(pac_model_load(d, backend("cpu"), 0, last, 0, &m));
    OK(pac_model_embed(m, PAC_ENC, &b, y));
    for (int64_t l = 0; l < 2; l++)
        OK(pac_model_block(m, l, &b, NULL, y, y, work));
    pac_model_free(&m);
    pac_arena_free(&work);
}

static int64_t shared_bytes(void)
{
    return resident_bytes("memfd:pac-weights");
}

static int status_of(pid_t child)
{
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void test_two_processes(void **state)
{
    const place *p = *state;
    static float own[ROWS * WIDTH], both[ROWS * WIDTH];
    pac_model_desc d;
    pac_model *m = NULL;
    int64_t at[3], blocks = pac_mem_blocks(), bytes = pac_mem_current(PAC_MEM_WEIGHTS);
    describe(p, &d);
    encode(&d, 4, own);
    OK(pac_shelf_new(&d, backend("cpu"), &d.shelf));
    pac_shelf_address(d.shelf, at);
    OK(pac_model_load(&d, backend("cpu"), 0, 2, 0, &m));
    long held = shared_bytes();
    assert_true(held > 1 << 20);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) { /* without the files: what is there is used, not packed again */
        pac_shelf *s = NULL;
        pac_model_desc e = d;
        bool good = pac_shelf_open(&d, backend("cpu"), at, &s) == PAC_OK;
        e.shelf = s;
        if (good)
            encode(&e, 2, both);
        _exit(good && memcmp(own, both, sizeof own) == 0 ? 0 : 1);
    }
    assert_int_equal(status_of(child), 0);
    assert_true(shared_bytes() >= held - (1 << 16));
    encode(&d, 4, both); /* more layers, on top */
    assert_memory_equal(own, both, sizeof own);
    pac_model_free(&m);
    assert_true(shared_bytes() < 1 << 18); /* the locks */
    assert_int_equal(pac_mem_current(PAC_MEM_WEIGHTS), bytes);
    encode(&d, 4, both);
    assert_memory_equal(own, both, sizeof own);
    pac_shelf_settle(d.shelf);
    pac_shelf_free(&d.shelf);
    pac_backend_release();
    assert_int_equal(pac_mem_blocks(), blocks);
}

static pac_tensor_need need_of(const pac_model_desc *d)
{
    pac_tensor_need *list, n = {.rule = NULL};
    int64_t count;
    OK(pac_tensors_of(d, 0, 1, 0, &list, &count));
    for (int64_t i = 0; i < count; i++)
        if (pac_tensor_packs(d, &list[i]) && list[i].rule->scope == PAC_T_BLOCK)
            n = list[i];
    pac_mem_free(list);
    assert_non_null(n.rule);
    return n;
}

/* It dies in the middle of packing, holding the lock. */
static void test_a_process_that_dies(void **state)
{
    const place *p = *state;
    pac_model_desc d;
    pac_packed *w = NULL;
    int64_t at[3];
    describe(p, &d);
    OK(pac_shelf_new(&d, backend("cpu"), &d.shelf));
    pac_shelf_address(d.shelf, at);
    pac_tensor_need need = need_of(&d);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct rlimit none = {0};
        pac_tensor t = {.dtype = PAC_F32,
                        .data = mmap(NULL, (size_t)need.n * 4, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGSEGV, SIG_DFL);
        (void)pac_shelf_take(d.shelf, backend("cpu"), &need, &t, true, &w);
        _exit(0);
    }
    assert_true(WIFSIGNALED(status_of(child)));
    float *ones = calloc((size_t)need.n, sizeof *ones), *read = calloc((size_t)need.n, sizeof *read);
    assert_non_null(ones);
    assert_non_null(read);
    for (int64_t i = 0; i < need.n; i++)
        ones[i] = 1;
    const pac_tensor t = {.dtype = PAC_F32, .data = ones};
    OK(pac_shelf_take(d.shelf, backend("cpu"), &need, &t, true, &w));
    pac_packed_read(read, w);
    assert_memory_equal(read, ones, (size_t)need.n * sizeof *ones);
    pac_shelf_return(d.shelf, &need, &w);
    assert_null(w);
    pac_shelf_free(&d.shelf);
    free(ones);
    free(read);
}

static void test_another_layout_is_refused(void **state)
{
    const place *p = *state;
    pac_model_desc d;
    pac_shelf *s = NULL;
    const char *why;
    int64_t at[3];
    describe(p, &d);
    OK(pac_shelf_new(&d, backend("cpu"), &d.shelf));
    pac_shelf_address(d.shelf, at);
    at[2] += 1;
    assert_int_not_equal(pac_shelf_open(&d, backend("cpu"), at, &s), PAC_OK);
    at[2] -= 1;
    assert_int_not_equal(pac_shelf_open(&d, backend("ref"), at, &s) == PAC_OK, pac_packed_native(backend("cpu"), &why));
    pac_shelf_free(&s);
    at[1] = 999999;
    assert_int_not_equal(pac_shelf_open(&d, backend("cpu"), at, &s), PAC_OK);
    assert_null(s);
    pac_shelf_free(&d.shelf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_two_processes), TEST(test_a_process_that_dies),
                                       TEST(test_another_layout_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
