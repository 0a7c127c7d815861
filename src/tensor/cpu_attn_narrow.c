/*
 * cpu attention for narrow heads. Scores are kept transposed, [keys, TILE query rows], with the query rows in the lanes of
 * vectors: a head's few numbers are then a short chain of fused multiply-adds by one number of a key, and soft-max adds up
 * whole vectors, key after key, without a sum across lanes.
 *
 * Keys and values of a head are copied side by side, in chunks of CHUNK numbers (the last filled up with zeros), query rows are
 * copied transposed. Lanes behind the last query row hold zeros and are never stored. The position bias of a key and a tile of
 * rows is a contiguous piece of a line over query minus key position; its gradient is the same line's, a sum along diagonals.
 */
#include "cpu_tile.h"

/* Scratch of a call; matrices of a head are [chunks, rows, CHUNK], those of a tile [chunks, TILE, CHUNK] or, transposed,
 * [chunks, CHUNK, TILE]. */
typedef struct narrow {
    const pac_attn *p;
    int64_t T, S, chunks, width; /* of the longest sequences; of a bias line */
    float *score, *dscore;       /* [S, TILE], [S, LD] */
    float *k, *v, *dk, *dv;
    float *q, *q_t, *do_, *do_t, *out; /* q times the scale */
    float *mask;                       /* TILE times -infinity, TILE zeros */
    float *zeros;                      /* [TILE] */
    float *bias, *dbias;               /* [H, width], NULL: none */
    int32_t *bucket;                   /* [T + S] */
} narrow;

/* ---- copies ---- */

/* Numbers of a head in chunk c. */
static int in_chunk(const narrow *w, int64_t c)
{
    int64_t n = w->p->K - c * CHUNK;
    return (int)(n < CHUNK ? n : CHUNK);
}

ALWAYS_INLINE void pack_chunk(float *to, const float *x, int64_t ldx, int64_t rows, const int n)
{
    for (int64_t i = 0; i < rows; i++, to += CHUNK, x += ldx) {
        for (int d = 0; d < n; d++)
            to[d] = x[d];
        for (int d = n; d < CHUNK; d++)
            to[d] = 0;
    }
}

/* to[chunks, rows, CHUNK] = x[rows, K] */
static void pack(const narrow *w, float *to, const float *x, int64_t ldx, int64_t rows)
{
    for (int64_t c = 0; c < w->chunks; c++, x += CHUNK, to += rows * CHUNK)
        if (in_chunk(w, c) == CHUNK)
            pack_chunk(to, x, ldx, rows, CHUNK);
        else
            pack_chunk(to, x, ldx, rows, in_chunk(w, c));
}

/* y[rows, K] = the sums of pairs in from[chunks, rows, CHUNK, PAIR] */
static void unpack(const narrow *w, float *y, int64_t ldy, const float *from, int64_t rows)
{
    for (int64_t c = 0; c < w->chunks; c++, y += CHUNK) {
        int n = in_chunk(w, c);
        for (int64_t i = 0; i < rows; i++, from += WIDE)
            for (int d = 0; d < n; d++)
                y[i * ldy + d] = PAIR == 1 ? from[d] : from[d * PAIR] + from[d * PAIR + PAIR - 1];
    }
}

/* to[d, i] = alpha x[i, d] */
static void turn_rows(float *to, const float *x, int64_t ldx, int64_t rows, int n, float alpha)
{
    int64_t i = 0;
    for (; n == CHUNK && i + CHUNK <= rows; i += CHUNK)
        turn_chunk(to + i, TILE, x + i * ldx, ldx, alpha);
    for (; i < rows; i++)
        for (int d = 0; d < n; d++)
            to[d * TILE + i] = alpha * x[i * ldx + d];
}

/* to[i / PAIR, d, i % PAIR] = alpha x[i, d] */
ALWAYS_INLINE void pair_rows(float *to, const float *x, int64_t ldx, int64_t rows, const int n, float alpha)
{
    for (int64_t i = 0; i < rows; i++)
        for (int d = 0; d < n; d++)
            to[i / PAIR * WIDE + d * PAIR + i % PAIR] = alpha * x[i * ldx + d];
}

/* to_t: alpha x[rows, K] transposed, to (NULL: not wanted): in pairs of rows; zeros behind the last row and number. */
static void pack_tile(const narrow *w, float *to, float *to_t, const float *x, int64_t ldx, int64_t rows, float alpha)
{
    size_t all = (size_t)(w->chunks * CHUNK * TILE) * sizeof *to_t;
    bool gaps = rows < TILE || w->p->K % CHUNK != 0;
    if (gaps)
        memset(to_t, 0, all);
    if (gaps && to != NULL)
        memset(to, 0, all);
    for (int64_t c = 0; c < w->chunks; c++, x += CHUNK, to_t += TILE * CHUNK) {
        int n = in_chunk(w, c);
        turn_rows(to_t, x, ldx, rows, n, alpha);
        if (to != NULL && n == CHUNK && rows == TILE)
            pair_rows(to + c * TILE * CHUNK, x, ldx, TILE, CHUNK, alpha);
        else if (to != NULL)
            pair_rows(to + c * TILE * CHUNK, x, ldx, rows, n, alpha);
    }
}

/* y[rows, K] = a[keys, rows]^T b[keys, K], each row times its factor. */
static void store_sums(const narrow *w, float *y, int64_t ldy, const float *a, int64_t lda, const float *b, const tile *x,
                       const float *factor)
{
    for (int64_t c = 0; c < w->chunks; c++, y += CHUNK, b += x->S * CHUNK) {
        int n = in_chunk(w, c);
        int64_t i = 0;
        sums(w->out, a, lda, b, x);
        for (; n == CHUNK && i + CHUNK <= x->rows; i += CHUNK) {
            turn_chunk(y + i * ldy, ldy, w->out + i, TILE, 1);
            for (int r = 0; r < CHUNK; r++) {
                SIMD for (int d = 0; d < CHUNK; d++) y[(i + r) * ldy + d] *= factor[i + r];
            }
        }
        for (; i < x->rows; i++)
            for (int d = 0; d < n; d++)
                y[i * ldy + d] = factor[i] * w->out[d * TILE + i];
    }
}

/* ---- scratch ---- */

/* Scratch is laid out in pieces; one of no numbers is NULL. */
typedef struct piece {
    float **at;
    int64_t n;
} piece;

static bool lay_out(const piece *pieces, size_t n)
{
    int64_t total = 0;
    for (size_t i = 0; i < n; i++)
        total += round_up(pieces[i].n);
    float *next = pac_scratch((size_t)total * sizeof *next);
    for (size_t i = 0; i < n && next != NULL; i++) {
        *pieces[i].at = pieces[i].n > 0 ? next : NULL;
        next += round_up(pieces[i].n);
    }
    return next != NULL;
}

/* Position i of a line: query minus key position i - (S - 1); behind the last zeros, which lanes without a row read. */
static void fill_bias(const narrow *w)
{
    const pac_attn *p = w->p;
    int64_t span = w->T + w->S;
    for (int64_t i = 0; i < span; i++)
        w->bucket[i] = (int32_t)pac_rel_bucket(w->S - 1 - i - p->qpos, p->bidirectional, p->buckets, p->max_distance);
    for (int64_t h = 0; h < p->H; h++) {
        float *line = w->bias + h * w->width;
        for (int64_t i = 0; i < span; i++)
            line[i] = p->bias_table[w->bucket[i] * p->H + h];
        memset(line + span, 0, (size_t)(w->width - span) * sizeof *line);
    }
}

static bool get_work(narrow *w, const pac_attn *p, bool backward, bool want_dbias)
{
    int64_t T = longest(p->toff, p->B), S = longest(p->soff, p->B), chunks = (p->K + CHUNK - 1) / CHUNK;
    int64_t width = round_up(T + S + 2 * TILE), head = chunks * S * CHUNK, rows = chunks * TILE * CHUNK;
    int64_t lines = p->bias_table != NULL ? p->H * width : 0, margin = LD - TILE, gradients = S * LD + 2 * margin;
    float *bucket = NULL;
    *w = (narrow){.p = p, .T = T, .S = S, .chunks = chunks, .width = width};
    const piece pieces[] = {
        {&w->score, S * TILE},
        {&w->k, head},
        {&w->v, head},
        {&w->q, backward ? rows : 0},
        {&w->q_t, rows},
        {&w->out, CHUNK * TILE},
        {&w->mask, 2 * TILE},
        {&w->bias, lines},
        {&bucket, lines > 0 ? T + S : 0},
        {&w->dbias, want_dbias ? lines : 0},
        {&w->dscore, backward ? gradients : 0},
        {&w->dk, backward ? head * PAIR : 0},
        {&w->dv, backward ? head * PAIR : 0},
        {&w->do_, backward ? rows : 0},
        {&w->do_t, backward ? rows : 0},
    };
    if (!lay_out(pieces, sizeof pieces / sizeof *pieces))
        return false;
    w->bucket = (int32_t *)bucket;
    w->zeros = w->mask + TILE;
    for (int i = 0; i < TILE; i++) {
        w->mask[i] = -INFINITY;
        w->zeros[i] = 0;
    }
    if (w->bias != NULL)
        fill_bias(w);
    if (w->dbias != NULL)
        memset(w->dbias, 0, (size_t)lines * sizeof *w->dbias);
    if (backward) {
        memset(w->dscore, 0, (size_t)gradients * sizeof *w->dscore);
        w->dscore += margin;
    }
    return true;
}

static tile tile_at(const pac_attn *p, int64_t b, int64_t h, int64_t t0)
{
    int64_t left = p->toff[b + 1] - p->toff[b] - t0, S = p->soff[b + 1] - p->soff[b];
    int64_t rows = left < TILE ? left : TILE;
    return (tile){.h = h,
                  .t0 = t0,
                  .rows = rows,
                  .lanes = (rows + LANES - 1) / LANES * LANES,
                  .S = S,
                  .keys = keys_seen(p, t0 + rows - 1, S),
                  .open = keys_seen(p, t0, S),
                  .q0 = p->toff[b] + t0};
}

/* What the tile's rows read for key 0, of the bias or of its gradient; one place back for every further key. */
static float *line_at(const narrow *w, float *lines, const tile *x)
{
    return lines + x->h * w->width + x->t0 + w->S - 1;
}

/* ---- scores and soft-max ---- */

/* score[s, row] = scale <q, k> + bias, -infinity where the row does not see the key. */
static void scores_of(const narrow *w, const tile *x)
{
    const float *start = w->bias != NULL ? line_at(w, w->bias, x) : w->zeros;
    dots(w->score, TILE, start, w->bias != NULL ? -1 : 0, w->q_t, w->k, x);
    for (int64_t c = 1; c < w->chunks; c++)
        dots(w->score, TILE, w->score, TILE, w->q_t + c * TILE * CHUNK, w->k + c * x->S * CHUNK, x);
    for (int64_t s = x->open; s < x->keys; s++) {
        const float *mask = w->mask + TILE - (s - x->open + 1);
        SIMD for (int64_t i = 0; i < x->lanes; i++) w->score[s * TILE + i] += mask[i];
    }
}

/* Four at a time: a chain of maxima is all latency. */
ALWAYS_INLINE vec column_max(const float *score, int64_t keys)
{
    vec max = (vec){0} - INFINITY;
    int64_t s = 0;
    for (; s + 4 <= keys; s += 4, score += 4 * TILE) {
        vec one = larger(load(score), load(score + TILE)), two = larger(load(score + 2 * TILE), load(score + 3 * TILE));
        max = larger(max, larger(one, two));
    }
    for (; s < keys; s++, score += TILE)
        max = larger(max, load(score));
    return max;
}

/* score becomes exp(score - max); inverse[row] of the sum, lse[row] = log(sum exp(score)). */
static void exponentials(const narrow *w, const tile *x, float *inverse, float *lse)
{
    for (int64_t lane = 0; lane < x->lanes; lane += LANES) {
        vec sum = {0}, max = column_max(w->score + lane, x->keys);
        for (int64_t s = 0; s < x->keys; s++) {
            vec e = exp_down(load(w->score + s * TILE + lane) - max);
            sum += e;
            store(w->score + s * TILE + lane, e);
        }
        store(inverse + lane, 1 / sum);
        for (int i = 0; i < LANES; i++)
            lse[lane + i] = max[i] + logf(sum[i]);
    }
}

/*
 * p = softmax(score): score becomes p, dscore holds dp and becomes p (dp - sum_s p dp). lse only keeps exp() in range: dividing
 * by the sum anew removes its rounding error. Lanes without a row have an infinite lse, hence zeros.
 */
static void exponentials_bwd(const narrow *w, const tile *x, const float *lse)
{
    for (int64_t lane = 0; lane < x->lanes; lane += LANES) {
        float *score = w->score + lane, *dscore = w->dscore + lane;
        vec sum = {0}, dot = {0}, c, l = load(lse + lane);
        for (int64_t s = 0; s < x->keys; s++) {
            vec e = exp_down(load(score + s * TILE) - l);
            sum += e;
            dot += e * load(dscore + s * LD);
            store(score + s * TILE, e);
        }
        for (int i = 0; i < LANES; i++)
            c[i] = sum[i] == 0 ? 0 : 1 / sum[i];
        vec mean = dot * c;
        for (int64_t s = 0; s < x->keys; s++) {
            vec p = load(score + s * TILE) * c;
            store(score + s * TILE, p);
            store(dscore + s * LD, p * (load(dscore + s * LD) - mean));
        }
    }
}

/* A row that sees a single key: exactly, not up to rounding. */
static void exact_singles(const narrow *w, const tile *x)
{
    for (int64_t i = 0; i < x->rows && keys_seen(w->p, x->t0 + i, x->S) == 1; i++) {
        w->score[i] = 1;
        w->dscore[i] = 0;
    }
}

/* dbias[row - s] += dscore[s, row]: a vector of the line takes a diagonal strip of the tile. */
static void add_dbias(const narrow *w, const tile *x)
{
    float *line = line_at(w, w->dbias, x);
    for (int64_t s = 0; s < x->keys && x->lanes < TILE; s++)
        memset(w->dscore + s * LD + x->lanes, 0, LANES * sizeof *w->dscore);
    for (int64_t i = 1 - x->keys; i < x->lanes; i += LANES) {
        int64_t s = i < 1 - LANES ? 1 - LANES - i : 0, end = x->lanes - i < x->keys ? x->lanes - i : x->keys;
        vec sum = load(line + i), odd = {0};
        for (; s + 2 <= end; s += 2) {
            sum += load(w->dscore + s * LD + i + s);
            odd += load(w->dscore + (s + 1) * LD + i + s + 1);
        }
        if (s < end)
            sum += load(w->dscore + s * LD + i + s);
        store(line + i, sum + odd);
    }
}

/* ---- the ops ---- */

static void fwd_tile(const narrow *w, const tile *x, float *o, int64_t ldo, float *lse, const float *q, int64_t ldq)
{
    float inverse[TILE], l[TILE];
    int64_t column = x->h * w->p->K;
    pack_tile(w, NULL, w->q_t, q + x->q0 * ldq + column, ldq, x->rows, w->p->scale);
    scores_of(w, x);
    exponentials(w, x, inverse, l);
    store_sums(w, o + x->q0 * ldo + column, ldo, w->score, TILE, w->v, x, inverse);
    for (int64_t i = 0; i < x->rows && lse != NULL; i++)
        lse[(x->q0 + i) * w->p->H + x->h] = l[i];
}

void CPU(attn_narrow_fwd)(float *o, int64_t ldo, float *lse, const float *q, int64_t ldq, const float *k, int64_t ldk,
                          const float *v, int64_t ldv, const pac_attn *p)
{
    narrow w;
    if (!get_work(&w, p, false, false)) {
        pac_fill_nan(o + p->toff[0] * ldo, ldo, p->toff[p->B] - p->toff[0], p->H * p->K);
        return;
    }
    for (int64_t b = 0; b < p->B; b++)
        for (int64_t h = 0; h < p->H; h++) {
            int64_t k0 = p->soff[b], S = p->soff[b + 1] - k0;
            pack(&w, w.k, k + k0 * ldk + h * p->K, ldk, S);
            pack(&w, w.v, v + k0 * ldv + h * p->K, ldv, S);
            for (int64_t t0 = 0; t0 < p->toff[b + 1] - p->toff[b]; t0 += TILE) {
                tile x = tile_at(p, b, h, t0);
                fwd_tile(&w, &x, o, ldo, lse, q, ldq);
            }
        }
}

/* score = scale <q, k> + bias, o = p v: dp = <do, v>, dq = scale ds k, dk += ds^T (scale q), dv += p^T do. */
static void bwd_tile(const narrow *w, const tile *x, float *dq, const float *d_o, int64_t ldo, const float *q, int64_t ldq,
                     const float *lse)
{
    float l[TILE], scale[TILE];
    int64_t column = x->h * w->p->K;
    for (int64_t i = 0; i < TILE; i++) {
        l[i] = i < x->rows ? lse[(x->q0 + i) * w->p->H + x->h] : INFINITY;
        scale[i] = w->p->scale;
    }
    pack_tile(w, w->q, w->q_t, q + x->q0 * ldq + column, ldq, x->rows, w->p->scale);
    pack_tile(w, w->do_, w->do_t, d_o + x->q0 * ldo + column, ldo, x->rows, 1);
    scores_of(w, x);
    dots(w->dscore, LD, w->zeros, 0, w->do_t, w->v, x);
    for (int64_t c = 1; c < w->chunks; c++)
        dots(w->dscore, LD, w->dscore, LD, w->do_t + c * TILE * CHUNK, w->v + c * x->S * CHUNK, x);
    exponentials_bwd(w, x, l);
    exact_singles(w, x);
    store_sums(w, dq + x->q0 * ldq + column, ldq, w->dscore, LD, w->k, x, scale);
    for (int64_t c = 0; c < w->chunks; c++) {
        outer(w->dk + c * x->S * WIDE, w->dscore, LD, w->q + c * TILE * CHUNK, x);
        outer(w->dv + c * x->S * WIDE, w->score, TILE, w->do_ + c * TILE * CHUNK, x);
    }
    if (w->dbias != NULL)
        add_dbias(w, x);
}

static void fold_dbias(const narrow *w, float *dbias_table)
{
    for (int64_t i = 0; i < w->T + w->S - 1; i++)
        for (int64_t h = 0; h < w->p->H; h++)
            dbias_table[w->bucket[i] * w->p->H + h] += w->dbias[h * w->width + i];
}

void CPU(attn_narrow_bwd)(float *dq, float *dk, float *dv, float *dbias_table, const float *d_o, int64_t ldo, const float *q,
                          int64_t ldq, const float *k, int64_t ldk, const float *v, int64_t ldv, const float *lse,
                          const pac_attn *p)
{
    narrow w;
    if (!get_work(&w, p, true, dbias_table != NULL)) {
        int64_t first = p->soff[0], keys = p->soff[p->B] - first;
        pac_fill_nan(dq + p->toff[0] * ldq, ldq, p->toff[p->B] - p->toff[0], p->H * p->K);
        pac_fill_nan(dk + first * ldk, ldk, keys, p->H * p->K);
        pac_fill_nan(dv + first * ldv, ldv, keys, p->H * p->K);
        return;
    }
    for (int64_t b = 0; b < p->B; b++)
        for (int64_t h = 0; h < p->H; h++) {
            int64_t k0 = p->soff[b], S = p->soff[b + 1] - k0, column = h * p->K;
            pack(&w, w.k, k + k0 * ldk + column, ldk, S);
            pack(&w, w.v, v + k0 * ldv + column, ldv, S);
            for (int64_t i = 0; i < w.chunks * S * WIDE; i++)
                w.dk[i] = w.dv[i] = 0;
            for (int64_t t0 = 0; t0 < p->toff[b + 1] - p->toff[b]; t0 += TILE) {
                tile x = tile_at(p, b, h, t0);
                bwd_tile(&w, &x, dq, d_o, ldo, q, ldq, lse);
            }
            unpack(&w, dk + k0 * ldk + column, ldk, w.dk, S);
            unpack(&w, dv + k0 * ldv + column, ldv, w.dv, S);
        }
    if (w.dbias != NULL)
        fold_dbias(&w, dbias_table);
}
