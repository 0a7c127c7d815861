/*
 * The activation cache written and read beside plain files on the same disk: samples of T5-Base (13 parts of 128 rows, 13 of
 * one) in each type, micro-batches of 16. Written: from the first row lent to the finished file. Read: ahead, as in a cached
 * epoch, from the page cache and with the file's pages dropped.
 *
 *   bench_cache DIR [SAMPLES]
 */
#include "rates.h"

#include "pac/cache.h"
#include "pac/clock.h"
#include "pac/mem.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BATCH = 16, LAYERS = 12, WIDTH = 768, SOURCE = 128, MOST = 100000 };

static int64_t length[2][MOST];
static int64_t sample[MOST];
static float *rows;

static pac_cache_layout layout_of(pac_dtype type, int64_t samples)
{
    pac_cache_layout l = {.D = WIDTH, .dtype = type, .samples = samples, .len = {length[0], length[1]}};
    for (int stack = 0; stack < 2; stack++)
        for (int i = 0; i <= LAYERS; i++) {
            l.stack[l.parts] = (uint8_t)stack;
            l.layer[l.parts++] = stack * LAYERS + (i > 0 ? i - 1 : 0);
        }
    return l;
}

static pac_err write_all(pac_cache *c, const pac_cache_layout *l)
{
    for (int64_t i = 0; i < l->samples; i += BATCH) {
        int64_t n = l->samples - i < BATCH ? l->samples - i : BATCH;
        for (int64_t part = 0; part < l->parts; part++)
            PAC_TRY(pac_cache_append(c, part, sample + i, n, rows));
    }
    return pac_cache_finish(c);
}

static pac_err read_all(pac_cache *c, const pac_cache_layout *l)
{
    const float *part[2 * (LAYERS + 1)];
    int64_t step = BATCH / 4, asked = 0; /* as many bytes as a cached step reads at once */
    for (int64_t taken = 0; taken < l->samples; taken += step) {
        for (; asked < l->samples && asked < taken + 2 * step; asked += step)
            PAC_TRY(pac_cache_prefetch(c, sample + asked, l->samples - asked < step ? l->samples - asked : step));
        PAC_TRY(pac_cache_take(c, part));
    }
    return PAC_OK;
}

static void drop_pages(const char *dir)
{
    char path[4300];
    DIR *d = opendir(dir);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        int fd = e->d_name[0] == '.' ? -1 : open(path, O_RDONLY);
        if (fd < 0)
            continue;
        fsync(fd);
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        close(fd);
    }
    if (d != NULL)
        closedir(d);
}

/* One type: seconds of writing, reading cold, reading warm. */
static pac_err measure(const char *dir, pac_dtype type, int64_t samples, double seconds[3], int64_t *bytes)
{
    pac_cache *c = NULL;
    pac_cache_layout l = layout_of(type, samples);
    pac_cache_id id = {.model = 1, .data = 2, .layout = 3};
    PAC_TRY(pac_cache_create(dir, &l, &id, &c));
    double start = pac_now();
    pac_err err;
    PAC_GO(write_all(c, &l));
    seconds[0] = pac_now() - start;
    PAC_GO(pac_cache_redistribute(c, PAC_REDIST_ALLGATHER, NULL, 4 << 20, NULL));
    *bytes = pac_cache_bytes(&l);
    for (int warm = 0; warm < 2; warm++) {
        if (!warm)
            drop_pages(dir);
        start = pac_now();
        PAC_GO(read_all(c, &l));
        seconds[1 + warm] = pac_now() - start;
    }
out:
    if (err != PAC_OK) {
        pac_err ignored = pac_cache_close(&c, false);
        (void)ignored;
        return err;
    }
    return pac_cache_close(&c, false);
}

static pac_err measure_all(const char *dir, int64_t samples)
{
    static const struct {
        const char *name;
        pac_dtype type;
    } types[] = {{"f32", PAC_F32}, {"bf16", PAC_BF16}, {"f16", PAC_F16}, {"i8", PAC_I8}};
    char cache[4000];
    double disk[3] = {0};
    void *p;
    PAC_TRY(pac_mem_array(PAC_MEM_WORK, (int64_t)BATCH * SOURCE * WIDTH, sizeof(float), &p));
    rows = p;
    for (int64_t i = 0; i < (int64_t)BATCH * SOURCE * WIDTH; i++)
        rows[i] = (float)(i * 2654435761 % 1000) / 500 - 1;
    for (int64_t i = 0; i < samples; i++) {
        sample[i] = i;
        length[0][i] = SOURCE;
        length[1][i] = 1;
    }
    disk_rates(dir, 512, disk);
    printf("plain file   written %6.0f MB/s, read cold %6.0f, from the page cache %6.0f\n", disk[0] * 1e-6, disk[1] * 1e-6,
           disk[2] * 1e-6);
    snprintf(cache, sizeof cache, "%s/bench-cache", dir);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        double s[3];
        int64_t bytes;
        PAC_TRY(measure(cache, types[i].type, samples, s, &bytes));
        double b = (double)bytes;
        printf("cache %-6s written %6.0f MB/s (%3.0f %% of plain), read cold %6.0f (%3.0f %%), from the page cache %6.0f "
               "(%3.0f %%); "
               "%.2f MB a sample\n",
               types[i].name, b / s[0] * 1e-6, 100 * b / s[0] / disk[0], b / s[1] * 1e-6, 100 * b / s[1] / disk[1],
               b / s[2] * 1e-6, 100 * b / s[2] / disk[2], b / (double)samples * 1e-6);
    }
    pac_mem_free(rows);
    return PAC_OK;
}

int main(int argc, char **argv)
{
    int64_t samples = argc > 2 ? atoll(argv[2]) : 112;
    if (argc < 2 || samples < 1 || samples > MOST) {
        fprintf(stderr, "usage: bench_cache DIR [SAMPLES]\n");
        return 2;
    }
    pac_err err = pac_world_init(&argc, &argv);
    if (err == PAC_OK)
        err = measure_all(argv[1], samples);
    if (err != PAC_OK)
        fprintf(stderr, "bench_cache: %s\n", pac_err_message());
    pac_world_done();
    return pac_err_exit_code(err);
}
