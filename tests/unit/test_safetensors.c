/* safetensors: round trips, every way in which a file can lie, and thousands of small mutations of a valid one. */
#include "pac/file.h"
#include "pac/mem.h"
#include "pac/rng.h"
#include "pac/safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { PATH_BYTES = 256, FUZZ_ROUNDS = 6000 };

static char dir[] = "/tmp/pac-test-st-XXXXXX";

static const char *in_dir(const char *name)
{
    static char path[4][PATH_BYTES];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], PATH_BYTES, "%s/%s", dir, name);
    return path[turn];
}

static void assert_message(const char *part)
{
    if (strstr(pac_err_message(), part) == NULL)
        fail_msg("'%s' is not in '%s'", part, pac_err_message());
}

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) == NULL;
}

static int remove_dir(void **state)
{
    (void)state;
    static const char *const names[] = {"a.safetensors",      "raw.safetensors",    "model.safetensors",
                                        "part-1.safetensors", "part-2.safetensors", "model.safetensors.index.json"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unlink(in_dir(names[i]));
    return rmdir(dir);
}

/* Without the fsync of pac_file_replace(): these files are many. */
static void put(const char *path, const char *text, size_t bytes)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, bytes, f), bytes);
    assert_int_equal(fclose(f), 0);
}

static void write_raw(const char *name, const char *header, size_t header_bytes, size_t data_bytes)
{
    char text[4096] = {0};
    size_t n = strlen(header);
    assert_true(8 + n + data_bytes <= sizeof text);
    for (int i = 0; i < 8; i++)
        text[i] = (char)(header_bytes >> (8 * i));
    memcpy(text + 8, header, n);
    put(in_dir(name), text, 8 + n + data_bytes);
}

/* A file with this header and so many bytes of data is refused with a message that has file and reason. */
static void assert_refused(const char *header, size_t data_bytes, const char *part)
{
    pac_st *f = NULL;
    write_raw("raw.safetensors", header, strlen(header), data_bytes);
    pac_err err = pac_st_open(in_dir("raw.safetensors"), &f);
    if (err != PAC_EDATA)
        fail_msg("'%s' gives %s", header, pac_err_name(err));
    assert_null(f);
    assert_message("raw.safetensors");
    assert_message(part);
}

static float matrix[6] = {1, 2, 3, 4, 5, 6};
static uint16_t halves[3] = {0x3f80, 0x4000, 0x4040};
static int64_t wide[2] = {-1, INT64_MAX};
static uint8_t small[5] = {1, 2, 3, 4, 5};
static const pac_st_entry entries[] = {
    {"u8", {PAC_U8, 1, {5}, small}},
    {"layer.0.w", {PAC_F32, 2, {2, 3}, matrix}},
    {"bf16", {PAC_BF16, 3, {1, 3, 1}, halves}},
    {"none", {PAC_I32, 2, {0, 7}, NULL}},
    {"i64", {PAC_I64, 1, {2}, wide}},
    {"scalar", {PAC_F32, 0, {0}, matrix}},
};
enum { ENTRIES = sizeof entries / sizeof entries[0] };

static void write_valid(const char *name)
{
    static const char *const metadata[] = {"format", "pt", "pac.reduction", "8", NULL};
    assert_int_equal(pac_st_write(in_dir(name), entries, ENTRIES, metadata), PAC_OK);
}

static void test_round_trip(void **state)
{
    (void)state;
    write_valid("a.safetensors");
    pac_st *f = NULL;
    assert_int_equal(pac_st_open(in_dir("a.safetensors"), &f), PAC_OK);
    assert_int_equal(pac_st_count(f), ENTRIES);
    for (int i = 0; i < ENTRIES; i++) {
        const pac_tensor *want = &entries[i].tensor;
        pac_tensor t;
        bool found;
        pac_st_find(f, entries[i].name, &found, &t);
        assert_true(found);
        assert_int_equal(t.dtype, want->dtype);
        assert_int_equal(t.ndim, want->ndim);
        for (int k = 0; k < t.ndim; k++)
            assert_int_equal(t.shape[k], want->shape[k]);
        size_t bytes = (size_t)pac_tensor_elements(&t) * pac_dtype_size(t.dtype);
        assert_int_equal((uintptr_t)t.data % pac_dtype_size(t.dtype), 0);
        if (bytes > 0)
            assert_memory_equal(t.data, want->data, bytes);
        pac_st_drop(f, t.data, bytes);
    }
    bool found;
    pac_tensor t;
    pac_st_find(f, "absent", &found, &t);
    assert_false(found);
    assert_string_equal(pac_st_name(f, 0), "i64");
    assert_string_equal(pac_st_path(f, 0), in_dir("a.safetensors"));
    assert_string_equal(pac_st_metadata(f, "pac.reduction"), "8");
    assert_null(pac_st_metadata(f, "absent"));
    pac_st_close(&f);
    assert_null(f);
}

static void test_dropped_pages_come_back(void **state)
{
    (void)state;
    enum { N = 100000 };
    float *x = calloc(N, sizeof *x);
    assert_non_null(x);
    for (int i = 0; i < N; i++)
        x[i] = (float)i;
    pac_st_entry e = {"x", {PAC_F32, 1, {N}, x}};
    pac_st *f = NULL;
    pac_tensor t;
    assert_int_equal(pac_st_write(in_dir("a.safetensors"), &e, 1, NULL), PAC_OK);
    assert_int_equal(pac_st_open(in_dir("a.safetensors"), &f), PAC_OK);
    pac_st_view(f, 0, &t);
    assert_memory_equal(t.data, x, N * sizeof *x);
    pac_st_drop(f, t.data, N * sizeof *x);
    assert_memory_equal(t.data, x, N * sizeof *x);
    pac_st_drop(f, (char *)t.data + 1, SIZE_MAX); /* not within the mapping: nothing happens */
    pac_st_close(&f);
    free(x);
}

static void test_lying_headers_are_refused(void **state)
{
    (void)state;
    assert_refused("[]", 0, "not a JSON object");
    assert_refused("{\"a\":1", 0, "header, byte");
    assert_refused("{\"a\":1}", 0, "'a': dtype");
    assert_refused("{\"a\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]}}", 8, "known: F32");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]}}", 4, "shape is not");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "shape is not");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}", 4, "shape is not");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1],\"data_offsets\":[0,4]}}", 4, "shape is not");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0, "too large");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}", 0, "too large");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,0]}}", 0, "header, byte");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "pair of offsets");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "pair of offsets");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4, "pair of offsets");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "do not agree");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "a hole in front");
    assert_refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
                   "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}",
                   6, "overlaps");
    assert_refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"a\":{}}", 1, "duplicate");
    assert_refused("{\"__metadata__\":3}", 0, "__metadata__ is not");
    assert_refused("{\"__metadata__\":{\"k\":3}}", 0, "__metadata__.k is not text");
    assert_refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 9, "bytes expected, the file has");
}

static void test_truncated_files_say_both_sizes(void **state)
{
    (void)state;
    pac_st *f = NULL;
    const char *header = "{\"a\":{\"dtype\":\"F32\",\"shape\":[100],\"data_offsets\":[0,400]}}";
    char part[128];
    snprintf(part, sizeof part, "truncated: %zu bytes expected, the file has %zu", 8 + strlen(header) + 400,
             8 + strlen(header) + 399);
    assert_refused(header, 399, part);
    write_raw("raw.safetensors", "{}", 1000, 0);
    assert_int_equal(pac_st_open(in_dir("raw.safetensors"), &f), PAC_EDATA);
    assert_message("truncated: header ends at byte 1008, the file has 10");
    write_raw("raw.safetensors", "{}", SIZE_MAX, 0);
    assert_int_equal(pac_st_open(in_dir("raw.safetensors"), &f), PAC_EDATA);
    assert_int_equal(truncate(in_dir("raw.safetensors"), 3), 0);
    assert_int_equal(pac_st_open(in_dir("raw.safetensors"), &f), PAC_EDATA);
    assert_message("too short");
    assert_int_equal(pac_file_replace_text(in_dir("raw.safetensors"), "version https://git-lfs.github.com/spec/v1\n"), PAC_OK);
    assert_int_equal(pac_st_open(in_dir("raw.safetensors"), &f), PAC_EDATA);
    assert_message("git lfs pull");
    assert_int_equal(pac_st_open(in_dir("absent"), &f), PAC_EIO);
    assert_int_equal(pac_st_open(dir, &f), PAC_EIO);
    assert_message("not a regular file");
}

static void test_empty_file_of_tensors(void **state)
{
    (void)state;
    pac_st *f = NULL;
    write_raw("raw.safetensors", "{}      ", 8, 0);
    assert_int_equal(pac_st_open(in_dir("raw.safetensors"), &f), PAC_OK);
    assert_int_equal(pac_st_count(f), 0);
    bool found;
    pac_tensor t;
    pac_st_find(f, "a", &found, &t);
    assert_false(found);
    pac_st_close(&f);
}

static void test_shards(void **state)
{
    (void)state;
    pac_st *f = NULL;
    assert_int_equal(pac_st_open_dir(dir, &f), PAC_EIO);
    assert_message("neither model.safetensors nor");
    assert_int_equal(pac_st_write(in_dir("part-1.safetensors"), entries, 2, NULL), PAC_OK);
    assert_int_equal(pac_st_write(in_dir("part-2.safetensors"), entries + 2, ENTRIES - 2, NULL), PAC_OK);
    const char *index = in_dir("model.safetensors.index.json");
    assert_int_equal(pac_file_replace_text(index,
                                           "{\"weight_map\":{\"u8\":\"part-1.safetensors\",\"i64\":\"part-2.safetensors\","
                                           "\"scalar\":\"part-2.safetensors\"}}"),
                     PAC_OK);
    assert_int_equal(pac_st_open_dir(dir, &f), PAC_OK);
    assert_int_equal(pac_st_count(f), ENTRIES);
    bool found;
    pac_tensor t;
    pac_st_find(f, "i64", &found, &t);
    assert_true(found);
    assert_memory_equal(t.data, wide, sizeof wide);
    pac_st_close(&f);
    static const struct {
        const char *text, *part;
    } bad[] = {
        {"{", "index.json:1"},
        {"{\"weight_map\":[]}", "no weight_map"},
        {"{\"weight_map\":{\"u8\":3}}", "not a file name"},
        {"{\"weight_map\":{\"u8\":\"../part-1.safetensors\"}}", "not the name of a file"},
        {"{\"weight_map\":{\"u8\":\"/etc/passwd\"}}", "not the name of a file"},
        {"{\"weight_map\":{\"u8\":\"absent.safetensors\"}}", "absent.safetensors: cannot open"},
        {"{\"weight_map\":{\"w\":\"part-1.safetensors\"}}", "tensor 'w' is not in part-1.safetensors"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        put(index, bad[i].text, strlen(bad[i].text));
        assert_int_not_equal(pac_st_open_dir(dir, &f), PAC_OK);
        assert_message(bad[i].part);
    }
    write_valid("part-2.safetensors");
    assert_int_equal(
        pac_file_replace_text(index, "{\"weight_map\":{\"u8\":\"part-1.safetensors\",\"i64\":\"part-2.safetensors\"}}"),
        PAC_OK);
    assert_int_equal(pac_st_open_dir(dir, &f), PAC_EDATA);
    assert_message("is both in");
    write_valid("model.safetensors");
    assert_int_equal(pac_st_open_dir(dir, &f), PAC_OK);
    pac_st_close(&f);
}

static void test_writer_replaces_or_leaves(void **state)
{
    (void)state;
    struct stat st;
    assert_int_equal(pac_file_replace_text(in_dir("raw.safetensors"), "old"), PAC_OK);
    assert_int_equal(symlink("/dev/full", in_dir("raw.safetensors.tmp")), 0);
    assert_int_equal(pac_st_write(in_dir("raw.safetensors"), entries, ENTRIES, NULL), PAC_ENOSPACE);
    assert_message("no space left");
    assert_int_equal(lstat(in_dir("raw.safetensors.tmp"), &st), -1);
    assert_int_equal(stat(in_dir("raw.safetensors"), &st), 0);
    assert_int_equal(st.st_size, 3);
    assert_int_equal(pac_st_write(in_dir("no/such/dir"), entries, ENTRIES, NULL), PAC_EIO);
    pac_st_entry twice[2] = {entries[0], entries[0]};
    assert_int_equal(pac_st_write(in_dir("raw.safetensors"), twice, 2, NULL), PAC_EINVAL);
    pac_st_entry odd = {"\xff", {PAC_U8, 1, {5}, small}};
    assert_int_equal(pac_st_write(in_dir("raw.safetensors"), &odd, 1, NULL), PAC_EINVAL);
    assert_int_equal(stat(in_dir("raw.safetensors"), &st), 0);
    assert_int_equal(st.st_size, 3);
}

/* Every byte that a view promises can be read, and lies in the file. */
static int64_t read_everything(const pac_st *f, int64_t file_bytes)
{
    int64_t sum = 0, total = 0;
    for (int64_t i = 0; i < pac_st_count(f); i++) {
        pac_tensor t, same;
        bool found;
        pac_st_view(f, i, &t);
        pac_st_find(f, pac_st_name(f, i), &found, &same);
        assert_true(found);
        int64_t bytes = pac_tensor_elements(&t) * (int64_t)pac_dtype_size(t.dtype);
        total += bytes;
        for (int64_t k = 0; k < bytes; k++)
            sum += ((const uint8_t *)t.data)[k];
    }
    assert_true(total <= file_bytes);
    return sum;
}

/* One change: flip a bit, set a byte, or cut the tail; mostly in the header, where the meaning is. */
static size_t mutate(char *text, size_t n, uint64_t round)
{
    uint64_t r = pac_rng_u64(7, PAC_STREAM_TEST, round);
    static const char telling[] = "0123456789-[]{}\",:.eE \\";
    for (uint64_t changes = 1 + r % 3; changes > 0; changes--) {
        r = pac_rng_u64(r, PAC_STREAM_TEST, round);
        size_t at = (r >> 8) % n;
        switch (r % 8) {
        case 0:
            n = at + 1;
            break;
        case 1:
        case 2:
            text[at] = (char)(text[at] ^ (1 << (r >> 60 & 7)));
            break;
        case 3:
            text[at] = (char)(r >> 56);
            break;
        default:
            text[at] = telling[(r >> 40) % (sizeof telling - 1)];
        }
    }
    return n;
}

static void test_mutations_never_crash(void **state)
{
    (void)state;
    char *valid = NULL, changed[2048];
    size_t bytes;
    write_valid("a.safetensors");
    assert_int_equal(pac_file_load(in_dir("a.safetensors"), sizeof changed, &valid, &bytes), PAC_OK);
    int64_t opened = 0, refused = 0, sum = 0, blocks = pac_mem_blocks();
    for (uint64_t round = 0; round < FUZZ_ROUNDS; round++) {
        memcpy(changed, valid, bytes);
        size_t n = mutate(changed, bytes, round);
        put(in_dir("raw.safetensors"), changed, n);
        pac_st *f = NULL;
        pac_err err = pac_st_open(in_dir("raw.safetensors"), &f);
        assert_true(err == PAC_OK || err == PAC_EDATA);
        assert_true((err == PAC_OK) == (f != NULL));
        if (err == PAC_OK)
            sum += read_everything(f, (int64_t)n);
        opened += err == PAC_OK;
        refused += err != PAC_OK;
        pac_st_close(&f);
        assert_int_equal(pac_mem_blocks(), blocks);
    }
    assert_true(sum > 0 && opened > 100 && refused > 1000); /* the loop sees both sides */
    pac_mem_free(valid);
}

static void test_every_allocation_may_fail(void **state)
{
    (void)state;
    int64_t blocks = pac_mem_blocks();
    pac_err err = PAC_ENOMEM;
    for (int64_t k = 1; err != PAC_OK; k++) {
        pac_st *f = NULL;
        pac_mem_fail_at(k);
        err = pac_st_write(in_dir("a.safetensors"), entries, ENTRIES, NULL);
        if (err == PAC_OK)
            err = pac_st_open(in_dir("a.safetensors"), &f);
        pac_mem_fail_at(0);
        assert_true(err == PAC_OK || err == PAC_ENOMEM);
        pac_st_close(&f);
        assert_int_equal(pac_mem_blocks(), blocks);
        assert_true(k < 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_dropped_pages_come_back),
        cmocka_unit_test(test_lying_headers_are_refused),
        cmocka_unit_test(test_truncated_files_say_both_sizes),
        cmocka_unit_test(test_empty_file_of_tensors),
        cmocka_unit_test(test_shards),
        cmocka_unit_test(test_writer_replaces_or_leaves),
        cmocka_unit_test(test_mutations_never_crash),
        cmocka_unit_test(test_every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
