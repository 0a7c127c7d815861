/*
 * The op table of the accelerator. Most ops are launchers of the .cu files; here are those that first take host arrays to the
 * device, or bring a number back.
 */
#include "launch.h"

#include "pac/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- rows looked up by ids ---- */

static const int32_t *ids_at(const int32_t *ids, int64_t N)
{
    return pac_gpu_indices(ids, (size_t)N * sizeof *ids);
}

static const int64_t *offsets_at(const int64_t *off, int64_t sequences)
{
    return pac_gpu_indices(off, (size_t)(sequences + 1) * sizeof *off);
}

static void embed_fwd(float *y, const float *table, const int32_t *ids, int64_t N, int64_t D)
{
    const int32_t *at = N > 0 ? ids_at(ids, N) : NULL;
    if (at != NULL)
        pac_cuda_embed_fwd_at(y, table, at, N, D);
}

typedef struct place {
    int32_t id, row;
} place;

static int by_id_then_row(const void *a, const void *b)
{
    const place *x = a, *y = b;
    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

/* The rows of each word, together: `list` is [word: N][from: N + 1][row: N]. Returns the number of words. */
static int64_t group_rows(int32_t *list, place *places, const int32_t *ids, int64_t N)
{
    int32_t *word = list, *from = list + N, *row = from + N + 1;
    int64_t words = 0;
    for (int64_t n = 0; n < N; n++)
        places[n] = (place){ids[n], (int32_t)n};
    qsort(places, (size_t)N, sizeof *places, by_id_then_row);
    for (int64_t i = 0; i < N; i++) {
        row[i] = places[i].row;
        if (i == 0 || places[i].id != places[i - 1].id) {
            word[words] = places[i].id;
            from[words++] = (int32_t)i;
        }
    }
    for (int64_t u = words; u < N; u++)
        word[u] = 0;
    for (int64_t u = words; u <= N; u++)
        from[u] = (int32_t)N;
    return words;
}

/* The list of the last ids: those of a step are grouped once, not once for each gradient. */
static struct {
    void *memory; /* ids, list, places: [N], [3 N + 1], [N] */
    int64_t room, N, words;
} grouped;

static int32_t *ids_grouped(void)
{
    return grouped.memory;
}

static void release_grouped(void)
{
    pac_mem_free(grouped.memory);
    memset(&grouped, 0, sizeof grouped);
}

static bool group(const int32_t *ids, int64_t N)
{
    if (grouped.N == N && memcmp(ids_grouped(), ids, (size_t)N * sizeof *ids) == 0)
        return true;
    const int64_t places = (4 * N + 1 + 1) / 2 * 2; /* at a multiple of 8 bytes */
    if (pac_mem_grow(PAC_MEM_WORK, &grouped.memory, &grouped.room, places + 2 * N, sizeof *ids) != PAC_OK) {
        pac_gpu_fault(PAC_ENOMEM, pac_err_message());
        return false;
    }
    memcpy(ids_grouped(), ids, (size_t)N * sizeof *ids);
    grouped.words = group_rows(ids_grouped() + N, (place *)(void *)(ids_grouped() + places), ids, N);
    grouped.N = N;
    return true;
}

/* A word's rows are added by one thread per column, in their order, without atomics. */
static void embed_bwd(float *dtable, const float *dy, const int32_t *ids, int64_t N, int64_t D)
{
    if (N == 0 || !group(ids, N))
        return;
    const int32_t *at = pac_gpu_indices(ids_grouped() + N, (size_t)(3 * N + 1) * sizeof *ids);
    if (at != NULL)
        pac_cuda_embed_bwd_at(dtable, dy, at, at + N, at + 2 * N + 1, grouped.words, D);
}

static void xent(float *loss, float *logits, const int32_t *labels, int64_t N, int64_t V, float scale, bool grad)
{
    const int32_t *at = N > 0 ? ids_at(labels, N) : NULL;
    if (at != NULL)
        pac_cuda_xent_at(loss, logits, at, N, V, scale, grad);
}

/* The mixer of src/tensor/drop.h, of the key; the kernel mixes rows and hashes columns. */
static uint64_t mix(uint64_t z)
{
    z += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static void dropout(float *y, const float *x, const uint64_t *row, int64_t N, int64_t D, uint64_t key, float p)
{
    const uint64_t *at = N > 0 ? pac_gpu_indices(row, (size_t)N * sizeof *row) : NULL;
    if (at != NULL)
        pac_cuda_dropout_at(y, x, at, N, D, mix(key), (uint32_t)((double)p * 0x1p32), (float)(1 / (1 - (double)p)));
}

static void mean_rows_fwd(float *y, const float *x, const int64_t *off, int64_t A, int64_t D)
{
    const int64_t *at = A > 0 ? offsets_at(off, A) : NULL;
    if (at != NULL)
        pac_cuda_mean_rows_fwd_at(y, x, at, A, D);
}

static void mean_rows_bwd(float *dx, const float *dy, const int64_t *off, int64_t A, int64_t D)
{
    const int64_t *at = A > 0 ? offsets_at(off, A) : NULL;
    if (at != NULL)
        pac_cuda_mean_rows_bwd_at(dx, dy, at, A, D);
}

/* NaN where anything queued before has failed: the norm of a gradient is looked at in every step (reduce.c). */
static double sumsq(const float *x, int64_t n)
{
    double sum = 0;
    if (n == 0)
        return 0;
    double *work = pac_gpu_scratch(PAC_SCRATCH_OP, (PAC_SUM_BLOCKS + 1) * sizeof *work);
    if (work == NULL)
        return NAN;
    pac_cuda_sumsq_into(work + PAC_SUM_BLOCKS, work, x, n);
    cudaError_t e = cudaMemcpyAsync(&sum, work + PAC_SUM_BLOCKS, sizeof sum, cudaMemcpyDeviceToHost, pac_gpu.compute);
    bool copied = pac_gpu_ok(e, "sumsq") && pac_gpu_ok(cudaStreamSynchronize(pac_gpu.compute), "sumsq");
    return copied && !pac_gpu_has_fault() ? sum : NAN;
}

/* ---- attention ---- */

static int64_t longest(const int64_t *off, int64_t B)
{
    int64_t n = 0;
    for (int64_t b = 0; b < B; b++)
        n = off[b + 1] - off[b] > n ? off[b + 1] - off[b] : n;
    return n;
}

/*
 * Buckets of all relative positions -last..last: the host's logarithm decides them for every backend. Made anew when a longer
 * sequence comes, or another table; T5 has one for each of its stacks.
 */
enum { TABLES = 4 };

typedef struct relative {
    int32_t *of;
    int64_t last, room, buckets, max_distance;
    bool bidirectional;
} relative;

static relative tables[TABLES];
static int64_t made;

static void release_relative(void)
{
    for (int i = 0; i < TABLES; i++)
        pac_mem_free(tables[i].of);
    memset(tables, 0, sizeof tables);
    made = 0;
}

/* Of this kind, else the one that was made first. */
static relative *find_relative(const pac_attn *p)
{
    for (int i = 0; i < TABLES; i++)
        if (tables[i].of != NULL && tables[i].buckets == p->buckets && tables[i].max_distance == p->max_distance &&
            tables[i].bidirectional == p->bidirectional)
            return &tables[i];
    relative *r = &tables[made++ % TABLES];
    r->last = -1;
    return r;
}

static const relative *make_relative(const pac_attn *p, int64_t last)
{
    relative *r = find_relative(p);
    if (r->last >= last)
        return r;
    void *array = r->of;
    if (pac_mem_grow(PAC_MEM_WORK, &array, &r->room, 2 * last + 1, sizeof *r->of) != PAC_OK) {
        pac_gpu_fault(PAC_ENOMEM, pac_err_message());
        return NULL;
    }
    *r = (relative){array, last, r->room, p->buckets, p->max_distance, p->bidirectional};
    for (int64_t i = -last; i <= last; i++)
        r->of[i + last] = (int32_t)pac_rel_bucket(i, p->bidirectional, p->buckets, p->max_distance);
    return r;
}

/* Returns false when there is nothing to do, or no memory to do it. */
static bool attn_at(const pac_attn *p, pac_attn_at *out)
{
    pac_attn_at at = {.B = p->B,
                      .H = p->H,
                      .K = p->K,
                      .scale = p->scale,
                      .causal = p->causal,
                      .qpos = p->qpos,
                      .buckets = p->buckets,
                      .bias_table = p->bias_table};
    if (p->B == 0 || p->H == 0 || p->K == 0)
        return false;
    at.longest_t = longest(p->toff, p->B);
    at.longest_s = longest(p->soff, p->B);
    at.toff = offsets_at(p->toff, p->B);
    at.soff = offsets_at(p->soff, p->B);
    if (at.toff == NULL || at.soff == NULL)
        return false;
    if (p->bias_table != NULL) {
        int64_t last = p->qpos + (at.longest_t > at.longest_s ? at.longest_t : at.longest_s), grown = 256;
        while (grown < last)
            grown *= 2;
        const relative *r = make_relative(p, grown);
        if (r == NULL)
            return false;
        at.last = r->last;
        at.bucket = pac_gpu_indices(r->of, (size_t)(2 * r->last + 1) * sizeof *r->of);
        if (at.bucket == NULL)
            return false;
    }
    *out = at;
    return true;
}

static void attn_fwd(float *o, int64_t ldo, float *lse, const float *q, int64_t ldq, const float *k, int64_t ldk,
                     const float *v, int64_t ldv, const pac_attn *p)
{
    pac_attn_at at;
    if (attn_at(p, &at))
        pac_cuda_attn_fwd_at(o, ldo, lse, q, ldq, k, ldk, v, ldv, &at);
}

static void attn_bwd(float *dq, float *dk, float *dv, float *dbias_table, const float *d_o, int64_t ldo, const float *q,
                     int64_t ldq, const float *k, int64_t ldk, const float *v, int64_t ldv, const float *lse, const pac_attn *p)
{
    pac_attn_at at;
    if (!attn_at(p, &at))
        return;
    int64_t N = p->toff[p->B];
    float *scratch =
        pac_gpu_scratch(PAC_SCRATCH_OP, (size_t)pac_cuda_attn_bwd_scratch(&at, N, dbias_table != NULL) * sizeof *scratch);
    if (scratch != NULL)
        pac_cuda_attn_bwd_at(dq, dk, dv, dbias_table, d_o, ldo, q, ldq, k, ldk, v, ldv, lse, &at, N, scratch);
}

void pac_gpu_table_close(void)
{
    release_relative();
    release_grouped();
}

const pac_space pac_cuda_space = {
    .name = PAC_CUDA_NAME,
    .alloc = pac_device_alloc,
    .free = pac_device_free,
    .pinned_alloc = pac_device_pinned_alloc,
    .pinned_free = pac_device_pinned_free,
    .upload = pac_device_upload,
    .download = pac_device_download,
    .download_start = pac_device_download_start,
    .upload_start = pac_device_upload_start,
    .wait = pac_device_wait,
    .follow = pac_device_follow,
    .zero_copy = pac_device_zero_copy,
    .move = pac_device_move,
    .fill = pac_device_fill,
    .sync = pac_device_sync,
    .constant = pac_device_constant,
};

static const pac_backend table = {
    .name = PAC_CUDA_NAME,
    .space = &pac_cuda_space,
    .steady = pac_cuda_steady,
    .gemm_each = pac_cuda_gemm_each,
    .gemm = pac_cuda_gemm,
    .bias_fwd = pac_cuda_bias_fwd,
    .bias_bwd = pac_cuda_bias_bwd,
    .rmsnorm_fwd = pac_cuda_rmsnorm_fwd,
    .rmsnorm_bwd = pac_cuda_rmsnorm_bwd,
    .layernorm_fwd = pac_cuda_layernorm_fwd,
    .layernorm_bwd = pac_cuda_layernorm_bwd,
    .act_fwd = pac_cuda_act_fwd,
    .act_bwd = pac_cuda_act_bwd,
    .glu_fwd = pac_cuda_glu_fwd,
    .glu_bwd = pac_cuda_glu_bwd,
    .attn_fwd = attn_fwd,
    .attn_bwd = attn_bwd,
    .embed_fwd = embed_fwd,
    .embed_bwd = embed_bwd,
    .add = pac_cuda_add,
    .axpy = pac_cuda_axpy,
    .gate_fwd = pac_cuda_gate_fwd,
    .gate_bwd = pac_cuda_gate_bwd,
    .xent = xent,
    .argmax = pac_cuda_argmax,
    .mse = pac_cuda_mse,
    .dropout = dropout,
    .mean_rows_fwd = mean_rows_fwd,
    .mean_rows_bwd = mean_rows_bwd,
    .pair_fwd = pac_cuda_pair_fwd,
    .pair_bwd = pac_cuda_pair_bwd,
    .zero = pac_cuda_zero,
    .scale = pac_cuda_scale,
    .copy = pac_cuda_copy,
    .add_squares = pac_cuda_add_squares,
    .sgd = pac_cuda_sgd,
    .adamw = pac_cuda_adamw,
    .sumsq = sumsq,
};

const pac_backend *pac_device_backend(void)
{
    return &table;
}
