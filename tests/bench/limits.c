/*
 * What the machine does, to hold programs against: sgemm by OpenBLAS's own threads, memory bandwidth by a triad, a file written
 * and read with plain calls. One JSON object; every number is the best of several rounds.
 *
 *   bench_limits [--threads N] [--disk DIR] [--megabytes N]     without --disk no file is written
 */
#include "pac/clock.h"

#include <cblas.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROUNDS = 5, MOST_THREADS = 256, TRIAD = 32 << 20, CHUNK = 1 << 20 }; /* floats of a triad's array; bytes of a write */

static float *filled(size_t n)
{
    float *x = malloc(n * sizeof *x);
    if (x == NULL)
        exit(1);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(i * 2654435761u % 1000) / 1000 - 0.5f;
    return x;
}

/* ---- products ---- */

/* FLOP/s of c = a b^T, the layout of a linear layer; rounds until the best of them has not changed for a while. */
static double product_rate(int m, int n, int k)
{
    float *a = filled((size_t)m * (size_t)k), *b = filled((size_t)n * (size_t)k), *c = filled((size_t)m * (size_t)n);
    double best = 1e30;
    for (int i = 0; i < 4 * ROUNDS; i++) {
        double start = pac_now();
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1, a, k, b, k, 0, c, n);
        double t = pac_now() - start;
        best = t < best ? t : best;
    }
    free(a);
    free(b);
    free(c);
    return 2.0 * m * n * k / best;
}

/* ---- memory ---- */

typedef struct part {
    float *x;
    const float *y, *z;
    int64_t n;
    pthread_barrier_t *together;
    double best; /* seconds of a round */
} part;

static void *triad(void *user)
{
    part *p = user;
    p->best = 1e30;
    for (int i = 0; i < ROUNDS; i++) {
        pthread_barrier_wait(p->together);
        double start = pac_now();
        for (int64_t j = 0; j < p->n; j++)
            p->x[j] = p->y[j] + 0.5f * p->z[j];
        double t = pac_now() - start;
        p->best = t < p->best ? t : p->best;
    }
    return NULL;
}

/* Bytes/s of x = y + a z, arrays that few caches hold; the line of x that is read before it is written is not counted. */
static double triad_rate(int threads)
{
    float *x = filled(TRIAD), *y = filled(TRIAD), *z = filled(TRIAD);
    pthread_t thread[MOST_THREADS];
    part parts[MOST_THREADS];
    pthread_barrier_t together;
    double slowest = 0;
    pthread_barrier_init(&together, NULL, (unsigned)threads);
    for (int i = 0; i < threads; i++) {
        int64_t lo = (int64_t)TRIAD * i / threads, hi = (int64_t)TRIAD * (i + 1) / threads;
        parts[i] = (part){.x = x + lo, .y = y + lo, .z = z + lo, .n = hi - lo, .together = &together};
        if (i > 0 && pthread_create(&thread[i], NULL, triad, &parts[i]) != 0)
            exit(1);
    }
    triad(&parts[0]);
    for (int i = 0; i < threads; i++) {
        if (i > 0)
            pthread_join(thread[i], NULL);
        slowest = parts[i].best > slowest ? parts[i].best : slowest;
    }
    pthread_barrier_destroy(&together);
    free(x);
    free(y);
    free(z);
    return 3.0 * TRIAD * sizeof(float) / slowest;
}

/* ---- disk ---- */

static double write_file(int fd, char *chunk, int64_t chunks)
{
    double start = pac_now();
    for (int64_t i = 0; i < chunks; i++)
        if (pwrite(fd, chunk, CHUNK, i * CHUNK) != CHUNK)
            return 0;
    return fdatasync(fd) == 0 ? (double)(chunks * CHUNK) / (pac_now() - start) : 0;
}

static double read_file(int fd, char *chunk, int64_t chunks)
{
    double start = pac_now();
    for (int64_t i = 0; i < chunks; i++)
        if (pread(fd, chunk, CHUNK, i * CHUNK) != CHUNK)
            return 0;
    return (double)(chunks * CHUNK) / (pac_now() - start);
}

/* Bytes/s: written and synced, read from the disk (its pages dropped), read from the page cache; 0: it did not work. */
static void disk_rates(const char *dir, int64_t megabytes, double rate[3])
{
    char path[4096];
    char *chunk = (char *)filled(CHUNK / sizeof(float));
    snprintf(path, sizeof path, "%s/bench-limits.tmp", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    for (int i = 0; fd >= 0 && i < 2; i++) {
        double wrote = write_file(fd, chunk, megabytes);
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        double cold = read_file(fd, chunk, megabytes), warm = read_file(fd, chunk, megabytes);
        rate[0] = wrote > rate[0] ? wrote : rate[0];
        rate[1] = cold > rate[1] ? cold : rate[1];
        rate[2] = warm > rate[2] ? warm : rate[2];
    }
    if (fd >= 0)
        close(fd);
    unlink(path);
    free(chunk);
}

int main(int argc, char **argv)
{
    static const int shape[][3] = {{2048, 2048, 2048}, {2048, 768, 768}, {2048, 3072, 768}, {2048, 768, 3072}};
    int threads = (int)sysconf(_SC_NPROCESSORS_ONLN);
    int64_t megabytes = 512;
    const char *dir = NULL;
    double disk[3] = {0}, peak = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--threads") == 0)
            threads = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--disk") == 0)
            dir = argv[i + 1];
        else if (strcmp(argv[i], "--megabytes") == 0)
            megabytes = atoll(argv[i + 1]);
    }
    if (threads < 1 || threads > MOST_THREADS || megabytes < 1)
        return 2;
    openblas_set_num_threads(threads);
    printf("{\"threads\":%d", threads);
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
        double rate = product_rate(shape[i][0], shape[i][1], shape[i][2]);
        peak = rate > peak ? rate : peak;
        printf(",\"sgemm_%dx%dx%d\":%.4g", shape[i][0], shape[i][1], shape[i][2], rate);
    }
    printf(",\"sgemm\":%.4g,\"triad\":%.4g", peak, triad_rate(threads));
    if (dir != NULL)
        disk_rates(dir, megabytes, disk);
    printf(",\"disk_write\":%.4g,\"disk_read\":%.4g,\"page_cache_read\":%.4g}\n", disk[0], disk[1], disk[2]);
    return 0;
}
