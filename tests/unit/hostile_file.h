/* What the tests of files share: a folder of their own, files that are put there, refusals by line, damaged copies. */
#ifndef PAC_TEST_HOSTILE_FILE_H
#define PAC_TEST_HOSTILE_FILE_H

#include "pac/plan.h"
#include "pac/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

typedef pac_err reader(const char *path); /* reads a file and frees what it holds */

static char folder[256], path[300];

static inline int make_folder(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%.200s/pac-file-XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/file.yaml", folder);
    return 0;
}

static inline int remove_folder(void **state)
{
    (void)state;
    remove(path);
    return rmdir(folder);
}

static inline void put(const char *text, size_t bytes)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, bytes, f), bytes);
    assert_int_equal(fclose(f), 0);
}

static inline size_t get(const char *from, char *text, size_t room)
{
    FILE *f = fopen(from, "rb");
    assert_non_null(f);
    size_t n = fread(text, 1, room - 1, f);
    assert_true(n < room - 1);
    text[n] = '\0';
    fclose(f);
    return n;
}

static uint64_t draws;

static inline int64_t integer(int64_t lo, int64_t hi)
{
    return lo + (int64_t)(pac_rng_u64(5, PAC_STREAM_TEST, draws++) % (uint64_t)(hi - lo + 1));
}

static inline double uniform(double lo, double hi)
{
    return lo + (hi - lo) * (double)pac_rng_uniform(5, PAC_STREAM_TEST, draws++);
}

static inline void refused(reader *read, const char *text, const char *line, const char *what)
{
    put(text, strlen(text));
    int64_t blocks = pac_mem_blocks();
    char place[320];
    snprintf(place, sizeof place, "%s:%s", path, line);
    if (read(path) != PAC_ECONFIG)
        fail_msg("accepted, or another error (%s):\n%s", pac_err_message(), text);
    if (strstr(pac_err_message(), place) == NULL || strstr(pac_err_message(), what) == NULL)
        fail_msg("'%s' does not hold '%s' and '%s'", pac_err_message(), place, what);
    assert_int_equal(pac_mem_blocks(), blocks);
}

/* The example in docs/formats.md. */
static inline void check_example(const char *heading, reader *read)
{
    static char doc[1 << 18];
    char where[4096];
    const char *root = getenv("PAC_SOURCE_ROOT"), *start;
    if (root == NULL)
        skip();
    snprintf(where, sizeof where, "%s/docs/formats.md", root);
    get(where, doc, sizeof doc);
    assert_non_null(start = strstr(doc, heading));
    assert_non_null(start = strstr(start, "```yaml\n"));
    start += strlen("```yaml\n");
    put(start, (size_t)(strstr(start, "```") - start));
    if (read(path) != PAC_OK)
        fail_msg("%s", pac_err_message());
}

/* Every truncation of what is there and hundreds of damaged copies: read or refused, never a crash, nothing left behind. */
static inline void damage(reader *read)
{
    static char text[1 << 16], copy[1 << 16];
    static const char odd[] = "0129-+.eE[]{},:#'\"\n\t\\ &*!x\x01\xff";
    size_t n = get(path, text, sizeof text), step = n > 1000 ? 7 : 1;
    int64_t blocks = pac_mem_blocks();
    for (size_t cut = 0; cut < n; cut += step) {
        put(text, cut);
        pac_err err = read(path);
        assert_true(err == PAC_OK || err == PAC_ECONFIG);
    }
    for (int t = 0; t < 800; t++) {
        memcpy(copy, text, n);
        for (int64_t k = integer(1, 4); k > 0; k--)
            copy[integer(0, (int64_t)n - 1)] = odd[integer(0, (int64_t)sizeof odd - 2)];
        put(copy, n);
        pac_err err = read(path);
        assert_true(err == PAC_OK || err == PAC_ECONFIG);
        if (err != PAC_OK)
            assert_non_null(strstr(pac_err_message(), path));
    }
    assert_int_equal(pac_mem_blocks(), blocks);
}

/* Every allocation fails once: an error and nothing kept, until none is left to fail. */
static inline void fail_allocations(pac_err (*work)(const void *with), const void *with)
{
    int64_t blocks = pac_mem_blocks(), k = 0;
    pac_err err = PAC_ENOMEM;
    while (err == PAC_ENOMEM) {
        pac_mem_fail_at(++k);
        err = work(with);
        assert_int_equal(pac_mem_blocks(), blocks);
    }
    pac_mem_fail_at(0);
    assert_int_equal(err, PAC_OK);
    assert_true(k > 1);
}

#endif
