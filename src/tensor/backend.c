/*
 * The registry of backends, scratch memory of kernels, and T5's bucket of a relative position.
 *
 * The cpu kernels exist once per instruction set; "cpu" and "auto" choose the widest that this processor runs. The narrower
 * ones stay reachable by name, for tests and for runs that must not depend on the processor.
 */
#include "half.h"
#include "packed_parts.h"

#include "pac/blas.h"
#include "pac/device.h"
#include "pac/mem.h"
#include "pac/pool.h"

#include <stdatomic.h>

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__) && defined(PAC_AMX)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* PAC_REF_ONLY: a build without the cpu kernels, which need OpenBLAS (cuda/build_bare.sh). */
extern const pac_backend pac_ref_backend, pac_base_backend, pac_split_backend;
#if defined(__x86_64__) && !defined(PAC_REF_ONLY)
#define WIDE_KERNELS
extern const pac_backend pac_avx2_backend, pac_avx512_backend;
#ifdef PAC_AMX
extern const pac_backend pac_amx_backend;
extern const half_ops pac_amx_half;
#endif
#endif

enum { MAX_BACKENDS = 5 };

static const pac_backend *available[MAX_BACKENDS + 1]; /* ref, then the fastest first */
static pthread_once_t detected = PTHREAD_ONCE_INIT;

#if defined(WIDE_KERNELS) && defined(PAC_AMX)
/* Tiles of bf16 are there and the system lets this process keep their registers. */
static bool amx_granted(void)
{
    enum { ASK_FOR_STATE = 0x1023, TILE_DATA = 18 }; /* arch_prctl(ARCH_REQ_XCOMP_PERM, ...), Linux 5.16 */
    unsigned a, b, c, d, bf16;
    if (!__get_cpuid_count(7, 1, &bf16, &b, &c, &d) || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return false;
    return (bf16 >> 5 & 1) != 0 && (d >> 22 & 1) != 0 && (d >> 24 & 1) != 0 &&
           syscall(SYS_arch_prctl, ASK_FOR_STATE, TILE_DATA) == 0;
}
#endif

static void detect(void)
{
    const pac_backend **next = available;
    *next++ = &pac_ref_backend;
#ifdef WIDE_KERNELS
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#ifdef PAC_AMX
    if (avx512 && amx_granted())
        *next++ = &pac_amx_backend;
#endif
    if (avx512)
        *next++ = &pac_avx512_backend;
    if (avx2)
        *next++ = &pac_avx2_backend;
#endif
#ifndef PAC_REF_ONLY
    pac_blas_use_one_thread();
    *next = &pac_base_backend;
#endif
}

const pac_backend *const *pac_backend_all(void)
{
    pthread_once(&detected, detect);
    return available;
}

const half_ops *pac_half_of(const pac_backend *be)
{
#if defined(WIDE_KERNELS) && defined(PAC_AMX)
    return be == &pac_amx_backend ? &pac_amx_half : NULL;
#else
    (void)be;
    return NULL;
#endif
}

static pac_err find_device(const pac_backend **out)
{
    const pac_backend *table = pac_device_backend();
    PAC_CHECK(table != NULL, PAC_ENOTBUILT, "backend cuda: %s; use auto, cpu or ref", pac_device_absence());
    PAC_CHECK(pac_device_count() > 0, PAC_ECONFIG, "backend cuda: %s; use auto, cpu or ref", pac_device_absence());
    *out = table;
    return PAC_OK;
}

pac_err pac_backend_find(const char *name, const pac_backend **out)
{
    const pac_backend *const *all = pac_backend_all();
    if (strcmp(name, "auto") == 0 || strcmp(name, "cpu") == 0) {
        *out = all[1] != NULL ? all[1] : all[0];
        return PAC_OK;
    }
    for (; *all != NULL; all++)
        if (strcmp(name, (*all)->name) == 0) {
            *out = *all;
            return PAC_OK;
        }
    if (strcmp(name, "split") == 0) {
        *out = &pac_split_backend;
        return PAC_OK;
    }
    if (strcmp(name, "cuda") == 0)
        return find_device(out);
    PAC_CHECK(strncmp(name, "cpu-", 4) != 0, PAC_ECONFIG,
              "backend %s: not on this processor, or not in this build; use auto or cpu", name);
    return pac_fail(PAC_ECONFIG, "unknown backend '%s'; use auto, cpu, cuda or ref", name);
}

void pac_steady_begin(const pac_backend *be, const float *x)
{
    if (be->steady != NULL && x != NULL)
        be->steady(x, true);
}

void pac_steady_end(const pac_backend *be, const float *x)
{
    if (be->steady != NULL && x != NULL)
        be->steady(x, false);
}

void pac_gemm_each(const pac_backend *be, int64_t count, float *c, int64_t ldc, int64_t sc, const float *a, int64_t lda,
                   int64_t sa, bool ta, const float *b, int64_t ldb, int64_t sb, bool tb, int64_t m, int64_t n, int64_t k,
                   float alpha, float beta)
{
    if (be->gemm_each != NULL) {
        be->gemm_each(count, c, ldc, sc, a, lda, sa, ta, b, ldb, sb, tb, m, n, k, alpha, beta);
        return;
    }
    for (int64_t h = 0; h < count; h++)
        be->gemm(c + h * sc, ldc, a + h * sa, lda, ta, b + h * sb, ldb, tb, m, n, k, alpha, beta);
}

/* ---- scratch ---- */

typedef struct place {
    void *block;
    size_t bytes;
} place;

static _Thread_local struct {
    place inner, outer;
    float *panels;
} scratch;

/* What parts asked for, and since when it was last made as large on all threads. */
typedef struct largest {
    atomic_size_t bytes;
    atomic_bool grew;
    bool level; /* in the run that does this now: the other place may be in use */
} largest;

static largest largest_inner, largest_outer;

/*
 * Blocks of kernels are checked like all others (faults, leaks), but their bytes are taken off the ledger again: they depend on
 * the processor's kernels and on the number of threads, which a dry run cannot know, and are small (pac/ops.h).
 */
static pac_err uncounted(size_t bytes, void **out)
{
    pac_mem_account(PAC_MEM_WORK, -(int64_t)bytes);
    pac_err err = pac_mem_alloc(PAC_MEM_WORK, bytes, out);
    if (err != PAC_OK)
        pac_mem_account(PAC_MEM_WORK, (int64_t)bytes);
    return err;
}

static void release_place(place *p)
{
    pac_mem_free(p->block);
    pac_mem_account(PAC_MEM_WORK, (int64_t)p->bytes);
    *p = (place){0};
}

static void *room_in(place *p, size_t bytes)
{
    if (p->block == NULL || bytes > p->bytes) {
        release_place(p);
        if (uncounted(bytes, &p->block) != PAC_OK)
            return NULL;
        p->bytes = bytes;
    }
    return p->block;
}

static void *room_of_part(place *p, largest *l, size_t bytes)
{
    size_t most = atomic_load(&l->bytes);
    if (pac_pool_inside() && bytes > most) {
        while (bytes > most && !atomic_compare_exchange_weak(&l->bytes, &most, bytes))
            ;
        atomic_store(&l->grew, true);
    }
    return room_in(p, bytes);
}

void *pac_scratch(size_t bytes)
{
    return room_of_part(&scratch.inner, &largest_inner, bytes);
}

void *pac_scratch_outer(size_t bytes)
{
    return room_of_part(&scratch.outer, &largest_outer, bytes);
}

static bool has_grown(largest *l)
{
    l->level = atomic_load(&l->grew) && atomic_exchange(&l->grew, false);
    return l->level;
}

bool pac_scratch_grew(void)
{
    bool inner = has_grown(&largest_inner);
    return has_grown(&largest_outer) || inner;
}

void pac_scratch_level(void *user, int64_t lo, int64_t hi)
{
    (void)user;
    (void)lo;
    (void)hi;
    if (largest_inner.level)
        (void)room_in(&scratch.inner, atomic_load(&largest_inner.bytes));
    if (largest_outer.level)
        (void)room_in(&scratch.outer, atomic_load(&largest_outer.bytes));
}

float *pac_panels(void)
{
    if (scratch.panels == NULL)
        scratch.panels = aligned_alloc(64, PAC_PANEL_FLOATS * sizeof(float));
    return scratch.panels;
}

const pac_backend *pac_backend_host(const pac_backend *be)
{
    return be->space == NULL ? be : pac_backend_all()[1];
}

static void release_all(void *user, int64_t lo, int64_t hi)
{
    (void)user;
    (void)lo;
    (void)hi;
    release_place(&scratch.inner);
    release_place(&scratch.outer);
    free(scratch.panels);
    scratch.panels = NULL;
}

void pac_backend_release(void)
{
    atomic_store(&largest_inner.bytes, 0);
    atomic_store(&largest_outer.bytes, 0);
    pac_pool_run_each(release_all, NULL);
}

void pac_fill_nan(float *y, int64_t ld, int64_t rows, int64_t columns)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            y[i * ld + j] = NAN;
}

/* ---- relative positions ---- */

/* Every float operation is the one that the original does on float32 tensors, in the same order: buckets are integers, and a
 * logarithm one ulp off moves the border between two of them. */
int64_t pac_rel_bucket(int64_t r, bool bidirectional, int64_t buckets, int64_t max_distance)
{
    int64_t base = 0, distance = r < 0 ? -r : 0;
    if (bidirectional) {
        buckets /= 2;
        base = r > 0 ? buckets : 0;
        distance = r < 0 ? -r : r;
    }
    int64_t exact = buckets / 2;
    if (distance < exact)
        return base + distance;
    int64_t last = buckets - 1;
    if (exact < 1 || max_distance <= exact || distance >= max_distance)
        return base + (last > 0 ? last : 0);
    float ratio = logf((float)distance / (float)exact) / (float)log((double)max_distance / (double)exact);
    int64_t bucket = exact + (int64_t)(ratio * (float)(buckets - exact));
    return base + (bucket < last ? bucket : last);
}
