/*
 * The activation cache with any number of ranks: ragged samples whose parts are spread over stages and shares, written in
 * random mini-batch order, redistributed both ways, read back element by element; kept, reused, refused, damaged, on a full
 * disk.
 *
 * usage: test_cache [keep|reuse DIR]   two runs on one directory, perhaps of different sizes
 */
#include "check.h"
#include "pac/cache.h"
#include "pac/log.h"
#include "pac/rng.h"
#include "pac/schedule.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PARTS = 7, WIDTH = 3, MAX_SAMPLES = 40, MAX_ROWS = 6, MAX_STAGES = 4, CHUNK = 5 };

static int64_t rank, size;
static char dir[256];
static int64_t lengths[2][MAX_SAMPLES];
static const pac_cache_id identity = {.model = 1, .data = UINT64_MAX, .layout = 3};

/* ---- what is stored ---- */

static pac_cache_layout layout_of(int64_t samples)
{
    pac_cache_layout l = {.parts = PARTS, .D = WIDTH, .dtype = PAC_F32, .samples = samples, .len = {lengths[0], lengths[1]}};
    memcpy(l.stack, "\0\0\0\0\1\1\1", PARTS);
    for (int64_t i = 0; i < samples; i++)
        for (int s = 0; s < 2; s++)
            lengths[s][i] = (int64_t)(pac_rng_u64(7, (uint64_t)s, (uint64_t)i) % MAX_ROWS); /* some have none */
    return l;
}

static float value(int64_t sample, int64_t part, int64_t element)
{
    return pac_rng_normal(11, (uint64_t)(sample * PARTS + part), (uint64_t)element);
}

static int64_t fill(const pac_cache_layout *l, int64_t part, const int64_t *sample, int64_t n, float *out)
{
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t e = 0; e < l->len[l->stack[part]][sample[i]] * l->D; e++)
            out[at++] = value(sample[i], part, e);
    return at;
}

/* ---- plans ---- */

typedef struct shape {
    int64_t stages, ranks[MAX_STAGES];
    bool uneven; /* shares */
} shape;

static const shape shapes[] = {
    {1, {1}, false},       {1, {2}, true},    {2, {1, 1}, false},       {2, {2, 1}, false}, {2, {1, 2}, true},
    {3, {1, 1, 1}, false}, {2, {2, 2}, true}, {4, {1, 1, 1, 1}, false}, {1, {4}, false},    {3, {1, 2, 1}, true},
};

typedef struct whole_plan {
    pac_plan plan;
    pac_stage_plan stage[MAX_STAGES];
    int64_t ranks[MAX_STAGES][4];
    double shares[MAX_STAGES][4];
} whole_plan;

static void make_plan(const shape *s, whole_plan *w)
{
    int64_t next = 0;
    *w = (whole_plan){.plan = {.world = size, .layers = PARTS, .microbatches = 1, .stages = s->stages}};
    w->plan.stage = w->stage;
    for (int64_t k = 0; k < s->stages; k++) {
        pac_range layers = pac_split_even(PARTS, s->stages, k);
        w->stage[k] = (pac_stage_plan){
            .first = layers.lo, .last = layers.hi, .ranks = s->ranks[k], .rank = w->ranks[k], .share = w->shares[k]};
        for (int64_t i = 0; i < s->ranks[k]; i++) {
            double sum = (double)(s->ranks[k] * (s->ranks[k] + 1) / 2);
            w->ranks[k][i] = next++;
            w->shares[k][i] = s->uneven ? (double)(i + 1) / sum : 1.0 / (double)s->ranks[k];
        }
    }
}

static int64_t shape_size(const shape *s)
{
    int64_t n = 0;
    for (int64_t k = 0; k < s->stages; k++)
        n += s->ranks[k];
    return n;
}

/* This rank's stage and its samples [lo, hi) of a micro-batch of n. */
static const pac_stage_plan *my_range(const whole_plan *w, int64_t n, int64_t *lo, int64_t *hi)
{
    for (int64_t k = 0; k < w->plan.stages; k++) {
        double before = 0;
        for (int64_t i = 0; i < w->stage[k].ranks; i++) {
            double after = before + w->stage[k].share[i];
            if (w->stage[k].rank[i] == rank) {
                *lo = (int64_t)((double)n * before + 0.5);
                *hi = i + 1 == w->stage[k].ranks ? n : (int64_t)((double)n * after + 0.5);
                return &w->stage[k];
            }
            before = after;
        }
    }
    CHECK(false, "no stage");
    return NULL;
}

/* ---- writing and reading ---- */

static pac_err write_epoch(pac_cache *c, const pac_cache_layout *l, const whole_plan *w)
{
    int64_t order[MAX_SAMPLES + 1], lo, hi;
    float rows[MAX_SAMPLES * MAX_ROWS * WIDTH];
    pac_rng_permutation(5, 1, l->samples, order);
    for (int64_t at = 0; at < l->samples; at += 6) {
        int64_t n = l->samples - at < 6 ? l->samples - at : 6;
        const pac_stage_plan *mine = my_range(w, n, &lo, &hi);
        for (int64_t p = mine->first; p < mine->last; p++) {
            fill(l, p, order + at + lo, hi - lo, rows);
            PAC_TRY(pac_cache_append(c, p, order + at + lo, hi - lo, rows));
        }
    }
    return PAC_OK;
}

static void owners(const pac_cache_layout *l, int32_t *owner)
{
    for (int64_t i = 0; i < l->samples; i++)
        owner[i] = (int32_t)(pac_rng_u64(3, 3, (uint64_t)i) % (uint64_t)size);
}

/* What a type gives back of f32 rows. */
static void stored_as(const pac_cache_layout *l, float *x, int64_t rows)
{
    uint8_t bytes[MAX_SAMPLES * MAX_ROWS * (WIDTH + PAC_I8_SCALE)];
    if (l->dtype != PAC_I8)
        return;
    CHECK_OK(pac_i8_from_f32(bytes, x, rows, l->D));
    pac_i8_to_f32(x, bytes, rows, l->D);
}

static void check_chunk(const pac_cache_layout *l, const int64_t *sample, int64_t n, const float *const *part)
{
    float expected[MAX_SAMPLES * MAX_ROWS * WIDTH];
    for (int64_t p = 0; p < PARTS; p++) {
        int64_t floats = fill(l, p, sample, n, expected);
        stored_as(l, expected, floats / l->D);
        CHECK(floats == 0 || memcmp(expected, part[p], (size_t)floats * sizeof(float)) == 0, "part %d of %d samples from %d",
              (int)p, (int)n, (int)sample[0]);
    }
}

/* Everything that this rank can read, in random order, two requests ahead; the buffers of a chunk stay while the next is asked.
 */
static void read_epoch(pac_cache *c, const pac_cache_layout *l, uint64_t epoch)
{
    int64_t order[MAX_SAMPLES + 1], mine[MAX_SAMPLES + 1], n = 0, asked = 0;
    const float *part[PARTS];
    pac_rng_permutation(9, epoch, l->samples, order);
    for (int64_t i = 0; i < l->samples; i++)
        if (pac_cache_owner(c, order[i]) < 0 || pac_cache_owner(c, order[i]) == rank)
            mine[n++] = order[i];
    for (int64_t at = 0; at < n || at == 0; at += CHUNK) {
        for (; asked < at + 2 * CHUNK && (asked < n || asked == 0); asked += CHUNK)
            CHECK_OK(pac_cache_prefetch(c, mine + asked, n - asked < CHUNK ? n - asked : CHUNK));
        CHECK_OK(pac_cache_take(c, part));
        if (asked < n) {
            CHECK_OK(pac_cache_prefetch(c, mine + asked, n - asked < CHUNK ? n - asked : CHUNK));
            asked += CHUNK;
        }
        check_chunk(l, mine + at, n - at < CHUNK ? n - at : CHUNK, part);
    }
    CHECK(pac_cache_take(c, part) == PAC_EINVAL, "nothing is left");
}

/* Only files of this node are open. */
static void check_open_files(pac_redistribute how)
{
    DIR *d = opendir("/proc/self/fd");
    for (struct dirent *e = d != NULL ? readdir(d) : NULL; e != NULL; e = readdir(d)) {
        char link[300], target[512];
        snprintf(link, sizeof link, "/proc/self/fd/%s", e->d_name);
        ssize_t n = readlink(link, target, sizeof target - 1);
        target[n > 0 ? n : 0] = '\0';
        const char *name = strrchr(target, '/');
        int writer;
        if (strstr(target, dir) == NULL || name == NULL ||
            (sscanf(name, "/rank-%d.h5", &writer) != 1 && sscanf(name, "/import-%d.h5", &writer) != 1))
            continue;
        CHECK(pac_node_of(writer) == pac_node_of(rank), "%s is of another node", target);
        CHECK(how == PAC_REDIST_ALLGATHER || writer == rank, "%s is not ours", target);
    }
    if (d != NULL)
        closedir(d);
}

static bool exists(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return access(path, F_OK) == 0;
}

/* A redistributed cache. */
static pac_cache *make_cache(const pac_cache_layout *l, const shape *s, pac_redistribute how, size_t block)
{
    whole_plan w;
    pac_cache *c = NULL;
    int32_t owner[MAX_SAMPLES + 1];
    pac_cache_moved moved;
    make_plan(s, &w);
    owners(l, owner);
    CHECK_OK(pac_cache_check_space(dir, l, &(pac_layout){.plan = &w.plan}, how));
    CHECK_OK(pac_cache_create(dir, l, &identity, &c));
    CHECK_OK(write_epoch(c, l, &w));
    CHECK_OK(pac_cache_finish(c));
    CHECK_OK(pac_cache_redistribute(c, how, how == PAC_REDIST_SHARD ? owner : NULL, block, &moved));
    bool moves = how == PAC_REDIST_SHARD ? size > 1 : pac_node_count() > 1;
    CHECK(moves || moved.bytes_sent == 0, "%d bytes sent", (int)moved.bytes_sent);
    int64_t sums[2] = {moved.bytes_sent, moved.bytes_stored};
    CHECK_OK(pac_sum_i64(pac_world(), sums, 2));
    if (how == PAC_REDIST_ALLGATHER)
        CHECK(sums[1] == sums[0] * (pac_node_count() - 1), "%d stored of %d", (int)sums[1], (int)sums[0]);
    else
        CHECK(sums[1] == sums[0], "%d stored of %d", (int)sums[1], (int)sums[0]);
    for (int64_t i = 0; i < l->samples; i++)
        CHECK(pac_cache_owner(c, i) == (how == PAC_REDIST_SHARD ? owner[i] : -1), "owner of %d", (int)i);
    return c;
}

static void test_round_trip(const shape *s, pac_redistribute how, pac_dtype type, int64_t samples, size_t block)
{
    pac_cache_layout l = layout_of(samples);
    l.dtype = type;
    pac_cache *c = make_cache(&l, s, how, block);
    read_epoch(c, &l, 1);
    read_epoch(c, &l, 2);
    check_open_files(how);
    CHECK_OK(pac_cache_close(&c, true));
    CHECK(c == NULL && exists("rank-0000.h5"), "kept");
    bool found = false;
    CHECK_OK(pac_cache_open(dir, &l, &identity, &found, &c));
    CHECK(found, "not found again");
    read_epoch(c, &l, 3);
    check_open_files(how);
    CHECK_OK(pac_cache_close(&c, false));
    CHECK_OK(pac_barrier(pac_world()));
    CHECK(access(dir, F_OK) != 0, "the directory is gone");
}

/* ---- what is refused ---- */

static const shape *shape_here(void)
{
    static shape pipeline = {.stages = 0};
    pipeline.stages = size;
    for (int64_t i = 0; i < size; i++)
        pipeline.ranks[i] = 1;
    return &pipeline;
}

static void check_refused(const pac_cache_layout *l, const pac_cache_id *id, const char *word)
{
    pac_cache *c = NULL;
    bool found = false;
    CHECK(pac_cache_open(dir, l, id, &found, &c) == PAC_EDATA, "%s: %s", word, pac_err_message());
    CHECK(c == NULL && strstr(pac_err_message(), word) != NULL, "%s is not in '%s'", word, pac_err_message());
}

static void test_stale(void)
{
    pac_cache_layout l = layout_of(20);
    pac_cache *c = make_cache(&l, shape_here(), PAC_REDIST_ALLGATHER, 1 << 16);
    CHECK_OK(pac_cache_close(&c, true));
    check_refused(&l, &(pac_cache_id){2, UINT64_MAX, 3}, "another model");
    check_refused(&l, &(pac_cache_id){1, 0, 3}, "other data");
    check_refused(&l, &(pac_cache_id){1, UINT64_MAX, 4}, "another layout");
    check_refused(&l, &(pac_cache_id){1, 1, 4}, "truncation), another layout");
    if (size > 1) /* one rank's word is enough */
        check_refused(&l, &(pac_cache_id){1 + (uint64_t)(rank == 1), UINT64_MAX, 3}, "rank 1");
    l.D++;
    check_refused(&l, &identity, "another layout");
    l.D--;
    lengths[1][3]++;
    check_refused(&l, &identity, "other lengths");
    lengths[1][3]--;
    l.dtype = PAC_BF16;
    check_refused(&l, &identity, "type");
    l.dtype = PAC_I8;
    check_refused(&l, &identity, "type");
    l.dtype = PAC_I32;
    bool found;
    CHECK(pac_cache_open(dir, &l, &identity, &found, &c) == PAC_ENOTBUILT, "i32: %s", pac_err_message());
}

static void test_unfinished_is_replaced(void)
{
    pac_cache_layout l = layout_of(20);
    whole_plan w;
    pac_cache *c = NULL;
    bool found = true;
    make_plan(shape_here(), &w);
    for (int finished = 0; finished < 2; finished++) {
        CHECK_OK(pac_cache_create(dir, &l, &identity, &c));
        CHECK_OK(write_epoch(c, &l, &w));
        if (finished)
            CHECK_OK(pac_cache_finish(c));
        CHECK_OK(pac_cache_close(&c, true));
        CHECK_OK(pac_cache_open(dir, &l, &identity, &found, &c));
        CHECK(!found && c == NULL, "an unfinished cache is none");
    }
    CHECK_OK(pac_cache_create(dir, &l, &identity, &c));
    CHECK_OK(pac_cache_finish(c));
    pac_err err = pac_cache_redistribute(c, PAC_REDIST_ALLGATHER, NULL, 100, NULL);
    CHECK(err == PAC_EDATA && strstr(pac_err_message(), "lacks part 0 of sample 0") != NULL, "%s", pac_err_message());
    CHECK_OK(pac_cache_close(&c, false));
    CHECK_OK(pac_cache_open(dir, &l, &identity, &found, &c));
    CHECK(!found, "nothing is there");
}

/* Find the rows of one part of one sample in the file of a rank and change a byte. */
static bool damage(const char *file, const float *rows, size_t bytes)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    int fd = open(path, O_RDWR);
    struct stat st;
    CHECK(fd >= 0 && fstat(fd, &st) == 0, "%s", path);
    char *all = malloc((size_t)st.st_size);
    CHECK(all != NULL && pread(fd, all, (size_t)st.st_size, 0) == st.st_size, "read");
    char *at = memmem(all, (size_t)st.st_size, rows, bytes);
    if (at != NULL) {
        at[bytes / 2] ^= 1;
        CHECK(pwrite(fd, at + bytes / 2, 1, at + bytes / 2 - all) == 1, "write");
    }
    free(all);
    close(fd);
    return at != NULL;
}

static void test_damage_is_found(void)
{
    pac_cache_layout l = layout_of(20);
    pac_cache *c = make_cache(&l, shape_here(), PAC_REDIST_ALLGATHER, 1 << 16);
    CHECK_OK(pac_cache_close(&c, true));
    int64_t samples = 0, bytes = 0, sample = 11;
    CHECK_OK(pac_cache_verify(dir, &samples, &bytes));
    CHECK(samples == 20 && bytes >= pac_cache_bytes(&l), "%d samples", (int)samples);
    CHECK_OK(pac_barrier(pac_world()));
    float rows[MAX_ROWS * WIDTH];
    int64_t n = fill(&l, 0, &sample, 1, rows); /* part 0 is of the first stage, so of rank 0 */
    CHECK(n > 0, "choose a sample with rows");
    if (rank == 0)
        CHECK(damage("rank-0000.h5", rows, (size_t)n * sizeof(float)), "the rows are not in the file");
    CHECK_OK(pac_barrier(pac_world()));
    CHECK(pac_cache_verify(dir, &samples, &bytes) == PAC_EDATA, "verified");
    CHECK(strstr(pac_err_message(), "rank-0000.h5: part 0 of sample 11 is damaged") != NULL, "%s", pac_err_message());
    bool found;
    CHECK_OK(pac_cache_open(dir, &l, &identity, &found, &c));
    const float *part[PARTS];
    const int64_t good = 3;
    CHECK_OK(pac_cache_prefetch(c, &sample, 1));
    CHECK_OK(pac_cache_prefetch(c, &good, 1));
    bool reads_it = pac_node_of(rank) == 0;
    pac_err err = pac_cache_take(c, part);
    CHECK(!reads_it || (err == PAC_EDATA && strstr(pac_err_message(), "part 0 of sample 11") != NULL), "%s", pac_err_message());
    CHECK_OK(pac_cache_take(c, part));
    check_chunk(&l, &good, 1, part);
    CHECK_OK(pac_cache_close(&c, false));
}

/* A file of a kept cache that lost its end, or is missing. */
static void test_truncated(void)
{
    pac_cache_layout l = layout_of(20);
    pac_cache *c = make_cache(&l, shape_here(), PAC_REDIST_ALLGATHER, 1 << 16);
    CHECK_OK(pac_cache_close(&c, true));
    char path[512], *json = NULL;
    snprintf(path, sizeof path, "%s/rank-0000.h5", dir);
    CHECK(rank != 0 || truncate(path, 3000) == 0, "truncate");
    CHECK_OK(pac_barrier(pac_world()));
    int64_t samples, bytes;
    CHECK(pac_cache_verify(dir, &samples, &bytes) == PAC_EDATA && strstr(pac_err_message(), path) != NULL, "%s",
          pac_err_message());
    CHECK(pac_cache_info(dir, &json) == PAC_EDATA, "info of a truncated file");
    bool found = true;
    CHECK_OK(pac_cache_open(dir, &l, &identity, &found, &c));
    CHECK(!found, "a truncated file counts as interrupted");
    CHECK_OK(pac_cache_create(dir, &l, &identity, &c)); /* and is replaced */
    CHECK_OK(pac_cache_close(&c, false));
}

/* ---- the disk ---- */

static void test_full_disk(void)
{
    pac_cache_layout l = layout_of(30);
    whole_plan w;
    pac_cache *c = NULL;
    make_plan(shape_here(), &w);
    pac_layout plan = {.plan = &w.plan};
    if (rank == size - 1 || pac_node_rank() == 0)
        setenv("PAC_TEST_DISK_FREE", "5000", 1);
    CHECK(pac_cache_check_space(dir, &l, &plan, PAC_REDIST_ALLGATHER) == PAC_ENOSPACE, "%s", pac_err_message());
    CHECK(strstr(pac_err_message(), "cache: none") != NULL && strstr(pac_err_message(), " 5000 bytes") != NULL, "%s",
          pac_err_message());
    CHECK_OK(pac_cache_create(dir, &l, &identity, &c));
    pac_err err = write_epoch(c, &l, &w);
    CHECK(rank != size - 1 || err == PAC_ENOSPACE, "written: %s", pac_err_message());
    CHECK(pac_cache_finish(c) == PAC_ENOSPACE, "finished: %s", pac_err_message());
    CHECK(strstr(pac_err_message(), "cache.dir") != NULL, "%s", pac_err_message());
    CHECK_OK(pac_cache_close(&c, true));
    unsetenv("PAC_TEST_DISK_FREE");
    bool found = true;
    CHECK_OK(pac_cache_open(dir, &l, &identity, &found, &c));
    CHECK(!found, "it is not complete");
    CHECK_OK(pac_cache_check_space(dir, &l, &plan, PAC_REDIST_SHARD));
}

static void put_file(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = rank == 0 ? fopen(path, "w") : NULL;
    CHECK(rank != 0 || (f != NULL && fputs("somebody's own words", f) >= 0), "%s", path);
    if (f != NULL)
        fclose(f);
    CHECK_OK(pac_barrier(pac_world()));
}

static void remove_file(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    CHECK_OK(pac_barrier(pac_world()));
    CHECK(rank != 0 || unlink(path) == 0, "%s", path);
    CHECK_OK(pac_barrier(pac_world()));
}

static void test_only_ours_is_removed(void)
{
    static const char *const others[] = {"notes.h5", "rank-0000.h5.bak", "rank-9999.h5"};
    pac_cache_layout l = layout_of(10);
    pac_cache *c = make_cache(&l, shape_here(), PAC_REDIST_SHARD, 1000), *second = NULL;
    pac_err err = pac_cache_create(dir, &l, &identity, &second);
    CHECK(err == PAC_EIO && strstr(pac_err_message(), "in use by another run") != NULL, "%s", pac_err_message());
    for (int i = 0; i < 3; i++)
        put_file(others[i]);
    read_epoch(c, &l, 1);
    CHECK_OK(pac_cache_close(&c, false));
    CHECK(!exists("rank-0000.h5"), "removed");
    for (int i = 0; i < 3; i++) {
        CHECK(exists(others[i]), "%s is not ours", others[i]);
        remove_file(others[i]);
    }
    put_file("rank-0000.h5");
    CHECK(pac_cache_create(dir, &l, &identity, &c) == PAC_EIO && strstr(pac_err_message(), "exists already") != NULL, "%s",
          pac_err_message());
    remove_file("rank-0000.h5");
    CHECK(rank != 0 || rmdir(dir) == 0 || !exists("."), "empty again");
    CHECK_OK(pac_barrier(pac_world()));
}

static void test_unusable_directory(void)
{
    pac_cache_layout l = layout_of(10);
    pac_cache *c = NULL;
    char here[256];
    memcpy(here, dir, sizeof here);
    *strrchr(dir, '/') = '\0';
    CHECK(rank != 0 || mkdir(dir, 0777) == 0 || exists("."), "%s", dir);
    put_file("file");
    strcat(dir, "/file/cache");
    CHECK(pac_cache_create(dir, &l, &identity, &c) == PAC_EIO, "below a file: %s", pac_err_message());
    CHECK(pac_cache_check_space(dir, &l, &(pac_layout){0}, PAC_REDIST_SHARD) == PAC_EIO, "below a file");
    *strrchr(dir, '/') = '\0';
    *strrchr(dir, '/') = '\0';
    remove_file("file");
    memcpy(dir, here, sizeof here);
}

static void test_wrong_calls(void)
{
    pac_cache_layout l = layout_of(10);
    pac_cache *c = make_cache(&l, shape_here(), PAC_REDIST_SHARD, 0);
    const int64_t outside = 10;
    const float *part[PARTS];
    float rows[1] = {0};
    CHECK(pac_cache_append(c, 0, &outside, 1, rows) == PAC_EINVAL, "append after finish");
    CHECK(pac_cache_prefetch(c, &outside, 1) == PAC_EINVAL, "sample 10 of 10");
    for (int64_t i = 0; i < 10; i++)
        if (pac_cache_owner(c, i) != rank)
            CHECK(pac_cache_prefetch(c, &i, 1) == PAC_EINVAL, "sample %d is not ours", (int)i);
    CHECK(pac_cache_take(c, part) == PAC_EINVAL, "nothing asked");
    CHECK_OK(pac_cache_prefetch(c, NULL, 0));
    CHECK_OK(pac_cache_prefetch(c, NULL, 0));
    CHECK(pac_cache_prefetch(c, NULL, 0) == PAC_EINVAL, "three outstanding");
    CHECK_OK(pac_cache_close(&c, false)); /* with requests outstanding */
    CHECK_OK(pac_cache_close(&c, false));
}

/* ---- a second run ---- */

static void keep_one(const char *where)
{
    pac_cache_layout l = layout_of(25);
    snprintf(dir, sizeof dir, "%s", where);
    pac_cache *c = make_cache(&l, shape_here(), PAC_REDIST_ALLGATHER, 1 << 12);
    CHECK_OK(pac_cache_close(&c, true));
}

/* PAC_TEST_REFUSED: it belongs to another world. */
static void reuse_one(const char *where)
{
    pac_cache_layout l = layout_of(25);
    pac_cache *c = NULL;
    bool found = false;
    snprintf(dir, sizeof dir, "%s", where);
    if (getenv("PAC_TEST_REFUSED") != NULL) {
        check_refused(&l, &identity, "was made by");
        return;
    }
    CHECK_OK(pac_cache_open(dir, &l, &identity, &found, &c));
    CHECK(found, "the cache of the other run");
    read_epoch(c, &l, 1);
    CHECK_OK(pac_cache_close(&c, true));
}

static void test_everything(void)
{
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        if (shape_size(&shapes[i]) != size)
            continue;
        for (int how = PAC_REDIST_ALLGATHER; how <= PAC_REDIST_SHARD; how++) {
            test_round_trip(&shapes[i], (pac_redistribute)how, PAC_F32, 37, (size_t)1 << 20);
            test_round_trip(&shapes[i], (pac_redistribute)how, PAC_F32, 20, 90); /* smaller than a record */
            test_round_trip(&shapes[i], (pac_redistribute)how, PAC_I8, 37, 91);
            test_round_trip(&shapes[i], (pac_redistribute)how, PAC_F32, 3, 1);
            test_round_trip(&shapes[i], (pac_redistribute)how, PAC_F32, 0, 1000);
        }
    }
    test_wrong_calls();
    test_stale();
    test_unfinished_is_replaced();
    test_damage_is_found();
    test_truncated();
    test_full_disk();
    test_only_ours_is_removed();
    test_unusable_directory();
}

int main(int argc, char **argv)
{
    CHECK_OK(pac_world_init(&argc, &argv));
    rank = pac_world_rank();
    size = pac_world_size();
    char base[200] = "/tmp/pac-cache-XXXXXX";
    if (argc == 3) {
        (strcmp(argv[1], "keep") == 0 ? keep_one : reuse_one)(argv[2]);
    } else {
        CHECK(rank != 0 || mkdtemp(base) != NULL, "temporary directory");
        CHECK_OK(pac_bcast(pac_world(), base, sizeof base, 0));
        snprintf(dir, sizeof dir, "%s/a/cache", base);
        test_everything();
        char inner[256];
        snprintf(inner, sizeof inner, "%s/a", base);
        CHECK_OK(pac_barrier(pac_world()));
        CHECK(rank != 0 || (rmdir(inner) == 0 && rmdir(base) == 0), "something is left in %s", base);
    }
    CHECK_OK(pac_barrier(pac_world()));
    pac_world_done();
    CHECK(pac_mem_blocks() == 0, "%d blocks leaked", (int)pac_mem_blocks());
    return 0;
}
