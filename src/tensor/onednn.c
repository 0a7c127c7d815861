/*
 * Native bf16 products by oneDNN, for the backend that has none of its own (cpu-avx512): rows are rounded block by block into
 * scratch that stays in the second-level cache, and each block is one product with f32 sums.
 *
 * oneDNN compiles a product for its exact sizes. Rows come in any number (ragged text), so blocks have a multiple of 16 rows up
 * to BLOCK, and what is left over goes through a product of 16 rows in scratch. Threads: the project's pool splits the rows,
 * oneDNN itself gets one thread.
 */
#include "packed_parts.h"

#include <oneapi/dnnl/dnnl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BLOCK = 128, /* rows of a product at most */
    STEP = 16,
    CHUNK = 1024,   /* columns that pass through scratch at once; a multiple of every tile but 48, which is never cut */
    WORK = 1 << 18, /* bytes of oneDNN's own scratch at most */
    ALIGNED = 64
};

extern void omp_set_num_threads(int n); /* of the library that oneDNN runs on; concerns the calling thread */

/* ---- what this processor has ---- */

static dnnl_engine_t engine; /* NULL: no native products */
static char reason[64];
static pthread_once_t looked = PTHREAD_ONCE_INIT;

static void look(void)
{
    const dnnl_version_t *v = dnnl_version();
    int isa = (int)dnnl_get_effective_cpu_isa();
    bool bf16 = (isa & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
    bool amx = (isa & dnnl_cpu_isa_avx512_core_amx) == dnnl_cpu_isa_avx512_core_amx;
    snprintf(reason, sizeof reason, "oneDNN %d.%d.%d, %s", v->major, v->minor, v->patch,
             amx    ? "AMX"
             : bf16 ? "AVX512-BF16 without AMX, slower than f32"
                    : "no AMX on this processor");
    if (amx && dnnl_engine_create(&engine, dnnl_cpu, 0) != dnnl_success)
        engine = NULL;
}

bool pac_native_here(const char **why)
{
    pthread_once(&looked, look);
    *why = reason;
    return engine != NULL;
}

/* ---- compiled products, kept until the program ends ---- */

typedef struct shape {
    int64_t rows, K, N, nb; /* K rounded up to whole tiles: others have no fast product */
    bool bias, sum;
} shape;

typedef struct compiled {
    shape key;
    dnnl_primitive_t run;
    dnnl_memory_desc_t x, w, y, bias, scratch;
    struct compiled *next;
} compiled;

static _Atomic(compiled *) made;
static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER;

#define DNNL(call)                                                                                                             \
    if ((call) != dnnl_success)                                                                                                \
        goto out;

static bool same(const shape *a, const shape *b)
{
    return a->rows == b->rows && a->K == b->K && a->N == b->N && a->nb == b->nb && a->bias == b->bias && a->sum == b->sum;
}

static dnnl_format_tag_t tag_of(int64_t nb)
{
    return nb == 64 ? dnnl_BA16a64b2a : nb == 48 ? dnnl_BA16a48b2a : nb == 32 ? dnnl_BA16a32b2a : dnnl_BA16a16b2a;
}

/* Sizes and layouts; nb = 0 leaves the weights' to oneDNN. */
static bool describe(compiled *c, dnnl_matmul_desc_t *op)
{
    const shape *s = &c->key;
    dnnl_dims_t dx = {s->rows, s->K}, dw = {s->K, s->N}, dy = {s->rows, s->N}, db = {1, s->N};
    dnnl_dims_t sx = {s->K, 1};
    bool done = false;
    DNNL(dnnl_memory_desc_init_by_strides(&c->x, 2, dx, dnnl_bf16, sx));
    DNNL(dnnl_memory_desc_init_by_tag(&c->w, 2, dw, dnnl_bf16, s->nb > 0 ? tag_of(s->nb) : dnnl_format_tag_any));
    DNNL(dnnl_memory_desc_init_by_tag(&c->y, 2, dy, dnnl_f32, dnnl_ab));
    DNNL(dnnl_memory_desc_init_by_tag(&c->bias, 2, db, dnnl_f32, dnnl_ab));
    DNNL(dnnl_matmul_desc_init(op, &c->x, &c->w, s->bias ? &c->bias : NULL, &c->y));
    done = true;
out:
    return done;
}

static bool attributes(const shape *s, dnnl_primitive_attr_t *attr)
{
    dnnl_post_ops_t ops = NULL;
    bool done = false;
    DNNL(dnnl_primitive_attr_create(attr));
    DNNL(dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user));
    if (s->sum) {
        DNNL(dnnl_post_ops_create(&ops));
        DNNL(dnnl_post_ops_append_sum(ops, 1.0f));
        DNNL(dnnl_primitive_attr_set_post_ops(*attr, ops));
    }
    done = true;
out:
    if (ops != NULL)
        dnnl_post_ops_destroy(ops);
    return done;
}

static dnnl_primitive_desc_t choose(compiled *c)
{
    dnnl_matmul_desc_t op;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t found = NULL;
    omp_set_num_threads(1);
    if (describe(c, &op) && attributes(&c->key, &attr) &&
        dnnl_primitive_desc_create(&found, &op, attr, engine, NULL) != dnnl_success)
        found = NULL;
    if (attr != NULL)
        dnnl_primitive_attr_destroy(attr);
    return found;
}

/* A kernel that was made for the instructions, not oneDNN's reference. */
static bool is_fast(dnnl_primitive_desc_t d)
{
    const char *name = NULL;
    return dnnl_primitive_desc_query(d, dnnl_query_impl_info_str, 0, &name) == dnnl_success && strncmp(name, "brg", 3) == 0;
}

static bool compile(compiled *c)
{
    bool done = false;
    dnnl_primitive_desc_t d = choose(c);
    if (d == NULL)
        return false;
    c->scratch = *dnnl_primitive_desc_query_md(d, dnnl_query_scratchpad_md, 0);
    if (dnnl_memory_desc_get_size(&c->scratch) > WORK)
        goto out;
    DNNL(dnnl_primitive_create(&c->run, d));
    done = true;
out:
    dnnl_primitive_desc_destroy(d);
    return done;
}

static compiled *find(const shape *s)
{
    compiled *c = atomic_load_explicit(&made, memory_order_acquire);
    while (c != NULL && !same(&c->key, s))
        c = c->next;
    return c;
}

static compiled *make(const shape *s)
{
    compiled *c = malloc(sizeof *c); /* beside the code that oneDNN keeps, which the ledger does not know either */
    if (c == NULL)
        return NULL;
    *c = (compiled){.key = *s, .next = atomic_load_explicit(&made, memory_order_relaxed)};
    if (!compile(c)) {
        free(c);
        return NULL;
    }
    atomic_store_explicit(&made, c, memory_order_release);
    return c;
}

/* NULL: it cannot be made. */
static const compiled *product_of(const shape *s)
{
    compiled *c = find(s);
    if (c != NULL)
        return c;
    pthread_mutex_lock(&making);
    c = find(s);
    if (c == NULL)
        c = make(s);
    pthread_mutex_unlock(&making);
    return c;
}

/* ---- tiles ---- */

int64_t pac_native_tile(int64_t K, int64_t N)
{
    const char *why;
    compiled c = {.key = {.rows = BLOCK, .K = round_up(K, TILE_K), .N = N}};
    int64_t nb = 0;
    dnnl_primitive_desc_t d = pac_native_here(&why) ? choose(&c) : NULL;
    if (d == NULL)
        return 0;
    const dnnl_memory_desc_t *w = dnnl_primitive_desc_query_md(d, dnnl_query_weights_md, 0);
    for (int64_t n = 16; n <= 64 && is_fast(d); n += 16) {
        c.key.nb = n;
        dnnl_matmul_desc_t op;
        if (describe(&c, &op) && dnnl_memory_desc_equal(&c.w, w))
            nb = n;
    }
    dnnl_primitive_desc_destroy(d);
    return nb;
}

/* ---- running ---- */

/* The calling thread's buffers, in its scratch. */
typedef struct buffers {
    uint16_t *x; /* [BLOCK, K rounded up] */
    float *y;    /* [BLOCK, CHUNK + a tile], of what does not go to its place at once */
    char *work;
} buffers;

static int64_t most_rows(int64_t rows)
{
    return rows < BLOCK ? round_up(rows, STEP) : BLOCK;
}

static bool get_buffers(const native_product *c, int64_t rows, buffers *b)
{
    int64_t columns = c->N < CHUNK + c->nb ? c->N : CHUNK + c->nb, passing = c->ldy == c->N ? STEP : most_rows(rows);
    size_t x = (size_t)round_up(most_rows(rows) * round_up(c->K, TILE_K) * 2, ALIGNED);
    size_t y = (size_t)round_up(passing * columns * 4, ALIGNED);
    char *p = pac_scratch(x + y + WORK);
    if (p == NULL)
        return false;
    *b = (buffers){.x = (uint16_t *)(void *)p, .y = (float *)(void *)(p + x), .work = p + x + y};
    return true;
}

/* Rows of x in bf16, their ends and `more` rows behind them zero. */
static void round_rows(const native_product *c, uint16_t *to, const float *x, int64_t rows, int64_t more)
{
    int64_t stride = round_up(c->K, TILE_K);
    for (int64_t i = 0; i < rows; i++, to += stride, x += c->ldx) {
        packed_halve(to, x, c->K, c->alpha);
        memset(to + c->K, 0, (size_t)(stride - c->K) * sizeof *to);
    }
    memset(to, 0, (size_t)(more * stride) * sizeof *to);
}

/* The product of the rounded rows with the columns of c, to y. */
static bool execute(const native_product *c, const buffers *b, dnnl_stream_t stream, int64_t rows, float *y, bool sum)
{
    const shape s = {rows, round_up(c->K, TILE_K), c->N, c->nb, c->bias != NULL, sum};
    const compiled *p = product_of(&s);
    dnnl_memory_t m[5] = {NULL};
    bool done = false;
    union {
        const void *from;
        void *to;
    } w = {c->w}, bias = {c->bias};
    if (p == NULL)
        return false;
    DNNL(dnnl_memory_create(&m[0], &p->x, engine, b->x));
    DNNL(dnnl_memory_create(&m[1], &p->w, engine, w.to));
    DNNL(dnnl_memory_create(&m[2], &p->y, engine, y));
    DNNL(dnnl_memory_create(&m[3], &p->scratch, engine, b->work));
    DNNL(dnnl_memory_create(&m[4], &p->bias, engine, bias.to));
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, m[0]},
                                    {DNNL_ARG_WEIGHTS, m[1]},
                                    {DNNL_ARG_DST, m[2]},
                                    {DNNL_ARG_SCRATCHPAD, m[3]},
                                    {DNNL_ARG_BIAS, m[4]}};
    DNNL(dnnl_primitive_execute(p->run, stream, s.bias ? 5 : 4, args));
    done = true;
out:
    for (int i = 0; i < 5; i++)
        if (m[i] != NULL)
            dnnl_memory_destroy(m[i]);
    return done;
}

static void put_rows(const native_product *c, float *y, const float *from, int64_t rows)
{
    for (int64_t i = 0; i < rows; i++, y += c->ldy, from += c->N)
        for (int64_t j = 0; j < c->N; j++)
            y[j] = c->sum ? y[j] + from[j] : from[j];
}

/* Some columns after others, through scratch: rows that are no multiple of STEP, and parts of wider rows. */
static bool run_through(const native_product *c, const buffers *b, dnnl_stream_t stream, float *y, int64_t rows)
{
    for (int64_t at = 0; at < c->N;) {
        native_product some = *c;
        some.N = c->N - at < CHUNK + c->nb ? c->N - at : CHUNK; /* the last is never less than a tile */
        some.w += tiled_row(at, c->K, c->nb);
        some.bias = c->bias != NULL ? c->bias + at : NULL;
        if (!execute(&some, b, stream, round_up(rows, STEP), b->y, false))
            return false;
        put_rows(&some, y + at, b->y, rows);
        at += some.N;
    }
    return true;
}

static bool run_blocks(const native_product *c, const buffers *b, dnnl_stream_t stream, int64_t rows)
{
    bool direct = c->ldy == c->N;
    for (int64_t at = 0, n; at < rows; at += n) {
        float *y = c->y + at * c->ldy;
        n = rows - at < BLOCK ? rows - at : BLOCK;
        if (direct && n > STEP)
            n = n / STEP * STEP;
        round_rows(c, b->x, c->x + at * c->ldx, n, round_up(n, STEP) - n);
        if (!(direct && n % STEP == 0 ? execute(c, b, stream, n, y, c->sum) : run_through(c, b, stream, y, n)))
            return false;
    }
    return true;
}

bool pac_native_run(const native_product *c, int64_t rows)
{
    dnnl_stream_t stream;
    buffers b;
    omp_set_num_threads(1);
    if (!get_buffers(c, rows, &b) || dnnl_stream_create(&stream, engine, dnnl_stream_default_flags) != dnnl_success)
        return false;
    bool done = run_blocks(c, &b, stream, rows);
    dnnl_stream_destroy(stream);
    return done;
}
