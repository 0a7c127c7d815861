/*
 * The backend "count" where it stands for a device: rows live in a memory of its own, of which there are only addresses, so
 * that a dry run takes the branches that a run on the device takes, and the ledger tells the device's bytes apart from the
 * host's.
 *
 * What the device's backend holds by itself comes on top, as cuda/ does it: the rounded copies of frozen matrices, and scratch,
 * which only grows.
 */
#include "kernels.h"

#include "pac/device.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

/* In front of every block. */
typedef struct front {
    size_t bytes;
    void *rounded;
} front;

enum { FRONT = 4096, SUMS = 64 };

static pac_err get(size_t bytes, void **out)
{
    void *p = mmap(NULL, bytes + FRONT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    PAC_CHECK(p != MAP_FAILED, PAC_ENOMEM, "no addresses for %zu bytes", bytes);
    ((front *)p)->bytes = bytes + FRONT;
    *out = (char *)p + FRONT;
    return PAC_OK;
}

static front *front_of(const void *p)
{
    return (front *)(void *)((char *)(uintptr_t)p - FRONT);
}

static void drop(void *p)
{
    pac_space_free(pac_backend_count_device(false)->space, front_of(p)->rounded);
    munmap(front_of(p), front_of(p)->bytes);
}

/* ---- copies: nothing but zeros arrive at the host ---- */

static pac_err upload(void *to, const void *host, size_t bytes)
{
    (void)to, (void)host, (void)bytes;
    return PAC_OK;
}

static pac_err download(void *host, const void *from, size_t bytes)
{
    (void)from;
    memset(host, 0, bytes);
    return PAC_OK;
}

static pac_err start(void *to, const void *from, size_t bytes, int64_t *ticket)
{
    (void)to, (void)from, (void)bytes;
    *ticket = 0;
    return PAC_OK;
}

static pac_err wait(int64_t ticket)
{
    (void)ticket;
    return PAC_OK;
}

static pac_err fill(void *p, int byte, size_t bytes)
{
    (void)p, (void)byte, (void)bytes;
    return PAC_OK;
}

static pac_err sync(void)
{
    return PAC_OK;
}

/* ---- what the device's backend holds ---- */

static void constant(const float *x, int64_t n)
{
    front *f = front_of(x);
    void *p;
    if (f->rounded == NULL && pac_space_array(pac_backend_count_device(false)->space, PAC_MEM_WEIGHTS, n, 2, &p) == PAC_OK)
        f->rounded = p;
}

typedef enum scratch_user { OPERANDS, SCORES, COLUMNS, USERS } scratch_user;

static struct {
    void *block;
    size_t bytes;
} scratch[USERS];

static void release(scratch_user user)
{
    pac_space_free(pac_backend_count_device(false)->space, scratch[user].block);
    scratch[user].block = NULL;
    scratch[user].bytes = 0;
}

static void hold(scratch_user user, int64_t bytes)
{
    void *p;
    if ((size_t)bytes <= scratch[user].bytes)
        return;
    release(user);
    if (pac_space_array(pac_backend_count_device(false)->space, PAC_MEM_WORK, bytes, 1, &p) == PAC_OK) {
        scratch[user].block = p;
        scratch[user].bytes = (size_t)bytes;
    }
}

void pac_backend_count_device_release(void)
{
    for (scratch_user user = 0; user < USERS; user++)
        release(user);
}

/* Two operands of 16 bits: rows, and where both are rows (a weight's gradient) the other too. Heads lie side by side. */
static void hold_operands(int64_t count, bool ta, int64_t m, int64_t n, int64_t k)
{
    int64_t first = 2 * (ta ? k : m) * ((count * (ta ? m : k) + 7) / 8 * 8);
    hold(OPERANDS, first + (ta ? 2 * k * ((count * n + 7) / 8 * 8) : 0));
}

static void gemm_rounding(float *c, int64_t ldc, const float *a, int64_t lda, bool ta, const float *b, int64_t ldb, bool tb,
                          int64_t m, int64_t n, int64_t k, float alpha, float beta)
{
    hold_operands(1, ta, m, n, k);
    pac_backend_count.gemm(c, ldc, a, lda, ta, b, ldb, tb, m, n, k, alpha, beta);
}

static void gemm_each_rounding(int64_t count, float *c, int64_t ldc, int64_t sc, const float *a, int64_t lda, int64_t sa,
                               bool ta, const float *b, int64_t ldb, int64_t sb, bool tb, int64_t m, int64_t n, int64_t k,
                               float alpha, float beta)
{
    hold_operands(count, ta, m, n, k);
    pac_gemm_each(&pac_backend_count, count, c, ldc, sc, a, lda, sa, ta, b, ldb, sb, tb, m, n, k, alpha, beta);
}

/* delta and norm of each row and head; each block of rows' part of the bias table (tile_rows() of cuda/attn_bwd.cu, on a
 * processor with little shared memory). */
static void attn_bwd(float *dq, float *dk, float *dv, float *dbias_table, const float *d_o, int64_t ldo, const float *q,
                     int64_t ldq, const float *k, int64_t ldk, const float *v, int64_t ldv, const float *lse, const pac_attn *p)
{
    int64_t longest = 0;
    for (int64_t b = 0; b < p->B; b++)
        longest = p->toff[b + 1] - p->toff[b] > longest ? p->toff[b + 1] - p->toff[b] : longest;
    int64_t rows = p->K > 128 ? 8 : p->K > 32 ? 16 : 32;
    int64_t parts = dbias_table != NULL ? p->B * ((longest + rows - 1) / rows) * p->H * p->buckets : 0;
    hold(SCORES, 4 * (2 * (p->toff[p->B] * p->H / 64 + 1) * 64 + parts));
    pac_backend_count.attn_bwd(dq, dk, dv, dbias_table, d_o, ldo, q, ldq, k, ldk, v, ldv, lse, p);
}

static void rmsnorm_bwd(float *dx, float *dw, const float *dy, const float *x, const float *w, const float *rrms, int64_t N,
                        int64_t D)
{
    hold(COLUMNS, dw != NULL ? 4 * SUMS * D : 0);
    pac_backend_count.rmsnorm_bwd(dx, dw, dy, x, w, rrms, N, D);
}

static void bias_bwd(float *db, const float *dy, int64_t N, int64_t D)
{
    hold(COLUMNS, 4 * SUMS * D);
    pac_backend_count.bias_bwd(db, dy, N, D);
}

/* ---- the tables ---- */

static pac_space spaces[2];
static pac_backend tables[2];
static pthread_once_t filled = PTHREAD_ONCE_INIT;

static void fill_tables(void)
{
    for (int rounds = 0; rounds < 2; rounds++) {
        spaces[rounds] = (pac_space){.name = "count",
                                     .alloc = get,
                                     .free = drop,
                                     .pinned_alloc = get,
                                     .pinned_free = drop,
                                     .upload = upload,
                                     .download = download,
                                     .download_start = start,
                                     .upload_start = start,
                                     .wait = wait,
                                     .follow = wait,
                                     .zero_copy = pac_device_zero_copy,
                                     .move = upload,
                                     .fill = fill,
                                     .sync = sync,
                                     .constant = rounds ? constant : NULL};
        tables[rounds] = pac_backend_count;
        tables[rounds].space = &spaces[rounds];
        tables[rounds].attn_bwd = attn_bwd;
        tables[rounds].rmsnorm_bwd = rmsnorm_bwd;
        tables[rounds].bias_bwd = bias_bwd;
        if (rounds)
            tables[rounds].gemm = gemm_rounding, tables[rounds].gemm_each = gemm_each_rounding;
    }
}

const pac_backend *pac_backend_count_device(bool rounds)
{
    pthread_once(&filled, fill_tables);
    return &tables[rounds];
}
