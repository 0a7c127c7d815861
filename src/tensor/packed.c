/*
 * Frozen matrices in bf16: packing, reading rows back, and which way a product goes (packed.h has the layouts).
 *
 * One form serves both directions. The native backward product needs the tiles of the transposed matrix: they are made in
 * scratch for each product, which costs a tenth of it at 2,000 rows and keeps the memory at half of f32's. Matrices that are
 * too large for scratch (the head) go part by part, or, without own products, are widened panel by panel (packed_panel.c). The
 * way depends on the matrix alone, never on the number of rows, so that layouts round alike.
 */
#include "packed_parts.h"
#include "pac/mem.h"

#include <stdatomic.h>
#include <string.h>

enum {
    FEW_ROWS = 64,            /* of a thread at least; fewer are split by columns */
    AT_ONCE = 256,            /* rows that are rounded before they are multiplied */
    COLUMN_TILES = 4,         /* that a thread gets at least */
    LARGEST_TURNED = 1 << 24, /* bytes of scratch for a transposed matrix */
    TURNED_PART = 1 << 19     /* numbers of a larger one that are transposed at once */
};

/* ---- making ---- */

bool pac_packed_native(const pac_backend *be, const char **why)
{
    *why = "AMX";
    if (pac_half_of(be) != NULL)
        return true;
    *why = "native only on backends cpu-amx and cpu-avx512";
    return strcmp(be->name, "cpu-avx512") == 0 && pac_native_here(why);
}

static void pack_row(const pac_packed *p, int64_t n, const float *row)
{
    if (p->nb == 0) {
        packed_halve(p->w + n * p->in, row, p->in, 1.0f);
        return;
    }
    uint16_t *to = p->w + tiled_row(n, p->in, p->nb);
    int64_t k = 0;
    for (; k + 1 < p->in; k += 2, to += 2 * p->nb) {
        to[0] = half_of(row[k]);
        to[1] = half_of(row[k + 1]);
    }
    if (k < p->in)
        to[0] = half_of(row[k]);
}

static pac_err fill(const pac_packed *p, const void *w, pac_dtype from)
{
    void *row;
    pac_err err = PAC_OK;
    size_t bytes = (size_t)p->in * pac_dtype_size(from);
    PAC_TRY(pac_mem_array(PAC_MEM_WORK, p->in, sizeof(float), &row));
    for (int64_t n = 0; n < p->out && err == PAC_OK; n++) {
        err = pac_to_f32(row, (const char *)w + (size_t)n * bytes, from, p->in);
        if (err == PAC_OK)
            pack_row(p, n, row);
    }
    pac_mem_free(row);
    return err;
}

static void set_layout(const pac_backend *be, pac_packed *m)
{
    const char *why;
    m->half = pac_half_of(be);
    if (m->half != NULL) {
        m->nb = m->turned = HALF_SIDE;
    } else if (pac_packed_native(be, &why)) {
        m->nb = pac_native_tile(m->in, m->out);
        m->turned = pac_native_tile(m->out, m->in);
    }
    int64_t n = m->nb > 0 ? tiled_elements(m->out, m->in, m->nb) : m->out * m->in;
    m->bytes = (size_t)n * sizeof *m->w;
}

int64_t pac_packed_size(const pac_backend *be, int64_t out, int64_t in)
{
    pac_packed m = {.out = out, .in = in};
    set_layout(be, &m);
    return (int64_t)m.bytes;
}

int64_t pac_packed_layout(const pac_backend *be, int64_t out, int64_t in)
{
    pac_packed m = {.out = out, .in = in};
    set_layout(be, &m);
    return m.nb << 8 | m.turned;
}

static pac_err new_matrix(const pac_backend *be, int64_t out, int64_t in, pac_packed **p)
{
    void *v;
    PAC_CHECK(be->space == NULL, PAC_EINVAL, "backend %s: bf16 weights are for memory of the host", be->name);
    PAC_CHECK(out > 0 && in > 0 && out <= INT64_MAX / 4 / in, PAC_EINVAL, "a packed matrix of %lld x %lld", (long long)out,
              (long long)in);
    PAC_TRY(pac_mem_alloc(PAC_MEM_OTHER, sizeof(pac_packed), &v));
    *p = v;
    **p = (pac_packed){.out = out, .in = in};
    set_layout(be, *p);
    return PAC_OK;
}

pac_err pac_packed_new(const pac_backend *be, const void *w, pac_dtype from, int64_t out, int64_t in, pac_packed **p)
{
    void *v;
    pac_packed *m;
    PAC_TRY(new_matrix(be, out, in, &m));
    pac_err err = pac_mem_alloc(PAC_MEM_WEIGHTS, m->bytes, &v);
    if (err == PAC_OK) {
        m->w = v;
        err = fill(m, w, from);
    }
    if (err != PAC_OK)
        pac_packed_free(&m);
    else
        *p = m;
    return err;
}

pac_err pac_packed_place(const pac_backend *be, const void *w, pac_dtype from, int64_t out, int64_t in, void *place, bool made,
                         pac_packed **p)
{
    pac_packed *m;
    PAC_TRY(new_matrix(be, out, in, &m));
    m->w = place;
    m->borrowed = true;
    pac_mem_account(PAC_MEM_WEIGHTS, (int64_t)m->bytes);
    pac_err err = made ? PAC_OK : fill(m, w, from);
    if (err != PAC_OK)
        pac_packed_free(&m);
    else
        *p = m;
    return err;
}

void pac_packed_free(pac_packed **p)
{
    if (*p == NULL)
        return;
    if ((*p)->borrowed)
        pac_mem_account(PAC_MEM_WEIGHTS, -(int64_t)(*p)->bytes);
    else
        pac_mem_free((*p)->w);
    pac_mem_free(*p);
    *p = NULL;
}

bool pac_packed_is_native(const pac_packed *p)
{
    return p->nb > 0;
}

int64_t pac_packed_bytes(const pac_packed *p)
{
    return (int64_t)p->bytes;
}

/* ---- reading ---- */

static void read_row(float *y, const pac_packed *p, int64_t n)
{
    const uint16_t *from = p->w + (p->nb == 0 ? n * p->in : tiled_row(n, p->in, p->nb));
    for (int64_t k = 0; k < p->in; k++)
        y[k] = half_float(from[p->nb == 0 ? k : tiled_column(k, p->nb)]);
}

void pac_packed_rows(float *y, const pac_packed *p, const int32_t *ids, int64_t N)
{
    for (int64_t n = 0; n < N; n++)
        read_row(y + n * p->in, p, ids[n]);
}

void pac_packed_read(float *w, const pac_packed *p)
{
    for (int64_t n = 0; n < p->out; n++)
        read_row(w + n * p->in, p, n);
}

/* ---- native products on the pool ---- */

/* By the backend's own tiles. */
static bool run_half(const native_product *c, int64_t rows)
{
    int64_t K = round_up(c->K, TILE_K), most = rows < AT_ONCE ? round_up(rows, HALF_ROWS) : AT_ONCE;
    uint16_t *room = pac_scratch((size_t)(most * K) * sizeof *room);
    half_product p = {.x = half_tiles(room, K),
                      .K = c->K,
                      .N = c->N,
                      .w = {c->w},
                      .bias = {c->bias},
                      .alpha = c->alpha,
                      .act = HALF_NO_ACT,
                      .ldy = c->ldy};
    bool done = room != NULL;
    for (int64_t at = 0; at < rows && done; at += p.rows) {
        p.rows = rows - at < AT_ONCE ? rows - at : AT_ONCE;
        p.y = c->y + at * c->ldy;
        p.add = c->sum ? p.y : NULL;
        c->half->round(p.x, c->x + at * c->ldx, c->ldx, p.rows, c->K);
        done = c->half->product(&p);
    }
    return done;
}

typedef struct shared_product {
    native_product c;
    int64_t rows;
    bool columns; /* parts are tiles of columns of y, not rows */
    atomic_bool failed;
} shared_product;

static void product_part(void *user, int64_t lo, int64_t hi)
{
    shared_product *s = user;
    native_product c = s->c;
    int64_t rows = s->rows;
    if (s->columns) {
        int64_t from = lo * c.nb, to = hi * c.nb < c.N ? hi * c.nb : c.N;
        c.y += from;
        c.w += tiled_row(from, c.K, c.nb);
        c.bias = c.bias != NULL ? c.bias + from : NULL;
        c.N = to - from;
    } else {
        c.y += lo * c.ldy;
        c.x += lo * c.ldx;
        rows = hi - lo;
    }
    if (!(c.half != NULL ? run_half(&c, rows) : pac_native_run(&c, rows)))
        atomic_store(&s->failed, true);
}

static void run_native(const native_product *c, int64_t rows)
{
    shared_product s = {.c = *c, .rows = rows, .columns = rows < 2 * FEW_ROWS && c->N >= 2 * COLUMN_TILES * c->nb};
    if (s.columns)
        pac_pool_run((c->N + c->nb - 1) / c->nb, COLUMN_TILES, product_part, &s);
    else
        pac_pool_run(rows, FEW_ROWS, product_part, &s);
    if (atomic_load(&s.failed))
        pac_fill_nan(c->y, c->ldy, rows, c->N);
}

/* ---- the transposed matrix, tile by tile ---- */

/* Four elements (n, k), (n, k+1), (n+1, k), (n+1, k+1) change places to (k, n), (k, n+1), (k+1, n), (k+1, n+1). */
static inline void turn_four(uint16_t *to, const uint16_t *from)
{
    uint64_t q;
    memcpy(&q, from, sizeof q);
    q = (q & 0xffff00000000ffff) | (q >> 16 & 0xffff0000) | (q & 0xffff0000) << 16;
    memcpy(to, &q, sizeof q);
}

/* Rows [from, from + rows) of a matrix; of its transpose they are all columns. */
typedef struct turning {
    const pac_packed *p;
    int64_t from, rows;
    uint16_t *to;
} turning;

/* Tiles [lo, hi) of 32 columns, which become rows. */
static void turn_part(void *user, int64_t lo, int64_t hi)
{
    const turning *t = user;
    const pac_packed *p = t->p;
    int64_t last = hi * TILE_K < round_up(p->in, 2) ? hi * TILE_K : round_up(p->in, 2);
    for (int64_t n0 = 0; n0 < p->out; n0 += p->nb)
        for (int64_t k = lo * TILE_K; k < last; k += 2) {
            const uint16_t *from = p->w + tiled_row(n0, p->in, p->nb) + tiled_column(k, p->nb);
            uint16_t *to = t->to + tiled_row(k, p->out, p->turned);
            for (int64_t n = n0; n < n0 + p->nb && n < p->out; n += 2, from += 4)
                turn_four(to + tiled_column(n, p->turned), from);
        }
}

/* The same by the backend, tiles of 16. */
static void turn_half(void *user, int64_t lo, int64_t hi)
{
    const turning *t = user;
    const pac_packed *p = t->p;
    for (int64_t k = lo * TILE_K; k < hi * TILE_K; k += TILE_K)
        for (int64_t n = 0; n < t->rows; n += TILE_K) {
            const uint16_t *w = p->w + tiled_row(t->from + n, p->in, HALF_SIDE) + tiled_column(k, HALF_SIDE);
            uint16_t *y = t->to + tiled_row(k, t->rows, HALF_SIDE) + tiled_column(n, HALF_SIDE);
            bool more = n + HALF_SIDE < t->rows, wide = k + HALF_SIDE < p->in;
            p->half->turn((uint16_t *const[2]){y, wide ? y + HALF_SIDE * round_up(t->rows, TILE_K) : NULL},
                          (const uint16_t *const[2]){w, more ? w + HALF_SIDE * round_up(p->in, TILE_K) : NULL});
        }
}

/* The tiles of the transpose of `rows` rows, all but for backends' own, in the room of this thread; NULL: no memory. */
static const uint16_t *turn(const pac_packed *p, int64_t from, int64_t rows)
{
    size_t bytes = (size_t)tiled_elements(p->in, rows, p->turned) * sizeof *p->w;
    turning t = {.p = p, .from = from, .rows = rows, .to = pac_scratch_outer(bytes)};
    if (t.to == NULL)
        return NULL;
    if ((size_t)(p->in * rows) * sizeof *p->w < bytes)
        memset(t.to, 0, bytes);
    pac_pool_run((p->in + TILE_K - 1) / TILE_K, 1, p->half != NULL ? turn_half : turn_part, &t);
    return t.to;
}

/* ---- products ---- */

void pac_packed_fwd(const pac_backend *be, float *y, const float *x, const pac_packed *p, const float *bias, int64_t N,
                    float alpha)
{
    if (p->nb == 0) {
        packed_panel_fwd(be, y, x, p, N, alpha);
        if (bias != NULL)
            be->bias_fwd(y, bias, N, p->out);
    } else if (N > 0) {
        native_product c = {.y = y,
                            .ldy = p->out,
                            .x = x,
                            .ldx = p->in,
                            .w = p->w,
                            .nb = p->nb,
                            .K = p->in,
                            .N = p->out,
                            .bias = bias,
                            .alpha = alpha,
                            .half = p->half};
        run_native(&c, N);
    }
}

/* Rows of a matrix that are turned at once: all, or, of one too large for that (the head), some by the backend's own tiles. */
static int64_t rows_at_once(const pac_packed *p)
{
    if (p->bytes <= LARGEST_TURNED)
        return p->out;
    int64_t rows = TURNED_PART / p->in / TILE_K * TILE_K;
    return rows > TILE_K ? rows : TILE_K;
}

void pac_packed_bwd(const pac_backend *be, float *dx, bool accumulate, const float *dy, const pac_packed *p, int64_t N,
                    float alpha)
{
    if (p->turned == 0 || p->nb == 0 || (p->half == NULL && p->bytes > LARGEST_TURNED)) {
        packed_panel_bwd(be, dx, accumulate, dy, p, N, alpha);
        return;
    }
    native_product c = {
        .y = dx, .ldy = p->in, .ldx = p->out, .nb = p->turned, .N = p->in, .alpha = alpha, .sum = accumulate, .half = p->half};
    for (int64_t from = 0, most = rows_at_once(p); from < p->out && N > 0; from += c.K) {
        c.K = p->out - from < most ? p->out - from : most;
        c.x = dy + from;
        c.w = turn(p, from, c.K);
        if (c.w == NULL) {
            pac_fill_nan(dx, p->in, N, p->in);
            return;
        }
        run_native(&c, N);
        c.sum = true;
    }
}
