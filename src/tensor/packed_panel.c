/*
 * Products with a bf16 matrix on any backend: a panel of it, of a few MiB, is widened to f32, multiplied by
 * the backend's product, and the next one takes its place. The backward product takes tiles too: a panel of them widens to the
 * transposed matrix by shifts alone.
 */
#include "packed_parts.h"

#include <string.h>

enum {
    PANEL = 1 << 18,  /* numbers in a panel, about, but */
    PANEL_ROWS = 320, /* so many rows of w at least: products over fewer are slow */
};

WIDE void packed_halve(uint16_t *restrict to, const float *restrict from, int64_t n, float alpha)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = half_of(alpha * from[i]);
}

WIDE static void widen(float *restrict to, const uint16_t *restrict from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = half_float(from[i]);
}

/* Pairs (k, k + 1) of n rows: two rows of the transposed matrix. */
WIDE static void widen_pairs(float *restrict a, float *restrict b, const uint16_t *restrict from, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        a[i] = half_float(from[2 * i]);
        b[i] = half_float(from[2 * i + 1]);
    }
}

/* Rows [from, from + rows) of w in `to`: [rows, in], or from tiles its transpose [in rounded up to pairs, rows rounded up to
 * nb]. */
typedef struct panel {
    const pac_packed *p;
    int64_t from, rows, ld;
    float *to;
} panel;

static void widen_rows(void *user, int64_t lo, int64_t hi)
{
    const panel *a = user;
    int64_t in = a->p->in;
    widen(a->to + lo * in, a->p->w + (a->from + lo) * in, (hi - lo) * in);
}

static void widen_tiles(void *user, int64_t lo, int64_t hi)
{
    const panel *a = user;
    const pac_packed *p = a->p;
    for (int64_t n = 0; n < a->ld; n += p->nb) {
        const uint16_t *tile = p->w + tiled_row(a->from + n, p->in, p->nb);
        for (int64_t k = 2 * lo; k < 2 * hi; k += 2)
            widen_pairs(a->to + k * a->ld + n, a->to + (k + 1) * a->ld + n, tile + tiled_column(k, p->nb), p->nb);
    }
}

int64_t pac_packed_numbers(const pac_packed *p)
{
    return p->nb > 0 ? round_up(p->out, p->nb) * round_up(p->in, 2) : p->out * p->in;
}

/* All rows of a panel that has its place. */
static void widen_panel(panel *a)
{
    if (a->p->nb > 0)
        pac_pool_run((a->p->in + 1) / 2, 16, widen_tiles, a);
    else
        pac_pool_run(a->rows, 16, widen_rows, a);
}

pac_widened pac_packed_widen(float *to, const pac_packed *p)
{
    panel a = {.p = p, .rows = p->out, .ld = p->nb > 0 ? round_up(p->out, p->nb) : p->in, .to = to};
    widen_panel(&a);
    return (pac_widened){to, a.ld, p->nb > 0};
}

/* Rows of w that a panel has at most. */
static int64_t panel_rows(const pac_packed *p)
{
    int64_t unit = p->nb > 0 ? p->nb : 16, rows = PANEL / p->in / unit * unit;
    rows = rows < PANEL_ROWS ? PANEL_ROWS : rows;
    return rows < p->out ? rows : p->out;
}

static bool panel_new(const pac_packed *p, panel *a)
{
    int64_t rows = panel_rows(p), numbers = p->nb > 0 ? round_up(rows, p->nb) * round_up(p->in, 2) : rows * p->in;
    *a = (panel){.p = p, .to = pac_scratch_outer((size_t)numbers * sizeof(float))};
    return a->to != NULL;
}

static void panel_load(panel *a, int64_t from)
{
    int64_t rows = panel_rows(a->p);
    a->from = from;
    a->rows = a->p->out - from < rows ? a->p->out - from : rows;
    a->ld = a->p->nb > 0 ? round_up(a->rows, a->p->nb) : a->p->in;
    widen_panel(a);
}

void packed_panel_fwd(const pac_backend *be, float *y, const float *x, const pac_packed *p, int64_t N, float alpha)
{
    panel a;
    if (!panel_new(p, &a)) {
        pac_fill_nan(y, p->out, N, p->out);
        return;
    }
    for (int64_t n = 0; n < p->out; n += a.rows) {
        panel_load(&a, n);
        be->gemm(y + n, p->out, x, p->in, false, a.to, a.ld, p->nb == 0, N, a.rows, p->in, alpha, 0.0f);
    }
}

void packed_panel_bwd(const pac_backend *be, float *dx, bool accumulate, const float *dy, const pac_packed *p, int64_t N,
                      float alpha)
{
    panel a;
    if (!panel_new(p, &a)) {
        pac_fill_nan(dx, p->in, N, p->in);
        return;
    }
    for (int64_t n = 0; n < p->out; n += a.rows) {
        panel_load(&a, n);
        be->gemm(dx, p->in, dy + n, p->out, false, a.to, a.ld, p->nb > 0, N, p->in, a.rows, alpha,
                 accumulate || n > 0 ? 1.0f : 0.0f);
    }
}
