/*
 * Frozen sub-layers at once, where the backend has products of bf16 rows (half.h). A group of rows goes from its norm to its
 * residual while it is in the second-level cache; what lies between the products is bf16.
 *
 * Threads take one group after the other. Where there are too few rows for that, all work on one group: the same functions run
 * their parts on the pool, which runs them whole in a thread that has a group of its own.
 */
#include "packed_parts.h"

#include <stdatomic.h>

enum {
    GROUP = 128,    /* rows, about, that stay in the second-level cache; few, so that threads end together */
    FEW_ROWS = 64,  /* of a thread at least */
    NORM_ROWS = 16, /* that are normed before they are rounded */
    COLUMNS = 128   /* of a product that a thread gets at least, a multiple of 32 */
};

typedef struct sub_layer {
    const pac_backend *be;
    const half_ops *half;
    const pac_packed_edge *edge;
    float *y;
    const float *x;
    int64_t D;
    const pac_packed_ff *ff;
    const pac_packed_attn *attn;
    const pac_attn *p;
    atomic_bool failed;
} sub_layer;

/* ---- the parts of a sub-layer, on the threads that are free ---- */

static void norm(const sub_layer *s, float *y, const float *x, int64_t rows)
{
    const pac_packed_edge *e = s->edge;
    if (e->layer)
        s->be->layernorm_fwd(y, NULL, NULL, x, e->w, e->b, rows, s->D, e->eps);
    else
        s->be->rmsnorm_fwd(y, NULL, x, e->w, rows, s->D, e->eps);
}

typedef struct entering {
    sub_layer *s;
    const float *x;
    half_place to;
} entering;

/* Rows [lo, hi), up to the end of a strip of tiles at once. */
static void enter_part(void *user, int64_t lo, int64_t hi)
{
    const entering *e = user;
    sub_layer *s = e->s;
    float *room = s->edge->post ? NULL : pac_scratch((size_t)(NORM_ROWS * s->D) * sizeof *room);
    if (room == NULL && !s->edge->post) {
        atomic_store(&s->failed, true);
        return;
    }
    for (int64_t i = lo, n; i < hi; i += n) {
        const float *x = e->x + i * s->D;
        half_place to = e->to;
        n = NORM_ROWS - i % NORM_ROWS < hi - i ? NORM_ROWS - i % NORM_ROWS : hi - i;
        to.x = half_at(&e->to, i, 0);
        if (room != NULL)
            norm(s, room, x, n);
        s->half->round(to, room != NULL ? room : x, s->D, n, s->D);
    }
}

/* What the sub-layer's products read: norm(x), or x, in bf16. */
static void enter(sub_layer *s, half_place to, const float *x, int64_t rows)
{
    entering e = {s, x, to};
    pac_pool_run(rows, NORM_ROWS, enter_part, &e);
}

typedef struct multiplying {
    sub_layer *s;
    const half_product *c;
} multiplying;

/* Columns in units of 32. */
static void multiply_part(void *user, int64_t lo, int64_t hi)
{
    const multiplying *m = user;
    half_product c = *m->c;
    int64_t from = lo * TILE_K, to = hi * TILE_K < c.N ? hi * TILE_K : c.N;
    for (int i = 0; i < 2 && c.w[i] != NULL; i++) {
        c.w[i] += tiled_row(from, c.K, HALF_SIDE);
        c.bias[i] = c.bias[i] != NULL ? c.bias[i] + from : NULL;
    }
    if (c.h.x != NULL)
        c.h.x += from / HALF_K * c.h.chunk;
    c.y = c.y != NULL ? c.y + from : NULL;
    c.add = c.add != NULL ? c.add + from : NULL;
    c.N = to - from;
    if (!m->s->half->product(&c))
        atomic_store(&m->s->failed, true);
}

static void multiply(sub_layer *s, const half_product *c)
{
    multiplying m = {s, c};
    pac_pool_run((c->N + TILE_K - 1) / TILE_K, COLUMNS / TILE_K, multiply_part, &m);
}

typedef struct attending {
    sub_layer *s;
    half_attention a;
} attending;

static void attend_part(void *user, int64_t lo, int64_t hi)
{
    const attending *t = user;
    if (!t->s->half->attend(&t->a, lo, hi))
        atomic_store(&t->s->failed, true);
}

/* h = x w^T + b in bf16 */
static half_product to_halves(half_place x, int64_t rows, const pac_packed *w, const float *bias, half_place h)
{
    return (half_product){
        .x = x, .rows = rows, .K = w->in, .N = w->out, .w = {w->w}, .bias = {bias}, .alpha = 1.0f, .act = HALF_NO_ACT, .h = h};
}

/* y = x + h w^T + b, or its norm */
static void leave(sub_layer *s, half_place h, const pac_packed *w, const float *bias, int64_t at, int64_t rows)
{
    half_product c = to_halves(h, rows, w, bias, (half_place){NULL});
    c.y = s->y + at * s->D;
    c.add = s->x + at * s->D;
    c.ldy = s->D;
    multiply(s, &c);
    if (s->edge->post)
        norm(s, c.y, c.y, rows);
}

/* ---- groups ---- */

/* Room for numbers in bf16, of the calling thread. */
static uint16_t *get_room(sub_layer *s, int64_t numbers)
{
    uint16_t *room = pac_scratch_outer((size_t)numbers * sizeof *room);
    if (room == NULL)
        atomic_store(&s->failed, true);
    return room;
}

static void feed_group(sub_layer *s, int64_t at, int64_t rows)
{
    const pac_packed_ff *w = s->ff;
    const int64_t D = round_up(s->D, TILE_K), F = round_up(w->wi->out, TILE_K), most = round_up(rows, HALF_ROWS);
    uint16_t *room = get_room(s, most * (D + F));
    if (room == NULL)
        return;
    half_place x = half_tiles(room, D), h = half_tiles(room + most * D, F);
    half_product c = to_halves(x, rows, w->wi, w->bi, h);
    c.act = (int)w->act;
    if (w->wg != NULL) {
        c.w[1] = w->wg->w;
        c.bias[1] = w->bg;
    }
    enter(s, x, s->x + at * s->D, rows);
    multiply(s, &c);
    leave(s, h, w->wo, w->bo, at, rows);
}

static void feed_rows(sub_layer *s, int64_t lo, int64_t hi)
{
    feed_group(s, lo, hi - lo);
}

/* Sequences of p. The rows' place serves the outputs too. */
static void attend_group(sub_layer *s, const pac_attn *p)
{
    const pac_packed_attn *w = s->attn;
    const int64_t D = round_up(s->D, TILE_K), I = p->H * p->K, wide = D > I ? D : I;
    const int64_t at = p->toff[0], rows = p->toff[p->B] - at, most = round_up(rows, HALF_ROWS);
    uint16_t *room = get_room(s, most * wide + (rows + HALF_ROWS) * 3 * I);
    if (room == NULL || rows == 0)
        return;
    uint16_t *q = room + most * wide, *k = q + I, *v = k + I;
    half_place x = half_tiles(room, D);
    const half_product c[] = {to_halves(x, rows, w->q, w->bq, half_plain(q, 3 * I)),
                              to_halves(x, rows, w->k, w->bk, half_plain(k, 3 * I)),
                              to_halves(x, rows, w->v, w->bv, half_plain(v, 3 * I))};
    attending t = {s, {.o = half_tiles(room, I), .q = q, .k = k, .v = v, .ld = 3 * I, .p = p}};
    enter(s, x, s->x + at * s->D, rows);
    for (int i = 0; i < 3; i++)
        multiply(s, &c[i]);
    pac_pool_run(p->H, 1, attend_part, &t);
    leave(s, t.a.o, w->o, w->bo, at, rows);
}

/* Sequences that begin in [lo, hi). */
static void attend_sequences(sub_layer *s, int64_t lo, int64_t hi)
{
    const int64_t *off = s->p->toff, B = s->p->B, base = off[0];
    int64_t b = 0;
    while (b < B && off[b] - base < lo)
        b++;
    pac_attn p = *s->p;
    p.toff = p.soff = off + b;
    for (p.B = 0; b < B && off[b] - base < hi; b++)
        p.B++;
    if (p.B > 0)
        attend_group(s, &p);
}

/* Groups that wait for a thread. */
typedef struct queue {
    sub_layer *s;
    void (*work)(sub_layer *s, int64_t lo, int64_t hi);
    int64_t rows, groups;
    atomic_llong next;
} queue;

/* Whoever is free takes the next one: a thread that another program holds up delays no more than its own group. */
static void take_groups(void *user, int64_t lo, int64_t hi)
{
    queue *q = user;
    (void)lo, (void)hi;
    for (int64_t g = atomic_fetch_add(&q->next, 1); g < q->groups; g = atomic_fetch_add(&q->next, 1))
        q->work(q->s, q->rows * g / q->groups, q->rows * (g + 1) / q->groups);
}

/* Groups on threads, or threads on each group. Rows begin at `at`. */
static bool run(sub_layer *s, int64_t at, int64_t rows, int64_t longest, void (*work)(sub_layer *s, int64_t lo, int64_t hi))
{
    int64_t threads = pac_pool_threads();
    bool many = pac_pool_parts(rows, FEW_ROWS) > 1 && longest <= rows / threads;
    int64_t share = many ? threads : 1;
    queue q = {.s = s, .work = work, .rows = rows, .groups = (rows + GROUP * share - 1) / (GROUP * share) * share};
    if (many)
        pac_pool_run(threads, 1, take_groups, &q);
    else
        take_groups(&q, 0, 1);
    if (atomic_load(&s->failed))
        pac_fill_nan(s->y + at * s->D, s->D, rows, s->D);
    return true;
}

static bool own(const pac_packed *w)
{
    return w->half != NULL;
}

bool pac_packed_feed(const pac_backend *be, float *y, const float *x, const pac_packed_ff *w, const pac_packed_edge *edge,
                     int64_t N)
{
    if (!own(w->wi) || !own(w->wo) || (w->wg != NULL && !own(w->wg)))
        return false;
    sub_layer s = {.be = be, .half = w->wi->half, .edge = edge, .y = y, .x = x, .D = w->wi->in, .ff = w};
    return run(&s, 0, N, 1, feed_rows);
}

static int64_t longest_of(const pac_attn *p)
{
    int64_t most = 0;
    for (int64_t b = 0; b < p->B; b++)
        most = p->toff[b + 1] - p->toff[b] > most ? p->toff[b + 1] - p->toff[b] : most;
    return most;
}

bool pac_packed_attend(const pac_backend *be, float *y, const float *x, const pac_packed_attn *w, const pac_packed_edge *edge,
                       const pac_attn *p)
{
    if (!own(w->q) || !own(w->k) || !own(w->v) || !own(w->o) || p->K % HALF_K != 0)
        return false;
    const int64_t rows = p->toff[p->B] - p->toff[0];
    sub_layer s = {.be = be, .half = w->q->half, .edge = edge, .y = y, .x = x, .D = w->q->in, .attn = w, .p = p};
    return run(&s, p->toff[0], rows, longest_of(p), attend_sequences);
}
