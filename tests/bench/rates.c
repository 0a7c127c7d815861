/* What the machine does, measured without pac's own code: see rates.h. Every number is the best of several rounds. */
#include "rates.h"

#include "pac/blas.h"
#include "pac/clock.h"

#include <cblas.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { ROUNDS = 5, TRIAD = 32 << 20, CHUNK = 1 << 20 }; /* floats of a triad's array; bytes of a write */

void start_with_right_core(char **argv)
{
    const char *core = getenv("OPENBLAS_CORETYPE") == NULL ? pac_blas_misled() : NULL;
    if (core != NULL && setenv("OPENBLAS_CORETYPE", core, 0) == 0)
        execv("/proc/self/exe", argv);
}

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

double product_rate(int threads, int m, int n, int k)
{
    openblas_set_num_threads(threads);
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

/* The line of x that is read before it is written is not counted. */
double triad_rate(int threads)
{
    float *x = filled(TRIAD), *y = filled(TRIAD), *z = filled(TRIAD);
    pthread_t thread[BENCH_MOST_THREADS];
    part parts[BENCH_MOST_THREADS];
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

void disk_rates(const char *dir, int64_t megabytes, double rate[3])
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
