/* The cache in one process: sizes, sets, records in the file, hostile files, failing allocations. */
#include "../../src/cache/internal.h"
#include "pac/rng.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { SAMPLES = 6, PARTS = 4 };

static char base[] = "/tmp/pac-cache-unit-XXXXXX";
static char dir[64], file[96];
static const pac_cache_id identity = {1, 2, 3};
static int64_t enc[SAMPLES] = {3, 0, 5, 1, 2, 4}, dec[SAMPLES] = {1, 2, 0, 0, 1, 1};

static pac_cache_layout small(void)
{
    return (pac_cache_layout){
        .parts = PARTS, .D = 2, .dtype = PAC_F32, .samples = SAMPLES, .len = {enc, dec}, .stack = {0, 0, 1, 1}};
}

static int make_base(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "%s/cache", mkdtemp(base));
    snprintf(file, sizeof file, "%s/rank-0000.h5", dir);
    return 0;
}

static int remove_base(void **state)
{
    (void)state;
    unlink(file);
    rmdir(dir);
    return rmdir(base);
}

/* ---- sizes ---- */

static void test_sizes(void **state)
{
    (void)state;
    pac_cache_layout l = small();
    cache_sets sets = {.parts = PARTS};
    int64_t set;
    assert_int_equal(pac_cache_bytes(&l), (2 * 15 + 2 * 5) * 2 * 4);
    assert_int_equal(cache_part_bytes(&l, 1, 2), 5 * 8);
    assert_int_equal(cache_sets_find(&sets, (const uint8_t[]){1, 0, 1, 1}, l.stack, &set), PAC_OK);
    assert_int_equal(cache_sums_bytes(&sets, set), 3 * 8);
    assert_int_equal(cache_record_bytes(&l, &sets, set, 1), 3 * 8 + (0 + 2 * 2) * 8);
    l.dtype = PAC_BF16;
    assert_int_equal(cache_record_bytes(&l, &sets, set, 0), 3 * 8 + (3 + 2 * 1) * 4);
    l.dtype = PAC_I8; /* 2 elements and a scale */
    assert_int_equal(cache_record_bytes(&l, &sets, set, 0), 3 * 8 + (3 + 2 * 1) * 6);
    assert_int_equal(pac_cache_bytes(&l), (2 * 15 + 2 * 5) * 6);
    cache_sets_free(&sets);
}

static void test_layouts_that_cannot_be(void **state)
{
    (void)state;
    pac_cache_layout l = small();
    assert_int_equal(cache_check_layout(&l), PAC_OK);
    l.parts = 0;
    assert_int_equal(cache_check_layout(&l), PAC_ESHAPE);
    l.parts = CACHE_MAX_PARTS + 1;
    assert_int_equal(cache_check_layout(&l), PAC_ESHAPE);
    l = small();
    l.stack[3] = 2;
    assert_int_equal(cache_check_layout(&l), PAC_ESHAPE);
    l = small();
    l.dtype = PAC_I32;
    assert_int_equal(cache_check_layout(&l), PAC_ENOTBUILT);
    int64_t huge[SAMPLES] = {1, INT64_MAX / 100, INT64_MAX / 100};
    l = small();
    l.len[1] = huge;
    assert_int_equal(cache_check_layout(&l), PAC_ESHAPE);
    int64_t negative[SAMPLES] = {0, -1};
    l.len[1] = negative;
    assert_int_equal(cache_check_layout(&l), PAC_ESHAPE);
}

static void test_rows_of_each_type(void **state)
{
    (void)state;
    pac_cache_layout l = small();
    const float rows[4] = {1.0f, -2.5f, 0.15625f, 1e-3f};
    const float error[PAC_NDTYPES] = {[PAC_F32] = 0, [PAC_BF16] = 4e-6f, [PAC_F16] = 5e-7f};
    static const pac_dtype types[] = {PAC_F32, PAC_BF16, PAC_F16};
    for (int t = 0; t < 3; t++) {
        uint8_t stored[16];
        float back[4];
        l.dtype = types[t];
        assert_int_equal(cache_pack_rows(&l, rows, 2, stored), PAC_OK);
        assert_int_equal(cache_unpack_rows(&l, stored, 2, back), PAC_OK);
        assert_memory_equal(back, rows, 3 * sizeof(float));
        assert_float_equal(back[3], rows[3], error[types[t]]);
    }
}

static void test_what_f16_cannot_hold_is_refused(void **state)
{
    (void)state;
    const float fits[2] = {65504, -65504}, beyond[2] = {1, -65536};
    uint8_t stored[8];
    pac_cache_layout l = small();
    l.dtype = PAC_F16;
    assert_int_equal(cache_pack_rows(&l, fits, 1, stored), PAC_OK);
    assert_int_equal(cache_pack_rows(&l, beyond, 1, stored), PAC_ENUMERIC);
    l.dtype = PAC_BF16;
    assert_int_equal(cache_pack_rows(&l, beyond, 1, stored), PAC_OK);
}

/* Every width up to more than a vector, rows of very different size, the stored rows at an odd address. */
static void test_i8_is_within_half_a_step(void **state)
{
    (void)state;
    enum { ROWS = 5, MOST = 133 };
    static const float size[ROWS] = {1, 1e-6f, 3e37f, 0, 1e-35f};
    float x[ROWS * MOST], back[ROWS * MOST + 1];
    uint8_t stored[1 + ROWS * (MOST + PAC_I8_SCALE) + 1];
    pac_cache_layout l = small();
    l.dtype = PAC_I8;
    for (l.D = 1; l.D <= MOST; l.D++) {
        const int64_t n = ROWS * l.D;
        for (int64_t i = 0; i < n; i++)
            x[i] = size[i / l.D] * pac_rng_normal(5, (uint64_t)l.D, (uint64_t)i);
        memset(stored, 0xa5, sizeof stored);
        back[n] = -7;
        assert_int_equal(cache_pack_rows(&l, x, ROWS, stored + 1), PAC_OK);
        assert_int_equal(stored[0], 0xa5);
        assert_int_equal(stored[1 + ROWS * pac_cache_row_bytes(&l)], 0xa5);
        assert_int_equal(cache_unpack_rows(&l, stored + 1, ROWS, back), PAC_OK);
        assert_true(back[n] == -7);
        for (int64_t i = 0; i < n; i++) {
            double step = (double)pac_max_abs(x + i / l.D * l.D, l.D) / 127;
            double allowed = 0.500005 * step + 0x1p-100; /* the quotient has a rounding of its own */
            if (fabs((double)x[i] - (double)back[i]) > allowed)
                fail_msg("width %d, row %d: %g became %g, %g allowed", (int)l.D, (int)(i / l.D), (double)x[i], (double)back[i],
                         allowed);
        }
    }
}

static void test_i8_known_values(void **state)
{
    (void)state;
    const float x[8] = {127, -127, 0.5f, 1.5f, -2.5f, 2.5001f, 0, -0.0f}, want[8] = {127, -127, 0, 2, -2, 3, 0, 0};
    uint8_t stored[12];
    float back[8];
    assert_int_equal(pac_i8_from_f32(stored, x, 1, 8), PAC_OK); /* the scale is 1 */
    pac_i8_to_f32(back, stored, 1, 8);
    for (int i = 0; i < 8; i++)
        assert_true(back[i] == want[i]);
    assert_true(pac_max_abs(x, 8) == 127 && pac_max_abs(x, 0) == 0);
    assert_true(pac_max_abs((const float[]){-1, 0.5f}, 2) == 1);
}

static void test_i8_refuses_what_is_not_finite(void **state)
{
    (void)state;
    const float wrong[] = {INFINITY, -INFINITY, NAN};
    pac_cache_layout l = small();
    uint8_t stored[12];
    static const pac_dtype types[] = {PAC_I8, PAC_F16};
    for (int t = 0; t < 2; t++)
        for (int i = 0; i < 3; i++) {
            l.dtype = types[t];
            assert_int_equal(cache_pack_rows(&l, (const float[]){1, 2, 3, wrong[i]}, 2, stored), PAC_ENUMERIC);
            assert_non_null(strstr(pac_err_message(), "use cache.dtype: bf16"));
        }
}

static void test_checksum_knows_its_place(void **state)
{
    (void)state;
    uint64_t sum = cache_checksum("rows", 4, 5, 6);
    assert_true(sum == cache_checksum("rows", 4, 5, 6));
    assert_true(sum != cache_checksum("rowz", 4, 5, 6));
    assert_true(sum != cache_checksum("rows", 4, 6, 6));
    assert_true(sum != cache_checksum("rows", 4, 5, 7));
}

static void test_sets_are_numbered_once(void **state)
{
    (void)state;
    cache_sets sets = {.parts = 13};
    const uint8_t stack[13] = {0};
    for (int round = 0; round < 2; round++)
        for (int64_t i = 0; i <= CACHE_MAX_SETS; i++) {
            uint8_t has[13];
            int64_t set = -1;
            for (int p = 0; p < 13; p++)
                has[p] = (uint8_t)(i >> p & 1);
            assert_int_equal(cache_sets_find(&sets, has, stack, &set), i < CACHE_MAX_SETS ? PAC_OK : PAC_EINVAL);
            assert_int_equal(set, i < CACHE_MAX_SETS ? i : -1);
        }
    cache_sets_free(&sets);
}

/* ---- records in the file ---- */

static pac_err append_parts(pac_cache *c, const int64_t *sample, int64_t n, int64_t first, int64_t last)
{
    float rows[64];
    for (int64_t p = first; p < last; p++) {
        int64_t at = 0;
        for (int64_t i = 0; i < n; i++)
            for (int64_t e = 0; e < c->l.len[c->l.stack[p]][sample[i]] * c->l.D; e++)
                rows[at++] = (float)(sample[i] * 100 + p * 10 + e);
        PAC_TRY(pac_cache_append(c, p, sample, n, rows));
    }
    return PAC_OK;
}

static pac_err make(const pac_cache_layout *l, pac_cache **out)
{
    static const int64_t order[SAMPLES] = {4, 1, 0, 5, 3, 2};
    pac_cache *c;
    PAC_TRY(pac_cache_create(dir, l, &identity, &c));
    pac_err err = append_parts(c, order, 3, 0, PARTS);
    err = err == PAC_OK ? append_parts(c, order + 3, 3, 0, PARTS) : err;
    err = err == PAC_OK ? pac_cache_finish(c) : err;
    err = err == PAC_OK ? pac_cache_redistribute(c, PAC_REDIST_ALLGATHER, NULL, 1 << 20, NULL) : err;
    if (err != PAC_OK)
        pac_cache_close(&c, true);
    else
        *out = c;
    return err;
}

static pac_err read_all(pac_cache *c)
{
    const float *part[PARTS];
    for (int64_t s = 0; s < SAMPLES; s++) {
        PAC_TRY(pac_cache_prefetch(c, &s, 1));
        PAC_TRY(pac_cache_take(c, part));
        for (int64_t p = 0; p < PARTS; p++)
            for (int64_t e = 0; e < c->l.len[c->l.stack[p]][s] * c->l.D; e++)
                if (part[p][e] != (float)(s * 100 + p * 10 + e))
                    return pac_fail(PAC_EINTERNAL, "sample %d, part %d: wrong", (int)s, (int)p);
    }
    return PAC_OK;
}

/* ---- the thread that writes ---- */

enum { ALL = SAMPLES * 5 * 2 }; /* floats of all samples of one part at most */
static float lent[PARTS][ALL];

/* All parts of samples [lo, hi) in order, each in its own place. */
static pac_err lend_parts(pac_cache *c, const int64_t *sample, int64_t lo, int64_t hi, int64_t *ticket)
{
    for (int64_t p = 0; p < PARTS; p++) {
        int64_t at = 0, first = 0;
        for (int64_t i = 0; i < hi; i++) {
            first = i == lo ? at : first;
            for (int64_t e = 0; e < c->l.len[c->l.stack[p]][sample[i]] * c->l.D; e++)
                lent[p][at++] = (float)(sample[i] * 100 + p * 10 + e);
        }
        PAC_TRY(pac_cache_lend(c, p, sample + lo, hi - lo, lent[p] + first, ticket));
    }
    return PAC_OK;
}

static void test_lent_rows_are_written_before_they_are_settled(void **state)
{
    (void)state;
    static const int64_t order[SAMPLES] = {0, 1, 2, 3, 4, 5};
    pac_cache_layout l = small();
    pac_cache *c;
    int64_t ticket[3];
    assert_int_equal(pac_cache_create(dir, &l, &identity, &c), PAC_OK);
    assert_int_equal(pac_cache_settle(c, INT64_MAX), PAC_OK); /* of nothing */
    for (int i = 0; i < 3; i++)
        assert_int_equal(lend_parts(c, order, 2 * i, 2 * i + 2, &ticket[i]), PAC_OK);
    assert_true(ticket[0] == PARTS && ticket[2] == 3 * PARTS);
    assert_int_equal(pac_cache_settle(c, ticket[1]), PAC_OK);
    assert_int_equal(pac_cache_settle(c, ticket[0]), PAC_OK);
    assert_int_equal(pac_cache_settle(c, INT64_MAX), PAC_OK);
    memset(lent, 0xff, sizeof lent);
    assert_int_equal(pac_cache_finish(c), PAC_OK);
    pac_cache_times t = pac_cache_spent(c);
    assert_true(t.write > 0 && t.write_waited >= 0 && t.read == 0);
    assert_int_equal(t.bytes_written, pac_cache_bytes(&l) + SAMPLES * PARTS * 8);
    assert_int_equal(pac_cache_lend(c, 0, order, 1, lent[0], NULL), PAC_EINVAL);
    assert_int_equal(pac_cache_redistribute(c, PAC_REDIST_ALLGATHER, NULL, 1 << 20, NULL), PAC_OK);
    assert_int_equal(read_all(c), PAC_OK);
    t = pac_cache_spent(c);
    assert_true(t.read > 0 && t.bytes_read == t.bytes_written);
    assert_int_equal(pac_cache_close(&c, false), PAC_OK);
}

/* More parts than the queue holds, from one place in memory that is settled only now and then. */
static void test_many_lent_parts(void **state)
{
    (void)state;
    pac_cache_layout l = small();
    const int64_t sample[2] = {0, 3};
    const float rows[2 * 5 * 2] = {1, 2, 3};
    pac_cache *c;
    assert_int_equal(pac_cache_create(dir, &l, &identity, &c), PAC_OK);
    for (int i = 0; i < 1000; i++)
        for (int64_t p = 0; p < PARTS; p++)
            assert_int_equal(pac_cache_lend(c, p, sample + i % 2, 1, rows, NULL), PAC_OK);
    assert_int_equal(pac_cache_finish(c), PAC_OK);
    assert_int_equal(pac_cache_spent(c).bytes_written, 500 * (2 * (3 + 1 + 1 + 0) * 8 + 2 * PARTS * 8));
    assert_int_equal(pac_cache_close(&c, false), PAC_OK);
}

static void test_the_threads_error_reaches_the_caller(void **state)
{
    (void)state;
    static const int64_t order[SAMPLES] = {0, 1, 2, 3, 4, 5};
    pac_cache_layout l = small();
    pac_cache *c;
    int64_t ticket;
    assert_int_equal(pac_cache_create(dir, &l, &identity, &c), PAC_OK);
    setenv("PAC_TEST_DISK_FREE", "5000", 1);
    pac_err err = lend_parts(c, order, 0, 2, &ticket);
    assert_int_equal(err, PAC_OK); /* kept until another micro-batch comes */
    assert_int_equal(pac_cache_settle(c, ticket), PAC_OK);
    err = lend_parts(c, order, 2, 4, &ticket);
    err = err == PAC_OK ? pac_cache_settle(c, ticket) : err;
    assert_int_equal(err, PAC_ENOSPACE);
    assert_non_null(strstr(pac_err_message(), dir));
    assert_non_null(strstr(pac_err_message(), "the disk is full"));
    assert_non_null(strstr(pac_err_message(), "cache.redistribute: shard"));
    unsetenv("PAC_TEST_DISK_FREE"); /* too late */
    assert_int_equal(lend_parts(c, order, 4, 6, &ticket), PAC_ENOSPACE);
    assert_non_null(strstr(pac_err_message(), "rank-0000.h5: an earlier write failed"));
    assert_int_equal(pac_cache_finish(c), PAC_ENOSPACE);
    assert_int_equal(pac_cache_close(&c, false), PAC_OK);

    l.dtype = PAC_I8;
    const float wrong[6] = {1, 2, 3, INFINITY, 5, 6};
    assert_int_equal(pac_cache_create(dir, &l, &identity, &c), PAC_OK);
    assert_int_equal(pac_cache_append(c, 0, order, 1, wrong), PAC_ENUMERIC);
    assert_non_null(strstr(pac_err_message(), "use cache.dtype: bf16"));
    assert_int_equal(pac_cache_finish(c), PAC_ENUMERIC);
    assert_int_equal(pac_cache_close(&c, false), PAC_OK);
}

/* A run that fails elsewhere frees what it lent; nothing of it is touched, nothing leaks, and the files are an interrupted
 * run's. */
static void test_abandoned_rows_are_not_read(void **state)
{
    (void)state;
    static const int64_t order[SAMPLES] = {0, 1, 2, 3, 4, 5};
    pac_cache_layout l = small();
    pac_cache *c;
    const int64_t blocks = pac_mem_blocks();
    bool found = true;
    c = NULL;
    pac_cache_abandon(&c);
    assert_int_equal(pac_cache_create(dir, &l, &identity, &c), PAC_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(lend_parts(c, order, 2 * i, 2 * i + 2, NULL), PAC_OK);
    pac_cache_abandon(&c);
    assert_null(c);
    assert_int_equal(pac_mem_blocks(), blocks);
    assert_int_equal(pac_cache_open(dir, &l, &identity, &found, &c), PAC_OK);
    assert_false(found);
}

static void test_a_sample_lies_together(void **state)
{
    (void)state;
    pac_cache_layout l = small();
    pac_cache *c;
    assert_int_equal(make(&l, &c), PAC_OK);
    assert_int_equal(read_all(c), PAC_OK);
    const cache_file *f = &c->at.file[0];
    cache_record *r;
    int64_t n, offset = 0;
    assert_int_equal(cache_file_records(f, &l, &r, &n), PAC_OK);
    assert_int_equal(n, SAMPLES); /* one record a sample, one after the other, all parts in it */
    assert_int_equal(f->sets.count, 1);
    assert_int_equal(r[0].sample, 4);
    for (int64_t i = 0; i < n; i++) {
        assert_int_equal(r[i].offset, offset);
        offset += cache_record_bytes(&l, &f->sets, 0, r[i].sample);
    }
    assert_int_equal(pac_h5_array_length(f->rows), offset);
    assert_int_equal(offset, pac_cache_bytes(&l) + SAMPLES * PARTS * 8);
    pac_mem_free(r);
    assert_int_equal(pac_cache_close(&c, false), PAC_OK);
    assert_int_not_equal(access(dir, F_OK), 0);
}

/* A micro-batch larger than the buffer: memory stays bounded, a sample has several records. */
static void test_large_parts_are_written_early(void **state)
{
    (void)state;
    int64_t rows[2] = {1500, 1400}, none[2] = {0, 0};
    pac_cache_layout l = {.parts = 8, .D = 1024, .dtype = PAC_F32, .samples = 2, .len = {rows, none}};
    const int64_t sample[2] = {1, 0};
    pac_cache *c;
    void *p;
    assert_int_equal(pac_mem_array(PAC_MEM_OTHER, 2900 * 1024, sizeof(float), &p), PAC_OK);
    float *x = p;
    assert_int_equal(pac_cache_create(dir, &l, &identity, &c), PAC_OK);
    pac_mem_reset_peaks();
    for (int64_t part = 0; part < 8; part++) {
        for (int64_t i = 0; i < 2900 * 1024; i++)
            x[i] = (float)(i + part);
        assert_int_equal(pac_cache_append(c, part, sample, 2, x), PAC_OK);
    }
    assert_in_range(pac_mem_peak(PAC_MEM_CACHE), 1, 64 << 20);
    assert_int_equal(pac_cache_finish(c), PAC_OK);
    assert_int_equal(pac_cache_redistribute(c, PAC_REDIST_SHARD, (const int32_t[]){0, 0}, 1 << 20, NULL), PAC_OK);
    const float *part[8];
    assert_int_equal(pac_cache_prefetch(c, sample, 2), PAC_OK);
    assert_int_equal(pac_cache_take(c, part), PAC_OK);
    for (int k = 0; k < 8; k++)
        for (int64_t i = 0; i < 2900 * 1024; i += 1023)
            assert_true(part[k][i] == (float)(i + k));
    pac_mem_free(p);
    assert_int_equal(pac_cache_close(&c, false), PAC_OK);
}

static void test_info(void **state)
{
    (void)state;
    pac_cache_layout l = small();
    pac_cache *c;
    char *json = NULL;
    assert_int_equal(pac_cache_info(dir, &json), PAC_EDATA);
    assert_int_equal(make(&l, &c), PAC_OK);
    assert_int_equal(pac_cache_close(&c, true), PAC_OK);
    assert_int_equal(pac_cache_info(dir, &json), PAC_OK);
    assert_non_null(
        strstr(json, "\"state\": \"redistributed\", \"redistribute\": \"allgather\", \"samples\": 6, \"parts\": 4"));
    assert_non_null(strstr(json, "\"model\": \"0000000000000001\""));
    pac_mem_free(json);
}

/* ---- hostile files (the one that the test above has kept) ---- */

static void change_number(const char *array, int64_t at, int64_t value)
{
    pac_h5 *f;
    pac_h5_array *a;
    assert_int_equal(pac_h5_open(file, true, &f), PAC_OK);
    assert_int_equal(pac_h5_array_open(f, array, PAC_I64, &a), PAC_OK);
    assert_int_equal(pac_h5_array_write(a, at, &value, 1), PAC_OK);
    pac_h5_array_close(&a);
    assert_int_equal(pac_h5_close(&f), PAC_OK);
}

static void change_attribute(const char *name, uint64_t value)
{
    pac_h5 *f;
    assert_int_equal(pac_h5_open(file, true, &f), PAC_OK);
    assert_int_equal(pac_h5_set(f, name, value), PAC_OK);
    assert_int_equal(pac_h5_close(&f), PAC_OK);
}

/* Open and read what is there, in all ways. The first error, or PAC_OK if it is as it was written. */
static pac_err use_file(void)
{
    pac_cache_layout l = small();
    pac_cache *c = NULL;
    bool found = false;
    char *json = NULL;
    int64_t samples, bytes;
    pac_err info = pac_cache_info(dir, &json), verified = pac_cache_verify(dir, &samples, &bytes);
    pac_mem_free(json);
    pac_err err = pac_cache_open(dir, &l, &identity, &found, &c);
    if (err == PAC_OK && found)
        err = read_all(c);
    pac_cache_close(&c, true);
    return err != PAC_OK ? err : verified != PAC_OK ? verified : !found ? PAC_EDATA : info;
}

static void test_numbers_out_of_range(void **state)
{
    (void)state;
    static const int64_t bad[] = {-1, INT64_MIN, INT64_MAX, 1000000};
    const int64_t good[] = {4, 0, 0}; /* sample, set, offset */
    assert_int_equal(use_file(), PAC_OK);
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < 4; k++) {
            change_number("index", i, bad[k]);
            assert_int_equal(use_file(), PAC_EDATA);
            assert_non_null(strstr(pac_err_message(), file));
        }
        change_number("index", i, good[i]);
        assert_int_equal(use_file(), PAC_OK);
    }
    change_number("index", 0, 5); /* another sample's record is no match, even where sizes agree */
    assert_int_equal(use_file(), PAC_EDATA);
    change_number("index", 0, 4);
    for (int k = 0; k < 4; k++) {
        change_number("length_encoder", 2, bad[k]);
        assert_int_equal(use_file(), PAC_EDATA);
    }
    change_number("length_encoder", 2, 5);
    assert_int_equal(use_file(), PAC_OK);
}

static void test_wrong_attributes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint64_t good;
    } numbers[] = {{"version", 1}, {"state", 2}, {"redistribute", 0}, {"world", 1}, {"rank", 0},
                   {"nodes", 1},   {"node", 0},  {"parts", 4},        {"width", 2}, {"dtype", 0},
                   {"samples", 6}, {"model", 1}, {"data", 2},         {"layout", 3}};
    static const uint64_t bad[] = {UINT64_MAX, INT64_MAX, 7, 1028};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        for (int k = 0; k < 4; k++) {
            change_attribute(numbers[i].name, bad[k]);
            assert_int_equal(use_file(), PAC_EDATA);
        }
        change_attribute(numbers[i].name, numbers[i].good);
        assert_int_equal(use_file(), PAC_OK);
    }
}

static void test_every_truncation(void **state)
{
    (void)state;
    struct stat s;
    assert_int_equal(stat(file, &s), 0);
    void *all = malloc((size_t)s.st_size);
    int fd = open(file, O_RDWR);
    assert_int_equal(pread(fd, all, (size_t)s.st_size, 0), s.st_size);
    for (int64_t n = 0; n < s.st_size; n += n < 4096 ? 97 : 4099) {
        assert_int_equal(ftruncate(fd, n), 0);
        assert_int_equal(use_file(), PAC_EDATA);
    }
    assert_int_equal(pwrite(fd, all, (size_t)s.st_size, 0), s.st_size);
    close(fd);
    free(all);
    assert_int_equal(use_file(), PAC_OK);
}

/* One byte anywhere: either it does not matter or there is an error; never a wrong number, never a crash. */
static void test_changed_bytes(void **state)
{
    (void)state;
    struct stat s;
    int fd = open(file, O_RDWR), refused = 0;
    assert_int_equal(fstat(fd, &s), 0);
    for (uint64_t i = 0; i < 1500; i++) {
        off_t at = (off_t)(pac_rng_u64(1, PAC_STREAM_TEST, 2 * i) % (uint64_t)(s.st_size < 8192 ? s.st_size : 8192));
        uint8_t good, bad;
        assert_int_equal(pread(fd, &good, 1, at), 1);
        bad = good ^ (uint8_t)(1 + pac_rng_u64(1, PAC_STREAM_TEST, 2 * i + 1) % 255);
        assert_int_equal(pwrite(fd, &bad, 1, at), 1);
        pac_err err = use_file();
        assert_int_not_equal(err, PAC_EINTERNAL);
        refused += err != PAC_OK;
        assert_int_equal(pwrite(fd, &good, 1, at), 1);
    }
    close(fd);
    assert_in_range(refused, 100, 1500);
    assert_int_equal(use_file(), PAC_OK);
    unlink(file);
}

/* ---- memory that runs out ---- */

static pac_err whole_life(void)
{
    pac_cache_layout l = small();
    pac_cache *c = NULL;
    bool found = false;
    PAC_TRY(make(&l, &c));
    pac_err err = read_all(c);
    pac_err closed = pac_cache_close(&c, true);
    PAC_TRY(err);
    PAC_TRY(closed);
    PAC_TRY(pac_cache_open(dir, &l, &identity, &found, &c));
    err = read_all(c);
    closed = pac_cache_close(&c, false);
    return err != PAC_OK ? err : closed;
}

static void test_every_allocation_fails_in_turn(void **state)
{
    (void)state;
    int64_t before = pac_mem_blocks();
    for (int64_t k = 1;; k++) {
        pac_mem_fail_at(k);
        pac_err err = whole_life();
        pac_mem_fail_at(0);
        assert_int_equal(pac_mem_blocks(), before);
        if (err == PAC_OK) {
            assert_in_range(k, 20, 2000);
            return;
        }
        assert_int_equal(err, PAC_ENOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_layouts_that_cannot_be),
        cmocka_unit_test(test_rows_of_each_type),
        cmocka_unit_test(test_what_f16_cannot_hold_is_refused),
        cmocka_unit_test(test_i8_is_within_half_a_step),
        cmocka_unit_test(test_i8_known_values),
        cmocka_unit_test(test_i8_refuses_what_is_not_finite),
        cmocka_unit_test(test_checksum_knows_its_place),
        cmocka_unit_test(test_sets_are_numbered_once),
        cmocka_unit_test(test_lent_rows_are_written_before_they_are_settled),
        cmocka_unit_test(test_many_lent_parts),
        cmocka_unit_test(test_the_threads_error_reaches_the_caller),
        cmocka_unit_test(test_abandoned_rows_are_not_read),
        cmocka_unit_test(test_a_sample_lies_together),
        cmocka_unit_test(test_large_parts_are_written_early),
        cmocka_unit_test(test_info),
        cmocka_unit_test(test_numbers_out_of_range),
        cmocka_unit_test(test_wrong_attributes),
        cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_changed_bytes),
        cmocka_unit_test(test_every_allocation_fails_in_turn),
    };
    return cmocka_run_group_tests(tests, make_base, remove_base);
}
